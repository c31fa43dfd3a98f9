//! The owners of tasks (2025-11-25 basic/utilities/tasks "Security"; the 2026 extension): a shared
//! child sees only one client, so the router keeps the table.

use super::SessionId;
use crate::json::{filter_array, members};
use crate::jsonrpc::{Code, Message, NO_DATA, RequestId, error_line};
use serde::Deserialize;
use serde_json::json;
use std::collections::{HashMap, VecDeque};

/// The most tasks of one child whose owner is known. Beyond that the oldest task of the owner with
/// the most is forgotten, and can no longer be used.
const MAX_TASKS: usize = 65_536;

/// The extension of 2026-07-28.
const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Where a request of 2026-07-28 says that its client knows it.
const DECLARED: [&str; 4] = [
    "_meta",
    "io.modelcontextprotocol/clientCapabilities",
    "extensions",
    EXTENSION,
];

/// The owner of a task: the user of the token that created it. All peers without a user (no secret,
/// or tokens without one) are one owner.
pub(super) type Owner = Option<String>;

/// The most tasks of one session whose progress we still pass on.
const MAX_PROGRESS: usize = 256;

/// Owners by task id.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    owners: HashMap<String, Owner>,
    /// The ids of each owner's tasks, oldest first.
    by_owner: HashMap<Owner, VecDeque<String>>,
    /// The session and the progress token of a request that created a task, by its number. The token that the
    /// child knows is its id, which stays valid for as long as the task lives.
    progress: HashMap<i64, (SessionId, RequestId)>,
    /// The same, by session, oldest first.
    in_progress: HashMap<SessionId, VecDeque<i64>>,
}

impl Tasks {
    /// Notes the task that an answer to a request of `owner` created; false if it created none. A
    /// task keeps its first owner, whichever later answers quote its id.
    pub(super) fn note(&mut self, answer: &Message, owner: &Owner) -> bool {
        let Some(id) = answer.created_task() else {
            return false;
        };
        if id.is_empty() || self.owners.contains_key(&id) {
            return false;
        }
        self.insert(id, owner);
        true
    }

    fn insert(&mut self, id: String, owner: &Owner) {
        self.owners.insert(id.clone(), owner.clone());
        let own = self.by_owner.entry(owner.clone()).or_default();
        own.push_back(id);
        if self.owners.len() <= MAX_TASKS {
            return;
        }
        let most = self.by_owner.values_mut().max_by_key(|tasks| tasks.len());
        if let Some(oldest) = most.and_then(VecDeque::pop_front) {
            self.owners.remove(&oldest);
        }
        self.by_owner.retain(|_, tasks| !tasks.is_empty());
    }

    /// Notes that the request `ours` has created a task, whose progress still goes to `session`.
    pub(super) fn keep_progress(&mut self, ours: i64, session: SessionId, token: RequestId) {
        self.progress.insert(ours, (session, token));
        let own = self.in_progress.entry(session).or_default();
        own.push_back(ours);
        if own.len() > MAX_PROGRESS
            && let Some(oldest) = own.pop_front()
        {
            self.progress.remove(&oldest);
        }
    }

    /// The session that progress on the request `ours` goes to, and the session's own token.
    pub(super) fn progress_of(&self, ours: i64) -> Option<(SessionId, &RequestId)> {
        let (session, token) = self.progress.get(&ours)?;
        Some((*session, token))
    }

    /// The numbers of the requests that have created a task whose progress is still passed on.
    pub(super) fn with_progress(&self) -> impl Iterator<Item = i64> {
        self.progress.keys().copied()
    }

    /// Removes a session: its tasks stay with its user, their progress is dropped.
    pub(super) fn leave(&mut self, session: SessionId) {
        for ours in self.in_progress.remove(&session).into_iter().flatten() {
            self.progress.remove(&ours);
        }
    }

    /// `None` for an unknown task.
    pub(super) fn owner(&self, task: &str) -> Option<&Owner> {
        self.owners.get(task)
    }

    pub(super) fn is_owned_by(&self, task: &str, owner: &Owner) -> bool {
        self.owner(task) == Some(owner)
    }

    #[cfg(test)]
    pub(super) fn has_progress(&self) -> bool {
        !self.progress.is_empty() || !self.in_progress.is_empty()
    }

    /// The list of an answer to `tasks/list`, without other users' tasks.
    pub(super) fn filter(&self, list: &[u8], owner: &Owner) -> Vec<u8> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Task {
            task_id: String,
        }
        filter_array(list, |element| {
            serde_json::from_slice::<Task>(element)
                .is_ok_and(|task| self.is_owned_by(&task.task_id, owner))
        })
    }
}

/// The error for another user's task: the same as for an unknown one (2025-11-25
/// basic/utilities/tasks "Error Handling").
pub(super) fn unknown(id: &RequestId) -> Vec<u8> {
    error_line(
        Some(id),
        Code::InvalidParams,
        "Failed to retrieve task: Task not found",
        NO_DATA,
    )
}

/// True for a request of 2026-07-28 whose client does not say that it knows tasks.
pub(super) fn lacks_extension(message: &Message) -> bool {
    let declared = message.params().and_then(|params| {
        DECLARED.iter().try_fold(params, |object, name| {
            let [member] = members(object, [name])?;
            Some(member?.of(object))
        })
    });
    message.is_modern() && declared.is_none()
}

/// What such a client is answered (2026-07-28 basic "Capability negotiation").
pub(super) fn undeclared(id: &RequestId) -> Vec<u8> {
    let data = json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}});
    let text = "Missing required client capability";
    error_line(Some(id), Code::MissingCapability, text, Some(&data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_one_user_push_out_no_others() {
        let (alice, mallory) = (Some("alice".to_owned()), Some("mallory".to_owned()));
        let mut tasks = Tasks::default();
        tasks.insert("a".to_owned(), &alice);
        for number in 0..2 * MAX_TASKS {
            tasks.insert(format!("m{number}"), &mallory);
        }
        assert!(tasks.is_owned_by("a", &alice));
        assert_eq!(tasks.owners.len(), MAX_TASKS);
        let kept = tasks.by_owner.values().map(VecDeque::len);
        assert_eq!(kept.sum::<usize>(), MAX_TASKS);
        assert!(tasks.is_owned_by(&format!("m{}", 2 * MAX_TASKS - 1), &mallory));
        assert_eq!(tasks.owner("m0"), None);
    }
}
