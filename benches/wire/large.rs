//! Large messages: how fast they are, and the memory that they take.

use crate::peer::{Ask, Wire};
use crate::report::{Against, Goal};
use crate::rig::{Rig, Spec};
use crate::scenarios::{Bench, MIB, SMALL, Scenario};
use std::io;
use std::time::{Duration, Instant};

impl Bench {
    /// Large messages, each direction separately.
    pub fn large(&mut self, wire: Wire, size: usize, up: bool) -> io::Result<()> {
        let direction = if up { "to the child" } else { "from the child" };
        let title = format!("{} MiB {direction}, {}", size / MIB, wire.name());
        let specs = [
            Spec::direct(),
            Spec::pump(wire),
            Spec::bare(wire),
            Spec::full(wire),
        ];
        let goals = |name: &str, metric: &str| match (name, metric) {
            ("mcp-remote", "MB/s") if size == 8 * MIB => Some(Goal::AtLeast(0.8)),
            _ => None,
        };
        let mut rigs = self.start(&specs, 1)?;
        let count = (self.effort.bytes / size).max(2);
        let ask = if up { Ask::Take(size) } else { Ask::Give(size) };
        let scenario = Scenario {
            title: &title,
            metrics: &[("MB/s", Against::Ratio)],
            yardstick: 1,
        };
        self.interleave(&scenario, &mut rigs, goals, |rig| {
            let began = Instant::now();
            for _ in 0..count {
                rig.peer().exchange(ask)?;
            }
            let megabytes = (count * size) as f64 / 1e6;
            Ok(vec![megabytes / began.elapsed().as_secs_f64()])
        })?;
        let rig = Rig::start(&Spec::full(wire), &self.workshop, 1)?;
        self.memory_of_large(&title, rig, ask, size)
    }

    fn memory_of_large(
        &mut self,
        title: &str,
        mut rig: Rig,
        ask: Ask,
        size: usize,
    ) -> io::Result<()> {
        rig.peer().exchange(Ask::Echo(SMALL))?;
        let Some(server) = &rig.server else {
            return Ok(());
        };
        let idle = server.resident()?;
        server.reset_peak()?;
        for _ in 0..4 {
            rig.peers[0].exchange(ask)?;
        }
        let peak = server.peak()?.saturating_sub(idle) as f64 / size as f64;
        // Small exchanges free what was in use. Freed memory is returned to the system a second later.
        for _ in 0..8 {
            rig.peers[0].exchange(Ask::Echo(SMALL))?;
        }
        std::thread::sleep(Duration::from_millis(1_500));
        let after = server.resident()?.saturating_sub(idle) as f64 / MIB as f64;
        for (metric, value, goal) in [
            (
                "memory at its peak, above idle, in messages",
                peak,
                Some(Goal::AtMost(3.0)),
            ),
            (
                "memory afterwards, above idle, MiB",
                after,
                Some(Goal::AtMost(1.0)),
            ),
        ] {
            self.single(title, "mcp-remote", metric, vec![value], goal);
        }
        Ok(())
    }
}
