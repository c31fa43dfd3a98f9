//! The programs of the quickstart: where they are, and `mcp-remote` as token generator and
//! as server.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Result;

const LISTENING: &str = "MCP Remote TCP server listening on port ";
/// The server gives its child four seconds before killing it.
const STOP: Duration = Duration::from_secs(10);

pub(crate) struct Programs {
    mcp_remote: PathBuf,
    notes_server: PathBuf,
}

/// Under cargo the programs are built first, since `cargo run --example` builds only the target that
/// it runs. Started by hand, this program expects them next to itself.
pub(crate) fn locate() -> Result<Programs> {
    let examples = env::current_exe()?
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let profile = examples.parent().unwrap_or(&examples);
    if let Some(cargo) = env::var_os("CARGO") {
        return build(&cargo, profile.file_name().unwrap_or_default());
    }
    let programs = Programs {
        mcp_remote: profile.join("mcp-remote"),
        notes_server: examples.join("notes_server"),
    };
    for program in [&programs.mcp_remote, &programs.notes_server] {
        if !program.is_file() {
            return Err(
                format!("{} is missing: start me by `cargo run`", program.display()).into(),
            );
        }
    }
    Ok(programs)
}

fn build(cargo: &OsStr, folder: &OsStr) -> Result<Programs> {
    // The one profile whose folder has another name.
    let profile = if folder == "debug" {
        OsStr::new("dev")
    } else {
        folder
    };
    let output = Command::new(cargo)
        .args(["build", "--bin", "mcp-remote", "--example", "notes_server"])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--profile")
        .arg(profile)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("cargo could not build mcp-remote and notes_server".into());
    }
    // Cargo reports where it put them, whatever target folder or platform is configured.
    let built = |name| {
        output.stdout.split(|byte| *byte == b'\n').find_map(|line| {
            let message: Value = serde_json::from_slice(line).ok()?;
            let fits = message["target"]["name"] == name;
            message["executable"]
                .as_str()
                .filter(|_| fits)
                .map(PathBuf::from)
        })
    };
    let mcp_remote = built("mcp-remote").ok_or("cargo built no mcp-remote")?;
    let notes_server = built("notes_server").ok_or("cargo built no notes_server")?;
    Ok(Programs {
        mcp_remote,
        notes_server,
    })
}

impl Programs {
    /// `mcp-remote`, unaffected by settings in the user's environment.
    pub(crate) fn mcp_remote(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.mcp_remote);
        command.args(arguments).stdin(Stdio::null());
        for (key, _) in env::vars_os() {
            if key.to_string_lossy().starts_with("MCP_REMOTE_") {
                command.env_remove(key);
            }
        }
        command
    }

    pub(crate) fn secret(&self) -> Result<String> {
        stdout_of(&mut self.mcp_remote(&["generate-secret"]))
    }

    pub(crate) fn token(&self, secret: &str, user: &str, role: &str) -> Result<String> {
        let arguments = ["generate-token", "--user", user, "--roles", role, "--quiet"];
        stdout_of(
            self.mcp_remote(&arguments)
                .env("MCP_REMOTE_JWT_SECRET", secret),
        )
    }
}

fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// `mcp-remote server` with the notes behind it. Does not outlive this value.
pub(crate) struct Server {
    process: Child,
    port: String,
    /// Held open, so that the server can still write to it.
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) fn start(
        programs: &Programs,
        secret: &str,
        notes: &Path,
        log: &File,
    ) -> Result<Server> {
        // Port 0 lets the system choose a free one; loopback, because this is only a demonstration.
        let arguments = [
            "server",
            "tcp",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--permissions-config",
        ];
        let mut process = programs
            .mcp_remote(&arguments)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/permissions.example.json"
            ))
            .arg("--")
            .arg(&programs.notes_server)
            .arg(notes)
            // Through the environment: a secret on the command line would be visible in `ps`.
            .env("MCP_REMOTE_JWT_SECRET", secret)
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()?;
        let stdout = process.stdout.take().ok_or("the server has no stdout")?;
        let mut server = Server {
            process,
            port: String::new(),
            stdout: BufReader::new(stdout).lines(),
        };
        let line = server
            .stdout
            .next()
            .ok_or("the server ended before it listened")??;
        let port = line
            .strip_prefix(LISTENING)
            .ok_or("the server did not say where it listens")?;
        server.port = port.to_owned();
        Ok(server)
    }

    pub(crate) fn port(&self) -> &str {
        &self.port
    }

    /// Asks the server to stop, as a service manager does.
    pub(crate) fn stop(&mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        end_of(&mut self.process, "the server", STOP)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for a process to exit successfully.
pub(crate) fn end_of(process: &mut Child, name: &str, patience: Duration) -> Result<()> {
    let until = Instant::now() + patience;
    loop {
        match process.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{name} ended with {status}").into()),
            None if Instant::now() > until => return Err(format!("{name} did not end").into()),
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}
