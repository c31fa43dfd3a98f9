//! The README keeps its promises: its commands run, its tables are those of the program, what it
//! shows is what is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mcp_remote::permissions::Policy;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

const README: &str = include_str!("../README.md");
const COMMANDS: [&str; 6] = [
    "server",
    "client",
    "generate-secret",
    "generate-token",
    "check",
    "inspect-token",
];

/// All blocks together take a few seconds; a hang is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Behind `npx` stands our own MCP server, so that the test needs no network. Its folder is the last
/// argument, as for the server that the README names.
const NPX: &str = "#!/bin/sh\nfor last; do :; done\nexec \"$NOTES_SERVER\" \"$last\"\n";

/// A code block.
struct Block {
    /// What stands behind the opening fence.
    language: &'static str,
    /// The comment on the line before, which says what the block is to this test.
    mark: &'static str,
    text: String,
}

impl Block {
    /// `<!-- not run: … -->` exempts a block, and has to say why.
    fn runs(&self) -> bool {
        self.language == "bash" && !self.mark.starts_with("<!-- not run: ")
    }
}

fn blocks() -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::<Block>::new(), false);
    let mut before = "";
    for line in README.lines() {
        match (open, line.strip_prefix("```")) {
            (false, Some(language)) => {
                let mark = if before.starts_with("<!--") {
                    before
                } else {
                    ""
                };
                let text = String::new();
                blocks.push(Block {
                    language,
                    mark,
                    text,
                });
                open = true;
            }
            (true, Some(_)) => open = false,
            (true, None) => {
                let block = blocks.last_mut().expect("a block is open");
                block.text += line;
                block.text.push('\n');
            }
            (false, None) => {}
        }
        before = line;
    }
    assert!(!open, "a block has no end");
    blocks
}

/// The one block with this mark.
fn marked(mark: &str) -> Block {
    let mut found: Vec<Block> = blocks()
        .into_iter()
        .filter(|block| block.mark == mark)
        .collect();
    assert_eq!(found.len(), 1, "{mark}");
    found.remove(0)
}

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

/// A command that sees none of the settings of whoever runs the tests.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("MCP_REMOTE_");
        if ours || name == "RUST_LOG" || name == "DEBUG" {
            command.env_remove(name);
        }
    }
    command
}

fn stdout_of(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}

mod workflow {
    use super::*;

    /// The ports that the README names, each with a free one in its place.
    fn with_free_ports(script: &str) -> String {
        // Both are taken before either is given back, so that they differ.
        let taken = ["8080", "8081"].map(|port| (port, TcpListener::bind("127.0.0.1:0")));
        taken
            .iter()
            .fold(script.to_owned(), |script, (port, free)| {
                let free = free.as_ref().expect("a port").local_addr().expect("bound");
                assert!(script.contains(port), "{port}");
                script.replace(port, &free.port().to_string())
            })
    }

    /// A host with the README's entry: starts a server, and asks it through the entry's command.
    fn host(entry: &str) -> String {
        let file: Value = serde_json::from_str(entry).expect("JSON");
        let entry = &file["mcpServers"]["shared-files"];
        let program = entry["command"].as_str().expect("a command");
        assert!(program.ends_with("/mcp-remote"), "{program}");
        let arguments: Vec<String> =
            serde_json::from_value(entry["args"].clone()).expect("arguments");
        let arguments = arguments.join("' '").replace("/home/you", "'\"$HOME\"'");
        format!(
            "mcp-remote server tcp --port 8080 -- npx ~/shared 2> host.log &\n\
             SERVER=$!\n\
             echo '{{\"jsonrpc\":\"2.0\",\"id\":\"host\",\"method\":\"ping\"}}' | mcp-remote '{arguments}'\n\
             kill $SERVER\nwait $SERVER\n"
        )
    }

    fn script() -> String {
        let (mut ran, mut script) = (
            0,
            "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n".to_owned(),
        );
        for block in blocks() {
            if block.runs() {
                ran += 1;
                script += &block.text;
            } else if block.mark == "<!-- entry -->" {
                script += &host(&block.text);
            }
        }
        assert!(ran >= 8, "only {ran} blocks to run");
        with_free_ports(&script)
    }

