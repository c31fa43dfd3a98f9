//! What is measured, and how: in each round every rig has its turn, so that other load on the machine
//! affects them all.

use crate::peer::{Ask, Peer, Wire};
use crate::report::{Against, Goal, Report, Row, quantile};
use crate::rig::{Rig, Spec, Workshop};
use rustix::event::epoll;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io;
use std::time::{Duration, Instant};

/// A small message, in bytes.
pub const SMALL: usize = 200;
/// How many requests are in flight when messages are pipelined.
const WINDOW: usize = 64;
pub const MIB: usize = 1 << 20;

pub const PROXY_CPU: &str = "proxy CPU, µs/request";

/// How much to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    /// Requests per turn, sequential.
    pub sequential: usize,
    /// Requests per turn, pipelined.
    pub pipelined: usize,
    /// Bytes per turn, in large messages.
    pub bytes: usize,
    /// Idle connections.
    pub idle: &'static [usize],
}

impl Effort {
    pub const FULL: Self = Self {
        rounds: 15,
        sequential: 2_000,
        pipelined: 40_000,
        bytes: 64 * MIB,
        idle: &[100, 5_000],
    };
    pub const QUICK: Self = Self {
        rounds: 5,
        sequential: 500,
        pipelined: 10_000,
        bytes: 16 * MIB,
        idle: &[100],
    };
}

/// Runs scenarios and collects their figures.
pub struct Bench {
    pub effort: Effort,
    pub workshop: Workshop,
    pub report: Report,
}

/// The figures of one turn, in the order of the scenario's metrics.
pub type Turn = Vec<f64>;

/// A scenario, its metrics, and for each metric how it is compared and its target.
pub struct Scenario<'a> {
    pub title: &'a str,
    pub metrics: &'a [(&'static str, Against)],
    /// The rig that the others are compared with.
    pub yardstick: usize,
}

impl Bench {
    pub fn interleave(
        &mut self,
        scenario: &Scenario<'_>,
        rigs: &mut [Rig],
        goals: impl Fn(&str, &str) -> Option<Goal>,
        mut turn: impl FnMut(&mut Rig) -> io::Result<Turn>,
    ) -> io::Result<()> {
        eprintln!("{} …", scenario.title);
        let mut values: Vec<Vec<Turn>> = rigs.iter().map(|_| Vec::new()).collect();
        for round in 0..=self.effort.rounds {
            for (rig, values) in rigs.iter_mut().zip(&mut values) {
                let figures = turn(rig).map_err(|err| {
                    io::Error::other(format!("{}: {}: {err}", scenario.title, rig.name))
                })?;
                // The first round only warms up.
                if round > 0 {
                    values.push(figures);
                }
            }
        }
        let column = |rig: usize, metric: usize| -> Vec<f64> {
            values[rig].iter().map(|turn| turn[metric]).collect()
        };
        for (metric, (name, against)) in scenario.metrics.iter().enumerate() {
            for (at, rig) in rigs.iter().enumerate() {
                let yardstick = (at != scenario.yardstick).then(|| {
                    let name = rigs[scenario.yardstick].name.clone();
                    (name, *against, column(scenario.yardstick, metric))
                });
                // Bare pipes have no proxy to add any cost.
                if column(at, metric).iter().all(|value| value.is_nan()) {
                    continue;
                }
                self.report.0.push(Row {
                    scenario: scenario.title.to_owned(),
                    name: rig.name.clone(),
                    metric: name,
                    values: column(at, metric),
                    yardstick,
                    goal: goals(&rig.name, name),
                });
            }
        }
        Ok(())
    }

    pub fn start(&self, specs: &[Spec], peers: usize) -> io::Result<Vec<Rig>> {
        specs
            .iter()
            .map(|spec| Rig::start(spec, &self.workshop, peers))
            .collect()
    }

    /// Sequential requests, everything on one CPU.
    pub fn sequential(&mut self, wire: Wire) -> io::Result<()> {
        let title = format!("One request after the other, {}, one CPU", wire.name());
        let specs = [
            Spec::direct(),
            Spec::pump(wire),
            Spec::bare(wire),
            Spec::full(wire),
        ];
        let (limit, cpu) = match wire {
            Wire::Lines => (1.1, 1.15),
            Wire::WebSocket => (1.2, 1.15),
            Wire::Http => (1.15, 1.3),
        };
        let goals = |name: &str, metric: &str| match (name, metric) {
            ("mcp-remote", "p50, µs") => Some(Goal::AtMost(limit)),
            ("mcp-remote", PROXY_CPU) => Some(Goal::AtMost(cpu)),
            _ => None,
        };
        self.round_trips(&title, &specs, 1, goals)
    }

