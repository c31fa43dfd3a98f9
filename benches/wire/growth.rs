//! How cost grows with peers, message size, rules, and requests in flight.

use crate::peer::{Ask, Wire};
use crate::plot::{Curve, Plot};
use crate::report::Spread;
use crate::rig::{Naming, Rig, Spec};
use crate::scenarios::{Bench, Pinned, crowd, per_request, raise_file_limit};
use std::io;
use std::time::Instant;

const PEERS: [usize; 7] = [1, 3, 10, 30, 100, 300, 1000];
const RULES: [usize; 7] = [3, 10, 30, 100, 300, 1000, 2000];
const IN_FLIGHT: [usize; 9] = [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000];
const SIZES: [usize; 10] = [
    100, 300, 1000, 10_000, 100_000, 1_000_000, 4_000_000, 16_000_000, 32_000_000, 64_000_000,
];
const ROUNDS: usize = 11;

fn full(wire: Wire) -> Spec {
    Spec::full(wire).named(wire.name())
}

/// Every point of every curve has one turn per round.
fn interleave(
    points: &[usize],
    curves: &mut [(String, Vec<Rig>)],
    mut turn: impl FnMut(&mut Rig, usize) -> io::Result<f64>,
) -> io::Result<Vec<Curve>> {
    let mut values = vec![vec![Vec::new(); points.len()]; curves.len()];
    for round in 0..=ROUNDS {
        for (at, point) in points.iter().enumerate() {
            for ((name, rigs), values) in curves.iter_mut().zip(&mut values) {
                // When one rig serves all points, it is the last.
                let rig = at.min(rigs.len() - 1);
                let value = turn(&mut rigs[rig], *point)
                    .map_err(|err| io::Error::other(format!("{name} at {point}: {err}")))?;
                // The first round only warms up.
                if round > 0 {
                    values[at].push(value);
                }
            }
        }
    }
    let curves = curves.iter().zip(values).map(|((name, _), values)| {
        let spreads = values.iter().map(|values| Spread::of(values));
        let points = points.iter().map(|point| *point as f64).zip(spreads);
        Curve {
            name: name.clone(),
            points: points.collect(),
        }
    });
    Ok(curves.collect())
}

/// The proxy's CPU time for each request, in microseconds.
fn cpu(rig: &mut Rig, window: usize, count: usize) -> io::Result<f64> {
    let before = rig.cpu()?;
    crowd(&mut rig.peers, window, count)?;
    per_request(rig, before, count)
}

impl Bench {
    /// All plots, pinned to one CPU so that they are repeatable. They have no yardstick: only
    /// their slope matters.
    pub fn growth(&mut self) -> io::Result<Vec<Plot>> {
        let _pinned = Pinned::to_one_cpu()?;
        Ok(vec![
            self.by_peers()?,
            self.by_size()?,
            self.by_rules()?,
            self.by_in_flight()?,
        ])
    }

    /// A curve for each of these, on one rig.
    fn one_rig_each<const N: usize>(
        &self,
        specs: [Spec; N],
    ) -> io::Result<Vec<(String, Vec<Rig>)>> {
        let curve = |spec: Spec| {
            let rig = self.start(std::slice::from_ref(&spec), 1)?;
            Ok((spec.name, rig))
        };
        specs.into_iter().map(curve).collect()
    }

    fn by_peers(&mut self) -> io::Result<Plot> {
        eprintln!("growth by peers …");
        raise_file_limit()?;
        let mut curves = Vec::new();
        for wire in [Wire::Lines, Wire::WebSocket] {
            let spec = full(wire);
            let rigs = PEERS.map(|peers| Rig::start(&spec, &self.workshop, peers));
            let rigs: io::Result<Vec<Rig>> = rigs.into_iter().collect();
            curves.push((spec.name, rigs?));
        }
        let curves = interleave(&PEERS, &mut curves, |rig, peers| {
            cpu(rig, 1, peers.max(2000))
        })?;
        Ok(Plot {
            name: "peers",
            title: "Many peers, one request in flight each",
            x: "peers",
            y: "proxy CPU, µs per request",
            curves,
        })
    }

    fn by_size(&mut self) -> io::Result<Plot> {
        eprintln!("growth by size …");
        let specs = [
            full(Wire::Lines),
            full(Wire::WebSocket),
            Spec::pump(Wire::Lines),
            Spec::direct(),
        ];
        let mut curves = self.one_rig_each(specs)?;
        let curves = interleave(&SIZES, &mut curves, |rig, size| {
            let count = (4_000_000 / size).clamp(1, 500);
            let began = Instant::now();
            for _ in 0..count {
                rig.peer().exchange(Ask::Take(size))?;
            }
            Ok(began.elapsed().as_secs_f64() * 1e3 / count as f64)
        })?;
        Ok(Plot {
            name: "size",
            title: "Large requests, one after the other",
            x: "bytes",
            y: "ms until the answer",
            curves,
        })
    }

    fn by_rules(&mut self) -> io::Result<Plot> {
        eprintln!("growth by rules …");
        let mut curves = Vec::new();
        for (name, naming) in [("methods", Naming::Methods), ("families", Naming::Families)] {
            let specs = RULES.map(|rules| Spec {
                rules: Some(rules),
                naming,
                ..full(Wire::Lines)
            });
            curves.push((name.to_owned(), self.start(&specs, 1)?));
        }
        let curves = interleave(&RULES, &mut curves, |rig, _| cpu(rig, 64, 10_000))?;
        Ok(Plot {
            name: "rules",
            title: "Rules on methods, and on families (tools/*)",
            x: "rules",
            y: "proxy CPU, µs per request",
            curves,
        })
    }

    fn by_in_flight(&mut self) -> io::Result<Plot> {
        eprintln!("growth by requests in flight …");
        let mut curves = self.one_rig_each([
            full(Wire::Lines),
            full(Wire::WebSocket),
            Spec::pump(Wire::Lines),
        ])?;
        let curves = interleave(&IN_FLIGHT, &mut curves, |rig, window| {
            cpu(rig, window, (window * 4).clamp(2000, 40_000))
        })?;
        Ok(Plot {
            name: "in-flight",
            title: "Requests in flight, one peer",
            x: "requests in flight",
            y: "proxy CPU, µs per request",
            curves,
        })
    }
}
