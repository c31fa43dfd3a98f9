//! The setups that are measured: a child alone, behind the pump, or behind `mcp-remote` with various
//! features enabled.

use crate::peer::{Dialect, Peer, Wire};
use crate::process::Process;
use crate::pump::PIPE;
use rustix::pipe::fcntl_setpipe_size;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const SECRET: &str = "what the benchmarks sign their tokens with";

/// What is in front of the child.
#[derive(Clone, Copy, PartialEq)]
pub enum Front {
    Nothing,
    Pump,
    Proxy,
}

/// What the rules of a policy name.
#[derive(Clone, Copy, PartialEq)]
pub enum Naming {
    /// One method each.
    Methods,
    /// All methods with the same prefix.
    Families,
}

/// How one setup is configured.
#[derive(Clone)]
pub struct Spec {
    pub name: String,
    /// The MCP server, where it is not the benchmark's own.
    pub program: Option<PathBuf>,
    pub front: Front,
    pub wire: Wire,
    /// Through a client process too, whose stdio the peer uses.
    pub client: bool,
    pub auth: bool,
    /// A policy with this many rules on methods.
    pub rules: Option<usize>,
    pub naming: Naming,
    /// Rules on tools as well.
    pub tools: bool,
    pub resume: bool,
    pub tls: bool,
    pub audit: bool,
}

impl Spec {
    fn new(name: &str, front: Front, wire: Wire) -> Self {
        Self {
            name: name.to_owned(),
            program: None,
            front,
            wire,
            client: false,
            auth: false,
            rules: None,
            naming: Naming::Methods,
            tools: false,
            resume: false,
            tls: false,
            audit: false,
        }
    }

    pub fn direct() -> Self {
        Self::new("child alone", Front::Nothing, Wire::Lines)
    }

    pub fn pump(wire: Wire) -> Self {
        Self::new("pump", Front::Pump, wire)
    }

    /// `mcp-remote` with everything off.
    pub fn bare(wire: Wire) -> Self {
        Self::new("mcp-remote, bare", Front::Proxy, wire)
    }

    /// `mcp-remote` with authentication, policy and resume, which the figures are mainly about.
    pub fn full(wire: Wire) -> Self {
        Self {
            auth: true,
            rules: Some(10),
            resume: true,
            ..Self::new("mcp-remote", Front::Proxy, wire)
        }
    }

    /// An HTTP pump responds to everything with the next line of its child.
    fn requests_only(&self) -> bool {
        self.front == Front::Pump && self.wire == Wire::Http
    }

    pub fn named(self, name: &str) -> Self {
        let name = name.to_owned();
        Self { name, ..self }
    }

    /// The same through a client process.
    pub fn through_client(self) -> Self {
        let name = match self.front {
            Front::Pump => "two pumps",
            _ => "client and server",
        };
        Self {
            client: true,
            ..self.named(name)
        }
    }
}

/// The program, and the files and certificates it needs.
pub struct Workshop {
    binary: PathBuf,
    folder: tempfile::TempDir,
    token: String,
    tls: Arc<ClientConfig>,
}

