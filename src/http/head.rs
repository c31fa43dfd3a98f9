//! The headers of a request, found in one pass.

use super::Denied;
use crate::mcp::Revision;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Names a session.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Names the revision of MCP.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Names the last event that a client has received.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A header that may occur once.
#[derive(Clone, Copy, Default)]
pub enum Single<'a> {
    /// It does not occur.
    #[default]
    Absent,
    /// It occurs once.
    Once(&'a HeaderValue),
    /// It occurs more than once.
    Repeated,
}

/// Why a header has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// It occurs more than once.
    Repeated,
    /// It has other than visible characters.
    NoText,
}

impl From<BadHeader> for Denied {
    fn from(bad: BadHeader) -> Self {
        let reason = match bad {
            BadHeader::Repeated => "a header stands there twice",
            BadHeader::NoText => "a header holds something else than visible characters",
        };
        Self::plain(StatusCode::BAD_REQUEST, "bad-header", reason)
    }
}

impl<'a> Single<'a> {
    /// The header with this name.
    #[must_use]
    pub fn of(headers: &'a HeaderMap, name: &HeaderName) -> Self {
        let mut found = Self::Absent;
        headers
            .get_all(name)
            .iter()
            .for_each(|value| found.add(value));
        found
    }

    fn add(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::Absent => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    /// Its value, if it occurs.
    ///
    /// # Errors
    /// It has none.
    pub fn text(self) -> Result<Option<&'a str>, BadHeader> {
        match self {
            Self::Absent => Ok(None),
            Self::Once(value) => value.to_str().map(Some).map_err(|_| BadHeader::NoText),
            Self::Repeated => Err(BadHeader::Repeated),
        }
    }

    /// True if it occurs, however often.
    #[must_use]
    pub fn is_present(self) -> bool {
        !matches!(self, Self::Absent)
    }
}

/// The headers that matter for each request. No `Debug`, because of the token.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// `Host`
    pub host: Single<'a>,
    /// `Origin`
    pub origin: Single<'a>,
    /// `Authorization`
    pub authorization: Single<'a>,
    /// `Content-Type`
    pub content_type: Single<'a>,
    /// `Accept`
    pub accepts: Accepts,
    /// See [`SESSION_ID`].
    pub session_id: Single<'a>,
    /// See [`PROTOCOL_VERSION`].
    pub protocol_version: Single<'a>,
    /// See [`LAST_EVENT_ID`].
    pub last_event_id: Single<'a>,
    /// See [`super::METHOD`].
    pub method: Single<'a>,
    /// See [`super::NAME`].
    pub name: Single<'a>,
    /// All headers.
    pub all: &'a HeaderMap,
}

impl<'a> Head<'a> {
    /// Finds them.
    #[must_use]
    pub fn read(headers: &'a HeaderMap) -> Self {
        let mut head = Self {
            host: Single::Absent,
            origin: Single::Absent,
            authorization: Single::Absent,
            content_type: Single::Absent,
            accepts: Accepts::ANY,
            session_id: Single::Absent,
            protocol_version: Single::Absent,
            last_event_id: Single::Absent,
            method: Single::Absent,
            name: Single::Absent,
            all: headers,
        };
        let mut accepts = None;
        for (name, value) in headers {
            let header = match name.as_str() {
                "host" => &mut head.host,
                "origin" => &mut head.origin,
                "authorization" => &mut head.authorization,
                "content-type" => &mut head.content_type,
                "accept" => {
                    accepts.get_or_insert(Accepts::NONE).add(value);
                    continue;
                }
                "mcp-session-id" => &mut head.session_id,
                "mcp-protocol-version" => &mut head.protocol_version,
                "last-event-id" => &mut head.last_event_id,
                "mcp-method" => &mut head.method,
                "mcp-name" => &mut head.name,
                _ => continue,
            };
            header.add(value);
        }
        head.accepts = accepts.unwrap_or(Accepts::ANY);
        head
    }

