//! How many instructions the pure parts take, counted by valgrind and compared with a budget.
//!
//! `cargo bench --bench instructions` prints a table and fails where a budget is exceeded;
//! `-- --write` makes the counts the new budgets; any other argument selects cases by name.
//!
//! A case runs in two processes, one of which stops before the measured part; the difference is
//! the cost. It is the same on every machine, however busy, since valgrind always presents the
//! same processor to a program.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

mod cases;

use cases::{Case, Measure};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::{env, fs, io, thread};

const BUDGETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/budgets.txt");

/// How far a case may exceed its budget.
const LEEWAY: f64 = 1.05;

/// The maximum number of counts of a case.
const COUNTS: usize = 3;

/// A process is warm after this many runs.
const WARM_UP: usize = 128;

/// The measured part handles about this many bytes of messages, in at most this many runs.
const BYTES: usize = 2 << 20;
const MOST_RUNS: usize = 1024;

fn runs(case: &Case) -> usize {
    (BYTES / case.size()).clamp(3, MOST_RUNS)
}

/// Runs a case to be counted from outside.
struct Counted {
    runs: usize,
    /// Without it, only everything up to the first measured run.
    all: bool,
}

impl Measure for Counted {
    fn measure<I>(self, prepare: impl FnMut() -> I, run: impl FnMut(I)) {
        let warm_up = WARM_UP.min(self.runs);
        let inputs: Vec<I> = std::iter::repeat_with(prepare)
            .take(warm_up + self.runs)
            .collect();
        let mut inputs = inputs.into_iter();
        let taken = if self.all { self.runs } else { 0 };
        inputs.by_ref().take(warm_up + taken).for_each(run);
        // Dropping what was not run would be counted.
        std::mem::forget(inputs);
    }
}

/// The instructions of one run.
fn count(case: &Case) -> io::Result<f64> {
    let collected = |part: &str| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe()?)
            .args([part, &case.to_string()])
            .output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        let total = log
            .lines()
            .find_map(|line| line.split_once("Collected : ")?.1.parse::<u64>().ok());
        match total {
            Some(total) if output.status.success() => Ok(total),
            _ => Err(io::Error::other(format!("{case}: {log}"))),
        }
    };
    let more = collected("all")?.saturating_sub(collected("start")?);
    Ok(more as f64 / runs(case) as f64)
}

/// As [`count`]. A count over its budget is taken again: whether a hash table is rehashed
/// depends on the seed of the process, and is not the cost of one message.
fn count_fairly(case: &Case, budget: Option<&f64>) -> io::Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..COUNTS {
        least = least.min(count(case)?);
        if budget.is_none_or(|budget| least <= budget * LEEWAY) {
            break;
        }
    }
    Ok(least)
}

/// Counts all cases, as many at a time as there are processors.
fn count_all(cases: &[Case], budgets: &BTreeMap<String, f64>) -> io::Result<BTreeMap<String, f64>> {
    let (queue, counts) = (Mutex::new(cases.iter()), Mutex::new(BTreeMap::new()));
    let next = || queue.lock().expect("no panic").next();
    let work = || -> io::Result<()> {
        while let Some(case) = next() {
            let count = count_fairly(case, budgets.get(&case.to_string()))?;
            counts
                .lock()
                .expect("no panic")
                .insert(case.to_string(), count);
        }
        Ok(())
    };
    let processors = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        let mut ends = workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"));
        ends.try_for_each(|end| end)
    })?;
    Ok(counts.into_inner().expect("no panic"))
}

fn read_budgets() -> io::Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(BUDGETS)?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    });
    Ok(pairs.collect())
}

fn write_budgets(cases: &[Case], counts: &BTreeMap<String, f64>) -> io::Result<()> {
    let mut text =
        "# Instructions of one run. Written by: cargo bench --bench instructions -- --write\n"
            .to_owned();
    for name in cases.iter().map(Case::to_string) {
        if let Some(count) = counts.get(&name) {
            let _infallible = writeln!(text, "{name:<40} {count:>10.0}");
        }
    }
    fs::write(BUDGETS, text)
}

