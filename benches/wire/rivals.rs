//! Other programs that put an MCP server on HTTP, from their registries, at the versions pinned in `rivals/`.

use crate::process::Process;
use crate::rig::this;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long they may take to start listening.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy in front of the benchmark's MCP server.
#[derive(Clone, Copy)]
pub enum Rival {
    Supergateway,
    NpmProxy,
    PypiProxy,
}

impl Rival {
    pub const ALL: [Self; 3] = [Self::Supergateway, Self::NpmProxy, Self::PypiProxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Supergateway => "supergateway (npm)",
            Self::NpmProxy => "mcp-proxy (npm)",
            Self::PypiProxy => "mcp-proxy (PyPI)",
        }
    }

    fn command(self, packages: &Path, port: u16) -> io::Result<Command> {
        let (child, port) = (this()?, port.to_string());
        let modules = packages.join("node_modules");
        let mut command = Command::new("node");
        match self {
            Self::Supergateway => {
                command.arg(modules.join("supergateway/dist/index.js"));
                command.args(["--outputTransport", "streamableHttp", "--stateful"]);
                command.args(["--logLevel", "none", "--port", &port, "--stdio"]);
                command.arg(format!("{} child", child.display()));
            }
            Self::NpmProxy => {
                command.arg(modules.join("mcp-proxy/dist/bin/mcp-proxy.mjs"));
                command.args(["--server", "stream", "--host", "127.0.0.1", "--port", &port]);
                command.arg("--").arg(child).arg("child");
            }
            Self::PypiProxy => {
                command = Command::new(packages.join("py/bin/mcp-proxy"));
                command.args(["--log-level", "ERROR", "--port", &port]);
                command.arg("--").arg(child).arg("child");
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        Ok(command)
    }

    /// Starts it, and waits until it listens at its port.
    pub fn start(self, packages: &Path) -> io::Result<(Process, u16)> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Process(self.command(packages, port)?.spawn()?);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("{} does not listen", self.name())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok((process, port))
    }
}

/// Installs all of them into this folder.
pub fn install(packages: &Path) -> io::Result<()> {
    let pinned = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/wire/rivals");
    std::fs::create_dir_all(packages)?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(pinned.join(name), packages.join(name))?;
    }
    let quiet = [
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--loglevel=error",
    ];
    let mut npm = Command::new("npm");
    run(npm.arg("ci").args(quiet).current_dir(packages))?;
    let mut venv = Command::new("python3");
    run(venv.args(["-m", "venv"]).arg(packages.join("py")))?;
    let mut pip = Command::new(packages.join("py/bin/pip"));
    let list = pinned.join("requirements.txt");
    run(pip.args(["install", "--quiet", "--requirement"]).arg(list))
}

fn run(command: &mut Command) -> io::Result<()> {
    if command.stdout(Stdio::null()).status()?.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{command:?} failed")))
    }
}
