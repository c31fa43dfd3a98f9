//! The headers of a request, apart from authorization.

use super::Denied;
use crate::mcp::Revision;
use crate::utils::secret::Secret;
use hyper::StatusCode;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName};

/// Names a session.
pub const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Names the revision of MCP.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Names the last event that a client has received.
pub const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The value of a header that may occur once.
///
/// # Errors
/// It occurs more than once, or has other than visible characters.
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Denied> {
    let bad = |reason| Denied::plain(StatusCode::BAD_REQUEST, "bad-header", reason);
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(bad("a header stands there twice"));
    }
    let text = value.to_str();
    text.map(Some)
        .map_err(|_| bad("a header holds something else than visible characters"))
}

/// The token of `Authorization: Bearer`.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim().to_owned().into())
}

/// True if `Content-Type` says JSON. Web pages can send other types without a preflight (CORS), so
/// nothing else is accepted.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let first = values.next().and_then(|value| value.to_str().ok());
    let essence = first.and_then(|value| value.split(';').next());
    let is_json = essence.is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"));
    is_json && values.next().is_none()
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
    /// The value of `Accept`; both if there is none.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let mut found = Self {
            json: false,
            stream: false,
        };
        let mut values = headers.get_all(ACCEPT).iter().peekable();
        if values.peek().is_none() {
            return Self {
                json: true,
                stream: true,
            };
        }
        for range in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
            let essence = range.split(|byte| *byte == b';').next().unwrap_or_default();
            let is = |name: &str| essence.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
            let any = is("*/*");
            found.json |= any || is("application/json") || is("application/*");
            found.stream |= any || is("text/event-stream") || is("text/*");
        }
        found
    }
}

/// The revision that a request of a session names, which is one with a handshake.
///
/// # Errors
/// The revision does not exist.
pub fn session_version(headers: &HeaderMap) -> Result<Option<Revision>, Denied> {
    let Some(name) = only(headers, &PROTOCOL_VERSION)? else {
        return Ok(None);
    };
    let revision = Revision::parse_legacy(name);
    revision.map(Some).ok_or_else(|| {
        let reason = "MCP-Protocol-Version names no revision that has sessions";
        Denied::plain(StatusCode::BAD_REQUEST, "unsupported-version", reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

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
                Accepts::read(&with(&ACCEPT, values)),
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
                is_json(&with(&CONTENT_TYPE, values)),
                expected,
                "{values:?}"
            );
        }
    }

    #[test]
    fn one_bearer_is_taken() {
        let of = |values: &[&str]| {
            bearer(&with(&AUTHORIZATION, values)).map(|token| token.expose().to_owned())
        };
        assert_eq!(of(&["Bearer a.b.c"]).as_deref(), Some("a.b.c"));
        assert_eq!(of(&["bearer  a.b.c "]).as_deref(), Some("a.b.c"));
        assert_eq!(of(&["Basic a.b.c"]), None);
        assert_eq!(of(&["Bearer a", "Bearer b"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn versions_of_sessions() {
        let of = |values: &[&str]| session_version(&with(&PROTOCOL_VERSION, values));
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