    /// The token of `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&'a str> {
        let (scheme, token) = self.authorization.text().ok()??.split_once(' ')?;
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| token.trim())
    }

    /// True if `Content-Type` says JSON. Web pages can send other types without a preflight (CORS), so
    /// nothing else is accepted.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let kind = self.content_type.text().ok().flatten();
        let essence = kind.and_then(|kind| kind.split(';').next());
        essence.is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
    }

    /// The revision that a request of a session names, which is one with a handshake.
    ///
    /// # Errors
    /// The revision does not exist.
    pub fn session_version(&self) -> Result<Option<Revision>, Denied> {
        let Some(name) = self.protocol_version.text()? else {
            return Ok(None);
        };
        let revision = Revision::parse_legacy(name);
        revision.map(Some).ok_or_else(|| {
            let reason = "MCP-Protocol-Version names no revision that has sessions";
            Denied::plain(StatusCode::BAD_REQUEST, "unsupported-version", reason)
        })
    }
}

/// True when one of the parameters of a query is a token by its name.
#[must_use]
pub fn has_token(query: &str) -> bool {
    let mut names = query
        .split(['&', ';'])
        .filter_map(|pair| pair.split('=').next());
    names.any(|name| {
        ["token", "access_token", "jwt"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
    })
}

/// The media types that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// `application/json`
    pub json: bool,
    /// `text/event-stream`
    pub stream: bool,
}

impl Accepts {
    /// What a client without `Accept` accepts.
    const ANY: Self = Self {
        json: true,
        stream: true,
    };

    const NONE: Self = Self {
        json: false,
        stream: false,
    };

    /// Adds one value of `Accept`.
    fn add(&mut self, value: &HeaderValue) {
        for range in value.as_bytes().split(|byte| *byte == b',') {
            let essence = range.split(|byte| *byte == b';').next().unwrap_or_default();
            let is = |name: &str| essence.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
            let any = is("*/*");
            self.json |= any || is("application/json") || is("application/*");
            self.stream |= any || is("text/event-stream") || is("text/*");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};

    fn with(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn accept_names_types() {
        for (values, json, stream) in [
            (&[][..], true, true),
            (&["application/json, text/event-stream"], true, true),
            (&["application/json", "text/event-stream"], true, true),
            (&["*/*"], true, true),
            (&["Application/JSON;q=0.9"], true, false),
            (&["text/*"], false, true),
            (&["text/html"], false, false),
            (&[""], false, false),
        ] {
            let expected = Accepts { json, stream };
            assert_eq!(
                Head::read(&with(&ACCEPT, values)).accepts,
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn only_json_is_json() {
        for (values, expected) in [
            (&["application/json"][..], true),
            (&["application/json; charset=utf-8"], true),
            (&["APPLICATION/JSON"], true),
            (&["application/jsonx"], false),
            (&["text/plain;application/json"], false),
            (&["application/json", "text/plain"], false),
            (&[], false),
        ] {
            assert_eq!(
                Head::read(&with(&CONTENT_TYPE, values)).is_json(),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn one_bearer_is_taken() {
        let of = |values: &[&str]| {
            let headers = with(&AUTHORIZATION, values);
            Head::read(&headers).bearer().map(str::to_owned)
        };
        assert_eq!(of(&["Bearer a.b.c"]).as_deref(), Some("a.b.c"));
        assert_eq!(of(&["bearer  a.b.c "]).as_deref(), Some("a.b.c"));
        assert_eq!(of(&["Basic a.b.c"]), None);
        assert_eq!(of(&["Bearer a", "Bearer b"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn tokens_in_queries_are_seen() {
        for (query, seen) in [
            ("token=x", true),
            ("a=b&access_token=x", true),
            ("a;JWT=x&b", true),
            ("token", true),
            ("", false),
            ("tokens=x&a=token&max_token=1", false),
        ] {
            assert_eq!(has_token(query), seen, "{query}");
        }
    }

    #[test]
    fn versions_of_sessions() {
        let of = |values: &[&str]| Head::read(&with(&PROTOCOL_VERSION, values)).session_version();
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["2025-06-18"]), Ok(Some(Revision::V2025_06_18)));
        for bad in [
            &["2026-07-28"][..],
            &["1.0"],
            &["2025-06-18", "2025-06-18"],
            &["\u{e9}"],
        ] {
            assert_eq!(
                of(bad).map_err(|denied| denied.status.as_u16()),
                Err(400),
                "{bad:?}"
            );
        }
    }
}
