//! The files and the output shown in the documents are real.

use crate::pages::{marked, page, pages};
use crate::{clean, example, stdout_of};
use mcp_remote::permissions::Policy;
use serde_json::Value;

#[test]
fn json_is_json_and_policies_load() {
    let mut policies = 0;
    for page in pages() {
        for block in page.blocks() {
            let texts: Vec<&str> = match block.language.as_str() {
                "jsonl" => block.text.lines().collect(),
                "json" => vec![&block.text],
                _ => continue,
            };
            for text in texts {
                let parsed: Result<Value, _> = serde_json::from_str(text);
                let value = parsed.unwrap_or_else(|err| panic!("{}: {err}\n{text}", page.path));
                if value.get("permissions").is_some() {
                    policies += 1;
                    let policy = Policy::parse(text).expect("a policy");
                    assert_eq!(policy.mute_roles(), Vec::<&str>::new(), "{text}");
                } else {
                    let kinds = ["mcpServers", "servers", "jsonrpc", "event"];
                    let known = kinds.iter().any(|kind| value.get(kind).is_some());
                    assert!(
                        known,
                        "{}: neither a whole file nor a message: {text}",
                        page.path
                    );
                }
            }
        }
    }
    assert_eq!(policies, 3);
}

#[test]
fn output_of_check_is_real() {
    let blocks = page("docs/policy.md").blocks();
    let shown = blocks
        .iter()
        .filter(|block| block.mark == "<!-- output of check -->");
    let mut count = 0;
    for block in shown {
        let (line, shown) = block.text.split_once('\n').expect("a command");
        let arguments = line.strip_prefix("$ mcp-remote ").expect("a command");
        let mut command = clean("sh");
        command.args(["-c", &format!("\"$PROGRAM\" {arguments}")]);
        command.env("PROGRAM", env!("CARGO_BIN_EXE_mcp-remote"));
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = command.output().expect("the program starts");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn output_of_generate_permissions_is_real() {
    let shown = marked("docs/policy.md", "<!-- output of generate-permissions -->").text;
    let (line, shown) = shown.split_once('\n').expect("a command");
    let line = line.strip_prefix("$ mcp-remote ").expect("a command");
    let arguments = line.strip_suffix("-- your-mcp-server").expect("a server");
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut command = clean(env!("CARGO_BIN_EXE_mcp-remote"));
    command.args(arguments.split_whitespace()).arg("--");
    let server = example("notes_server").display().to_string();
    command.args([&server, "notes"]);
    let shown = shown.replace("your-mcp-server", &format!("{server} notes"));
    assert_eq!(stdout_of(command.current_dir(folder.path())), shown);
}

/// The position of each step's duration, which differs between runs.
fn without_times(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once(" ms  ") {
        Some((before, after)) => {
            let before = before.trim_end_matches(|c: char| c.is_ascii_digit() || "< ".contains(c));
            format!("{before} … {after}\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

/// What the command of this example prints, and what it is shown to print. `your-mcp-server` is found on PATH.
fn doctor(mark: &str) -> (String, String) {
    let shown = marked("docs/troubleshooting.md", mark).text;
    let (line, shown) = shown.split_once('\n').expect("a command");
    let arguments = line.strip_prefix("$ mcp-remote ").expect("a command");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("an address").port().to_string();
    drop(free);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = folder.path().join("your-mcp-server");
    std::os::unix::fs::symlink(example("notes_server"), server).expect("a link");
    let mut command = clean(env!("CARGO_BIN_EXE_mcp-remote"));
    command.args(arguments.replace("8080", &port).split_whitespace());
    command.env("PATH", folder.path());
    let output = command.output().expect("the program starts");
    let printed = String::from_utf8_lossy(&output.stdout).replace(&port, "8080");
    (without_times(&printed), without_times(shown))
}

#[test]
fn output_of_doctor_is_real() {
    for mark in [
        "<!-- output of doctor -->",
        "<!-- output of doctor server -->",
    ] {
        let (printed, shown) = doctor(mark);
        assert_eq!(printed, shown);
    }
}

#[test]
fn output_of_the_quickstart_is_real() {
    // Without cargo it uses the programs that were built for this test.
    let shown = stdout_of(clean(example("quickstart")).env_remove("CARGO"));
    let part = marked("README.md", "<!-- output of quickstart -->").text;
    assert!(part.lines().count() > 10);
    assert!(shown.contains(&part), "{shown}");
}

#[test]
fn version_is_the_one_shown() {
    let version = stdout_of(clean(env!("CARGO_BIN_EXE_mcp-remote")).arg("--version"));
    // The build version follows in brackets.
    let (name, _) = version.split_once(" (").expect("name and version");
    assert!(
        page("README.md").text.contains(&format!("`{name} (")),
        "{version}"
    );
}
