//! Random messages with random mutations through the gate, and what it writes before four readers:
//! all of them see what the gate has understood.

use crate::recorder::{self, LANGUAGES, Seen};
use mcp_remote::jsonrpc::{Field, Kind, MAX_PEER_DEPTH, Message, RequestId};
use mcp_remote::permissions::{Permit, Rights};
use mcp_remote::router::{IsolatedRouter, Output, ProcessId, Profile, Router};
use mcp_remote::utils::chunks::Chunks;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

/// How many messages are made; the environment may ask for more.
fn count() -> usize {
    let asked = std::env::var("HOSTILE_MESSAGES").ok();
    asked.map_or(20_000, |asked| asked.parse().expect("a number"))
}

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(from).prop_map(str::to_owned)
}

/// `right` most of the time.
fn mostly(
    right: impl Strategy<Value = String> + 'static,
    wrong: &'static [&'static str],
) -> BoxedStrategy<String> {
    prop_oneof![12 => right, 1 => pick(wrong)].boxed()
}

const METHODS: &[&str] = &[
    "\"tools/call\"",
    "\"tools/list\"",
    "\"prompts/get\"",
    "\"resources/read\"",
    "\"resources/subscribe\"",
    "\"ping\"",
    "\"notifications/cancelled\"",
    "\"notifications/progress\"",
    "\"tasks/get\"",
    "\"tasks/cancel\"",
    "\"logging/setLevel\"",
    "\"completion/complete\"",
    "\"tools\\/call\"",
    "\"\\u0074ools/call\"",
    "\"tools/call\\u0000\"",
    "\"\"",
    "\"x\u{2028}y\"",
    "\"\u{1f600}\"",
];

const VALUES: &[&str] = &[
    "\"a\"",
    "\"b\"",
    "\"\"",
    "1",
    "-7",
    "0",
    "7",
    "\"7\"",
    "null",
    "true",
    "1.5",
    "1e2",
    "-0",
    "{}",
    "[]",
    "9007199254740991",
    "9007199254740992",
    "\"\\u0061\"",
    "\"\u{85}\u{2028}\u{2029}\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\u{e9}\"",
    "\"\\n\\r\"",
    "{\"name\":\"in\",\"name\":\"out\"}",
    "[1,\"two\",{\"method\":\"x\"}]",
    "\"\\\"\"",
    "\"{\\\"a\\\":1}\"",
    "1E400",
    "{\"progressToken\":9}",
    "\"\\u2028\"",
    "\"\\u0000\"",
    "12345678901234567890",
    "\"\u{feff}\"",
];

const PARAM_KEYS: &[&str] = &[
    "name",
    "uri",
    "requestId",
    "taskId",
    "level",
    "arguments",
    "cursor",
    "ref",
    "progressToken",
    "x",
];

const ODD_KEYS: &[&str] = &[
    "Name",
    "NAME",
    "n\\u0061me",
    "na_me",
    "URI",
    "u\u{131}ri",
    "request_id",
    "RequestId",
    "reque\u{17f}tId",
    "task_id",
    "ta\u{17f}kId",
    "ta\u{212a}id",
    "meta",
    "_META",
    "_meta",
    "name\\u0000",
    "\u{ff4e}ame",
    "",
    "__proto__",
    "\\ud800",
    "level",
    "na-me",
    "_name",
];

fn member(key: &str, value: &str, space: &str) -> String {
    format!("{space}\"{key}\"{space}:{space}{value}{space}")
}

fn space() -> impl Strategy<Value = String> {
    prop_oneof![20 => Just(String::new()), 1 => pick(&[" ", "\t", "\r", " \r\t", "\u{85}", "\u{a0}", "\u{2028}", "\u{c}"])]
}

