//! The headers of requests: those of all, and those of MCP, made from the message that they go with.

use super::exchange::Header;
use super::settings::Settings;
use crate::http::{METHOD, NAME, PROTOCOL_VERSION};
use crate::json::{members, unescape};
use crate::jsonrpc::{Field, Message};
use crate::mcp::{ItemKind, Method, Names, Revision};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

/// The headers of every request, apart from the token.
pub(super) fn common(settings: &Settings) -> HeaderMap {
    // With room for what is added for each request.
    let mut headers = HeaderMap::with_capacity(24);
    insert(&mut headers, "host", &settings.place.authority(), false);
    let agent = concat!("mcp-remote/", env!("CARGO_PKG_VERSION"));
    insert(&mut headers, "user-agent", agent, false);
    insert(&mut headers, "accept-encoding", "identity", false);
    for (name, value) in &settings.headers {
        insert(&mut headers, name, value.expose(), true);
    }
    let credentials = settings.relay().and_then(|it| it.credentials.as_ref());
    if let Some(credentials) = credentials {
        let credentials = credentials.expose();
        insert(&mut headers, "proxy-authorization", credentials, true);
    }
    headers
}

/// A header; `None` if it cannot have this value.
pub(super) fn header<V>(name: HeaderName, value: V) -> Option<Header>
where
    HeaderValue: TryFrom<V>,
{
    Some((name, HeaderValue::try_from(value).ok()?))
}

/// Sets a header; an invalid value is left out.
fn insert(headers: &mut HeaderMap, name: &str, value: &str, is_secret: bool) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) {
        value.set_sensitive(is_secret);
        headers.insert(name, value);
    }
}

/// The protocol version that a modern request names in its `_meta`.
pub(super) fn modern_version(message: &Message) -> String {
    let key = "io.modelcontextprotocol/protocolVersion";
    let version = message.raw(Field::Meta).and_then(|meta| {
        let [version] = members(meta, [key])?;
        unescape(version?.of(meta)).map(Cow::into_owned)
    });
    version.unwrap_or_else(|| Revision::NEWEST.name().to_owned())
}

/// The headers of a message of 2026-07-28, without those for arguments of tools.
pub(super) fn modern(message: &Message, version: &str) -> Vec<Header> {
    let name = name_of(message);
    let headers = [
        header(PROTOCOL_VERSION, version),
        header(METHOD, encode(message.method())),
        name.and_then(|name| header(NAME, encode(&name))),
    ];
    headers.into_iter().flatten().collect()
}

/// The value of `Mcp-Name` for a message.
fn name_of(message: &Message) -> Option<Cow<'_, str>> {
    let method = message.mcp_method()?;
    match (method.names(), method) {
        (Names::Item(ItemKind::Tool | ItemKind::Prompt | ItemKind::Resource, field), _) => {
            message.text(field)
        }
        (_, Method::GetTask | Method::UpdateTask | Method::CancelTask) => {
            message.text(Field::TaskId)
        }
        _ => None,
    }
}

/// A value as it may stand in a header: as it is, or in base64 between two marks.
pub(super) fn encode(value: &str) -> String {
    let is_plain = value
        .bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | 0x21..=0x7e));
    let is_trimmed = value.trim_matches([' ', '\t']) == value;
    let is_marked = value.starts_with("=?base64?") && value.ends_with("?=");
    if is_plain && is_trimmed && !is_marked {
        value.to_owned()
    } else {
        format!("=?base64?{}?=", STANDARD.encode(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::MAX_CHILD_DEPTH;
    use bytes::Bytes;

    /// The examples in the specification, and their edge cases.
    #[test]
    fn m2_values_that_no_header_can_hold_are_encoded() {
        for (value, encoded) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("=?base64?half", "=?base64?half"),
            ("a\tb c", "a\tb c"),
            ("\ta", "=?base64?CWE=?="),
            ("", ""),
            ("\u{7f}", "=?base64?fw==?="),
        ] {
            assert_eq!(encode(value), encoded, "{value:?}");
        }
    }

    fn headers(text: &str) -> Vec<(String, String)> {
        let line = Bytes::copy_from_slice(text.as_bytes());
        let message = Message::read(line, MAX_CHILD_DEPTH).unwrap();
        let headers = modern(&message, &modern_version(&message));
        let text = |(name, value): Header| {
            let value = value.to_str().unwrap();
            (name.to_string(), value.to_owned())
        };
        headers.into_iter().map(text).collect()
    }

    #[test]
    fn m1_the_headers_say_what_the_body_says() {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        for (method, params, name) in [
            (
                "tools/call",
                r#""name":"say \"hi\"","arguments":{},"#,
                Some("say \"hi\""),
            ),
            (
                "prompts/get",
                r#""name":"caf\u00e9","#,
                Some("=?base64?Y2Fmw6k=?="),
            ),
            (
                "resources/read",
                r#""uri":"file:///a b","#,
                Some("file:///a b"),
            ),
            ("tasks/get", r#""taskId":"t1","#, Some("t1")),
            ("tasks/update", r#""taskId":"t1","#, Some("t1")),
            ("tasks/cancel", r#""taskId":"t1","#, Some("t1")),
            ("tools/list", "", None),
            ("server/discover", "", None),
        ] {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{meta}}}}}"#
            );
            let version = ("mcp-protocol-version", "2026-07-28");
            let mut expected = vec![version, ("mcp-method", method)];
            expected.extend(name.map(|name| ("mcp-name", name)));
            let expected = expected.into_iter();
            let expected: Vec<_> = expected
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .collect();
            assert_eq!(headers(&text), expected, "{text}");
        }
        let other = r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}}"#;
        assert_eq!(headers(other)[0].1, "2027-01-01");
        let discover = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
        assert_eq!(headers(discover)[0].1, "2026-07-28");
    }
}