    /// Runs `script` as somebody would who pastes it, in `home`.
    fn run(script: &str, home: &Path) -> (ExitStatus, String, String) {
        let programs = home.join("programs");
        fs::create_dir(&programs).expect("a folder");
        symlink(
            env!("CARGO_BIN_EXE_mcp-remote"),
            programs.join("mcp-remote"),
        )
        .expect("a link");
        fs::write(programs.join("npx"), NPX).expect("a file");
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(programs.join("npx"), executable).expect("permissions");
        let path = std::env::var("PATH").expect("a PATH");
        let mut bash = clean("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c", script])
            .current_dir(home)
            .env("HOME", home)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("NOTES_SERVER", example("notes_server"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("bash starts");
        let group = Pid::from_child(&bash);
        let read = |mut pipe: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut text = String::new();
                pipe.read_to_string(&mut text).map(|_| text)
            })
        };
        let stdout = read(Box::new(bash.stdout.take().expect("stdout is piped")));
        let stderr = read(Box::new(bash.stderr.take().expect("stderr is piped")));
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match bash.try_wait().expect("bash is ours") {
                Some(status) => break status,
                None if Instant::now() > until => {
                    kill_process_group(group, Signal::KILL).expect("the group is ours");
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let text = |thread: std::thread::JoinHandle<std::io::Result<String>>| {
            thread.join().expect("no panic").expect("UTF-8")
        };
        (status, text(stdout), text(stderr))
    }

    #[test]
    fn the_commands_do_what_they_promise() {
        let home = tempfile::tempdir().expect("a folder for temporary files");
        let policy = "permissions.example.json";
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join(policy);
        fs::copy(original, home.path().join(policy)).expect("a copy");
        let (status, stdout, stderr) = run(&script(), home.path());
        let log = fs::read_to_string(home.path().join("server.log")).unwrap_or_default();
        let all = format!("{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n--- log\n{log}");
        assert!(status.success(), "{all}");
        let printed: Vec<&str> = stdout.lines().collect();
        assert!(
            printed.contains(&marked("<!-- printed -->").text.trim()),
            "{all}"
        );
        // The admin and the editor; then the entry of the host, and the old script.
        let lists = printed.iter().filter(|line| line.contains("\"tools\":["));
        assert_eq!(lists.count(), 2, "{all}");
        for wanted in [
            "{\"jsonrpc\":\"2.0\",\"id\":\"host\",\"result\":{}}",
            "Method not found: resources/delete",
            "MCP Remote TCP server listening on port ",
            "MCP Remote WebSocket server listening on port ",
        ] {
            assert!(stdout.contains(wanted), "{wanted}: {all}");
        }
        assert!(!stderr.contains("error"), "{all}");
        let token = home.path().join(".config/mcp-remote/token");
        let mode = fs::metadata(token).expect("a token").permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read the token");
    }
}

mod tables {
    use super::*;

    /// What is said of one flag.
    #[derive(Debug, PartialEq, Eq)]
    struct Flag {
        value: Option<String>,
        environment: Option<String>,
        default: Option<String>,
    }

    fn between(text: &str, start: &str, end: &str) -> Option<String> {
        let (_, rest) = text.split_once(start)?;
        Some(rest.split_once(end)?.0.to_owned())
    }

