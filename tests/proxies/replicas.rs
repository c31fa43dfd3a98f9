//! Two replicas behind a real HAProxy, Envoy or nginx, one of which is killed under load and brought back.

use crate::certificates::Files;
use crate::common::{Setup, TestClient, TestServer, request, token_with};
use crate::process::eventually;
use crate::proxy::Proxy;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CLIENTS: usize = 50;

/// How long a client waits between two requests.
const PACE: Duration = Duration::from_millis(100);

fn replica(port: u16) -> TestServer {
    let proxy = ["--trusted-proxy", "127.0.0.1"];
    Setup::new("http").secret().args(&proxy).port(port).start()
}

fn client(proxy: &Proxy, ca: &str) -> TestClient {
    connect("http", &format!("https://localhost:{}/mcp", proxy.port), ca)
}

fn socket(proxy: &Proxy, ca: &str) -> TestClient {
    connect("ws", &format!("wss://localhost:{}/mcp", proxy.port), ca)
}

fn connect(transport: &str, url: &str, ca: &str) -> TestClient {
    let more = [
        "--tls-ca",
        ca,
        "--auto-reconnect",
        "--max-attempts",
        "0",
        "--reconnect-delay",
        "200",
    ];
    TestClient::of_command(
        &["client", transport, "--url", url],
        &more,
        &token_with(&["user"]),
    )
}

/// The outcomes of one client's requests.
struct Story {
    asked: u64,
    failed: u64,
    /// Since the killed replica returned, none has failed.
    recovered: bool,
}

fn begin(client: &mut TestClient) {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    });
    let answer = client.ask("i", "initialize", params);
    assert!(answer["result"].is_object(), "{answer}");
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
}

/// Sends one request after another until the end; each gets one response.
fn live(mut client: TestClient, number: usize, is_over: &AtomicBool) -> Story {
    begin(&mut client);
    let mut story = Story {
        asked: 0,
        failed: 0,
        recovered: false,
    };
    let mut ask = |story: &mut Story| {
        story.asked += 1;
        let name = format!("c{number}-{}-", story.asked);
        client.send(&request(story.asked, "tools/call", json!({"name": name})));
        let answer = client.next();
        assert_eq!(answer["id"], story.asked, "{answer}");
        if answer["result"].is_object() {
            return true;
        }
        let executed = &answer["error"]["data"]["executed"];
        assert!(executed.is_string(), "client {number}: {answer}");
        story.failed += 1;
        false
    };
    while !is_over.load(Ordering::Relaxed) {
        ask(&mut story);
        thread::sleep(PACE);
    }
    story.recovered = ask(&mut story);
    assert_eq!(client.try_next(), None::<Value>);
    story
}

/// Ends all processes, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_replica_behind_haproxy_is_killed_under_load_and_brought_back() {
    kill_under_load(Proxy::haproxy_replicas);
}

#[test]
fn a_replica_behind_envoy_is_killed_under_load_and_brought_back() {
    kill_under_load(Proxy::envoy_replicas);
}

