//! Headers that mirror the body (2026-07-28 basic/transports "Streamable HTTP"): proxies may rely on the
//! headers and the MCP server on the body, so both have to agree.

use super::head::{BadHeader, Head, Single};
use crate::jsonrpc::{Field, Message};
use crate::mcp::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderName;
use std::borrow::Cow;

/// The method of a message.
pub const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// The name of the tool, prompt or resource, or the id of the task, that it is about.
pub const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// Checks `Mcp-Method` and `Mcp-Name`.
///
/// # Errors
/// What is wrong.
pub(super) fn check(head: &Head<'_>, message: &Message) -> Result<(), &'static str> {
    match value(head.method)? {
        None => return Err("Header mismatch: there is no Mcp-Method"),
        Some(method) if method != message.method() => {
            return Err("Header mismatch: Mcp-Method is not the method of the message");
        }
        Some(_) => {}
    }
    let (field, required) = match message.mcp_method() {
        Some(Method::CallTool | Method::GetPrompt) => (Field::Name, true),
        Some(Method::ReadResource) => (Field::Uri, true),
        Some(Method::GetTask | Method::UpdateTask | Method::CancelTask) => (Field::TaskId, false),
        _ => return Ok(()),
    };
    let expected = message.text(field);
    match (value(head.name)?, expected) {
        (None, Some(_)) if required => Err("Header mismatch: there is no Mcp-Name"),
        (None, _) => Ok(()),
        (Some(name), Some(expected)) if decoded(name)? == expected => Ok(()),
        (Some(_), _) => Err("Header mismatch: Mcp-Name is not the name in the message"),
    }
}

/// The value of a header that may occur once.
///
/// # Errors
/// It occurs more than once, or has other than visible characters.
pub(super) fn value(header: Single<'_>) -> Result<Option<&str>, &'static str> {
    header.text().map_err(|bad| match bad {
        BadHeader::Repeated => "Header mismatch: a header stands there twice",
        BadHeader::NoText => {
            "Header mismatch: a header holds something else than visible characters"
        }
    })
}

/// Decodes a value that may be base64.
///
/// # Errors
/// The base64 is invalid.
pub(super) fn decoded(value: &str) -> Result<Cow<'_, str>, &'static str> {
    let inner = value.strip_prefix("=?base64?");
    let Some(inner) = inner.and_then(|inner| inner.strip_suffix("?=")) else {
        return Ok(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(inner).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.map(Cow::Owned)
        .ok_or("Header mismatch: a header is not valid base64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::MAX_PEER_DEPTH;
    use hyper::header::{HeaderMap, HeaderValue};

    fn checked(
        method: &str,
        params: &str,
        headers: &[(&HeaderName, &str)],
    ) -> Result<(), &'static str> {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check(&Head::read(&map), &message)
    }

    #[test]
    fn what_is_mirrored_agrees() {
        let ok = |method, params, headers: &[(&HeaderName, &str)]| {
            assert_eq!(
                checked(method, params, headers),
                Ok(()),
                "{method} {headers:?}"
            );
        };
        let call = [(&METHOD, "tools/call")];
        ok("tools/list", "{}", &[(&METHOD, "tools/list")]);
        ok("tools/list", "{}", &[(&METHOD, "tools/list"), (&NAME, "x")]);
        ok("tools/call", r#"{"name":"a"}"#, &[call[0], (&NAME, "a")]);
        ok(
            "tools/call",
            r#"{"name":"\u00e9"}"#,
            &[call[0], (&NAME, "=?base64?w6k=?=")],
        );
        ok(
            "resources/read",
            r#"{"uri":"a:b"}"#,
            &[(&METHOD, "resources/read"), (&NAME, "a:b")],
        );
        ok("tasks/get", r#"{"taskId":"t"}"#, &[(&METHOD, "tasks/get")]);
        ok(
            "tasks/get",
            r#"{"taskId":"t"}"#,
            &[(&METHOD, "tasks/get"), (&NAME, "t")],
        );
        let bad = |method, params, headers: &[(&HeaderName, &str)]| {
            assert!(
                checked(method, params, headers).is_err(),
                "{method} {headers:?}"
            );
        };
        bad("tools/list", "{}", &[]);
        bad("tools/list", "{}", &[(&METHOD, "tools/List")]);
        bad(
            "tools/list",
            "{}",
            &[(&METHOD, "tools/list"), (&METHOD, "tools/list")],
        );
        bad("tools/call", r#"{"name":"a"}"#, &call);
        bad("tools/call", r#"{"name":"a"}"#, &[call[0], (&NAME, "A")]);
        bad(
            "tools/call",
            r#"{"name":"a"}"#,
            &[call[0], (&NAME, "a"), (&NAME, "a")],
        );
        bad(
            "tools/call",
            r#"{"name":"a"}"#,
            &[call[0], (&NAME, "=?BASE64?YQ==?=")],
        );
        bad(
            "tools/call",
            r#"{"name":"a"}"#,
            &[call[0], (&NAME, "=?base64?Y?=")],
        );
        bad(
            "tools/call",
            r#"{"name":"\u00e9"}"#,
            &[call[0], (&NAME, "\u{e9}")],
        );
        bad("tools/call", "{}", &[call[0], (&NAME, "a")]);
        bad(
            "tasks/get",
            r#"{"taskId":"t"}"#,
            &[(&METHOD, "tasks/get"), (&NAME, "u")],
        );
    }
}
