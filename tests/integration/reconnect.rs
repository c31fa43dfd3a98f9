//! The client over several connections: reconnecting, resuming, giving up.

use crate::client::{AGAIN, answer, assert_lost, free_port};
use crate::common::{BOTH, Setup, TestClient, client_command, request, token_with};
use crate::process::{assert_fails, eventually, run};
use crate::wire::{Acceptor, TestPeer};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn requests_in_flight_fail_when_the_connection_is_lost() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), &[], None);
        client.send(&request("a", "x", json!({})));
        client.send(&request(1, "x", json!({})));
        let mut server = acceptor.accept();
        server.next_line();
        server.next_line();
        drop(server);
        assert_lost(&client.next(), "a", "unknown");
        assert_lost(&client.next(), 1, "unknown");
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("use --auto-reconnect");
    }
}

#[test]
fn messages_of_the_host_wait_for_the_connection() {
    for transport in BOTH {
        let port = free_port();
        let mut client = TestClient::start(transport, port, AGAIN, None);
        for id in 0..20 {
            client.send(&request(id, "x", json!({})));
        }
        client.close_stdin();
        let mut server = Acceptor::at(transport, port).accept();
        let hello = r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#;
        assert_eq!(server.next_line().as_deref(), Some(hello));
        for id in 0..20 {
            assert_eq!(server.next_line(), Some(request(id, "x", json!({}))));
        }
        for id in 0..20 {
            server.send(&answer(&json!(id)));
            assert_eq!(client.next()["id"], id);
        }
        assert_eq!(client.wait(), Some(0));
    }
}

#[test]
fn a_client_that_gives_up_fails_what_its_host_waits_for() {
    for transport in BOTH {
        let args = [
            "--auto-reconnect",
            "--reconnect-delay",
            "10",
            "--max-attempts",
            "3",
        ];
        let mut client = TestClient::start(transport, free_port(), &args, None);
        client.send(&request(0, "x", json!({})));
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
        client.send(&request("0", "x", json!({})));
        assert_lost(&client.next(), 0, "no");
        assert_lost(&client.next(), "0", "no");
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("after 3 tries");
    }
}

/// A host that has left and is owed nothing does not keep its client alive.
#[test]
fn a_client_whose_host_has_left_stops_trying() {
    let args = ["--auto-reconnect", "--reconnect-delay", "20000"];
    let mut client = TestClient::start("tcp", free_port(), &args, None);
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}

#[test]
fn a_new_server_gets_the_handshake_and_the_host_does_not_notice() {
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}});
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), AGAIN, Some("t"));
        let welcome = |server: &mut TestPeer| {
            assert_eq!(server.next_line().as_deref(), Some("t"));
            server.send(r#"{"jsonrpc":"2.0","result":{"authenticated":true}}"#);
        };
        let mut server = acceptor.accept();
        welcome(&mut server);
        client.send(&request(0, "initialize", params.clone()));
        assert_eq!(server.next()["method"], "initialize");
        server.send(&answer(&json!(0)));
        assert_eq!(client.next()["id"], 0);
        client.send(initialized);
        assert_eq!(server.next_line().as_deref(), Some(initialized));
        client.send(&request("lost", "x", json!({})));
        server.next();
        for round in 0..2 {
            drop(server);
            if round == 0 {
                assert_lost(&client.next(), "lost", "unknown");
            }
            eventually("it has noticed", || {
                let log = client.log.text();
                (log.matches("reconnecting").count() == round + 1).then_some(())
            });
            client.send(&request(round, "y", json!({})));
            server = acceptor.accept();
            welcome(&mut server);
            let replay = server.next();
            assert_eq!(
                (&replay["method"], &replay["params"]),
                (&json!("initialize"), &params)
            );
            // The host's message waits until the handshake is complete.
            assert!(!server.has_more());
            server.send(&answer(&replay["id"]));
            assert_eq!(server.next_line().as_deref(), Some(initialized));
            assert_eq!(server.next()["id"], round);
            server.send(&answer(&json!(round)));
            assert_eq!(client.next()["id"], round);
        }
        client.log.wait_for("reconnected");
    }
}

