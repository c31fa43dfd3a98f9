//! A scriptable MCP server for the tests: it responds to every request with what it saw of it.
//!
//! Flags: `--log FILE` (every line received, byte for byte), `--modern` (knows `server/discover`),
//! `--initialize-delay MS`, `--ignore-eof`, `--work MS` (the time each
//! request takes, one after the other). Members of `params` make a request special:
//!
//! | member | effect |
//! |---|---|
//! | `delayMs` | delays the response by this long; others overtake it |
//! | `laterMs` | the same for anything the request causes |
//! | `progress` | this many `notifications/progress` with the request's token come first |
//! | `raw` | the result is this JSON text, unchanged |
//! | `bytes` | the result holds a `blob` of this many bytes |
//! | `fill` | the text that `bytes`, `askBytes`, `notifyBytes` and `huge` are made of |
//! | `huge` | the response is at least this many bytes long, with its id last |
//! | `print` | this text is written to stdout first, unchanged |
//! | `stderr`, `stderrBytes` | this text, or this many bytes in lines, is written to stderr first |
//! | `notify` | a notification of this method comes first |
//! | `notifyBytes` | and is at least this many bytes long |
//! | `ask` | a request of this method, with the id `"asked"`, comes first |
//! | `askBytes` | and is at least this many bytes long |
//! | `askTimes` | and is sent this many times |
//! | `spawn` | a grandchild is started; the result holds its `grandchild` pid |
//! | `silent` | there is no response |
//! | `deaf` | stdin is no longer read |
//! | `exit` | the process exits with this code instead of responding; `initialize`: in its `clientInfo` |
//! | `refuse` | in the `clientInfo` of `initialize`: the response is an error |
//! | `notify` | there, too: a notification of this method comes first |

use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::process::{Command, Stdio, exit};
use std::thread::{self, sleep};
use std::time::Duration;

#[derive(Default)]
struct Flags {
    log: Option<File>,
    modern: bool,
    initialize_delay: u64,
    ignore_eof: bool,
    /// The result of `initialize`.
    capabilities: Option<Value>,
    work: u64,
}

fn main() -> io::Result<()> {
    let mut flags = read_flags()?;
    let (mut stdin, mut line) = (io::stdin().lock(), Vec::new());
    while stdin.read_until(b'\n', &mut line)? > 0 {
        if let Some(log) = &mut flags.log {
            log.write_all(&line)?;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(message) if message.get("method").is_some() && message.get("id").is_some() => {
                answer(&flags, message);
            }
            Ok(_) => {}
            Err(error) => writeln!(io::stderr(), "echo_server: {error}")?,
        }
        line.clear();
    }
    if flags.ignore_eof {
        forever();
    }
    Ok(())
}

fn read_flags() -> io::Result<Flags> {
    let mut flags = Flags::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| io::Error::other("no value"));
        match flag.as_str() {
            "--log" => {
                let log = File::options().append(true).create(true).open(value()?)?;
                flags.log = Some(log);
            }
            "--modern" => flags.modern = true,
            "--initialize-delay" => {
                flags.initialize_delay = value()?.parse().map_err(io::Error::other)?;
            }
            "--ignore-eof" => flags.ignore_eof = true,
            "--capabilities" => {
                let value = serde_json::from_str(&value()?);
                flags.capabilities = Some(value.map_err(io::Error::other)?);
            }
            "--work" => flags.work = value()?.parse().map_err(io::Error::other)?,
            _ => return Err(io::Error::other(format!("unknown flag {flag}"))),
        }
    }
    Ok(flags)
}

fn answer(flags: &Flags, message: Value) {
    let (id, method) = (&message["id"], message["method"].as_str());
    let reply = match method {
        Some("initialize") => {
            exit_where_asked(&message["params"]["clientInfo"]);
            sleep(Duration::from_millis(flags.initialize_delay));
            if let Some(method) = message["params"]["clientInfo"]["notify"].as_str() {
                notify(method, &json!({"from": "echo"}));
            }
            if message["params"]["clientInfo"]["refuse"] == true {
                let error = json!({"code": -32602, "message": "Invalid params"});
                print(&format!(
                    "{}\n",
                    json!({"jsonrpc": "2.0", "id": id, "error": error})
                ));
                return;
            }
            json!({"jsonrpc": "2.0", "id": id, "result": {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": flags.capabilities.clone().unwrap_or(json!({"tools": {}})),
                "serverInfo": {"name": "echo", "version": "1"},
                "params": message["params"],
            }})
        }
        Some("server/discover") if !flags.modern => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "Method not found"}})
        }
        _ => {
            sleep(Duration::from_millis(flags.work));
            return echo(message);
        }
    };
    print(&format!("{reply}\n"));
}

