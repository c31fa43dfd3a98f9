//! The commands of each page run, in order, in one shell, as if a reader pasted them.

use crate::pages::{Page, page, pages};
use crate::{clean, example, manifest};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// All blocks of a page together take a few seconds; a hang is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Replaces `npx` with our own MCP server, so that the test needs no network. Its folder is the
/// last argument, as for the server that the pages name.
const NPX: &str = "#!/bin/sh\nfor last; do :; done\nexec \"$NOTES_SERVER\" \"$last\"\n";

/// A free port that the system gives to no connection in the meantime: those start at
/// 32768.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (0..20_000)
        .map(|_| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let start = std::process::id().wrapping_mul(97);
            10_000 + u16::try_from(start.wrapping_add(next) % 20_000).expect("less than 20,000")
        })
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("a free port")
}

/// The ports that the pages name, each replaced by a free one.
fn with_free_ports(script: &str) -> String {
    let used = ["8080", "8081"]
        .into_iter()
        .filter(|it| script.contains(it));
    used.fold(script.to_owned(), |script, port| {
        script.replace(port, &free_port().to_string())
    })
}

/// Acts as a host with this entry: starts a server, and pings it through the entry's
/// command.
fn host(entry: &str) -> String {
    let file: Value = serde_json::from_str(entry).expect("JSON");
    let entry = &file["mcpServers"]["shared-files"];
    let program = entry["command"].as_str().expect("a command");
    assert!(program.ends_with("/mcp-remote"), "{program}");
    let arguments: Vec<String> = serde_json::from_value(entry["args"].clone()).expect("arguments");
    let arguments = arguments.join("' '").replace("/home/you", "'\"$HOME\"'");
    format!(
        "mcp-remote server tcp --port 8080 -- npx ~/shared 2> host.log &\n\
         SERVER=$!\n\
         echo '{{\"jsonrpc\":\"2.0\",\"id\":\"host\",\"method\":\"ping\"}}' | mcp-remote '{arguments}'\n\
         kill $SERVER\nwait $SERVER\n"
    )
}

fn script(page: &Page) -> String {
    let mut script = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned();
    for block in page.blocks() {
        if block.runs() {
            script += &block.text;
        } else if block.mark == "<!-- entry -->" {
            script += &host(&block.text);
        }
    }
    with_free_ports(&script)
}

/// The output of a script.
struct Outcome {
    stdout: String,
    all: String,
}

/// The reader's folder: a checkout's policies, and the programs on the PATH.
fn prepare(home: &Path) -> String {
    let programs = home.join("programs");
    for folder in [&programs, &home.join("examples")] {
        fs::create_dir(folder).expect("a folder");
    }
    for policy in [
        "permissions.example.json",
        "examples/permissions-tools.json",
        "examples/permissions-arguments.json",
    ] {
        fs::copy(manifest(policy), home.join(policy)).expect("a copy");
    }
    symlink(
        env!("CARGO_BIN_EXE_mcp-remote"),
        programs.join("mcp-remote"),
    )
    .expect("a link");
    fs::write(programs.join("npx"), NPX).expect("a file");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(programs.join("npx"), executable).expect("permissions");
    let path = std::env::var("PATH").expect("a PATH");
    format!("{}:{path}", programs.display())
}

fn bash(script: &str, home: &Path) -> Command {
    let mut bash = clean("bash");
    bash.args(["-e", "-u", "-o", "pipefail", "-c", script])
        .current_dir(home)
        .env("HOME", home)
        .env("PATH", prepare(home))
        .env("NOTES_SERVER", example("notes_server"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    bash
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).expect("UTF-8");
        text
    })
}

fn run(script: &str, home: &Path) -> Outcome {
    let mut bash = bash(script, home).spawn().expect("bash starts");
    let group = Pid::from_child(&bash);
    let stdout = read(bash.stdout.take().expect("stdout is piped"));
    let stderr = read(bash.stderr.take().expect("stderr is piped"));
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match bash.try_wait().expect("bash is ours") {
            Some(status) => break status,
            None if Instant::now() > until => {
                kill_process_group(group, Signal::KILL).expect("the group is ours");
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let stdout = stdout.join().expect("no panic");
    let stderr = stderr.join().expect("no panic");
    let log = fs::read_to_string(home.join("server.log")).unwrap_or_default();
    let all = format!("{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- log\n{log}");
    assert!(status.success(), "{all}");
    assert!(!stderr.contains("error"), "{all}");
    Outcome { stdout, all }
}

/// Runs the page, and expects the output of each block marked for it, and these texts.
fn run_page(path: &str, wanted: &[&str]) -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder for temporary files");
    let page = page(path);
    let outcome = run(&script(&page), home.path());

    let printed = page.blocks();
    let printed = printed.iter().filter(|it| it.mark == "<!-- printed -->");
    for text in printed
        .map(|block| block.text.trim())
        .chain(wanted.iter().copied())
    {
        assert!(
            outcome.stdout.contains(text),
            "{path}: {text}: {}",
            outcome.all
        );
    }
    home
}

#[test]
fn readme_commands_do_what_they_promise() {
    let home = run_page(
        "README.md",
        &[
            "\"tools\":[",
            "{\"jsonrpc\":\"2.0\",\"id\":\"host\",\"result\":{}}",
            "MCP Remote TCP server listening on port ",
        ],
    );
    let token = home.path().join(".config/mcp-remote/token");
    let mode = fs::metadata(token).expect("a token").permissions().mode();
    assert_eq!(mode & 0o077, 0, "others can read the token");
}

#[test]
fn migration_commands_do_what_they_promise() {
    let wanted = [
        "Method not found: resources/delete",
        "MCP Remote WebSocket server listening on port ",
    ];
    run_page("docs/migration.md", &wanted);
}

#[test]
fn token_commands_do_what_they_promise() {
    let home = run_page("docs/tokens.md", &["- User: you", "- Roles: user"]);
    let secrets = fs::read_to_string(home.path().join("secret")).expect("a file of secrets");
    assert_eq!(secrets.lines().count(), 2);
}

#[test]
fn install_commands_do_what_they_promise() {
    let home = run_page("docs/install.md", &[]);
    for file in [
        "mcp-remote.bash",
        "man1/mcp-remote.1",
        "mcp-remote-server.1",
    ] {
        let text = fs::read_to_string(home.path().join(file)).expect(file);
        assert!(text.contains("server"), "{file}");
    }
}

#[test]
fn every_page_with_commands_is_run() {
    let tested = [
        "README.md",
        "docs/install.md",
        "docs/migration.md",
        "docs/tokens.md",
    ];
    let with_commands: Vec<String> = pages()
        .into_iter()
        .filter(|page| page.blocks().iter().any(|block| block.runs()))
        .map(|page| page.path)
        .collect();
    assert_eq!(with_commands, tested);
}
