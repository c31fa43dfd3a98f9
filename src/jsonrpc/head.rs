//! The outermost object of a line: its members, and the kind of message they make it.

use super::Kind;
use super::id::RequestId;
use super::method::MethodName;
use crate::json::{Fault, Quoted, Scanner, Span, folds_to, unescape};
use crate::mcp;

/// A member of the outermost object that has a meaning.
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

    /// Parses a key and its colon, and returns the member it is or looks like, and whether it matches
    /// exactly.
    #[inline(always)]
    pub(super) fn next(
        scanner: &mut Scanner<'_>,
        line: &[u8],
    ) -> Result<Option<(Self, bool)>, Fault> {
        // The usual spelling.
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

    /// The member that `name` is or looks like, and whether it matches exactly.
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

/// The name of a member, and the position of its value.
type Payload = (&'static str, Span);

/// The members of the outermost object, as found.
#[derive(Default)]
pub(super) struct Head {
    spans: [Option<Span>; Member::ALL.len()],
    /// The last `method`, if it is a string.
    pub method_text: Option<Quoted>,
    /// A known member was duplicated or has a look-alike name.
    spoiled: bool,
    id_spoiled: bool,
}

impl Head {
    pub(super) fn get(&self, member: Member) -> Option<Span> {
        self.spans[member as usize]
    }

    pub(super) fn note(&mut self, member: Member, exact: bool, span: Span) {
        let twice = self.spans[member as usize].is_some();
        if exact {
            self.spans[member as usize] = Some(span);
        }
        if twice || !exact {
            self.spoiled = true;
            self.id_spoiled |= matches!(member, Member::Id);
        }
    }

    /// The id, unless it is ambiguous.
    #[inline]
    pub(super) fn id(&self, line: &[u8]) -> Option<RequestId> {
        let span = self.get(Member::Id).filter(|_| !self.id_spoiled)?;
        RequestId::parse(span.of(line))
    }

    #[inline]
    fn is_null(&self, member: Member, line: &[u8]) -> bool {
        self.get(member)
            .is_some_and(|span| span.of(line) == b"null")
    }

    /// null means absent, for a member that may be absent.
    #[inline]
    fn given(&self, member: Member, line: &[u8]) -> Option<Span> {
        let span = self.get(member)?;
        (span.of(line) != b"null").then_some(span)
    }

    #[inline]
    fn is_answer(&self) -> bool {
        self.get(Member::Result).is_some() || self.get(Member::Error).is_some()
    }

    /// The kind of message with this id, as far as can be told for a refused one.
    #[cold]
    pub(super) fn about(&self, id: Option<&RequestId>) -> Option<Kind> {
        let has_method = self.get(Member::Method).is_some();
        match (self.get(Member::Id), id) {
            _ if self.is_answer() && has_method => None,
            _ if self.is_answer() => Some(Kind::Response(id.cloned())),
            (Some(_), Some(id)) => Some(Kind::Request(id.clone())),
            (None, _) if has_method && !self.id_spoiled => Some(Kind::Notification),
            _ => None,
        }
    }

    /// Why this is not a JSON-RPC message, whatever it contains; with `strict` only 2.0 is one.
    #[inline]
    pub(super) fn check(
        &self,
        id: Option<&RequestId>,
        strict: bool,
        line: &[u8],
    ) -> Result<(), &'static str> {
        if self.spoiled {
            return Err("a member stands twice or under a look-alike name");
        }
        match self.get(Member::Jsonrpc) {
            None if !strict => {}
            Some(version) if version.of(line) == b"\"2.0\"" => {}
            _ => return Err("jsonrpc is not \"2.0\""),
        }
        let may_be_null = self.is_answer() && self.is_null(Member::Id, line);
        if self.get(Member::Id).is_some() && id.is_none() && !may_be_null {
            return Err("id is not a string or a number");
        }
        Ok(())
    }

    /// The method of anything but a response.
    #[inline]
    pub(super) fn method(&self, line: &[u8]) -> Result<Option<MethodName>, &'static str> {
        if self.get(Member::Method).is_none() {
            return Ok(None);
        }
        if self.is_answer() {
            return Err("method beside result or error");
        }
        let method = self.method_text.and_then(|text| read_method(text, line));
        match method {
            None => Err("method is not a string"),
            // For C readers the text ends there.
            Some(MethodName::Other(name)) if name.contains('\0') => Err("method holds a NUL"),
            Some(method) => Ok(Some(method)),
        }
    }

    /// The kind of message, and the member that holds its payload.
    #[inline]
    pub(super) fn kind_and_payload(
        &self,
        has_method: bool,
        id: Option<&RequestId>,
        line: &[u8],
    ) -> Result<(Kind, Option<Payload>), &'static str> {
        let starts_with = |span: Span, first: &[u8]| {
            let found = span.of(line).first();
            found.is_some_and(|found| first.contains(found))
        };
        if has_method {
            let kind = id.cloned().map_or(Kind::Notification, Kind::Request);
            let params = self.given(Member::Params, line);
            if params.is_some_and(|span| !starts_with(span, b"{[")) {
                return Err("params is neither an object nor an array");
            }
            return Ok((kind, params.map(|span| ("params", span))));
        }
        let has_error = self.given(Member::Error, line).is_some();
        let result = self.get(Member::Result);
        let result = result.filter(|_| !has_error || !self.is_null(Member::Result, line));
        let error = self.get(Member::Error);
        let error = error.filter(|_| has_error || result.is_none());
        match (result, error) {
            (Some(_), Some(_)) => Err("result beside error"),
            (Some(result), None) => match id {
                Some(id) => Ok((Kind::Response(Some(id.clone())), Some(("result", result)))),
                None => Err("a result without an id"),
            },
            (None, Some(error)) if starts_with(error, b"{") => {
                Ok((Kind::Response(id.cloned()), Some(("error", error))))
            }
            (None, Some(_)) => Err("error is not an object"),
            (None, None) => Err("neither method nor result nor error"),
        }
    }
}

/// `None` for anything but a string.
fn read_method(quoted: Quoted, line: &[u8]) -> Option<MethodName> {
    if let Some(method) = mcp::Method::parse(&quoted.text(line)) {
        return Some(MethodName::Mcp(method));
    }
    let name = unescape(quoted.span.of(line))?;
    Some(MethodName::Other(name.into()))
}
