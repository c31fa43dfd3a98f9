//! The audit log: what it says, what it never says, and that a bad disk is nobody's trouble but its
//! own.

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

/// Every way that messages go: both transports, one MCP server for all or one for each.
const WAYS: [(&str, &[&str]); 4] = [
    ("tcp", &[]),
    ("ws", &[]),
    ("tcp", &["--isolate"]),
    ("ws", &["--isolate"]),
];

/// More than waits in memory, as pings with `--audit-allowed`.
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

    /// The lines so far, but for one that is being written.
    fn lines(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        whole.lines().map(parse).collect()
    }

    /// The first line of this event, once it is there.
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

/// Sends so many pings and reads the answers.
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

/// Bug: whoever sent nothing but what is refused wrote 100 MiB a second to the log and the audit log.
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

/// docs/audit.md knows this event and all that is said of it.
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

/// What has to be the same in all lines of a connection, as far as they have it.
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
                "rule": "role 'user' has no rule on it, so whatever its methods allow", "verdict": "allowed",
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
                "rule": "role 'user' has no rule on it, so whatever its methods allow", "verdict": "allowed",
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
    drop(server.peer());
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
    ] {
        let [_, refuse, disconnect] = of(connection)[..] else {
            panic!("{lines:#?}");
        };
        assert_eq!(
            (&refuse["event"], &refuse["reason"]),
            (&json!("refuse"), &json!(reason))
        );
        assert_eq!(disconnect["reason"], "refused");
        // Who it was is known only where we have signed the token.
        assert_of_alice(refuse, connection <= 2);
    }
    let [_, disconnect] = of(5)[..] else {
        panic!("{lines:#?}");
    };
    assert_eq!(disconnect["reason"], "gone before authentication");
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
fn a_session_is_named_over_all_its_connections() {
    let audit = Audit::new();
    for flags in [&[][..], &["--isolate"]] {
        let server = Setup::new("tcp")
            .secret()
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let resume = |session: &Value, received: u64| {
            let mut peer = server.peer_with(&token_with(&["user"]));
            let params = json!({"session": session, "received": received});
            let line = json!({"jsonrpc": "2.0", "method": "mcp-remote/resume", "params": params});
            peer.send(&line.to_string());
            let answer = peer.next()["params"].clone();
            peer.ask(received, "ping", json!({}));
            (peer, answer)
        };
        let (first, began) = resume(&Value::Null, 0);
        let (second, resumed) = resume(&began["session"], 1);
        assert_eq!(resumed["resumed"], true);
        drop(first);
        drop(second);
        server.stop();
        let key = began["session"].as_str().unwrap();
        let text = std::fs::read_to_string(audit.path("log")).unwrap();
        assert!(!text.contains(key), "the whole key: {text}");
        let lines = audit.lines("log");
        let find = |connection: u64, event: &str| {
            let same = |line: &&Value| line["connection"] == connection && line["event"] == event;
            lines
                .iter()
                .find(same)
                .unwrap_or_else(|| panic!("{event} of {connection}: {text}"))
        };
        for connection in [1, 2] {
            assert_eq!(find(connection, "allow")["session"], key[..8]);
            assert!(find(connection, "connect")["session"].is_null());
        }
        assert_eq!(
            find(1, "disconnect")["reason"],
            "its session goes on over another connection"
        );
        std::fs::remove_file(audit.path("log")).unwrap();
    }
}

