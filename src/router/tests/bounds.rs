//! The written size of lines: whatever is sent, and however it grows on the way, no line is longer than
//! its receiver accepts.

mod random;

use super::*;
use crate::account::Account;
use crate::backlog::{Backlog, Bounds};
use crate::router::{Counted, PROCESSES};
use futures_util::FutureExt;
use serde_json::json;

/// A legacy peer with a request in flight, which has been asked a question; and the id of that.
fn asked() -> (Bench, SessionId, Value) {
    let mut bench = Bench::default();
    let peer = bench.legacy(r#"{"sampling":{}}"#);
    bench.child(0, r#"{"jsonrpc":"2.0","id":"the child's own id","method":"sampling/createMessage","params":{"_meta":{"progressToken":"its own token, which is long"}}}"#);
    let question = bench.told(peer)["id"].clone();
    bench.peer(peer, r#"{"jsonrpc":"2.0","id":5,"method":"x"}"#);
    bench.child_heard(0);
    (bench, peer, question)
}

/// The limit applies to the line that the process gets, to the byte, whatever the original line was.
#[test]
fn what_fits_to_the_byte_passes_and_one_byte_less_does_not() {
    let text = "a\u{2028}\u{85}\\t\u{2029}é".repeat(20);
    let (_, _, question) = asked();
    for line in [
        format!(
            r#"{{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{{"_meta":{{"progressToken":""}},"x":"{text}"}}}}"#
        ),
        format!(r#"{{"jsonrpc":"2.0","id":[],"method":"{text}"}}"#)
            .replace("[]", "\"longer than ours\""),
        format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{text}"]}}"#),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":5,"reason":"{text}"}}}}"#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{question},"message":"{text}"}}}}"#
        ),
        format!(r#"{{"jsonrpc":"2.0","id":{question},"result":{{"x":"{text}"}}}}"#),
    ] {
        let (mut bench, peer, _) = asked();
        bench.peer(peer, &line);
        let written = bench.out.to_child[0].len() - 1;
        let (mut bench, peer, _) = asked();
        bench.out.limits.to_child = written;
        assert_eq!(bench.try_peer(peer, &line), Ok(()), "{line}");
        assert_eq!(bench.out.to_child[0].len(), written + 1);
        let (mut bench, peer, _) = asked();
        bench.out.limits.to_child = written - 1;
        let refused = Err(TooLarge { limit: written - 1 });
        assert_eq!(bench.try_peer(peer, &line), refused, "{line}");
        assert_eq!(bench.router.pending_requests(peer), 1);
        assert!(bench.peers_heard().is_empty());
        let heard = bench.child_heard(0);
        if line.contains("result") {
            // The question does not stay open.
            assert_eq!(heard[0]["id"], "the child's own id");
            assert_eq!(heard[0]["error"]["data"]["reason"], "answer-too-large");
            bench.out.limits = LineLimits::default();
            bench.peer(peer, &line);
            assert!(bench.child_heard(0).is_empty());
        } else {
            assert!(heard.is_empty(), "{heard:?}");
        }
    }
}

/// Lines that the router itself makes from what a peer has sent, for this process or the next.
#[test]
fn what_is_told_again_is_measured_as_it_is_told() {
    let text = "\\t".repeat(100);
    let subscribe = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{text}"}}}}"#
    );
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#;
    for (line, most) in [(&*subscribe, 6 * 100 + 100), (level, 95)] {
        let (mut bench, peer, _) = asked();
        bench.out.limits.to_child = line.len() + 2;
        assert!(bench.try_peer(peer, line).is_err(), "{line}");
        assert!(bench.child_heard(0).is_empty());
        bench.out.limits.to_child = most;
        assert_eq!(bench.try_peer(peer, line), Ok(()), "{line}");
    }
    let initialize = |name: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"clientInfo":{{"name":"{name}"}}}}}}"#
        )
    };
    // The process gets another client name if this one makes the line too long.
    let own = "mcp-remote";
    for (name, to_child, heard) in [
        (&*"\u{2028}".repeat(100), 1200, &*"\u{2028}".repeat(100)),
        (&"\u{2028}".repeat(100), 800, own),
        ("x", 100, own),
        ("x", 800, "x"),
    ] {
        let mut bench = Bench::default();
        let peer = bench.attach();
        bench.out.limits.to_child = to_child;
        assert_eq!(bench.try_peer(peer, &initialize(name)), Ok(()));
        let told = bench.child_heard(0);
        assert_eq!(told[0]["params"]["clientInfo"]["name"], heard);
    }
}

/// A response that is too long leaves no one waiting, and a question that is too long is refused to the process.
#[test]
fn what_is_too_long_for_a_peer_is_answered() {
    let text = "\u{85}".repeat(200);
    let (mut bench, peer, _) = asked();
    bench.out.limits.to_peer = 600;
    bench.peer(peer, r#"{"jsonrpc":"2.0","id":"six","method":"x"}"#);
    let ours = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"error","data":"{text}"}}}}"#));
    assert!(bench.peers_heard().is_empty());
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{ours},"result":"{text}"}}"#),
    );
    let answer = bench.told(peer);
    assert_eq!(answer["id"], "six");
    assert_eq!(answer["error"]["data"]["reason"], "answer-too-large");
    assert_eq!(bench.router.pending_requests(peer), 1);
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{{"x":"{text}"}}}}"#));
    assert!(bench.peers_heard().is_empty());
    let refusal = &bench.child_heard(0)[0];
    assert_eq!(
        (&refusal["id"], &refusal["error"]["code"]),
        (&"q".into(), &(-32600).into())
    );
}

/// Bug: lines waiting for their turn were not counted towards `--max-backlog`.
#[test]
fn what_waits_for_its_turn_is_kept_for_its_session() {
    let backlog = Backlog::new(Bounds {
        total: 100_000,
        per_user: None,
    });
    let holder = backlog.holder(Account::User("greedy".into()));
    let counted = Counted {
        holder: holder.clone(),
        ..Counted::default()
    };
    let mut bench = Bench::with_places(1);
    bench.legacy("{}");
    let session = bench.router.attach_of_user(Profile::anybody(), &counted);
    let pad = "x".repeat(10_000);
    for id in 0..9 {
        bench.peer(
            session,
            &json!({"jsonrpc":"2.0","id":id,"method":"x","params":{"pad":pad}}).to_string(),
        );
    }
    assert_eq!(bench.child_heard(0).len(), 1);
    assert_eq!(holder.evicted().now_or_never(), None);
    for id in 9..13 {
        bench.peer(
            session,
            &json!({"jsonrpc":"2.0","id":id,"method":"x","params":{"pad":pad}}).to_string(),
        );
    }
    assert!(holder.evicted().now_or_never().is_some());
}
