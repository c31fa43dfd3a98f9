//! `--jwks https://…`: keys that are fetched, again when they change, and kept while fetching fails.

use crate::certificates::Files;
use crate::common::{BOTH, Setup, TestServer, request};

use crate::key_sets::{Provider, refused};
use crate::process::{Outcome, assert_fails, binary, eventually, run};
use crate::site::{Exchange, Site};
use crate::support::http::Http;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Act = Box<dyn Fn(Exchange) + Send>;

/// A server with a key set at a URL.
struct KeyServer {
    files: Files,
    port: u16,
    act: Arc<Mutex<Act>>,
    fetches: Arc<AtomicUsize>,
}

impl KeyServer {
    fn start(act: impl Fn(Exchange) + Send + 'static) -> Self {
        let files = Files::new();
        let site = Site::start_tls(files.config(false));
        let (port, fetches) = (site.port, Arc::new(AtomicUsize::new(0)));
        let act: Arc<Mutex<Act>> = Arc::new(Mutex::new(Box::new(act)));
        let (acts, count) = (Arc::clone(&act), Arc::clone(&fetches));
        site.each(move |exchange| {
            count.fetch_add(1, Ordering::SeqCst);
            acts.lock().unwrap()(exchange);
        });
        Self {
            files,
            port,
            act,
            fetches,
        }
    }

    fn of(providers: &[&Provider]) -> Self {
        Self::start(answer(set(providers)))
    }

    fn becomes(&self, act: impl Fn(Exchange) + Send + 'static) {
        *self.act.lock().unwrap() = Box::new(act);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/keys?tenant=1", self.port)
    }

    fn flags(&self) -> Vec<String> {
        let ca = self.files.path("ca.pem");
        let flags = ["--jwks", &self.url(), "--jwks-ca", &ca, "--jwt-audience"];
        let flags = flags.into_iter().chain(["mcp"]);
        flags.map(str::to_owned).collect()
    }

