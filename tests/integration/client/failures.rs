//! Servers that are unreachable or refuse, and the errors that the host gets.

use super::*;

#[test]
fn an_unreachable_server_is_reported_in_one_line() {
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
    let outcome = run(&mut command, b"");
    assert_fails(&outcome, 1, "'no.such.host.invalid' has no address: ");
    // Bug: the user was asked whether the server is running there.
    assert!(
        outcome.stderr.contains("; is the name right"),
        "{outcome:?}"
    );
}

/// The error that a host gets when a client with these flags gives up, and its stderr.
fn told(transport: &str, port: u16, flags: &[&str], token: Option<&str>) -> (Value, Outcome) {
    let mut command = client_command(transport, port);
    command
        .args(flags)
        .envs(token.map(|token| ("MCP_REMOTE_JWT_TOKEN", token)));
    let outcome = run(&mut command, request(7, "initialize", json!({})).as_bytes());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(answer["id"], 7);
    // Bug: "unknown" for a request that the server had refused with the whole connection, after the log had
    // said "connected".
    assert_eq!(answer["error"]["data"]["executed"], "no", "{answer}");
    assert!(!outcome.stderr.contains("connected"), "{outcome:?}");
    (answer["error"].clone(), outcome)
}

/// Bug: whatever was wrong, hosts got "Connection lost", and only stderr had details.
#[test]
fn the_host_learns_the_cause() {
    let port = free_port();
    let guarded = Setup::new("tcp").secret().start();
    let bad = token(&json!({"user": "alice", "exp": now() - 1}));
    let retries = [
        "--auto-reconnect",
        "--max-attempts",
        "1",
        "--reconnect-delay",
        "10",
    ];
    for (port, flags, token, says) in [
        (port, &[][..], None, "Could not connect to 127.0.0.1:"),
        (
            port,
            &retries[..],
            None,
            "Could not connect: gave up on 127.0.0.1:",
        ),
        (
            guarded.port,
            &[][..],
            Some(&*bad),
            "Authentication failed (Invalid token)",
        ),
        (
            guarded.port,
            &[][..],
            None,
            "Authentication failed: the server wants a token",
        ),
    ] {
        let (error, outcome) = told("tcp", port, flags, token);
        let text = error["message"].as_str().unwrap();
        assert!(text.starts_with(says), "{says}: {error}");
        let detail = error["data"]["detail"].as_str().unwrap();
        assert!(
            outcome.stderr.contains(&format!("error: {detail}")),
            "{error}: {outcome:?}"
        );
        assert!(
            text.to_lowercase().ends_with(&detail.to_lowercase()),
            "{error}"
        );
    }
}

/// A port that says `greeting` to everybody who says something.
fn greeting_port(greeting: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _asked = socket.read(&mut [0; 1024]);
            let _gone = socket.write_all(greeting);
            kept.push(socket);
        }
    });
    port
}

/// Bug: such a client waited for an hour, or blamed a TCP port of ours.
#[test]
fn a_port_of_another_service_is_named() {
    let port = greeting_port(b"SSH-2.0-OpenSSH_9.2\x1b[31m\r\n");
    for flags in [&[][..], AGAIN] {
        for (transport, says) in [
            (
                "tcp",
                "no MCP server speaks on this port (it says 'SSH-2.0-OpenSSH_9.2\\u{1b}[31m')",
            ),
            ("ws", "no HTTP is spoken on this port"),
        ] {
            let (error, outcome) = told(transport, port, flags, None);
            assert!(error["message"].as_str().unwrap().contains(says), "{error}");
            assert!(outcome.stderr.contains(says), "{outcome:?}");
            assert!(!outcome.stderr.contains('\x1b'), "{outcome:?}");
        }
    }
}

