//! How long a start takes.

use crate::peer::Wire;
use crate::report::{Against, Goal, Row};
use crate::rig::{Rig, Spec};
use crate::scenarios::Bench;
use std::io;
use std::time::Instant;

impl Bench {
    /// From process start to the first response of its child.
    pub fn cold_start(&mut self) -> io::Result<()> {
        let specs = [
            Spec::direct(),
            Spec::pump(Wire::Lines),
            Spec::full(Wire::Lines).named("mcp-remote tcp"),
            Spec::full(Wire::WebSocket).named("mcp-remote ws"),
        ];
        let title = "From start to the first answer";
        eprintln!("{title} …");
        let mut values = vec![Vec::new(); specs.len()];
        for round in 0..=self.effort.rounds * 2 {
            for (spec, values) in specs.iter().zip(&mut values) {
                let began = Instant::now();
                let rig = Rig::start(spec, &self.workshop, 1)?;
                let elapsed = began.elapsed().as_secs_f64() * 1e3;
                drop(rig);
                if round > 0 {
                    values.push(elapsed);
                }
            }
        }
        for (at, spec) in specs.iter().enumerate() {
            let yardstick = (at > 0).then(|| {
                (
                    specs[0].name.clone(),
                    Against::Difference,
                    values[0].clone(),
                )
            });
            self.report.0.push(Row {
                scenario: title.to_owned(),
                name: spec.name.clone(),
                metric: "ms",
                values: values[at].clone(),
                yardstick,
                goal: spec
                    .name
                    .starts_with("mcp-remote")
                    .then_some(Goal::AtMost(3.0)),
            });
        }
        Ok(())
    }
}
