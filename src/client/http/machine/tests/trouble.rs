//! Servers that are down, refuse, or redirect us; hosts that send nonsense.

use super::*;

#[test]
fn what_was_not_sent_is_sent_later_and_one_request_tries_for_all() {
    let mut bench = Bench::established();
    bench.host(&call(1));
    bench.host(&call(2));
    let ((one, _), (two, _)) = (bench.begin(), bench.begin());
    bench.event(one, failed(false));
    bench.event(two, failed(false));
    bench.assert_waits();
    bench.now += 2 * SECOND;
    let (probe, request) = bench.begin();
    assert_eq!(body(&request)["id"], 1);
    bench.assert_waits();
    bench.machine.on_connected(probe);
    let (other, request) = bench.begin();
    assert_eq!(body(&request)["id"], 2);
    bench.event(probe, ok(1));
    bench.event(other, ok(2));
    assert_eq!(bench.heard(), [response(1), response(2)]);
}

/// Bug: each request in flight when a server went away counted as an attempt, so a client
/// with several of them gave up at once.
#[test]
fn requests_that_fail_together_are_one_attempt() {
    let mut bench = Bench::established();
    let posted: Vec<_> = (1..=10)
        .map(|id| {
            bench.host(&call(id));
            bench.begin().0
        })
        .collect();
    for exchange in posted {
        bench.event(exchange, failed(false));
    }
    bench.assert_waits();
    assert_eq!(bench.gave_up, None);
    assert_eq!(bench.until, Some(bench.now + SECOND));
    bench.now += SECOND;
    let (probe, _) = bench.begin();
    bench.event(probe, failed(false));
    bench.assert_waits();
    assert_eq!(bench.until, Some(bench.now + 2 * SECOND));
}

#[test]
fn it_gives_up_after_so_many_attempts_or_at_once() {
    let mut bench = Bench::retrying(2);
    bench.host(&initialize(0));
    for _ in 0..3 {
        let (exchange, _) = bench.begin();
        bench.event(exchange, failed(false));
        bench.now += 60 * SECOND;
    }
    bench.assert_waits();
    let exhausted = GiveUp::Exhausted {
        attempts: 2,
        reason: "refused".to_owned(),
    };
    assert_eq!(bench.gave_up, Some(exhausted));
    bench.machine.give_up(
        &Failure::NOT_CONNECTED.because("refused".to_owned()),
        vec![format!("{}\n", call(1)).into()],
    );
    bench.assert_waits();
    assert_eq!(bench.heard.len(), 2);
    assert_failed(&bench.heard[..1], 0, "connection-lost", "no");
    assert_failed(&bench.heard[1..], 1, "connection-lost", "no");

    let mut bench = Bench::new(None);
    bench.host(&initialize(0));
    let (exchange, _) = bench.begin();
    bench.event(exchange, failed(false));
    bench.assert_waits();
    assert_eq!(
        bench.gave_up,
        Some(GiveUp::Unreachable("refused".to_owned()))
    );
}

#[test]
fn what_may_have_been_executed_is_not_sent_again() {
    let mut bench = Bench::established();
    bench.host(&call(1));
    let (exchange, _) = bench.begin();
    bench.event(exchange, failed(true));
    assert_failed(&bench.heard(), 1, "connection-lost", "unknown");
    for (code, executed) in [
        (400, "no"),
        (403, "no"),
        (413, "no"),
        (500, "unknown"),
        (502, "unknown"),
    ] {
        bench.host(&call(2));
        let (exchange, _) = bench.begin();
        bench.event(exchange, status(code));
        assert_failed(&bench.heard(), 2, "http-status", executed);
    }
}

#[test]
fn a_server_that_asks_to_come_back_later_is_asked_later() {
    let mut bench = Bench::established();
    bench.host(&call(1));
    let (exchange, _) = bench.begin();
    let later = Head {
        status: 503,
        retry_after: Some(7 * SECOND),
        ..Head::default()
    };
    bench.event(exchange, Event::Answered(later, Bytes::new()));
    bench.assert_waits();
    assert_eq!(bench.until, Some(bench.now + 7 * SECOND));
    bench.now += 7 * SECOND;
    let (exchange, _) = bench.begin();
    bench.event(exchange, ok(1));
    assert_eq!(bench.heard(), [response(1)]);
}

