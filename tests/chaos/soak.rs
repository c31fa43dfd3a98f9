//! `CHAOS_SOAK=600 cargo test --test chaos soak -- --nocapture`: ten minutes of it.

use crate::load::{Host, Seed, Tally, Toll, stop};
use crate::pressure::resident;
use crate::relay::{Plan, Relay};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: u64 = 20;

#[test]
fn soak() {
    let seconds = std::env::var("CHAOS_SOAK")
        .ok()
        .and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(5));
    let tally = Tally::new();
    let server = tally.server("tcp").secret().start();
    let (port, pid) = (server.port, server.pid());
    let ready = Barrier::new(CLIENTS as usize + 1);
    let mut sum = Toll::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|number| {
                let (ready, tally) = (&ready, &tally);
                scope.spawn(move || {
                    let _seed = Seed(number, "tcp");
                    let mut random = StdRng::seed_from_u64(number);
                    let relay = Relay::new(port);
                    let mut host = Host::start("tcp", relay.port, number, true);
                    host.tolerant = true;
                    host.initialize();
                    ready.wait();
                    let began = Instant::now();
                    let plan = Plan {
                        cuts: usize::MAX,
                        every: 1 << 20,
                        silent: true,
                    };
                    relay.begin(plan, number);
                    while began.elapsed() < length {
                        host.ask(&mut random);
                        let most = random.random_range(1..16);
                        host.hear_until_within(most, Duration::from_secs(60));
                        // Twenty hosts share few processors.
                        thread::sleep(Duration::from_millis(random.random_range(0..200)));
                    }
                    relay.calm();
                    host.hear_until_within(0, Duration::from_secs(60));
                    let toll = host.toll(tally, relay.cuts());
                    if toll.hung == 0 {
                        host.leave();
                    }
                    toll
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        for minute in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] {
            let at = Duration::from_secs(60 * minute + 2).min(length);
            if Duration::from_secs(60 * minute) > length {
                break;
            }
            thread::sleep(at.saturating_sub(began.elapsed()));
            println!("minute {minute}: the server holds {} MiB", resident(pid));
        }
        for client in clients {
            sum += client.join().unwrap();
        }
    });
    println!("{CLIENTS} clients, {length:?}: {sum}");
    assert!(sum.is_nothing(), "{sum}");
    stop(server);
}
