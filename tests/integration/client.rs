//! The client: stdout has only MCP, whatever happens to the connection.

mod failures;

use crate::certificates::Files;
use crate::common::{BOTH, Setup, TestClient, TestServer, client_command, now, request};
use crate::common::{token, token_with};
use crate::process::{Outcome, assert_fails, binary, eventually, is_alive, run, wait_gone};
use crate::wire::{Acceptor, TestPeer};
use rustix::process::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const AGAIN: &[&str] = &[
    "--auto-reconnect",
    "--reconnect-delay",
    "20",
    "--max-attempts",
    "8",
];

/// A port without a listener.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

pub fn answer(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"by": "test"}}).to_string()
}

pub fn assert_lost(message: &Value, id: impl Into<Value>, executed: &str) {
    assert_eq!(message["id"], id.into(), "{message}");
    let mut error = message["error"].clone();
    assert_eq!(error["code"], -32603, "{message}");
    let text = error["message"].as_str().unwrap();
    assert!(
        text.starts_with("Connection lost: ") || text.starts_with("Could not connect"),
        "{message}"
    );
    // The known cause depends on when it was lost.
    error["data"].as_object_mut().unwrap().remove("detail");
    let data = json!({"source": "mcp-remote", "reason": "connection-lost", "executed": executed});
    assert_eq!(error["data"], data);
}

/// Bug: a stray print of a wrapper script as the first line ended the client.
#[test]
fn what_a_host_prints_beside_its_messages_ends_nothing() {
    for transport in BOTH {
        for (setup, token) in [
            (Setup::new(transport), None),
            (Setup::new(transport).secret(), Some(token_with(&["user"]))),
        ] {
            let server = setup.start();
            let mut client = TestClient::start(transport, server.port, &[], token.as_deref());
            client.send("hello from my wrapper");
            let answer = client.next();
            assert_eq!(answer["error"]["code"], -32700, "{answer}");
            assert_eq!(answer["id"], Value::Null);
            let answer = client.ask(1, "x", json!({}));
            assert!(answer["result"].is_object(), "{answer}");
            client.close_stdin();
            assert_eq!(client.wait(), Some(0));
        }
    }
}

/// It waited forever.
#[test]
fn a_host_that_has_left_is_waited_for_as_long_as_it_was_told() {
    for transport in ["tcp", "ws", "http"] {
        let server = TestServer::start(transport);
        let flags = ["--answer-timeout", "500ms"];
        let mut client = match transport {
            "http" => TestClient::http(
                &format!("http://127.0.0.1:{}/mcp", server.port),
                &flags,
                &[],
            ),
            _ => TestClient::start(transport, server.port, &flags, None),
        };
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "h", "version": "1"}});
        assert_eq!(client.ask(0, "initialize", params)["id"], 0);
        client.send(&request(1, "x", json!({"silent": true})));
        client.send(&request(2, "x", json!({})));
        assert_eq!(client.next()["id"], 2);
        client.close_stdin();
        let failed = client.next();
        assert_eq!(
            (&failed["id"], &failed["error"]["data"]["reason"]),
            (&json!(1), &json!("answer-timeout")),
            "{transport}: {failed}"
        );
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("--answer-timeout");
    }
}

#[test]
fn a_piped_request_is_answered() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let one = request(0, "x", json!({"delayMs": 200}));
        let two = request("two", "y", json!({}));
        for (stdin, ids) in [
            (format!("{one}\n"), &["0"][..]),
            // printf prints no newline.
            (one.clone(), &["0"]),
            (format!("\n{one}\r\n\n{two}"), &["\"two\"", "0"]),
        ] {
            let outcome = run(
                &mut client_command(transport, server.port),
                stdin.as_bytes(),
            );
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            let lines = outcome
                .stdout
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            let answered: Vec<String> = lines.map(|answer| answer["id"].to_string()).collect();
            assert_eq!(answered, ids, "{outcome:?}");
        }
        let outcome = run(&mut client_command(transport, server.port), b"");
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), ""));
    }
}

#[test]
fn messages_pass_through_the_client_unchanged() {
    for transport in BOTH {
        let server = Setup::new(transport).secret().start();
        let mut client =
            TestClient::start(transport, server.port, &[], Some(&token_with(&["user"])));
        let initialize = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        assert_eq!(
            client.ask(0, "initialize", initialize)["result"]["serverInfo"]["name"],
            "echo"
        );
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        let blob = "é☃".repeat(1 << 20);
        let answer = client.ask(1, "x", json!({"blob": blob, "bytes": 5 << 20}));
        assert!(
            answer["result"]["params"]["blob"] == blob,
            "changed on the way"
        );
        assert_eq!(answer["result"]["blob"].as_str().unwrap().len(), 5 << 20);
        let meta = json!({"progressToken": "p"});
        client.send(&request(2, "x", json!({"progress": 2, "_meta": meta})));
        for at in 0..2 {
            assert_eq!(
                client.next()["params"],
                json!({"progressToken": "p", "progress": at})
            );
        }
        assert_eq!(client.next()["id"], 2);
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
        let log = client.log.to_the_end();
        assert!(!log.contains("WARN") && !log.contains("error"), "{log}");
    }
}

#[test]
fn a_url_names_a_websocket_server() {
    let server = TestServer::start("ws");
    let mut command = binary();
    let url = format!("ws://127.0.0.1:{}/any/path", server.port);
    command.args(["client", "ws", "--url", &url]);
    let outcome = run(&mut command, request(7, "ping", json!({})).as_bytes());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.starts_with(r#"{"jsonrpc":"2.0","id":7,"#),
        "{outcome:?}"
    );
}