/// What must hold whatever the budgets are: a name, the value and its limit.
fn figures(counts: &BTreeMap<String, f64>) -> Vec<(String, f64, f64)> {
    let count = |name: &str| counts.get(name).copied();
    let mut figures = Vec::new();
    let mut figure = |name: &str, is: Option<f64>, bound| {
        figures.extend(is.map(|is| (name.to_owned(), is, bound)));
    };
    figure(
        "a request of 200 B and its answer",
        count("round_trip/text/200B"),
        2500.0,
    );
    for shape in ["text", "code", "items"] {
        let round_trip = |size| count(&format!("round_trip/{shape}/{size}"));
        let bytes = 2.0 * f64::from((1 << 20) - 200);
        let slope = round_trip("1MiB")
            .zip(round_trip("200B"))
            .map(|(large, small)| (large - small) / bytes);
        figure(&format!("each byte more, {shape}"), slope, 1.0);
    }
    for naming in ["names", "families"] {
        let policy = |rules| count(&format!("policy/{naming}/{rules}_rules"));
        let ratio = policy(200).zip(policy(3)).map(|(many, few)| many / few);
        figure(&format!("200 rules to 3, {naming}"), ratio, 1.05);
    }
    let gate = count("gate/text/200B");
    let others = |rules| count(&format!("policy/other_arguments/{rules}_rules"));
    let ratio = others(100).zip(others(0)).zip(gate);
    let ratio = ratio.map(|((many, none), gate)| (gate + many) / (gate + none));
    figure("gate and 100 rules on other tools' arguments", ratio, 1.1);
    let ruled = |size| count(&format!("policy/arguments/{size}"));
    let slope = ruled("1MiB").zip(ruled("200B"));
    let slope = slope.map(|(large, small)| (large - small) / f64::from((1 << 20) - 200));
    figure("each byte more of a ruled argument", slope, 3.0);
    figures
}

/// Prints the counts and their distance to the targets; true when every case is within
/// its budget.
fn report(cases: &[Case], counts: &BTreeMap<String, f64>, budgets: &BTreeMap<String, f64>) -> bool {
    let mut good = true;
    let mut row = |name: &str, is: String, bound: String, ratio: f64, most: f64| {
        let within = ratio <= most;
        good &= within;
        let mark = if within { "" } else { "  TOO MUCH" };
        println!("{name:<40} {is:>12} {bound:>12} {ratio:>7.3}{mark}");
    };
    println!(
        "{:<40} {:>12} {:>12} {:>7}",
        "case", "instructions", "budget", "ratio"
    );
    for name in cases.iter().map(Case::to_string) {
        let Some(count) = counts.get(&name) else {
            continue;
        };
        match budgets.get(&name) {
            Some(budget) => row(
                &name,
                format!("{count:.0}"),
                format!("{budget:.0}"),
                count / budget,
                LEEWAY,
            ),
            None => row(
                &name,
                format!("{count:.0}"),
                "none".to_owned(),
                f64::NAN,
                LEEWAY,
            ),
        }
    }
    println!(
        "\n{:<40} {:>12} {:>12} {:>7}",
        "figure", "is", "at most", "ratio"
    );
    for (name, is, bound) in figures(counts) {
        let ratio = is / bound;
        let mark = if ratio <= 1.0 { "" } else { "  not reached" };
        println!("{name:<40} {is:>12.2} {bound:>12.2} {ratio:>7.3}{mark}");
    }
    good
}

fn main() -> ExitCode {
    // `cargo bench` adds an argument of its own.
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let all = Case::all();
    let known = |name: &str| all.iter().find(|case| case.to_string() == name);
    if let [part, name] = &arguments[..]
        && let ("all" | "start", Some(case)) = (&**part, known(name))
    {
        case.measure(Counted {
            runs: runs(case),
            all: part == "all",
        });
        return ExitCode::SUCCESS;
    }
    let write = arguments.iter().any(|word| word == "--write");
    let words: Vec<_> = arguments.iter().filter(|word| *word != "--write").collect();
    let chosen = |case: &&Case| {
        words.is_empty() || words.iter().any(|word| case.to_string().contains(&**word))
    };
    let cases: Vec<Case> = all.iter().filter(chosen).copied().collect();
    let mut budgets = read_budgets().unwrap_or_default();
    let outcome = count_all(&cases, &budgets).and_then(|counts| {
        if write {
            budgets.extend(counts.clone());
            write_budgets(&all, &budgets)?;
        }
        Ok(report(&cases, &counts, &budgets))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("could not count: {err}");
            ExitCode::FAILURE
        }
    }
}
