//! Streams that end, break and are resumed.

use super::*;

/// The stream is cut after every byte of the response; each time the client resumes it and gets the response
/// once.
#[test]
fn k8_a_stream_cut_at_any_byte_is_resumed() {
    let (mut client, site) = established(&[]);
    let whole = |id: u64| {
        let answer = json!({"jsonrpc":"2.0","id":id,"result":{"content":[]}});
        format!("event: message\r\nid: a\r\ndata: {answer}\r\n\r\n")
    };
    // The first half of the last line break already ends the event.
    for cut in 0..whole(100).len() - 1 {
        let id = cut as u64 + 100;
        client.send(&request(id, "tools/call", json!({"name":"t"})));
        let mut exchange = site.next();
        assert_eq!(exchange.body["id"], id, "posted once");
        exchange.open("");
        exchange.raw(b"id: p\nretry: 1\ndata:\n\n");
        exchange.raw(&whole(id).as_bytes()[..cut]);
        drop(exchange);
        let mut resumed = site.next();
        assert_eq!(resumed.method, "GET");
        assert_eq!(resumed.header("last-event-id"), Some("p"));
        assert_eq!(resumed.header("accept"), Some("text/event-stream"));
        assert_eq!(resumed.header("mcp-session-id"), Some("s1"));
        assert_eq!(resumed.header("mcp-protocol-version"), Some("2025-06-18"));
        resumed.open("");
        resumed.raw(whole(id).as_bytes());
        assert_eq!(client.next()["id"], id);
    }
    leave(&mut client, &site);
}

#[test]
fn k8_the_pause_is_the_servers() {
    let (mut client, site) = established(&[]);
    client.send(&request(1, "tools/call", json!({"name":"t"})));
    let mut exchange = site.next();
    exchange.open("");
    exchange.raw(b"id: p\nretry: 700\ndata:\n\n");
    drop(exchange);
    let began = std::time::Instant::now();
    let mut resumed = site.next();
    let after = began.elapsed().as_millis();
    assert!((650..3000).contains(&after), "after {after} ms");
    resumed.open("");
    resumed.event(&json!({"jsonrpc":"2.0","id":1,"result":{}}));
    client.next();
    leave(&mut client, &site);
}

/// The response that is cut is JSON, or a stream without event ids: whether it was executed is unknown.
#[test]
fn an_answer_that_cannot_be_resumed_is_an_error_and_is_not_asked_for_again() {
    let (mut client, site) = established(&["--auto-reconnect"]);
    for (id, begun) in [
        &b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: {\"js"[..],
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{\"jsonrpc\"",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nda",
        b"HTTP/1.1 20",
        b"no HTTP at all\r\n\r\n",
        b"",
    ]
    .into_iter()
    .enumerate()
    {
        client.send(&request(id, "tools/call", json!({"name":"t"})));
        let mut exchange = site.next();
        exchange.raw(begun);
        drop(exchange);
        let answer = client.next();
        assert_failed(&answer, id as u64, "connection-lost", "unknown");
        assert_names_cause(&answer);
    }
    assert!(site.is_quiet());
    leave(&mut client, &site);
}

#[test]
fn k8_the_stream_beside_the_requests_is_resumed() {
    let (mut client, site) = start(&[]);
    client.send(&request(0, "initialize", initialize()));
    answer_initialize(&site, "s1");
    client.next();
    client.send(READY);
    site.take(is_post).status(202);
    let mut beside = site.take(is_get);
    assert_eq!(beside.header("last-event-id"), None);
    beside.open("");
    let changed = json!({"jsonrpc":"2.0","method":"notifications/tools/list_changed"});
    beside.raw(
        format!(": hello\r\n\r\nretry: 1\nid: g1\ndata: {changed}\n\nid: g2\ndata: half")
            .as_bytes(),
    );
    assert_eq!(client.next(), changed);
    drop(beside);
    let resumed = site.take(is_get);
    assert_eq!(resumed.header("last-event-id"), Some("g1"));
    // The session is lost meanwhile, which shows here first.
    resumed.status(404);
    answer_initialize(&site, "s2");
    site.take(is_post).status(202);
    let mut beside = site.take(is_get);
    assert_eq!(beside.header("last-event-id"), None);
    assert_eq!(beside.header("mcp-session-id"), Some("s2"));
    beside.open("");
    beside.event(&changed);
    assert_eq!(client.next(), changed);
    leave(&mut client, &site);
}

/// A message from the host for a server that is not up yet is sent once, when it is.
#[test]
fn a_server_that_comes_later_gets_everything_once() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let url = format!("http://127.0.0.1:{port}/mcp");
    let mut client = TestClient::http(&url, &["--auto-reconnect", "--reconnect-delay", "50"], &[]);
    client.send(&request(0, "initialize", initialize()));
    client.send(READY);
    client.log.wait_for("cannot be reached");
    let site = Site::on(port);
    answer_initialize(&site, "s1");
    accept_initialized(&site);
    client.next();
    leave(&mut client, &site);
}

#[test]
fn a_server_that_is_not_there_is_reported() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let url = format!("http://127.0.0.1:{port}/mcp");
    for args in [
        &[][..],
        &[
            "--auto-reconnect",
            "--max-attempts",
            "2",
            "--reconnect-delay",
            "1",
        ],
    ] {
        let mut client = TestClient::http(&url, args, &[]);
        client.send(&request(0, "initialize", initialize()));
        assert_failed(&client.next(), 0, "connection-lost", "no");
        assert_eq!(client.wait(), Some(1));
        let log = client.log.to_the_end();
        assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
    }
}

#[test]
fn a_server_that_asks_to_come_back_later_is_asked_again() {
    let (mut client, site) = established(&["--auto-reconnect", "--reconnect-delay", "1"]);
    client.send(&request(1, "tools/call", json!({"name":"t"})));
    let began = std::time::Instant::now();
    site.next().answer(503, "Retry-After: 1\r\n", "");
    let again = site.next();
    assert!(began.elapsed().as_millis() >= 900, "too early");
    assert_eq!(again.body["id"], 1);
    again.result(&json!({}));
    assert_eq!(client.next()["id"], 1);
    leave(&mut client, &site);
}

/// A client that is told to leave ends its session, too.
#[test]
fn a_client_that_is_stopped_deletes_its_session() {
    let (mut client, site) = established(&[]);
    client.signal(rustix::process::Signal::TERM);
    let goodbye = site.next();
    assert_eq!(goodbye.method, "DELETE");
    goodbye.status(200);
    assert_eq!(client.wait(), Some(0));
}