impl Workshop {
    pub fn new() -> io::Result<Self> {
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_mcp-remote"));
        let target = binary.ancestors().nth(2).ok_or(io::ErrorKind::NotFound)?;
        build(target, &["--bins"])?;
        let folder = tempfile::tempdir()?;
        let token = Command::new(&binary)
            .args([
                "generate-token",
                "--quiet",
                "--user",
                "bench",
                "--roles",
                "bench",
            ])
            .env("MCP_REMOTE_JWT_SECRET", SECRET)
            .stderr(Stdio::null())
            .output()?;
        let token = String::from_utf8(token.stdout).map_err(io::Error::other)?;
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(io::Error::other)?;
        std::fs::write(folder.path().join("cert.pem"), certified.cert.pem())?;
        std::fs::write(
            folder.path().join("key.pem"),
            certified.signing_key.serialize_pem(),
        )?;
        let mut roots = RootCertStore::empty();
        roots
            .add(certified.cert.der().clone())
            .map_err(io::Error::other)?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            binary,
            folder,
            token: token.trim().to_owned(),
            tls: Arc::new(tls),
        })
    }

    /// Where other programs are installed.
    pub fn packages(&self) -> PathBuf {
        self.target().join("rivals")
    }

    /// Cargo's folder.
    fn target(&self) -> &Path {
        let target = self.binary.ancestors().nth(2);
        target.unwrap_or(Path::new("target"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A policy that allows what the peers do only in the last of its `rules`.
    fn policy(&self, spec: &Spec, rules: usize) -> io::Result<PathBuf> {
        let family = match spec.naming {
            Naming::Methods => "",
            Naming::Families => "/*",
        };
        let methods = (3..rules).map(|number| format!("\"bench/method{number}{family}\""));
        let needed = ["initialize", "tools/list", "tools/call"].map(|name| format!("\"{name}\""));
        let methods: Vec<String> = methods.chain(needed).collect();
        let tools = if spec.tools {
            r#","allowedTools":["echo","take*","give"],"blockedTools":["delete_*","drop"]"#
        } else {
            ""
        };
        let text = format!(
            "{{\"permissions\":{{\"bench\":{{\"allowedMethods\":[{}]{tools}}}}}}}",
            methods.join(",")
        );
        let file = self.file(&format!(
            "policy-{rules}-{}-{}.json",
            spec.tools,
            family.len()
        ));
        std::fs::write(&file, text)?;
        Ok(file)
    }
}

/// A child behind what the spec says, ready for peers.
pub struct Rig {
    pub name: String,
    pub peers: Vec<Peer>,
    pub server: Option<Process>,
    pub client: Option<Process>,
    pub port: u16,
    pub dialect: Dialect,
    /// Last, so that it outlives the fields before it.
    _child: Option<Process>,
}

impl Rig {
    /// Starts it and connects this many peers.
    pub fn start(spec: &Spec, workshop: &Workshop, peers: usize) -> io::Result<Self> {
        let mut rig = Self::empty(&spec.name);
        if spec.front == Front::Nothing {
            let (peer, child) = piped(Command::new(this()?).arg("child"), Dialect::default())?;
            rig.peers.push(peer);
            rig._child = Some(child);
            return Ok(rig);
        }
        let (server, port) = Process::serve(&mut serve(spec, workshop)?)?;
        rig.server = Some(server);
        rig.port = port;
        rig.dialect = Dialect {
            wire: spec.wire,
            requests_only: spec.requests_only(),
            token: spec.auth.then(|| workshop.token.clone()),
            // Over HTTP a session continues without a handshake.
            resume: spec.resume && spec.wire != Wire::Http,
            tls: spec.tls.then(|| Arc::clone(&workshop.tls)),
        };
        if spec.client {
            let dialect = Dialect {
                requests_only: spec.requests_only(),
                ..Dialect::default()
            };
            let (peer, client) = piped(&mut connect(spec, workshop, port)?, dialect)?;
            rig.peers.push(peer);
            rig.client = Some(client);
        } else {
            for _ in 0..peers {
                rig.add_peer()?;
            }
        }
        Ok(rig)
    }

    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            peers: Vec::new(),
            server: None,
            client: None,
            port: 0,
            dialect: Dialect::default(),
            _child: None,
        }
    }

    /// A server that is already running, with one peer.
    pub fn before(name: &str, server: Process, port: u16, dialect: Dialect) -> io::Result<Self> {
        let mut rig = Self::empty(name);
        (rig.server, rig.port, rig.dialect) = (Some(server), port, dialect);
        rig.add_peer()?;
        Ok(rig)
    }

    pub fn add_peer(&mut self) -> io::Result<()> {
        let peer = Peer::connect(self.port, &self.dialect)?;
        self.peers.push(peer);
        Ok(())
    }

    /// The only peer, or the first.
    pub fn peer(&mut self) -> &mut Peer {
        &mut self.peers[0]
    }

    /// The CPU time used by what is in front of the child.
    pub fn cpu(&self) -> io::Result<Duration> {
        let processes = self.server.iter().chain(&self.client);
        processes.map(Process::cpu).sum()
    }

    /// The same, including their child processes.
    pub fn cpu_of_all(&self) -> io::Result<Duration> {
        let processes = self.server.iter().chain(&self.client);
        processes.map(Process::cpu_with_children).sum()
    }
}

