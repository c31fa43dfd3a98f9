//! Requests of 2026-07-28.

use super::*;

#[test]
fn m1_m6_modern_messages_have_headers_and_no_session() {
    let mut bench = Bench::retrying(3);
    bench.host(&modern(1, "tools/call"));
    let (exchange, request) = bench.begin();
    for (name, value) in [
        ("Accept", Some("application/json, text/event-stream")),
        ("MCP-Protocol-Version", Some("2026-07-28")),
        ("Mcp-Method", Some("tools/call")),
        ("Mcp-Name", Some("t")),
        ("Mcp-Session-Id", None),
    ] {
        assert_eq!(header(&request, name), value, "{name}");
    }
    bench.event(exchange, opened());
    bench.event(
        exchange,
        streamed(None, &json!({"jsonrpc":"2.0","id":3,"method":"roots/list"})),
    );
    assert!(bench.heard().is_empty(), "a modern server may not ask");
    bench.host(&json!({"jsonrpc":"2.0","id":3,"result":{}}));
    bench.assert_waits();
    bench.machine.on_host_end();
    bench.event(exchange, streamed(None, &response(1)));
    assert_eq!(bench.heard(), [response(1)]);
    assert!(
        matches!(bench.finished, Some(None)),
        "there is no session to delete"
    );
}

#[test]
fn m7_a_modern_request_is_cancelled_by_closing_its_stream() {
    let mut bench = Bench::retrying(3);
    bench.host(&modern(1, "tools/call"));
    let (exchange, _) = bench.begin();
    bench.event(exchange, opened());
    bench.host(&cancelled(1));
    bench.assert_waits();
    assert_eq!(bench.aborted, [exchange]);
    bench.event(exchange, streamed(None, &response(1)));
    assert!(bench.heard().is_empty());
}

#[test]
fn m8_a_modern_stream_that_breaks_loses_the_request_and_is_not_resumed() {
    let mut bench = Bench::retrying(3);
    bench.host(&modern(1, "tools/call"));
    let (exchange, _) = bench.begin();
    bench.event(exchange, opened());
    bench.event(exchange, streamed(Some("e1"), &Value::Null));
    bench.event(exchange, ended());
    assert_failed(&bench.heard(), 1, "connection-lost", "unknown");
}

#[test]
fn m9_what_an_older_server_says_to_a_probe_reaches_the_host_as_an_error() {
    for (status_code, text) in [(400, "{\"error\":1}"), (404, ""), (405, "")] {
        let mut bench = Bench::retrying(3);
        bench.host(&modern(1, "server/discover"));
        let (exchange, _) = bench.begin();
        bench.event(
            exchange,
            Event::Answered(json_head(status_code), text.into()),
        );
        assert_failed(&bench.heard(), 1, "http-status", "no");
        bench.host(&initialize(2));
        assert_eq!(body(&bench.begin().1)["method"], "initialize");
    }
}

#[test]
fn m5_a_call_without_its_headers_is_posted_again_once_the_list_is_known() {
    let mismatch = |id: i64| {
        let error = json!({"jsonrpc":"2.0","id":id,"error":{"code":-32020,"message":"x"}});
        Event::Answered(json_head(400), error.to_string().into())
    };
    let mut bench = Bench::retrying(3);
    let mut call = modern(1, "tools/call");
    call["params"]["arguments"] = json!({"region":"west"});
    bench.host(&call);
    let (exchange, request) = bench.begin();
    assert_eq!(header(&request, "Mcp-Param-Region"), None);
    bench.event(exchange, mismatch(1));
    let (exchange, request) = bench.begin();
    assert_eq!(header(&request, "Mcp-Method"), Some("tools/list"));
    assert_eq!(header(&request, "MCP-Protocol-Version"), Some("2026-07-28"));
    bench.assert_waits();
    let schema =
        json!({"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}});
    let tools = json!({"tools":[{"name":"t","inputSchema":schema}]});
    let id = body(&request)["id"].clone();
    bench.event(
        exchange,
        Event::Answered(json_head(200), result_body(&id, &tools)),
    );
    let (exchange, request) = bench.begin();
    assert_eq!(header(&request, "Mcp-Param-Region"), Some("west"));
    assert_eq!(body(&request)["id"], 1);
    bench.event(exchange, mismatch(1));
    let heard = bench.heard();
    assert_eq!(heard.len(), 1, "the list is none of the host's business");
    assert_eq!(heard[0]["error"]["code"], -32020, "once is enough");
}
