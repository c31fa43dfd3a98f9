//! The audit log: what it contains, what it never contains, and that a bad disk affects
//! nothing else.

mod disk;
mod file;
mod others;
mod probes;

use crate::auth::{assert_unseen, talk_of};
use crate::common::{BOTH, SECRET, Setup, TestServer, now, request, token, token_with};
use crate::process::{PATIENCE, assert_fails, eventually, lines_of};
use crate::wire::{CLOSE, TestPeer};
use rustix::fs::{Mode, mkfifoat};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use tempfile::TempDir;

fn mkfifo(audit: &Audit, name: &str) {
    let mode = Mode::RUSR | Mode::WUSR;
    mkfifoat(rustix::fs::CWD, audit.path(name), mode).unwrap();
}

/// Every path of a message: both transports, one MCP server for all or one per peer.
const WAYS: [(&str, &[&str]); 4] = [
    ("tcp", &[]),
    ("ws", &[]),
    ("tcp", &["--isolate"]),
    ("ws", &["--isolate"]),
];

/// More than is buffered in memory, as pings with `--audit-allowed`.
const TOO_MANY: usize = 30_000;

/// A folder for audit logs.
struct Audit(TempDir);

impl Audit {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn flag(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The lines so far, without a partial one.
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(parse).collect()
    }

    /// The first line with this event, once it is written.
    fn wait_for(&self, name: &str, event: &str) -> Value {
        eventually(&format!("{name} has {event}"), || {
            let lines = self.lines(name);
            lines.into_iter().find(|line| line["event"] == event)
        })
    }
}

fn parse(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{line:?}: {err}"));
    let time = value["time"].as_str().unwrap();
    humantime::parse_rfc3339(time).unwrap_or_else(|err| panic!("{line}: {err}"));
    value
}

fn policy() -> Value {
    json!({"permissions": {"user": {"allowedMethods": ["*"], "blockedTools": ["delete_*"]}}})
}

/// Sends this many pings and reads the responses.
fn ping(peer: &mut TestPeer, count: usize) {
    let ids: Vec<usize> = (0..count).collect();
    for ids in ids.chunks(1000) {
        for id in ids {
            peer.send(&request(*id, "ping", json!({})));
        }
        for _ in ids {
            assert!(peer.next_line().is_some());
        }
    }
}

/// Bug: a peer that sent only refused messages wrote 100 MiB a second to the log and the audit log.
#[test]
fn many_refused_messages_leave_few_lines_and_all_are_counted() {
    const MANY: usize = 100_000;
    let blocked = request(1, "tools/call", json!({"name": "delete_all"}));
    let ping = request(1, "ping", json!({}));
    for (event, line, says, args) in [
        ("block", blocked.as_str(), "Method not allowed", &[][..]),
        ("refuse", "{}", "Invalid Request", &[]),
        ("refuse", &ping, "rate-limited", &["--rate-limit", "1"]),
    ] {
        let audit = Audit::new();
        let server = Setup::new("tcp")
            .policy(&policy())
            .args(&["--audit-log", &audit.flag("log")])
            .args(args)
            .start();
        let mut peer = server.peer_with(&token_with(&["user"]));
        let mut refused = 0;
        for _ in 0..MANY / 1000 {
            peer.raw(format!("{line}\n").repeat(1000).as_bytes());
            let answers = (0..1000).map(|_| peer.next_line().unwrap());
            refused += answers.filter(|answer| answer.contains(says)).count();
        }
        // Without waiting for anything more.
        server.log.wait_for("more messages were refused");
        eventually("all are on record", || {
            let lines = audit.lines("log");
            let of = lines.iter().filter(|line| line["event"] == event);
            let recorded: u64 = of.map(|line| line["count"].as_u64().unwrap_or(1)).sum();
            (recorded == refused as u64).then_some(())
        });
        assert!(refused > MANY / 2, "{event}: {refused}");
        let size = std::fs::metadata(audit.path("log")).unwrap().len();
        assert!(size < 100_000, "{event}: {size} bytes of audit log");
        assert!(audit.lines("log").iter().any(|line| line["count"].is_u64()));
        audit.lines("log").iter().for_each(assert_documented);
        drop(peer);
        let log = server.stop();
        assert!(log.len() < 100_000, "{event}: {} bytes of log", log.len());
    }
}