#[test]
fn a_restarted_server_gets_the_next_request() {
    for transport in BOTH {
        let mut server = Setup::new(transport).start();
        let mut client = TestClient::start(transport, server.port, AGAIN, None);
        assert!(
            client.ask(0, "initialize", json!({"protocolVersion": "2025-06-18"}))["result"]
                .is_object()
        );
        client.ask(1, "x", json!({}));
        server.signal(Signal::TERM);
        server.wait();
        client.log.wait_for("reconnecting");
        let server = Setup::new(transport).port(server.port).start();
        let answer = client.ask(2, "y", json!({}));
        assert_eq!(answer["result"]["method"], "y", "{answer}");
        assert!(server.seen().contains("\"initialize\""));
    }
}

/// Bug: an authenticated client took "too many connections" for a refused token and gave up.
#[test]
fn a_full_server_is_tried_again() {
    for transport in BOTH {
        let setup = Setup::new(transport)
            .secret()
            .args(&["--max-connections", "1"]);
        let server = setup.start();
        let first = server.peer_with(&token_with(&[]));
        let args = ["--auto-reconnect", "--reconnect-delay", "100"];
        let mut client = TestClient::start(transport, server.port, &args, Some(&token_with(&[])));
        server.log.wait_for("too many connections");
        client.send(&request(0, "x", json!({})));
        drop(first);
        assert_eq!(client.next()["result"]["method"], "x");
        // Without --auto-reconnect it reports the cause.
        let mut command = client_command(transport, server.port);
        command.env("MCP_REMOTE_JWT_TOKEN", token_with(&["another"]));
        let outcome = run(&mut command, b"");
        assert_fails(&outcome, 1, "Too many connections");
    }
}

const LEAVE: &str = r#"{"jsonrpc":"2.0","method":"mcp-remote/leave","params":{}}"#;

fn control(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "method": format!("mcp-remote/{method}"), "params": params})
        .to_string()
}

/// Makes a session on a connection whose first line is `mcp-remote/resume`; returns its parameters.
fn resumed(server: &mut TestPeer, session: &str, received: u64, resumed: bool) -> Value {
    let hello = server.next();
    assert_eq!(hello["method"], "mcp-remote/resume", "{hello}");
    let params = json!({"session": session, "received": received, "resumed": resumed});
    server.send(&control("resumed", params));
    hello["params"].clone()
}

/// Bug: a client whose server ended each session at once, as idle, connected thousands of times a
/// second while its host waited for a response.
#[test]
fn a_server_that_ends_each_session_at_once_gets_pauses_and_is_given_up() {
    let delay = Duration::from_millis(200);
    let args = [
        "--auto-reconnect",
        "--reconnect-delay",
        "200",
        "--max-attempts",
        "3",
    ];
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), &args, None);
        client.send(&request(0, "x", json!({})));
        let mut last: Option<Instant> = None;
        for round in 0..4 {
            let mut server = acceptor.accept();
            // Pauses double, and are shortened by up to half.
            let pause = last.map(|last| last.elapsed());
            let least = delay * (1 << round) / 4;
            assert!(
                pause.is_none_or(|pause| pause >= least),
                "{pause:?} in round {round}"
            );
            resumed(&mut server, &format!("session {round}"), 0, false);
            last = Some(Instant::now());
            let drain = json!({"received": 0, "idle": true});
            server.send(&control("drain", drain));
            drop(server);
        }
        assert_lost(&client.next(), 0, "no");
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("after 3 tries");
    }
}

/// If a server had data to send before it ended an idle session, the client reconnects as soon as
/// the host needs it.
#[test]
fn a_dismissed_client_reconnects_as_soon_as_its_host_asks() {
    let args = ["--auto-reconnect", "--reconnect-delay", "20000"];
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), &args, None);
        for round in 0..3 {
            client.send(&request(round, "x", json!({})));
            let mut server = acceptor.accept();
            resumed(&mut server, &format!("session {round}"), 0, false);
            assert_eq!(
                next_but_acks(&mut server),
                Some(request(round, "x", json!({})))
            );
            server.send(&answer(&json!(round)));
            assert_eq!(client.next()["id"], round);
            server.send(&control("drain", json!({"received": 1, "idle": true})));
            drop(server);
            eventually("it has noticed", || {
                let log = client.log.text();
                (log.matches("ended the idle session").count() == round + 1).then_some(())
            });
        }
    }
}

