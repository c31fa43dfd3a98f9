//! Processes that are stopped and resumed later, as when a machine sleeps.

use crate::common::{BOTH, TestServer};
use crate::load::{Host, Tally, stop};
use crate::process::eventually;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// Twice the silence that [`crate::load::ALERT`] allows.
const NAP: Duration = Duration::from_secs(3);

/// Sends a few requests, so that data is in flight in both directions.
fn ask_some(host: &mut Host, random: &mut StdRng) {
    (0..20).for_each(|_| host.ask(random));
}

fn assert_nothing_lost(host: &mut Host, tally: &Tally, server: TestServer) {
    host.hear_until(0);
    let toll = host.toll(tally, 1);
    println!("{toll}");
    assert!(toll.is_nothing(), "{toll}");
    let log = host.client.log.text();
    assert!(!log.contains("has a new session"), "{log}");
    host.leave();
    stop(server);
}

#[test]
fn a_client_that_slept_goes_on() {
    for (transport, seed) in BOTH.into_iter().zip([31, 32]) {
        let mut random = StdRng::seed_from_u64(seed);
        let tally = Tally::new();
        let server = tally.server(transport).secret().start();
        let mut host = Host::start(transport, server.port, 1, true);
        host.initialize();
        ask_some(&mut host, &mut random);
        // The pipe has room for messages to a sleeping client.
        host.client.wait_read();
        let asleep = Instant::now();
        host.client.signal(Signal::STOP);
        server.log.wait_for("waiting for the client to come back");
        // The host's messages meanwhile wait in the pipe.
        for n in 20..30 {
            host.ask_sized(n, 100, 100, 0);
        }
        std::thread::sleep(NAP.saturating_sub(asleep.elapsed()));
        host.client.signal(Signal::CONT);
        host.client.log.wait_for("nothing is lost");
        assert_nothing_lost(&mut host, &tally, server);
    }
}

#[test]
fn a_server_that_slept_goes_on() {
    for (number, secret) in [false, true, false, true].into_iter().enumerate() {
        let transport = BOTH[number / 2];
        let mut random = StdRng::seed_from_u64(33 + number as u64);
        let tally = Tally::new();
        let mut setup = tally.server(transport);
        if secret {
            setup = setup.secret();
        }
        let server = setup.start();
        let mut host = Host::start(transport, server.port, 1, secret);
        host.initialize();
        ask_some(&mut host, &mut random);
        let asleep = Instant::now();
        server.signal(Signal::STOP);
        host.client.log.wait_for("connection lost");
        ask_some(&mut host, &mut random);
        std::thread::sleep(NAP.saturating_sub(asleep.elapsed()));
        server.signal(Signal::CONT);
        host.client.log.wait_for("nothing is lost");
        assert_nothing_lost(&mut host, &tally, server);
    }
}

#[test]
fn a_machine_that_slept_goes_on() {
    for (transport, seed) in BOTH.into_iter().zip([37, 38]) {
        let mut random = StdRng::seed_from_u64(seed);
        let tally = Tally::new();
        let server = tally.server(transport).secret().start();
        let mut host = Host::start(transport, server.port, 1, true);
        host.initialize();
        host.ask_sized(0, 1, 1, 0);
        host.hear_until(0);
        let child = tally.text().lines().last().and_then(|line| {
            let pid = line.split(' ').next_back()?.parse().ok()?;
            Pid::from_raw(pid)
        });
        let child = child.unwrap();
        ask_some(&mut host, &mut random);
        host.client.signal(Signal::STOP);
        server.signal(Signal::STOP);
        kill_process(child, Signal::STOP).unwrap();
        std::thread::sleep(NAP);
        kill_process(child, Signal::CONT).unwrap();
        server.signal(Signal::CONT);
        host.client.signal(Signal::CONT);
        assert_nothing_lost(&mut host, &tally, server);
    }
}

#[test]
fn a_client_that_slept_too_long_begins_anew() {
    for (transport, seed) in BOTH.into_iter().zip([39, 40]) {
        let mut random = StdRng::seed_from_u64(seed);
        let tally = Tally::new();
        let setup = tally.server(transport).secret();
        let server = setup.args(&["--resume-window", "1s"]).start();
        let mut host = Host::start(transport, server.port, 1, true);
        host.loses = true;
        host.initialize();
        ask_some(&mut host, &mut random);
        host.ask_sized(20, 1, 1, 60_000);
        eventually("all is executed", || {
            (tally.executed(1).len() == 21).then_some(())
        });
        host.client.signal(Signal::STOP);
        server.log.wait_for("the client has not come back");
        host.client.signal(Signal::CONT);
        host.hear_until(0);
        assert!(host.failed.contains(&20), "{:?}", host.failed);
        host.ask_sized(21, 1, 1, 0);
        host.hear_until(0);
        assert_eq!(host.counts.answered + host.counts.failed, 22);
        // No duplicates, and the new one as well.
        assert_eq!(tally.executed(1), (0..=21).collect::<Vec<_>>());
        host.leave();
        stop(server);
    }
}