fn meta() -> impl Strategy<Value = String> {
    let key = mostly(
        Just("progressToken".to_owned()),
        &[
            "progress_token",
            "ProgressToken",
            "progre\u{17f}\u{17f}Token",
            "progressTo\\u006ben",
            "progressToken\\u0000",
            "x",
        ],
    );
    let value = mostly(
        pick(&["1", "\"t\"", "-3", "\"\\u0074\"", "\"\u{2028}\""]),
        VALUES,
    );
    prop::collection::vec((key, value, space()), 0..3).prop_map(|members| {
        let members: Vec<String> = members
            .iter()
            .map(|(key, value, space)| member(key, value, space))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

fn params() -> impl Strategy<Value = String> {
    let key = mostly(pick(PARAM_KEYS), ODD_KEYS);
    let plain =
        (key, pick(VALUES), space()).prop_map(|(key, value, space)| member(&key, &value, &space));
    let meta = (
        mostly(Just("_meta".to_owned()), &["meta", "_Meta", "\\u005fmeta"]),
        meta(),
        space(),
    )
        .prop_map(|(key, value, space)| member(&key, &value, &space));
    let object = prop::collection::vec(prop_oneof![5 => plain, 1 => meta], 0..5)
        .prop_map(|members| format!("{{{}}}", members.join(",")));
    mostly(object, &["[]", "[{\"name\":\"a\"}]", "null", "1", "{}"])
}

fn message() -> impl Strategy<Value = String> {
    let top =
        |right: &'static str, wrong: &'static [&'static str]| mostly(Just(right.to_owned()), wrong);
    let jsonrpc = (
        top("jsonrpc", &["Jsonrpc", "j\\u0073onrpc", "j\u{17f}onrpc"]),
        mostly(
            Just("\"2.0\"".to_owned()),
            &["\"2\\u002e0\"", "2.0", "\"1.0\""],
        ),
    );
    let id = (
        top("id", &["ID", "\\u0069d", "Id"]),
        mostly(
            pick(&["1", "0", "-5", "\"i\"", "\"\\u0069\"", "\"\u{2028}\"", "-0"]),
            VALUES,
        ),
    );
    let method = (
        top("method", &["Method", "m\\u0065thod", "METHOD"]),
        mostly(pick(METHODS), VALUES),
    );
    let params = (
        top("params", &["Params", "param\u{17f}", "p\\u0061rams"]),
        params(),
    );
    let other = (
        pick(&["x", "auth", "", "id\\u0000", "Result", "error", "method"]),
        pick(VALUES),
    );
    let some =
        |part: BoxedStrategy<(String, String)>, weight: f64| prop::option::weighted(weight, part);
    (
        some(jsonrpc.boxed(), 0.99),
        some(id.boxed(), 0.8),
        some(method.boxed(), 0.99),
        some(params.boxed(), 0.9),
        some(other.boxed(), 0.1),
        space(),
    )
        .prop_flat_map(|(a, b, c, d, e, space)| {
            let members: Vec<(String, String)> = [a, b, c, d, e].into_iter().flatten().collect();
            (Just(members).prop_shuffle(), Just(space))
        })
        .prop_map(|(members, space)| {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| member(key, value, &space))
                .collect();
            format!("{space}{{{}}}{space}", members.join(","))
        })
}

/// What happens to the bytes of a message.
#[derive(Clone, Debug)]
enum Mutation {
    Insert(prop::sample::Index, &'static str),
    Overwrite(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    /// A stretch of it comes twice.
    Double(prop::sample::Index, usize),
    /// The case of a letter turns, as far as a letter is there.
    Case(prop::sample::Index),
    /// A letter becomes its escape.
    Escape(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    const PIECES: &[&str] = &[
        " ",
        "\t",
        "\r",
        "\r\n",
        "\0",
        "\u{b}",
        "\u{1e}",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{feff}",
        "\"",
        "\\",
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\\u2028",
        "\\u000a",
        "\\\"",
        "/**/",
        "//",
        "NaN",
        "0",
        "-",
        "\\u0000",
        "\u{17f}",
        "\u{212a}",
        "_",
        "\"name\":\"z\",",
        "\"method\":\"z\",",
        "\"id\":77,",
    ];
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), prop::sample::select(PIECES)).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
        1 => at().prop_map(Mutation::Delete),
        1 => (at(), 1usize..30).prop_map(|(at, length)| Mutation::Double(at, length)),
        3 => at().prop_map(Mutation::Case),
        3 => at().prop_map(Mutation::Escape),
    ]
}

fn mutate(line: &mut Vec<u8>, mutation: &Mutation) {
    if line.is_empty() {
        return;
    }
    match mutation {
        Mutation::Insert(at, piece) => {
            let at = at.index(line.len());
            line.splice(at..at, piece.bytes());
        }
        Mutation::Overwrite(at, byte) => {
            let at = at.index(line.len());
            line[at] = *byte;
        }
        Mutation::Delete(at) => drop(line.remove(at.index(line.len()))),
        Mutation::Double(at, length) => {
            let at = at.index(line.len());
            let end = (at + length).min(line.len());
            let stretch = line[at..end].to_vec();
            line.splice(at..at, stretch);
        }
        Mutation::Case(at) => {
            let at = at.index(line.len());
            if line[at].is_ascii_alphabetic() {
                line[at] ^= 0x20;
            }
        }
        Mutation::Escape(at) => {
            let at = at.index(line.len());
            let byte = line[at];
            if byte.is_ascii_alphabetic() {
                line.splice(at..=at, format!("\\u{byte:04x}").into_bytes());
            }
        }
    }
}

/// Random messages.
pub fn lines() -> Vec<Vec<u8>> {
    let strategy = (message(), prop::collection::vec(mutation(), 0..2));
    let mut runner = TestRunner::new(Config::default());
    let make = || {
        let tree = strategy.new_tree(&mut runner).expect("a message");
        let (text, mutations) = tree.current();
        let mut line = text.into_bytes();
        for mutation in &mutations {
            mutate(&mut line, mutation);
        }
        // What the transport would have cut.
        line.retain(|byte| *byte != b'\n');
        line
    };
    std::iter::repeat_with(make).take(count()).collect()
}

/// What the gate has understood of a message, and where it counts for anything.
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
    // A number beyond what serde_json holds reaches no child.
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
        // The gate reads text; where it found none, no reader may have.
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

/// For somebody who may do everything; `None` for what is no message.
pub fn permit(line: &[u8]) -> Option<Permit> {
    let message = Message::read(line.to_vec().into(), MAX_PEER_DEPTH).ok()?;
    Rights::everything().decide(message).ok()
}

/// As with `--isolate`: ids pass as they are.
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

/// What the first process is told.
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
    // A first request of the other era starts a handshake or a process of its own.
    if bytes.is_empty() || message.method() == "initialize" {
        return;
    }
    let mut understood = Understood::of(message);
    let is_request = matches!(message.kind(), Kind::Request(_));
    if is_request {
        let sent: Value = match serde_json::from_slice(bytes) {
            Ok(sent) => sent,
            // Half a surrogate pair or a huge number in the payload.
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

/// What serde_json makes of a line, if anything.
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
                // Half a surrogate pair, or a number beyond f64, in the payload.
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