/// Bug: an address in brackets, as in a URL, was looked up as a name.
#[test]
fn an_address_may_stand_in_brackets() {
    for transport in BOTH {
        let server = Setup::new(transport).args(&["--host", "[::1]"]).start();
        let ask = |host: &str| {
            let mut command = binary();
            let port = server.port.to_string();
            command.args(["client", transport, "--port", &port, "--host", host]);
            run(&mut command, request(7, "ping", json!({})).as_bytes())
        };
        for host in ["[::1]", "::1"] {
            let outcome = ask(host);
            assert!(
                outcome.stdout.starts_with(r#"{"jsonrpc":"2.0","id":7,"#),
                "{outcome:?}"
            );
            let address = format!("[::1]:{}", server.port);
            assert!(outcome.stderr.contains(&address), "{outcome:?}");
        }
        assert_fails(&ask("[::1]:80"), 2, "--port");
    }
}

/// The whole first segment is the token, and the reply says so; over WebSocket without a newline.
#[test]
fn the_token_is_sent_alone() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), &[], Some("the.token"));
        client.send(&request(0, "x", json!({})));
        let mut server = acceptor.accept();
        let end = if transport == "tcp" { "\n" } else { "" };
        let say = |server: &mut TestPeer, text: &str| match transport {
            "tcp" => server.raw(format!("{text}{end}").as_bytes()),
            _ => server.send(text),
        };
        assert_eq!(server.next_line().as_deref(), Some("the.token"));
        assert!(!server.has_more(), "something came before the answer");
        say(
            &mut server,
            r#"{"jsonrpc":"2.0","result":{"authenticated":true,"user":"alice","roles":["user"],"extra":1}}"#,
        );
        assert_eq!(server.next_line(), Some(request(0, "x", json!({}))));
        say(&mut server, &answer(&json!(0)));
        assert_eq!(
            client.next(),
            serde_json::from_str::<Value>(&answer(&json!(0))).unwrap()
        );
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
}

/// Anything from a remote end that is not a message does not reach the host.
#[test]
fn only_messages_reach_the_host() {
    let acceptor = Acceptor::new("tcp");
    let mut client = TestClient::start("tcp", acceptor.port(), &[], None);
    client.send(&request(0, "x", json!({})));
    let mut server = acceptor.accept();
    server.next();
    server.raw(b"\n \r\nWelcome!\n\xff\xfe\n{\"half\n");
    server.raw(format!("{}\r\n", answer(&json!(0))).as_bytes());
    assert_eq!(client.next()["id"], 0);
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}

#[test]
fn a_client_leaves_with_its_host() {
    let server = Setup::new("tcp").env("DEBUG", "true").start();
    // The host exits, but another process keeps the client's stdin open.
    let client = client_command("tcp", server.port);
    let mut host = Command::new("sh");
    let script = "exec 3<&0; \"$0\" \"$@\" <&3 & echo $!; wait";
    host.args(["-c", script])
        .arg(client.get_program())
        .args(client.get_args());
    let mut host = host
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pid = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(host.stdout.take().unwrap()),
        &mut pid,
    )
    .unwrap();
    let pid = pid.trim().parse().unwrap();
    server.log.wait_for("accepted");
    assert!(is_alive(pid));
    host.kill().unwrap();
    host.wait().unwrap();
    wait_gone(pid);
}

#[test]
fn signals_end_a_client() {
    let server = TestServer::start("tcp");
    for signal in [Signal::TERM, Signal::INT] {
        let mut client = TestClient::start("tcp", server.port, &[], None);
        client.ask(0, "ping", json!({}));
        client.signal(signal);
        assert_eq!(client.wait(), Some(0));
    }
    eventually("both have left", || {
        let log = server.log.text();
        (log.matches("disconnected").count() == 2).then_some(())
    });
}

/// Bug: the client could exit before the server had reported the error in a line.
#[test]
fn an_unparsable_line_is_answered_with_an_error() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        for (stdin, code) in [
            (&b"{"[..], -32700),
            (b"[]\n", -32600),
            (b"{\"jsonrpc\":\"2.0\",\"id\":5}\n", -32600),
            // Bug: over WebSocket this could not be sent, was retried forever, and ended the
            // client when it could not reconnect.
            (b"{\"a\":\"\xff\"}\n", -32700),
        ] {
            for args in [&[][..], AGAIN] {
                let mut command = client_command(transport, server.port);
                let outcome = run(command.args(args), stdin);
                assert_eq!(outcome.code, Some(0), "{outcome:?}");
                let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
                assert_eq!(answer["error"]["code"], code, "{outcome:?}");
            }
        }
    }
}

/// Bug: the client waited forever for a request nested deeper than the server reads.
#[test]
fn a_request_nested_too_deep_is_refused() {
    let server = TestServer::start("tcp");
    let nested = "[".repeat(200) + &"]".repeat(200);
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"x","params":{nested}}}"#);
    let outcome = run(&mut client_command("tcp", server.port), deep.as_bytes());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("nested too deep"), "{outcome:?}");
}

/// Bug: a client that failed within milliseconds left its host's first request without a response.
#[test]
fn a_first_request_that_comes_late_is_answered() {
    for transport in BOTH {
        let mut client = TestClient::start(transport, free_port(), &[], None);
        // Longer than it takes to fail.
        std::thread::sleep(Duration::from_millis(300));
        client.send(&request("first", "initialize", json!({})));
        assert_lost(&client.next(), "first", "no");
        assert_eq!(client.wait(), Some(1));
    }
}