/// The next line that is not a keepalive.
fn next_but_acks(server: &mut TestPeer) -> Option<String> {
    std::iter::from_fn(|| server.next_line()).find(|line| !line.contains("mcp-remote/ack"))
}

/// Bug: a notification in flight when the wire broke as the host left was lost.
#[test]
fn the_last_message_of_a_host_arrives_over_a_second_connection() {
    let note = r#"{"jsonrpc":"2.0","method":"notifications/last"}"#;
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), AGAIN, None);
        let mut server = acceptor.accept();
        resumed(&mut server, "s", 0, false);
        client.send(note);
        client.close_stdin();
        assert_eq!(next_but_acks(&mut server).as_deref(), Some(note));
        assert_eq!(next_but_acks(&mut server).as_deref(), Some(LEAVE));
        // Neither has been received.
        drop(server);
        let mut server = acceptor.accept();
        assert_eq!(resumed(&mut server, "s", 0, true)["session"], "s");
        assert_eq!(next_but_acks(&mut server).as_deref(), Some(note));
        assert_eq!(next_but_acks(&mut server).as_deref(), Some(LEAVE));
        server.send(&control("ack", json!({"received": 1})));
        assert_eq!(client.wait(), Some(0));
    }
}

/// A server that does not acknowledge the last lines is not waited for; and one that has
/// lost the session does not get the host's handshake again.
#[test]
fn a_goodbye_that_is_not_acknowledged_is_not_waited_for() {
    for forgets in [false, true] {
        let acceptor = Acceptor::new("tcp");
        let mut client = TestClient::start("tcp", acceptor.port(), AGAIN, None);
        let mut server = acceptor.accept();
        resumed(&mut server, "s", 0, false);
        client.send(&request(0, "initialize", json!({})));
        next_but_acks(&mut server);
        server.send(&answer(&json!(0)));
        client.next();
        client.close_stdin();
        let began = Instant::now();
        assert_eq!(next_but_acks(&mut server).as_deref(), Some(LEAVE));
        if forgets {
            drop(server);
            server = acceptor.accept();
            resumed(&mut server, "t", 0, false);
            assert_eq!(next_but_acks(&mut server).as_deref(), Some(LEAVE));
        }
        assert_eq!(client.wait(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
}

/// Bug: a client that had to repeat the handshake, and whose host had left, kept trying forever.
#[test]
fn a_client_whose_host_has_left_does_not_repeat_the_handshake() {
    let port = free_port();
    let args = [
        "--auto-reconnect",
        "--max-attempts",
        "0",
        "--reconnect-delay",
        "50",
    ];
    let mut client = TestClient::start("tcp", port, &args, None);
    let acceptor = Acceptor::at("tcp", port);
    let mut server = acceptor.accept();
    resumed(&mut server, "s", 0, false);
    client.send(&request(0, "initialize", json!({})));
    next_but_acks(&mut server);
    server.send(&answer(&json!(0)));
    client.next();
    // It counts wrongly, so that the client drops the session, and is gone.
    server.send(&control("ack", json!({"received": 9})));
    drop(acceptor);
    client.log.wait_for("connection lost");
    client.close_stdin();
    let began = Instant::now();
    assert_eq!(client.wait(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

/// Bug: without a token, what was sent before the server's first line was lost with the connection.
#[test]
fn no_message_is_sent_before_the_servers_first_line() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), AGAIN, None);
        client.send(&request(0, "x", json!({})));
        for _ in 0..3 {
            let mut server = acceptor.accept();
            assert_eq!(server.next()["method"], "mcp-remote/resume");
            assert!(!server.has_more());
        }
        let mut server = acceptor.accept();
        resumed(&mut server, "s", 0, false);
        assert_eq!(server.next()["id"], 0);
        server.send(&answer(&json!(0)));
        assert_eq!(client.next()["id"], 0);
    }
}
