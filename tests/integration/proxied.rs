//! Client addresses from a reverse proxy: `--trusted-proxy` and `--proxy-protocol`.

use crate::common::{Setup, TestServer, request, token, token_with};
use crate::process::eventually;
use crate::support::http::{Answer, Http, INITIALIZE, modern, with};
use crate::wire::TestPeer;
use serde_json::{Value, json};

const TRUSTED: [&str; 2] = ["--trusted-proxy", "127.0.0.1"];

/// The header for a connection of 203.0.113.7.
const PROXY_HEADER: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x12\x34\0\x50";

/// The same when a proxy connects on its own behalf.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// With an audit log beside the echo server's log.
fn audited(setup: Setup) -> TestServer {
    setup.audited("audit.jsonl").start()
}

/// The line of the audit log with these words, once it is written.
fn on_record(server: &TestServer, words: &[&str]) -> Value {
    eventually(&format!("{words:?} on record"), || {
        let text = std::fs::read_to_string(server.beside("audit.jsonl")).ok()?;
        let line = text
            .lines()
            .find(|line| words.iter().all(|word| line.contains(word)));
        line.map(|line| serde_json::from_str(line).unwrap())
    })
}

/// Sends a request over this connection as a proxy does for a client at this address.
fn ask_for(http: &mut Http, name: &str, address: &str, token: &str) -> Answer {
    let (headers, body) = modern(1, "tools/call", json!({"name": "x"}));
    let mut headers = with(&headers, name, address);
    headers.push(("Authorization", token));
    http.post(&headers, &body)
}

#[test]
fn requests_are_counted_for_the_client_that_a_trusted_proxy_names() {
    let limited = |args: &[&str]| {
        let setup = Setup::new("http").echo(&["--modern"]);
        let rate = ["--rate-limit", "1", "--rate-burst", "1"];
        audited(setup.args(&rate).args(args))
    };
    let status = |http: &mut Http, address| ask_for(http, "X-Forwarded-For", address, "").status();
    let server = limited(&TRUSTED);
    // One connection, as a proxy uses it for all its clients.
    let mut http = Http::connect(server.port);
    assert_eq!(status(&mut http, "203.0.113.7"), 200);
    assert_eq!(status(&mut http, "203.0.113.8"), 200);
    let refused = ask_for(&mut http, "X-Forwarded-For", "203.0.113.8", "");
    assert_eq!(
        refused.json()["error"]["data"]["reason"],
        "rate-limited",
        "{refused:?}"
    );
    let standard = ask_for(&mut http, "Forwarded", "for=\"203.0.113.9:1\"", "");
    assert_eq!(standard.status(), 200);
    // What the client has sent itself is not trusted.
    let spoofed = ask_for(
        &mut http,
        "X-Forwarded-For",
        "198.51.100.1, 203.0.113.8",
        "",
    );
    assert_eq!(
        spoofed.json()["error"]["data"]["reason"],
        "rate-limited",
        "{spoofed:?}"
    );

    // From anyone else such headers have no effect.
    for args in [&[][..], &["--trusted-proxy", "192.0.2.0/24"]] {
        let server = limited(args);
        let mut http = Http::connect(server.port);
        assert_eq!(status(&mut http, "203.0.113.7"), 200);
        let refused = ask_for(&mut http, "X-Forwarded-For", "203.0.113.8", "");
        assert_eq!(
            refused.json()["error"]["data"]["reason"],
            "rate-limited",
            "{refused:?}"
        );
    }
}

/// Bug: the names of all clients of a connection piled up in its log lines, and in memory, without bound.
#[test]
fn a_log_line_names_the_client_it_is_about_and_not_all_others() {
    let server = Setup::new("http").secret().echo(&["--modern"]);
    let server = server.args(&TRUSTED).start();
    let mut http = Http::connect(server.port);
    for number in 0..40 {
        let claims = json!({"user": format!("user{number}"), "roles": ["user"]});
        let bearer = format!("Bearer {}", token(&claims));
        let address = format!("203.0.113.{number}");
        let answer = ask_for(&mut http, "X-Forwarded-For", &address, &bearer);
        assert_eq!(answer.status(), 200, "{answer:?}");
    }
    server.log.wait_for("user=\"user39\"");
    let log = server.stop();
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| line.ends_with("authenticated"))
        .collect();
    assert_eq!(lines.len(), 40, "{log}");
    for (number, line) in lines.into_iter().enumerate() {
        for name in [
            format!("user=\"user{number}\""),
            format!("client=203.0.113.{number} "),
        ] {
            assert!(line.contains(&name), "{name}: {line}");
        }
        assert_eq!(line.matches("user=").count(), 1, "{line}");
    }
}

