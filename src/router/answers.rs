//! Handles answers of a process: their effect, which depends on the request, and what the peer gets of them.

use super::addressee::Addressee;
use super::own_answer::{OwnAnswer, unreadable_list};
use super::peers::Peers;
use super::pending::{Pending, Purpose};
use super::process::Process;
use super::session::Session;
use super::tasks::Tasks;
use super::wire_ids::{WireIds, is_long_ago};
use super::{Output, server_requests};
use crate::jsonrpc::{Edit, Field, Message, Replacement};

impl Process {
    /// An answer to a request of a peer, or to one of the router's own that needs none.
    pub(super) fn answer(
        &mut self,
        ours: i64,
        answer: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        let was_forgotten = self.forgotten.answered(ours);
        let agreed = answer.result().is_some();
        if let Some(waiting) = self.subscriptions.answered(ours, agreed) {
            return self.subscribed(ours, &waiting, answer, peers, out);
        }
        let Some(pending) = self.end(ours) else {
            tracing::debug!(
                id = ours,
                "dropped a late answer, or one to the router itself"
            );
            out.unasked |= !was_forgotten && is_long_ago(ours, peers.numbers.newest);
            return;
        };
        let measured = pending.since.zip(out.now);
        out.took = measured.map(|(since, now)| now.duration_since(since));
        let Some(session) = peers.get_mut(pending.session) else {
            return;
        };
        let waits = session.answered(&pending.id, ours);
        pending.on_answer(ours, answer, waits, session, self);
        if let Purpose::SetLevel { .. } = pending.purpose
            && !agreed
        {
            // The sessions want what they wanted before.
            self.level = peers.most_verbose();
        }
        if waits {
            pending.deliver((ours, &self.ids), answer, &self.tasks, peers, out);
        } else {
            tracing::debug!(
                id = ours,
                "dropped the answer to a request that was cancelled"
            );
        }
    }

    /// The child has answered a `resources/subscribe`, and with it all peers that requested the
    /// same meanwhile.
    fn subscribed(
        &mut self,
        via: i64,
        waiting: &[i64],
        answer: &Message,
        peers: &mut Peers,
        out: &mut Output,
    ) {
        for ours in waiting {
            let Some(Pending { session, id, .. }) = self.end(*ours) else {
                continue;
            };
            let waits = match peers.get_mut(session) {
                Some(session) => session.answered(&id, *ours),
                None => false,
            };
            if !waits {
                continue;
            }
            if *ours == via || answer.result().is_none() {
                out.deliver(session, answer, Some(&id), &[]);
            } else {
                out.tell(session, OwnAnswer::Done.to_line(&id));
            }
        }
    }
}

impl Pending {
    /// Applies the effect of an answer on the state of its session and of the process; the session may have
    /// cancelled the request.
    fn on_answer(
        &self,
        ours: i64,
        answer: &Message,
        waits: bool,
        session: &mut Session,
        process: &mut Process,
    ) {
        match &self.purpose {
            Purpose::SetLevel { asked, .. } => {
                session.level_answered(*asked, answer.result().is_some());
            }
            Purpose::Forward | Purpose::OfTask => {
                let made_task = process.tasks.note(answer, &session.profile.user);
                if let Some(token) = self.progress_token.as_ref().filter(|_| made_task && waits) {
                    let token = token.clone();
                    process.tasks.keep_progress(ours, self.session, token);
                }
                for elicitation in server_requests::elicitations_required(answer) {
                    let of = Addressee::new(self.session, &session.owner);
                    process
                        .server_requests
                        .remember_elicitation(elicitation, of);
                }
            }
            _ => {}
        }
    }

    /// Sends the peer what it may see of the answer to the request with the number `ours`, under its own id.
    fn deliver(
        &self,
        (ours, ids): (i64, &WireIds),
        answer: &Message,
        tasks: &Tasks,
        peers: &Peers,
        out: &mut Output,
    ) {
        let mut own_tasks = Vec::new();
        if let Purpose::ListTasks = self.purpose
            && let Some(session) = peers.get(self.session)
            && let Some(list) = answer.raw(Field::Tasks)
        {
            own_tasks = tasks.filter(list, &session.profile.user);
        }
        let Some(mut edits) = self.edits(answer, &own_tasks) else {
            return out.tell(self.session, unreadable_list(&self.id));
        };
        if let Some((quoted, span)) = answer.subscription()
            && quoted.integer() == ids.of(ours).integer()
        {
            edits.push(Edit {
                span: *span,
                with: Replacement::Id(&self.id),
            });
            edits.sort_by_key(|edit| edit.span.start);
        }
        out.deliver(self.session, answer, Some(&self.id), &edits);
    }

    /// Filters a list down to what the peer may see, and a list of tasks to the peer's own; `None` if that is
    /// impossible.
    fn edits<'a>(&self, answer: &Message, own_tasks: &'a [u8]) -> Option<Vec<Edit<'a>>> {
        match &self.purpose {
            Purpose::List(filter) => filter.edits(answer).ok(),
            Purpose::ListTasks if answer.result().is_some() => {
                let span = answer.span(Field::Tasks)?;
                let with = Replacement::Json(own_tasks);
                Some(vec![Edit { span, with }])
            }
            _ => Some(Vec::new()),
        }
    }
}
