//! The real binary as users run it: [`TestServer`] and [`TestClient`]. Peers are in
//! [`super::wire`].

pub use super::built::example;

use super::process::{
    Log, Outcome, PATIENCE, Process, Stdin, binary, eventually, lines_of, memory, run,
};
use super::wire::TestPeer;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The secret of the tests' servers.
pub const SECRET: &str = "what the tests sign their tokens with";

/// Both transports.
pub const BOTH: [&str; 2] = ["tcp", "ws"];

/// Seconds since 1970.
pub fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.unwrap().as_secs()
}

/// A token with these claims, as the tests' servers accept it.
pub fn token(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// A token for alice with these roles, valid for an hour.
pub fn token_with(roles: &[&str]) -> String {
    token(&json!({"user": "alice", "roles": roles, "exp": now() + 3600}))
}

/// A request as one line without its newline.
pub fn request(id: impl Into<Value>, method: &str, params: Value) -> String {
    let id = id.into();
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

/// How to start a [`TestServer`].
pub struct Setup {
    transport: &'static str,
    command: Command,
    port: u16,
    wrapper: Option<String>,
    child: Vec<String>,
    folder: TempDir,
}

impl Setup {
    /// A server without a secret, in front of the echo server.
    pub fn new(transport: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = binary();
        command.args(["server", transport]);
        let path = |path: &Path| path.display().to_string();
        let log = path(&folder.path().join("seen"));
        let child = vec![path(&example("echo_server")), "--log".to_owned(), log];
        Self {
            transport,
            command,
            port: 0,
            wrapper: None,
            child,
            folder,
        }
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn secret(self) -> Self {
        self.env("MCP_REMOTE_JWT_SECRET", SECRET)
    }

    /// An audit log, [`TestServer::beside`].
    pub fn audited(self, name: &str) -> Self {
        let path = self.folder.path().join(name).display().to_string();
        self.args(&["--audit-log", &path])
    }

    /// A Unix socket as an additional listener, at [`TestServer::beside`].
    pub fn unix(self, name: &str) -> Self {
        let url = format!("unix://{}", self.folder.path().join(name).display());
        self.args(&["--listen", &url])
    }

    pub fn policy(self, policy: &Value) -> Self {
        let path = self.folder.path().join("permissions.json");
        std::fs::write(&path, policy.to_string()).unwrap();
        let path = path.display().to_string();
        self.secret().args(&["--permissions-config", &path])
    }

    /// More flags for the echo server.
    pub fn echo(mut self, flags: &[&str]) -> Self {
        self.child.extend(flags.iter().map(ToString::to_string));
        self
    }

    /// Started with these soft and hard limits on file descriptors.
    pub fn descriptors(mut self, soft: u64, hard: u64) -> Self {
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.command = command;
        self
    }

    /// Runs this shell command before the echo server, in its process.
    pub fn shell(mut self, script: &str) -> Self {
        self.wrapper = Some(format!("{script}\nexec \"$0\" \"$@\""));
        self
    }

    /// As [`Setup::shell`], but only for the first process.
    pub fn shell_at_first(self, script: &str) -> Self {
        let mark = self.folder.path().join("begun").display().to_string();
        self.shell(&format!("[ -e {mark} ] || {{ touch {mark}\n{script}\n}}"))
    }

    /// Another program in place of the echo server.
    pub fn program(mut self, program: &[&str]) -> Self {
        self.child = program.iter().map(ToString::to_string).collect();
        self
    }

    fn finish(&mut self) -> &mut Command {
        let port = self.port.to_string();
        self.command.args(["--port", &port, "--"]);
        if let Some(script) = &self.wrapper {
            self.command.args(["sh", "-c", script]);
        }
        self.command.args(&self.child)
    }

    /// For a server that exits.
    pub fn run(mut self) -> Outcome {
        run(self.finish(), b"")
    }

    pub fn start(mut self) -> TestServer {
        self.finish().stdin(Stdio::null());
        let mut process = Process::spawn(&mut self.command);
        let stdout = lines_of(process.child.stdout.take().unwrap());
        let name = match self.transport {
            "tcp" => "TCP",
            "ws" => "WebSocket",
            _ => "HTTP",
        };
        let hello = format!("MCP Remote {name} server listening on port ");
        let line = stdout.recv_timeout(PATIENCE).expect("the server starts");
        let port = line
            .strip_prefix(&hello)
            .and_then(|rest| rest.trim_end().parse().ok());
        TestServer {
            port: port.unwrap_or_else(|| panic!("{line:?}")),
            log: process.stderr.clone(),
            transport: self.transport,
            process,
            stdout,
            folder: self.folder,
        }
    }
}

/// `mcp-remote server`, listening.
pub struct TestServer {
    pub port: u16,
    /// Its stderr.
    pub log: Log,
    pub transport: &'static str,
    process: Process,
    stdout: Receiver<String>,
    folder: TempDir,
}

impl TestServer {
    /// In front of the echo server, without authentication.
    pub fn start(transport: &'static str) -> Self {
        Setup::new(transport).start()
    }

    pub fn peer(&self) -> TestPeer {
        TestPeer::connect(self.transport, self.port)
    }

    pub fn peer_with(&self, token: &str) -> TestPeer {
        let mut peer = self.peer();
        let answer = peer.login(token);
        assert_eq!(answer["result"]["authenticated"], true, "{answer}");
        peer
    }

    /// The port of the next listener that it has opened, or the path of its socket.
    pub fn next_listener(&self) -> String {
        let line = self
            .stdout
            .recv_timeout(PATIENCE)
            .expect("a further listener");
        line.split_whitespace().next_back().unwrap().to_owned()
    }

    /// A file beside the echo server's log.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the echo server has received.
    pub fn seen(&self) -> String {
        let path = self.folder.path().join("seen");
        String::from_utf8(std::fs::read(path).unwrap_or_default()).unwrap()
    }

    /// The line received by the echo server that contains `part`, once it is there.
    pub fn wait_seen(&self, part: &str) -> String {
        eventually(&format!("the child sees {part:?}"), || {
            let seen = self.seen();
            let line = seen.split_inclusive('\n').find(|line| line.contains(part));
            line.map(str::to_owned)
        })
    }

    pub fn pid(&self) -> u64 {
        self.process.child.id().into()
    }

    /// Its peak memory so far, in KiB.
    pub fn peak(&self) -> u64 {
        memory(self.pid(), "VmHWM")
    }

    /// Its current memory, in KiB.
    pub fn resident(&self) -> u64 {
        memory(self.pid(), "VmRSS")
    }

    /// How many files, pipes and sockets it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).unwrap().count()
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGHUP and waits until all files have been reloaded.
    pub fn reload(&self) {
        let count = || self.log.text().matches("INFO reloaded").count();
        let before = count();
        self.signal(Signal::HUP);
        eventually("the server reloads", || (count() > before).then_some(()));
    }

    pub fn wait(&mut self) -> ExitStatus {
        let status = self.process.wait();
        assert_eq!(self.stdout.try_iter().next(), None, "more on stdout");
        status
    }

    /// Stops it, and returns its stderr.
    pub fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
        self.log.to_the_end()
    }

    /// It still serves new clients.
    pub fn assert_serving(&self) {
        assert_eq!(self.peer().ask("alive?", "ping", json!({}))["id"], "alive?");
    }

    /// It still serves clients with a token.
    pub fn assert_serving_with(&self, token: &str) {
        let answer = self.peer_with(token).ask("alive?", "ping", json!({}));
        assert_eq!(answer["id"], "alive?");
    }
}

/// `mcp-remote client`, as a host runs it.
pub struct TestClient {
    pub log: Log,
    process: Process,
    stdin: Option<Stdin>,
    stdout: Receiver<String>,
}

impl TestClient {
    pub fn start(transport: &str, port: u16, args: &[&str], token: Option<&str>) -> Self {
        Self::start_with(transport, port, |command| {
            let token = token.map(|token| ("MCP_REMOTE_JWT_TOKEN", token));
            command.args(args).envs(token);
        })
    }

    pub fn start_with(transport: &str, port: u16, prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = client_command(transport, port);
        prepare(&mut command);
        Self::of(command)
    }

    /// `client http`.
    pub fn http(url: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = binary();
        command.args(["client", "http", "--url", url]).args(args);
        command.envs(environment.iter().copied());
        Self::of(command)
    }

    /// The words of a command line, with further ones.
    pub fn of_command(words: &[&str], args: &[&str], token: &str) -> Self {
        let mut command = binary();
        command.args(words).args(args);
        if !token.is_empty() {
            command.env("MCP_REMOTE_JWT_TOKEN", token);
        }
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        let mut process = Process::spawn(&mut command);
        Self {
            log: process.stderr.clone(),
            stdin: Some(Stdin::of(&mut process)),
            stdout: lines_of(process.child.stdout.take().unwrap()),
            process,
        }
    }

    pub fn send(&mut self, line: &str) {
        self.send_bytes(format!("{line}\n").as_bytes());
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Waits until it has read everything that it was sent.
    pub fn wait_read(&self) {
        self.stdin.as_ref().unwrap().wait_read();
    }

    /// The next message, which must exist.
    pub fn next(&self) -> Value {
        self.next_within(PATIENCE).expect("an answer")
    }

    /// The next message, if one comes in time.
    pub fn next_within(&self, patience: Duration) -> Option<Value> {
        let line = self.stdout.recv_timeout(patience).ok()?;
        assert!(line.ends_with('\n'), "{line:?}");
        Some(serde_json::from_str(&line).unwrap_or_else(|err| panic!("{line:?}: {err}")))
    }

    /// The next message, if there is one.
    pub fn try_next(&self) -> Option<Value> {
        self.next_within(Duration::ZERO)
    }

    pub fn pid(&self) -> u64 {
        self.process.child.id().into()
    }

    /// The next line, whatever it is; `None` at EOF.
    pub fn wait_line(&self) -> Option<String> {
        self.stdout.recv_timeout(PATIENCE).ok()
    }

    pub fn ask(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Value {
        self.send(&request(id, method, params));
        self.next()
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for it to exit, ignoring its output.
    pub fn wait_unheard(&mut self) -> Option<i32> {
        self.process.wait().code()
    }

    /// Its exit code; stdout must have nothing more.
    pub fn wait(&mut self) -> Option<i32> {
        let code = self.process.wait().code();
        assert_eq!(self.stdout.recv_timeout(PATIENCE).ok(), None);
        code
    }
}

pub fn client_command(transport: &str, port: u16) -> Command {
    let mut command = binary();
    let port = port.to_string();
    command.args(["client", transport, "--host", "127.0.0.1", "--port", &port]);
    command
}