/// Bug: the first user of a connection stood in all its lines, in those about refused tokens and other users, too.
#[test]
fn a_log_line_names_no_other_user_of_its_connection() {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["initialize"]}}});
    let server = Setup::new("http").policy(&policy).start();
    let bearer = |user: &str| {
        let claims = json!({"user": user, "roles": ["user"]});
        format!("Bearer {}", token(&claims))
    };
    let mut http = Http::connect(server.port);
    for user in ["ann", "ben"] {
        let bearer = bearer(user);
        let headers = [("Authorization", bearer.as_str())];
        assert_eq!(http.post(&headers, INITIALIZE).status(), 200);
        let answer = ask_for(&mut http, "", "", &bearer);
        assert_eq!(answer.code(), -32601, "{answer:?}");
    }
    let forged = http.post(&[("Authorization", "Bearer x.y.z")], INITIALIZE);
    assert_eq!(forged.status(), 401);
    server.log.wait_for("refused");
    let log = server.stop();
    for (words, users) in [
        ("authenticated", &["ann", "ben"][..]),
        ("blocked", &["ann", "ben"]),
        ("session begins", &["ann", "ben"]),
        ("session ends", &["ann", "ben"]),
        ("WARN", &[]),
    ] {
        let lines = log.lines().filter(|line| line.contains("peer{"));
        let lines: Vec<&str> = lines.filter(|line| line.contains(words)).collect();
        for user in users {
            let own = format!("user=\"{user}\"");
            let of_user = lines.iter().filter(|line| line.contains(&own));
            assert_eq!(of_user.count(), 1, "{words} {user}: {log}");
        }
        for line in lines {
            let expected = usize::from(!users.is_empty());
            assert_eq!(line.matches("user=").count(), expected, "{words}: {line}");
        }
    }
}

#[test]
fn the_client_behind_a_proxy_is_on_record() {
    let server = audited(Setup::new("http").secret().args(&TRUSTED));
    let token = format!("Bearer {}", token_with(&["user"]));
    let answer = ask_for(
        &mut Http::connect(server.port),
        "X-Forwarded-For",
        "203.0.113.7",
        "",
    );
    assert_eq!(answer.status(), 401);
    let line = on_record(&server, &["refuse", "203.0.113.7"]);
    assert_eq!(line["client"], "203.0.113.7");
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
    server.log.wait_for("client=203.0.113.7");
    let mut http = Http::connect(server.port);
    ask_for(&mut http, "X-Forwarded-For", "203.0.113.8", &token);
    assert_eq!(
        on_record(&server, &["authenticate", "203.0.113.8"])["user"],
        "alice"
    );
    // Another client of the same proxy, with the same token, on the same connection.
    ask_for(&mut http, "X-Forwarded-For", "203.0.113.9", &token);
    on_record(&server, &["authenticate", "203.0.113.9"]);

    let server = audited(Setup::new("ws").secret().args(&TRUSTED));
    let (_, mut peer) = TestPeer::upgrade(server.port, "X-Forwarded-For: 203.0.113.7\r\n");
    assert_eq!(peer.login("x")["error"]["code"], -32002);
    assert_eq!(on_record(&server, &["refuse"])["client"], "203.0.113.7");
}

#[test]
fn a_proxy_header_says_whose_a_tcp_connection_is() {
    let flags = [TRUSTED[0], TRUSTED[1], "--proxy-protocol"];
    for secret in [false, true] {
        let setup = Setup::new("tcp").args(&flags);
        let server = audited(if secret { setup.secret() } else { setup });
        for (header, client) in [
            (PROXY_HEADER, json!("203.0.113.7:4660")),
            (LOCAL, Value::Null),
        ] {
            let mut peer = TestPeer::connect("tcp", server.port);
            peer.raw(header);
            if secret {
                let answer = peer.login(&token_with(&["user"]));
                assert_eq!(answer["result"]["authenticated"], true, "{answer}");
                let words = match client.as_str() {
                    Some(client) => vec!["authenticate", client],
                    None => vec!["authenticate", "\"connection\":2"],
                };
                assert_eq!(on_record(&server, &words)["client"], client);
            }
            assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
        }
        // Without a PROXY header the client is unknown.
        let mut peer = TestPeer::connect("tcp", server.port);
        peer.raw(request(1, "ping", json!({})).as_bytes());
        peer.raw(b"\n");
        server.log.wait_for("it does not begin with a PROXY header");
        on_record(&server, &["refuse", "PROXY header"]);
    }
    // A peer that is not a trusted proxy cannot set the address.
    let server = Setup::new("tcp").args(&["--trusted-proxy", "192.0.2.1", "--proxy-protocol"]);
    let server = server.start();
    server.assert_serving();
    let mut peer = TestPeer::connect("tcp", server.port);
    peer.raw(PROXY_HEADER);
    peer.raw(b"\n");
    assert_eq!(peer.next()["error"]["code"], -32700);
    peer.assert_closed();
}

/// The bound per address applies to a proxy's clients separately, and not to the proxy.
#[test]
fn those_who_do_not_say_who_they_are_are_counted_where_they_are() {
    let flags = [
        TRUSTED[0],
        TRUSTED[1],
        "--proxy-protocol",
        "--max-pending-per-address",
        "2",
    ];
    let server = Setup::new("tcp").secret().args(&flags).start();
    let come = |last: u8| {
        let mut peer = TestPeer::connect("tcp", server.port);
        let mut header = PROXY_HEADER.to_vec();
        header[19] = last;
        peer.raw(&header);
        peer
    };
    let mut others: Vec<_> = (1..=6).map(come).collect();
    let mut crowd: Vec<_> = (0..3).map(|_| come(9)).collect();
    crowd[0].assert_closed();
    for peer in others.iter_mut().chain(&mut crowd[1..]) {
        let answer = peer.login(&token_with(&["user"]));
        assert_eq!(answer["result"]["authenticated"], true, "{answer}");
    }
}
