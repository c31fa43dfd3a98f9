//! One person's MCP host: starts `mcp-remote client` as if it were the MCP server itself, and uses
//! its stdin and stdout.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;
use crate::programs::{Programs, end_of};

/// Far more than any step takes; it only prevents a failure from hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// Does not outlive this value.
pub(crate) struct Host {
    client: Child,
    lines: Receiver<String>,
}

impl Host {
    pub(crate) fn start(programs: &Programs, port: &str, token: &str, log: &File) -> Result<Host> {
        let mut client = programs
            .mcp_remote(&["client", "tcp", "--host", "127.0.0.1", "--port", port])
            .env("MCP_REMOTE_JWT_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone()?)
            .spawn()?;
        let stdout = client.stdout.take().ok_or("the client has no stdout")?;
        // Read by a thread of its own, because a pipe has no timeout.
        let (sender, lines) = channel();
        thread::spawn(move || {
            let read = BufReader::new(stdout).lines().map_while(|line| line.ok());
            read.map(|line| sender.send(line))
                .take_while(|sent| sent.is_ok())
                .count()
        });
        Ok(Host { client, lines })
    }

    pub(crate) fn ask(&mut self, id: u32, method: &str, params: Value) -> Result<()> {
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
    }

    pub(crate) fn notify(&mut self, method: &str) -> Result<()> {
        self.send(json!({"jsonrpc": "2.0", "method": method}))
    }

    /// The next response, which must be the one to `id`.
    pub(crate) fn answer(&mut self, id: u32) -> Result<Value> {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .map_err(|_| "a client did not answer")?;
            let message: Value = serde_json::from_str(&line)?;
            match message.get("id") {
                Some(given) if *given == id => return Ok(message),
                Some(_) => return Err(format!("expected the answer to {id}, got {line}").into()),
                // A notification.
                None => continue,
            }
        }
    }

    /// Closes the client's stdin, as a host does when it is done; the client then exits by itself.
    pub(crate) fn leave(mut self) -> Result<()> {
        drop(self.client.stdin.take());
        end_of(&mut self.client, "a client", PATIENCE)
    }

    fn send(&mut self, message: Value) -> Result<()> {
        let stdin = self
            .client
            .stdin
            .as_mut()
            .ok_or("the client has no stdin")?;
        Ok(writeln!(stdin, "{message}")?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
