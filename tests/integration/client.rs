//! The client: stdout has MCP and nothing else, whatever happens to the connection.

use crate::common::{BOTH, Setup, TestClient, TestServer, client_command, request, token_with};
use crate::process::{Outcome, assert_fails, binary, eventually, is_alive, run, wait_gone};
use crate::wire::{Acceptor, TestPeer};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::{Command, Stdio};

const AGAIN: &[&str] = &[
    "--auto-reconnect",
    "--reconnect-delay",
    "20",
    "--max-attempts",
    "8",
];

/// A port on which nobody listens.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn answer(id: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": {"by": "test"}}).to_string()
}

fn assert_lost(message: &Value, id: impl Into<Value>, executed: &str) {
    assert_eq!(message["id"], id.into(), "{message}");
    let data = json!({"source": "mcp-remote", "reason": "connection-lost", "executed": executed});
    let error = json!({"code": -32603, "message": "Connection lost", "data": data});
    assert_eq!(message["error"], error);
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
fn a_session_through_the_client() {
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
fn what_cannot_be_reached_is_told_in_one_line() {
    let told = |transport: &str, port: u16| -> Outcome {
        let outcome = run(&mut client_command(transport, port), b"");
        assert_fails(&outcome, 1, &format!("127.0.0.1:{port}"));
        outcome
    };
    let refused = free_port();
    for transport in BOTH {
        assert!(told(transport, refused).stderr.contains("refused"));
    }
    // The wrong transport.
    told("ws", {
        let acceptor = Acceptor::new("tcp");
        let port = acceptor.port();
        std::thread::spawn(move || acceptor.accept().raw(b"{}\n"));
        port
    });
    let mut command = binary();
    command.args([
        "client",
        "tcp",
        "--host",
        "no.such.host.invalid",
        "--port",
        "1",
    ]);
    assert_fails(&run(&mut command, b""), 1, "no.such.host.invalid");
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

/// The whole first segment is the token, and the answer says so; over WebSocket without a newline.
#[test]
fn a_server_that_takes_the_first_segment_for_the_token() {
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

/// What a remote end says that is no message is not the host's business.
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
fn a_lost_connection_is_an_error_for_what_was_asked() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), &[], None);
        client.send(&request("a", "x", json!({})));
        client.send(&request(1, "x", json!({})));
        let mut server = acceptor.accept();
        server.next_line();
        server.next_line();
        drop(server);
        assert_lost(&client.next(), "a", "unknown");
        assert_lost(&client.next(), 1, "unknown");
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("use --auto-reconnect");
    }
}

#[test]
fn messages_wait_for_the_connection() {
    for transport in BOTH {
        let port = free_port();
        let mut client = TestClient::start(transport, port, AGAIN, None);
        for id in 0..20 {
            client.send(&request(id, "x", json!({})));
        }
        client.close_stdin();
        let mut server = Acceptor::at(transport, port).accept();
        let hello = r#"{"jsonrpc":"2.0","method":"mcp-remote/resume","params":{"session":null,"received":0}}"#;
        assert_eq!(server.next_line().as_deref(), Some(hello));
        for id in 0..20 {
            assert_eq!(server.next_line(), Some(request(id, "x", json!({}))));
        }
        for id in 0..20 {
            server.send(&answer(&json!(id)));
            assert_eq!(client.next()["id"], id);
        }
        assert_eq!(client.wait(), Some(0));
    }
}

#[test]
fn a_client_that_gives_up_answers_what_it_owes() {
    for transport in BOTH {
        let args = [
            "--auto-reconnect",
            "--reconnect-delay",
            "10",
            "--max-attempts",
            "3",
        ];
        let mut client = TestClient::start(transport, free_port(), &args, None);
        client.send(&request(0, "x", json!({})));
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
        client.send(&request("0", "x", json!({})));
        assert_lost(&client.next(), 0, "no");
        assert_lost(&client.next(), "0", "no");
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("after 3 tries");
    }
}

