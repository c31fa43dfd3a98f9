//! From a message to bytes that all readers read the same way.

use super::id::RequestId;
use super::method::MethodName;
use super::{Kind, Message};
use crate::json::{Span, write_string};
use crate::mcp::Field;
use crate::utils::chunks::{Chunks, Line};

/// How much is reserved at once for a written line; more is rarely copied.
const MAX_RESERVED: usize = 4096;

/// A written line is at most this many times as long as the one that was read: a two-byte
/// character may become a six-byte escape …
const MAX_GROWTH: usize = 3;
/// … and this many bytes more: its head, and a longer id in place of its own.
const MAX_ADDED: usize = 32 * 1024;

impl Message {
    /// A copy of the JSON text of a member of `params` that can be written into another line.
    pub(crate) fn carry(&self, field: Field) -> Option<Vec<u8>> {
        let mut text = Chunks::default();
        self.copy(self.span(field)?, &mut text);
        Some(text.into_pieces().concat())
    }

    /// Appends this message as one line with its newline: `id` in place of its own, each edit
    /// in place of its span. Edits must be in order and lie inside the payload.
    pub(crate) fn write(&self, id: Option<&RequestId>, edits: &[Edit<'_>], out: &mut Chunks) {
        self.write_head(id, out.small());
        if let Some((name, span)) = self.payload {
            let head = out.small();
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

    /// Appends everything that precedes the payload.
    #[inline]
    fn write_head(&self, id: Option<&RequestId>, head: &mut Vec<u8>) {
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
    }

    /// True if a line written from this message may be longer than `limit` bytes, so that
    /// [`Message::written_len`] must be checked.
    #[inline]
    pub(crate) fn may_outgrow(&self, limit: usize) -> bool {
        self.line
            .len()
            .saturating_mul(MAX_GROWTH)
            .saturating_add(MAX_ADDED)
            > limit
    }

    /// True if the line that [`Message::write`] makes of it is longer than `limit` bytes.
    #[inline]
    pub(crate) fn outgrows(
        &self,
        limit: usize,
        id: Option<&RequestId>,
        edits: &[Edit<'_>],
    ) -> bool {
        self.may_outgrow(limit) && self.written_len(id, edits) > limit
    }

    /// How many bytes [`Message::write`] appends, excluding the newline.
    #[cold]
    pub(crate) fn written_len(&self, id: Option<&RequestId>, edits: &[Edit<'_>]) -> usize {
        let mut scratch = Vec::new();
        self.write_head(id, &mut scratch);
        let Some((name, span)) = self.payload else {
            return scratch.len() + 1;
        };
        let mut copied = name.len() + b",\"\":}".len();
        let mut at = span.start;
        let edits = match self.omitted {
            None => edits,
            Some(omitted) => &with_omission(edits, omitted),
        };
        for edit in edits {
            copied += self.copied_len(Span {
                start: at,
                end: edit.span.start,
            });
            edit.with.write(&mut scratch);
            at = edit.span.end;
        }
        copied += self.copied_len(Span {
            start: at,
            end: span.end,
        });
        copied + scratch.len()
    }

    /// How many bytes [`Message::carry`] returns.
    pub(crate) fn carried_len(&self, field: Field) -> usize {
        self.span(field).map_or(0, |span| self.copied_len(span))
    }

    /// As [`Message::write`], into a line of its own.
    pub(crate) fn to_line(&self, id: Option<&RequestId>, edits: &[Edit<'_>]) -> Line {
        let mut line = Chunks::default();
        self.write(id, edits, &mut line);
        line.into()
    }

    fn copy(&self, span: Span, out: &mut Chunks) {
        let text = span.of(&self.line);
        if self.needs_mending {
            mend(text, out.small());
        } else {
            out.share(&self.line, text);
        }
    }

    fn copied_len(&self, span: Span) -> usize {
        let text = span.of(&self.line);
        if self.needs_mending {
            mended_len(text)
        } else {
            text.len()
        }
    }
}

/// The edits, and one that removes `omitted`.
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

/// What [`Message::write`] puts in place of a part of the payload.
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

/// Copies valid JSON so that no reader finds a line end in it: control characters can occur
/// only between values there, U+0085, U+2028 and U+2029 only inside strings.
fn mend(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    let is_odd = |byte: &u8| matches!(byte, 0..=0x1f | 0xc2 | 0xe2);
    while let Some(at) = rest.iter().position(is_odd) {
        let (plain, odd) = rest.split_at(at);
        out.extend_from_slice(plain);
        rest = match odd {
            [0xc2, 0x85, tail @ ..] => {
                out.extend(b"\\u0085");
                tail
            }
            [0xe2, 0x80, end @ (0xa8 | 0xa9), tail @ ..] => {
                out.extend(if *end == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                tail
            }
            [0..=0x1f, tail @ ..] => {
                out.push(b' ');
                tail
            }
            [byte, tail @ ..] => {
                out.push(*byte);
                tail
            }
            [] => break,
        };
    }
    out.extend_from_slice(rest);
}

/// How many bytes [`mend`] makes of `text`.
fn mended_len(text: &[u8]) -> usize {
    let added = |at: usize| match text.get(at..) {
        Some([0xc2, 0x85, ..]) => 4,
        Some([0xe2, 0x80, 0xa8 | 0xa9, ..]) => 3,
        _ => 0,
    };
    text.len()
        + memchr::memchr2_iter(0xc2, 0xe2, text)
            .map(added)
            .sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::MAX_CHILD_DEPTH;
    use crate::utils::chunks::Pieces;
    use proptest::prelude::*;

    /// The inside of a JSON string, with characters that grow when written.
    fn text() -> impl Strategy<Value = String> {
        const PARTS: [&str; 10] = [
            "a", "\u{85}", "\u{2028}", "\u{2029}", "\\t", "\\u0041", "\u{7f}", "\u{e2}", "\u{c2}",
            "😀",
        ];
        prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..12)
            .prop_map(|parts| parts.concat())
    }

    fn id() -> impl Strategy<Value = RequestId> {
        prop_oneof![
            (-100_000_000_000i64..100_000_000_000).prop_map(RequestId::Number),
            any::<String>().prop_map(|text| RequestId::String(text.into())),
        ]
    }

    proptest! {
        /// The length is that of the line, and no line grows beyond the assumed factor.
        #[test]
        fn the_length_is_known_beforehand(
            method in text(), token in prop::option::of(text()), pad in text(), odd in "[ \t\r]{0,3}",
            id in prop::option::of(id()), other in id(), json in text(), answers: bool,
        ) {
            let token = token.map_or("null".to_owned(), |token| format!("\"{token}\""));
            let payload = format!(r#"{{"_meta":{odd}{{"progressToken":{token}}},"pad":"{pad}"}}"#);
            let line = if answers {
                format!(r#"{{"jsonrpc":"2.0","id":1,"result":{payload}}}"#)
            } else {
                format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{payload}}}"#)
            };
            let message = Message::read(line.into(), MAX_CHILD_DEPTH).unwrap();
            let json = format!("\"{json}\"");
            let (first, second) = (message.progress_token().map(|(_, span)| *span), message.span(Field::Meta));
            let with = [Replacement::Id(&other), Replacement::Json(json.as_bytes())];
            for span in [first, second, None] {
                for with in &with {
                    let edit = span.map(|span| Edit { span, with: *with });
                    let written = message.to_line(id.as_ref(), edit.as_slice()).length() - 1;
                    prop_assert_eq!(message.written_len(id.as_ref(), edit.as_slice()), written);
                    prop_assert!(message.outgrows(written - 1, id.as_ref(), edit.as_slice()));
                    prop_assert!(!message.outgrows(written, id.as_ref(), edit.as_slice()));
                    prop_assert!(written <= MAX_GROWTH * message.size() + MAX_ADDED);
                }
            }
            let carried = message.carry(Field::Meta).unwrap_or_default();
            prop_assert_eq!(message.carried_len(Field::Meta), carried.len());
        }
    }
}
