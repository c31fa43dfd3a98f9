//! TLS at both ends: who trusts whom, and what is said where it does not come to stand.

use crate::certificates::{Files, here, named};
use crate::common::{BOTH, Setup, TestClient, TestServer, client_command, request, token_with};
use crate::process::{PATIENCE, assert_fails, binary, eventually, run};
use crate::wire::{Acceptor, TestPeer};
use rcgen::{BasicConstraints, DistinguishedName, IsCa};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const AGAIN: [&str; 3] = ["--auto-reconnect", "--reconnect-delay", "20"];

/// A client of no make in particular: lines over TLS.
fn raw(files: &Files, port: u16) -> Raw {
    raw_as(files, "ca", None, port)
}

/// The same, which trusts this authority and shows this certificate.
fn raw_as(files: &Files, ca: &str, certificate: Option<&str>, port: u16) -> Raw {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(files.path(&format!("{ca}.pem"))).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::from_pem_file(files.path(&format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(files.path(&format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(StreamOwned::new(connection, socket))
}

/// Asks one question through the client, and gives the answer.
fn ask(transport: &str, port: u16, flags: &[String], token: Option<&str>) -> Value {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut client = TestClient::start(transport, port, &flags, token);
    let answer = client.ask("q", "question", json!({}));
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
    answer
}

/// The client tries once, however patient it was told to be, and says this.
fn assert_gives_up(transport: &str, port: u16, flags: &[String], says: &str) {
    let mut command = client_command(transport, port);
    command.args(flags).args(AGAIN);
    command.args(["--max-attempts", "1000"]);
    command.env("MCP_REMOTE_JWT_TOKEN", token_with(&["user"]));
    let outcome = run(&mut command, request(0, "x", json!({})).as_bytes());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let last = outcome.stderr.lines().last().unwrap();
    assert!(
        last.starts_with("error: no connection to 127.0.0.1:") && last.contains(says),
        "{says}: {outcome:?}"
    );
    assert_eq!(outcome.stderr.matches("error: ").count(), 1, "{outcome:?}");
    // The host's question may have come too late to be read.
    for line in outcome.stdout.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["error"]["code"], -32603, "{outcome:?}");
    }
}

#[test]
fn messages_pass_with_and_without_tokens() {
    let files = Files::new();
    for transport in BOTH {
        let server = files.server(transport).start();
        let answer = ask(transport, server.port, &files.trusting("ca"), None);
        assert_eq!(answer["result"]["method"], "question");
        let server = files.server(transport).secret().start();
        let token = token_with(&["user"]);
        let flags = files.trusting("ca");
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut client = TestClient::start(transport, server.port, &flags, Some(&token));
        let blob = "é☃".repeat(1 << 20);
        let answer = client.ask(1, "x", json!({"blob": blob, "bytes": 5 << 20}));
        assert!(
            answer["result"]["params"]["blob"] == blob,
            "changed on the way"
        );
        assert_eq!(answer["result"]["blob"].as_str().unwrap().len(), 5 << 20);
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
        let log = server.stop();
        assert!(
            log.contains("authenticated") && !log.contains("WARN"),
            "{log}"
        );
    }
}

#[test]
fn a_wss_url_means_tls_and_the_machines_authorities() {
    let files = Files::new();
    let server = files.server("ws").start();
    let with_url = |url: &str, ca: &str| {
        let mut command = binary();
        command.args(["client", "ws", "--url", url]);
        command.env("SSL_CERT_FILE", files.path(ca));
        command.env_remove("SSL_CERT_DIR");
        run(&mut command, request(7, "ping", json!({})).as_bytes())
    };
    let url = format!("wss://localhost:{}/any/path", server.port);
    let outcome = with_url(&url, "ca.pem");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("\"id\":7"), "{outcome:?}");
    let outcome = with_url(&url, "other.pem");
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("--tls-ca"), "{outcome:?}");
    // Nothing is trusted at all.
    let outcome = with_url(&url, "missing.pem");
    assert_fails(&outcome, 1, "--tls-ca FILE: is needed");
    // A host that is not there, so that nothing answers at the port that is taken by default.
    let outcome = with_url("wss://no.such.host.invalid/", "ca.pem");
    assert!(
        outcome.stderr.contains("no.such.host.invalid:443"),
        "{outcome:?}"
    );
}

