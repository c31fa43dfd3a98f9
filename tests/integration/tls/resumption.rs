//! Sessions over connections that are cut, and certificates that are replaced meanwhile.

use super::*;

/// A session also belongs to the certificate it started with: a token may be stolen without its key.
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
        // Certificates are renewed regularly.
        ("alice0", "alice1", true),
        ("alice0", "bob0", false),
        // Without a subject only the identical certificate matches.
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
        // A broken file changes nothing, and neither does half of a change.
        std::fs::write(files.path("now.key"), "nothing").unwrap();
        server.reload();
        server
            .log
            .wait_for("reload failed, keeping the previous version: --tls-key");
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
            .wait_for("reload failed, keeping the previous version: --tls-client-ca");
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
        client.log.wait_for("reconnected");
        assert_eq!(client.ask(2, "after", json!({}))["id"], 2);
    }
}

/// Forwards bytes to `port`; each message on the channel ends the current connection.
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
        client.log.wait_for("reconnected, nothing is lost");
        assert_eq!(client.next()["result"]["method"], "during");
        drop(cut);
    }
}