/// Somebody with another's key got a new session, and nobody noticed.
#[test]
fn who_asks_for_the_session_of_another_is_on_record() {
    let belongs = "the session that it names belongs to another user, other roles or another client certificate";
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .secret()
            .args(flags)
            .args(&["--audit-log", &audit.flag("log")])
            .start();
        let of = |user: &str, role: &str| {
            token(&json!({"user": user, "roles": [role], "exp": now() + 3600}))
        };
        let mut alice = server.peer_with(&of("alice", "user"));
        let session = alice.resume(&Value::Null, 0)["params"]["session"].clone();
        alice.ask(1, "ping", json!({}));
        // What nobody has is no news.
        let mut lost = server.peer_with(&of("bob", "user"));
        let unknown = json!("0123456789abcdef0123456789abcdef");
        assert_eq!(lost.resume(&unknown, 0)["params"]["resumed"], false);
        lost.ask(1, "ping", json!({}));
        for (at, (user, role)) in [("bob", "user"), ("alice", "admin")]
            .into_iter()
            .enumerate()
        {
            let mut thief = server.peer_with(&of(user, role));
            let answer = thief.resume(&session, 1);
            assert_eq!(answer["params"]["resumed"], false, "{answer}");
            assert_ne!(answer["params"]["session"], session);
            let refused = eventually("it is on record", || {
                let lines = audit.lines("log");
                let mut refused = lines.into_iter().filter(|line| line["event"] == "refuse");
                refused.nth(at)
            });
            for (key, value) in [
                ("reason", json!(belongs)),
                ("user", json!(user)),
                ("roles", json!([role])),
                ("verdict", json!("refused")),
            ] {
                assert_eq!(refused[key], value, "{refused}");
            }
        }
        // It is alice's still.
        let mut back = server.peer_with(&of("alice", "user"));
        assert_eq!(back.resume(&session, 1)["params"]["resumed"], true);
        let log = server.stop();
        let key = session.as_str().unwrap();
        assert!(!log.contains(key), "the whole key: {log}");
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(belongs)).collect();
        assert_eq!(warnings.len(), 2, "{log}");
        assert!(
            warnings[0].contains("WARN") && warnings[0].contains("user=\"bob\""),
            "{log}"
        );
        assert!(warnings[0].contains(&key[..8]), "{log}");
        assert_eq!(
            audit
                .lines("log")
                .iter()
                .filter(|line| line["event"] == "refuse")
                .count(),
            2
        );
    }
}

