//! Random messages with random mutations through the gate, whose output is given to four readers:
//! all of them see what the gate has understood.

mod random;

pub use random::lines;

use crate::recorder::{self, LANGUAGES, Seen};
use mcp_remote::jsonrpc::{Field, Kind, MAX_PEER_DEPTH, Message, RequestId};
use mcp_remote::permissions::{Permit, Rights};
use mcp_remote::router::{IsolatedRouter, Output, ProcessId, Profile, Router};
use mcp_remote::utils::chunks::Chunks;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What the gate has understood of a message, where it matters.
#[derive(Debug)]
pub struct Understood {
    method: String,
    pub id: Value,
    name: Option<Value>,
    uri: Option<Value>,
    request_id: Option<Value>,
    task_id: Option<Value>,
    pub progress_token: Value,
}

fn value_of(id: Option<RequestId>) -> Value {
    let mut text = b"".to_vec();
    match id {
        Some(id) => id.write(&mut text),
        None => text.extend(b"null"),
    }
    // A number beyond serde_json's range reaches no child.
    serde_json::from_slice(&text).unwrap_or_else(|_| json!(String::from_utf8_lossy(&text)))
}

impl Understood {
    pub fn of(message: &Message) -> Self {
        let method = message.method();
        let text = |field, read: bool| read.then(|| json!(message.text(field)));
        Self {
            name: text(Field::Name, matches!(method, "tools/call" | "prompts/get")),
            uri: text(
                Field::Uri,
                matches!(method, "resources/read" | "resources/subscribe"),
            ),
            task_id: text(Field::TaskId, method.starts_with("tasks/")),
            request_id: (method == "notifications/cancelled")
                .then(|| value_of(message.quotes(Field::RequestId))),
            progress_token: match message.kind() {
                Kind::Request(_) => value_of(message.quotes(Field::ProgressToken)),
                _ => Value::Null,
            },
            id: value_of(message.id().cloned()),
            method: method.to_owned(),
        }
    }

    pub fn agrees(&self, seen: &Seen, is_request: bool) -> bool {
        // The gate reads text; if it found none, no reader may find any.
        let text = |ours: &Option<Value>, theirs: &Value| match ours {
            None => true,
            Some(Value::Null) => !theirs.is_string(),
            Some(ours) => ours == theirs,
        };
        seen.object
            && !seen.answer
            && seen.method.as_deref() == Some(&self.method)
            && seen.id == self.id
            && text(&self.name, &seen.name)
            && text(&self.uri, &seen.uri)
            && text(&self.task_id, &seen.task_id)
            && self
                .request_id
                .as_ref()
                .is_none_or(|ours| *ours == seen.request_id)
            && (!is_request || self.progress_token == seen.progress_token)
    }
}

/// Lines for a child, and what each must mean to it.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// With the line it was made from.
    meanings: Vec<(Understood, bool, String)>,
}

impl Written {
    fn add(&mut self, bytes: &[u8], understood: Understood, is_request: bool, source: &[u8]) {
        let source = String::from_utf8_lossy(source).into_owned();
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        assert!(
            ends == 1 && bytes.ends_with(b"\n"),
            "{ends} lines from {source:?}"
        );
        self.bytes.extend(bytes);
        self.meanings.push((understood, is_request, source));
    }
}

/// For a peer that may do everything; `None` for what is not a message.
pub fn permit(line: &[u8]) -> Option<Permit> {
    let message = Message::read(line.to_vec().into(), MAX_PEER_DEPTH).ok()?;
    Rights::everything().decide(message).ok()
}

/// As with `--isolate`: ids pass unchanged.
fn through_pipe(line: &[u8], written: &mut Written) {
    let Some(permit) = permit(line) else { return };
    let (mut pipe, mut out) = (IsolatedRouter::default(), Output::default());
    // Requests that may be cancelled.
    for id in ["7", "\"7\"", "9007199254740991"] {
        let warm_up = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"w"}}"#);
        assert_eq!(pipe.peer_message(&permit_of(&warm_up), &mut out), Ok(()));
    }
    let mut out = Output::default();
    assert_eq!(pipe.peer_message(&permit, &mut out), Ok(()));
    let bytes = &for_child(&mut out);
    if !bytes.is_empty() {
        let message = permit.message();
        let is_request = matches!(message.kind(), Kind::Request(_));
        written.add(bytes, Understood::of(message), is_request, line);
    }
}

/// What the first process receives.
fn for_child(out: &mut Output) -> Vec<u8> {
    let told = out.take(ProcessId::FIRST, Chunks::default());
    told.into_pieces().concat()
}

fn permit_of(line: &str) -> Permit {
    permit(line.as_bytes()).expect("a message")
}

