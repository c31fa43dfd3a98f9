//! What other peers cost a peer at work.

use crate::peer::{Ask, Wire};
use crate::report::{Against, Goal, quantile};
use crate::rig::Spec;
use crate::scenarios::{Bench, Scenario, latencies, raise_file_limit};
use std::io;

impl Bench {
    /// The effect of a peer that stops reading, and of idle ones, on another peer's p99.
    pub fn neighbours(&mut self, wire: Wire) -> io::Result<()> {
        raise_file_limit()?;
        let title = format!("What neighbours do to a peer, {}", wire.name());
        let alone = Spec::full(wire).named("alone");
        let mut rigs = self.start(
            &[
                alone.clone(),
                alone.clone().named("beside one that does not read"),
                alone.named("beside idle ones"),
            ],
            1,
        )?;
        rigs[1].add_peer()?;
        let stalled = &mut rigs[1].peers[1];
        for _ in 0..400 {
            stalled.ask(Ask::Give(100_000));
        }
        stalled.flush()?;
        let idle = self.effort.idle.last().copied().unwrap_or(0);
        for _ in 0..idle {
            rigs[2].add_peer()?;
        }
        let count = self.effort.sequential;
        let scenario = Scenario {
            title: &title,
            metrics: &[("p50, µs", Against::Ratio), ("p99, µs", Against::Ratio)],
            yardstick: 0,
        };
        let goals = |name: &str, metric: &str| {
            (name != "alone" && metric == "p99, µs").then_some(Goal::AtMost(1.5))
        };
        self.interleave(&scenario, &mut rigs, goals, |rig| {
            let mut times = latencies(rig.peer(), count)?;
            times.sort_unstable_by(f64::total_cmp);
            Ok(vec![quantile(&times, 0.5), quantile(&times, 0.99)])
        })
    }
}
