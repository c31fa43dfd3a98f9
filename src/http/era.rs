//! Which revision a posted message belongs to, message by message: 2026-07-28 has everything in the
//! message, the revisions before it have a session.

use super::Denied;
use super::head::Head;
use super::mirror;
use crate::json::{members, unescape};
use crate::jsonrpc::{Code, ErrorData, Executed, Field, Kind, Message, RequestId};
use crate::mcp::Revision;
use crate::utils::shorten::shorten;
use hyper::StatusCode;
use serde::Serialize;

/// The most of a version that an error quotes, in bytes.
const MAX_VERSION: usize = 64;

const VERSION_MEMBER: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_MEMBER: &str = "io.modelcontextprotocol/clientCapabilities";

/// How a posted message is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// On its own (2026-07-28).
    Stateless,
    /// In a session (2025-03-26 to 2025-11-25).
    Session,
}

/// Which of the two a message is for, by its `MCP-Protocol-Version` and its `_meta`, which have to agree.
///
/// # Errors
/// It belongs to neither.
pub fn era(head: &Head<'_>, message: &Message) -> Result<Era, Denied> {
    let id = message.id();
    let named = head.protocol_version.text()?;
    // The router may take a spoiled '_meta' for that of a modern message.
    let declared = declared(message).ok_or_else(|| {
        let reason = "Header mismatch: a member of '_meta' stands twice or under a look-alike name";
        mismatch(id, reason)
    })?;
    let Some(named) = named else {
        return match declared.version {
            Some(_) => Err(mismatch(
                id,
                "Header mismatch: there is no MCP-Protocol-Version",
            )),
            None => Ok(Era::Session),
        };
    };
    if declared
        .version
        .as_ref()
        .is_some_and(|version| version != named)
    {
        let reason = "Header mismatch: MCP-Protocol-Version is not the version in '_meta'";
        return Err(mismatch(id, reason));
    }
    match Revision::parse(named) {
        None => Err(unsupported(id, named)),
        Some(revision) if revision <= Revision::NEWEST_LEGACY => match declared.version {
            Some(_) => Err(unsupported(id, named)),
            None => Ok(Era::Session),
        },
        Some(_) => stateless(head, message, &declared).map(|()| Era::Stateless),
    }
}

fn stateless(head: &Head<'_>, message: &Message, declared: &Declared) -> Result<(), Denied> {
    let id = message.id();
    match message.kind() {
        Kind::Response(_) => {
            let reason = "2026-07-28 has no answers of clients";
            return Err(Denied::plain(StatusCode::BAD_REQUEST, "no-answers", reason));
        }
        Kind::Request(_) if declared.version.is_none() || !declared.capabilities => {
            let reason = "Invalid params: '_meta' has no protocolVersion or no clientCapabilities";
            let data = ErrorData::new("meta-missing", Executed::No);
            return Err(Denied::message(id, Code::InvalidParams, reason, &data));
        }
        _ => {}
    }
    mirror::check(head, message).map_err(|reason| mismatch(id, reason))?;
    let method = message.mcp_method();
    if method.is_some_and(|method| method.revisions().1 < Revision::V2026_07_28) {
        let reason = "Method not found: 2026-07-28 has no such method";
        let data = ErrorData::new("method-of-older-revision", Executed::No);
        return Err(Denied::message(id, Code::MethodNotFound, reason, &data));
    }
    Ok(())
}

/// The members of `_meta` that matter here.
#[derive(Default)]
struct Declared {
    /// Empty if it is not a string.
    version: Option<String>,
    capabilities: bool,
}

/// `None` where programs may read different values.
fn declared(message: &Message) -> Option<Declared> {
    // A message whose params have it twice, or under a look-alike name, is not read at all.
    let meta = message.params().and_then(|_| message.raw(Field::Meta));
    let meta = match meta {
        None | Some(b"null") => return Some(Declared::default()),
        Some(meta) => meta,
    };
    let [version, capabilities] = members(meta, [VERSION_MEMBER, CAPABILITIES_MEMBER])?;
    let text = |raw| unescape(raw).unwrap_or_default().into_owned();
    Some(Declared {
        version: version.map(|span| text(span.of(meta))),
        capabilities: capabilities.is_some_and(|span| span.of(meta).starts_with(b"{")),
    })
}

/// The error if a header and the body differ.
#[must_use]
pub fn mismatch(id: Option<&RequestId>, reason: &'static str) -> Denied {
    let data = ErrorData::new("header-mismatch", Executed::No);
    Denied::message(id, Code::HeaderMismatch, reason, &data)
}