    /// The flags that `--help` names.
    fn of_program(command: &str) -> BTreeMap<String, Flag> {
        let help = stdout_of(clean(env!("CARGO_BIN_EXE_mcp-remote")).args([command, "--help"]));
        // Possible values begin with a single dash, and belong to their flag.
        let flag = |line: &str| {
            ["--", "-h, "]
                .iter()
                .any(|dash| line.trim_start().starts_with(dash))
        };
        let lines: Vec<&str> = help.lines().collect();
        let mut flags = BTreeMap::new();
        for at in 0..lines.len() {
            let Some(head) = lines[at].trim().strip_prefix("--") else {
                continue;
            };
            let own = lines[at + 1..]
                .iter()
                .take_while(|line| (line.is_empty() || line.starts_with("      ")) && !flag(line));
            let words = [lines[at]].into_iter().chain(own.copied());
            let text = words.flat_map(str::split_whitespace).collect::<Vec<_>>();
            let text = text.join(" ");
            let mut head = head.split_whitespace();
            let name = head.next().expect("a name").to_owned();
            let value = head.next().and_then(|value| between(value, "<", ">"));
            let flag = Flag {
                value,
                environment: between(&text, "[env: ", "=]"),
                default: between(&text, "[default: ", "]"),
            };
            flags.insert(name, flag);
        }
        assert!(!flags.is_empty(), "{help}");
        flags
    }

    /// The flags in the section of the README on `command`. Where there is no default, the table says
    /// whether the flag is required, a switch, or simply not there.
    fn of_readme(command: &str) -> BTreeMap<String, Flag> {
        let section = format!("\n### `mcp-remote {command}`\n");
        let (_, section) = README.split_once(&section).expect("a section");
        let section = section.split("\n#").next().unwrap_or_default();
        let code = |cell: &str| cell.trim().trim_matches('`').to_owned();
        let rows = section.lines().filter(|line| line.starts_with("| `--"));
        rows.map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
            assert_eq!(cells.len(), 4, "{row}");
            assert!(!cells[3].trim().is_empty(), "{row}");
            let head = code(cells[0]);
            let mut head = head.trim_start_matches("--").split(' ');
            let name = head.next().expect("a name").to_owned();
            let value = head.next().map(str::to_owned);
            let default = match (cells[2].trim(), &value) {
                ("required" | "none", Some(_)) | ("off", None) => None,
                (default, _) => Some(default.to_owned()),
            };
            let environment = Some(code(cells[1]));
            let flag = Flag {
                value,
                environment,
                default,
            };
            (name, flag)
        })
        .collect()
    }

    #[test]
    fn every_flag_is_documented_with_its_variable_and_default() {
        for command in COMMANDS {
            assert_eq!(of_readme(command), of_program(command), "{command}");
        }
    }

    #[test]
    fn every_command_is_documented() {
        let help = stdout_of(clean(env!("CARGO_BIN_EXE_mcp-remote")).arg("--help"));
        let (_, list) = help.split_once("Commands:\n").expect("commands");
        let names = list.lines().take_while(|line| !line.is_empty());
        let names: Vec<&str> = names
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .collect();
        assert_eq!(names, COMMANDS);
        for name in names {
            assert!(
                README.contains(&format!("\n| `mcp-remote {name} ")),
                "{name}"
            );
        }
    }

    /// The source, without its tests.
    fn sources() -> Vec<String> {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        let mut sources = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                    let text = fs::read_to_string(path).expect("a file");
                    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                    sources.push(code.to_owned());
                }
            }
        }
        assert!(sources.len() > 20);
        sources
    }

    fn errors() -> Vec<Vec<&'static str>> {
        let (_, section) = README.split_once("\n## Errors\n").expect("a section");
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| -32"));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
            .collect()
    }

    #[test]
    fn every_code_and_every_reason_is_documented() {
        let errors = errors();
        let codes: BTreeSet<&str> = errors.iter().map(|row| row[0]).collect();
        let reasons: BTreeSet<&str> = errors
            .iter()
            .filter_map(|row| {
                let reason = row[3].split('`').nth(1);
                assert!(row[0] != "-32603" || reason.is_some(), "{row:?}");
                reason.filter(|reason| !reason.starts_with('{'))
            })
            .collect();
        let sources = sources().join("\n");
        let made = sources.split("ErrorData::new(").skip(1);
        let made = made.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
        let spelled = sources.split(r#"\"reason\":\""#).skip(1);
        let spelled = spelled.filter_map(|rest| rest.split('\\').next());
        let written: BTreeSet<&str> = made.chain(spelled).collect();
        assert_eq!(reasons, written);
        let (_, list) = sources.split_once("pub enum Code {").expect("the codes");
        let list = list.split('}').next().unwrap_or_default();
        let written: BTreeSet<&str> = list
            .lines()
            .filter_map(|line| line.split_once(" = ")?.1.strip_suffix(','))
            .collect();
        assert_eq!(codes, written);
    }
}

