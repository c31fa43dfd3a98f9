//! TLS at both ends: which certificates are trusted, and the error when a connection fails.

mod mistakes;
mod resumption;

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

/// An independent client: lines over TLS.
fn raw(files: &Files, port: u16) -> Raw {
    raw_as(files, "ca", None, port)
}

/// The same, with this trusted authority and this certificate.
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

/// Sends one request through the client, and returns the response.
fn ask(transport: &str, port: u16, flags: &[String], token: Option<&str>) -> Value {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut client = TestClient::start(transport, port, &flags, token);
    let answer = client.ask("q", "question", json!({}));
    client.close_stdin();
    assert_eq!(client.wait(), Some(0));
    answer
}

/// The client tries once, whatever its retry settings, and reports this.
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
    // The host's request may have come too late to be read.
    for line in outcome.stdout.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["error"]["code"], -32603, "{outcome:?}");
        assert_eq!(answer["error"]["data"]["executed"], "no", "{outcome:?}");
    }
    assert!(!outcome.stderr.contains("connected"), "{outcome:?}");
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
    // A nonexistent host, so that nothing answers at the default port.
    let outcome = with_url("wss://no.such.host.invalid/", "ca.pem");
    assert!(
        outcome.stderr.contains("no.such.host.invalid:443"),
        "{outcome:?}"
    );
}

#[test]
fn a_server_that_is_not_the_one_is_told_in_one_line_and_not_tried_again() {
    let files = Files::new();
    files.signed("old", &here(), &files.authority("ca"));
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
            // An authority of the same name is trusted, with another key.
            ("old", "ca", "not trusted here; name the file"),
            (
                "elsewhere",
                "ca",
                "not for '127.0.0.1' but for 'mcp.example.com'",
            ),
            ("expired", "ca", "has expired"),
            ("early", "ca", "is not valid for another"),
            ("authority", "ca", "CA:TRUE"),
        ] {
            // The authority was regenerated above.
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
        // A certificate does not replace a token.
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
        // Without a token the refusal comes when the client believes it is connected.
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

/// Reads one line and then EOF, which must be announced: a cut must not pass for it.
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
    // What came before EOF still gets a response.
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

/// Neither by us nor by the library, at any level.
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
