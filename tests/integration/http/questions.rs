//! Requests of the MCP server to clients that accept no streams.

use crate::common::Setup;
use crate::process::eventually;
use crate::support::http::{Session, call};
use serde_json::json;

const ELICIT: &str = "elicitation/create";

/// Bug: such a request waited for `--question-timeout`, and so did the call that it was about.
#[test]
fn a_client_that_reads_no_stream_is_not_asked_in_vain() {
    for (isolate, reason) in [
        ("--isolate=never", "\"ambiguous-requester\""),
        ("--isolate=asking", "\"client-unreachable\""),
    ] {
        let server = Setup::new("http").args(&[isolate]).start();
        let session = Session::begin(server.port);
        let ask = |id| {
            let asks = call(id, json!({"ask": ELICIT, "silent": true}));
            session.send("POST", &[("Accept", "application/json")], &asks)
        };
        for count in [1, 2] {
            let pending = ask(1);
            eventually("the question is refused", || {
                let refused = server.seen().matches(reason).count();
                (refused == count).then_some(())
            });
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
            assert_eq!(session.post(&cancel.to_string()).status(), 202);
            drop(pending);
        }
        let mut general = session.listen("");
        let _pending = ask(2);
        assert_eq!(general.event().unwrap().data["method"], ELICIT);
    }
}
