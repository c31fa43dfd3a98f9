//! From bytes to a message: the head is read strictly, payloads are passed over and left where they are.

use super::field::Fields;
use super::id::RequestId;
use super::method::MethodName;
use super::outline::Outline;
use super::{Code, Kind, MAX_CHILD_DEPTH, MAX_LINE, Message, Refusal, TOO_DEEP};
use crate::json::{Fault, Quoted, Scanner, Span, Window, folds_to, members, unescape};
use crate::mcp::{self, Field, IN_NOTIFICATIONS, IN_REF, Names};
use bytes::Bytes;

/// A member of the outermost object that means something.
#[derive(Clone, Copy)]
pub(super) enum Member {
    Jsonrpc,
    Id,
    Method,
    Params,
    Result,
    Error,
}

impl Member {
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Jsonrpc, "jsonrpc"),
        (Self::Id, "id"),
        (Self::Method, "method"),
        (Self::Params, "params"),
        (Self::Result, "result"),
        (Self::Error, "error"),
    ];

    /// Reads a key and its colon, and tells which one it is or looks like, and whether it is exactly
    /// that.
    #[inline(always)]
    fn next(scanner: &mut Scanner<'_>, line: &[u8]) -> Result<Option<(Self, bool)>, Fault> {
        // So they are almost always written.
        let plain = match scanner.second() {
            Some(b'j') => scanner.eat_all(b"\"jsonrpc\":").then_some(Self::Jsonrpc),
            Some(b'i') => scanner.eat_all(b"\"id\":").then_some(Self::Id),
            Some(b'm') => scanner.eat_all(b"\"method\":").then_some(Self::Method),
            Some(b'p') => scanner.eat_all(b"\"params\":").then_some(Self::Params),
            Some(b'r') => scanner.eat_all(b"\"result\":").then_some(Self::Result),
            _ => None,
        };
        if let Some(member) = plain {
            return Ok(Some((member, true)));
        }
        let key = scanner.key()?;
        Ok(Self::recognise(&key.text(line)))
    }

    /// Which one `name` is or looks like, and whether it is exactly that.
    #[inline(never)]
    pub(super) fn recognise(name: &[u8]) -> Option<(Self, bool)> {
        let exactly = match name {
            b"jsonrpc" => Self::Jsonrpc,
            b"id" => Self::Id,
            b"method" => Self::Method,
            b"params" => Self::Params,
            b"result" => Self::Result,
            b"error" => Self::Error,
            _ => return Some((Self::alike(name)?, false)),
        };
        Some((exactly, true))
    }

    #[inline(never)]
    fn alike(name: &[u8]) -> Option<Self> {
        let alike = |(_, known): &&(Self, &str)| folds_to(name, known);
        Self::ALL.iter().find(alike).map(|(member, _)| *member)
    }
}

/// The members of the outermost object, as found.
#[derive(Default)]
struct Head {
    spans: [Option<Span>; Member::ALL.len()],
    /// The last `method`, if it is a string.
    method_text: Option<Quoted>,
    /// A known member stood twice or under a look-alike name.
    spoiled: bool,
    id_spoiled: bool,
}

impl Head {
    fn get(&self, member: Member) -> Option<Span> {
        self.spans[member as usize]
    }

    fn note(&mut self, member: Member, exact: bool, span: Span) {
        let twice = self.spans[member as usize].is_some();
        if exact {
            self.spans[member as usize] = Some(span);
        }
        if twice || !exact {
            self.spoiled = true;
            self.id_spoiled |= matches!(member, Member::Id);
        }
    }
}

