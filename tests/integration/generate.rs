//! `generate-permissions`: what it writes matches its table, and what the server then enforces.

use crate::common::{Setup, TestServer, example, token_with};
use crate::process::{Outcome, assert_fails, binary, run};
use serde_json::{Value, json};
use std::path::Path;

/// The command with these flags, in front of the notes server with two notes.
fn generate(flags: &[&str], folder: &Path) -> Outcome {
    let notes = folder.join("notes");
    std::fs::create_dir_all(&notes).unwrap();
    for name in ["one", "two"] {
        std::fs::write(notes.join(name), "text").unwrap();
    }
    let mut command = binary();
    command.arg("generate-permissions").args(flags).arg("--");
    run(command.arg(example("notes_server")).arg(notes), b"")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Denied by the policy, rather than failed for another reason.
fn is_denied(answer: &Value) -> bool {
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    message.starts_with("Method not allowed: Access denied")
}

fn served(policy: &Path, folder: &Path) -> TestServer {
    let program = text(&example("notes_server"));
    let flags = ["--permissions-config", &text(policy)];
    let setup = Setup::new("tcp").secret().args(&flags);
    setup
        .program(&[&program, &text(&folder.join("notes"))])
        .start()
}

#[test]
fn each_role_may_do_what_the_table_says() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("permissions.json");
    let outcome = generate(&["--json", "--output", &text(&policy)], folder.path());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["revisions"], json!(["2025-11-25", "2026-07-28"]));
    let server = served(&policy, folder.path());
    let mut calls = [0, 0];
    for role in ["admin", "user", "readonly"] {
        let mut peer = server.peer_with(&token_with(&[role]));
        peer.initialize();
        for (list, key, method) in [
            ("tools", "name", "tools/call"),
            ("prompts", "name", "prompts/get"),
            ("resources", "uri", "resources/read"),
        ] {
            for entry in report[list].as_array().unwrap() {
                let params = json!({key: entry[key], "arguments": {}});
                let denied = is_denied(&peer.ask(1, method, params));
                let may = entry["roles"].as_array().unwrap().contains(&json!(role));
                assert_eq!(denied, !may, "{role}: {method} {entry}");
                calls[usize::from(may)] += 1;
            }
        }
        let tools = peer.ask(2, "tools/list", json!({}))["result"]["tools"].clone();
        let listed = tools.as_array().unwrap().iter().map(|tool| &tool["name"]);
        let may = |tool: &&Value| tool["roles"].as_array().unwrap().contains(&json!(role));
        let tabled = report["tools"].as_array().unwrap().iter().filter(may);
        assert!(
            listed.eq(tabled.map(|tool| &tool["name"])),
            "{role}: {tools}"
        );
    }
    // Five tools, a prompt, two resources, for three roles: user may not write and delete, and
    // neither may readonly.
    assert_eq!(calls, [4, 20]);
}

#[test]
fn the_policy_goes_to_stdout_or_to_a_new_file_and_the_table_to_people() {
    let folder = tempfile::tempdir().unwrap();
    let printed = generate(&["--roles", "user,readonly"], folder.path());
    let policy: Value = serde_json::from_str(&printed.stdout).unwrap();
    let roles: Vec<_> = policy["permissions"].as_object().unwrap().keys().collect();
    assert_eq!(roles, ["readonly", "user"]);
    for line in [
        "tool          hint         user  readonly",
        "read_note     read-only    yes   yes",
        "delete_note   destructive  no    no",
        "Hints are what the server says of its own tools, and nothing checks them.",
    ] {
        assert!(
            printed.stderr.lines().any(|seen| seen.starts_with(line)),
            "{line}: {printed:?}"
        );
    }
    assert!(!printed.stderr.contains('\u{1b}'), "{printed:?}");
    assert!(
        printed
            .stderr
            .lines()
            .all(|line| line.chars().count() <= 88),
        "{printed:?}"
    );

    let file = folder.path().join("permissions.json");
    let flags = ["--output", &text(&file)];
    let written = generate(&flags, folder.path());
    assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""));
    assert!(
        written.stdout.contains("delete_note   destructive  yes"),
        "{written:?}"
    );
    assert!(
        written
            .stdout
            .contains("mcp-remote check --permissions-config"),
        "{written:?}"
    );
    std::fs::write(&file, "mine").unwrap();
    assert_fails(
        &generate(&flags, folder.path()),
        1,
        "is there already; use --force",
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(
        generate(&[&flags[..], &["--force"]].concat(), folder.path()).code,
        Some(0)
    );
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("allowedTools")
    );
}

