//! From bytes to a message: the head is parsed strictly, payloads are skipped and left in place.

use super::head::{Head, Member};
use super::inner::Inner;
use super::outline::Outline;
use super::{Code, MAX_CHILD_DEPTH, MAX_LINE, Message, Refusal, TOO_DEEP};
use crate::json::Scanner;
use bytes::Bytes;

impl Message {
    /// Parses one line (without its newline), nested at most `depth` deep.
    ///
    /// # Errors
    /// A [`Refusal`] that says how to respond. The line must then not be passed on in any form.
    pub fn read(line: Bytes, depth: usize) -> Result<Self, Refusal> {
        Self::read_as(line.clone(), depth, true).map_err(|mut refusal| {
            if refusal.code == Code::ParseError || refusal.reason == TOO_DEEP {
                refusal.about = Outline::of(&line).kinds();
            }
            refusal
        })
    }

    /// As [`Message::read`], for an object of a child, which may lack `jsonrpc`.
    pub(super) fn read_leniently(object: Bytes) -> Result<Self, Refusal> {
        Self::read_as(object, MAX_CHILD_DEPTH, false)
    }

    fn read_as(line: Bytes, depth: usize, strict: bool) -> Result<Self, Refusal> {
        if line.len() > MAX_LINE {
            return Err(Refusal::invalid("longer than any message may be"));
        }
        let mut scanner = Scanner::new(&line, depth);
        let mut head = Head::default();
        let mut inner = Inner::default();
        let odd = match scanner.next_kind() {
            Some(b'{') => None,
            Some(b'[') => Some("batches are not supported"),
            _ => Some("not a JSON object"),
        };
        if let Some(reason) = odd {
            scanner.value()?;
            Self::end(&mut scanner, &line)?;
            return Err(Refusal::invalid(reason));
        }
        scanner.members(|scanner| {
            let known = Member::next(scanner, &line)?;
            let span = match (known, scanner.next_kind()) {
                (Some((Member::Method, true)), Some(b'"')) => {
                    let quoted = scanner.quoted()?;
                    head.method_text = Some(quoted);
                    quoted.span
                }
                (Some((Member::Params | Member::Result, true)), Some(b'{')) => {
                    inner.members(scanner, &line)?
                }
                _ => scanner.value()?,
            };
            if let Some((member, exact)) = known {
                head.note(member, exact, span);
            }
            Ok::<(), Refusal>(())
        })?;
        // What follows the message, such as half of a line end, is not written.
        let has_odd_white = scanner.has_odd_white();
        Self::end(&mut scanner, &line)?;
        let needs_mending = has_odd_white || scanner.is_not_ascii() && has_unicode_line_end(&line);
        Self::assemble(line, &head, inner, needs_mending, strict)
    }

    fn end(scanner: &mut Scanner<'_>, line: &[u8]) -> Result<(), Refusal> {
        scanner.end()?;
        // Outside strings everything has been checked to be ASCII.
        if scanner.is_not_ascii() && simdutf8::basic::from_utf8(line).is_err() {
            return Err(Refusal::not_json("not UTF-8"));
        }
        Ok(())
    }

    fn assemble(
        line: Bytes,
        head: &Head,
        inner: Inner,
        needs_mending: bool,
        strict: bool,
    ) -> Result<Self, Refusal> {
        let id = head.id(&line);
        let refuse = |reason| Refusal {
            about: head.about(id.as_ref()).into_iter().collect(),
            ..Refusal::invalid(reason)
        };
        head.check(id.as_ref(), strict, &line).map_err(refuse)?;
        let method = head.method(&line).map_err(refuse)?;
        let parts = head.kind_and_payload(method.is_some(), id.as_ref(), &line);
        let (kind, payload) = parts.map_err(refuse)?;
        if let Some(reason) = inner.fault(method.as_ref(), &line) {
            return Err(refuse(reason));
        }
        Ok(Self {
            kind,
            method: method.unwrap_or_default(),
            payload,
            fields: inner.fields,
            progress_token: inner.progress_token,
            subscription: inner.subscription,
            related_task: inner.related_task,
            modern: inner.modern,
            wants_logs: inner.wants_logs,
            omitted: inner.omitted,
            needs_mending,
            line,
        })
    }
}

/// True when the line contains U+0085, U+2028 or U+2029, which end a line for some readers.
fn has_unicode_line_end(line: &[u8]) -> bool {
    memchr::memchr2_iter(0xc2, 0xe2, line).any(|at| {
        matches!(
            line.get(at..),
            Some([0xc2, 0x85, ..] | [0xe2, 0x80, 0xa8 | 0xa9, ..])
        )
    })
}
