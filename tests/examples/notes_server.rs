//! `examples/notes_server`.

use super::*;

const REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

struct Notes {
    process: Process,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    folder: tempfile::TempDir,
}

impl Notes {
    fn start() -> Notes {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let mut child = Command::new(example("notes_server"))
            .arg(folder.path().join("notes"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("notes_server starts");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Notes {
            process: Process(child),
            stdin,
            stdout,
            folder,
        }
    }

    fn send(&mut self, line: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(line.as_ref()).expect("the server reads");
        stdin.write_all(b"\n").expect("the server reads");
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the server writes");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn exchange(&mut self, line: impl AsRef<[u8]>) -> Value {
        self.send(line);
        self.next()
    }

    /// As a client of the revisions with a handshake does.
    fn ask(&mut self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.exchange(request.to_string())
    }

    /// As a client of 2026-07-28 does.
    fn ask_stateless(&mut self, method: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        self.ask(method, params)
    }

    fn tool(&mut self, name: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": name, "arguments": arguments}))
    }
}

fn text(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
}

fn failed(answer: &Value) -> bool {
    answer["result"]["isError"] == true
}

#[test]
fn answers_the_handshake_in_the_revision_asked_for() {
    let mut notes = Notes::start();
    let mut version = |asked: &str| {
        notes.ask("initialize", json!({"protocolVersion": asked}))["result"]["protocolVersion"]
            .clone()
    };
    for revision in REVISIONS {
        assert_eq!(version(revision), revision);
    }
    assert_eq!(version("2026-07-28"), "2025-11-25");
    assert_eq!(version("1999-01-01"), "2025-11-25");
}

#[test]
fn serves_both_eras_in_one_process() {
    let mut notes = Notes::start();
    notes.tool("write_note", json!({"name": "a", "text": "x"}));
    let lists = [
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    ];
    for method in lists {
        let legacy = notes.ask(method, json!({}));
        assert!(legacy["result"].is_object(), "{legacy}");
        assert!(legacy["result"].get("resultType").is_none(), "{legacy}");
        let modern = notes.ask_stateless(method, json!({}));
        assert_eq!(modern["result"]["resultType"], "complete", "{modern}");
        assert!(modern["result"]["ttlMs"].is_u64(), "{modern}");
        assert!(modern["result"]["cacheScope"].is_string(), "{modern}");
    }
    let found = notes.ask_stateless("server/discover", json!({}));
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    for gone in ["ping", "initialize"] {
        assert_eq!(
            notes.ask_stateless(gone, json!({}))["error"]["code"],
            -32601
        );
    }
    assert_eq!(notes.ask("ping", json!({}))["result"], json!({}));
    assert_eq!(
        notes.ask("server/discover", json!({}))["error"]["code"],
        -32602
    );
}

#[test]
fn refuses_a_revision_it_does_not_know() {
    let version = json!({"io.modelcontextprotocol/protocolVersion": "2099-01-01"});
    let answer = Notes::start().ask("tools/list", json!({"_meta": version}));
    assert_eq!(answer["error"]["code"], -32022);
    let data = json!({"supported": ["2026-07-28"], "requested": "2099-01-01"});
    assert_eq!(answer["error"]["data"], data);
}

#[test]
fn keeps_finds_and_forgets_notes() {
    let mut notes = Notes::start();
    let shopping = json!({"name": "shopping list", "text": "Milk\nBread, and milk"});
    assert_eq!(
        text(&notes.tool("write_note", shopping.clone())),
        "Created 'shopping list'"
    );
    assert_eq!(
        text(&notes.tool("write_note", shopping)),
        "Replaced 'shopping list'"
    );
    assert_eq!(text(&notes.tool("list_notes", json!({}))), "shopping list");
    let read = notes.tool("read_note", json!({"name": "shopping list"}));
    assert_eq!(text(&read), "Milk\nBread, and milk");
    let found = notes.tool("search_notes", json!({"query": "MILK"}));
    assert_eq!(
        text(&found),
        "shopping list:1: Milk\nshopping list:2: Bread, and milk"
    );

    let listed = notes.ask("resources/list", json!({}));
    let uri = listed["result"]["resources"][0]["uri"].clone();
    assert_eq!(uri, "note:///shopping%20list");
    let read = notes.ask("resources/read", json!({"uri": uri}));
    assert_eq!(
        read["result"]["contents"][0]["text"],
        "Milk\nBread, and milk"
    );
    let params = json!({"name": "summarise", "arguments": {"note": "shopping list"}});
    let prompt = notes.ask("prompts/get", params);
    assert_eq!(
        prompt["result"]["messages"][1]["content"]["resource"]["uri"],
        uri
    );
    let reference = json!({"type": "ref/prompt", "name": "summarise"});
    let argument = json!({"name": "note", "value": "shop"});
    let completed = notes.ask(
        "completion/complete",
        json!({"ref": reference, "argument": argument}),
    );
    assert_eq!(
        completed["result"]["completion"]["values"],
        json!(["shopping list"])
    );

    let note = json!({"name": "shopping list"});
    assert_eq!(
        text(&notes.tool("delete_note", note.clone())),
        "Deleted 'shopping list'"
    );
    assert!(failed(&notes.tool("read_note", note)));
}

#[test]
fn reports_progress_to_those_who_ask_for_it() {
    let mut notes = Notes::start();
    for name in ["a", "b"] {
        notes.tool("write_note", json!({"name": name, "text": "x"}));
    }
    let call =
        json!({"name": "search_notes", "arguments": {"query": "x"}, "_meta": {"progressToken": 0}});
    let request = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call});
    notes.send(request.to_string());
    for done in [1, 2] {
        let progress = notes.next();
        assert_eq!(progress["method"], "notifications/progress");
        assert_eq!(progress["params"]["progressToken"], 0);
        assert_eq!(
            (
                &progress["params"]["progress"],
                &progress["params"]["total"]
            ),
            (&json!(done), &json!(2))
        );
    }
    assert_eq!(notes.next()["id"], 7);
}

