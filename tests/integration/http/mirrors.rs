//! Headers that repeat parts of a 2026-07-28 message are compared before the policy decides: it decides
//! on the same values that proxies on the way have used.

use crate::common::{Setup, token_with};
use crate::process::eventually;
use crate::support::http::{Answer, Http, Session, modern, with};
use serde_json::json;

/// An MCP server whose tools all have a mirrored parameter, and that writes what it reads to the file `$0`.
const SERVER: &str = r#"
while read -r line; do
  printf '%s\n' "$line" >> "$0"
  id=$(printf '%s' "$line" | grep -o '"id":[^,}]*' | head -n 1 | cut -d : -f 2-)
  tool='"inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}'
  case "$line" in
    *'"initialize"'*) result='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"t","version":"1"}}' ;;
    *'"server/discover"'*) result='{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}' ;;
    *'"tools/list"'*) result="{\"tools\":[{\"name\":\"open\",$tool},{\"name\":\"closed\",$tool},{\"name\":\"ruled\",$tool}]}" ;;
    *) result='{"content":[]}' ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
"#;

const PARAM: &str = "Mcp-Param-Region";

/// N13, N17, N20
#[test]
fn headers_are_compared_before_the_policy_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let policy = json!({"permissions": {"user": {
        "allowedMethods": ["server/discover", "tools/call"],
        "allowedTools": ["open", "ruled"],
        "tools": {"ruled": {"arguments": {"/region": {"equals": "north"}}}},
    }}});
    let server = Setup::new("http")
        .policy(&policy)
        .program(&["sh", "-c", SERVER, &seen.display().to_string()])
        .start();
    let bearer = format!("Bearer {}", token_with(&["user"]));
    let refused = [
        ("Mcp-Method", "tools/list"),
        ("Mcp-Method", ""),
        ("Mcp-Name", "other"),
        ("Mcp-Name", ""),
        ("MCP-Protocol-Version", "2025-11-25"),
        (PARAM, "north"),
        (PARAM, "=?base64?!?="),
        (PARAM, ""),
    ];
    // The tool, and its response when all headers are right.
    for (tool, status, code) in [
        ("open", 200, 0),
        ("closed", 404, -32601),
        ("ruled", 404, -32601),
    ] {
        let params = json!({"name": tool, "arguments": {"region": "south"}});
        let (mut headers, body) = modern(1, "tools/call", params);
        headers.push((PARAM.to_owned(), "south".to_owned()));
        headers.push(("Authorization".to_owned(), bearer.clone()));
        let right = [("", "")];
        for (at, (name, value)) in right.iter().chain(&refused).enumerate() {
            let answer = Http::connect(server.port).post(&with(&headers, name, value), &body);
            let expected = if at == 0 {
                (status, code)
            } else {
                (400, -32020)
            };
            let got = (answer.status(), answer.code());
            assert_eq!(got, expected, "{tool} {name} {value:?}: {answer:?}");
        }
    }
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen.matches("tools/call").count(), 1, "{seen}");
}

/// Checks a server whose MCP server says this many times what its tools are, and then answers with an error. `check`
/// gets two functions: one that makes a call with this header and this argument, and one that tells how often the MCP
/// server has been asked.
fn listed(times: usize, check: impl Fn(&dyn Fn(&str, &str) -> Answer, &dyn Fn() -> usize)) {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    std::fs::write(&seen, "").unwrap();
    // The program counts the lists that it has sent so far.
    let refusing = format!(
        r#"*'"tools/list"'*) [ "$(grep -c tools/list "$0")" -le {times} ] || {{ printf '{{"jsonrpc":"2.0","id":%s,"error":{{"code":-32603,"message":"busy"}}}}\n' "$id"; continue; }}; "#
    );
    let program = SERVER.replace(r#"*'"tools/list"'*) "#, &refusing);
    assert_ne!(program, SERVER);
    let server = Setup::new("http")
        .program(&["sh", "-c", &program, &seen.display().to_string()])
        .start();
    let call = |said: &str, meant: &str| {
        let params = json!({"name": "open", "arguments": {"region": meant}});
        let (headers, body) = modern(1, "tools/call", params);
        Http::connect(server.port).post(&with(&headers, PARAM, said), &body)
    };
    let lists = || {
        let seen = std::fs::read_to_string(&seen).unwrap();
        seen.matches("tools/list").count()
    };
    check(&call, &lists);
}

/// N20. Bug: the tools then counted as having no annotations, and any header passed.
#[test]
fn headers_are_compared_with_the_known_list_if_there_is_no_new_one() {
    listed(1, |call, lists| {
        assert_eq!(call("eu", "eu").status(), 200);
        eventually("the server is asked again", || {
            let answer = call("us", "eu");
            assert_eq!(
                (answer.status(), answer.code()),
                (400, -32020),
                "{answer:?}"
            );
            (lists() > 1).then_some(())
        });
        assert_eq!(call("us", "eu").code(), -32020);
        assert_eq!(call("eu", "eu").status(), 200);
    });
}

/// N20, N22
#[test]
fn headers_are_refused_while_no_list_is_known() {
    listed(0, |call, _| {
        let refused = call("eu", "eu");
        assert_eq!((refused.status(), refused.code()), (503, -32603));
        assert_eq!(refused.json()["error"]["data"]["reason"], "tools-unknown");
        assert!(refused.head.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(call("", "eu").status(), 200);
    });
}

/// In a session headers are not compared, so what a router may take for modern is not served there.
#[test]
fn a_spoiled_meta_is_served_neither_alone_nor_in_a_session() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let server = Setup::new("http")
        .program(&["sh", "-c", SERVER, &seen.display().to_string()])
        .start();
    let session = Session::begin(server.port);
    let (_, right) = modern(7, "tools/call", json!({"name": "closed"}));
    let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
    let capabilities = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
    let look_alike = version.replace("protocolV", "Protocolv");
    for (member, instead) in [
        (capabilities, format!("{capabilities},{capabilities}")),
        (version, format!("{version},{look_alike}")),
        (version, look_alike),
    ] {
        assert!(right.contains(member), "{right}");
        let body = right.replace(member, &instead);
        for version in ["", "2025-11-25"] {
            let headers = [
                ("Mcp-Session-Id", session.id.as_str()),
                ("Mcp-Method", "tools/list"),
                ("Mcp-Name", "open"),
                ("MCP-Protocol-Version", version),
            ];
            let answer = Http::connect(server.port).post(&headers, &body);
            let got = (answer.status(), answer.code());
            assert_eq!(got, (400, -32020), "{body} {version:?}: {answer:?}");
        }
    }
    let (mut headers, body) = modern(8, "tools/call", json!({"name": "plain"}));
    headers.push(("Mcp-Session-Id".to_owned(), session.id.clone()));
    let answer = Http::connect(server.port).post(&with(&headers, "", ""), &body);
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = std::fs::read_to_string(seen).unwrap();
    assert_eq!(seen.matches("tools/call").count(), 1, "{seen}");
}
