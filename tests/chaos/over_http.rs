//! `client http` and `server http` with an unreliable wire between them, and a server that dies: every
//! request gets one response or one error, and none runs twice. HTTP has no acknowledgements, so what is
//! cut before its stream has started is lost, and the host gets an error.

use crate::common::token_with;
use crate::load::{Host, Seed, Tally, seeds, stop};
use crate::process::wait_gone;
use crate::relay::{Plan, Relay};
use crate::restart::assert_replayed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use std::collections::HashSet;

const REQUESTS: u64 = 600;
const CUTS: usize = 40;

/// Most requests in flight.
const MOST: usize = 32;

fn host(port: u16, modern: bool) -> Host {
    let mut host = Host::over_http(port, &token_with(&["user"]));
    host.loses = true;
    host.modern = modern;
    if !modern {
        host.initialize();
    }
    host
}

/// One response or error per request; what got a response ran once, and what was reported as not executed
/// did not run.
fn assert_accounted(host: &Host, tally: &Tally) {
    let executed = tally.executed(1);
    let once: HashSet<u64> = executed.iter().copied().collect();
    assert_eq!(once.len(), executed.len(), "something was executed twice");
    let failed: HashSet<u64> = host.failed.iter().copied().collect();
    let missing = (0..host.asked()).filter(|n| !once.contains(n) && !failed.contains(n));
    assert_eq!(missing.count(), 0, "answered, but not executed");
    let ran: Vec<&u64> = host
        .not_executed
        .iter()
        .filter(|n| once.contains(n))
        .collect();
    assert!(ran.is_empty(), "said not to have run: {ran:?}");
    let ended = host.counts.answered + host.counts.failed;
    assert_eq!(ended as u64, host.asked());
}

fn cut_at_any_byte(seed: u64, modern: bool) {
    let _seed = Seed(seed, "http");
    let mut random = StdRng::seed_from_u64(seed);
    let tally = Tally::new();
    let server = tally.server("http").secret().start();
    let relay = Relay::new(server.port);
    let mut host = host(relay.port, modern);
    let plan = Plan {
        cuts: CUTS,
        every: 40 << 10,
        silent: false,
    };
    relay.begin(plan, seed);
    while host.asked() < REQUESTS || (relay.cuts() < CUTS && host.asked() < 20 * REQUESTS) {
        host.ask(&mut random);
        let most = if random.random_ratio(1, 50) { 0 } else { MOST };
        if host.owed() > most {
            host.hear_until(most);
        }
        host.hear();
    }
    host.hear_until(0);
    relay.calm();
    println!(
        "http, seed {seed}, modern {modern}: {:?}, {} cuts, {} connections",
        host.counts,
        relay.cuts(),
        relay.connections()
    );
    assert!(relay.cuts() >= CUTS, "only {} cuts", relay.cuts());
    assert_accounted(&host, &tally);
    assert!(
        host.counts.answered > host.counts.failed,
        "{:?}",
        host.counts
    );
    host.leave();
    stop(server);
}

#[test]
fn every_request_over_http_has_one_answer_or_error() {
    for seed in seeds(&[1, 2]) {
        cut_at_any_byte(seed, false);
    }
}

#[test]
fn every_request_without_a_session_has_one_answer_or_error() {
    for seed in seeds(&[4]) {
        cut_at_any_byte(seed, true);
    }
}

/// A response whose stream has started is not lost with its connection.
#[test]
fn a_stream_that_has_begun_is_resumed() {
    let tally = Tally::new();
    let server = tally.server("http").secret().start();
    let relay = Relay::new(server.port);
    let mut host = host(relay.port, false);
    for n in 0..10 {
        // Its progress comes at once, its response later.
        host.ask_sized(n, 10, 10, 700);
        host.hear_notes(n + 1);
        relay.strike(crate::relay::Fault::Reset, 1);
        host.hear_until(0);
    }
    assert_eq!((host.counts.answered, host.counts.failed), (10, 0));
    assert_eq!(tally.executed(1).len(), 10);
    host.leave();
    stop(server);
}

#[test]
fn a_killed_server_over_http_costs_errors_and_nothing_else() {
    for seed in seeds(&[7]) {
        let _seed = Seed(seed, "http");
        let mut random = StdRng::seed_from_u64(seed);
        let tally = Tally::new();
        let mut server = tally.server("http").secret().start();
        let port = server.port;
        let mut host = host(port, false);
        for _ in 0..3 {
            let kill_at = random.random_range(0..REQUESTS / 3);
            for at in 0..REQUESTS / 3 {
                if at == kill_at {
                    server.signal(Signal::KILL);
                    wait_gone(server.pid());
                    drop(server);
                    server = tally.server("http").secret().port(port).start();
                }
                host.ask(&mut random);
                host.hear();
                if host.owed() > 100 {
                    host.hear_until(50);
                }
            }
        }
        host.hear_until(0);
        println!("http seed {seed}: 3 kills, {:?}", host.counts);
        assert_accounted(&host, &tally);
        assert_replayed(&tally);
        host.leave();
        stop(server);
    }
}
