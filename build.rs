//! Finds out what this is built from, for `--version`.

#![allow(
    clippy::print_stdout,
    reason = "this is how build scripts talk to cargo"
)]

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    let target = env::var("TARGET").unwrap_or_default();
    // Whoever works on the program would otherwise build all of it anew with every commit.
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = if is_release {
        println!("cargo:rerun-if-changed=src");
        println!("cargo:rerun-if-changed=Cargo.lock");
        of_repository().or_else(of_package)
    } else {
        Some("development build".to_owned())
    };
    println!("cargo:rerun-if-changed=build.rs");
    let built_from = [commit, Some(target)];
    let built_from: Vec<String> = built_from.into_iter().flatten().collect();
    println!("cargo:rustc-env=BUILT_FROM={}", built_from.join(", "));
}

/// The commit of the repository that this folder is the root of, with a `+` where files have been changed.
fn of_repository() -> Option<String> {
    let prefix = git(&["rev-parse", "--show-prefix"])?;
    if !prefix.is_empty() {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let sources = ["src", "Cargo.toml", "Cargo.lock", "build.rs"];
    let changed = git(&[&["status", "--porcelain", "--"], &sources[..]].concat())?;
    let mark = if changed.is_empty() { "" } else { "+" };
    Some(format!("{commit}{mark}"))
}

/// The commit that a package of crates.io was made from.
fn of_package() -> Option<String> {
    let info = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = info.split_once("\"sha1\"")?;
    let commit = rest.split('"').nth(1)?;
    commit.get(..12).map(str::to_owned)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
