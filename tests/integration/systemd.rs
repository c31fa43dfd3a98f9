//! As a systemd service: notifications, passed sockets, and the units.

use crate::common::{Setup, example};
use crate::process::{Process, binary, eventually, run};
use crate::wire::TestPeer;
use rustix::process::Signal;
use serde_json::json;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The notifications to the service manager, line by line.
struct Manager {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let patience = crate::process::PATIENCE;
        socket.set_read_timeout(Some(patience)).unwrap();
        let told = Vec::new();
        Self { socket, told }
    }

    fn wait_for(&mut self, wanted: &str) {
        while !self.told.iter().any(|line| line.starts_with(wanted)) {
            let mut message = [0; 512];
            let length = self.socket.recv(&mut message).expect(wanted);
            let text = std::str::from_utf8(&message[..length]).unwrap();
            self.told.extend(text.lines().map(str::to_owned));
        }
        self.told.clear();
    }
}

#[test]
fn a_service_manager_is_told_of_the_whole_life() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::listen(&path);
    let seen = folder.path().join("environment");
    let mut server = Setup::new("tcp")
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .env("WATCHDOG_USEC", "200000")
        .shell(&format!("env > {}", seen.display()))
        .start();
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    server.signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    server.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    assert_eq!(server.wait().code(), Some(0));
    // The MCP server must not notify on our behalf.
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(
        !seen.contains("NOTIFY_SOCKET") && !seen.contains("WATCHDOG"),
        "{seen}"
    );
}

/// A server whose MCP server does not respond has not started.
#[test]
fn ready_is_what_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let mut manager = Manager::listen(&path);
    let go = folder.path().join("go");
    let _server = Setup::new("tcp")
        .env("NOTIFY_SOCKET", &path.display().to_string())
        .shell(&format!(
            "until [ -e {} ]; do sleep 0.05; done",
            go.display()
        ))
        .start();
    let short = Some(Duration::from_millis(500));
    manager.socket.set_read_timeout(short).unwrap();
    assert!(
        manager.socket.recv(&mut [0; 512]).is_err(),
        "ready too early"
    );
    manager
        .socket
        .set_read_timeout(Some(crate::process::PATIENCE))
        .unwrap();
    std::fs::write(go, "").unwrap();
    manager.wait_for("READY=1");
}

/// With systemd's own program: the sockets exist before the server, and it opens none of its own.
#[test]
fn sockets_that_systemd_has_opened_are_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mcp.sock");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut activate = Command::new("systemd-socket-activate");
    activate
        .arg("-l")
        .arg(address.to_string())
        .arg("-l")
        .arg(&path);
    activate.arg(binary().get_program());
    // The port is taken, so it cannot be opened again.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    activate.args([
        "server",
        "tcp",
        "--host",
        "127.0.0.1",
        "--port",
        &port,
        "--",
    ]);
    let _server = Process::spawn(activate.arg(example("echo_server")));
    let stream = eventually("systemd listens", || {
        std::net::TcpStream::connect(address).ok()
    });
    let mut peer = TestPeer::over(stream);
    assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
    assert!(UnixStream::connect(&path).is_ok());
    let mut client = binary();
    client.args(["client", "unix", "--path"]).arg(&path);
    let ask = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n";
    let outcome = run(&mut client, ask);
    assert!(outcome.stdout.contains("\"id\":7"), "{outcome:?}");
}

/// The units as systemd reads them, with existing programs.
#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let folder = tempfile::tempdir().unwrap();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd");
    let program = binary().get_program().display().to_string();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/local/bin/mcp-remote", &program);
        let text = text.replace("/usr/local/bin/your-mcp-server", "/bin/cat");
        let name = path.file_name().unwrap().to_owned();
        std::fs::write(folder.path().join(&name), text).unwrap();
        names.push(name);
    }
    assert_eq!(names.len(), 3);
    let unit = |name: &std::ffi::OsStr| -> PathBuf { folder.path().join(name) };
    let mut verify = Command::new("systemd-analyze");
    let verified = run(
        verify
            .arg("verify")
            .args(names.iter().map(|name| unit(name))),
        b"",
    );
    let own = verified
        .stderr
        .lines()
        .filter(|line| line.contains("mcp-remote"));
    let own: Vec<&str> = own.collect();
    assert!(own.is_empty(), "{}", verified.stderr);
    for name in names.iter().filter(|name| {
        Path::new(name)
            .extension()
            .is_some_and(|it| it == "service")
    }) {
        // From 0, locked in, to 10, wide open; above 4 it is called "medium".
        let mut judge = Command::new("systemd-analyze");
        judge.args(["security", "--offline=yes", "--threshold=40", "--no-pager"]);
        let judged = run(judge.arg(unit(name)), b"");
        assert_eq!(
            judged.code,
            Some(0),
            "{name:?}: {}{}",
            judged.stdout,
            judged.stderr
        );
    }
}

/// `ExecReload`, and what is loaded as a credential, are in the command line that starts.
#[test]
fn the_units_reload_what_can_change() {
    for name in ["mcp-remote.service", "mcp-remote-node.service"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples/systemd")
            .join(name);
        let text = std::fs::read_to_string(path).unwrap();
        for line in [
            "Type=notify",
            "WatchdogSec=",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "LoadCredential=jwt-secret:",
        ] {
            assert!(
                text.lines().any(|it| it.starts_with(line)),
                "{name}: {line}"
            );
        }
        let start = text
            .lines()
            .find(|line| line.starts_with("ExecStart="))
            .unwrap();
        for part in [
            "--revoked /etc/",
            "--permissions-config /etc/",
            "--audit-log ",
        ] {
            assert!(start.contains(part), "{name}: {part}");
        }
    }
}