    fn setup(&self, transport: &'static str) -> Setup {
        let flags = self.flags();
        Setup::new(transport).args(&flags.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn set(providers: &[&Provider]) -> Value {
    let keys: Vec<Value> = providers.iter().map(|it| it.jwk()).collect();
    json!({"keys": keys})
}

fn answer(set: Value) -> impl Fn(Exchange) + Send {
    move |exchange| {
        assert_eq!(
            (&*exchange.method, &*exchange.target),
            ("GET", "/keys?tenant=1")
        );
        assert_eq!(exchange.header("authorization"), None);
        exchange.json("", &set);
    }
}

fn token(provider: &Provider) -> String {
    provider.token(&json!("mcp"))
}

/// A client over HTTP sends this token once; returns the status.
fn status_over_http(port: u16, token: &str) -> u16 {
    let mut http = Http::connect(port);
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", &*authorization),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    http.post(&headers, &request(1, "initialize", params))
        .status()
}

#[test]
fn the_first_login_after_a_change_of_keys_succeeds() {
    let (old, new) = (Provider::new("old"), Provider::new("new"));
    for transport in [BOTH[0], BOTH[1], "http"] {
        let keys = KeyServer::of(&[&old]);
        let server = keys.setup(transport).start();
        let login = |token: &str| match transport {
            "http" => assert_eq!(status_over_http(server.port, token), 200),
            _ => server.assert_serving_with(token),
        };
        login(&token(&old));
        assert_eq!(keys.fetches(), 1, "at the start");
        keys.becomes(answer(set(&[&old, &new])));
        login(&token(&new));
        login(&token(&old));
        assert_eq!(keys.fetches(), 2);
    }
}

#[test]
fn tokens_of_unknown_keys_cause_one_fetch_and_are_refused() {
    const NAMES: [&str; 6] = ["a", "b", "c", "../..", "' OR 1", ""];
    let own = Provider::new("own");
    let keys = KeyServer::of(&[&own]);
    let server = keys.setup("tcp").start();
    for _ in 0..3 {
        for name in NAMES {
            assert!(refused(&server, &token(&Provider::new(name))));
        }
    }
    assert_eq!(keys.fetches(), 2, "one of them at the start");
    // The same name with another key is no reason to fetch.
    assert!(refused(&server, &token(&Provider::new("own"))));
    server.assert_serving_with(&token(&own));
    assert_eq!(keys.fetches(), 2);
    let log = server.stop();
    assert!(
        log.contains("names a key ('kid') that the key set does not have"),
        "{log}"
    );
}

#[test]
fn many_who_wait_for_the_same_key_get_in_by_one_fetch() {
    let (old, new) = (Provider::new("old"), Provider::new("new"));
    let keys = KeyServer::of(&[&old]);
    let server = keys.setup("tcp").start();
    let waiting = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&waiting);
    keys.becomes(move |exchange| held.lock().unwrap().push(exchange));
    let mut peers: Vec<_> = (0..8).map(|_| server.peer()).collect();
    for peer in &mut peers {
        peer.send(&token(&new));
    }
    let exchange = eventually("the fetch", || waiting.lock().unwrap().pop());
    answer(set(&[&old, &new]))(exchange);
    for peer in &mut peers {
        assert_eq!(peer.next()["result"]["authenticated"], true);
    }
    assert_eq!(keys.fetches(), 2);
}

#[test]
fn keys_are_kept_while_the_url_is_down_and_withdrawn_ones_stop_counting() {
    let (old, new) = (Provider::new("old"), Provider::new("new"));
    let keys = KeyServer::of(&[&old]);
    let server = keys.setup("tcp").start();
    let times = |text: &str, count: usize| {
        eventually(text, || {
            (server.log.text().matches(text).count() == count).then_some(())
        });
    };
    for (at, (fault, says)) in faults().into_iter().enumerate() {
        keys.becomes(fault);
        let before = server.log.text().matches(says).count();
        server.reload();
        times(says, before + 1);
        times(
            "the fetch of the keys failed, keeping the previous ones: ",
            at + 1,
        );
        server.assert_serving_with(&token(&old));
        keys.becomes(answer(set(&[&old])));
        server.reload();
        times("the key set can be fetched again", at + 1);
    }
    let mut peer = server.peer_with(&token(&old));
    keys.becomes(answer(set(&[&new])));
    server.reload();
    let end = peer.next();
    assert_eq!(end["error"]["data"]["reason"], "Token revoked", "{end}");
    assert!(refused(&server, &token(&old)));
    server.assert_serving_with(&token(&new));
}

#[test]
fn keys_that_cannot_be_fetched_for_too_long_stop_counting() {
    let own = Provider::new("own");
    let keys = KeyServer::of(&[&own]);
    let server = keys.setup("tcp").args(&["--jwks-max-age", "2s"]).start();
    keys.becomes(|exchange| exchange.status(503));
    let mut peer = server.peer_with(&token(&own));
    assert_eq!(peer.next()["error"]["data"]["reason"], "Token revoked");
    server
        .log
        .wait_for("its keys count no longer (--jwks-max-age)");
    assert!(refused(&server, &token(&own)));
    keys.becomes(answer(set(&[&own])));
    server.reload();
    server.log.wait_for("the key set can be fetched again");
    server.assert_serving_with(&token(&own));
}

/// What a key server may do wrong, and the resulting error.
fn faults() -> Vec<(Act, &'static str)> {
    fn raw(text: impl Into<String>) -> Act {
        let text = text.into();
        // A client that has read enough closes the connection.
        Box::new(move |mut exchange| exchange.try_raw(text.as_bytes()))
    }
    fn body(text: &str) -> Act {
        raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ))
    }
    let own = Provider::new("own");
    let good = set(&[&own]).to_string();
    let huge = " ".repeat(2 << 20);
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "own"}]});
    vec![
        (body(&format!("{good}{huge}")), "longer than 1048576 bytes"),
        (
            raw(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n{huge}\r\n0\r\n\r\n"
            )),
            "longer than 1048576 bytes",
        ),
        (
            raw(format!("HTTP/1.1 200 OK\r\n\r\n{huge}")),
            "longer than 1048576 bytes",
        ),
        (
            raw(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{good}"
            )),
            "no whole response",
        ),
        (
            raw(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{good}"
            )),
            "no JSON Web Key Set",
        ),
        (raw("SSH-2.0-x\r\n"), "no whole response"),
        (
            raw(format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n",
                "x".repeat(100_000)
            )),
            "no whole response",
        ),
        (
            Box::new(|exchange| exchange.status(404)),
            "the response is HTTP 404",
        ),
        (
            Box::new(|exchange| exchange.answer(200, "Content-Encoding: gzip\r\n", "x")),
            "compressed",
        ),
        (
            Box::new(|exchange| exchange.answer(302, "Location: https://localhost/keys\r\n", "")),
            "redirects elsewhere",
        ),
        (
            Box::new(|exchange| exchange.answer(302, "Location: http://127.0.0.1/keys\r\n", "")),
            "redirects elsewhere",
        ),
        (
            Box::new(|exchange| exchange.answer(302, "Location: /keys\r\n", "")),
            "redirects more than 3 times",
        ),
        (body(&secret.to_string()), "is a shared secret"),
        (body("{\"keys\":[]}"), "it has no key"),
        (body("\u{fffd}{}"), "no JSON Web Key Set"),
    ]
}