    /// The same through a client process.
    pub fn full_path(&mut self, wire: Wire) -> io::Result<()> {
        let title = format!(
            "One request after the other through client and server, {}, one CPU",
            wire.name()
        );
        // Two pumps carry bytes, whatever the proxy turns them into; over HTTP they have to carry requests.
        let (pumps, limit) = match wire {
            Wire::Lines | Wire::WebSocket => (Wire::Lines, 1.15),
            Wire::Http => (Wire::Http, 1.3),
        };
        let specs = [
            Spec::direct(),
            Spec::pump(pumps).through_client(),
            Spec::full(wire).through_client(),
        ];
        let goals = |name: &str, metric: &str| match (name, metric) {
            ("client and server", "p50, µs") => Some(Goal::AtMost(limit)),
            _ => None,
        };
        self.round_trips(&title, &specs, 1, goals)
    }

    /// What each feature adds to a request.
    pub fn features(&mut self, wire: Wire) -> io::Result<()> {
        let bare = Spec::bare(wire);
        let with = |name: &str, change: fn(&mut Spec)| {
            let mut spec = bare.clone().named(name);
            change(&mut spec);
            spec
        };
        let specs = [
            bare.clone(),
            with("+ authentication", |spec| spec.auth = true),
            with("+ policy", |spec| {
                (spec.auth, spec.rules) = (true, Some(10))
            }),
            with("+ policy of 200 rules", |spec| {
                (spec.auth, spec.rules) = (true, Some(200));
            }),
            with("+ tool rules", |spec| {
                (spec.auth, spec.rules, spec.tools) = (true, Some(10), true);
            }),
            with("+ resume", |spec| spec.resume = true),
            with("+ audit of all", |spec| spec.audit = true),
            with("+ TLS", |spec| spec.tls = true),
        ];
        let title = format!("What each feature costs alone, {}, one CPU", wire.name());
        self.round_trips(&title, &specs, 0, |_, _| None)
    }

    pub fn round_trips(
        &mut self,
        title: &str,
        specs: &[Spec],
        yardstick: usize,
        goals: impl Fn(&str, &str) -> Option<Goal>,
    ) -> io::Result<()> {
        let _pinned = Pinned::to_one_cpu()?;
        let mut rigs = self.start(specs, 1)?;
        let count = self.effort.sequential;
        let scenario = Scenario {
            title,
            metrics: &[
                ("p50, µs", Against::Ratio),
                ("p99, µs", Against::Ratio),
                (PROXY_CPU, Against::Ratio),
            ],
            yardstick,
        };
        self.interleave(&scenario, &mut rigs, goals, |rig| {
            let before = rig.cpu()?;
            let mut times = latencies(rig.peer(), count)?;
            let cpu = per_request(rig, before, count)?;
            times.sort_unstable_by(f64::total_cmp);
            Ok(vec![quantile(&times, 0.5), quantile(&times, 0.99), cpu])
        })
    }

    /// Many requests in flight, two CPUs.
    pub fn pipelined(&mut self, wire: Wire) -> io::Result<()> {
        let title = format!("{WINDOW} requests in flight, {}", wire.name());
        let specs = [
            Spec::direct(),
            Spec::pump(wire),
            Spec::bare(wire),
            Spec::full(wire),
        ];
        let least = if wire == Wire::WebSocket { 1.0 } else { 0.9 };
        let goals = |name: &str, metric: &str| match (name, metric) {
            ("mcp-remote", "requests/s") => Some(Goal::AtLeast(least)),
            _ => None,
        };
        let mut rigs = self.start(&specs, 1)?;
        let count = self.effort.pipelined;
        let scenario = Scenario {
            title: &title,
            metrics: &[
                ("requests/s", Against::Ratio),
                ("proxy CPU, s/100,000 requests", Against::Ratio),
            ],
            yardstick: 1,
        };
        self.interleave(&scenario, &mut rigs, goals, |rig| {
            let before = rig.cpu()?;
            let began = Instant::now();
            crowd(&mut rig.peers, WINDOW, count)?;
            let elapsed = began.elapsed().as_secs_f64();
            let cpu = per_request(rig, before, count)? / 10.0;
            Ok(vec![count as f64 / elapsed, cpu])
        })?;
        let own = self
            .report
            .0
            .iter()
            .rev()
            .find(|row| row.name == "mcp-remote");
        let own = own.map(|row| row.values.clone()).unwrap_or_default();
        self.report.0.push(Row {
            scenario: title,
            name: "mcp-remote".to_owned(),
            metric: "proxy CPU, s/100,000 requests, by itself",
            values: own,
            yardstick: None,
            goal: Some(Goal::AtMost(0.10)),
        });
        Ok(())
    }

