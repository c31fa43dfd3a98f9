//! What stands in `examples/` and in `permissions.example.json` does what it promises.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A hang is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(20);
const LISTENING: &str = "MCP Remote TCP server listening on port ";

/// An example that `cargo test` has built beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let example = profile.join("examples").join(name);
    assert!(
        example.is_file(),
        "{} is missing: cargo build --examples",
        example.display()
    );
    example
}

fn manifest(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn mcp_remote() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
    command.stdin(Stdio::null());
    command
}

fn stdout_of(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    assert!(
        status.success(),
        "{command:?}: {status}\n{}",
        String::from_utf8_lossy(&stderr)
    );
    String::from_utf8(stdout).expect("stdout is UTF-8")
}

/// A child process that dies with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

mod notes_server {
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

        /// As a client of the revisions with a handshake asks.
        fn ask(&mut self, method: &str, params: Value) -> Value {
            let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            self.exchange(request.to_string())
        }

        /// As a client of 2026-07-28 asks.
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
        let call = json!({"name": "search_notes", "arguments": {"query": "x"}, "_meta": {"progressToken": 0}});
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
        // Once it answers, the folder is there.
        notes.ask("ping", json!({}));
        let outside = notes.folder.path().join("outside");
        fs::write(&outside, "secret").expect("a file outside");
        std::os::unix::fs::symlink(&outside, notes.folder.path().join("notes/link"))
            .expect("a link");
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
        // None of these has an answer, so that the next one is the ping's.
        notes.send("");
        notes.send(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
        notes.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        notes.send(r#"{"jsonrpc":"2.0","method":"tools/call"}"#);
        assert_eq!(notes.ask("ping", json!({}))["result"], json!({}));
    }

    #[test]
    fn ends_when_stdin_does() {
        let mut notes = Notes::start();
        // A last line without its newline is a line all the same.
        let stdin = notes.stdin.as_mut().expect("stdin is open");
        stdin
            .write_all(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
            .expect("the server reads");
        notes.stdin = None;
        assert_eq!(notes.next()["result"], json!({}));
        assert!(notes.process.0.wait().expect("an exit").success());
    }
}

mod permissions {
    use super::*;

    const ROLES: [&str; 3] = ["readonly", "user", "admin"];

    /// Every request and notification that a client of any MCP revision sends, and a few that none does: who may
    /// (`readonly`, `user`, `admin`).
    const DECISIONS: &[(&str, [bool; 3])] = &[
        ("initialize", [true, true, true]),
        ("server/discover", [true, true, true]),
        ("ping", [true, true, true]),
        ("tools/list", [true, true, true]),
        ("tools/call", [false, true, true]),
        ("prompts/list", [true, true, true]),
        ("prompts/get", [true, true, true]),
        ("resources/list", [true, true, true]),
        ("resources/templates/list", [true, true, true]),
        ("resources/read", [true, true, true]),
        ("resources/subscribe", [true, true, true]),
        ("resources/unsubscribe", [true, true, true]),
        ("subscriptions/listen", [true, true, true]),
        ("completion/complete", [true, true, true]),
        ("logging/setLevel", [false, true, true]),
        ("tasks/get", [false, true, true]),
        ("tasks/list", [false, true, true]),
        ("tasks/result", [false, true, true]),
        ("tasks/update", [false, true, true]),
        ("tasks/cancel", [false, true, true]),
        ("notifications/initialized", [true, true, true]),
        ("notifications/roots/list_changed", [true, true, true]),
        ("notifications/cancelled", [true, true, true]),
        ("notifications/progress", [true, true, true]),
        ("notifications/tasks/status", [true, true, true]),
        // A question of servers; blocking it keeps a shared server from asking it of these peers.
        ("roots/list", [false, false, false]),
        ("resources/write", [false, false, true]),
        ("resources/delete", [false, false, true]),
        ("vendor/anything", [false, false, true]),
    ];

    fn example_file() -> Value {
        let text =
            fs::read_to_string(manifest("permissions.example.json")).expect("the file is there");
        serde_json::from_str(&text).expect("the file is JSON")
    }

    /// The rule as a reader of the file understands it: some pattern allows it, and none blocks it.
    fn allows(role: &Value, method: &str) -> bool {
        let matches = |pattern: &Value| {
            let pattern = pattern.as_str().expect("patterns are strings");
            pattern
                .strip_suffix('*')
                .map_or(pattern == method, |start| method.starts_with(start))
        };
        let any = |key: &str| role[key].as_array().expect("lists").iter().any(matches);
        any("allowedMethods") && !any("blockedMethods")
    }

    #[test]
    fn the_file_decides_every_method_of_every_revision() {
        let file = example_file();
        let roles = file["permissions"].as_object().expect("roles");
        assert_eq!(roles.len(), ROLES.len());
        for (method, expected) in DECISIONS {
            let decided = ROLES.map(|role| allows(&roles[role], method));
            assert_eq!(&decided, expected, "{method}");
        }
    }

    #[test]
    fn the_file_names_no_method_that_the_table_lacks() {
        let file = example_file();
        for role in ROLES {
            for key in ["allowedMethods", "blockedMethods"] {
                for pattern in file["permissions"][role][key].as_array().expect("lists") {
                    let pattern = pattern.as_str().expect("patterns are strings");
                    let known = DECISIONS.iter().any(|(method, _)| *method == pattern);
                    assert!(known || pattern.ends_with('*'), "{role}: {pattern}");
                }
            }
        }
    }

    #[test]
    fn the_server_decides_as_the_table_says() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let secret = stdout_of(mcp_remote().arg("generate-secret"));
        let mut server = Process(
            mcp_remote()
                .args([
                    "server",
                    "tcp",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    "0",
                    "--permissions-config",
                ])
                .arg(manifest("permissions.example.json"))
                .arg("--")
                .arg(example("notes_server"))
                .arg(folder.path())
                .env("MCP_REMOTE_JWT_SECRET", secret.trim())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("mcp-remote starts"),
        );
        let mut stdout = BufReader::new(server.0.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the server speaks");
        let port = line
            .trim()
            .strip_prefix(LISTENING)
            .unwrap_or_else(|| panic!("{line:?}"));
        for (column, role) in (0..).zip(ROLES) {
            let token = stdout_of(
                mcp_remote()
                    .args(["generate-token", "--roles", role, "--quiet"])
                    .env("MCP_REMOTE_JWT_SECRET", secret.trim()),
            );
            let denied = denials(port, token.trim());
            for (id, (method, expected)) in DECISIONS.iter().enumerate() {
                assert_eq!(!denied[id], expected[column], "{role}: {method}");
            }
        }
    }

    /// Sends every method of the table as a request and tells which of them the gate denied.
    fn denials(port: &str, token: &str) -> Vec<bool> {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        writeln!(stream, "{token}").expect("the server reads");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let mut next = || -> Value {
            let line = lines.next().expect("the server answers").expect("in time");
            serde_json::from_str(&line).expect("with JSON")
        };
        assert_eq!(next()["result"]["authenticated"], true);
        for (id, (method, _)) in DECISIONS.iter().enumerate() {
            let params = match *method {
                "initialize" => {
                    let client = json!({"name": "test", "version": "1"});
                    json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})
                }
                _ => json!({}),
            };
            writeln!(
                stream,
                "{}",
                json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            )
            .expect("the server reads");
        }
        let mut denied = vec![None; DECISIONS.len()];
        while denied.iter().any(Option::is_none) {
            let answer = next();
            let Some(id) = answer["id"].as_u64() else {
                continue;
            };
            let (method, _) = DECISIONS[id as usize];
            let message = answer["error"]["message"].as_str().unwrap_or_default();
            let denial = format!("Method not allowed: Access denied for method '{method}'");
            denied[id as usize] = Some(message == denial);
        }
        denied
            .into_iter()
            .map(|denied| denied == Some(true))
            .collect()
    }
}