/// As by default: the id and the progress token are the router's own.
fn through_router(line: &[u8], written: &mut Written) {
    let Some(permit) = permit(line) else { return };
    let message = permit.message();
    let (mut router, mut out) = (Router::new(), Output::default());
    let session = router.attach(Profile::anybody());
    router.child_started(ProcessId::FIRST, &mut out);
    let hello = r#"{"jsonrpc":"2.0","id":"h","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#;
    assert_eq!(
        router.peer_message(session, &permit_of(hello), &mut out),
        Ok(())
    );
    let asked: Value = serde_json::from_slice(&for_child(&mut out)).expect("one request");
    let answer = json!({"jsonrpc":"2.0","id":asked["id"],"result":{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{}}});
    let answer = Message::read(answer.to_string().into(), MAX_PEER_DEPTH).expect("an answer");
    router.child_message(ProcessId::FIRST, &answer, Instant::now, &mut out);
    let mut out = Output::default();
    assert_eq!(router.peer_message(session, &permit, &mut out), Ok(()));
    let bytes = &for_child(&mut out);
    // A first request of the other era starts a handshake or a separate process.
    if bytes.is_empty() || message.method() == "initialize" {
        return;
    }
    let mut understood = Understood::of(message);
    let is_request = matches!(message.kind(), Kind::Request(_));
    if is_request {
        let sent: Value = match serde_json::from_slice(bytes) {
            Ok(sent) => sent,
            // A lone surrogate or a huge number in the payload.
            Err(_) => return,
        };
        assert!(sent["id"].is_i64(), "{sent}");
        understood.id = sent["id"].clone();
        if understood.progress_token != Value::Null {
            understood.progress_token = sent["id"].clone();
        }
    }
    written.add(bytes, understood, is_request, line);
}

/// How serde_json parses a line, if at all.
fn read_by_serde(line: &[u8]) -> Option<Seen> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let plain = |value: &Value| match value {
        Value::String(_) => value.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => value.clone(),
        _ => Value::Null,
    };
    let params = &message["params"];
    Some(Seen {
        object: message.is_object(),
        answer: !message["result"].is_null() || !message["error"].is_null(),
        method: message["method"].as_str().map(str::to_owned),
        id: plain(&message["id"]),
        name: plain(&params["name"]),
        uri: plain(&params["uri"]),
        request_id: plain(&params["requestId"]),
        task_id: plain(&params["taskId"]),
        progress_token: plain(&params["_meta"]["progressToken"]),
    })
}

fn read_by(language: &str, bytes: &[u8]) -> Vec<Seen> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    let command = recorder::command(language, &file);
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feed = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().expect("the recorder reads to the end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{language}: {said}"
    );
    recorder::read(&file, &mut 0)
}

fn all_readers_agree(through: fn(&[u8], &mut Written)) {
    let (lines, mut written) = (lines(), Written::default());
    for line in &lines {
        through(line, &mut written);
    }
    let passed = written.meanings.len();
    eprintln!("{passed} of {} messages passed", lines.len());
    assert!(passed * 8 > lines.len(), "the messages are too wild");
    assert!(passed * 10 < lines.len() * 9, "the messages are too tame");
    let check = |reader: &str, at: usize, seen: &Seen| {
        let (understood, is_request, source) = &written.meanings[at];
        let line = || written.bytes.split(|byte| *byte == b'\n').nth(at).unwrap();
        assert!(
            understood.agrees(seen, *is_request),
            "{reader} saw {seen:?}\nthe gate understood {understood:?}\nof {source:?}\nand wrote {:?}",
            String::from_utf8_lossy(line())
        );
    };
    for language in LANGUAGES {
        let seen = read_by(language, &written.bytes);
        assert_eq!(seen.len(), passed, "{language} found other lines");
        for (at, seen) in seen.iter().enumerate() {
            check(language, at, seen);
        }
    }
    let lines = written.bytes.split_inclusive(|byte| *byte == b'\n');
    let mut read = 0;
    for (at, line) in lines.enumerate() {
        match read_by_serde(line) {
            Some(seen) => {
                read += 1;
                check("serde_json", at, &seen);
            }
            None => {
                // A lone surrogate, or a number beyond f64, in the payload.
                let text = String::from_utf8_lossy(line).to_lowercase();
                let exponent = |pair: &[u8]| pair[0].is_ascii_digit() && pair[1] == b'e';
                let known = text.contains("\\ud") || text.as_bytes().windows(2).any(exponent);
                assert!(known, "serde_json cannot read {text}");
            }
        }
    }
    assert!(read * 10 > passed * 6, "serde_json read {read} of {passed}");
}

#[test]
fn readers_agree_on_what_an_isolated_child_gets() {
    all_readers_agree(through_pipe);
}

#[test]
fn readers_agree_on_what_a_shared_child_gets() {
    all_readers_agree(through_router);
}