fn start(flags: &[String]) -> Outcome {
    let mut command = binary();
    command.args(["server", "tcp", "--port", "0"]);
    run(command.args(flags).args(["--", "cat"]), b"")
}

#[test]
fn a_start_without_keys_fails_and_says_why() {
    for (fault, says) in faults() {
        let keys = KeyServer::start(fault);
        let outcome = start(&keys.flags());
        assert_fails(&outcome, 1, says);
        let url = format!("key set https://127.0.0.1:{}/keys ", keys.port);
        assert!(
            outcome
                .stderr
                .replace(':', " :")
                .contains(&url.replace(':', " :")),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_server_of_keys_that_hangs_does_not_hang_the_start() {
    let held = Mutex::new(Vec::new());
    let keys = KeyServer::start(move |exchange| held.lock().unwrap().push(exchange));
    assert_fails(&start(&keys.flags()), 1, "no whole response within 10 s");
}

#[test]
fn what_is_not_safe_or_makes_no_sense_is_refused() {
    let own = Provider::new("own");
    let keys = KeyServer::of(&[&own]);
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, ca) = (keys.url(), keys.files.path("ca.pem"));
    let other = keys.files.path("other.pem");
    let plain_url = format!("https://{}/keys", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut socket, _) = plain.accept().unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        let _gone = socket.read_to_end(&mut Vec::new());
    });
    let down = "https://127.0.0.1:1/keys";
    for (flags, code, says) in [
        (
            &["--jwks", "http://127.0.0.1:1/keys"][..],
            2,
            "over https:// only",
        ),
        (&["--jwks", "file:///keys"], 2, "over https:// only"),
        (&["--jwks", &url, "--jwks-ca", "/nowhere"], 1, "--jwks-ca"),
        (
            &["--jwks", &ca, "--jwks-ca", &ca],
            2,
            "begins with https://",
        ),
        (&["--jwks-ca", &ca], 2, "--jwks"),
        (&["--jwks", &url], 1, "by --jwks-ca"),
        (&["--jwks", &url, "--jwks-ca", &other], 1, "by --jwks-ca"),
        (
            &["--jwks", &plain_url, "--jwks-ca", &ca],
            1,
            "does not speak TLS",
        ),
        (&["--jwks", down, "--jwks-ca", &ca], 1, "no connection"),
        (
            &["--jwks", &url, "--jwks-max-age", "0s"],
            2,
            "greater than zero",
        ),
    ] {
        let flags = flags.iter().chain(&["--jwt-audience", "mcp"]);
        let flags: Vec<String> = flags.map(ToString::to_string).collect();
        assert_fails(&start(&flags), code, says);
    }
    assert_eq!(keys.fetches(), 0);
}

#[test]
fn a_redirect_on_the_same_host_is_followed() {
    let own = Provider::new("own");
    let keys = set(&[&own]);
    let keys = KeyServer::start(move |exchange| match &*exchange.target {
        "/keys?tenant=1" => exchange.answer(302, "Location: /v2/keys\r\n", ""),
        _ => exchange.json("", &keys),
    });
    keys.setup("tcp").start().assert_serving_with(&token(&own));
}

#[test]
fn inspect_token_and_doctor_fetch_the_keys_too() {
    let (own, other) = (Provider::new("own"), Provider::new("other"));
    let keys = KeyServer::of(&[&own]);
    let inspect = |token: &str| {
        let mut command = binary();
        run(
            command.args(["inspect-token", token]).args(keys.flags()),
            b"",
        )
    };
    let good = inspect(&token(&own));
    assert!(good.stdout.contains("Signed with: key own\n"), "{good:?}");
    let bad = inspect(&token(&other));
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.stdout.contains("its key, other, is not in the set"),
        "{bad:?}"
    );
    keys.becomes(|exchange| exchange.status(500));
    assert_fails(&inspect(&token(&own)), 1, "HTTP 500");
    let mut command = binary();
    command.args(["doctor", "server", "tcp", "--port", "0"]);
    let outcome = run(command.args(keys.flags()).args(["--", "cat"]), b"");
    assert!(outcome.stdout.contains("HTTP 500"), "{outcome:?}");
}

/// The URL may contain its tenant, or worse, in a query.
#[test]
fn the_query_of_the_url_is_in_no_log() {
    let own = Provider::new("own");
    let keys = KeyServer::of(&[&own]);
    let server: TestServer = keys.setup("tcp").env("RUST_LOG", "debug").start();
    keys.becomes(|exchange| exchange.status(500));
    server.reload();
    server.log.wait_for("HTTP 500");
    let log = server.stop();
    assert!(!log.contains("tenant"), "{log}");
}
