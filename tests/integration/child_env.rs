//! A process with its user's environment: `--child-env`, `--child-env-dir`, `--child-per`.

use crate::common::{BOTH, Setup, TestClient, TestServer, now, token};
use crate::process::{Outcome, eventually, is_alive};
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const ALL: [&str; 3] = ["tcp", "ws", "http"];

/// A folder with files of users, where processes also write their environment.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for name in ["users", "seen"] {
            std::fs::create_dir(folder.0.path().join(name)).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, user: &str, text: &str, mode: u32) {
        let file = self.0.path().join("users").join(format!("{user}.env"));
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
    }

    fn server(&self, transport: &'static str, flags: &[&str]) -> TestServer {
        let script = format!("env > {}/$$", self.path("seen"));
        let users = self.path("users");
        let own = ["--isolate", "--child-env-dir", &users];
        Setup::new(transport)
            .secret()
            .args(&own)
            .args(flags)
            .shell(&script)
            .start()
    }

    /// The environment of this process, as of its start.
    fn of(&self, pid: u64) -> String {
        std::fs::read_to_string(Path::new(&self.path("seen")).join(pid.to_string())).unwrap()
    }
}

fn of(user: &str) -> Value {
    json!({"user": user, "roles": ["r"], "exp": now() + 3600, "org": {"id": 7}})
}

/// A client of this server, after its first message, and the response to that.
fn connect(server: &TestServer, claims: &Value) -> (TestClient, Value) {
    let token = token(claims);
    let mut client = match server.transport {
        "http" => {
            let url = format!("http://127.0.0.1:{}/mcp", server.port);
            TestClient::http(&url, &[], &[("MCP_REMOTE_JWT_TOKEN", &token)])
        }
        transport => TestClient::start(transport, server.port, &[], Some(&token)),
    };
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let answer = client.ask(0, "initialize", params);
    if answer["result"].is_object() {
        client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    }
    (client, answer)
}

fn pid(client: &mut TestClient) -> u64 {
    let answer = client.ask("pid", "x", json!({}));
    answer["result"]["pid"]
        .as_u64()
        .unwrap_or_else(|| panic!("{answer}"))
}

fn has(environment: &str, line: &str) -> bool {
    environment.lines().any(|known| known == line)
}

#[test]
fn each_process_gets_what_is_its_users_and_nobody_elses() {
    for transport in ALL {
        let folder = Folder::new();
        folder.write("alice", "# of alice\nAPI_KEY=s3cret of alice\n", 0o600);
        folder.write("bob", "API_KEY=s3cret of bob\n", 0o400);
        let flags = [
            "--child-env",
            "WHO={user}/{claim:/org/id}",
            "--child-env",
            "SESSION={session}",
        ];
        let server = folder.server(transport, &flags);
        let (mut alice, _) = connect(&server, &of("alice"));
        let (mut bob, _) = connect(&server, &of("bob"));
        let pids = [pid(&mut alice), pid(&mut bob)];
        let [alices, bobs] = pids.map(|pid| folder.of(pid));
        assert!(has(&alices, "API_KEY=s3cret of alice") && has(&alices, "WHO=alice/7"));
        assert!(has(&bobs, "API_KEY=s3cret of bob") && has(&bobs, "WHO=bob/7"));
        assert!(!alices.contains("of bob") && !bobs.contains("of alice"));
        let session = |text: &str| {
            text.lines()
                .find(|line| line.starts_with("SESSION="))
                .unwrap()
                .to_owned()
        };
        assert!(session(&alices).len() > 20 && session(&alices) != session(&bobs));
        for environment in [&alices, &bobs] {
            assert!(!environment.contains("MCP_REMOTE_"), "{environment}");
        }
        let ours = |file: &str| std::fs::read(format!("/proc/{}/{file}", server.pid())).unwrap();
        for file in ["cmdline", "environ"] {
            assert!(
                !String::from_utf8_lossy(&ours(file)).contains("s3cret"),
                "{file}"
            );
        }
        assert!(!server.log.text().contains("s3cret"));
        // A changed file applies to the next process.
        folder.write("alice", "API_KEY=s3cret, renewed", 0o600);
        let (mut again, _) = connect(&server, &of("alice"));
        assert!(has(&folder.of(pid(&mut again)), "API_KEY=s3cret, renewed"));
        drop((alice, bob, again));
        assert!(!server.stop().contains("s3cret"));
    }
}

