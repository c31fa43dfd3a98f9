//! A server that dies, or is replaced, under load.

use crate::load::{Host, Seed, Tally, seeds, stop};
use crate::process::{is_alive, wait_gone};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashSet;
use std::time::Duration;

const REQUESTS: u64 = 600;

fn assert_once(host: &Host, tally: &Tally, asked: u64) -> usize {
    let executed = tally.executed(1);
    let once: HashSet<u64> = executed.iter().copied().collect();
    assert_eq!(once.len(), executed.len(), "something was executed twice");
    let failed: HashSet<u64> = host.failed.iter().copied().collect();
    let missing = (0..asked).filter(|n| !once.contains(n) && !failed.contains(n));
    assert_eq!(missing.count(), 0, "answered, but not executed");
    assert_eq!(host.counts.answered + host.counts.failed, asked as usize);
    executed.len()
}

/// Every server that executed something got the rest of the session, unseen by the host.
pub fn assert_replayed(tally: &Tally) {
    let text = tally.text();
    let fields = || text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let servers: HashSet<&str> = fields()
        .filter(|line| line[0] == "run")
        .filter_map(|line| line.last().copied())
        .collect();
    assert!(!servers.is_empty());
    for server in servers {
        let told = |method: &str| {
            fields()
                .filter(|line| line[0] == "method" && line[1] == method && line[2] == server)
                .count()
        };
        for method in ["initialize", "notifications/initialized"] {
            assert_eq!(told(method), 1, "{method}: {text}");
        }
        // Peers that send requests at the same time may each reach the server.
        for method in ["logging/setLevel", "resources/subscribe"] {
            assert!(told(method) >= 1, "{method}: {text}");
        }
    }
}

#[test]
fn a_killed_server_costs_errors_and_nothing_else() {
    for (transport, seed) in [("tcp", 1), ("ws", 2)] {
        for seed in seeds(&[seed]) {
            let _seed = Seed(seed, transport);
            let mut random = StdRng::seed_from_u64(seed);
            let tally = Tally::new();
            let mut server = tally.server(transport).secret().start();
            let port = server.port;
            let mut host = Host::start(transport, port, 1, true);
            host.loses = true;
            host.initialize();
            for round in 0..3 {
                let kill_at = random.random_range(0..REQUESTS / 3);
                for at in 0..REQUESTS / 3 {
                    if at == kill_at {
                        server.signal(Signal::KILL);
                        wait_gone(server.pid());
                        drop(server);
                        server = tally.server(transport).secret().port(port).start();
                    }
                    host.ask(&mut random);
                    host.hear();
                    if host.owed() > 200 {
                        host.hear_until(100);
                    }
                }
                println!("{transport} seed {seed} round {round}: {:?}", host.counts);
            }
            host.hear_until(0);
            host.leave();
            let executed = assert_once(&host, &tally, REQUESTS);
            assert_replayed(&tally);
            let log = host.client.log.text();
            assert_eq!(log.matches("connection lost").count(), 3, "{log}");
            assert_eq!(log.matches("reconnected").count(), 3, "{log}");
            println!(
                "{transport} seed {seed}: {REQUESTS} requests, 3 kills, {:?}, {executed} executed",
                host.counts
            );
            stop(server);
        }
    }
}

