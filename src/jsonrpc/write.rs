//! From a message to bytes, so that all readers read the same.

use super::id::RequestId;
use super::method::MethodName;
use super::{Kind, Message};
use crate::json::{Span, write_string};
use crate::mcp::Field;
use crate::utils::rope::{Line, Rope};

/// What a line that is written takes at once; more is rarely copied.
const MAX_RESERVED: usize = 4096;

impl Message {
    /// A copy of the JSON text of a member of `params`, fit to be written into another line.
    pub(crate) fn carry(&self, field: Field) -> Option<Vec<u8>> {
        let mut text = Rope::default();
        self.copy(self.span(field)?, &mut text);
        Some(text.into_pieces().concat())
    }

    /// Appends this message as one line with its newline: `id` in the place of its own, each edit
    /// in the place of its span. Edits must be in order and lie inside the payload.
    pub(crate) fn write(&self, id: Option<&RequestId>, edits: &[Edit<'_>], out: &mut Rope) {
        let head = out.small();
        head.reserve(self.line.len().min(MAX_RESERVED) + 32);
        head.extend_from_slice(b"{\"jsonrpc\":\"2.0\"");
        match (&self.kind, id) {
            (Kind::Notification, _) => {}
            (_, Some(id)) => {
                head.extend_from_slice(b",\"id\":");
                id.write(head);
            }
            (_, None) => head.extend_from_slice(b",\"id\":null"),
        }
        match &self.method {
            _ if matches!(self.kind, Kind::Response(_)) => {}
            // MCP's own have nothing to escape.
            MethodName::Mcp(method) => {
                head.extend_from_slice(b",\"method\":\"");
                head.extend_from_slice(method.name().as_bytes());
                head.push(b'"');
            }
            MethodName::Other(method) => {
                head.extend_from_slice(b",\"method\":");
                write_string(method, head);
            }
        }
        if let Some((name, span)) = self.payload {
            head.extend_from_slice(b",\"");
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b"\":");
            let merged;
            let edits = match self.omitted {
                None => edits,
                Some(omitted) => {
                    merged = with_omission(edits, omitted);
                    &merged
                }
            };
            let mut at = span.start;
            for edit in edits {
                self.copy(
                    Span {
                        start: at,
                        end: edit.span.start,
                    },
                    out,
                );
                edit.with.write(out.small());
                at = edit.span.end;
            }
            self.copy(
                Span {
                    start: at,
                    end: span.end,
                },
                out,
            );
        }
        out.extend(b"}\n");
    }

    /// As [`Message::write`], into a line of its own.
    pub(crate) fn to_line(&self, id: Option<&RequestId>, edits: &[Edit<'_>]) -> Line {
        let mut line = Rope::default();
        self.write(id, edits, &mut line);
        line.into()
    }

    fn copy(&self, span: Span, out: &mut Rope) {
        let text = span.of(&self.line);
        if self.needs_mending {
            mend(text, out.small());
        } else {
            out.share(&self.line, text);
        }
    }
}

/// The edits, and one that takes out `omitted`.
#[cold]
fn with_omission<'a>(edits: &[Edit<'a>], omitted: Span) -> Vec<Edit<'a>> {
    let nothing = Replacement::Json(b"");
    let mut all = edits.to_vec();
    all.push(Edit {
        span: omitted,
        with: nothing,
    });
    all.sort_by_key(|edit| edit.span.start);
    all
}

/// What [`Message::write`] puts in the place of a part of the payload.
#[derive(Clone, Copy)]
pub(crate) struct Edit<'a> {
    pub span: Span,
    pub with: Replacement<'a>,
}

/// An id, or JSON text.
#[derive(Clone, Copy)]
pub(crate) enum Replacement<'a> {
    Id(&'a RequestId),
    Json(&'a [u8]),
}

impl Replacement<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Id(id) => id.write(out),
            Self::Json(text) => out.extend_from_slice(text),
        }
    }
}

/// Copies valid JSON so that no reader finds the end of a line in it: control characters can only
/// stand between values there, U+0085, U+2028 and U+2029 only inside strings.
fn mend(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (0..=0x1f, _) => out.push(b' '),
            (0xc2, [0x85, tail @ ..]) => {
                out.extend(b"\\u0085");
                rest = tail;
            }
            (0xe2, [0x80, end @ (0xa8 | 0xa9), tail @ ..]) => {
                out.extend(if *end == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                rest = tail;
            }
            _ => out.push(byte),
        }
    }
}
