//! Dead connections are found, and slow ones are not taken for dead.

use crate::load::{Host, Tally, stop};
use crate::relay::{Fault, Relay};
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
            // With nobody coming back the server finds out by itself.
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

/// Bug: a long message on a slow wire was silence; it was sent again and again, and never arrived.
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
