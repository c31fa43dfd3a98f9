//! Everything in `examples/` and `permissions.example.json` works as documented.

#![allow(unreachable_pub)]

#[path = "../support/built.rs"]
mod built;
mod hosts;
mod notes_server;
mod permissions;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use built::example;
use serde_json::{Value, json};

/// A hang is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);
const LISTENING: &str = "MCP Remote TCP server listening on port ";

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn mcp_remote() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
    command.stdin(Stdio::null());
    command
}

fn stdout_of(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    assert!(
        status.success(),
        "{command:?}: {status}\n{}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).expect("stdout is UTF-8")
}

/// A child process that dies with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn quickstart_shows_who_may_do_what() {
    let output = Command::new(example("quickstart"))
        // Without cargo it uses the programs that were built for this test.
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .output()
        .expect("quickstart starts");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{shown}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let row = |method: &str| {
        let row = shown
            .lines()
            .find(|line| line.contains(method) && line.contains('✓'));
        let row = row.unwrap_or_else(|| panic!("no row for {method}:\n{shown}"));
        (row.matches('✓').count(), row.matches('✗').count())
    };
    assert_eq!(row("tools/list"), (3, 0));
    assert_eq!(row("tools/call"), (2, 1));
    assert_eq!(row("resources/read"), (3, 0));
    assert_eq!(row("resources/delete"), (1, 2));
    assert!(
        shown.contains("Access denied for method 'tools/call'"),
        "{shown}"
    );
    let folder = shown
        .lines()
        .find_map(|line| line.split("-- notes_server ").nth(1))
        .expect("the folder");
    assert!(!Path::new(folder).exists(), "{folder} was left behind");
}