#[test]
fn whose_environment_cannot_be_made_gets_no_process() {
    for transport in ALL {
        let folder = Folder::new();
        folder.write("open", "API_KEY=s3cret", 0o644);
        folder.write("broken", "A=s3cret\ns3cret", 0o600);
        folder.write("twice", "WHO=s3cret", 0o600);
        folder.write("nobody", "A=b", 0o600);
        let server = folder.server(transport, &["--child-env", "WHO={user} {claim:/org/id}"]);
        std::fs::write(folder.path("traversed.env"), "A=b").unwrap();
        let no_claim = json!({"user": "nobody", "org": {"id": ["7"]}});
        let newline = json!({"user": "nobody", "org": {"id": "7\nLD_PRELOAD=x"}});
        for (claims, says) in [
            (of("missing"), "could not read"),
            (of("open"), "its mode is 644"),
            (of("broken"), "line 2: it is not of the form NAME=VALUE"),
            (of("twice"), "line 1: this variable is set already"),
            (of("../traversed"), "the user's name is no file name"),
            (of("/etc/passwd"), "the user's name is no file name"),
            (
                of("nobody\u{0}"),
                "the value of 'WHO' holds a line break or a NUL",
            ),
            (json!({"roles": ["r"]}), "this token names none"),
            (no_claim, "the token has no claim '/org/id'"),
            (newline, "the value of 'WHO' holds a line break or a NUL"),
        ] {
            let (_client, answer) = connect(&server, &claims);
            // Over TCP the connection is closed, and the client shows the error.
            assert!(
                answer["error"].is_object(),
                "{transport} {claims}: {answer}"
            );
            let line = server.log.wait_for(says);
            assert!(!line.contains("s3cret"), "{line}");
        }
        assert_eq!(std::fs::read_dir(folder.path("seen")).unwrap().count(), 0);
        server.assert_refusal(&of("missing"));
    }
}

trait Refuses {
    fn assert_refusal(&self, claims: &Value);
}

impl Refuses for TestServer {
    /// What a peer without our client reads.
    fn assert_refusal(&self, claims: &Value) {
        if self.transport == "http" {
            return;
        }
        let mut peer = self.peer_with(&token(claims));
        peer.send(&crate::common::request(1, "ping", json!({})));
        let answer = peer.next();
        assert_eq!(
            answer["error"]["data"]["reason"], "no-child-environment",
            "{answer}"
        );
        assert_eq!(answer["error"]["data"]["executed"], "no");
    }
}

#[test]
fn sessions_of_one_user_can_share_a_process() {
    for transport in ALL {
        let folder = Folder::new();
        for user in ["alice", "bob"] {
            folder.write(user, &format!("KEY={user}"), 0o600);
        }
        let flags = ["--child-per", "user", "--child-env", "ORG={claim:/org/id}"];
        let server = folder.server(transport, &flags);
        let (mut first, _) = connect(&server, &of("alice"));
        let (mut second, _) = connect(&server, &of("alice"));
        let (mut bob, _) = connect(&server, &of("bob"));
        let alices = pid(&mut first);
        assert_eq!(pid(&mut second), alices, "{transport}");
        let bobs = pid(&mut bob);
        assert_ne!(bobs, alices);
        assert!(has(&folder.of(alices), "KEY=alice") && has(&folder.of(bobs), "KEY=bob"));
        // Another environment, another process.
        let mut elsewhere = of("alice");
        elsewhere["org"]["id"] = json!(8);
        let (mut other, _) = connect(&server, &elsewhere);
        let others = pid(&mut other);
        assert_ne!(others, alices);
        assert!(has(&folder.of(others), "ORG=8"));
        // It outlives the session that started it, and the next one uses it.
        first.close_stdin();
        assert_eq!(first.wait(), Some(0));
        assert_eq!(pid(&mut second), alices);
        second.close_stdin();
        assert_eq!(second.wait(), Some(0));
        let (mut third, _) = connect(&server, &of("alice"));
        assert_eq!(pid(&mut third), alices);
        drop((third, bob, other));
        server.stop();
        for pid in [alices, bobs, others] {
            eventually("the process has ended", || (!is_alive(pid)).then_some(()));
        }
    }
}