#[test]
fn never_leaves_its_folder() {
    let mut notes = Notes::start();
    // Once it responds, the folder exists.
    notes.ask("ping", json!({}));
    let outside = notes.folder.path().join("outside");
    fs::write(&outside, "secret").expect("a file outside");
    std::os::unix::fs::symlink(&outside, notes.folder.path().join("notes/link")).expect("a link");
    fs::create_dir(notes.folder.path().join("notes/folder")).expect("a folder");
    let absolute = outside.to_str().expect("a plain path");
    let long = "a".repeat(101);
    for name in [
        "",
        ".",
        "..",
        ".hidden",
        "../outside",
        absolute,
        "a/b",
        "a\\b",
        "a\0",
        "é",
        "link",
        "folder",
        &long,
    ] {
        assert!(
            failed(&notes.tool("read_note", json!({"name": name}))),
            "{name:?}"
        );
        assert!(
            failed(&notes.tool("write_note", json!({"name": name, "text": "x"}))),
            "{name:?}"
        );
        assert!(
            failed(&notes.tool("delete_note", json!({"name": name}))),
            "{name:?}"
        );
        let uri = format!("note:///{name}");
        assert_eq!(
            notes.ask("resources/read", json!({"uri": uri}))["error"]["code"],
            -32602,
            "{name:?}"
        );
    }
    for uri in [
        "note:///%2e%2e%2foutside",
        "note:///..%2Foutside",
        "file:///etc/passwd",
        "",
    ] {
        assert_eq!(
            notes.ask("resources/read", json!({"uri": uri}))["error"]["code"],
            -32602,
            "{uri:?}"
        );
    }
    assert_eq!(fs::read_to_string(&outside).expect("still there"), "secret");
    assert_eq!(
        text(&notes.tool("list_notes", json!({}))),
        "There are no notes yet."
    );
}

#[test]
fn answers_garbage_with_the_code_it_deserves_and_goes_on() {
    let mut notes = Notes::start();
    let deep = "[".repeat(100_000);
    let table: &[(&[u8], i32, Value)] = &[
        (b"garbage", -32700, Value::Null),
        (b"{", -32700, Value::Null),
        (b"\xff\xfe", -32700, Value::Null),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"} x", -32700, Value::Null),
        (deep.as_bytes(), -32700, Value::Null),
        (b"null", -32600, Value::Null),
        (b"5", -32600, Value::Null),
        (b"[]", -32600, Value::Null),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, -32600, Value::Null),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, -32600, Value::Null),
        (br#"{"jsonrpc":"1.0","id":2,"method":"ping"}"#, -32600, json!(2)),
        (br#"{"id":"x","method":"ping"}"#, -32600, json!("x")),
        (br#"{"jsonrpc":"2.0","id":3,"method":4}"#, -32600, json!(3)),
        (br#"{"jsonrpc":"2.0","id":0,"method":"ping","params":[]}"#, -32602, json!(0)),
        (br#"{"jsonrpc":"2.0","id":"","method":"nope"}"#, -32601, json!("")),
        (br#"{"jsonrpc":"2.0","id":-5,"method":"tools/call"}"#, -32602, json!(-5)),
        (br#"{"jsonrpc":"2.0","id":6,"method":"tools/list","params":{"cursor":"x"}}"#, -32602, json!(6)),
        (br#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"nope"}}"#, -32602, json!(7)),
        (br#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"read_note","arguments":[1]}}"#, -32602, json!(8)),
        (br#"{"jsonrpc":"2.0","id":9,"method":"prompts/get","params":{"name":"nope"}}"#, -32602, json!(9)),
    ];
    for (line, code, id) in table {
        let answer = notes.exchange(line);
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]);
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(code), id),
            "{shown}"
        );
    }
    // None of these gets a response, so the next one is the ping's.
    notes.send("");
    notes.send(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    notes.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    notes.send(r#"{"jsonrpc":"2.0","method":"tools/call"}"#);
    assert_eq!(notes.ask("ping", json!({}))["result"], json!({}));
}

#[test]
fn ends_when_stdin_does() {
    let mut notes = Notes::start();
    // A last line without a newline is still a line.
    let stdin = notes.stdin.as_mut().expect("stdin is open");
    stdin
        .write_all(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .expect("the server reads");
    notes.stdin = None;
    assert_eq!(notes.next()["result"], json!({}));
    assert!(notes.process.0.wait().expect("an exit").success());
}