impl Message {
    /// Reads one line (without its newline), nested at most `depth` deep.
    ///
    /// # Errors
    /// A [`Refusal`] that says what to answer. The line is then not to be passed on in any form.
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
        let mut window = Window::of(&line);
        let mut scanner = Scanner::new(&line, depth, &mut window);
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
        Self::end(&mut scanner, &line)?;
        let needs_mending =
            scanner.has_odd_white() || scanner.is_not_ascii() && has_unicode_line_end(&line);
        Self::assemble(line, &head, inner, needs_mending, strict)
    }

    fn end(scanner: &mut Scanner<'_>, line: &[u8]) -> Result<(), Refusal> {
        scanner.end()?;
        // Outside of strings everything has been found to be ASCII.
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
        let id = match head.get(Member::Id) {
            Some(span) if !head.id_spoiled => RequestId::parse(span.of(&line)),
            _ => None,
        };
        let is_null = |member| {
            head.get(member)
                .is_some_and(|span| span.of(&line) == b"null")
        };
        let answer = head.get(Member::Result).is_some() || head.get(Member::Error).is_some();
        let about = || match (head.get(Member::Id), &id) {
            _ if answer && head.get(Member::Method).is_some() => None,
            _ if answer => Some(Kind::Response(id.clone())),
            (Some(_), Some(id)) => Some(Kind::Request(id.clone())),
            (None, _) if head.get(Member::Method).is_some() && !head.id_spoiled => {
                Some(Kind::Notification)
            }
            _ => None,
        };
        let refuse = |reason| Refusal {
            about: about().into_iter().collect(),
            ..Refusal::invalid(reason)
        };
        if head.spoiled {
            return Err(refuse("a member stands twice or under a look-alike name"));
        }
        match head.get(Member::Jsonrpc) {
            None if !strict => {}
            Some(version) if version.of(&line) == b"\"2.0\"" => {}
            _ => return Err(refuse("jsonrpc is not \"2.0\"")),
        }
        if head.get(Member::Id).is_some() && id.is_none() && !(is_null(Member::Id) && answer) {
            return Err(refuse("id is not a string or a number"));
        }
        let method = match head.get(Member::Method) {
            Some(_) if answer => return Err(refuse("method beside result or error")),
            Some(_) => {
                let method = head.method_text.and_then(|text| read_method(text, &line));
                Some(method.ok_or_else(|| refuse("method is not a string"))?)
            }
            None => None,
        };
        // Text ends there for readers in C.
        if matches!(&method, Some(MethodName::Other(name)) if name.contains('\0')) {
            return Err(refuse("method holds a NUL"));
        }
        // null stands for absent, where the member may be absent.
        let given = |member| head.get(member).filter(|_| !is_null(member));
        let result = head.get(Member::Result);
        let result =
            result.filter(|_| !(is_null(Member::Result) && given(Member::Error).is_some()));
        let error = head.get(Member::Error);
        let error = error.filter(|_| !(is_null(Member::Error) && result.is_some()));
        let (kind, payload) = match (&method, result, error) {
            (Some(_), ..) => {
                let kind = id.clone().map_or(Kind::Notification, Kind::Request);
                (kind, given(Member::Params).map(|span| ("params", span)))
            }
            (None, Some(_), Some(_)) => return Err(refuse("result beside error")),
            (None, Some(result), None) => match id.clone() {
                Some(id) => (Kind::Response(Some(id)), Some(("result", result))),
                None => return Err(refuse("a result without an id")),
            },
            (None, None, Some(error)) => (Kind::Response(id.clone()), Some(("error", error))),
            (None, None, None) => return Err(refuse("neither method nor result nor error")),
        };
        if let Some(("params", span)) = payload
            && !matches!(span.of(&line).first(), Some(b'{' | b'['))
        {
            return Err(refuse("params is neither an object nor an array"));
        }
        if payload.is_none() && answer
            || payload.is_some_and(|(name, span)| {
                name == "error" && span.of(&line).first() != Some(&b'{')
            })
        {
            return Err(refuse("error is not an object"));
        }
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

/// What is found inside `params` or `result` while the line is read once.
#[derive(Default)]
struct Inner {
    fields: Fields,
    progress_token: Option<Box<(RequestId, Span)>>,
    subscription: Option<Box<(RequestId, Span)>>,
    related_task: Option<Span>,
    modern: bool,
    wants_logs: bool,
    /// A member of `params` or `_meta` that is null for absent, from its key to its value.
    omitted: Option<Span>,
    meta_fault: Option<&'static str>,
}

impl Inner {
    fn members(&mut self, scanner: &mut Scanner<'_>, line: &[u8]) -> Result<Span, Fault> {
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
                            // Where a child is not shared, a token reaches it as it is.
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

    /// The members of `_meta` that MCP names; each counts under its exact name only, and
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
    fn fault(&self, method: Option<&MethodName>, line: &[u8]) -> Option<&'static str> {
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
        // Half a surrogate pair: Go reads another text than Python and Node do. NUL: C does.
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

/// `None` for what is no string.
fn read_method(quoted: Quoted, line: &[u8]) -> Option<MethodName> {
    if let Some(method) = mcp::Method::parse(&quoted.text(line)) {
        return Some(MethodName::Mcp(method));
    }
    let name = unescape(quoted.span.of(line))?;
    Some(MethodName::Other(name.into()))
}

/// Where a member stands in its object, from its key to its `value`, with the comma that goes when
/// it goes. The key holds no quote.
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

/// An id or token that stands in a payload.
pub(super) fn quoted(raw: &[u8]) -> Option<RequestId> {
    RequestId::parse(raw)
}

/// True when the line holds U+0085, U+2028 or U+2029, which end a line for some readers.
fn has_unicode_line_end(line: &[u8]) -> bool {
    memchr::memchr2_iter(0xc2, 0xe2, line).any(|at| {
        matches!(
            line.get(at..),
            Some([0xc2, 0x85, ..] | [0xe2, 0x80, 0xa8 | 0xa9, ..])
        )
    })
}