#[test]
fn json_is_json() {
    let json: Vec<Block> = blocks()
        .into_iter()
        .filter(|block| block.language.starts_with("json"))
        .collect();
    assert!(json.len() >= 5, "{}", json.len());
    for block in json {
        let texts = match block.language {
            "jsonl" => block.text.lines().collect(),
            _ => vec![&*block.text],
        };
        for text in texts {
            let parsed: Result<Value, _> = serde_json::from_str(text);
            assert!(parsed.is_ok(), "{parsed:?}\n{text}");
        }
    }
}

#[test]
fn the_policy_is_one() {
    let policy = Policy::parse(&marked("<!-- policy -->").text).expect("a policy");
    assert!(policy.has_role("readonly") && policy.has_role("admin"));
    assert_eq!(policy.mute_roles(), Vec::<&str>::new());
}

#[test]
fn the_rules_on_tools_are_a_policy() {
    let roles = marked("<!-- tools -->").text;
    let short = Policy::parse(&format!("{{\"permissions\":{roles}}}")).expect("a policy");
    let file = include_str!("../examples/permissions-tools.json");
    let long = Policy::parse(file).expect("a policy");
    for policy in [short, long] {
        assert!(policy.has_role("reader") && policy.has_role("writer"));
        assert_eq!(policy.mute_roles(), Vec::<&str>::new());
    }
}

#[test]
fn the_output_of_check_is_the_real_one() {
    let shown = marked("<!-- output of check -->").text;
    let (line, shown) = shown.split_once('\n').expect("a command");
    let arguments = line.strip_prefix("$ mcp-remote ").expect("a command");
    let mut command = clean(env!("CARGO_BIN_EXE_mcp-remote"));
    command.args(arguments.split(' '));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown);
}

#[test]
fn the_output_of_the_quickstart_is_the_real_one() {
    // Without cargo it takes the programs that were built for this test.
    let shown = stdout_of(clean(example("quickstart")).env_remove("CARGO"));
    let steady = |text: &str| {
        let lines = text.trim().lines().map(|line| {
            let volatile = ["-- notes_server ", "client tcp --port "];
            let found = volatile.iter().find(|start| line.contains(**start));
            match found.and_then(|start| line.split_once(start)) {
                // The folder ends its line; behind the port stands a remark.
                Some((before, after)) => {
                    let remark = after
                        .split_once(' ')
                        .map_or("", |(_, remark)| remark.trim());
                    format!("{before}… {remark}")
                }
                None => line.to_owned(),
            }
        });
        lines.collect::<Vec<_>>()
    };
    let pasted = marked("<!-- output of quickstart -->").text;
    assert!(pasted.lines().count() > 20);
    assert_eq!(steady(&pasted), steady(&shown));
}

#[test]
fn the_version_is_ours() {
    let version = stdout_of(clean(env!("CARGO_BIN_EXE_mcp-remote")).arg("--version"));
    assert!(
        README.contains(&format!("`{}`", version.trim())),
        "{version}"
    );
}

#[test]
fn links_lead_somewhere() {
    let headings = README.lines().filter_map(|line| line.strip_prefix('#'));
    let anchors: BTreeSet<String> = headings
        .map(|heading| heading.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.replace(' ', "-").replace(['`', ','], ""))
        .collect();
    let links = README.split("](").skip(1);
    let links: Vec<&str> = links.filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 5, "{links:?}");
    for link in links {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.contains(anchor), "{link}"),
            None if link.starts_with("https://") => {}
            None => {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(link);
                assert!(path.exists(), "{link}");
            }
        }
    }
}