/// Bug: the process of one tenant served the token of another, with the same user and roles.
#[test]
fn a_session_is_resumed_only_with_the_same_environment() {
    for transport in BOTH {
        let flags = ["--isolate", "--child-env", "ORG={claim:/org/id}"];
        let server = Setup::new(transport).secret().args(&flags).start();
        let mut first = server.peer_with(&token(&of("alice")));
        let session = first.resume(&Value::Null, 0)["params"]["session"].clone();
        assert_eq!(first.ask(1, "ping", json!({}))["id"], 1);
        drop(first);
        server.log.wait_for("waiting for the client to come back");
        let mut elsewhere = of("alice");
        elsewhere["org"]["id"] = json!(8);
        for (claims, resumed) in [(elsewhere, false), (of("alice"), true)] {
            let mut peer = server.peer_with(&token(&claims));
            let answer = peer.resume(&session, 1);
            assert_eq!(
                answer["params"]["resumed"], resumed,
                "{transport}: {answer}"
            );
        }
    }
}

/// When a process has exited, the next session gets a new one.
#[test]
fn a_process_of_a_user_that_exits_is_started_again() {
    for transport in BOTH {
        let folder = Folder::new();
        folder.write("alice", "KEY=alice", 0o600);
        let server = folder.server(transport, &["--child-per", "user"]);
        let (mut first, _) = connect(&server, &of("alice"));
        let before = pid(&mut first);
        let answer = first.ask(1, "x", json!({"exit": 3}));
        assert_eq!(
            answer["error"]["data"]["reason"], "child-exited",
            "{answer}"
        );
        let after = eventually("the next process", || {
            let answer = first.ask(2, "x", json!({}));
            answer["result"]["pid"].as_u64()
        });
        assert_ne!(before, after);
        assert!(has(&folder.of(after), "KEY=alice"));
    }
}

fn assert_usage(outcome: &Outcome, says: &str) {
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stderr.contains(says), "{says}: {outcome:?}");
}

#[test]
fn misuse_is_told_at_start() {
    let run = |flags: &[&str]| Setup::new("tcp").secret().args(flags).run();
    for flags in [
        &["--child-env", "A=b"][..],
        &["--child-env-dir", "/"],
        &["--child-per", "user"],
        &["--child-per", "user", "--isolate=asking"],
        &["--child-env", "A=b", "--isolate=never"],
    ] {
        assert_usage(&run(flags), "needs --isolate");
    }
    for (flags, says) in [
        (&["--child-env", "A"][..], "NAME=VALUE"),
        (&["--child-env", "A={who}"], "'{who}' stands for nothing"),
        (&["--child-env", "A=b\nc"], "line break"),
        (
            &["--child-env", "A=b", "--child-env", "A=c"],
            "sets a variable twice",
        ),
        (
            &["--child-env", "A={session}", "--child-per", "user"],
            "exclude each other",
        ),
        (&["--child-per", "role"], "must be session or user"),
    ] {
        assert_usage(&run(&[&["--isolate"], flags].concat()), says);
    }
    let outcome = run(&["--isolate", "--child-env-dir", "/no/folder"]);
    crate::process::assert_fails(&outcome, 1, "/no/folder is not a folder");
    let outcome = Setup::new("tcp")
        .args(&["--isolate", "--child-env", "A={user}"])
        .run();
    crate::process::assert_fails(&outcome, 1, "--child-env needs a secret");
}
