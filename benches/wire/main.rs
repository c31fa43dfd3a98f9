//! The real binary beside the pump and a child without any proxy, in one run.
//!
//! `cargo bench --bench wire` takes some minutes, `-- --quick` less than one. Every figure is
//! compared with its yardstick round by round, since only ratios hold on a machine that does other
//! things as well. A table goes to stdout, and with `--json FILE` all values to a file.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

mod child;
mod growth;
mod peer;
mod plot;
mod process;
mod pump;
mod report;
mod rig;
mod scenarios;

use clap::Parser;
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
    /// Only the scenarios whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Measures instead how cost grows, and draws that into this folder.
    #[arg(long)]
    growth: Option<PathBuf>,
    /// Where to write all values.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> io::Result<()> {
    // The servers under test start us again as pump and child.
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("child") => return child::run(),
        Some("pump") => return pump::serve(arguments[2] == "ws", &arguments[3..]),
        Some("pump-client") => {
            let port = arguments[2].parse().map_err(io::Error::other)?;
            return pump::connect(port);
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
    type Step = (&'static str, bool, fn(&mut Bench, bool) -> io::Result<()>);
    // Whether a step is also a part of the quick run.
    let steps: [Step; 10] = [
        ("sequential", true, Bench::sequential),
        ("path", true, Bench::full_path),
        ("pipelined", true, Bench::pipelined),
        ("crowd", true, Bench::crowd),
        ("large-1", false, |bench, ws| {
            bench.large(ws, 1 << 20, true)?;
            bench.large(ws, 1 << 20, false)
        }),
        ("large-8", true, |bench, ws| {
            bench.large(ws, 8 << 20, true)?;
            bench.large(ws, 8 << 20, false)
        }),
        ("features", false, Bench::features),
        ("neighbours", false, Bench::neighbours),
        (
            "start",
            true,
            |bench, ws| if ws { Ok(()) } else { bench.cold_start() },
        ),
        (
            "memory",
            true,
            |bench, ws| if ws { Ok(()) } else { bench.memory() },
        ),
    ];
    for (name, quick, step) in steps {
        if (options.quick && !quick) || !name.contains(&options.only) {
            continue;
        }
        for websocket in [false, true] {
            step(&mut bench, websocket)?;
        }
    }
    println!("{}", bench.report.table());
    if let Some(file) = options.json {
        std::fs::write(file, format!("{:#}\n", bench.report.json()))?;
    }
    Ok(())
}
