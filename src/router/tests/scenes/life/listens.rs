//! Subscriptions of modern peers across the end of a process.

use super::*;

#[test]
fn an_open_listen_is_renewed_with_the_next_process() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.child(0, &acknowledgement(&listen));
    assert_eq!(
        bench.told(a)["method"],
        "notifications/subscriptions/acknowledged"
    );
    bench.exit(0, true);
    assert!(bench.peers_heard().is_empty());
    start_modern(&mut bench);
    assert_eq!(bench.child_heard(0), std::slice::from_ref(&listen));
    bench.child(0, &acknowledgement(&listen));
    let told = bench.told(a);
    assert_eq!(told["method"], "notifications/tools/list_changed");
    assert_eq!(
        told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        "listen-1"
    );
    // The server ends it; nothing remains.
    bench.child(
        0,
        &format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{}}}}}"#,
            listen["id"]
        ),
    );
    assert_eq!(bench.told(a)["params"]["requestId"], "listen-1");
    assert_eq!(bench.router.pending_requests(a), 0);
}

/// Bug: a cancelled one that the server ended with a notification counted as worked on until the process ended.
#[test]
fn a_cancelled_listen_is_over_once_the_server_says_so() {
    let wanted = r#""io.modelcontextprotocol/logLevel":"info","io"#;
    let log =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    let ends = |id: &Value| {
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
            .to_string()
    };
    for leaves in [true, false] {
        let mut bench = Bench::default();
        let (a, b) = (bench.modern(), bench.attach_user("bob"));
        bench.peer(a, &LISTEN.replacen(r#""io"#, wanted, 1));
        let listen = bench.child_heard(0).remove(0);
        if leaves {
            bench.detach(a);
        } else {
            bench.peer(a, &ends(&json!("listen-1")));
        }
        bench.peer(b, &MODERN_CALL.replacen(r#""io"#, wanted, 1));
        bench.child(0, log);
        assert_eq!(bench.peers_heard(), []);
        bench.child(0, &ends(&listen["id"]));
        bench.child(0, log);
        assert_eq!(bench.told(b)["method"], "notifications/message");
    }
}

/// One message was sent to process after process, and ended them all.
#[test]
fn a_listen_that_no_process_has_acknowledged_is_not_given_to_the_next() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).remove(0);
    bench.exit(0, true);
    let error = bench.told(a);
    assert_eq!(error["id"], "listen-1");
    assert_eq!(error["error"]["message"], "MCP server exited");
    assert_eq!(error["error"]["data"]["executed"], "unknown");
    start_modern(&mut bench);
    assert!(bench.child_heard(0).is_empty());
    // The same for a renewed one: the process that had acknowledged it is a different one.
    bench.peer(a, LISTEN);
    let listen = bench.child_heard(0).pop().unwrap_or(listen);
    bench.child(0, &acknowledgement(&listen));
    bench.told(a);
    bench.exit(0, true);
    start_modern(&mut bench);
    assert_eq!(bench.child_heard(0), [listen]);
    bench.exit(0, true);
    assert_eq!(bench.told(a)["error"]["message"], "MCP server exited");
    start_modern(&mut bench);
    assert!(bench.child_heard(0).is_empty());
    assert_eq!(bench.router.pending_requests(a), 0);
}

#[test]
fn a_renewed_listen_is_awaited_until_it_is_acknowledged_or_left() {
    for ending in ["acknowledged", "cancelled", "left"] {
        let (mut bench, a, listen) = listening_as_the_process_ends();
        start_modern(&mut bench);
        let awaited = bench.router.awaited(ProcessId(0));
        assert_eq!(
            awaited.map(|(_, method)| method),
            Some("subscriptions/listen")
        );
        match ending {
            "acknowledged" => bench.child(0, &acknowledgement(&listen)),
            "cancelled" => bench.peer(
                a,
                r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"listen-1"}}"#,
            ),
            _ => bench.router.detach(a, &mut bench.out),
        }
        assert_eq!(bench.router.awaited(ProcessId(0)), None, "{ending}");
    }
}

/// One that was renewed and then cancelled was acknowledged a second time.
#[test]
fn a_renewed_listen_that_is_cancelled_is_not_renewed_again() {
    let (mut bench, a, listen) = listening_as_the_process_ends();
    start_modern(&mut bench);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"listen-1"}}"#,
    );
    bench.child(0, &acknowledgement(&listen));
    assert!(bench.peers_heard().is_empty());
    bench.exit(0, true);
    start_modern(&mut bench);
    assert!(bench.router.processes[0].in_flight.is_empty());
}

/// One that came between two processes was sent twice, with the same id.
#[test]
fn a_listen_that_comes_between_two_processes_is_sent_once() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.exit(0, true);
    bench.peer(a, LISTEN);
    start_modern(&mut bench);
    let heard = bench.child_heard(0);
    assert_eq!(heard.len(), 1, "{heard:?}");
    bench.child(0, &acknowledgement(&heard[0]));
    assert_eq!(
        bench.told(a)["method"],
        "notifications/subscriptions/acknowledged"
    );
}

/// The first message of a process cancelled a request it did not know, which ends some servers.
#[test]
fn a_listen_that_ends_between_two_processes_is_not_cancelled() {
    for leaves in [true, false] {
        let (mut bench, a, _) = listening_as_the_process_ends();
        if leaves {
            bench.detach(a);
        } else {
            bench.peer(a, r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"listen-1"}}"#);
        }
        start_modern(&mut bench);
        assert!(bench.child_heard(0).is_empty());
        assert!(bench.router.processes[0].in_flight.is_empty());
    }
}

/// A renewed listen request contained its peer's own progress token, which may be the number of
/// another peer's request.
#[test]
fn a_renewed_listen_has_its_progress_token_mapped() {
    let mut bench = Bench::default();
    let a = bench.modern();
    bench.peer(
        a,
        &LISTEN.replace(r#""_meta":{"#, r#""_meta":{"progressToken":1,"#),
    );
    let listen = bench.child_heard(0).remove(0);
    assert_eq!(listen["params"]["_meta"]["progressToken"], listen["id"]);
    bench.child(0, &acknowledgement(&listen));
    bench.exit(0, true);
    start_modern(&mut bench);
    assert_eq!(bench.child_heard(0), [listen]);
}

/// Bug: after 2^30 further requests its id was given to another peer's, which got its notifications.
#[test]
fn a_listen_keeps_its_id_for_itself_however_many_requests_follow() {
    let mut bench = Bench::default();
    let (a, b) = (bench.modern(), bench.modern());
    let listen = |bench: &mut Bench, session| {
        bench.peer(session, LISTEN);
        let listen = bench.child_heard(0).remove(0);
        bench.child(0, &acknowledgement(&listen));
        bench.told(session);
        listen["id"].clone()
    };
    let old = listen(&mut bench, a);
    let number = bench.number(&old);
    for rounds in 1..4 {
        bench.router.peers.numbers.newest = number + (rounds << 30) - 1;
        let new = listen(&mut bench, b);
        assert_ne!(old, new);
        for (session, id) in [(a, &old), (b, &new)] {
            let params = json!({"uri":"x:1","_meta":{"io.modelcontextprotocol/subscriptionId":id}});
            let updated =
                json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":params});
            bench.child(0, &updated.to_string());
            bench.told(session);
        }
        bench.done(&new);
        bench.told(b);
    }
    bench.done(&old);
    assert_eq!(bench.told(a)["id"], "listen-1");
    assert_eq!(bench.router.pending_requests(a), 0);
}
