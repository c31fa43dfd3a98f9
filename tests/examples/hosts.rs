//! Entries of hosts, in `examples/hosts`.

use super::*;

/// Calls the real program with the given arguments and then `--help`: it rejects unknown arguments first.
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
                .any(|argument| argument.starts_with("--jwt-token=") || argument == "--jwt-token")
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
