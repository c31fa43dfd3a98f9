//! Servers that stop while requests are in flight, and sessions whose
//! MCP server has exited.

use crate::common::{BOTH, Setup, TestClient, request};
use crate::load::{AGAIN, ALERT, Host, Tally, stop};
use crate::process::eventually;
use crate::relay::{Fault, Relay};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::time::{Duration, Instant};

/// Bug: sessions without a connection ended at the first signal, whatever they were owed.
#[test]
fn who_is_away_when_the_server_stops_may_still_come_back() {
    for transport in BOTH {
        for args in [&[][..], &["--isolate"]] {
            let tally = Tally::new();
            let setup = tally.server(transport).secret().args(args);
            let mut server = setup.args(&["--drain-timeout", "20s"]).start();
            let relay = Relay::new(server.port);
            let mut host = Host::start(transport, relay.port, 1, true);
            host.initialize();
            host.ask_sized(0, 10, 10, 1000);
            eventually("it is executed", || {
                (tally.executed(1).len() == 1).then_some(())
            });
            relay.refuse(true);
            relay.strike(Fault::Reset, 0);
            server.log.wait_for("waiting for the client to come back");
            server.signal(Signal::TERM);
            server.log.wait_for("a second signal ends at once");
            // A client without a session is told to come back later.
            let mut stranger = server.peer();
            let token = crate::common::token_with(&["somebody", "else"]);
            let answer = stranger.login(&token);
            assert_eq!(answer["error"]["data"]["reason"], "stopping", "{answer}");
            relay.refuse(false);
            host.hear_until(0);
            assert_eq!((host.counts.answered, host.counts.failed), (1, 0));
            let began = Instant::now();
            assert_eq!(server.wait().code(), Some(0));
            // Nothing is left to wait for.
            assert!(
                began.elapsed() < Duration::from_secs(8),
                "{:?}",
                began.elapsed()
            );
            host.client.close_stdin();
            assert_eq!(host.client.wait_unheard(), Some(0));
        }
    }
}

/// A session that is owed nothing, or whose client does not return, does not delay the server.
#[test]
fn nobody_is_waited_for_longer_than_it_makes_sense() {
    for (delay, least) in [(0, 0), (60_000, 1)] {
        let tally = Tally::new();
        let setup = tally.server("tcp").args(&["--drain-timeout", "1s"]);
        let mut server = setup.start();
        let relay = Relay::new(server.port);
        let mut host = Host::start("tcp", relay.port, 1, false);
        host.loses = true;
        host.initialize();
        host.ask_sized(0, 10, 10, delay);
        if delay == 0 {
            host.hear_until(0);
            // The acknowledgement of the last answer.
            std::thread::sleep(Duration::from_millis(1500));
        } else {
            eventually("it is executed", || {
                (tally.executed(1).len() == 1).then_some(())
            });
        }
        relay.refuse(true);
        relay.strike(Fault::Reset, 0);
        server.log.wait_for("waiting for the client to come back");
        let began = Instant::now();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(least) && took < Duration::from_secs(least + 3),
            "{took:?}"
        );
        host.client.signal(Signal::TERM);
        host.client.wait_unheard();
    }
}

/// With the default settings, acknowledgements included.
#[test]
fn a_server_whose_clients_have_everything_stops_soon() {
    for transport in BOTH {
        let server = Setup::new(transport).args(&["--drain-timeout", "20s"]);
        let mut server = server.start();
        let mut client = TestClient::start(transport, server.port, AGAIN, None);
        assert_eq!(client.ask(1, "x", json!({}))["id"], 1);
        let began = Instant::now();
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
}

/// Bug: while the server drained, the host could not answer the MCP server's questions, and the
/// request that had led to the question could not finish.
#[test]
fn questions_are_answered_while_the_server_drains() {
    for transport in BOTH {
        let server = Setup::new(transport).args(ALERT);
        let mut server = server.args(&["--drain-timeout", "20s"]).start();
        let flags = [AGAIN, ALERT].concat();
        let mut client = TestClient::start_with(transport, server.port, |command| {
            command.args(&flags).env("DEBUG", "true");
        });
        let params = json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}});
        client.ask("init", "initialize", params);
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let params = json!({"ask": "elicitation/create", "delayMs": 3000});
        client.send(&request(1, "tools/call", params));
        let question = client.next();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        server.signal(Signal::TERM);
        client.log.wait_for("the server ends the session soon");
        // This is for the successor, and the answer overtakes it.
        client.send(&request(2, "tools/call", json!({"for": "the successor"})));
        let answer =
            json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}});
        client.send(&answer.to_string());
        server.wait_seen("\"decline\"");
        assert_eq!(client.next()["id"], 1);
        assert_eq!(server.wait().code(), Some(0));
        assert!(!server.seen().contains("the successor"));
        let server = Setup::new(transport).port(server.port).args(ALERT).start();
        let answer = client.next();
        assert_eq!(
            (&answer["id"], &answer["result"]["params"]["for"]),
            (&json!(2), &json!("the successor"))
        );
        assert!(!server.seen().contains("decline"));
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
}

/// Bug: a session waiting for its client held the slot of a process that had exited.
#[test]
fn a_process_that_has_ended_leaves_its_place_and_its_last_words() {
    for transport in BOTH {
        let tally = Tally::new();
        let setup = tally.server(transport);
        let server = setup.args(&["--isolate", "--max-children", "1"]).start();
        let relay = Relay::new(server.port);
        let mut host = Host::start(transport, relay.port, 1, false);
        host.loses = true;
        host.initialize();
        host.ask_sized(0, 1, 1, 60_000);
        let child = eventually("it is executed", || {
            let text = tally.text();
            let line = text.lines().find(|line| line.starts_with("run 1 0 "))?;
            line.split(' ').next_back()?.parse().ok()
        });
        relay.refuse(true);
        relay.strike(Fault::Reset, 0);
        server.log.wait_for("waiting for the client to come back");
        kill_process(Pid::from_raw(child).unwrap(), Signal::KILL).unwrap();
        server.log.wait_for("MCP server ended");
        let mut other = Host::start(transport, server.port, 2, false);
        other.initialize();
        other.ask_sized(0, 1, 1, 0);
        other.hear_until(0);
        other.leave();
        relay.refuse(false);
        host.client.log.wait_for("nothing is lost");
        host.hear_until(0);
        assert_eq!(host.failed, [0]);
        // A new process, and the handshake is repeated.
        host.ask_sized(1, 1, 1, 0);
        host.hear_until(0);
        assert_eq!(tally.executed(1), [0, 1]);
        host.leave();
        stop(server);
    }
}
