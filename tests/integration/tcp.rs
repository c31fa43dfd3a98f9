//! Lines over TCP, byte for byte, and the limits on them.

use crate::common::{BOTH, Setup, TestServer, request, token_with};
use crate::process::eventually;
use crate::questions::{ELICIT, shake_hands};
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn lines_are_cut_at_newlines_only() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let three: Vec<String> = (0..3)
        .map(|id| request(id, "three", json!({})) + "\n")
        .collect();
    peer.raw(three.concat().as_bytes());
    for id in 0..3 {
        assert_eq!(peer.next()["id"], id);
    }
    // One message in many segments, with the beginning of the next.
    let text = format!(
        "{}\r\n\n  \r\n{}",
        request(4, "é\u{2028}", json!({})),
        request(5, "next", json!({}))
    );
    for piece in text.as_bytes().chunks(3) {
        peer.raw(piece);
    }
    assert_eq!(peer.next()["result"]["method"], "é\u{2028}");
    peer.raw(b"\n");
    assert_eq!(peer.next()["id"], 5);
}

#[test]
fn an_answer_is_one_line() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    peer.send(&request(0, "x", json!({"print": "not\nfor\npeers\n"})));
    let line = peer.next_line().unwrap();
    assert!(
        line.starts_with(r#"{"jsonrpc":"2.0","id":0,"result":{"#),
        "{line}"
    );
}

/// `printf … | nc` sends no more but still listens.
#[test]
fn half_closed_peer_gets_its_answers() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    peer.send(&request(0, "x", json!({"delayMs": 300})));
    peer.shut_down();
    assert_eq!(peer.next()["id"], 0);
    peer.assert_closed();
}

/// `nc -N` and socat close their sending half at the end of input. Bug: responses that took longer than a
/// second were lost.
#[test]
fn half_closed_peer_gets_every_answer_and_then_the_end() {
    for isolate in [&[][..], &["--isolate"]] {
        let setup = Setup::new("tcp").args(isolate);
        let server = setup.start();
        let mut peer = server.peer();
        let initialize = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "nc", "version": "1"},
        });
        peer.send(&request(1, "initialize", initialize));
        peer.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        peer.send(&request(2, "tools/call", json!({"delayMs": 3000})));
        peer.shut_down();
        assert_eq!(peer.next()["id"], 1, "{isolate:?}");
        assert_eq!(peer.next()["id"], 2, "{isolate:?}");
        peer.assert_closed();
    }
}

/// Bug: a probe that was due together with the last response followed it, so that a reader of lines got half
/// a line at the end.
#[test]
fn half_closed_peer_gets_nothing_after_its_last_response() {
    let server = TestServer::start("tcp");
    let peers = (90..150).map(|delay| {
        let mut peer = server.peer();
        peer.send(&request(0, "x", json!({"delayMs": delay})));
        peer.shut_down();
        peer
    });
    let peers: Vec<_> = peers.collect();
    for mut peer in peers {
        let rest = peer.rest();
        assert!(rest.ends_with("}\n"), "{rest:?}");
    }
}

#[test]
fn half_closed_peer_that_is_owed_nothing_is_closed_at_once() {
    // If it were closed for being idle, the log would say so.
    let setup = Setup::new("tcp").args(&["--idle-timeout", "20s"]);
    let server = setup.start();
    let mut peer = server.peer();
    assert_eq!(peer.ask(1, "x", json!({}))["id"], 1);
    peer.shut_down();
    peer.assert_closed();
    server.log.wait_for("the peer has left");
}

#[test]
fn half_closed_peer_waits_no_longer_than_the_idle_timeout() {
    let setup = Setup::new("tcp").args(&["--idle-timeout", "1s"]);
    let server = setup.start();
    let mut peer = server.peer();
    peer.send(&request(1, "tools/call", json!({"silent": true})));
    peer.shut_down();
    peer.assert_closed();
    server
        .log
        .wait_for("it has said all, and its answers take too long");
    server.wait_seen("notifications/cancelled");
}

#[test]
fn half_closed_peer_is_asked_nothing_and_subscribed_to_nothing() {
    for isolate in [&[][..], &["--isolate"]] {
        let setup = Setup::new("tcp").args(isolate);
        let server = setup.start();
        let mut peer = server.peer();
        shake_hands(&mut peer);
        let subscribe = peer.ask(1, "resources/subscribe", json!({"uri": "test:half-closed"}));
        assert_eq!(subscribe["id"], 1);
        let call = json!({"ask": ELICIT, "delayMs": 2000});
        let question = peer.ask(2, "tools/call", call);
        assert_eq!(question["method"], ELICIT);
        let began = Instant::now();
        peer.shut_down();
        // The MCP server gets an error at once, not when the answer is due.
        server.wait_seen("the client has disconnected");
        if isolate.is_empty() {
            server.wait_seen("resources/unsubscribe");
        }
        let waited = began.elapsed();
        assert!(waited < Duration::from_secs(2), "{isolate:?}: {waited:?}");
        assert_eq!(peer.next()["id"], 2, "{isolate:?}");
        peer.assert_closed();
    }
}