/// Bug: the error was "HTTP error: 502 Bad Gateway", which does not say what has failed.
#[test]
fn an_upgrade_that_is_answered_with_something_else_is_named() {
    let port = greeting_port(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    let (error, outcome) = told("ws", port, &[], None);
    let says = "the WebSocket upgrade is answered with HTTP 502 Bad Gateway";
    assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    assert!(outcome.stderr.contains(says), "{outcome:?}");
}

/// Bug: a client with the wrong transport kept trying for 24 seconds.
#[test]
fn the_wrong_transport_is_seen_at_once() {
    for (server, client, remedy) in [
        ("tcp", "ws", "client tcp"),
        ("ws", "tcp", "client ws"),
        (
            "http",
            "tcp",
            "'client http' with --url http(s)://HOST:PORT/mcp",
        ),
        (
            "http",
            "ws",
            "'client http' with --url http(s)://HOST:PORT/mcp",
        ),
        ("http", "ws", "'client ws' with --url ws(s)://HOST:PORT/mcp"),
    ] {
        for (setup, token) in [
            (Setup::new(server), None),
            (Setup::new(server).secret(), Some(token_with(&["user"]))),
        ] {
            let server = setup.start();
            let flags = ["--auto-reconnect", "--max-attempts", "0"];
            let (error, outcome) = told(client, server.port, &flags, token.as_deref());
            let text = error["message"].as_str().unwrap();
            assert!(text.starts_with("Could not connect: "), "{error}");
            assert!(text.contains(remedy), "{error}");
            assert!(outcome.stderr.contains(remedy), "{outcome:?}");
        }
    }
}

/// The error was "HTTP 400", or 426.
#[test]
fn a_url_of_the_wrong_transport_is_named() {
    for (server, remedy) in [("tcp", "use 'client tcp'"), ("ws", "use 'client ws'")] {
        let server = Setup::new(server).start();
        let url = format!("http://127.0.0.1:{}/mcp", server.port);
        let mut client = binary();
        client.args(["client", "http", "--auto-reconnect", "--url", &url]);
        // Bug: nothing was logged, and a client without a server went on.
        for (method, code) in [("ping", 0), ("initialize", 1)] {
            let outcome = run(&mut client, request(7, method, json!({})).as_bytes());
            assert_eq!(outcome.code, Some(code), "{outcome:?}");
            assert!(outcome.stderr.contains(remedy), "{outcome:?}");
            let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
            let text = answer["error"]["message"].as_str().unwrap();
            assert!(text.contains(remedy), "{answer}");
        }
    }
}

/// Bug: as above, at a port of a service that speaks no HTTP and at a page of a web server.
#[test]
fn a_url_without_mcp_is_named() {
    for (greeting, says) in [
        (
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            "no HTTP is spoken on this port",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "there is no MCP server at this --url",
        ),
    ] {
        let url = format!("http://127.0.0.1:{}/mcp", greeting_port(greeting));
        let mut client = binary();
        client.args(["client", "http", "--url", &url]);
        let outcome = run(&mut client, request(7, "initialize", json!({})).as_bytes());
        assert_fails_with_answer(&outcome, says);
    }
}

/// The exit code is 1, and stderr and the host are told the cause.
fn assert_fails_with_answer(outcome: &Outcome, says: &str) {
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains(says), "{outcome:?}");
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains(says), "{answer}");
}

/// Bug: the host got an error with neither cause nor remedy, stderr was empty, and the exit code was 0.
#[test]
fn a_client_over_http_names_what_it_lacks() {
    let files = Files::new();
    let roles = |setup: Setup| setup.secret().args(&["--require-roles", "boss"]);
    for (server, says) in [
        (
            files.server("tcp").start(),
            "use --tls or wss://, or https://",
        ),
        (
            files.server("http").start(),
            "use --tls or wss://, or https://",
        ),
        (
            roles(Setup::new("http")).start(),
            "one of the roles boss is required",
        ),
    ] {
        let url = format!("http://127.0.0.1:{}/mcp", server.port);
        let mut client = binary();
        client
            .args(["client", "http", "--url", &url])
            .env("MCP_REMOTE_JWT_TOKEN", token_with(&["user"]));
        let outcome = run(&mut client, request(7, "ping", json!({})).as_bytes());
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(says), "{outcome:?}");
        let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let error = &answer["error"];
        assert!(
            error["message"].as_str().unwrap().contains(says),
            "{answer}"
        );
        assert_eq!(error["data"]["executed"], "no", "{answer}");
    }
}

/// A port of 127.0.0.1 on which no connection is accepted, since the queue is full; and the connections that fill it.
fn silent_port() -> (u16, Vec<Socket>) {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = new();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let socket = new();
        socket.set_nonblocking(true).unwrap();
        let _in_progress = socket.connect(&address);
        sockets.push(socket);
    }
    (address.as_socket().unwrap().port(), sockets)
}

