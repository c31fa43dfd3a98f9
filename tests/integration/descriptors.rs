//! With few file descriptors, essential work continues.

use crate::common::{Setup, TestServer, request, token_with};
use crate::process::{eventually, kill};
use crate::questions::login;
use crate::wire::TestPeer;
use serde_json::json;
use std::net::TcpStream;

/// The process behind the server, from the log.
fn child(server: &TestServer, count: usize) -> u64 {
    eventually("a child starts", || {
        let text = server.log.text();
        let mut starts = text
            .lines()
            .filter(|line| line.contains("MCP server started"));
        let line = starts.nth(count)?.to_owned();
        line.split("pid=").nth(1)?.split(' ').next()?.parse().ok()
    })
}

/// The soft and the hard limit of a process.
fn limits(pid: u64) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3).map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn the_limit_is_raised_but_not_for_the_child() {
    for flags in [&[][..], &["--isolate"]] {
        let server = Setup::new("tcp").args(flags).descriptors(200, 3000).start();
        // With --isolate the process lives as long as its client.
        let mut peer = server.peer();
        assert_eq!(peer.ask(0, "ping", json!({}))["id"], 0);
        let pair = |soft: &str| (soft.to_owned(), "3000".to_owned());
        assert_eq!(limits(server.pid()), pair("3000"));
        assert_eq!(limits(child(&server, 0)), pair("200"));
        assert!(!server.log.text().contains("too few file descriptors"));
    }
}

#[test]
fn too_few_are_told_with_numbers() {
    let server = Setup::new("tcp").descriptors(100, 200).start();
    let line = server.log.wait_for("too few file descriptors");
    assert!(line.contains("limit=200 needed=2"), "{line}");
    let few = ["--max-connections", "50", "--max-pending", "50"];
    let server = Setup::new("tcp").args(&few).descriptors(100, 200).start();
    server.assert_serving();
    assert!(!server.log.text().contains("too few file descriptors"));
    let children = ["--isolate", "--max-children", "20"];
    let setup = Setup::new("tcp").args(&few).args(&children);
    let server = setup.descriptors(100, 200).start();
    server.log.wait_for("too few file descriptors");
}

/// As many connections as are allowed, which is more than there are descriptors.
fn crowd(server: &TestServer, token: Option<&str>) -> Vec<TestPeer> {
    let connect = |_| {
        let stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let mut peer = TestPeer::over(stream);
        token.inspect(|token| peer.send(token));
        peer
    };
    let crowd = (0..80).map(connect).collect();
    server.log.wait_for("could not accept a connection");
    crowd
}

/// Bug: with all descriptors in use, five attempts to start the child failed, and the server exited.
#[test]
fn a_child_is_started_again_while_all_others_are_in_use() {
    let server = Setup::new("tcp").descriptors(64, 64).start();
    let mut first = server.peer();
    assert_eq!(first.ask(0, "ping", json!({}))["id"], 0);
    let _crowd = crowd(&server, None);
    for count in 0..3 {
        kill(child(&server, count));
        child(&server, count + 1);
        let answer = first.ask(count, "ping", json!({}));
        assert!(answer.get("result").is_some(), "{answer}");
    }
    assert!(!server.log.text().contains("could not start"));
}

/// The same for its own files.
#[test]
fn files_are_read_again_while_all_others_are_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let [audit, policy] = ["audit", "policy"].map(|name| folder.path().join(name));
    std::fs::write(
        &policy,
        r#"{"permissions":{"user":{"allowedMethods":["*"]}}}"#,
    )
    .unwrap();
    let [audit_flag, policy_flag] = [&audit, &policy].map(|path| path.display().to_string());
    let server = Setup::new("tcp")
        .secret()
        .args(&[
            "--audit-log",
            &audit_flag,
            "--permissions-config",
            &policy_flag,
        ])
        .descriptors(64, 64)
        .start();
    let _crowd = crowd(&server, Some(&token_with(&["user"])));
    let moved = folder.path().join("moved");
    std::fs::rename(&audit, &moved).unwrap();
    server.reload();
    eventually("the audit log is opened again", || {
        audit.exists().then_some(())
    });
    let text = server.log.text();
    assert!(
        !text.contains("could not read") && !text.contains("could not open"),
        "{text}"
    );
}

/// Bug: when there were too few descriptors to start one more child, the next client got an error
/// that it cannot be started. It waits instead.
#[test]
fn a_child_waits_for_what_it_takes_to_start() {
    const PEERS: usize = 20;
    let server = Setup::new("tcp")
        .secret()
        .args(&["--isolate"])
        .descriptors(64, 64)
        .start();
    // Without a secret the log does not mention silent connections.
    let login = |at| login(&server, &format!("user {at}"));
    let mut peers: Vec<TestPeer> = (0..PEERS).map(login).collect();
    eventually("all are connected", || {
        (server.log.text().matches(": connected").count() == PEERS).then_some(())
    });
    for peer in &mut peers {
        peer.send(&request(1, "ping", json!({})));
    }
    server
        .log
        .wait_for("could not start the MCP server, trying again");
    // The clients being served leave one after the other, and all the others get their turn.
    for _ in 0..PEERS {
        let served = eventually("the next one is served", || {
            peers.iter_mut().position(TestPeer::has_more)
        });
        assert_eq!(peers.remove(served).next()["id"], 1);
    }
    server.assert_serving_with(&token_with(&[]));
}