fn kill_under_load(start: fn(&Files, u16, u16) -> Proxy) {
    let files = Files::new();
    let (mut one, two) = (replica(0), replica(0));
    let proxy = start(&files, one.port, two.port);
    eventually("the proxy serves", || {
        std::net::TcpStream::connect(("127.0.0.1", proxy.port)).ok()
    });
    let ca = files.path("ca.pem");
    let is_over = AtomicBool::new(false);
    let (stories, seen) = thread::scope(|scope| {
        let start = |number| {
            let (client, is_over) = (client(&proxy, &ca), &is_over);
            scope.spawn(move || live(client, number, is_over))
        };
        let over = Over(&is_over);
        let lives: Vec<_> = (0..CLIENTS).map(start).collect();
        let total = |one: &TestServer| {
            one.seen().matches("-2-").count() + two.seen().matches("-2-").count()
        };
        eventually("everybody is at work", || {
            (total(&one) == CLIENTS).then_some(())
        });
        one.signal(Signal::KILL);
        one.wait();
        let (port, before) = (one.port, one.seen());
        // Long enough for the health checks to detect it.
        let missed = Instant::now() + Duration::from_secs(3);
        let count = two.seen().lines().count();
        eventually("the other one goes on", || {
            (Instant::now() > missed && two.seen().lines().count() > count + CLIENTS).then_some(())
        });
        let back = replica(port);
        // A new client is sent there, and served.
        eventually("it is used again", || {
            let mut newcomer = client(&proxy, &ca);
            begin(&mut newcomer);
            let answer = newcomer.ask(1, "tools/call", json!({"name": "newcomer"}));
            assert!(answer["id"] == 1, "{answer}");
            back.seen().contains("newcomer").then_some(())
        });
        drop(over);
        let stories: Vec<_> = lives.into_iter().map(|life| life.join().unwrap()).collect();
        (stories, [before, two.seen(), back.seen()])
    });
    let mut undisturbed = 0;
    for (number, story) in stories.iter().enumerate() {
        let at_two = seen[1].contains(&format!("\"c{number}-1-\""));
        if at_two {
            undisturbed += 1;
            assert_eq!(story.failed, 0, "client {number} was at the other replica");
        }
        // What was in flight when the replica died, and nothing else.
        assert!(
            story.failed <= 1,
            "client {number}: {} failed",
            story.failed
        );
        assert!(story.recovered && story.asked > 10, "client {number}");
        for asked in 1..=story.asked {
            let word = format!("\"c{number}-{asked}-\"");
            let runs: usize = seen.iter().map(|seen| seen.matches(&word).count()).sum();
            assert!(runs <= 1, "{word} ran {runs} times");
        }
    }
    assert!(
        (10..=40).contains(&undisturbed),
        "{undisturbed} clients at one replica"
    );
}

/// nginx keeps all clients of an address on one replica, over HTTP and WebSocket; when that is lost, they
/// continue on the other one.
#[test]
fn nginx_chooses_a_replica_by_address() {
    let files = Files::new();
    let replicas = [replica(0), replica(0)];
    let proxy = Proxy::nginx_replicas(&files, replicas[0].port, replicas[1].port);
    eventually("the proxy serves", || {
        std::net::TcpStream::connect(("127.0.0.1", proxy.port)).ok()
    });
    let ca = files.path("ca.pem");
    let mut clients: Vec<TestClient> = (0..4).map(|_| client(&proxy, &ca)).collect();
    clients.extend([socket(&proxy, &ca), socket(&proxy, &ca)]);
    for client in &mut clients {
        begin(client);
        let answer = client.ask(1, "tools/call", json!({"name": "before"}));
        assert!(answer["result"].is_object(), "{answer}");
    }
    let count = |one: &TestServer, name: &str| one.seen().matches(name).count();
    let served = replicas.each_ref().map(|one| count(one, "\"before\""));
    assert!(served == [6, 0] || served == [0, 6], "{served:?}");
    let lost = usize::from(served[0] == 0);
    replicas[lost].signal(Signal::KILL);
    for client in &mut clients {
        eventually("it is served again", || {
            let answer = client.ask(2, "tools/call", json!({"name": "after"}));
            answer["result"].is_object().then_some(())
        });
    }
    assert_eq!(count(&replicas[1 - lost], "\"after\""), 6);
}

/// Envoy keeps WebSocket clients of an address on one replica: their sessions have no id that it could see.
#[test]
fn envoy_chooses_a_replica_for_websocket_by_address() {
    let files = Files::new();
    let replicas = [replica(0), replica(0)];
    let proxy = Proxy::envoy_replicas(&files, replicas[0].port, replicas[1].port);
    eventually("the proxy serves", || {
        std::net::TcpStream::connect(("127.0.0.1", proxy.port)).ok()
    });
    let ca = files.path("ca.pem");
    for _ in 0..6 {
        let mut client = socket(&proxy, &ca);
        begin(&mut client);
        let answer = client.ask(1, "tools/call", json!({"name": "by socket"}));
        assert!(answer["result"].is_object(), "{answer}");
    }
    let served = replicas
        .each_ref()
        .map(|one| one.seen().matches("by socket").count());
    assert!(served == [6, 0] || served == [0, 6], "{served:?}");
}