mod hosts {
    use super::*;

    /// Asks the real program for help behind the given arguments: it refuses those it does not know before that.
    fn assert_accepted(arguments: &[String], whose: &str) {
        let Output { status, stderr, .. } = mcp_remote()
            .args(arguments)
            .arg("--help")
            .output()
            .expect("mcp-remote starts");
        assert!(
            status.success(),
            "{whose}: {}",
            String::from_utf8_lossy(&stderr)
        );
    }

    #[test]
    fn every_entry_starts_a_client_whose_token_is_not_on_its_command_line() {
        let files = fs::read_dir(manifest("examples/hosts")).expect("the folder is there");
        let files = files.map(|entry| entry.expect("an entry").path());
        let files: Vec<_> = files
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .collect();
        assert_eq!(files.len(), 4, "{files:?}");
        for path in files {
            let whose = path.display().to_string();
            let text = fs::read_to_string(&path).expect("a file");
            let file: Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{whose}: {error}"));
            let servers = file
                .get("mcpServers")
                .or(file.get("servers"))
                .expect("servers");
            let entry = &servers["notes"];
            assert!(
                entry["command"]
                    .as_str()
                    .expect("a command")
                    .ends_with("/mcp-remote"),
                "{whose}"
            );
            let arguments: Vec<String> =
                serde_json::from_value(entry["args"].clone()).expect("arguments");
            assert_eq!(arguments[0], "client", "{whose}");
            for needed in ["--host", "--port", "--auto-reconnect"] {
                assert!(
                    arguments.iter().any(|argument| argument == needed),
                    "{whose}: {needed}"
                );
            }
            let from_file = arguments
                .iter()
                .any(|argument| argument == "--jwt-token-file");
            let from_environment = entry["env"]["MCP_REMOTE_JWT_TOKEN"].is_string();
            assert!(from_file || from_environment, "{whose}");
            assert!(
                !arguments
                    .iter()
                    .any(|argument| argument.starts_with("--jwt-token=")
                        || argument == "--jwt-token")
            );
            assert_accepted(&arguments, &whose);
        }
    }

