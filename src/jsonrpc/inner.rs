//! What the router and the policy need from inside `params` or `result`, found while the line is read
//! once.

use super::field::Fields;
use super::id::RequestId;
use super::method::MethodName;
use crate::json::{Fault, Scanner, Span, members, unescape};
use crate::mcp::{self, Field, IN_NOTIFICATIONS, IN_REF, Names};

/// What is found inside `params` or `result` while the line is read once.
#[derive(Default)]
pub(super) struct Inner {
    pub fields: Fields,
    pub progress_token: Option<Box<(RequestId, Span)>>,
    pub subscription: Option<Box<(RequestId, Span)>>,
    pub related_task: Option<Span>,
    pub modern: bool,
    pub wants_logs: bool,
    /// A member of `params` or `_meta` with null for absent, from its key to its value.
    pub omitted: Option<Span>,
    meta_fault: Option<&'static str>,
}

impl Inner {
    pub(super) fn members(
        &mut self,
        scanner: &mut Scanner<'_>,
        line: &[u8],
    ) -> Result<Span, Fault> {
        scanner.spanned(|scanner| {
            scanner.members(|scanner| {
                let found = Fields::next(scanner, line)?;
                let kind = scanner.next_kind();
                let mut plain = true;
                let span = match (found, kind) {
                    (Some((Field::Meta, true)), Some(b'{')) => self.meta(scanner, line)?,
                    (Some(_), Some(b'"')) => {
                        let quoted = scanner.quoted()?;
                        plain = quoted.is_plain(line);
                        quoted.span
                    }
                    _ => scanner.value()?,
                };
                if let Some((Field::Meta, true)) = found {
                    match kind {
                        Some(b'{') => {}
                        Some(b'n') => self.omitted = Some(member_of(span, line)),
                        _ => self.meta_fault = Some("_meta is not an object"),
                    }
                }
                if let Some((field, exact)) = found {
                    self.fields.note(field, exact, span, plain);
                }
                Ok::<(), Fault>(())
            })
        })
    }

    fn meta(&mut self, scanner: &mut Scanner<'_>, line: &[u8]) -> Result<Span, Fault> {
        scanner.spanned(|scanner| {
            scanner.object(|scanner, key| {
                let span = scanner.value()?;
                let name = key.text(line);
                match Fields::recognise(&name) {
                    Some((Field::ProgressToken, true))
                        if self.progress_token.is_none() && self.omitted.is_none() =>
                    {
                        match quoted(span.of(line)) {
                            // With a child that is not shared, a token is passed through unchanged.
                            Some(RequestId::OtherNumber(_)) => {
                                self.meta_fault = Some("progressToken is not a plain integer");
                            }
                            Some(token) => self.progress_token = Some((token, span).into()),
                            None if span.of(line) == b"null" => {
                                self.omitted = Some(member_of(span, line));
                            }
                            None => {
                                self.meta_fault = Some("progressToken is not a string or a number");
                            }
                        }
                    }
                    Some((Field::ProgressToken, _)) => {
                        self.meta_fault =
                            Some("progressToken stands twice or under a look-alike name");
                    }
                    _ => self.modern_meta(&name, span, line),
                }
                Ok::<(), Fault>(())
            })
        })
    }

    /// The members of `_meta` that MCP defines; each counts under its exact name only, and
    /// once.
    fn modern_meta(&mut self, name: &[u8], span: Span, line: &[u8]) {
        let twice = match name.strip_prefix(b"io.modelcontextprotocol/") {
            Some(b"protocolVersion") => std::mem::replace(&mut self.modern, true),
            Some(b"logLevel") => std::mem::replace(&mut self.wants_logs, true),
            Some(b"subscriptionId") => {
                let first = RequestId::parse(span.of(line)).map(|id| (id, span).into());
                std::mem::replace(&mut self.subscription, first).is_some()
            }
            Some(b"related-task") => self.related_task.replace(span).is_some(),
            _ => false,
        };
        if twice {
            self.meta_fault = Some("a member of _meta stands twice");
        }
    }

    /// What makes a message with this method invalid, if anything.
    pub(super) fn fault(&self, method: Option<&MethodName>, line: &[u8]) -> Option<&'static str> {
        let read = match method {
            Some(MethodName::Mcp(method)) => method.reads(),
            Some(MethodName::Other(name)) => mcp::reads(name),
            None => &[],
        };
        let spoiled_within = match method {
            Some(MethodName::Mcp(method)) => is_spoiled_within(*method, &self.fields, line),
            _ => false,
        };
        let spoiled = self.fields.is_spoiled(Field::Meta)
            || read.iter().any(|field| self.fields.is_spoiled(*field))
            || spoiled_within;
        if spoiled && method.is_some() {
            return Some("a member of params stands twice or under a look-alike name");
        }
        // A lone surrogate: Go reads another text than Python and Node do. NUL: C does.
        let no_text = |field: &Field| {
            let raw = self.fields.get(*field).map(|span| span.of(line));
            self.fields.is_escaped(*field)
                && raw.is_some_and(|raw| unescape(raw).is_none_or(|text| text.contains('\0')))
        };
        if read.iter().any(no_text) {
            return Some("a member of params holds half a surrogate pair, or a NUL");
        }
        self.meta_fault.filter(|_| method.is_some())
    }
}

/// True when a member that policy reads inside a member of `params` cannot be read.
fn is_spoiled_within(method: mcp::Method, fields: &Fields, line: &[u8]) -> bool {
    let object = |field| {
        let text = fields.get(field)?.of(line);
        text.starts_with(b"{").then_some(text)
    };
    match method.names() {
        Names::Reference => object(Field::Ref).is_some_and(|text| members(text, IN_REF).is_none()),
        Names::Subscriptions => object(Field::Notifications)
            .is_some_and(|text| members(text, IN_NOTIFICATIONS).is_none()),
        _ => false,
    }
}

/// The position of a member in its object, from its key to its `value`, with the comma that is removed
/// with it. The key contains no quote.
#[cold]
fn member_of(value: Span, line: &[u8]) -> Span {
    let is_white = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let before = &line[..value.start as usize];
    let key = memchr::memrchr_iter(b'"', before)
        .nth(1)
        .unwrap_or_default();
    let lead = line[..key].iter().rposition(|byte| !is_white(byte));
    if let Some(comma) = lead.filter(|at| line[*at] == b',') {
        return Span {
            start: comma as u32,
            end: value.end,
        };
    }
    let after = &line[value.end as usize..];
    let next = after
        .iter()
        .position(|byte| !is_white(byte))
        .unwrap_or_default();
    let comma = if after.get(next) == Some(&b',') {
        next + 1
    } else {
        0
    };
    Span {
        start: key as u32,
        end: value.end + comma as u32,
    }
}

/// An id or token in a payload.
pub(super) fn quoted(raw: &[u8]) -> Option<RequestId> {
    RequestId::parse(raw)
}