#[test]
fn a_server_that_is_not_the_one_is_told_in_one_line_and_not_tried_again() {
    let files = Files::new();
    let ca = files.authority("ca");
    files.signed(
        "elsewhere",
        &named("x", &["mcp.example.com", "10.0.0.1"]),
        &ca,
    );
    let mut expired = here();
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    files.signed("expired", &expired, &ca);
    let mut early = here();
    early.not_before = rcgen::date_time_ymd(4000, 1, 1);
    files.signed("early", &early, &ca);
    let mut authority = here();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    files.signed("authority", &authority, &ca);
    for transport in BOTH {
        for (server, ca, says) in [
            ("server", "other", "not trusted here; name the file"),
            (
                "elsewhere",
                "ca",
                "not for '127.0.0.1' but for 'mcp.example.com'",
            ),
            ("expired", "ca", "has expired"),
            ("early", "ca", "is not valid for another"),
            ("authority", "ca", "CA:TRUE"),
        ] {
            // The authority was made anew above.
            if server == "server" {
                files.signed("server", &here(), &files.authority("new"));
            }
            let server = files.server_as(transport, server).secret().start();
            assert_gives_up(transport, server.port, &files.trusting(ca), says);
            server.log.wait_for("refused: no TLS");
        }
    }
}

#[test]
fn a_certificate_of_ones_own_needs_no_authority() {
    let files = Files::new();
    let mut own = here();
    own.is_ca = IsCa::ExplicitNoCa;
    files.self_signed("own", &own);
    let server = files.server_as("tcp", "own").start();
    let answer = ask("tcp", server.port, &files.trusting("own"), None);
    assert_eq!(answer["id"], "q");
}

#[test]
fn clients_show_a_certificate_where_one_is_wanted() {
    let files = Files::new();
    let ca = files.path("ca.pem");
    let with = |name: &str| [files.trusting("ca"), files.identity(name)].concat();
    for transport in BOTH {
        let setup = files.server(transport).args(&["--tls-client-ca", &ca]);
        let audit = files.path("audit");
        let server = setup.secret().args(&["--audit-log", &audit]).start();
        let token = token_with(&["user"]);
        let answer = ask(transport, server.port, &with("client"), Some(&token));
        assert_eq!(answer["id"], "q");
        let line = server.log.wait_for("authenticated");
        let subject = "certificate=\"CN=alice, O=Tests\\\\, Inc.\"";
        assert!(line.contains(subject), "{line}");
        let subject = r#","certificate":"CN=alice, O=Tests\\, Inc.","user":"alice","#;
        eventually("the subject is on record", || {
            let audit = std::fs::read_to_string(&audit).unwrap();
            audit.contains(subject).then_some(())
        });
        // A certificate does not stand in for a token.
        let mut command = client_command(transport, server.port);
        command.args(with("client"));
        command.env("MCP_REMOTE_JWT_TOKEN", "nonsense");
        assert_fails(&run(&mut command, b""), 1, "Invalid token");
        for (flags, says) in [
            (files.trusting("ca"), "give one with --tls-cert"),
            (with("stranger"), "does not accept this client's"),
        ] {
            assert_gives_up(transport, server.port, &flags, says);
            server.log.wait_for("refused: no TLS");
        }
        // Without a token the refusal comes when the client believes to be connected.
        let setup = files.server(transport).args(&["--tls-client-ca", &ca]);
        let server = setup.start();
        assert_gives_up(
            transport,
            server.port,
            &files.trusting("ca"),
            "give one with",
        );
        let log = server.stop();
        assert_eq!(log.matches("refused: no TLS").count(), 1, "{log}");
        assert!(!log.contains("WARN"), "{log}");
    }
}

/// A session belongs to the certificate that it began with, too: a token may be stolen without its key.
#[test]
fn a_session_is_not_resumed_with_another_certificate() {
    let files = Files::new();
    let ca = files.authority("more-ca");
    files.signed("more-server", &here(), &ca);
    for name in ["alice", "bob", ""] {
        for number in 0..2 {
            let mut params = named(name, &[]);
            if name.is_empty() {
                params.distinguished_name = DistinguishedName::new();
            }
            files.signed(&format!("{name}{number}"), &params, &ca);
        }
    }
    let token = token_with(&["user"]);
    for (first, second, same) in [
        ("alice0", "alice0", true),
        // A certificate is renewed now and then.
        ("alice0", "alice1", true),
        ("alice0", "bob0", false),
        // Without a subject it is only the same certificate that is the same.
        ("0", "0", true),
        ("0", "1", false),
    ] {
        let server = files
            .server_as("tcp", "more-server")
            .secret()
            .args(&["--tls-client-ca", &files.path("more-ca.pem")])
            .start();
        let mut connection = login(&files, server.port, first, &token);
        let session = resume(&mut connection, &Value::Null, 0)["session"].clone();
        say(&mut connection, &request(1, "ping", json!({})));
        drop(connection);
        server.log.wait_for("waiting for the client to come back");
        let mut connection = login(&files, server.port, second, &token);
        let resumed = &resume(&mut connection, &session, 0)["resumed"];
        assert_eq!(*resumed, json!(same), "{first}, {second}");
        if !same {
            let log = server.log.wait_for("refused to resume");
            assert!(log.contains("WARN"), "{log}");
        }
    }
}