/// Bug: what was sent and not yet read when the signal came was lost.
#[test]
fn a_server_that_is_replaced_in_order_costs_nothing() {
    for (transport, seed) in [("tcp", 1), ("ws", 2)] {
        for seed in seeds(&[seed]) {
            let _seed = Seed(seed, transport);
            let mut random = StdRng::seed_from_u64(seed);
            let tally = Tally::new();
            let mut server = tally.server(transport).secret().start();
            let port = server.port;
            let mut host = Host::start(transport, port, 1, true);
            host.loses = true;
            host.initialize();
            for _ in 0..3 {
                let stop_at = random.random_range(0..REQUESTS / 3);
                for at in 0..REQUESTS / 3 {
                    if at == stop_at {
                        server.signal(Signal::TERM);
                    }
                    host.ask(&mut random);
                    host.hear();
                    if at > stop_at + 20 && host.owed() > 200 {
                        break;
                    }
                }
                assert_eq!(server.wait().code(), Some(0));
                server = tally.server(transport).secret().port(port).start();
                host.hear_until(0);
            }
            let asked = host.asked();
            host.leave();
            assert_once(&host, &tally, asked);
            assert_eq!(host.counts.failed, 0, "{:?}", host.failed);
            assert_eq!(tally.executed(1), (0..asked).collect::<Vec<_>>());
            assert_replayed(&tally);
            println!(
                "{transport} seed {seed}: {asked} requests, 3 orderly restarts, {:?}",
                host.counts
            );
            stop(server);
        }
    }
}

/// A request that takes longer than --drain-timeout gets one error; idle clients delay nothing.
#[test]
fn draining_has_an_end() {
    let tally = Tally::new();
    let setup = || tally.server("tcp").args(&["--drain-timeout", "1s"]);
    let mut server = setup().start();
    let port = server.port;
    let mut idle = Host::start("tcp", port, 2, false);
    idle.initialize();
    let mut host = Host::start("tcp", port, 1, false);
    host.loses = true;
    host.initialize();
    host.ask_sized(0, 1, 1, 300);
    host.ask_sized(1, 1, 1, 20_000);
    host.ask_sized(2, 1, 1, 0);
    host.hear_until(2);
    server.signal(Signal::TERM);
    idle.client.log.wait_for("connection lost");
    assert_eq!(server.wait().code(), Some(0));
    host.hear_until(0);
    assert_eq!((host.counts.answered, &host.failed), (2, &vec![1]));
    let server = setup().port(port).start();
    for host in [&mut host, &mut idle] {
        host.ask_sized(5, 1, 1, 0);
        host.hear_until_within(0, Duration::from_secs(10));
        host.leave();
    }
    stop(server);
    assert_replayed(&tally);
}

/// The process that executed the last request.
fn last_child(tally: &Tally) -> Option<u64> {
    let text = tally.text();
    let line = text.lines().rfind(|line| line.starts_with("run 1 "))?;
    line.split(' ').next_back()?.parse().ok()
}

/// With one process per session, its state is lost, and nothing else.
#[test]
fn a_killed_child_of_ones_own_costs_errors_and_nothing_else() {
    for (transport, seed) in [("tcp", 11), ("ws", 12)] {
        for seed in seeds(&[seed]) {
            let _seed = Seed(seed, transport);
            let mut random = StdRng::seed_from_u64(seed);
            let tally = Tally::new();
            let setup = tally.server(transport).secret();
            let server = setup.args(&["--isolate", "--max-children", "1"]).start();
            let mut host = Host::start(transport, server.port, 1, true);
            host.loses = true;
            host.initialize();
            for _ in 0..3 {
                let kill_at = random.random_range(1..REQUESTS / 3);
                for at in 0..REQUESTS / 3 {
                    if at == kill_at {
                        let child = loop {
                            host.ask(&mut random);
                            host.hear_until(0);
                            // The last one to execute something may already be gone.
                            if let Some(child) = last_child(&tally).filter(|pid| is_alive(*pid)) {
                                break Pid::from_raw(child as i32).unwrap();
                            }
                        };
                        for _ in 0..10 {
                            host.ask(&mut random);
                        }
                        kill_process(child, Signal::KILL).unwrap();
                    }
                    host.ask(&mut random);
                    host.hear();
                    if host.owed() > 100 {
                        host.hear_until(50);
                    }
                }
            }
            host.hear_until(0);
            let asked = host.asked();
            host.leave();
            let executed = assert_once(&host, &tally, asked);
            assert_replayed(&tally);
            server.log.wait_for_times("MCP server started", 4);
            println!(
                "{transport} seed {seed}: {asked} requests, 3 kills of the MCP server, {:?}, {executed} executed",
                host.counts
            );
            stop(server);
        }
    }
}
