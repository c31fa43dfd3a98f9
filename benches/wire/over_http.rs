//! What is measured over HTTP alone: idle sessions, and other programs that do the same.

use crate::peer::{Dialect, Wire};
use crate::process::Process;
use crate::report::{Against, Goal, quantile};
use crate::rig::{Rig, Spec, fixture};
use crate::rivals::{self, Rival};
use crate::scenarios::{
    Bench, PROXY_CPU, Pinned, Scenario, latencies, per_request, raise_file_limit, settle,
};
use std::io;

/// Includes the MCP server, which in one of the two programs is the proxy's own process.
const ALL_CPU: &str = "CPU of all processes, µs/request";

/// The minimum CPU time of the others relative to ours.
const LEAST: Goal = Goal::AtLeast(5.0);

impl Bench {
    /// The memory of sessions without a connection, and of the streams that clients listen on.
    pub fn sessions(&mut self) -> io::Result<()> {
        let title = "Memory at rest, http";
        eprintln!("{title} …");
        raise_file_limit()?;
        let spec = Spec::full(Wire::Http);
        let idle = self.idle_memory(&spec)?;
        let goal = Some(Goal::AtMost(6.0));
        self.single(title, "server http", "idle, MiB", vec![idle], goal);
        for count in self.effort.idle {
            let mut rig = Rig::start(&spec, &self.workshop, 1)?;
            let resident = |rig: &Rig| rig.server.as_ref().map_or(Ok(0), Process::resident);
            settle();
            let before = resident(&rig)?;
            for _ in 0..*count {
                rig.add_peer()?;
                // A session outlives its connection.
                rig.peers.truncate(1);
            }
            settle();
            let with_sessions = resident(&rig)?;
            for _ in 0..*count {
                rig.add_peer()?;
                rig.peers.last_mut().map_or(Ok(()), |peer| peer.listen())?;
            }
            settle();
            let idle = with_sessions - before;
            let stream = (resident(&rig)? - with_sessions).saturating_sub(idle);
            let each = |bytes: u64| vec![bytes as f64 / 1024.0 / *count as f64];
            let names = match count {
                100 => [
                    "of 100 sessions without a connection each, KiB",
                    "of 100 open streams of GET each, with their connection, KiB",
                ],
                _ => [
                    "of 5,000 sessions without a connection each, KiB",
                    "of 5,000 open streams of GET each, with their connection, KiB",
                ],
            };
            for (metric, bytes, goal) in [(names[0], idle, 8.0), (names[1], stream, 24.0)] {
                let goal = Some(Goal::AtMost(goal));
                self.single(title, "server http", metric, each(bytes), goal);
            }
        }
        Ok(())
    }

    /// Other programs that put the same MCP server on HTTP.
    pub fn rivals(&mut self) -> io::Result<()> {
        let packages = self.workshop.packages();
        rivals::install(&packages)?;
        let _pinned = Pinned::to_one_cpu()?;
        let mut rigs = self.start(&[Spec::full(Wire::Http)], 1)?;
        for rival in Rival::ALL {
            let (process, port) = rival.start(&packages)?;
            rigs.push(Rig::of(rival.name(), process, port)?);
        }
        let title = "Other proxies over HTTP, one request after the other, one CPU";
        self.beside(title, &mut rigs)?;
        drop(rigs);
        let fixture = fixture(&self.workshop)?;
        let mut spec = Spec::full(Wire::Http).named("mcp-remote before a server on rmcp");
        spec.program = Some(fixture.clone());
        let mut rigs = self.start(&[spec], 1)?;
        let mut command = std::process::Command::new(fixture);
        let (process, port) = Process::serve(command.arg("--http"))?;
        rigs.push(Rig::of(
            "the same server on rmcp's own HTTP",
            process,
            port,
        )?);
        let title = "rmcp's HTTP service, one request after the other, one CPU";
        self.beside(title, &mut rigs)
    }

    /// Compares all others with the first.
    fn beside(&mut self, title: &str, rigs: &mut [Rig]) -> io::Result<()> {
        let own = rigs[0].name.clone();
        let count = self.effort.sequential;
        let scenario = Scenario {
            title,
            metrics: &[
                ("p50, µs", Against::Ratio),
                (PROXY_CPU, Against::Ratio),
                (ALL_CPU, Against::Ratio),
            ],
            yardstick: 0,
        };
        let goals =
            |name: &str, metric: &str| (name != own && metric == PROXY_CPU).then_some(LEAST);
        self.interleave(&scenario, rigs, goals, |rig| {
            let (before, before_all) = (rig.cpu()?, rig.cpu_of_all()?);
            let mut times = latencies(rig.peer(), count)?;
            let proxy = per_request(rig, before, count)?;
            let all = rig.cpu_of_all()?.saturating_sub(before_all);
            let all = all.as_secs_f64() * 1e6 / count as f64;
            times.sort_unstable_by(f64::total_cmp);
            Ok(vec![quantile(&times, 0.5), proxy, all])
        })
    }
}

impl Rig {
    /// Another HTTP server at this port.
    fn of(name: &str, server: Process, port: u16) -> io::Result<Self> {
        let dialect = Dialect {
            wire: Wire::Http,
            ..Dialect::default()
        };
        Self::before(name, server, port, dialect)
    }
}
