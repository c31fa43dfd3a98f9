//! How a process ended, and the errors that its peers get instead of answers.

use super::pending::{Delivery, Pending};
use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};
use crate::utils::chunks::Line;

/// How a process ended, for the errors that its peers get.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Exit status or signal, as text.
    pub status: String,
    /// The last lines that it wrote on stderr, for its operator.
    pub stderr: Option<String>,
    /// It was ended because it had not answered this method in time.
    pub overdue: Option<&'static str>,
    /// Another process will replace it: [`super::Router::child_started`] follows.
    pub restarts: bool,
    /// The next process is not sent the state of this one, which may have ended because of it.
    pub forgets: bool,
    /// The next process gets the messages of one sender at a time, driven by
    /// [`super::Router::tick`]: it is unknown whose message has ended this one and others.
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
        let data = data.with_exit(self.status.clone());
        error_line(Some(id), Code::InternalError, &text, Some(&data)).into()
    }
}
