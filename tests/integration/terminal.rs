//! Servers started by hand, on a real terminal.

use crate::certificates::Files;
use crate::common::{SECRET, example};
use crate::process::{Process, binary, eventually, is_alive, kill, run, wait_gone};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A server on a terminal of its own.
struct OnTerminal {
    terminal: Process,
    server: u64,
    child: u64,
    folder: TempDir,
}

impl OnTerminal {
    /// These shell fragments precede and follow the command line.
    fn start(before: &str, behind: &str) -> Self {
        Self::start_with(before, "", behind)
    }

    fn start_with(before: &str, flags: &str, behind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "cd {folder}; echo $$ > server; {before} {program} server tcp --port 0 {flags} -- sh -c 'echo $$ > child; exec {echo}' {behind}",
            folder = folder.path().display(),
            program = binary().get_program().display(),
            echo = example("echo_server").display(),
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &script]);
        command
            .arg(folder.path().join("typescript"))
            .env("DEBUG", "true");
        let terminal = Process::spawn(command.stdin(Stdio::piped()));
        let pid = |name: &str| {
            eventually(&format!("the {name} starts"), || {
                let text = std::fs::read_to_string(folder.path().join(name)).ok()?;
                text.trim().parse().ok()
            })
        };
        let (server, child) = (pid("server"), pid("child"));
        let started = Self {
            terminal,
            server,
            child,
            folder,
        };
        started.wait_for("listening on port");
        started
    }

    /// Waits until the terminal, or the file in its place, shows this.
    fn wait_for(&self, part: &str) {
        let shows = |path: &Path| {
            std::fs::read(path)
                .is_ok_and(|text| memchr::memmem::find(&text, part.as_bytes()).is_some())
        };
        let files = ["typescript", "output"].map(|name| self.folder.path().join(name));
        eventually(&format!("{part:?} is shown"), || {
            files.iter().any(|file| shows(file)).then_some(())
        });
    }

    fn close(&mut self) {
        kill(self.terminal.child.id().into());
        self.terminal.wait();
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        if is_alive(self.server) {
            kill(self.server);
        }
    }
}

/// Bug: such a server kept running, with its port and its child, since SIGHUP means reload.
#[test]
fn a_server_ends_with_the_terminal_it_was_started_on() {
    let mut started = OnTerminal::start("exec", "");
    started.close();
    wait_gone(started.server);
    wait_gone(started.child);
}

#[test]
fn a_server_that_is_to_stay_does() {
    for (before, behind) in [
        ("exec nohup", "> output 2>&1"),
        ("trap '' HUP; exec", "2> output"),
    ] {
        let mut started = OnTerminal::start(before, behind);
        started.close();
        started.wait_for("reloaded");
        assert!(is_alive(started.server));
    }
}

/// Runs this shell command on a terminal; returns everything that is shown there.
fn on_terminal(script: &str) -> String {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", script, "/dev/null"]);
    let outcome = run(command.env("TERM", "xterm"), b"");
    outcome.stdout.replace('\r', "")
}

#[test]
fn without_arguments_the_first_steps_are_shown() {
    let program = binary().get_program().display().to_string();
    let shown = on_terminal(&program);
    assert!(shown.contains("generate-secret"), "{shown}");
    assert!(shown.contains("doctor client"), "{shown}");
    assert!(shown.lines().count() <= 10, "{shown}");
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    // Without a terminal it is the usage, as for any other program.
    let outcome = run(&mut binary(), b"");
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.stderr.contains("Usage: mcp-remote"),
        "{}",
        outcome.stderr
    );
}

/// Bug: a client of a server without a secret showed nothing at all.
#[test]
fn a_client_started_by_hand_says_what_it_waits_for() {
    let says = "waiting for MCP messages on stdin";
    let mut client = binary();
    client.args(["client", "tcp", "--host", "127.0.0.1", "--port", "1"]);
    let program = client.get_program().display();
    let shown = on_terminal(&format!("{program} client tcp --host 127.0.0.1 --port 1"));
    assert!(shown.contains(says), "{shown}");
    // A host knows.
    let outcome = run(&mut client, b"");
    assert!(!outcome.stderr.contains(says), "{outcome:?}");
}

/// The entry shown in the banner is given to a host, which finds the server.
#[test]
fn a_server_started_by_hand_says_how_to_reach_it() {
    let started = OnTerminal::start_with("exec", "--listen http://127.0.0.1:0", "");
    started.wait_for("MCP server started");
    let shown = std::fs::read_to_string(started.folder.path().join("typescript")).unwrap();
    for part in [
        "listens     127.0.0.1:",
        "anyone, from this machine alone",
        "everything: there is no policy",
        "does not leave this machine",
        "mcp-remote client tcp --host localhost --port ",
        "\u{1b}[32m INFO\u{1b}[0m",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let first = shown.lines().find(|line| line.contains("INFO")).unwrap();
    let time = first.strip_prefix("\u{1b}[2m").unwrap();
    assert_eq!(time.find('Z'), Some("12:00:00".len()), "{first}");
    let entry = &shown[shown.find("\n{").unwrap()..shown.find("\n}").unwrap() + 2];
    let entry: Value = serde_json::from_str(entry).unwrap();
    let entry = &entry["mcpServers"]["remote"];
    let mut client = Command::new(entry["command"].as_str().unwrap());
    for argument in entry["args"].as_array().unwrap() {
        client.arg(argument.as_str().unwrap());
    }
    let ask = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n";
    let outcome = run(&mut client, ask);
    assert!(outcome.stdout.contains("\"id\":7"), "{outcome:?}");
}

/// Bug: the command for a token found no secret, and the one for the client had no token.
#[test]
fn the_commands_of_the_banner_work_in_any_folder_as_they_are_pasted() {
    let files = Files::new();
    let flags = "--host 0.0.0.0 --jwt-secret-file secret --jwt-issuer 'an issuer' --jwt-audience notes --tls-cert server.pem --tls-key server.key";
    let before = format!(
        "umask 077; printf %s {SECRET:?} > secret; cp {} {} .; exec",
        files.path("server.pem"),
        files.path("server.key")
    );
    let started = OnTerminal::start_with(&before, flags, "");
    started.wait_for("MCP server started");
    let shown = std::fs::read_to_string(started.folder.path().join("typescript")).unwrap();
    let row = |name: &str| {
        let mut lines = shown.lines().map(str::trim);
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {shown}"))
            .trim()
            .to_owned()
    };
    let client = row("the client");
    assert!(client.contains("--host localhost --port "), "{client}");
    let elsewhere = tempfile::tempdir().unwrap();
    let program = Path::new(binary().get_program())
        .parent()
        .unwrap()
        .to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.current_dir(elsewhere.path()).env("PATH", path);
    let pasted = format!(
        "{} && {client} --tls-ca {}",
        row("a token"),
        files.path("ca.pem")
    );
    let ask = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n";
    let outcome = run(shell.args(["-c", &pasted]), ask);
    assert!(
        outcome.stdout.contains("\"id\":7,\"result\""),
        "{pasted}: {outcome:?}"
    );
    assert!(!outcome.stderr.contains("chmod"), "{outcome:?}");
}