fn exit_where_asked(params: &Value) {
    if let Some(code) = params["exit"].as_i64() {
        #[expect(clippy::exit, reason = "it is asked to")]
        exit(code as i32);
    }
}

fn echo(mut message: Value) {
    let later = message["params"].get_mut("laterMs").map(Value::take);
    if let Some(later) = later.and_then(|later| later.as_u64()) {
        thread::spawn(move || {
            sleep(Duration::from_millis(later));
            echo(message);
        });
        return;
    }
    let params = &message["params"];
    let number = |name: &str| params[name].as_u64();
    let text = |name: &str| params[name].as_str();
    exit_where_asked(params);
    if let Some(text) = text("stderr") {
        let _ = writeln!(io::stderr(), "{text}");
    }
    if let Some(bytes) = number("stderrBytes") {
        let line = [vec![b'e'; 99], vec![b'\n']].concat();
        for _ in 0..bytes / 100 {
            let _ = io::stderr().write_all(&line);
        }
    }
    if let Some(text) = text("print") {
        print(text);
    }
    for at in 0..number("progress").unwrap_or(0) {
        let params = json!({"progressToken": params["_meta"]["progressToken"], "progress": at});
        notify("notifications/progress", &params);
    }
    let fill = text("fill").unwrap_or("b");
    if let Some(method) = text("notify") {
        let mut params = json!({"from": "echo"});
        if let Some(bytes) = number("notifyBytes") {
            params["text"] = json!(filled(fill, bytes));
        }
        notify(method, &params);
    }
    if let Some(method) = text("ask") {
        for _ in 0..number("askTimes").unwrap_or(1) {
            print(&format!(
                r#"{{"jsonrpc":"2.0","method":{method:?},"params":{{"text":""#
            ));
            print_bytes(fill, number("askBytes").unwrap_or(0));
            print("\"},\"id\":\"asked\"}\n");
        }
    }
    if let Some(bytes) = number("huge") {
        print(r#"{"result":{"content":[],"blob":""#);
        print_bytes(fill, bytes);
        print(&format!(
            "\"}},\"jsonrpc\":\"2.0\",\"id\":{}}}\n",
            message["id"]
        ));
        return;
    }
    let mut result = json!({"method": message["method"], "pid": std::process::id()});
    if params["spawn"] == true {
        result["grandchild"] = json!(grandchild());
    }
    if let Some(bytes) = number("bytes") {
        result["blob"] = json!(filled(fill, bytes));
    }
    let deaf = params["deaf"] == true;
    let silent = params["silent"] == true;
    let delay = number("delayMs");
    result["params"] = message["params"].clone();
    let reply = match message["params"]["raw"].as_str() {
        None => json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string(),
        Some(raw) => {
            let id = &message["id"];
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{raw}}}"#)
        }
    };
    let reply = format!("{reply}\n");
    match delay {
        _ if silent => {}
        None => print(&reply),
        Some(delay) => drop(thread::spawn(move || {
            sleep(Duration::from_millis(delay));
            print(&reply);
        })),
    }
    if deaf {
        forever();
    }
}

fn grandchild() -> u32 {
    let quiet = Stdio::null;
    let mut sleep = Command::new("sleep");
    sleep.arg("1000").stdin(quiet()).stdout(quiet());
    sleep.spawn().map_or(0, |sleep| sleep.id())
}

fn notify(method: &str, params: &Value) {
    let notification = json!({"jsonrpc": "2.0", "method": method, "params": params});
    print(&format!("{notification}\n"));
}

fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    // A reader that has left does not miss it.
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// About this many bytes of text.
fn filled(fill: &str, bytes: u64) -> String {
    fill.repeat(bytes as usize / fill.len().max(1))
}

fn print_bytes(fill: &str, mut bytes: u64) {
    while bytes > 0 {
        let size = bytes.min(1 << 20);
        print(&filled(fill, size));
        bytes -= size;
    }
}

fn forever() -> ! {
    loop {
        thread::park();
    }
}
