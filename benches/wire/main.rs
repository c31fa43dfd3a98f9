//! The real binary, the pump, and a child without any proxy, compared in one run.
//!
//! `cargo bench --bench wire` takes some minutes, `-- --quick` less than one. Every figure is
//! compared with its yardstick round by round, since only ratios are reliable on a machine that is
//! also busy with other things. A table goes to stdout, and with `--json FILE` all values to a file.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

mod child;
mod growth;
mod http;
mod http_pump;
mod large;
mod memory;
mod neighbours;
mod over_http;
mod peer;
mod plot;
mod process;
mod pump;
mod report;
mod rig;
mod rivals;
mod scenarios;
mod start;

use clap::Parser;
use peer::Wire;
use report::Report;
use rig::Workshop;
use scenarios::{Bench, Effort};
use std::io;
use std::path::PathBuf;

#[derive(Parser)]
struct Options {
    /// Fewer rounds, shorter turns, and only what matters most.
    #[arg(long)]
    quick: bool,
    /// Only the scenarios whose name contains this, such as `sequential` or `path`.
    #[arg(long, default_value = "")]
    only: String,
    /// Measures instead how cost grows, and writes plots to this folder.
    #[arg(long)]
    growth: Option<PathBuf>,
    /// Where to write all values.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    // The servers under test start this program again as pump and child.
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("child") => return child::run(),
        Some("pump") => return pump::serve(&arguments[2], &arguments[3..]),
        Some("pump-client") => {
            let port = arguments[3].parse().map_err(io::Error::other)?;
            return pump::connect(&arguments[2], port);
        }
        _ => {}
    }
    let options = Options::parse();
    let effort = if options.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let mut bench = Bench {
        effort,
        workshop: Workshop::new()?,
        report: Report::default(),
    };
    if let Some(folder) = options.growth {
        std::fs::create_dir_all(&folder)?;
        for plot in bench.growth()? {
            println!("{}", plot.table());
            std::fs::write(folder.join(format!("{}.svg", plot.name)), plot.svg())?;
        }
        return Ok(());
    }
    type Step = (
        &'static str,
        bool,
        &'static [Wire],
        fn(&mut Bench, Wire) -> io::Result<()>,
    );
    const ALL: &[Wire] = &[Wire::Lines, Wire::WebSocket, Wire::Http];
    const SOCKETS: &[Wire] = &[Wire::Lines, Wire::WebSocket];
    // Whether a step is also part of the quick run, and on which wires.
    let steps: [Step; 12] = [
        ("sequential", true, ALL, Bench::sequential),
        ("path", true, ALL, Bench::full_path),
        ("pipelined", true, SOCKETS, Bench::pipelined),
        ("crowd", true, SOCKETS, Bench::crowd),
        ("large-1", false, SOCKETS, |bench, wire| {
            bench.large(wire, 1 << 20, true)?;
            bench.large(wire, 1 << 20, false)
        }),
        ("large-8", true, SOCKETS, |bench, wire| {
            bench.large(wire, 8 << 20, true)?;
            bench.large(wire, 8 << 20, false)
        }),
        ("features", false, SOCKETS, Bench::features),
        ("neighbours", false, SOCKETS, Bench::neighbours),
        ("start", true, &[Wire::Lines], |bench, _| bench.cold_start()),
        ("memory", true, &[Wire::Lines], |bench, _| bench.memory()),
        ("sessions", true, &[Wire::Http], |bench, _| bench.sessions()),
        ("rivals", false, &[Wire::Http], |bench, _| bench.rivals()),
    ];
    let is_wanted = |step: &Step| (step.1 || !options.quick) && step.0.contains(&options.only);
    if !steps.iter().any(is_wanted) {
        let names = steps.map(|(name, ..)| name).join(", ");
        return Err(io::Error::other(format!(
            "there is no such scenario: {names}"
        )));
    }
    for (_, _, wires, step) in steps.into_iter().filter(is_wanted) {
        for wire in wires {
            step(&mut bench, *wire)?;
        }
    }
    println!("{}", bench.report.table());
    if let Some(file) = options.json {
        std::fs::write(file, format!("{:#}\n", bench.report.json()))?;
    }
    Ok(())
}