/// Bug: a name whose first address was dead used up all the time for it, and the next one was
/// never tried. 'localhost' is 127.0.0.1 first, then ::1.
#[test]
fn a_dead_first_address_does_not_keep_the_client_from_the_second() {
    let files = Files::new();
    for transport in BOTH {
        for tls in [false, true] {
            let (port, _kept) = silent_port();
            let setup = if tls {
                files.server(transport)
            } else {
                Setup::new(transport)
            };
            let server = setup.args(&["--host", "::1"]).port(port).start();
            let mut command = binary();
            let port = port.to_string();
            command.args(["client", transport, "--host", "localhost", "--port", &port]);
            if tls {
                command.args(files.trusting("ca"));
            }
            let began = Instant::now();
            let outcome = run(&mut command, request(7, "ping", json!({})).as_bytes());
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            assert!(outcome.stdout.contains("\"id\":7"), "{outcome:?}");
            let took = began.elapsed();
            assert!(took < Duration::from_secs(10), "{took:?}");
            drop(server);
        }
    }
}

/// Bug: an error from the MCP server without a request id ended the client if its code was one of
/// ours, and one that looked like an error of the proxy made it reconnect forever.
#[test]
fn errors_that_answer_no_request_reach_the_host() {
    for transport in BOTH {
        let server = Setup::new(transport).secret().args(&["--isolate"]).start();
        let token = token_with(&["user"]);
        for args in [&[][..], AGAIN] {
            let mut client = TestClient::start(transport, server.port, args, Some(&token));
            for code in [-32001, -32002, -32003] {
                let data = json!({"reason": "x", "timeout": "y", "required": []});
                let error = json!({"jsonrpc": "2.0", "id": null,
                    "error": {"code": code, "message": "m", "data": data}});
                let print = format!("{error}\n");
                client.send(&request(code, "x", json!({"print": print})));
                assert_eq!(client.next(), error);
                assert_eq!(client.next()["id"], code);
            }
            if args == AGAIN {
                let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32603,
                    "message": "m", "data": {"source": "mcp-remote", "reason": "tls-required"}}});
                let print = format!("{error}\n");
                client.send(&request(1, "x", json!({"print": print})));
                assert_eq!(client.next()["id"], 1);
            }
            client.close_stdin();
            assert_eq!(client.wait(), Some(0));
            let log = client.log.to_the_end();
            assert!(!log.contains("lost"), "{log}");
        }
    }
}

/// Bug: requests in flight when the token expired were reported as not executed.
#[test]
fn requests_sent_before_a_refusal_may_have_been_executed() {
    for args in [&[][..], AGAIN] {
        let acceptor = Acceptor::new("tcp");
        let mut client = TestClient::start("tcp", acceptor.port(), args, Some("t"));
        let mut server = acceptor.accept();
        server.next_line();
        server.send(r#"{"jsonrpc":"2.0","result":{"authenticated":true}}"#);
        client.send(&request("sent", "x", json!({})));
        assert_eq!(server.next()["id"], "sent");
        server.send(r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Token expired"}}}"#);
        let answer = client.next();
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(
            text.starts_with("Authentication failed (Token expired)"),
            "{text}"
        );
        let mut data = answer["error"]["data"].clone();
        assert!(data.as_object_mut().unwrap().remove("detail").is_some());
        let expected = json!({"source": "mcp-remote", "reason": "authentication-failed", "executed": "unknown"});
        assert_eq!(data, expected);
        assert_eq!(client.wait(), Some(1));
    }
}

/// Bug: such a server sends no keepalives, and lost its client after --keepalive-timeout.
#[test]
fn a_server_without_sessions_may_be_silent() {
    let timeout = Duration::from_millis(100);
    let flags = [
        AGAIN,
        &[
            "--keepalive-interval",
            "50ms",
            "--keepalive-timeout",
            "100ms",
        ],
    ]
    .concat();
    let acceptor = Acceptor::new("tcp");
    let mut client = TestClient::start("tcp", acceptor.port(), &flags, None);
    let mut server = acceptor.accept();
    client.send(&request(1, "x", json!({})));
    assert_eq!(server.next()["method"], "mcp-remote/resume");
    for id in 1..=2 {
        assert_eq!(server.next()["id"], id);
        server.send(&answer(&json!(id)));
        assert_eq!(client.next()["id"], id);
        // Much longer than the limit.
        std::thread::sleep(timeout * 10);
        client.send(&request(id + 1, "x", json!({})));
    }
    assert_eq!(server.next()["id"], 3);
}
