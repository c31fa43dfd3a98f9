//! The tables of flags, commands and errors match the program.

use crate::pages::page;
use crate::{clean, manifest, stdout_of};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The commands, and the page that documents each.
const COMMANDS: [(&str, &str); 10] = [
    ("server", "docs/server.md"),
    ("client", "docs/client.md"),
    ("doctor", "docs/troubleshooting.md"),
    ("generate-secret", "docs/tokens.md"),
    ("generate-token", "docs/tokens.md"),
    ("generate-permissions", "docs/policy.md"),
    ("check", "docs/policy.md"),
    ("inspect-token", "docs/tokens.md"),
    ("completions", "docs/install.md"),
    ("man", "docs/install.md"),
];

/// The documentation of one flag.
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
    // Possible values start with a single dash, and belong to their flag.
    let flag = |line: &str| {
        ["--", "-h, "]
            .iter()
            .any(|dash| line.trim_start().starts_with(dash))
    };
    // A line of an example may also start with a flag.
    let (described, _) = help.split_once("Examples:\n").unwrap_or((&help, ""));
    let lines: Vec<&str> = described.lines().collect();
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
        // An optional value is in brackets.
        let head = head.replace("[=<", " <");
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
    assert!(help.contains("Usage: mcp-remote"), "{help}");
    flags
}

/// The flags in the section of the page on `command`. Where there is no default, the table says
/// whether the flag is required, a switch, or simply not there.
fn of_page(path: &str, command: &str) -> BTreeMap<String, Flag> {
    let page = page(path);
    let section = page.section(&format!("## `mcp-remote {command}`"));
    let code = |cell: &str| cell.trim().trim_matches('`').to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| `--"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(!cells[3].trim().is_empty(), "{row}");
        let head = code(cells[0]);
        let head = head.replace("[=", " ").replace(']', "");
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
    for (command, path) in COMMANDS {
        assert_eq!(of_page(path, command), of_program(command), "{command}");
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
    assert_eq!(names, COMMANDS.map(|(name, _)| name));
    let index = page("docs/README.md").text;
    for name in names {
        assert!(
            index.contains(&format!("\n| `mcp-remote {name} ")),
            "{name}"
        );
    }
}

/// The source, without its tests.
pub fn sources() -> Vec<String> {
    let mut folders = vec![manifest("src")];
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

fn errors() -> Vec<Vec<String>> {
    let page = page("docs/errors.md");
    let rows = page.text.lines().filter(|line| line.starts_with("| -32"));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .collect()
}

/// The words of `Denied::plain`, which stand there or beside a status elsewhere.
fn http_reasons(sources: &str) -> Vec<&str> {
    let calls = sources.split("Denied::plain(").skip(1);
    for call in calls.clone() {
        let word = call.split(',').nth(1).expect("a word").trim();
        assert!(word.starts_with('"') || word.starts_with("word"), "{word}");
    }
    let beside = sources.split("StatusCode::").skip(1);
    calls
        .chain(beside)
        .filter_map(|rest| rest.split_once(',')?.1.trim_start().strip_prefix('"'))
        .filter_map(|rest| rest.split('"').next())
        .filter(|word| {
            word.bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_lowercase())
        })
        .collect()
}

#[test]
fn every_code_and_every_reason_is_documented() {
    let errors = errors();
    let codes: BTreeSet<&str> = errors.iter().map(|row| row[0].as_str()).collect();
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
    // The client's errors for requests that it cannot send.
    let listed = sources.split("reason: \"").skip(1);
    let listed = listed.filter_map(|rest| rest.split('"').next());
    let listed = listed.filter(|word| word.contains('-') && !word.contains(' '));
    let over_http = http_reasons(&sources);
    let written = made.chain(spelled).chain(listed).chain(over_http);
    let written: BTreeSet<&str> = written.collect();
    assert_eq!(reasons, written);
    let (_, list) = sources.split_once("pub enum Code {").expect("the codes");
    let list = list.split('}').next().unwrap_or_default();
    let written: BTreeSet<&str> = list
        .lines()
        .filter_map(|line| line.split_once(" = ")?.1.strip_suffix(','))
        .collect();
    assert_eq!(codes, written);
}
