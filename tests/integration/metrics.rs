//! The metrics, as Prometheus reads them. `.ci/run` installs a real one.

use crate::certificates::Files;
use crate::common::{Setup, TestServer, now, request, token, token_with};
use crate::process::{Process, binary, eventually, run};
use crate::support::http::Http;
use crate::wire::TestPeer;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A W3C Trace Context.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub fn get(port: u16, path: &str) -> String {
    let mut peer = TestPeer::connect("tcp", port);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    peer.raw(request.as_bytes());
    peer.rest()
}

/// The value of one line; 0 if it is missing.
pub fn value(text: &str, line: &str) -> f64 {
    let mut values = text
        .lines()
        .filter_map(|it| it.strip_prefix(line)?.strip_prefix(' '));
    values.next().map_or(0.0, |value| value.parse().unwrap())
}

fn measured(setup: Setup) -> (TestServer, u16) {
    let server = setup.args(&["--metrics", "127.0.0.1:0"]).start();
    let port = server.next_listener().parse().unwrap();
    (server, port)
}

/// Waits until all of these lines have these values.
fn expect(port: u16, expected: &[(&str, f64)]) -> String {
    eventually(&format!("{expected:?}"), || {
        let text = get(port, "/metrics");
        let all = expected
            .iter()
            .all(|(line, wanted)| value(&text, line) == *wanted);
        all.then_some(text)
    })
}

/// A page whose name resolves to this machine may send requests to it, and its browser adds no Origin.
#[test]
fn on_loopback_they_are_told_under_names_of_loopback_only() {
    let status = |port: u16, path: &str, host: &str| {
        let mut http = Http::connect(port);
        http.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        http.answer().status()
    };
    let (server, health) = measured(Setup::new("tcp").args(&["--health", "127.0.0.1:0"]));
    let port = server.next_listener().parse().unwrap();
    let own = format!("127.0.0.1:{port}");
    for host in [own.as_str(), "localhost", "[::1]:9464"] {
        assert_eq!(status(port, "/metrics", host), 200, "{host}");
    }
    for host in [
        "evil.example.com",
        "localhost.evil.example.com",
        "localhost:evil.example.com",
    ] {
        assert_eq!(status(port, "/metrics", host), 403, "{host}");
        assert_eq!(status(health, "/healthz", host), 200, "{host}");
    }
}

#[test]
fn beyond_loopback_they_are_told_under_any_name() {
    let server = Setup::new("tcp").args(&["--metrics", "0.0.0.0:0"]).start();
    let port = server.next_listener().parse().unwrap();
    let mut http = Http::connect(port);
    http.raw(b"GET /metrics HTTP/1.1\r\nHost: pod.example.com\r\n\r\n");
    assert_eq!(http.answer().status(), 200);
}

#[test]
fn what_peers_do_is_counted() {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["*"], "blockedMethods": ["tools/call"]}}});
    let (server, port) = measured(Setup::new("tcp").policy(&policy));
    let mut peer = server.peer_with(&token_with(&["user"]));
    peer.ask(1, "tools/list", json!({}));
    peer.ask(2, "tools/call", json!({"name": "x"}));
    peer.ask(3, "x/chosen-by-a-peer", json!({}));
    peer.send("no message");
    peer.next();
    let expired = token(&json!({"user": "alice", "roles": ["user"], "exp": now() - 9}));
    for token in [expired.as_str(), "nonsense"] {
        assert!(server.peer().login(token)["error"].is_object());
    }
    let text = expect(
        port,
        &[
            ("mcp_remote_connections_total{transport=\"tcp\"}", 3.0),
            ("mcp_remote_open_connections{transport=\"tcp\"}", 1.0),
            ("mcp_remote_open_sessions{transport=\"tcp\"}", 1.0),
            ("mcp_remote_open_sessions{transport=\"http\"}", 0.0),
            (
                "mcp_remote_messages_total{method=\"tools/list\",verdict=\"passed\"}",
                1.0,
            ),
            (
                "mcp_remote_messages_total{method=\"tools/call\",verdict=\"blocked\"}",
                1.0,
            ),
            (
                "mcp_remote_messages_total{method=\"other\",verdict=\"passed\"}",
                1.0,
            ),
            (
                "mcp_remote_messages_total{method=\"other\",verdict=\"invalid\"}",
                1.0,
            ),
            (
                "mcp_remote_authentication_failures_total{reason=\"expired\"}",
                1.0,
            ),
            (
                "mcp_remote_authentication_failures_total{reason=\"invalid_token\"}",
                1.0,
            ),
            ("mcp_remote_server_duration_seconds_count", 2.0),
            (
                "mcp_remote_proxy_duration_seconds_count{direction=\"to_server\"}",
                2.0,
            ),
            ("mcp_remote_server_processes", 1.0),
            ("mcp_remote_server_restarts_total", 0.0),
        ],
    );
    assert!(
        value(&text, "mcp_remote_received_bytes_total") > 0.0,
        "{text}"
    );
    assert!(value(&text, "mcp_remote_sent_bytes_total") > 0.0, "{text}");
    assert!(!text.contains("chosen-by-a-peer"), "{text}");
    drop(peer);
    expect(
        port,
        &[("mcp_remote_open_connections{transport=\"tcp\"}", 0.0)],
    );
    let elsewhere = get(port, "/");
    assert!(elsewhere.starts_with("HTTP/1.1 404"), "{elsewhere}");
    assert!(elsewhere.ends_with("/metrics\n"), "{elsewhere}");
}

