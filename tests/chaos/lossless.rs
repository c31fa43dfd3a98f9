//! While both ends live, broken connections cost nothing: nothing lost, nothing doubled, nothing
//! hung, nothing out of order.

use crate::load::{Host, Seed, Tally, seeds, stop};
use crate::process::PATIENCE;
use crate::relay::{Plan, Relay};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

const REQUESTS: u64 = 2000;
const CUTS: usize = 50;

/// Most requests in flight; a host asks a few things at a time, and now and then many.
const MOST: usize = 64;

fn run(transport: &'static str, seed: u64, setup: impl Fn(&Tally) -> crate::common::Setup) {
    let _seed = Seed(seed, transport);
    let mut random = StdRng::seed_from_u64(seed);
    let tally = Tally::new();
    let server = setup(&tally).start();
    let relay = Relay::new(server.port);
    let began = Instant::now();
    let mut host = Host::start(transport, relay.port, 1, true);
    host.initialize();
    let plan = Plan {
        cuts: CUTS,
        every: 300 << 10,
        silent: true,
    };
    relay.begin(plan, seed);
    // More than the requests asked for, where the wire has not broken often enough by then.
    while host.asked() < REQUESTS || (relay.cuts() < CUTS && host.asked() < 20 * REQUESTS) {
        host.ask(&mut random);
        let most = if random.random_ratio(1, 50) { 0 } else { MOST };
        if host.owed() > most {
            host.hear_until_within(most, PATIENCE);
        }
        host.hear();
    }
    host.hear_until(0);
    let asked = host.asked();
    host.leave();
    let counts = host.counts;
    assert_eq!((counts.answered as u64, counts.failed), (asked, 0));
    assert_eq!(counts.notes, asked, "a notification is lost");
    let expected: Vec<u64> = (0..asked).collect();
    assert!(
        tally.executed(1) == expected,
        "not executed once and in order"
    );
    assert!(relay.cuts() >= CUTS, "only {} cuts", relay.cuts());
    let text = tally.text();
    assert!(
        !text.contains("mcp-remote/"),
        "a control line has reached the child"
    );
    let log = host.client.log.text();
    assert!(!log.contains("does not know us"), "{log}");
    if std::env::var_os("CHAOS_LOG").is_some() {
        println!("{log}");
    }
    println!(
        "{transport} seed {seed}: {asked} requests, {} cuts, {} connections, all answered and executed once and in order, {:.1} s",
        relay.cuts(),
        relay.connections(),
        began.elapsed().as_secs_f64()
    );
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "too slow: {:?}",
        began.elapsed()
    );
    stop(server);
}

#[test]
fn nothing_is_lost_over_tcp() {
    for seed in seeds(&[1, 2, 3]) {
        run("tcp", seed, |tally| tally.server("tcp").secret());
    }
}

#[test]
fn nothing_is_lost_over_websocket() {
    for seed in seeds(&[1, 2, 3]) {
        run("ws", seed, |tally| tally.server("ws").secret());
    }
}

#[test]
fn nothing_is_lost_with_a_child_of_ones_own() {
    for seed in seeds(&[4]) {
        run("tcp", seed, |tally| {
            tally
                .server("tcp")
                .secret()
                .args(&["--isolate", "--max-children", "1"])
        });
    }
}
