//! Plain text on a TLS port, and flags and files that do not match.

use super::*;

#[test]
fn plain_text_on_a_tls_port_is_told_so() {
    let files = Files::new();
    for transport in BOTH {
        let server = files.server(transport).secret().start();
        assert_gives_up(
            transport,
            server.port,
            &[],
            "the server wants TLS; use --tls or wss://",
        );
        let log = server.log.wait_for("refused: no TLS");
        assert!(log.contains("the peer does not speak TLS"), "{log}");
        if transport == "tcp" {
            let mut peer = server.peer();
            peer.send("anything");
            let says = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request: this port speaks TLS","data":{"source":"mcp-remote","reason":"tls-required","executed":"no"}}}"#;
            assert_eq!(peer.next_line().as_deref(), Some(says));
            peer.assert_closed();
        } else {
            let (head, _) = TestPeer::upgrade(server.port, "");
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        }
        let token = token_with(&["user"]);
        ask(transport, server.port, &files.trusting("ca"), Some(&token));
    }
    // Without a token, the client sends nothing until its host does.
    let server = files.server("tcp").start();
    assert_gives_up("tcp", server.port, &[], "the server wants TLS");
    // Others respond with an alert, or a page.
    for (transport, answer) in [
        ("tcp", &b"\x15\x03\x03\x00\x02\x02\x0a"[..]),
        ("ws", b"\x15\x03\x03\x00\x02\x02\x0a"),
        (
            "ws",
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 50\r\n\r\nThe plain HTTP request was sent to HTTPS port 1234",
        ),
    ] {
        let acceptor = Acceptor::new("tcp");
        let port = acceptor.port();
        let answering = std::thread::spawn(move || {
            let mut peer = acceptor.accept();
            peer.wait_readable();
            peer.raw(answer);
        });
        assert_gives_up(transport, port, &[], "the server wants TLS");
        answering.join().unwrap();
    }
}

#[test]
fn tls_on_a_plain_port_is_told_so() {
    let files = Files::new();
    for transport in BOTH {
        for setup in [Setup::new(transport), Setup::new(transport).secret()] {
            let server = setup.start();
            let says = "does not speak TLS on this port; leave out --tls";
            assert_gives_up(transport, server.port, &files.trusting("ca"), says);
            let line = server.log.wait_for("the other end speaks TLS");
            assert!(line.contains("refused"), "{line}");
        }
    }
}

#[test]
fn what_is_wrong_with_the_files_is_told_at_start() {
    let files = Files::new();
    let path = |name: &str| files.path(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("empty.pem", "nothing\n");
    write(
        "odd.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    for (flags, says) in [
        (["missing.pem", "server.key", ""], "--tls-cert"),
        (["missing.pem", "server.key", ""], "could not read it"),
        (["empty.pem", "server.key", ""], "no certificate in it"),
        (["server.key", "server.key", ""], "no certificate in it"),
        (["odd.pem", "server.key", ""], "cannot be read"),
        (["server.pem", "missing.key", ""], "could not read it"),
        (["server.pem", "server.pem", ""], "no private key in it"),
        (["server.pem", "locked.key", ""], "the key is encrypted"),
        (
            ["server.pem", "client.key", ""],
            "does not belong to the first certificate in",
        ),
        (
            ["server.pem", "server.key", "missing.pem"],
            "--tls-client-ca",
        ),
        (
            ["server.pem", "server.key", "empty.pem"],
            "no certificate in it",
        ),
        (["server.pem", "server.key", "odd.pem"], "cannot be read"),
    ] {
        let [certificate, key, ca] = flags;
        let mut setup =
            Setup::new("tcp").args(&["--tls-cert", &path(certificate), "--tls-key", &path(key)]);
        if !ca.is_empty() {
            setup = setup.args(&["--tls-client-ca", &path(ca)]);
        }
        let outcome = setup.run();
        assert_fails(&outcome, 1, says);
        let named = flags.iter().any(|name| {
            let known = !name.is_empty() && !Path::new(&path(name)).exists();
            known || outcome.stderr.contains(&path(name))
        });
        assert!(named, "{outcome:?}");
    }
    let half = |flag: &str| Setup::new("tcp").args(&[flag, "x"]).run();
    assert_fails(&half("--tls-cert"), 2, "--tls-key");
    assert_fails(&half("--tls-key"), 2, "--tls-cert");
    assert_fails(&half("--tls-client-ca"), 2, "--tls-cert");
}

#[test]
fn what_is_wrong_with_the_clients_flags_is_told_at_start() {
    let files = Files::new();
    let ca = files.path("ca.pem");
    let fails_with = |code, args: &[&str], says: &str| {
        let mut command = binary();
        command.arg("client").args(args);
        assert_fails(&run(&mut command, b""), code, says);
    };
    let fails = |args: &[&str], says: &str| fails_with(2, args, says);
    fails(&["tcp", "--port", "1", "--tls-ca", &ca], "add --tls");
    fails(
        &["ws", "--url", "ws://localhost:1/", "--tls-ca", &ca],
        "wss://",
    );
    fails(
        &["ws", "--url", "ws://localhost:1/", "--tls"],
        "must begin with wss://",
    );
    let tcp = ["tcp", "--port", "1", "--tls", "--tls-ca"];
    fails_with(1, &[&tcp[..], &["missing"]].concat(), "could not read it");
    let odd = [&tcp[..], &[ca.as_str(), "--host", "not a name"]].concat();
    fails_with(1, &odd, "--host not a name: ");
}

#[test]
fn plain_text_that_others_can_reach_is_warned_of_once() {
    let warnings = |setup: Setup| {
        let log = setup.args(&["--host", "0.0.0.0"]).start().stop();
        let about = log.lines().filter(|line| line.contains("--tls-cert"));
        about.filter(|line| line.contains("WARN")).count()
    };
    let files = Files::new();
    assert_eq!(warnings(Setup::new("tcp")), 1);
    assert_eq!(warnings(Setup::new("ws").secret()), 1);
    assert_eq!(warnings(files.server("tcp").secret()), 0);
    let log = TestServer::start("tcp").stop();
    assert!(!log.contains("WARN"), "{log}");
}