/// Bug: a peer killed during a call looked as if it had only closed its sending half, and the call was not
/// cancelled.
#[test]
fn peer_that_closes_altogether_has_its_calls_cancelled() {
    for isolate in [&[][..], &["--isolate"]] {
        let server = Setup::new("tcp").args(isolate).start();
        let mut peer = server.peer();
        shake_hands(&mut peer);
        assert_eq!(peer.ask(1, "x", json!({}))["id"], 1);
        peer.send(&request(2, "tools/call", json!({"silent": true})));
        drop(peer);
        server.log.wait_for("disconnected");
        if isolate.is_empty() {
            server.wait_seen("notifications/cancelled");
        }
    }
}

/// Bug: a response that was half written when the peer had finished sending was cut off.
#[test]
fn half_closed_peer_gets_long_answers_whole() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let bytes = 8 << 20;
    peer.send(&request(0, "x", json!({"bytes": bytes})));
    // Some of it has arrived, the rest does not fit in the socket buffers.
    peer.wait_readable();
    peer.shut_down();
    // If it gave up now, it would say so at once.
    let deadline = Instant::now() + Duration::from_millis(300);
    eventually("the server has heard it", || {
        let gone = server.log.text().contains("disconnected");
        (gone || Instant::now() > deadline).then_some(())
    });
    let answer = peer.next();
    assert_eq!(answer["result"]["blob"].as_str().unwrap().len(), bytes);
}

#[test]
fn large_messages_arrive_intact() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peer = server.peer();
        let blob = "0123456789abcdé☃".repeat(256 << 10);
        let answer = peer.ask(0, "large", json!({"payload": blob, "bytes": 6 << 20}));
        assert!(
            answer["result"]["params"]["payload"] == blob,
            "{transport}: changed on the way"
        );
        assert_eq!(answer["result"]["blob"].as_str().unwrap().len(), 6 << 20);
    }
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    for transport in BOTH {
        let setup = Setup::new(transport).args(&["--max-message-size", "64KiB"]);
        let server = setup.start();
        let padded = |size: usize| {
            let line = request(1, "x", json!({"pad": ""}));
            line.replace(
                r#""pad":"""#,
                &format!(r#""pad":"{}""#, "p".repeat(size - line.len())),
            )
        };
        let mut peer = server.peer();
        peer.send(&padded(64 << 10));
        assert_eq!(peer.next()["id"], 1, "{transport}");
        peer.send(&padded((64 << 10) + 1));
        let answer = peer.next();
        assert_eq!(
            answer["error"]["message"], "Invalid Request: a message is longer than 65536 bytes",
            "{transport}"
        );
        assert_eq!(answer["id"], 1);
        assert_eq!(peer.ask(2, "x", json!({}))["id"], 2);
    }
}

#[test]
fn one_connection_too_many_is_told_so() {
    let says = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"Too many connections","data":{"source":"mcp-remote","reason":"too-many-connections","executed":"no"}}}"#;
    for transport in BOTH {
        let setup = Setup::new(transport)
            .secret()
            .args(&["--max-connections", "2"]);
        let server = setup.start();
        let token = token_with(&[]);
        let mut peers = [server.peer_with(&token), server.peer_with(&token)];
        let mut third = server.peer();
        third.send(&token);
        assert_eq!(third.next_line().as_deref(), Some(says));
        third.assert_closed();
        assert_eq!(peers[0].ask(1, "ping", json!({}))["id"], 1);
        drop(peers);
        eventually("a place is free again", || {
            let answer = server.peer().login(&token_with(&[]));
            answer.get("result").is_some().then_some(())
        });
    }
}

#[test]
fn idle_connections_are_closed() {
    for transport in BOTH {
        let server = Setup::new(transport)
            .args(&["--idle-timeout", "700ms"])
            .start();
        let begin = Instant::now();
        let mut peer = server.peer();
        let mut busy = server.peer();
        let mut asked = 0;
        while begin.elapsed() < Duration::from_millis(900) {
            asked += 1;
            assert_eq!(busy.ask(asked, "ping", json!({"delayMs": 50}))["id"], asked);
        }
        peer.assert_closed();
        drop(peer);
        assert!(begin.elapsed() > Duration::from_millis(690));
        server.log.wait_for("idle for too long");
        assert_eq!(
            busy.ask("still here", "ping", json!({}))["id"],
            "still here"
        );
    }
}

#[test]
fn without_a_secret_only_loopback_is_listened_on() {
    let open = Setup::new("tcp").args(&["--host", "0.0.0.0"]).start();
    open.log.wait_for("set MCP_REMOTE_JWT_SECRET");
    open.assert_serving();
    let local = TestServer::start("tcp");
    local.assert_serving();
    assert!(!local.log.text().contains("WARN"), "{}", local.log.text());
}