/// docs/audit.md documents this event and all its members.
fn assert_documented(line: &Value) {
    let page = include_str!("../../docs/audit.md");
    let (_, section) = page.split_once("## The audit log").unwrap();
    let first_column = |name: &str| {
        let name = format!("`{name}`");
        let cells = section.lines().filter_map(|row| row.split('|').nth(1));
        cells.into_iter().any(|cell| cell.contains(&name))
    };
    let members = line.as_object().unwrap().keys().map(String::as_str);
    for name in members.chain([line["event"].as_str().unwrap()]) {
        assert!(first_column(name), "not in docs/audit.md: {name}");
    }
}

/// What must be the same in all lines of a connection that have it.
fn assert_of_alice(line: &Value, authenticated: bool) {
    assert!(
        line["peer"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
    let (user, roles, id) = (&line["user"], &line["roles"], &line["jti"]);
    if authenticated {
        assert_eq!((user, id), (&json!("alice"), &json!("1f")), "{line}");
        assert_eq!(roles, &json!(["user"]), "{line}");
    } else {
        assert!(
            user.is_null() && roles.is_null() && id.is_null(),
            "too early: {line}"
        );
    }
}

#[test]
fn what_happens_is_on_record() {
    let alice = token(&json!({"user": "alice", "roles": ["user"], "jti": "1f"}));
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .policy(&policy())
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let mut peer = server.peer_with(&alice);
        peer.ask("a", "tools/call", json!({"name": "read_file"}));
        peer.ask(7, "tools/call", json!({"name": "delete_file"}));
        peer.send("no message");
        assert_eq!(peer.next()["error"]["code"], -32700);
        peer.send(r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
        peer.ask(8, "resources/read", json!({"uri": "note:///a?b"}));
        if transport == "ws" {
            peer.frame(CLOSE, &1000_u16.to_be_bytes());
        }
        drop(peer);
        audit.wait_for("log", "disconnect");
        server.signal(Signal::HUP);
        audit.wait_for("log", "reload");
        server.stop();
        let lines = audit.lines("log");
        let wanted = [
            json!({"event": "connect"}),
            json!({"event": "authenticate", "verdict": "accepted"}),
            json!({
                "event": "allow", "kind": "request", "method": "tools/call", "tool": "read_file", "id": "a",
                "rule": "role 'user' has no restriction", "verdict": "allowed",
            }),
            json!({
                "event": "block", "kind": "request", "method": "tools/call", "tool": "delete_file", "id": 7,
                "rule": "role 'user', blockedTools 'delete_*' (line 1)", "verdict": "blocked",
            }),
            json!({"event": "refuse", "reason": "not one JSON object", "verdict": "refused"}),
            json!({
                "event": "allow", "kind": "notification", "method": "notifications/x",
                "rule": "role 'user', allowedMethods '*' (line 1)", "verdict": "allowed",
            }),
            json!({
                "event": "allow", "kind": "request", "method": "resources/read", "resource": "note:///a…", "id": 8,
                "rule": "role 'user' has no restriction", "verdict": "allowed",
            }),
            json!({"event": "disconnect", "reason": "the peer has left"}),
            json!({"event": "reload", "verdict": "complete"}),
        ];
        assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
        for (mut line, wanted) in lines.into_iter().zip(wanted) {
            assert_documented(&line);
            if wanted["event"] != "reload" {
                assert_of_alice(&line, wanted["event"] != "connect");
                assert_eq!(line["connection"], 1);
            }
            let members = line.as_object_mut().unwrap();
            members.retain(|key, _| {
                !["time", "connection", "peer", "user", "roles", "jti"].contains(&key.as_str())
            });
            assert_eq!(line, wanted, "{transport} {flags:?}");
        }
    }
}

#[test]
fn what_is_allowed_is_on_record_only_where_asked_for() {
    let audit = Audit::new();
    let server = Setup::new("tcp").args(&["--audit-log", &audit.flag("log")]);
    let server = server.start();
    server.assert_serving();
    server.stop();
    let events = audit.lines("log");
    let events: Vec<&Value> = events.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["connect", "disconnect"]);
}

#[test]
fn who_does_not_come_in_is_on_record() {
    let audit = Audit::new();
    let expired = json!({"user": "alice", "roles": ["user"], "jti": "1f", "exp": now() - 1});
    let poor = json!({"user": "alice", "roles": ["user"], "jti": "1f"});
    let server = Setup::new("tcp")
        .secret()
        .args(&["--audit-log", &audit.flag("log")])
        .args(&["--require-roles", "admin", "--auth-timeout", "2s"])
        .start();
    for first in [token(&expired), token(&poor), "garbage".to_owned()] {
        server.peer().login(&first);
    }
    server.peer().next();
    // Bug: a client without a token was said to have one that is invalid.
    server.peer().initialize();
    let ends = || {
        let lines = audit.lines("log");
        let ends = lines.iter().filter(|line| line["event"] == "disconnect");
        (ends.count() == 5).then_some(())
    };
    eventually("all are gone", ends);
    server.stop();
    let lines = audit.lines("log");
    let of = |connection: u64| {
        let lines = lines
            .iter()
            .filter(move |line| line["connection"] == connection);
        lines.collect::<Vec<_>>()
    };
    for (connection, reason) in [
        (1, "invalid token: expired"),
        (2, "user 'alice' has none of the required roles"),
        (
            3,
            "invalid token: not a token that one of our keys has signed",
        ),
        (4, "no token in time"),
        (5, "no token: the first line is a message"),
    ] {
        let [_, refuse, disconnect] = of(connection)[..] else {
            panic!("{lines:#?}");
        };
        assert_eq!(
            (&refuse["event"], &refuse["reason"]),
            (&json!("refuse"), &json!(reason))
        );
        assert_eq!(disconnect["reason"], "refused");
        // The user is known only if we have signed the token.
        assert_of_alice(refuse, connection <= 2);
    }
}

#[test]
fn what_the_rate_limit_refuses_is_on_record() {
    let audit = Audit::new();
    let server = Setup::new("tcp")
        .args(&["--audit-log", &audit.flag("log")])
        .args(&["--rate-limit", "1", "--rate-burst", "1"])
        .start();
    let mut peer = server.peer();
    for id in 1..=2 {
        peer.ask(id, "tools/call", json!({"name": "t"}));
    }
    let refused = audit.wait_for("log", "refuse");
    for (key, value) in [
        ("reason", json!("more than --rate-limit allows")),
        ("method", json!("tools/call")),
        ("tool", json!("t")),
        ("id", json!(2)),
    ] {
        assert_eq!(refused[key], value, "{refused}");
    }
}

#[test]
fn nothing_secret_is_ever_on_record() {
    let (good, content) = (token_with(&["user"]), "what-alice-asks-for");
    let named = [
        json!({"name": content}).to_string(),
        format!("\"file:///{content}\""),
    ];
    let names = |line: &str| {
        let name = named[0].trim_matches(['{', '}']);
        line.contains(name) || line.contains(&named[1])
    };
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .policy(&policy())
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let mut peer = server.peer_with(&good);
        let mut asked = 0;
        talk_of(content, &mut |line| {
            // Recording names of tools and URIs is the purpose of an audit log.
            if !names(line) {
                asked += 1;
                peer.send(line);
                assert!(peer.next_line().is_some(), "{line}");
            }
        });
        assert!(asked > 8);
        for secret in ["user:hunter2-hunter2@host/x", "host/x?key=hunter2-hunter2"] {
            peer.ask(
                99,
                "resources/read",
                json!({"uri": format!("db://{secret}")}),
            );
        }
        server.peer().login("garbage-that-is-no-token");
        if transport == "ws" {
            let header = format!("Authorization: Bearer {good}\r\n");
            TestPeer::upgrade(server.port, &header)
                .1
                .ask(1, "ping", json!({}));
        }
        server.stop();
        let log = std::fs::read_to_string(audit.path("log")).unwrap();
        for event in ["connect", "authenticate", "refuse", "allow", "disconnect"] {
            assert!(
                log.contains(&format!("\"event\":\"{event}\"")),
                "{event}: {log}"
            );
        }
        let secrets = [
            SECRET,
            &good,
            "garbage-that-is-no-token",
            content,
            "hunter2-hunter2",
        ];
        assert_unseen(&log, &secrets);
    }
}
