//! Whose tasks are whose (2025-11-25 basic/utilities/tasks "Security"; the 2026 extension): a
//! shared child sees one client only, so the router keeps the table.

use crate::jsonrpc::{Code, Message, NO_DATA, RequestId, error_line, filter_array};
use serde::Deserialize;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// The most tasks of one child that we know the owner of; the oldest are forgotten first, and
/// then nobody can reach them.
const MAX_TASKS: usize = 65_536;

/// Whom a task belongs to: the user of the token that made it. Peers without a user (no secret, or
/// tokens without one) are one owner together.
pub(super) type Owner = Option<String>;

/// Owners by task id.
#[derive(Default)]
pub(super) struct Tasks {
    owners: HashMap<String, Owner>,
    order: VecDeque<String>,
}

impl Tasks {
    /// Notes the task that an answer to a request of `owner` made, if it did. Whose a task is stays so:
    /// an answer may hold an id because its asker put it there.
    pub(super) fn note(&mut self, answer: &Message, owner: &Owner) {
        let Some(id) = answer.created_task() else {
            return;
        };
        if let Entry::Vacant(entry) = self.owners.entry(id.clone()) {
            entry.insert(owner.clone());
            self.order.push_back(id);
        }
        if self.order.len() > MAX_TASKS
            && let Some(oldest) = self.order.pop_front()
        {
            self.owners.remove(&oldest);
        }
    }

    pub(super) fn is_owned_by(&self, task: &str, owner: &Owner) -> bool {
        self.owners.get(task) == Some(owner)
    }

    /// The list of an answer to `tasks/list`, without other people's tasks.
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

/// How somebody else's task reads: like one that never was (2025-11-25 basic/utilities/tasks
/// "Error Handling").
pub(super) fn unknown(id: &RequestId) -> Vec<u8> {
    error_line(
        Some(id),
        Code::InvalidParams,
        "Failed to retrieve task: Task not found",
        NO_DATA,
    )
}
