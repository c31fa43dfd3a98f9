//! The memory of processes and connections that are idle.

use crate::peer::Wire;
use crate::process::Process;
use crate::report::Goal;
use crate::rig::{Rig, Spec, serve};
use crate::scenarios::{Bench, MIB, raise_file_limit, settle};
use std::io;

impl Bench {
    /// Resident memory of idle processes, and per idle connection.
    pub fn memory(&mut self) -> io::Result<()> {
        let title = "Memory at rest";
        eprintln!("{title} …");
        raise_file_limit()?;
        for wire in [Wire::Lines, Wire::WebSocket] {
            let spec = Spec::full(wire);
            let name = format!("server {}", wire.name());
            let idle = self.idle_memory(&spec)?;
            self.single(
                title,
                &name,
                "idle, MiB",
                vec![idle],
                Some(Goal::AtMost(6.0)),
            );
            let rig = Rig::start(&spec.clone().through_client(), &self.workshop, 1)?;
            settle();
            if let Some(client) = &rig.client {
                let idle = client.resident()? as f64 / MIB as f64;
                let name = format!("client {}", wire.name());
                self.single(
                    title,
                    &name,
                    "idle, MiB",
                    vec![idle],
                    Some(Goal::AtMost(5.0)),
                );
            }
            drop(rig);
            for count in self.effort.idle {
                let mut rig = Rig::start(&spec, &self.workshop, 1)?;
                let resident = |rig: &Rig| rig.server.as_ref().map_or(Ok(0), Process::resident);
                settle();
                let before = resident(&rig)?;
                for _ in 0..*count {
                    rig.add_peer()?;
                }
                settle();
                let each = (resident(&rig)? - before) as f64 / 1024.0 / *count as f64;
                let goal = Goal::AtMost(if wire == Wire::WebSocket { 20.0 } else { 12.0 });
                let metric = match count {
                    100 => "of 100 idle connections each, KiB",
                    _ => "of 5,000 idle connections each, KiB",
                };
                self.single(title, &name, metric, vec![each], Some(goal));
            }
        }
        Ok(())
    }

    /// The resident memory of an idle server, in MiB.
    pub fn idle_memory(&self, spec: &Spec) -> io::Result<f64> {
        let (server, _) = Process::serve(&mut serve(spec, &self.workshop)?)?;
        settle();
        Ok(server.resident()? as f64 / MIB as f64)
    }
}
