//! The same table as request bodies over HTTP, and random messages through a real server: a body is
//! a line like any other, whole or in badly split chunks.

use crate::cases::{Case, Input, cases};
use crate::common::{Setup, TestServer, token};
use crate::corpus::{LIMIT, conclude, is_harmless, outcome, policy};
use crate::differential::{Understood, lines, permit};
use crate::recorder::{self, Seen};
use crate::support::http::{Answer, Http, Session};
use mcp_remote::jsonrpc::Kind;
use serde_json::{Value, json};
use std::path::PathBuf;
use tempfile::TempDir;

const LIST: &str = r#"{"jsonrpc":"2.0","id":"done","method":"tools/list"}"#;
const PING: &str = r#"{"jsonrpc":"2.0","id":"done","method":"ping"}"#;

struct Bench {
    server: TestServer,
    bystander: Session,
    record: PathBuf,
    read_up_to: usize,
    _folder: TempDir,
}

fn token_for(user: &str, role: &str) -> String {
    token(&json!({"user": user, "roles": [role, "beginner"]}))
}

impl Bench {
    fn new(language: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let record = folder.path().join("record");
        let command = recorder::command(language, &record);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let server = Setup::new("http")
            .policy(&policy())
            .args(&["--max-message-size", &LIMIT.to_string()])
            .args(flags)
            .program(&command)
            .start();
        let bystander = Session::begin_with(server.port, &token_for("bystander", "lister"));
        Self {
            server,
            bystander,
            record,
            read_up_to: 0,
            _folder: folder,
        }
    }

    fn session(&self, role: &str) -> Session {
        Session::begin_with(self.server.port, &token_for("mallory", role))
    }

    /// What the child has parsed since the last call.
    fn seen(&mut self) -> Vec<Seen> {
        recorder::read(&self.record, &mut self.read_up_to)
    }

    /// What went wrong, if anything did.
    fn run(&mut self, case: &Case, line: &[u8], delivery: Delivery) -> Option<String> {
        let name = format!("{} ({delivery:?})", case.name);
        let session = self.session(case.role);
        let answer = delivery.post(&session, line);
        let status = answer.status();
        assert!(
            matches!(status, 200 | 202 | 400 | 404 | 413),
            "{name}: {answer:?}"
        );
        let mut answers = messages(&answer);
        answers.sort();
        // A peer that may not list everything would get the list filtered, and the recorders' lists cannot be.
        let harmless = if case.role == "careful" { PING } else { LIST };
        let after = session.post(harmless);
        assert_eq!(messages(&after), [("\"done\"".to_owned(), 0)], "{name}");
        session.send("DELETE", &[], "").answer();
        let undisturbed = self.bystander.post(LIST);
        assert_eq!(
            messages(&undisturbed),
            [("\"done\"".to_owned(), 0)],
            "{name}"
        );
        let seen = self.seen();
        if let Some(seen) = seen.iter().find(|seen| !is_harmless(seen, case)) {
            return Some(format!("{name}: the child parsed {seen:?}"));
        }
        (!is_right(case, &answers)).then(|| {
            let expected = case.expected();
            format!("{name}: answered {status} {answers:?} instead of {expected:?}")
        })
    }
}

/// A body is one message: if the table has several lines, all of them are refused together.
fn is_right(case: &Case, answers: &[(String, i64)]) -> bool {
    if case.expected().len() > 1 {
        return matches!(answers, [(_, -32700 | -32600)]);
    }
    case.is_right(answers)
}

/// Ids and codes in a body.
fn messages(answer: &Answer) -> Vec<(String, i64)> {
    if answer.body.is_empty() {
        return Vec::new();
    }
    if answer.head.header("content-type") == Some("application/json") {
        return vec![outcome(&answer.body)];
    }
    let lines = answer.body.lines();
    let data = lines.filter_map(|line| line.strip_prefix("data: "));
    data.map(outcome).collect()
}

/// How a body is sent.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    /// With a Content-Length.
    Length,
    /// In three chunks, with an extension each, and a trailer.
    Chunks,
}

impl Delivery {
    fn post(self, session: &Session, body: &[u8]) -> Answer {
        match self {
            Self::Length => session.send("POST", &[], body).answer(),
            Self::Chunks => {
                let mut http = Http::connect(session.port);
                let head = format!(
                    "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                     Accept: application/json, text/event-stream\r\nMcp-Session-Id: {}\r\n\
                     Authorization: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                    session.id, session.token
                );
                http.raw(head.as_bytes());
                let (first, rest) = body.split_at(body.len() / 3);
                let (second, third) = rest.split_at(rest.len() / 2);
                let chunks = [first, second, third].into_iter();
                for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
                    let size = format!("{:x};id=1;x=\"2\"\r\n", chunk.len());
                    http.try_raw(&[size.as_bytes(), chunk, b"\r\n"].concat());
                }
                http.try_raw(b"0\r\nMcp-Session-Id: evil\r\n\r\n");
                http.answer()
            }
        }
    }
}

fn run_all(language: &str, flags: &[&str]) {
    let mut bench = Bench::new(language, flags);
    let (mut ran, mut failures) = (0, Vec::new());
    for case in &cases() {
        let Input::Line(line) = &case.input else {
            continue;
        };
        let alone = !flags.is_empty();
        if case.not_for.contains(&language) || (alone && case.shared_only) {
            continue;
        }
        for delivery in [Delivery::Length, Delivery::Chunks] {
            failures.extend(bench.run(case, line, delivery));
        }
        ran += 1;
    }
    conclude(&failures, ran, bench.server);
}

#[test]
fn go_over_http() {
    run_all("go", &[]);
}

#[test]
fn python_over_http() {
    run_all("python", &[]);
}

#[test]
fn go_alone_over_http() {
    run_all("go", &["--isolate"]);
}

/// How many random messages go through a real server.
const MESSAGES: usize = 1500;

/// What reaches a child over HTTP is what the gate has understood of the body, or nothing.
#[test]
fn a_child_gets_what_the_gate_has_understood_of_a_body() {
    let mut bench = Bench::new("go", &[]);
    let session = bench.session("anybody");
    let fresh = bench.seen().len();
    assert!(fresh > 0);
    let mut passed = 0;
    for line in lines().into_iter().take(MESSAGES) {
        let permit = permit(&line).filter(|permit| permit.message().method() != "initialize");
        let answer = session.send("POST", &[], &line).answer();
        // The child has read everything before this.
        assert_eq!(messages(&session.post(LIST)).len(), 1);
        let mut seen = bench.seen();
        let last = seen.pop().expect("the list");
        assert_eq!(last.method.as_deref(), Some("tools/list"));
        let text = || format!("{:?}\n{answer:?}\n{seen:?}", String::from_utf8_lossy(&line));
        let Some(permit) = permit else {
            assert!(seen.is_empty(), "refused, but seen: {}", text());
            continue;
        };
        assert!(seen.len() <= 1, "{}", text());
        let Some(seen) = seen.first() else { continue };
        passed += 1;
        let message = permit.message();
        let mut understood = Understood::of(message);
        // The id and the progress token are the router's own.
        let is_request = matches!(message.kind(), Kind::Request(_));
        understood.id = seen.id.clone();
        assert_eq!(seen.id.is_i64(), is_request, "{}", text());
        if understood.progress_token != Value::Null {
            understood.progress_token = seen.id.clone();
        }
        assert!(understood.agrees(seen, is_request), "{}", text());
    }
    assert!(passed * 6 > MESSAGES, "only {passed} reached the child");
}
