//! How a process ended, and what its peers are told in the place of answers.

use super::pending::{Delivery, Pending};
use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};
use crate::utils::chunks::Line;

/// How a process ended, for the errors that its peers get.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Exit status or signal, as text.
    pub status: String,
    /// The last line it wrote on stderr.
    pub stderr: Option<String>,
    /// It was ended because it had not answered this in time.
    pub overdue: Option<&'static str>,
    /// Another process will take its place: [`super::Router::child_started`] follows.
    pub restarts: bool,
    /// That one is told nothing of what this one knew of its peers: it may have ended at that.
    pub forgets: bool,
    /// That one hears one sender at a time, as long as it is asked to with [`super::Router::tick`]:
    /// nobody knows at whose message this one and others have ended.
    pub suspicious: bool,
}

impl Exit {
    /// The error for a request that the process will not answer.
    pub(super) fn error_of(&self, pending: &Pending) -> Line {
        let executed = match pending.delivery {
            Delivery::Given => Executed::Unknown,
            Delivery::Queued | Delivery::Held => Executed::No,
        };
        self.error(&pending.id, executed)
    }

    /// The same for an `initialize`.
    pub(super) fn error_line(&self, id: &RequestId) -> Line {
        self.error(id, Executed::Unknown)
    }

    fn error(&self, id: &RequestId, executed: Executed) -> Line {
        let (text, data) = match self.overdue {
            None => {
                let data = ErrorData::new("child-exited", executed);
                ("MCP server exited".into(), data)
            }
            Some(method) => {
                let text = format!("The MCP server did not answer '{method}' in time");
                (text, ErrorData::new("handshake-timeout", executed))
            }
        };
        let data = data.with_exit(self.status.clone(), self.stderr.clone());
        error_line(Some(id), Code::InternalError, &text, Some(&data)).into()
    }
}
