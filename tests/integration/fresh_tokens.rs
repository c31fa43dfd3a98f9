//! The client renews its token without a restart: from a file, or with a command.

use crate::client::{AGAIN, free_port};
use crate::common::{BOTH, Setup, TestClient, client_command, now, request, token};
use crate::process::{assert_fails, binary, eventually, run};
use crate::site::Site;
use crate::wire::{Acceptor, TestPeer};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ALL: [&str; 3] = ["tcp", "ws", "http"];

/// A file with a client's token.
struct TokenFile(TempDir);

impl TokenFile {
    fn new(token: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(token);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("token")
    }

    fn write(&self, token: &str) {
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("{token}\n")).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn flag(&self) -> String {
        format!("--jwt-token-file={}", self.path().display())
    }
}

fn good_for(seconds: u64, user: &str) -> String {
    token(&json!({"user": user, "roles": ["user"], "exp": now() + seconds}))
}

/// `client` before a server of ours.
fn client(transport: &str, port: u16, args: &[&str]) -> TestClient {
    if transport == "http" {
        return TestClient::http(&format!("http://127.0.0.1:{port}/mcp"), args, &[]);
    }
    TestClient::start(transport, port, args, None)
}

fn initialize(client: &mut TestClient) {
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let answer = client.ask(0, "initialize", params);
    assert!(answer["result"].is_object(), "{answer}");
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
}

