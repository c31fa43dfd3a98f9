//! The control lines between the two ends of a session that outlives its connections.
//!
//! They are notifications, so that other servers ignore them. They are not counted, and never reach
//! a child or a host.

use crate::jsonrpc::{Kind, Message};
use crate::utils::random_hex;
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The prefix of all control methods.
pub const PREFIX: &str = "mcp-remote/";

/// The longest line that a client accepts from a server, in bytes, without its newline: what a server accepts
/// from its child, and a little more for the ids that it restores.
pub const MAX_SERVER_LINE: usize = (64 << 20) + (64 << 10);

/// Names a session on the wire: 128 random bits. It gives no access: a session belongs to the user
/// and roles of its token.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionKey(String);

impl SessionKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_hex(16))
    }

    /// Its first characters, for logs: enough to tell sessions apart, too few to use it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or_default()
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKey({}…)", self.short())
    }
}

/// True for a notification with the method name of a control line, which the other end would not
/// count as a message.
#[must_use]
pub fn has_control_name(message: &Message) -> bool {
    *message.kind() == Kind::Notification && message.method().starts_with(PREFIX)
}

/// What a control line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "method", content = "params")]
pub enum Control {
    /// From the client: starts a session, or resumes one.
    #[serde(rename = "mcp-remote/resume")]
    Resume {
        /// `None` for a new one.
        session: Option<SessionKey>,
        /// Lines received so far.
        received: u64,
    },
    /// From the server: the answer, always its next line.
    #[serde(rename = "mcp-remote/resumed")]
    Resumed {
        /// The session from here on; `None` when the server cannot offer one.
        session: Option<SessionKey>,
        /// Lines received so far.
        received: u64,
        /// The requested session goes on.
        resumed: bool,
    },
    /// From either: acknowledges the lines received so far; also the sign of life.
    #[serde(rename = "mcp-remote/ack")]
    Ack {
        /// How many.
        received: u64,
    },
    /// From the client: it disconnects for good, and the session ends.
    #[serde(rename = "mcp-remote/leave")]
    Leave {},
    /// From the server: it is about to stop, and accepts nothing but responses; the rest is for the next
    /// server. From the client: confirms that, and sends nothing but responses from here on.
    #[serde(rename = "mcp-remote/drain")]
    Drain {
        /// How many lines those are.
        received: u64,
        /// The server ends only this idle session and keeps running: the client need not reconnect
        /// until it has something to send.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        idle: bool,
    },
}

/// A control line as it is written.
#[derive(Serialize)]
struct Written<'a> {
    jsonrpc: &'static str,
    #[serde(flatten)]
    control: &'a Control,
}

#[derive(Deserialize)]
struct Line {
    method: String,
    #[serde(default)]
    params: Params,
    #[serde(default)]
    id: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    session: Option<SessionKey>,
    received: u64,
    resumed: bool,
    idle: bool,
}

/// A text in every control line.
static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"mcp-remote/"));

/// Longer lines are no control lines, and need not be parsed.
const MAX_LENGTH: usize = 512;

impl Control {
    /// Reads a control line; `None` for any other.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        if line.len() > MAX_LENGTH || NAME.find(line).is_none() {
            return None;
        }
        let Line {
            method,
            params,
            id: None,
        } = serde_json::from_slice(line).ok()?
        else {
            return None;
        };
        let Params {
            session,
            received,
            resumed,
            idle,
        } = params;
        match method.strip_prefix(PREFIX)? {
            "resume" => Some(Self::Resume { session, received }),
            "resumed" => Some(Self::Resumed {
                session,
                received,
                resumed,
            }),
            "ack" => Some(Self::Ack { received }),
            "leave" => Some(Self::Leave {}),
            "drain" => Some(Self::Drain { received, idle }),
            _ => None,
        }
    }

    /// As [`Control::read`], for a line that has been read as a message.
    #[must_use]
    pub fn from_message(message: &Message) -> Option<Self> {
        if has_control_name(message) {
            Self::read(message.line())
        } else {
            None
        }
    }

    /// The line, newline included.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let written = Written {
            jsonrpc: "2.0",
            control: self,
        };
        // Nothing in it can fail to be written.
        let mut line = serde_json::to_vec(&written).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_lines_are_written_as_documented_and_read_again() {
        let session = Some(SessionKey("0f".repeat(16)));
        for (control, line) in [
            (
                Control::Resume {
                    session: None,
                    received: 0,
                },
                r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#,
            ),
            (
                Control::Resumed {
                    session: session.clone(),
                    received: 7,
                    resumed: true,
                },
                r#"{"jsonrpc":"2.0","method":"mcp-remote/resumed","params":{"session":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","received":7,"resumed":true}}"#,
            ),
            (
                Control::Ack { received: 64 },
                r#"{"jsonrpc":"2.0","method":"mcp-remote/ack","params":{"received":64}}"#,
            ),
            (
                Control::Leave {},
                r#"{"jsonrpc":"2.0","method":"mcp-remote/leave","params":{}}"#,
            ),
            (
                Control::Drain {
                    received: 3,
                    idle: false,
                },
                r#"{"jsonrpc":"2.0","method":"mcp-remote/drain","params":{"received":3}}"#,
            ),
            (
                Control::Drain {
                    received: 3,
                    idle: true,
                },
                r#"{"jsonrpc":"2.0","method":"mcp-remote/drain","params":{"received":3,"idle":true}}"#,
            ),
        ] {
            assert_eq!(
                String::from_utf8(control.to_line()).unwrap().trim_end(),
                line
            );
            assert_eq!(Control::read(line.as_bytes()), Some(control));
        }
        for other in [
            r#"{"jsonrpc":"2.0","method":"ping","params":{"x":"mcp-remote/ack"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"mcp-remote/ack","params":{"received":64}}"#,
            r#"{"jsonrpc":"2.0","method":"mcp-remote/ack","params":{"received":-1}}"#,
            r#"{"jsonrpc":"2.0","method":"mcp-remote/other"}"#,
            "\"mcp-remote/ack\"",
        ] {
            assert_eq!(Control::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn keys_are_long_and_hidden() {
        let key = SessionKey::generate();
        assert_eq!(key.0.len(), 32);
        assert_ne!(key, SessionKey::generate());
        assert!(!format!("{key:?}").contains(&key.0));
    }
}
