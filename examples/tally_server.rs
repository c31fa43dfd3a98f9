//! An MCP server that logs what it executes, for the tests of broken connections.
//!
//! Flags: `--log FILE`. It gets a line for each request executed, `run CLIENT N PID`, and for each
//! message that sets up a session: `method NAME PID`. Members of `params` of a request:
//!
//! | member | effect |
//! |---|---|
//! | `client`, `n` | the client, and the number of the request; both are returned |
//! | `pad` | its checksum is returned as `sum` |
//! | `reply` | the result holds a `blob` of this many bytes, different for each `n` |
//! | `delayMs` | delays the response by this long; others overtake it |
//! | `note` | a `notifications/progress` comes first, numbered for each client from 0 |

use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::thread;
use std::time::Duration;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut log = match (arguments.next().as_deref(), arguments.next()) {
        (Some("--log"), Some(path)) => File::options().append(true).create(true).open(path)?,
        _ => return Err(io::Error::other("first: --log FILE")),
    };
    let mut notes: HashMap<String, u64> = HashMap::new();
    let (mut stdin, mut line) = (io::stdin().lock(), Vec::new());
    let pid = std::process::id();
    while stdin.read_until(b'\n', &mut line)? > 0 {
        let message: Value = serde_json::from_slice(&line).unwrap_or_default();
        line.clear();
        let (Some(method), params) = (message["method"].as_str(), &message["params"]) else {
            continue;
        };
        let (client, n) = (params["client"].to_string(), &params["n"]);
        let entry = match n.as_u64() {
            Some(n) => format!("run {client} {n} {pid}\n"),
            None => format!("method {method} {pid} {params}\n"),
        };
        // In one write, so that two processes can share the file.
        log.write_all(entry.as_bytes())?;
        if message["id"].is_null() {
            continue;
        }
        if params["note"] == true {
            let number = notes.entry(client).or_default();
            print(
                &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                "progressToken": params["_meta"]["progressToken"], "progress": *number}}),
            );
            *number += 1;
        }
        let result = if method == "initialize" {
            json!({"protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}, "logging": {}, "resources": {"subscribe": true}},
                "serverInfo": {"name": "tally", "version": "1"}})
        } else {
            let seed = n.as_u64().unwrap_or_default();
            let size = params["reply"].as_u64().unwrap_or_default();
            let sum = checksum(params["pad"].as_str().unwrap_or_default());
            json!({"client": params["client"], "n": n, "sum": sum, "blob": blob(seed, size as usize)})
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result});
        match params["delayMs"].as_u64() {
            None | Some(0) => print(&answer),
            Some(delay) => drop(thread::spawn(move || {
                thread::sleep(Duration::from_millis(delay));
                print(&answer);
            })),
        }
    }
    Ok(())
}

fn print(message: &Value) {
    let mut stdout = io::stdout().lock();
    // A reader that has left does not miss it.
    let _unread = stdout
        .write_all(format!("{message}\n").as_bytes())
        .and_then(|()| stdout.flush());
}

/// FNV-1a.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Text that is different for each `seed`.
fn blob(seed: u64, size: usize) -> String {
    let word = format!("{seed:x}.");
    let mut text = word.repeat(size / word.len() + 1);
    text.truncate(size);
    text
}