/// A host that has left and is owed nothing keeps no client alive.
#[test]
fn a_client_without_host_does_not_keep_trying() {
    let args = ["--auto-reconnect", "--reconnect-delay", "20000"];
    let mut client = TestClient::start("tcp", free_port(), &args, None);
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
}

#[test]
fn the_handshake_is_replayed_unseen() {
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {}}});
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let mut client = TestClient::start(transport, acceptor.port(), AGAIN, Some("t"));
        let welcome = |server: &mut TestPeer| {
            assert_eq!(server.next_line().as_deref(), Some("t"));
            server.send(r#"{"jsonrpc":"2.0","result":{"authenticated":true}}"#);
        };
        let mut server = acceptor.accept();
        welcome(&mut server);
        client.send(&request(0, "initialize", params.clone()));
        assert_eq!(server.next()["method"], "initialize");
        server.send(&answer(&json!(0)));
        assert_eq!(client.next()["id"], 0);
        client.send(initialized);
        assert_eq!(server.next_line().as_deref(), Some(initialized));
        client.send(&request("lost", "x", json!({})));
        server.next();
        for round in 0..2 {
            drop(server);
            if round == 0 {
                assert_lost(&client.next(), "lost", "unknown");
            }
            eventually("it has noticed", || {
                let log = client.log.text();
                (log.matches("reconnecting").count() == round + 1).then_some(())
            });
            client.send(&request(round, "y", json!({})));
            server = acceptor.accept();
            welcome(&mut server);
            let replay = server.next();
            assert_eq!(
                (&replay["method"], &replay["params"]),
                (&json!("initialize"), &params)
            );
            // The host's message waits until the handshake stands.
            assert!(!server.has_more());
            server.send(&answer(&replay["id"]));
            assert_eq!(server.next_line().as_deref(), Some(initialized));
            assert_eq!(server.next()["id"], round);
            server.send(&answer(&json!(round)));
            assert_eq!(client.next()["id"], round);
        }
        client.log.wait_for("connected again");
    }
}

#[test]
fn a_real_server_comes_back() {
    for transport in BOTH {
        let mut server = Setup::new(transport).start();
        let mut client = TestClient::start(transport, server.port, AGAIN, None);
        assert!(
            client.ask(0, "initialize", json!({"protocolVersion": "2025-06-18"}))["result"]
                .is_object()
        );
        client.ask(1, "x", json!({}));
        server.signal(Signal::TERM);
        server.wait();
        client.log.wait_for("reconnecting");
        let server = Setup::new(transport).port(server.port).start();
        let answer = client.ask(2, "y", json!({}));
        assert_eq!(answer["result"]["method"], "y", "{answer}");
        assert!(server.seen().contains("\"initialize\""));
    }
}

/// Bug: an authenticated client took "too many connections" for a refused token and gave up.
#[test]
fn a_full_server_is_tried_again() {
    for transport in BOTH {
        let setup = Setup::new(transport)
            .secret()
            .args(&["--max-connections", "1"]);
        let server = setup.start();
        let first = server.peer_with(&token_with(&[]));
        let args = ["--auto-reconnect", "--reconnect-delay", "100"];
        let mut client = TestClient::start(transport, server.port, &args, Some(&token_with(&[])));
        server.log.wait_for("too many connections");
        client.send(&request(0, "x", json!({})));
        drop(first);
        assert_eq!(client.next()["result"]["method"], "x");
        // Without --auto-reconnect it says what is wrong.
        let mut command = client_command(transport, server.port);
        let outcome = run(command.env("MCP_REMOTE_JWT_TOKEN", token_with(&[])), b"");
        assert_fails(&outcome, 1, "Too many connections");
    }
}

#[test]
fn a_client_leaves_with_its_host() {
    let server = TestServer::start("tcp");
    // The host ends, but somebody else keeps the client's stdin open.
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
    server.log.wait_for("connected");
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
