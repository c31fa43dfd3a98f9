//! `permissions.example.json`, and the policies in `examples/`.

use super::*;

const ROLES: [&str; 3] = ["readonly", "user", "admin"];

/// Every request and notification that a client of any MCP revision sends, and a few that none does: who may send it
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
    // A question from servers; blocking it keeps a shared server from asking it of these peers.
    ("roots/list", [false, false, false]),
    ("resources/write", [false, false, true]),
    ("resources/delete", [false, false, true]),
    ("vendor/anything", [false, false, true]),
];

fn example_file() -> Value {
    let text = fs::read_to_string(manifest("permissions.example.json")).expect("the file is there");
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

/// Sends every method of the table as a request and returns those that the gate denied.
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