    #[test]
    fn the_systemd_unit_starts_a_server() {
        let unit = fs::read_to_string(manifest("examples/systemd/mcp-remote.service"))
            .expect("the file is there");
        let command = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .expect("ExecStart");
        let (ours, child) = command.split_once(" -- ").expect("a child behind --");
        assert!(!child.trim().is_empty());
        let mut words = ours.split(' ').map(str::to_owned);
        assert!(
            words
                .next()
                .is_some_and(|program| program.ends_with("/mcp-remote"))
        );
        assert_accepted(&words.collect::<Vec<_>>(), "the unit");
    }

    #[test]
    fn the_deployment_starts_a_server() {
        let path = manifest("examples/kubernetes/mcp-remote.yaml");
        let text = fs::read_to_string(path).expect("the file is there");
        let (_, rest) = text.split_once("args:\n").expect("arguments");
        let lines = rest.lines().map(str::trim);
        let words = lines
            .filter(|line| !line.starts_with('#'))
            .map_while(|line| line.strip_prefix("- ").map(str::to_owned));
        let words: Vec<String> = words.collect();
        let (ours, child) = words.split_at(words.len() - 2);
        assert_eq!(child, ["--", "your-mcp-server"]);
        assert_accepted(ours, "the deployment");
    }
}

#[test]
fn quickstart_shows_who_may_do_what() {
    let output = Command::new(example("quickstart"))
        // Without cargo it takes the programs that were built for this test.
        .env_remove("CARGO")
        .stdin(Stdio::null())
        .output()
        .expect("quickstart starts");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{shown}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let row = |method: &str| {
        let row = shown
            .lines()
            .find(|line| line.contains(method) && line.contains('✓'));
        let row = row.unwrap_or_else(|| panic!("no row for {method}:\n{shown}"));
        (row.matches('✓').count(), row.matches('✗').count())
    };
    assert_eq!(row("tools/list"), (3, 0));
    assert_eq!(row("tools/call"), (2, 1));
    assert_eq!(row("resources/read"), (3, 0));
    assert_eq!(row("resources/delete"), (1, 2));
    assert!(
        shown.contains("Access denied for method 'tools/call'"),
        "{shown}"
    );
    let folder = shown
        .lines()
        .find_map(|line| line.split("-- notes_server ").nth(1))
        .expect("the folder");
    assert!(!Path::new(folder).exists(), "{folder} was left behind");
}