/// The `rmcp` server from the table of SDKs, built like the program.
pub fn fixture(workshop: &Workshop) -> io::Result<PathBuf> {
    let target = workshop.target();
    build(target, &["--example", "rmcp_server"])?;
    Ok(target.join("release/examples/rmcp_server"))
}

/// Builds the program as its users do: with benchmarks and tests, cargo also enables the features that
/// these need of shared dependencies.
fn build(target: &Path, what: &[&str]) -> io::Result<()> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--target-dir"])
        .arg(target)
        .args(what)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if built.success() {
        Ok(())
    } else {
        Err(io::Error::other("cargo build failed"))
    }
}

/// This program, which is also the pump and the MCP server.
pub fn this() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Starts a process whose stdio is for one peer.
fn piped(command: &mut Command, dialect: Dialect) -> io::Result<(Peer, Process)> {
    let mut process = Process(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let stdin = process.0.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stdout = process.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    fcntl_setpipe_size(&stdin, PIPE)?;
    fcntl_setpipe_size(&stdout, PIPE)?;
    Ok((Peer::on_pipes(stdin, stdout, dialect)?, process))
}

/// The command of the server; its logs are discarded.
pub fn serve(spec: &Spec, workshop: &Workshop) -> io::Result<Command> {
    let transport = spec.wire.name();
    if spec.front == Front::Pump {
        let mut command = Command::new(this()?);
        command.args(["pump", transport]).arg(this()?).arg("child");
        return Ok(command);
    }
    let mut command = Command::new(&workshop.binary);
    command.args(["server", transport, "--port", "0", "--host", "127.0.0.1"]);
    if spec.auth {
        command.env("MCP_REMOTE_JWT_SECRET", SECRET);
    }
    if let Some(rules) = spec.rules {
        let policy = workshop.policy(spec, rules)?;
        command.arg("--permissions-config").arg(policy);
    }
    if !spec.resume {
        command.args(["--resume-window", "0s"]);
    }
    let with_file = |command: &mut Command, flag: &str, file: &Path| {
        command.arg(flag).arg(file);
    };
    if spec.tls {
        with_file(&mut command, "--tls-cert", &workshop.file("cert.pem"));
        with_file(&mut command, "--tls-key", &workshop.file("key.pem"));
    }
    if spec.audit {
        with_file(&mut command, "--audit-log", &workshop.file("audit.log"));
        command.arg("--audit-allowed");
    }
    command.args(["--max-connections", "8192", "--max-per-user", "8192"]);
    command.args(["--max-sessions", "8192"]);
    command.args(["--max-message-size", "64MiB"]);
    command.args(["--max-pending", "8192", "--max-pending-per-address", "8192"]);
    command.arg("--");
    match &spec.program {
        Some(program) => command.arg(program),
        None => command.arg(this()?).arg("child"),
    };
    command.stderr(Stdio::null());
    Ok(command)
}

fn connect(spec: &Spec, workshop: &Workshop, port: u16) -> io::Result<Command> {
    let transport = spec.wire.name();
    let port = port.to_string();
    if spec.front == Front::Pump {
        let mut command = Command::new(this()?);
        command.args(["pump-client", transport, &port]);
        return Ok(command);
    }
    let mut command = Command::new(&workshop.binary);
    command.args(["client", transport]);
    if spec.wire == Wire::Http {
        let url = format!("http://127.0.0.1:{port}/mcp");
        command.args(["--url", &url]);
    } else {
        command.args(["--port", &port]);
    }
    if spec.auth {
        command.env("MCP_REMOTE_JWT_TOKEN", &workshop.token);
    }
    if spec.resume {
        command.arg("--auto-reconnect");
    }
    command.stderr(Stdio::null());
    Ok(command)
}