type Raw = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn say(connection: &mut Raw, line: &str) {
    let line = format!("{line}\n");
    connection.get_mut().write_all(line.as_bytes()).unwrap();
}

fn hear(connection: &mut Raw) -> Value {
    let mut line = String::new();
    connection.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// A connection with this certificate, and this token.
fn login(files: &Files, port: u16, certificate: &str, token: &str) -> Raw {
    let mut connection = raw_as(files, "more-ca", Some(certificate), port);
    say(&mut connection, token);
    assert_eq!(hear(&mut connection)["result"]["authenticated"], true);
    connection
}

fn resume(connection: &mut Raw, session: &Value, received: u64) -> Value {
    let params = json!({"session": session, "received": received});
    let line = json!({"jsonrpc": "2.0", "method": "mcp-remote/resume", "params": params});
    say(connection, &line.to_string());
    hear(connection)["params"].clone()
}

#[test]
fn certificates_are_reloaded_and_what_stands_stays() {
    let files = Files::new();
    let next = files.authority("next-ca");
    files.signed("next-server", &here(), &next);
    files.signed("next-client", &named("bob", &[]), &next);
    let copy = |from: &str, to: &str| {
        std::fs::copy(files.path(from), files.path(to)).unwrap();
    };
    let with = |ca: &str, name: &str| [files.trusting(ca), files.identity(name)].concat();
    for transport in BOTH {
        copy("server.pem", "now.pem");
        copy("server.key", "now.key");
        copy("ca.pem", "clients.pem");
        let server = files
            .server_as(transport, "now")
            .args(&["--tls-client-ca", &files.path("clients.pem")])
            .start();
        let comes_in = |flags: &[String]| {
            assert_eq!(ask(transport, server.port, flags, None)["id"], "q");
        };
        let old = with("ca", "client");
        let flags: Vec<&str> = old.iter().map(String::as_str).collect();
        let mut stays = TestClient::start(transport, server.port, &flags, None);
        stays.ask("before", "ping", json!({}));
        // What is broken changes nothing, and neither does half of a change.
        std::fs::write(files.path("now.key"), "nothing").unwrap();
        server.reload();
        server.log.wait_for("kept what was read before: --tls-key");
        comes_in(&old);
        copy("next-server.key", "now.key");
        server.reload();
        server
            .log
            .wait_for("does not belong to the first certificate");
        comes_in(&old);
        copy("next-server.pem", "now.pem");
        std::fs::write(files.path("clients.pem"), "nothing").unwrap();
        server.reload();
        server
            .log
            .wait_for("kept what was read before: --tls-client-ca");
        comes_in(&old);
        // The server's own certificate.
        copy("ca.pem", "clients.pem");
        server.reload();
        comes_in(&with("next-ca", "client"));
        assert_gives_up(transport, server.port, &old, "not trusted here");
        // The clients' authority.
        copy("next-ca.pem", "clients.pem");
        server.reload();
        comes_in(&with("next-ca", "next-client"));
        let refused = with("next-ca", "client");
        assert_gives_up(transport, server.port, &refused, "does not accept this");
        assert_eq!(stays.ask("after", "ping", json!({}))["id"], "after");
        stays.close_stdin();
        assert_eq!(stays.wait(), Some(0));
    }
}

#[test]
fn a_client_comes_back_over_tls() {
    let files = Files::new();
    let mut flags = files.trusting("ca");
    flags.extend(AGAIN.map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for transport in BOTH {
        let token = token_with(&["user"]);
        let server = files.server(transport).secret().start();
        let port = server.port;
        let mut client = TestClient::start(transport, port, &flags, Some(&token));
        assert_eq!(client.ask(1, "before", json!({}))["id"], 1);
        server.stop();
        client.log.wait_for("reconnecting");
        let _server = files.server(transport).secret().port(port).start();
        client.log.wait_for("connected again");
        assert_eq!(client.ask(2, "after", json!({}))["id"], 2);
    }
}

/// Passes bytes on to `port`; each send ends the connection of that moment.
fn relay(port: u16) -> (u16, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let (cut, cuts) = channel();
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
            if cuts.recv().is_err() {
                return;
            }
            for stream in [near, far] {
                let _gone = stream.shutdown(Shutdown::Both);
            }
        }
    });
    (own, cut)
}

