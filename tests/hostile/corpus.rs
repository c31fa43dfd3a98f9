//! Every case, over both transports, in front of every child, shared and isolated: nothing forbidden is parsed by the
//! child, another peer is undisturbed, and every response has the request's own id.

use crate::cases::{Case, Input, cases};
use crate::common::{Setup, TestServer, request, token};
use crate::recorder::{self, Seen};
use crate::wire::{BINARY, PING, TEXT, TestPeer};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

/// The longest line that the servers of these tests accept.
pub const LIMIT: usize = 64 * 1024;

struct Bench {
    server: TestServer,
    bystander: TestPeer,
    transport: &'static str,
    record: PathBuf,
    read_up_to: usize,
    asked: u32,
    _folder: TempDir,
}

/// The roles of the table, and one that may start a session.
pub fn policy() -> Value {
    json!({"permissions": {
        "lister": {"allowedMethods": ["initialize", "server/discover", "ping", "tools/list", "notifications/progress"]},
        "anybody": {"allowedMethods": ["*"]},
        "caller": {"allowedMethods": ["tools/call", "tools/list", "resources/read"]},
        "careful": {
            "allowedMethods": ["*"],
            "blockedTools": ["EVIL"], "blockedPrompts": ["EVIL"], "blockedResources": ["x:EVIL*"],
        },
        "beginner": {"allowedMethods": ["initialize"]},
    }})
}

fn token_for(user: &str, role: &str) -> String {
    token(&json!({"user": user, "roles": [role]}))
}

impl Bench {
    fn new(transport: &'static str, language: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("record");
        let command = recorder::command(language, &record);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let limit = LIMIT.to_string();
        let server = Setup::new(transport)
            .policy(&policy())
            .args(&["--max-message-size", &limit])
            .args(flags)
            .program(&command)
            .start();
        let mut bystander = server.peer_with(&token_for("bystander", "lister"));
        bystander.initialize();
        Self {
            server,
            bystander,
            transport,
            record,
            read_up_to: 0,
            asked: 0,
            _folder: folder,
        }
    }

    /// Another peer sends a request, and gets its response and nothing else.
    fn assert_undisturbed(&mut self, case: &str) {
        self.asked += 1;
        let id = format!("bystander {}", self.asked);
        let answer = self.bystander.ask(id.as_str(), "tools/list", json!({}));
        assert_eq!(answer["id"], json!(id), "{case}: {answer}");
        assert_eq!(answer["result"]["method"], "tools/list", "{case}: {answer}");
    }

    /// What went wrong, if anything did.
    fn run(&mut self, case: &Case, delivery: Delivery) -> Option<String> {
        let name = format!("{} ({delivery:?})", case.name);
        let mut peer = self.server.peer_with(&token_for("mallory", case.role));
        peer.begin();
        delivery.send(&case.input, &mut peer);
        let mut answers = Vec::new();
        if case.closes {
            while let Some(line) = peer.next_line() {
                answers.push(outcome(&line));
            }
        } else {
            if case.leaves {
                drop(peer);
            } else {
                // Some roles need lists filtered, and the recorders' lists cannot be.
                let harmless = match case.role {
                    "careful" => "ping",
                    _ => "tools/list",
                };
                peer.send(&request("done", harmless, json!({})));
                loop {
                    let line = peer.next_line();
                    let line = line.unwrap_or_else(|| panic!("{name}: closed after {answers:?}"));
                    match outcome(&line) {
                        (id, code) if id == "\"done\"" => {
                            assert_eq!(code, 0, "{name}");
                            break;
                        }
                        other => answers.push(other),
                    }
                }
                let after = peer.ask("after", harmless, json!({}));
                assert_eq!(after["id"], "after", "{name}: more than the answers");
            }
        }
        answers.sort();
        self.assert_undisturbed(&name);
        let seen = recorder::read(&self.record, &mut self.read_up_to);
        if let Some(seen) = seen.iter().find(|seen| !is_harmless(seen, case)) {
            return Some(format!("{name}: the child parsed {seen:?}"));
        }
        (!case.is_right(&answers)).then(|| {
            format!(
                "{name}: answered {answers:?} instead of {:?}",
                case.expected()
            )
        })
    }
}

/// The id, as its JSON text, and the code of an error or 0.
pub fn outcome(line: &str) -> (String, i64) {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
        result: Option<IgnoredAny>,
        error: Option<Failed>,
    }
    #[derive(serde::Deserialize)]
    struct Failed {
        code: i64,
    }
    let answer: Answer<'_> =
        serde_json::from_str(line).unwrap_or_else(|err| panic!("{line}: {err}"));
    assert!(
        answer.error.is_some() || answer.result.is_some(),
        "neither result nor error: {line}"
    );
    // Strings by value, numbers by spelling.
    let id = answer.id.map_or("null", RawValue::get);
    let id = match serde_json::from_str::<String>(id) {
        Ok(text) => json!(text).to_string(),
        Err(_) => id.to_owned(),
    };
    (id, answer.error.map_or(0, |error| error.code))
}