/// Others' tasks read like none, and whoever tried them was not noticed.
#[test]
fn who_names_the_task_of_another_is_on_record() {
    for transport in BOTH {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .secret()
            .args(&["--audit-log", &audit.flag("log")])
            .start();
        let login = |user: &str| {
            let mut peer = server.peer_with(&token(&json!({"user": user, "exp": now() + 3600})));
            peer.initialize();
            peer
        };
        let (mut alice, mut bob) = (login("alice"), login("bob"));
        let made = r#"{"task":{"taskId":"of-alice","status":"working"}}"#;
        alice.ask(1, "tools/call", json!({"raw": made}));
        let unknown = bob.ask(2, "tasks/get", json!({"taskId": "of-nobody"}));
        let mut about = bob.ask(3, "tasks/get", json!({"taskId": "of-alice"}));
        about["id"] = json!(2);
        assert_eq!(about, unknown);
        let related =
            json!({"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "of-alice"}}});
        assert_eq!(bob.ask(4, "tools/call", related)["error"]["code"], -32602);
        // A flood of them fills no log.
        for id in 5..60 {
            bob.ask(id, "tasks/cancel", json!({"taskId": "of-alice"}));
        }
        drop(bob);
        assert!(alice.ask(5, "tasks/get", json!({"taskId": "of-alice"}))["result"].is_object());
        let log = server.stop();
        let reason = "the task that it names belongs to another user";
        let refused: Vec<Value> = audit
            .lines("log")
            .into_iter()
            .filter(|line| line["event"] == "refuse" && line["reason"] == reason)
            .collect();
        for (at, id, method) in [(0, 3, "tasks/get"), (1, 4, "tools/call")] {
            let line = &refused[at];
            assert_eq!(
                (&line["user"], &line["id"], &line["method"]),
                (&json!("bob"), &json!(id), &json!(method)),
                "{line}"
            );
        }
        assert!(log.contains("WARN") && log.contains(reason), "{log}");
        let told = log.matches(reason).count();
        assert!((2..20).contains(&told), "{log}");
        // All are counted: those that are told, and the rest in lines of their own.
        let count = |line: &Value| line["count"].as_u64().unwrap_or(1);
        assert_eq!(refused.iter().map(count).sum::<u64>(), 57, "{refused:?}");
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
            // Names of tools and URIs are what an audit log is for.
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

#[test]
fn a_log_that_cannot_be_opened_is_told_at_start() {
    let audit = Audit::new();
    mkfifo(&audit, "unread");
    for name in ["", "no/such/folder", "unread"] {
        let setup = Setup::new("tcp").args(&["--audit-log", &audit.flag(name)]);
        let says = format!("could not open the audit log {}", audit.flag(name));
        assert_fails(&setup.run(), 1, &says);
    }
    let setup = Setup::new("tcp").args(&["--audit-allowed"]);
    assert_fails(&setup.run(), 2, "--audit-log");
}

#[test]
fn links_are_not_followed() {
    let audit = Audit::new();
    std::fs::write(audit.path("target"), "").unwrap();
    symlink(audit.path("target"), audit.path("link")).unwrap();
    symlink(audit.path("new"), audit.path("dangling")).unwrap();
    for name in ["link", "dangling"] {
        let setup = Setup::new("tcp").args(&["--audit-log", &audit.flag(name)]);
        assert_fails(&setup.run(), 1, "it is a link; name the file itself");
    }
    assert!(!audit.path("new").exists());
    // Nor is one that takes the place of the file later.
    let server = Setup::new("tcp").args(&["--audit-log", &audit.flag("log")]);
    let server = server.start();
    std::fs::rename(audit.path("log"), audit.path("old")).unwrap();
    symlink(audit.path("target"), audit.path("log")).unwrap();
    server.signal(Signal::HUP);
    server.log.wait_for("it is a link");
    audit.wait_for("old", "reload");
    server.stop();
    assert_eq!(audit.lines("target").len(), 0);
}

#[test]
fn a_log_that_others_can_reach_earns_a_warning() {
    let audit = Audit::new();
    for (mode, flags, warning) in [
        (0o600, &[][..], None),
        (0o620, &[], Some("others can write to the audit log")),
        (0o604, &[], Some("others can read the audit log")),
        (0o640, &["--audit-log-mode", "0640"], None),
        (
            0o666,
            &["--audit-log-mode", "640"],
            Some("others can write to the audit log"),
        ),
    ] {
        std::fs::write(audit.path("log"), "").unwrap();
        std::fs::set_permissions(audit.path("log"), Permissions::from_mode(mode)).unwrap();
        let server = Setup::new("tcp")
            .args(&["--audit-log", &audit.flag("log")])
            .args(flags)
            .start();
        server.assert_serving();
        let log = server.stop();
        let warned = log.lines().find(|line| line.contains("the audit log"));
        match warning {
            None => assert_eq!(warned, None, "{mode:o}"),
            Some(warning) => {
                let warned = warned.unwrap_or_default();
                let mode = format!("mode={mode:04o}");
                assert!(
                    warned.contains(warning) && warned.contains(&mode),
                    "{mode}: {log}"
                );
            }
        }
    }
}

#[test]
fn the_mode_of_a_new_log_can_be_chosen() {
    let audit = Audit::new();
    for (flags, mode) in [(&[][..], 0o600), (&["--audit-log-mode", "0640"], 0o640)] {
        let _before = std::fs::remove_file(audit.path("log"));
        let server = Setup::new("tcp")
            .args(&["--audit-log", &audit.flag("log")])
            .args(flags)
            .start();
        let made = audit.path("log").metadata().unwrap().permissions().mode();
        assert_eq!(made & 0o777, mode);
        server.stop();
    }
    for mode in ["", "0400", "1600", "rw", "0x180"] {
        let setup =
            Setup::new("tcp").args(&["--audit-log", &audit.flag("log"), "--audit-log-mode", mode]);
        assert_fails(&setup.run(), 2, "octal digits");
    }
}

#[test]
fn the_log_can_be_rotated() {
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let mut peer = server.peer();
        peer.ask("before", "ping", json!({}));
        audit.wait_for("log", "allow");
        std::fs::rename(audit.path("log"), audit.path("old")).unwrap();
        server.signal(Signal::HUP);
        audit.wait_for("log", "reload");
        peer.ask("after", "ping", json!({}));
        server.stop();
        let ids = |name: &str| {
            let mode = audit.path(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "others can read {name}");
            let lines = audit.lines(name);
            let ids = lines.iter().map(|line| line["id"].clone());
            ids.filter(|id| !id.is_null()).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids("old"), ids("log")),
            (vec![json!("before")], vec![json!("after")])
        );
    }
}

#[test]
fn a_rotation_that_fails_keeps_the_file_that_was_open() {
    let audit = Audit::new();
    std::fs::create_dir(audit.path("logs")).unwrap();
    let server = Setup::new("tcp").args(&["--audit-log", &audit.flag("logs/log")]);
    let server = server.start();
    std::fs::rename(audit.path("logs"), audit.path("moved")).unwrap();
    server.signal(Signal::HUP);
    server.log.wait_for("could not open the audit log again");
    audit.wait_for("moved/log", "reload");
    server.assert_serving();
    server.stop();
}

/// Stops it; gives how many events it says could not be written.
fn lost_at_the_end(server: TestServer) -> u64 {
    let log = server.stop();
    let line = log
        .lines()
        .find(|line| line.contains("the end of the audit log"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    let (_, lost) = line.split_once("lost=").unwrap_or_else(|| panic!("{line}"));
    lost.trim_end().parse().unwrap()
}

#[test]
fn a_full_disk_is_noticed_counted_and_slows_nobody() {
    for (transport, flags) in WAYS {
        let server = Setup::new(transport)
            .args(flags)
            .args(&["--audit-log", "/dev/full"])
            .start();
        for _ in 0..3 {
            server.assert_serving();
        }
        server.log.wait_for("could not write the audit log");
        let log = server.log.clone();
        // Three came, and three left.
        assert_eq!(lost_at_the_end(server), 6);
        assert_eq!(log.text().matches("could not write").count(), 1);
    }
}

#[test]
fn a_disk_that_was_full_gets_what_waits_and_how_much_is_missing() {
    let audit = Audit::new();
    // The folder is the link: that of a log may be one.
    symlink("/dev", audit.path("folder")).unwrap();
    let server = Setup::new("tcp")
        .args(&["--audit-log", &audit.flag("folder/full"), "--audit-allowed"])
        .start();
    let mut peer = server.peer();
    ping(&mut peer, TOO_MANY);
    server.log.wait_for("the audit log does not keep up");
    std::fs::remove_file(audit.path("folder")).unwrap();
    std::fs::create_dir(audit.path("folder")).unwrap();
    server.signal(Signal::HUP);
    audit.wait_for("folder/full", "lost");
    peer.ask("after", "ping", json!({}));
    let log = server.stop();
    let lines = audit.lines("folder/full");
    let lost = lines
        .iter()
        .position(|line| line["event"] == "lost")
        .unwrap();
    let count = lines[lost]["count"].as_u64().unwrap();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    // Each ping is on record or counted, the reload too where it found no room.
    let reloads = 1 - of("reload") as u64;
    assert_eq!(of("allow") as u64 + count - reloads, TOO_MANY as u64 + 1);
    assert_eq!(lines[lost - 1]["event"], "allow");
    let ids: Vec<_> = lines[..lost]
        .iter()
        .filter_map(|line| line["id"].as_u64())
        .collect();
    assert!(
        ids.iter().copied().eq(0..ids.len() as u64),
        "in order, without a gap"
    );
    for said in [
        "could not write the audit log",
        "the audit log is written again",
        &format!("lost={count}"),
    ] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
}

fn mkfifo(audit: &Audit, name: &str) {
    let mode = Mode::RUSR | Mode::WUSR;
    mkfifoat(rustix::fs::CWD, audit.path(name), mode).unwrap();
}

/// The disk that hangs: a pipe whose reader does not read.
#[test]
fn a_slow_disk_is_noticed_counted_and_slows_nobody() {
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        mkfifo(&audit, "log");
        // Opened for both, so that opening waits for nobody.
        let mut options = std::fs::OpenOptions::new();
        let both = options.read(true).write(true);
        let reader = both.open(audit.path("log")).unwrap();
        let server = Setup::new(transport)
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let mut peer = server.peer();
        ping(&mut peer, TOO_MANY);
        server.log.wait_for("the audit log does not keep up");
        // It reads again.
        let lines = lines_of(reader);
        let next = || parse(&lines.recv_timeout(PATIENCE).expect("a line"));
        let (mut allowed, mut lost) = (0, None);
        while lost.is_none() {
            let line = next();
            allowed += u64::from(line["event"] == "allow");
            lost = line["count"].as_u64();
        }
        assert_eq!(
            allowed + lost.unwrap(),
            TOO_MANY as u64,
            "{transport} {flags:?}"
        );
        peer.ask("after", "ping", json!({}));
        assert_eq!(next()["id"], "after");
        server.log.wait_for(&format!("lost={}", lost.unwrap()));
    }
}