#[test]
fn a_session_outlives_its_tls_connection() {
    let files = Files::new();
    let mut flags = files.trusting("ca");
    flags.extend(AGAIN.map(str::to_owned));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for transport in BOTH {
        let server = files.server(transport).secret().start();
        let (port, cut) = relay(server.port);
        let token = token_with(&["user"]);
        let mut client = TestClient::start(transport, port, &flags, Some(&token));
        assert_eq!(client.ask(1, "before", json!({}))["id"], 1);
        client.send(&request(2, "during", json!({"delayMs": 300})));
        server.wait_seen("during");
        cut.send(()).unwrap();
        client.log.wait_for("connected again, nothing is lost");
        assert_eq!(client.next()["result"]["method"], "during");
        drop(cut);
    }
}

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
    // Without a token, the client has nothing to say until its host has.
    let server = files.server("tcp").start();
    assert_gives_up("tcp", server.port, &[], "the server wants TLS");
    // Others answer by an alert, or by a page.
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
fn the_handshake_counts_as_time_to_authenticate_and_holds_nobody_up() {
    let files = Files::new();
    for transport in BOTH {
        let setup = files.server(transport).args(&["--auth-timeout", "3s"]);
        let server = setup.start();
        let begun = Instant::now();
        let mut silent = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut slow = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        slow.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
        ask(transport, server.port, &files.trusting("ca"), None);
        for stream in [&mut silent, &mut slow] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let _end = stream.read(&mut [0]);
        }
        assert!(begun.elapsed() >= Duration::from_secs(3));
        server.log.wait_for("refused: no connection in time");
    }
}

/// Reads one line and then the end, which has to be announced: a cut must not pass for one.
fn line_and_end(peer: &mut impl BufRead) -> Value {
    let mut line = String::new();
    peer.read_line(&mut line).unwrap();
    let mut rest = String::new();
    peer.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
    serde_json::from_str(&line).unwrap()
}

#[test]
fn the_end_is_announced_in_both_directions() {
    let files = Files::new();
    let server = files.server("tcp").start();
    let mut peer = raw(&files, server.port);
    let question = request(1, "x", json!({"delayMs": 100}));
    writeln!(peer.get_mut(), "{question}").unwrap();
    // What stood before the end is still answered.
    peer.get_mut().conn.send_close_notify();
    peer.get_mut().flush().unwrap();
    assert_eq!(line_and_end(&mut peer)["id"], 1);
    let server = files.server("tcp").secret().start();
    let mut peer = raw(&files, server.port);
    write!(peer.get_mut(), "nonsense\n{question}\n").unwrap();
    peer.get_mut().flush().unwrap();
    assert_eq!(
        line_and_end(&mut peer)["error"]["data"]["reason"],
        "Invalid token"
    );
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

/// Neither by us nor by the library, whatever the level.
#[test]
fn nothing_secret_is_logged_under_tls() {
    let (files, token, content) = (Files::new(), token_with(&["user"]), "what-alice-asks-for");
    let keys = ["server", "client"].map(|name| {
        let pem = std::fs::read_to_string(files.path(&format!("{name}.key"))).unwrap();
        pem.lines().nth(1).unwrap().to_owned()
    });
    for transport in BOTH {
        let ca = files.path("ca.pem");
        let server = files
            .server(transport)
            .secret()
            .args(&["--tls-client-ca", &ca]);
        let server = server.env("RUST_LOG", "trace").start();
        let args = [files.trusting("ca"), files.identity("client")].concat();
        let mut client = TestClient::start_with(transport, server.port, |command| {
            command.args(args);
            command.envs([
                ("MCP_REMOTE_JWT_TOKEN", token.as_str()),
                ("RUST_LOG", "trace"),
            ]);
        });
        client.ask(1, "tools/call", json!({"key": content}));
        crate::auth::talk_of(content, &mut |line| client.send(line));
        client.close_stdin();
        while client.wait_line().is_some() {}
        client.wait();
        let log = server.stop() + &client.log.to_the_end();
        assert!(
            log.contains("authenticated") && log.contains("alice"),
            "{log}"
        );
        let secrets = [crate::common::SECRET, &token, content, &keys[0], &keys[1]];
        crate::auth::assert_unseen(&log, &secrets);
    }
}