fn unsupported(id: Option<&RequestId>, requested: &str) -> Denied {
    #[derive(Serialize)]
    struct Data<'a> {
        supported: [&'static str; 1],
        requested: &'a str,
    }
    // Those that need no session, as `server/discover` tells them.
    let data = Data {
        supported: [Revision::NEWEST.name()],
        requested: shorten(requested, MAX_VERSION),
    };
    Denied::message(
        id,
        Code::UnsupportedVersion,
        "Unsupported protocol version",
        &data,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::MAX_PEER_DEPTH;
    use hyper::header::{HeaderMap, HeaderName, HeaderValue};

    const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"META}"#;

    fn meta(members: &str) -> String {
        LIST.replace("META", &format!(r#","params":{{"_meta":{{{members}}}}}"#))
    }

    fn modern(version: &str) -> String {
        meta(&format!(
            r#""{VERSION_MEMBER}":"{version}","{CAPABILITIES_MEMBER}":{{}}"#
        ))
    }

    /// The era, or status and code.
    fn found(line: &str, headers: &[(&str, &str)]) -> Result<Era, (u16, i64)> {
        let message = Message::read(line.to_owned().into(), MAX_PEER_DEPTH).unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        era(&Head::read(&map), &message).map_err(|denied| {
            let error: serde_json::Value = serde_json::from_slice(&denied.line).unwrap();
            if matches!(message.kind(), Kind::Request(_)) {
                assert_eq!(error["id"], 7, "{error}");
            } else {
                assert!(error.get("id").is_none(), "{error}");
            }
            (
                denied.status.as_u16(),
                error["error"]["code"].as_i64().unwrap(),
            )
        })
    }

    #[test]
    fn the_era_is_told_by_header_and_meta() {
        const VERSION: &str = "Mcp-Protocol-Version";
        let now = [(VERSION, "2026-07-28"), ("Mcp-Method", "tools/list")];
        let plain = LIST.replace("META", "");
        let call = |method: &str| modern("2026-07-28").replace("tools/list", method);
        let both = [now[0], ("mcp-method", "ping")];
        for (line, headers, expected) in [
            (plain.clone(), &[][..], Ok(Era::Session)),
            (plain.clone(), &[(VERSION, "2025-11-25")], Ok(Era::Session)),
            (plain.clone(), &[(VERSION, "2025-03-26")], Ok(Era::Session)),
            (modern("2026-07-28"), &now, Ok(Era::Stateless)),
            // N13
            (modern("2026-07-28"), &[], Err((400, -32020))),
            (
                modern("2026-07-28"),
                &[(VERSION, "2025-11-25")],
                Err((400, -32020)),
            ),
            (modern("2025-11-25"), &now, Err((400, -32020))),
            // N14
            (
                plain.clone(),
                &[(VERSION, "1999-01-01")],
                Err((400, -32022)),
            ),
            (
                modern("2999-01-01"),
                &[(VERSION, "2999-01-01")],
                Err((400, -32022)),
            ),
            (
                modern("2025-11-25"),
                &[(VERSION, "2025-11-25")],
                Err((400, -32022)),
            ),
            // N15
            (call("ping"), &both, Err((404, -32601))),
            // N17
            (modern("2026-07-28"), &now[..1], Err((400, -32020))),
            // N23
            (plain, &now, Err((400, -32602))),
            (
                meta(&format!(r#""{VERSION_MEMBER}":"2026-07-28""#)),
                &now,
                Err((400, -32602)),
            ),
            (
                meta(&format!(r#""{CAPABILITIES_MEMBER}":{{}}"#)),
                &now,
                Err((400, -32602)),
            ),
            (
                meta(&format!(
                    r#""{VERSION_MEMBER}":1,"{CAPABILITIES_MEMBER}":{{}}"#
                )),
                &now,
                Err((400, -32020)),
            ),
        ] {
            assert_eq!(found(&line, headers), expected, "{line} {headers:?}");
        }
        let version = format!(r#""{VERSION_MEMBER}":"2026-07-28""#);
        let capabilities = format!(r#""{CAPABILITIES_MEMBER}":{{}}"#);
        for spoiled in [
            format!("{version},{capabilities},{capabilities}"),
            format!(
                "{version},{},{capabilities}",
                version.replace("protocolV", "Protocolv")
            ),
            version.replace("protocolVersion", "protocol_version"),
        ] {
            for headers in [&[][..], &[(VERSION, "2025-11-25")], &now] {
                let found = found(&meta(&spoiled), headers);
                assert_eq!(found, Err((400, -32020)), "{spoiled} {headers:?}");
            }
        }
        for plain in [r#","params":[1]"#, r#","params":{"_meta":null}"#] {
            let line = LIST.replace("tools/list", "x/y").replace("META", plain);
            assert_eq!(found(&line, &[]), Ok(Era::Session), "{line}");
        }
        // N4, N5
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
        assert_eq!(found(answer, &now), Err((400, -32600)));
        let told = r#"{"jsonrpc":"2.0","method":"notifications/x"}"#;
        assert_eq!(
            found(told, &[now[0], ("mcp-method", "notifications/x")]),
            Ok(Era::Stateless)
        );
        assert_eq!(found(told, &now), Err((400, -32020)));
    }
}