/// The child has parsed exactly one whole message, which the role may send.
pub fn is_harmless(seen: &Seen, case: &Case) -> bool {
    let method = seen.method.as_deref().unwrap_or_default();
    let own = [
        "initialize",
        "notifications/initialized",
        "notifications/cancelled",
        "tools/list",
    ];
    let allowed = own.contains(&method) || case.may.contains(&method);
    let texts = [
        &seen.name,
        &seen.uri,
        &seen.request_id,
        &seen.task_id,
        &seen.progress_token,
    ];
    let mut texts = texts.into_iter().filter_map(Value::as_str);
    seen.object && !seen.answer && allowed && !texts.any(|text| text.contains("EVIL"))
}

/// How the bytes of a case are sent.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    /// In one segment.
    Whole,
    /// In three, at odd offsets.
    Pieces,
    /// In one frame.
    Frame,
    /// In one message of several frames, with control frames in between.
    Fragments,
}

impl Delivery {
    fn of(transport: &str) -> [Self; 2] {
        match transport {
            "tcp" => [Self::Whole, Self::Pieces],
            _ => [Self::Frame, Self::Fragments],
        }
    }

    fn send(self, input: &Input, peer: &mut TestPeer) {
        match input {
            Input::Line(bytes) => {
                let bytes = [bytes, &b"\n"[..]].concat();
                let opcode = if std::str::from_utf8(&bytes).is_ok() {
                    TEXT
                } else {
                    BINARY
                };
                let (first, rest) = bytes.split_at(bytes.len() / 3);
                let (second, third) = rest.split_at(rest.len() / 2);
                match self {
                    Self::Whole => peer.raw(&bytes),
                    Self::Pieces => {
                        for piece in [first, second, third] {
                            peer.raw(piece);
                        }
                    }
                    Self::Frame => peer.frame(opcode, &bytes),
                    Self::Fragments => {
                        peer.fragment(opcode, first);
                        peer.frame(PING, b"{\"jsonrpc\":\"2.0\"}\n");
                        peer.fragment(0, second);
                        peer.fragment(0, b"");
                        peer.fragment(0x80, third);
                    }
                }
            }
            Input::Segments(segments) => {
                for segment in segments {
                    peer.raw(segment);
                }
            }
            Input::Frames(frames) => {
                for (head, payload) in frames {
                    peer.fragment(*head, payload);
                }
            }
        }
    }
}

fn run_all(transport: &'static str, language: &str, flags: &[&str]) {
    let mut bench = Bench::new(transport, language, flags);
    let (mut ran, mut refused_by_reader, mut failures) = (0, 0, Vec::new());
    for case in &cases() {
        let alone = !flags.is_empty();
        let fits = match case.input {
            _ if alone && case.shared_only => false,
            Input::Line(_) => true,
            Input::Segments(_) => transport == "tcp",
            Input::Frames(_) => transport == "ws",
        };
        if !fits || case.not_for.contains(&language) {
            refused_by_reader += usize::from(fits);
            continue;
        }
        let deliveries = Delivery::of(bench.transport);
        let count = if matches!(case.input, Input::Line(_)) {
            2
        } else {
            1
        };
        for delivery in &deliveries[..count] {
            failures.extend(bench.run(case, *delivery));
        }
        ran += 1;
    }
    assert!(refused_by_reader < 5);
    conclude(&failures, ran, bench.server);
}

/// Enough cases were run, none failed, and the server has logged nothing forbidden.
pub fn conclude(failures: &[String], ran: usize, server: TestServer) {
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(ran >= 200, "only {ran} cases");
    let log = server.stop();
    assert!(
        !log.contains("recorder: "),
        "the child could not read what the gate wrote"
    );
    for word in ["panicked", "hunter2"] {
        assert!(!log.contains(word), "{word} in the log");
    }
}

macro_rules! runs {
    ($($name:ident $transport:literal $language:literal $($flag:literal)?,)*) => {
        $(#[test] fn $name() { run_all($transport, $language, &[$($flag)?]); })*

        /// Every child is used.
        #[test]
        fn every_language_is_there() {
            let run = [$($language),*];
            assert!(recorder::LANGUAGES.iter().all(|language| run.contains(language)));
        }
    };
}

runs! {
    python_over_tcp "tcp" "python",
    python_over_websocket "ws" "python",
    node_over_tcp "tcp" "node",
    node_over_websocket "ws" "node",
    go_over_tcp "tcp" "go",
    go_over_websocket "ws" "go",
    go_alone_over_tcp "tcp" "go" "--isolate",
    go_alone_over_websocket "ws" "go" "--isolate",
}

#[test]
fn names_of_cases_are_told_apart() {
    let cases = cases();
    let names: std::collections::BTreeSet<&str> =
        cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len());
}
