//! Tests of the documents: their commands run, their tables match the program,
//! the output they show is what is printed, and their links resolve.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

mod architecture;
#[path = "../support/built.rs"]
mod built;
mod examples;
mod limits;
mod links;
mod pages;
mod tables;
mod workflow;

use built::example;

/// A file of this repository.
fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A command without the settings of the user who runs the tests.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("MCP_REMOTE_");
        if ours || name == "RUST_LOG" || name == "DEBUG" {
            command.env_remove(name);
        }
    }
    command
}

fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}
