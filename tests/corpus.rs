//! Runs the fuzzers' seeds through the same targets, since not every machine has a fuzzer.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::path::Path;

fn replay(name: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("seeds") {
        let path = entry.expect("an entry").path();
        let outcome = std::panic::catch_unwind(|| run(&fs::read(&path).expect("a seed")));
        assert!(outcome.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 5, "only {count} seeds");
}

#[test]
fn frame() {
    replay("frame", targets::frame::run);
}

#[test]
fn gate() {
    replay("gate", targets::gate::run);
}

#[test]
fn router() {
    replay("router", targets::router::run);
}

#[test]
fn token() {
    replay("token", targets::token::run);
}

#[test]
fn policy() {
    replay("policy", targets::policy::run);
}

#[test]
fn sse() {
    replay("sse", targets::sse::run);
}

#[test]
fn arguments() {
    replay("arguments", targets::arguments::run);
}