#[test]
fn an_update_denies_what_is_new_and_keeps_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("permissions.json");
    let written = "{\"permissions\": {
  \"zebra\": { \"allowedMethods\": [\"initialize\", \"tools/*\"],  \"allowedTools\": [\"read_*\", \"list_notes\", \"old_tool\"] },
  \"boss\":  { \"allowedMethods\": [\"*\"] },
  \"most\":  { \"allowedMethods\": [\"*\"], \"blockedTools\": [\"delete_note\"] }
}}
";
    std::fs::write(&file, written).unwrap();
    let update = || generate(&["--update", &text(&file)], folder.path());
    let updated = update();
    assert_eq!((updated.code, updated.stderr.as_str()), (Some(0), ""));
    for line in [
        "new: tool 'write_note', blocked for most, zebra",
        "new: tool 'search_notes', blocked for most, zebra",
        "kept: no list says which tools these roles may use, so nothing is added: boss",
        "kept: no list says which prompts these roles may use, so nothing is added: boss, most, zebra",
        "gone: role 'zebra', allowedTools 'old_tool' (line 2): the server does not offer it",
    ] {
        assert!(
            updated.stdout.lines().any(|seen| seen == line),
            "{line}: {updated:?}"
        );
    }
    assert!(
        !updated.stdout.contains("new: tool 'read_note'"),
        "{updated:?}"
    );
    let added = "\"search_notes\", \"write_note\"";
    let zebra = format!("\"old_tool\"], \"blockedTools\": [{added}] }}");
    let most = format!("[\"delete_note\", {added}]");
    let expected = written
        .replace("\"old_tool\"] }", &zebra)
        .replace("[\"delete_note\"]", &most);
    let now = std::fs::read_to_string(&file).unwrap();
    assert_eq!(now, expected);
    let again = update();
    assert!(
        again
            .stdout
            .contains("stays as it is: no list has to grow."),
        "{again:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), now);

    let server = served(&file, folder.path());
    for (role, name, denied) in [
        ("zebra", "read_note", false),
        ("zebra", "write_note", true),
        ("most", "write_note", true),
        ("most", "read_note", false),
        ("boss", "write_note", false),
    ] {
        let mut peer = server.peer_with(&token_with(&[role]));
        peer.initialize();
        let answer = peer.ask(1, "tools/call", json!({"name": name}));
        assert_eq!(is_denied(&answer), denied, "{role} {name}: {answer}");
    }
}

/// Bug: every tool of the server was blocked for roles that had no list of the tools they may call.
#[test]
fn an_update_of_a_policy_of_methods_takes_nothing_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("permissions.json");
    let policy = json!({"permissions": {
        "readonly": {"allowedMethods": ["initialize", "tools/list"], "blockedMethods": ["tools/call"]},
        "user": {"allowedMethods": ["initialize", "tools/list", "tools/call"], "blockedMethods": ["resources/write"], "blockedTools": ["delete_note"]},
        "admin": {"allowedMethods": ["*"], "blockedMethods": []},
    }});
    std::fs::write(&file, policy.to_string()).unwrap();
    let updated = generate(&["--update", &text(&file)], folder.path());
    assert_eq!((updated.code, updated.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        policy.to_string(),
        "{updated:?}"
    );
    let kept = "kept: no list says which tools these roles may use, so nothing is added: admin, readonly, user";
    assert!(
        updated.stdout.lines().any(|line| line == kept) && !updated.stdout.contains("new: "),
        "{updated:?}"
    );
    let report = generate(&["--json", "--update", &text(&file)], folder.path());
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["added"], json!([]));
    assert_eq!(report["kept"][0], json!(kept));
}

/// Bug: a block that is needed because of a template was reported as gone.
#[test]
fn what_a_template_may_offer_is_not_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("permissions.json");
    let rules = json!(["note:///private*", "note:///diary", "task:///*"]);
    let policy =
        json!({"permissions": {"user": {"allowedMethods": ["*"], "blockedResources": rules}}});
    std::fs::write(&file, policy.to_string()).unwrap();
    let updated = generate(&["--update", &text(&file)], folder.path());
    let gone = updated.stdout.lines();
    let gone: Vec<&str> = gone.filter(|line| line.starts_with("gone: ")).collect();
    assert!(
        matches!(&gone[..], [one] if one.contains("'task:///*'")),
        "{updated:?}"
    );
}

#[test]
fn a_server_that_says_nothing_is_told_apart() {
    let ask = |flags: &[&str], command: &[&str]| {
        let mut program = binary();
        program.arg("generate-permissions").args(flags);
        run(program.arg("--").args(command), b"")
    };
    assert_fails(
        &ask(&[], &["no-such-program"]),
        1,
        "check the command after '--'",
    );
    let ends = ask(&[], &["sh", "-c", "echo the cause >&2; exit 3"]);
    assert_fails(
        &ends,
        1,
        "it ended (exit status: 3) before it answered 'initialize'; its last lines on stderr: the cause",
    );
    let silent = ask(&["--timeout", "300ms"], &["sleep", "60"]);
    assert_fails(&silent, 1, "it did not answer 'initialize' within 300ms");
    let echo = text(&example("echo_server"));
    assert_fails(
        &ask(&[], &[&echo]),
        1,
        "its answer to 'tools/list' is not what MCP says it is",
    );
    assert_fails(
        &ask(&["--roles", "usr"], &["cat"]),
        2,
        "invalid value 'usr'",
    );
}
