//! Lines as the endpoint handles them: those of the host with their newline, those of the server
//! without.

use crate::client::end::{End, Lost};
use crate::control::Control;
use crate::handshake;
use crate::jsonrpc::{Code, Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message, Refusal};
use crate::transport::tls::Mismatch;
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::io;

/// A line from the server, parsed once.
pub(in crate::client) struct ServerLine {
    pub line: Bytes,
    pub message: Option<Message>,
}

impl From<Bytes> for ServerLine {
    fn from(line: Bytes) -> Self {
        let message = Message::read(line.clone(), MAX_CHILD_DEPTH).ok();
        Self { line, message }
    }
}

impl ServerLine {
    /// Its content, if it is a control line.
    pub(super) fn control(&self) -> Option<Control> {
        Control::from_message(self.message.as_ref()?)
    }

    /// True if it is not a valid message.
    fn answers_nothing(&self) -> bool {
        let kind = self.message.as_ref().map(Message::kind);
        matches!(kind, None | Some(Kind::Response(None)))
    }

    /// The limit in the error of a server for which one of our lines is too long. It closes the
    /// connection then.
    pub(super) fn line_limit(&self) -> Option<usize> {
        if self.answers_nothing() {
            handshake::read_limit(&self.line)
        } else {
            None
        }
    }

    /// True for an error that an mcp-remote server may have sent to the whole connection, at least within a
    /// session. Outside of a session such an error ends the connection.
    pub(super) fn is_for_connection(&self, established: bool) -> Result<bool, End> {
        if !self.answers_nothing() {
            return Ok(false);
        }
        if let Some(reason) = handshake::read_refusal(&self.line) {
            return Err(End::Rejected(reason));
        }
        if handshake::wants_tls(&self.line) && !established {
            return Err(io::Error::from(Mismatch).into());
        }
        if !established && let Some(wrong) = handshake::wrong_transport(&self.line) {
            return Err(io::Error::from(wrong).into());
        }
        match handshake::read_notice(&self.line) {
            None => Ok(false),
            // It may be one of the session's lines, from the MCP server. If it comes from
            // mcp-remote, the connection is closed next.
            Some(notice) if established => {
                tracing::warn!(notice, "dropped an error that answers no request");
                Ok(true)
            }
            Some(notice) => Err(Lost::Notice(notice).into()),
        }
    }

    /// True for a line that is no message, nor anything like one.
    pub(super) fn is_foreign(&self) -> bool {
        self.message.is_none() && !self.line.trim_ascii().is_empty() && !self.is_json()
    }

    /// True for a JSON object or array. Our parser is strict: the host may understand more.
    pub(super) fn is_json(&self) -> bool {
        let line = &self.line;
        matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
            && std::str::from_utf8(line).is_ok()
            && serde_json::from_slice::<IgnoredAny>(line).is_ok()
    }
}

/// How to handle a line from the server.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(in crate::client) enum Verdict {
    /// Hand it to the host.
    Pass,
    /// Hand this to the host instead, newline included.
    Change(Bytes),
    /// It is not for the host.
    Drop,
    /// It answers our own `initialize`; true for a success.
    Rejoined(bool),
}

/// The line without its newline.
pub(in crate::client) fn without_newline(line: &Bytes) -> Bytes {
    line.slice(..line.len().saturating_sub(1))
}

/// True for a line of the host that no server needs to see, and that many hang up on: it is not UTF-8, does not
/// begin as an object, or is no JSON and names no request.
pub(super) fn is_junk(line: &Bytes, refusal: &Refusal) -> bool {
    let is_nameless = refusal.code == Code::ParseError && refusal.about.is_empty();
    let is_text = simdutf8::basic::from_utf8(line).is_ok();
    is_nameless || !is_text || !line.trim_ascii_start().starts_with(b"{")
}

/// True for the host's response to a server request, without which the request that caused it
/// cannot end.
pub(super) fn is_response(line: &Bytes) -> bool {
    let message = Message::read(without_newline(line), MAX_PEER_DEPTH);
    message.is_ok_and(|message| matches!(message.kind(), Kind::Response(Some(_))))
}