/// Bug: a session ended with its token, and the host had to restart the client.
#[test]
fn a_session_goes_on_with_the_next_token() {
    for transport in ALL {
        let server = Setup::new(transport).secret().start();
        let (short, long) = (good_for(4, "alice"), good_for(3600, "alice"));
        let file = TokenFile::new(&short);
        let mut client = client(transport, server.port, &[&file.flag()]);
        initialize(&mut client);
        file.write(&long);
        client.log.wait_for("the token is renewed");
        eventually("the old token has expired", || {
            (now() > end_of(&short)).then_some(())
        });
        let answer = client.ask(1, "x", json!({}));
        assert!(answer["result"].is_object(), "{transport}: {answer}");
        let log = server.log.text();
        assert!(!log.contains("token expired"), "{transport}: {log}");
        let resumed = match transport {
            "http" => log.matches("session begins").count() == 1,
            _ => log.contains("resumed"),
        };
        assert!(resumed, "{transport}: {log}");
        let log = client.log.text();
        assert!(!log.contains(&short) && !log.contains(&long), "{log}");
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
}

/// The `exp` of a token.
fn end_of(token: &str) -> u64 {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["exp"].as_u64().unwrap()
}

/// If the next token belongs to another user, the session does not continue.
#[test]
fn a_token_of_another_user_begins_a_session_of_its_own() {
    let server = Setup::new("tcp").secret().start();
    let file = TokenFile::new(&good_for(4, "alice"));
    let mut client = client("tcp", server.port, &[&file.flag(), "--auto-reconnect"]);
    initialize(&mut client);
    file.write(&good_for(3600, "bob"));
    client
        .log
        .wait_for("reconnected; the server has a new session");
    let answer = client.ask(1, "x", json!({}));
    assert!(answer["result"].is_object(), "{answer}");
    server.log.wait_for("user=\"bob\"");
    server.log.wait_for("refused to resume");
}

/// The token has expired, and the next one comes with the refusal.
#[test]
fn a_token_that_expires_while_connected_is_replaced() {
    for transport in ALL {
        let server = Setup::new(transport).secret().start();
        let file = TokenFile::new(&good_for(3, "alice"));
        let (late, path) = (good_for(3600, "alice"), file.path());
        // It takes longer than the old token is valid.
        let path = path.display();
        let command = format!(
            "if [ -e {path}.asked ]; then sleep 2; echo {late}; else touch {path}.asked; cat {path}; fi"
        );
        let flag = format!("--jwt-token-command={command}");
        let mut client = client(transport, server.port, &[&flag, "--auto-reconnect"]);
        initialize(&mut client);
        server.log.wait_for("token expired");
        let answer = client.ask(1, "x", json!({}));
        assert!(answer["result"].is_object(), "{transport}: {answer}");
    }
}

fn refuse(mut server: TestPeer, expected: &str) {
    assert_eq!(server.next_line().as_deref(), Some(expected));
    server.send(r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Invalid token"}}}"#);
}

#[test]
fn a_refused_token_is_tried_again_once_if_it_has_changed() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let file = TokenFile::new("one");
        let mut client = client(transport, acceptor.port(), &[&file.flag()]);
        let first = acceptor.accept();
        file.write("two");
        refuse(first, "one");
        let mut second = acceptor.accept();
        assert_eq!(second.next_line().as_deref(), Some("two"));
        second.send(r#"{"jsonrpc":"2.0","result":{"authenticated":true}}"#);
        client.send(&request(1, "x", json!({})));
        assert_eq!(second.next()["id"], 1);
        // Revoked now, and there is no other one.
        second.send(r#"{"jsonrpc":"2.0","error":{"code":-32002,"message":"Authentication failed","data":{"reason":"Token revoked"}}}"#);
        assert_eq!(
            client.next()["error"]["data"]["reason"],
            "authentication-failed"
        );
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("Token revoked");
    }
}

#[test]
fn a_token_that_changes_with_each_refusal_is_tried_twice() {
    for transport in BOTH {
        let acceptor = Acceptor::new(transport);
        let file = TokenFile::new("0");
        let script = format!(
            "--jwt-token-command=read n < {0}; echo $((n + 1)) | tee {0}",
            file.path().display()
        );
        let mut client = client(transport, acceptor.port(), &[&script, "--auto-reconnect"]);
        refuse(acceptor.accept(), "1");
        refuse(acceptor.accept(), "2");
        assert_eq!(client.wait(), Some(1));
        client.log.wait_for("Authentication failed (Invalid token)");
    }
}

#[test]
fn over_http_a_refused_request_is_posted_again_with_the_next_token() {
    let site = Site::start();
    let file = TokenFile::new("one");
    let mut client = TestClient::http(&site.url(), &[&file.flag()], &[]);
    client.send(&request(1, "x", json!({})));
    let first = site.next();
    assert_eq!(first.header("authorization"), Some("Bearer one"));
    file.write("two");
    first.status(401);
    let second = site.next();
    assert_eq!(second.header("authorization"), Some("Bearer two"));
    assert_eq!(second.body["id"], 1);
    second.result(&json!({}));
    assert_eq!(client.next()["id"], 1);
    // The same token again is no reason to run the command again.
    client.send(&request(2, "x", json!({})));
    site.next().status(401);
    let answer = client.next();
    let text = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(text.starts_with("Authentication failed"), "{answer}");
    assert_eq!(client.wait(), Some(1));
    assert!(site.is_quiet());
}

#[test]
fn a_command_gives_the_token_and_its_stderr_is_shown() {
    for transport in ALL {
        let server = Setup::new(transport).secret().start();
        let token = good_for(3600, "alice");
        let command = format!("echo 'use the browser' >&2; echo ' {token} '");
        let flag = format!("--jwt-token-command={command}");
        let mut client = client(transport, server.port, &[&flag]);
        initialize(&mut client);
        client.log.wait_for("use the browser");
        assert!(!client.log.text().contains(&token));
        client.close_stdin();
        assert_eq!(client.wait(), Some(0));
    }
    // From the environment, too; the command line takes precedence.
    let server = Setup::new("tcp").secret().start();
    let mut command = client_command("tcp", server.port);
    let echo = format!("echo {}", good_for(3600, "bob"));
    command.env("MCP_REMOTE_JWT_TOKEN_COMMAND", echo);
    let ask = format!("{}\n", request(1, "x", json!({})));
    assert_eq!(run(&mut command, ask.as_bytes()).code, Some(0));
    server.log.wait_for("user=\"bob\"");
    command.args(["--jwt-token", &good_for(3600, "carol")]);
    assert_eq!(run(&mut command, ask.as_bytes()).code, Some(0));
    server.log.wait_for("user=\"carol\"");
}

#[test]
fn a_command_that_gives_no_token_ends_the_client_before_it_connects() {
    let port = free_port();
    for (command, says) in [
        (
            "echo s3cret; exit 3",
            "--jwt-token-command: it ended with exit status: 3",
        ),
        ("true", "is empty where it comes from"),
        ("echo Bearer s3cret", "begins with 'Bearer'"),
        ("echo '\"s3cret\"'", "has quotes around it"),
        ("echo '${TOKEN}'", "holds the name of a variable"),
        ("yes s3cret", "prints more than 16384 bytes"),
    ] {
        for transport in ALL {
            let mut client = binary();
            if transport == "http" {
                client.args([
                    "client",
                    "http",
                    "--url",
                    &format!("http://127.0.0.1:{port}/"),
                ]);
            } else {
                client = client_command(transport, port);
            }
            client.args(["--jwt-token-command", command]);
            let ask = format!("{}\n", request(1, "x", json!({})));
            let outcome = run(&mut client, ask.as_bytes());
            assert_eq!(outcome.code, Some(1), "{transport} {command}: {outcome:?}");
            assert!(
                outcome.stderr.contains(says),
                "{transport} {command}: {outcome:?}"
            );
            assert!(!outcome.stderr.contains("s3cret"), "{outcome:?}");
        }
    }
    for (flags, says) in [
        (["--jwt-token-command", " "], "--jwt-token-command is empty"),
        (
            ["--jwt-token-file", "/no/file"],
            "could not read the JWT token from /no/file",
        ),
    ] {
        let outcome = run(client_command("tcp", port).args(flags), b"");
        assert_fails(&outcome, 1, says);
    }
    let both = ["--jwt-token-command", "x", "--jwt-token-file", "x"];
    let outcome = run(client_command("tcp", port).args(both), b"");
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
}

fn is_waiting(client: &TestClient, file: &TokenFile) {
    let from = file.path();
    let from = from.display();
    let says = format!("the token has expired; waiting for a new one from {from}");
    client.log.wait_for(&says);
}

const FOREVER: [&str; 3] = [
    "--auto-reconnect",
    "--max-attempts=0",
    "--reconnect-delay=20",
];

/// Bug: a client whose token expired before the next one came gave up, and its host had lost the server for good.
#[test]
fn a_late_token_is_waited_for() {
    for transport in ALL {
        // Whether the token expires while there is a connection, or none.
        for is_away in [false, true] {
            let mut server = Setup::new(transport).secret().start();
            let short = good_for(4, "alice");
            let file = TokenFile::new(&short);
            let flag = file.flag();
            let flags = [&[&*flag], &FOREVER[..]].concat();
            let mut client = client(transport, server.port, &flags);
            initialize(&mut client);
            if is_away {
                let port = server.port;
                drop(server);
                eventually("the token has expired", || {
                    (now() > end_of(&short)).then_some(())
                });
                client.send(&request(1, "x", json!({})));
                server = Setup::new(transport).secret().port(port).start();
            }
            is_waiting(&client, &file);
            if !is_away {
                client.send(&request(1, "x", json!({})));
            }
            file.write(&good_for(3600, "alice"));
            let answer = client.next();
            assert!(answer["result"].is_object(), "{transport}: {answer}");
            assert_eq!(answer["id"], 1);
            let log = client.log.text();
            assert_eq!(log.matches("waiting for a new one").count(), 1, "{log}");
            drop(server);
        }
    }
}

#[test]
fn over_http_a_token_without_a_date_is_waited_for_if_the_server_calls_it_invalid() {
    let site = Site::start();
    let file = TokenFile::new("one");
    let flag = file.flag();
    let flags = [&[&*flag], &FOREVER[..]].concat();
    let mut client = TestClient::http(&site.url(), &flags, &[]);
    client.send(&request(1, "x", json!({})));
    site.next().result(&json!({}));
    assert_eq!(client.next()["id"], 1);
    client.send(&request(2, "x", json!({})));
    let challenge = "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n";
    site.next().answer(401, challenge, "");
    is_waiting(&client, &file);
    file.write("two");
    let again = site.next();
    assert_eq!(again.header("authorization"), Some("Bearer two"));
    again.result(&json!({}));
    assert_eq!(client.next()["id"], 2);
    // Any other refusal ends it.
    client.send(&request(3, "x", json!({})));
    site.next().status(401);
    let answer = client.next();
    assert_eq!(answer["error"]["data"]["reason"], "authentication-failed");
    assert_eq!(client.wait(), Some(1));
}

/// Bug: on a connection that was kept, no header could hold it, and the client gave up.
#[test]
fn over_http_a_file_that_holds_no_token_for_a_while_is_read_again() {
    let server = Setup::new("http").secret().start();
    let short = good_for(6, "alice");
    let file = TokenFile::new(&short);
    let flag = file.flag();
    let flags = [&[&*flag], &FOREVER[..]].concat();
    let mut client = client("http", server.port, &flags);
    initialize(&mut client);
    let answers = |client: &mut TestClient| client.ask(1, "x", json!({}))["result"].is_object();
    assert!(answers(&mut client));
    file.write("Generated JWT token:\ntwo");
    // It is read in the last fifth of the time.
    let end = end_of(&short);
    let left = |seconds: u64| move || (now() + seconds >= end).then_some(());
    eventually("the token expires in 2 s", left(2));
    assert!(answers(&mut client));
    eventually("the token expires in 1 s", left(1));
    std::thread::sleep(Duration::from_millis(300));
    client.send(&request(2, "x", json!({})));
    client.log.wait_for("waiting for a new one");
    file.write(&good_for(3600, "alice"));
    let answer = client.next();
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(answer["id"], 2);
}

/// After a night of sleep the file may still hold yesterday's token.
#[test]
fn an_expired_token_is_waited_for_where_there_has_been_a_connection() {
    let server = Setup::new("tcp").secret().start();
    let file = TokenFile::new(&good_for(3600, "alice"));
    let mut client = client("tcp", server.port, &[&[&*file.flag()], AGAIN].concat());
    initialize(&mut client);
    let port = server.port;
    let expired = token(&json!({"user": "alice", "roles": ["user"], "exp": now() - 500}));
    file.write(&expired);
    drop(server);
    client.log.wait_for("expired 8m ago");
    let server = Setup::new("tcp").secret().port(port).start();
    file.write(&good_for(3600, "alice"));
    let begun = Instant::now();
    let answer = client.ask(1, "x", json!({}));
    assert!(answer["result"].is_object(), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(20));
    drop(server);
}
