//! A stderr that is not read: log lines are lost, and nothing else.

use crate::common::{BOTH, example};
use crate::process::{PATIENCE, binary, eventually, lines_of};
use crate::wire::TestPeer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// A program whose stderr is read only when the test says so.
struct Unread(Child);

impl Unread {
    fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// The port of a server, as soon as it listens.
    fn port(&mut self) -> u16 {
        let stdout = lines_of(self.0.stdout.take().unwrap());
        let line = stdout.recv_timeout(PATIENCE).unwrap();
        line.trim().rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn stop(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    fn wait(&mut self) -> Option<i32> {
        eventually("the program ends", || self.0.try_wait().unwrap()).code()
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// More than a pipe holds, before and while the MCP server serves.
const NOISY: &str = r#"
noise() { i=0; while [ $i -lt 300 ]; do printf '%01000d\n' 0 >&2; i=$((i + 1)); done; }
noise
(noise) &
exec "$0"
"#;

#[test]
fn a_server_serves_and_stops_though_nobody_reads_its_stderr() {
    for transport in BOTH {
        for isolate in ["--isolate=never", "--isolate=always"] {
            let mut command = binary();
            command.args([
                "server", transport, "--port", "0", isolate, "--", "sh", "-c", NOISY,
            ]);
            command.arg(example("echo_server"));
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut server = Unread::spawn(&mut command);
            let mut stderr = server.0.stderr.take().unwrap();
            let port = server.port();
            for _ in 0..3 {
                let mut peer = TestPeer::connect(transport, port);
                for id in 0..20 {
                    assert_eq!(peer.ask(id, "x", json!({}))["id"], id);
                }
            }
            server.stop();
            assert_eq!(server.wait(), Some(0), "{transport} {isolate}");
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            assert!(text.len() > 30_000, "{}", text.len());
        }
    }
}

#[test]
fn what_was_lost_is_counted() {
    let script =
        r#"i=0; while [ $i -lt 9000 ]; do echo "line $i" >&2; i=$((i + 1)); done; exec "$0""#;
    let mut command = binary();
    command.args(["server", "tcp", "--port", "0", "--", "sh", "-c", script]);
    command.arg(example("echo_server"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Unread::spawn(&mut command);
    let port = server.port();
    let mut peer = TestPeer::connect("tcp", port);
    assert_eq!(peer.ask(1, "x", json!({}))["id"], 1);
    // From here on it is read.
    let lines = lines_of(server.0.stderr.take().unwrap());
    let mut shown = 0u64;
    let lost = loop {
        let line = lines.recv_timeout(PATIENCE).unwrap();
        shown += u64::from(line.contains(": line "));
        if let Some(rest) = line.trim_end().strip_prefix("WARN ") {
            assert!(
                rest.ends_with("log lines were lost, since nobody has read stderr"),
                "{line}"
            );
            break rest.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    };
    assert!(lost > 1000 && shown + lost <= 9100, "{shown} {lost}");
    server.stop();
    assert_eq!(server.wait(), Some(0));
}

/// The last line of a command is one of those.
#[test]
fn a_client_that_fails_ends_though_its_stderr_is_full() {
    let (reader, writer) = std::io::pipe().unwrap();
    let full = writer.try_clone().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while rustix::io::write(&full, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut command = binary();
    command.args(["client", "tcp", "--port", "1"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(writer);
    assert_eq!(Unread::spawn(&mut command).wait(), Some(1));
    drop(reader);
}
