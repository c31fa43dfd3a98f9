//! Dead connections are detected, and slow ones are not mistaken for dead.

use crate::common::{BOTH, Setup};
use crate::load::{ALERT, Host, Tally, stop};
use crate::process::{eventually, is_alive, wait_gone};
use crate::relay::{Fault, Relay};
use crate::wire::TestPeer;
use std::time::{Duration, Instant};

/// [`crate::load::ALERT`] has 1.5 s.
const FOUND: Duration = Duration::from_secs(5);

#[test]
fn a_black_hole_is_found_from_both_ends() {
    for transport in crate::common::BOTH {
        for (fault, direction) in [(Fault::BlackHole, 0), (Fault::Stall, 0), (Fault::Stall, 1)] {
            let tally = Tally::new();
            let server = tally.server(transport).start();
            let relay = Relay::new(server.port);
            let mut host = Host::start(transport, relay.port, 1, false);
            host.initialize();
            host.ask_sized(0, 10, 10, 0);
            host.hear_until(0);
            relay.strike(fault, direction);
            let began = Instant::now();
            host.ask_sized(1, 10, 10, 0);
            host.hear_until(0);
            assert!(began.elapsed() < FOUND, "{fault:?} {:?}", began.elapsed());
            host.client.log.wait_for("nothing is lost");
            // Without a returning client the server detects it by itself.
            relay.refuse(true);
            relay.strike(Fault::BlackHole, 0);
            let began = Instant::now();
            let found = || server.log.text().matches("waiting for the client").count();
            let before = found();
            while found() == before {
                assert!(
                    began.elapsed() < FOUND,
                    "{fault:?}: the server found nothing"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
            relay.refuse(false);
            host.ask_sized(2, 10, 10, 0);
            host.hear_until(0);
            host.leave();
            assert_eq!(tally.executed(1), [0, 1, 2]);
            stop(server);
        }
    }
}

/// Bug: a long message on a slow wire counted as silence; it was sent again and again, and never arrived.
#[test]
fn a_long_message_on_a_slow_wire_is_no_silence() {
    for transport in crate::common::BOTH {
        let tally = Tally::new();
        let server = tally.server(transport).start();
        let relay = Relay::new(server.port);
        let mut host = Host::start(transport, relay.port, 1, false);
        host.initialize();
        relay.strike(Fault::Slow, 0);
        host.ask_sized(0, 300_000, 300_000, 0);
        host.hear_until(0);
        host.leave();
        let log = host.client.log.text();
        assert!(!log.contains("lost"), "{log}");
        assert_eq!(relay.connections(), 1);
        stop(server);
    }
}

/// Bug: keepalives kept an unused session busy. It ends for good, and the client reconnects
/// only when there is something to send.
#[test]
fn a_session_that_nobody_uses_ends() {
    for transport in BOTH {
        let tally = Tally::new();
        let setup = tally.server(transport).secret();
        let server = setup.args(&["--isolate", "--idle-timeout", "2s"]).start();
        let relay = Relay::new(server.port);
        let mut host = Host::start(transport, relay.port, 1, true);
        host.loses = true;
        host.initialize();
        // A request that takes longer is not idle time.
        host.ask_sized(0, 1, 1, 3000);
        host.hear_until(0);
        let child = |text: &str| text.lines().last()?.split(' ').next_back()?.parse().ok();
        let first: u64 = eventually("it is executed", || child(&tally.text()));
        assert!(is_alive(first));
        host.client.log.wait_for("has ended the idle session");
        wait_gone(first);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(relay.connections(), 1, "it came back for nothing");
        host.ask_sized(1, 1, 1, 0);
        host.hear_until(0);
        assert_eq!((host.counts.answered, host.counts.failed), (2, 0));
        assert_eq!(tally.executed(1), [0, 1]);
        let log = host.client.log.text();
        assert!(!log.contains("lost") && !log.contains("WARN"), "{log}");
        // A host that leaves meanwhile is not delayed.
        eventually("it ends again", || {
            let log = host.client.log.text();
            (log.matches("has ended the idle session").count() == 2).then_some(())
        });
        host.leave();
        stop(server);
    }
}

/// A message sent at the moment when an idle session ends goes to the next one.
#[test]
fn nothing_is_lost_at_the_end_of_an_idle_session() {
    for transport in BOTH {
        let tally = Tally::new();
        let server = tally
            .server(transport)
            .args(&["--idle-timeout", "50ms"])
            .start();
        let mut host = Host::start(transport, server.port, 1, false);
        host.loses = true;
        host.initialize();
        let ends = |host: &Host| {
            let log = host.client.log.text();
            log.matches("ended the idle session").count()
        };
        let mut asked = 0;
        // On a busy machine it takes longer to hit that moment.
        while asked < 60 || ends(&host) < 2 {
            assert!(asked < 1000, "only {} ends", ends(&host));
            std::thread::sleep(Duration::from_millis(40 + asked % 25));
            host.ask_sized(asked, 1, 1, 0);
            host.hear();
            asked += 1;
        }
        host.hear_until(0);
        assert_eq!(host.failed, [0u64; 0]);
        assert_eq!(tally.executed(1), (0..asked).collect::<Vec<_>>());
        let log = host.client.log.text();
        assert!(!log.contains("lost"), "{log}");
        host.leave();
        stop(server);
    }
}

/// Keepalives from a peer that sends nothing else are not messages, whatever the peer is.
#[test]
fn acknowledgements_are_no_messages() {
    let server = Setup::new("tcp")
        .args(ALERT)
        .args(&["--idle-timeout", "1s"])
        .start();
    let mut peer = TestPeer::connect("tcp", server.port);
    peer.send(
        r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#,
    );
    peer.drip(
        b"{\"jsonrpc\":\"2.0\",\"method\":\"mcp-remote/ack\",\"params\":{\"received\":0}}\n\n",
    );
    server.log.wait_for("idle for too long");
    let last = std::iter::from_fn(|| peer.next_line()).last();
    assert!(last.is_some_and(|line| line.contains("\"idle\":true")));
}