    /// 50 peers on one child, compared with one.
    pub fn crowd(&mut self, wire: Wire) -> io::Result<()> {
        let title = format!("50 peers with 8 requests in flight each, {}", wire.name());
        let one = Rig::start(
            &Spec::full(wire).named("one peer, 64 in flight"),
            &self.workshop,
            1,
        )?;
        let many = Rig::start(&Spec::full(wire).named("50 peers"), &self.workshop, 50)?;
        let count = self.effort.pipelined;
        let scenario = Scenario {
            title: &title,
            metrics: &[
                ("requests/s", Against::Ratio),
                ("proxy CPU, s/100,000 requests", Against::Ratio),
            ],
            yardstick: 0,
        };
        let goals = |name: &str, metric: &str| {
            (name == "50 peers" && metric == "requests/s").then_some(Goal::AtLeast(1.0))
        };
        self.interleave(&scenario, &mut [one, many], goals, |rig| {
            let window = if rig.peers.len() == 1 { WINDOW } else { 8 };
            let before = rig.cpu()?;
            let began = Instant::now();
            crowd(&mut rig.peers, window, count)?;
            let elapsed = began.elapsed().as_secs_f64();
            Ok(vec![
                count as f64 / elapsed,
                per_request(rig, before, count)? / 10.0,
            ])
        })
    }

    pub fn single(
        &mut self,
        scenario: &str,
        name: &str,
        metric: &'static str,
        values: Vec<f64>,
        goal: Option<Goal>,
    ) {
        self.report.0.push(Row {
            scenario: scenario.to_owned(),
            name: name.to_owned(),
            metric,
            values,
            yardstick: None,
            goal,
        });
    }
}

/// Waits until the setup has settled.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(300));
}

/// The time of each of `count` exchanges, in microseconds.
pub fn latencies(peer: &mut Peer, count: usize) -> io::Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        peer.exchange(Ask::Echo(SMALL))?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// The CPU time since `before` per request for `count` requests, in microseconds; none for a child alone.
pub fn per_request(rig: &Rig, before: Duration, count: usize) -> io::Result<f64> {
    if rig.server.is_none() {
        return Ok(f64::NAN);
    }
    let spent = rig.cpu()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e6 / count as f64)
}

/// Sends `count` requests in total, each peer with `window` of them in flight.
pub fn crowd(peers: &mut [Peer], window: usize, count: usize) -> io::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (at, peer) in peers.iter().enumerate() {
        let data = epoll::EventData::new_u64(at as u64);
        epoll::add(&poll, peer, data, epoll::EventFlags::IN)?;
    }
    let mut left = count;
    let share = count / peers.len();
    for peer in peers.iter_mut() {
        for _ in 0..window.min(share) {
            peer.ask(Ask::Echo(SMALL));
            left -= 1;
        }
        peer.flush()?;
    }
    let mut events = Vec::with_capacity(peers.len());
    let mut owed: u64 = peers.iter().map(Peer::owed).sum();
    while owed > 0 {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let peer = &mut peers[event.data.u64() as usize];
            let answers = peer.answers()?;
            owed -= answers as u64;
            for _ in 0..answers.min(left) {
                peer.ask(Ask::Echo(SMALL));
            }
            owed += answers.min(left) as u64;
            left -= answers.min(left);
            peer.flush()?;
        }
    }
    Ok(())
}

/// Pins this process, and what it starts meanwhile, to one CPU.
pub struct Pinned(CpuSet);

impl Pinned {
    pub fn to_one_cpu() -> io::Result<Self> {
        let all = sched_getaffinity(None)?;
        let mut one = CpuSet::new();
        let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| all.is_set(*cpu));
        one.set(last.unwrap_or(0));
        sched_setaffinity(None, &one)?;
        Ok(Self(all))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Restores the previous affinity.
        let _restored = sched_setaffinity(None, &self.0);
    }
}

/// Thousands of connections need as many file descriptors, here and in the servers.
pub fn raise_file_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