#[test]
fn a_redirect_is_followed_on_the_same_host_only() {
    let moved = |place: &str| {
        let head = Head {
            status: 307,
            location: Some(place.to_owned()),
            ..Head::default()
        };
        Event::Answered(head, Bytes::new())
    };
    let mut bench = Bench::established();
    bench.host(&call(1));
    let (exchange, _) = bench.begin();
    bench.event(exchange, moved("/mcp/"));
    let (exchange, request) = bench.begin();
    assert_eq!(request.target, "/mcp/");
    bench.event(exchange, moved("https://evil.example/mcp/"));
    assert_failed(&bench.heard(), 1, "http-status", "no");
    bench.host(&call(2));
    for _ in 0..=5 {
        let (exchange, _) = bench.begin();
        bench.event(exchange, moved("/mcp"));
    }
    assert_failed(&bench.heard(), 2, "http-status", "no");
}

#[test]
fn a_server_that_wants_a_token_ends_it_and_nothing_was_executed() {
    let mut bench = Bench::established();
    bench.host(&call(1));
    let (exchange, _) = bench.begin();
    let head = Head {
        status: 401,
        challenge: Some("Bearer".to_owned()),
        ..Head::default()
    };
    bench.event(exchange, Event::Answered(head, Bytes::new()));
    bench.assert_waits();
    assert_eq!(
        bench.gave_up,
        Some(GiveUp::Unauthorized(Some("Bearer".to_owned())))
    );
    bench
        .machine
        .give_up(&Failure::AUTHENTICATION_FAILED, Vec::new());
    bench.assert_waits();
    assert_failed(&bench.heard, 1, "authentication-failed", "no");
}

/// Bug: where there is no MCP server, the client went on, its log was empty and its exit code 0.
#[test]
fn a_first_initialize_where_no_mcp_is_spoken_ends_it() {
    for code in [404, 405, 426] {
        let mut bench = Bench::retrying(0);
        // A host may ask what there is.
        bench.host(&modern(1, "server/discover"));
        let (exchange, _) = bench.begin();
        bench.event(exchange, status(code));
        assert_failed(&bench.heard(), 1, "http-status", "no");
        bench.host(&initialize(2));
        let (exchange, _) = bench.begin();
        bench.event(exchange, status(code));
        bench.assert_waits();
        assert!(matches!(bench.gave_up, Some(GiveUp::Mismatch(_))), "{code}");
        bench.machine.give_up(&Failure::NOT_CONNECTED, Vec::new());
        bench.assert_waits();
        assert_failed(&bench.heard, 2, "connection-lost", "no");
    }
    let no_http = || {
        Event::Failed(Failed {
            sent: true,
            cause: Cause::Foreign,
            reason: "no HTTP".to_owned(),
        })
    };
    let mut bench = Bench::retrying(0);
    bench.host(&initialize(0));
    let (exchange, _) = bench.begin();
    bench.event(exchange, no_http());
    bench.assert_waits();
    let gave_up = GiveUp::Mismatch("no HTTP".to_owned());
    assert_eq!(bench.gave_up, Some(gave_up));
    let mut bench = Bench::established();
    bench.host(&call(1));
    let (exchange, _) = bench.begin();
    bench.event(exchange, no_http());
    assert_failed(&bench.heard(), 1, "connection-lost", "unknown");
    // Another status may pass, and a server that has been there may come back.
    let mut bench = Bench::retrying(0);
    bench.host(&initialize(0));
    let (exchange, _) = bench.begin();
    bench.event(exchange, status(502));
    assert_failed(&bench.heard(), 0, "http-status", "unknown");
    let mut bench = Bench::established();
    bench.host(&initialize(1));
    let (exchange, _) = bench.begin();
    bench.event(exchange, status(404));
    assert_failed(&bench.heard(), 1, "http-status", "no");
}

#[test]
fn what_is_no_message_is_refused_here() {
    let mut bench = Bench::established();
    bench.machine.on_host_lines(vec![
        Bytes::from_static(b"[]\n"),
        Bytes::from_static(b"{\n"),
    ]);
    let heard = bench.heard();
    assert_eq!(heard.len(), 2);
    assert!(
        heard.iter().all(|error| error["error"]["code"].is_i64()),
        "{heard:?}"
    );
}

#[test]
fn the_host_is_not_read_while_too_much_waits() {
    let mut bench = Bench::retrying(3);
    bench.host(&initialize(0));
    bench.begin();
    bench.assert_waits();
    assert!(bench.read_host);
    let large = json!({"jsonrpc":"2.0","id":1,"method":"x","params":{"x":"x".repeat(64 << 20)}});
    bench.host(&large);
    bench.assert_waits();
    assert!(!bench.read_host);
}