/// Bug: only those of shared processes were counted.
#[test]
fn lines_that_wait_for_clients_are_counted() {
    for isolate in ["--isolate=never", "--isolate=always"] {
        let (server, port) = measured(Setup::new("tcp").args(&[isolate]));
        let mut peer = server.peer();
        // More than the buffers of a connection hold: the second waits behind the first.
        for id in 1..=2 {
            peer.send(&request(id, "x", json!({"bytes": 8 << 20})));
        }
        eventually("a line waits", || {
            let waiting = value(&get(port, "/metrics"), "mcp_remote_waiting_lines");
            (waiting > 0.0).then_some(())
        });
        for id in 1..=2 {
            assert_eq!(peer.next()["id"], id);
        }
        expect(port, &[("mcp_remote_waiting_lines", 0.0)]);
        drop(peer);
        expect(
            port,
            &[("mcp_remote_open_sessions{transport=\"tcp\"}", 0.0)],
        );
    }
}

#[test]
fn every_number_is_documented() {
    let files = Files::new();
    let (cert, key) = (files.path("server.pem"), files.path("server.key"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let (_server, port) = measured(Setup::new("tcp").args(&tls));
    let text = get(port, "/metrics");
    let told = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let told: Vec<String> = told.map(|it| it.replace(' ', "` | ")).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `mcp_"));
    let rows: Vec<String> = rows
        .map(|row| row.splitn(3, " | ").take(2).collect::<Vec<_>>().join(" | "))
        .map(|row| format!("mcp_{row}"))
        .collect();
    assert_eq!(rows, told);
}

/// The path of a health check does not serve metrics.
#[test]
fn other_ports_have_no_numbers() {
    let server = Setup::new("http")
        .args(&["--health", "127.0.0.1:0"])
        .start();
    let health: u16 = server.next_listener().parse().unwrap();
    for port in [server.port, health] {
        assert!(get(port, "/metrics").starts_with("HTTP/1.1 404"));
    }
}

#[test]
fn restarts_and_the_certificate_are_told() {
    let files = Files::new();
    let (cert, key) = (files.path("server.pem"), files.path("server.key"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let (server, port) = measured(Setup::new("tcp").args(&tls));
    let text = expect(port, &[("mcp_remote_server_starts_total", 1.0)]);
    let end = value(&text, "mcp_remote_certificate_expiry_timestamp_seconds");
    assert!(end > now() as f64, "{text}");
    drop(server);

    let (server, port) = measured(Setup::new("tcp"));
    server.assert_serving();
    let children = format!("/proc/{0}/task/{0}/children", server.pid());
    let children = std::fs::read_to_string(children).unwrap();
    let echo = children.split_whitespace().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|it| it.contains("echo_server"))
    });
    crate::process::kill(echo.unwrap().parse().unwrap());
    expect(
        port,
        &[
            ("mcp_remote_server_exits_total", 1.0),
            ("mcp_remote_server_restarts_total", 1.0),
            ("mcp_remote_server_starts_total", 2.0),
            ("mcp_remote_server_processes", 1.0),
        ],
    );
    drop(server.stop());
}

/// Prometheus' own tool finds nothing to complain about, and Prometheus itself scrapes it and answers the
/// queries of the dashboard.
#[test]
fn prometheus_reads_it() {
    let (server, port) = measured(Setup::new("ws"));
    let mut peer = server.peer();
    peer.ask(1, "ping", json!({}));
    let answer = get(port, "/metrics");
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let checked = run(
        Command::new("promtool").args(["check", "metrics"]),
        text.as_bytes(),
    );
    assert_eq!((checked.code, &*checked.stderr), (Some(0), ""), "{text}");

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let target = format!("localhost:{port}");
    let yaml = json!({
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [{"job_name": "mcp-remote", "static_configs": [{"targets": [target]}]}],
    });
    std::fs::write(&config, yaml.to_string()).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let web = free.local_addr().unwrap();
    drop(free);
    let mut prometheus = Command::new("prometheus");
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!(
        "--storage.tsdb.path={}",
        folder.path().join("data").display()
    ));
    prometheus.arg(format!("--web.listen-address={web}"));
    let _prometheus = Process::spawn(&mut prometheus);
    let ask = |query: &str| {
        let mut peer = TestPeer::over(std::net::TcpStream::connect(web).ok()?);
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request =
            format!("GET /api/v1/query?query={query} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        peer.raw(request.as_bytes());
        let answer = peer.rest();
        serde_json::from_str::<Value>(answer.split_once("\r\n\r\n")?.1).ok()
    };
    let seen = eventually("Prometheus has scraped it", || {
        let answer = ask("mcp_remote_messages_total{method=\"ping\",verdict=\"passed\"}")?;
        answer["data"]["result"][0]["value"][1]
            .as_str()
            .map(str::to_owned)
    });
    assert_eq!(seen, "1");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/grafana/mcp-remote.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut counted = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$job", "mcp-remote");
            let answer = ask(&query).unwrap();
            assert_eq!(answer["status"], "success", "{query}: {answer}");
            let names: Vec<&str> = query
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("mcp_remote_"))
                .collect();
            // What has not happened yet is still described.
            for name in names {
                let base = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|end| name.strip_suffix(end));
                let described = format!("# TYPE {} ", base.unwrap_or(name));
                let certificate = name.contains("certificate");
                assert!(certificate || text.contains(&described), "{name}: {text}");
            }
            counted += 1;
        }
    }
    assert!(counted > 10, "{counted} queries");
}

/// A trace passes unchanged, and is in the log line of its request at debug; nothing else from `_meta` is.
#[test]
fn a_trace_passes_untouched_and_is_in_the_log() {
    for transport in ["tcp", "http"] {
        let server = Setup::new(transport).env("DEBUG", "true").start();
        let meta = json!({"traceparent": TRACE, "tracestate": "vendor=private"});
        let ask = request("t", "tools/call", json!({"name": "x", "_meta": meta}));
        if transport == "tcp" {
            let mut peer = server.peer();
            peer.send(&ask);
            peer.next();
        } else {
            let initialize = request(
                "i",
                "initialize",
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}),
            );
            let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            let url = format!("http://127.0.0.1:{}/mcp", server.port);
            let asked = run(
                binary().args(["client", "http", "--url", &url]),
                format!("{initialize}\n{initialized}\n{ask}\n").as_bytes(),
            );
            assert!(asked.stdout.contains("\"t\""), "{asked:?}");
        }
        let seen = server.wait_seen("traceparent");
        let seen: Value = serde_json::from_str(&seen).unwrap();
        for key in ["traceparent", "tracestate"] {
            assert_eq!(
                seen["params"]["_meta"][key], meta[key],
                "{transport}: {seen}"
            );
        }
        let line = server.log.wait_for("traceparent=");
        assert!(line.contains("passed on") && line.contains(TRACE), "{line}");
        assert!(!server.log.text().contains("private"));
        server.signal(Signal::TERM);
    }
}
