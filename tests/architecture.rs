//! The map in `ARCHITECTURE.md`, enforced: imports only go down, and no folder has a cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules of `src/`, the highest first. Each may use those after it.
const FLOORS: &[&str] = &[
    "main",
    "commands",
    "cli",
    "server",
    "client",
    "handshake",
    "hub",
    "audit",
    "child",
    "transport",
    "router",
    "inventory",
    "permissions",
    "http",
    "backlog",
    "account",
    "auth",
    "revocations",
    "replay",
    "liveness",
    "system",
    "control",
    "metrics",
    "jsonrpc",
    "mcp",
    "json",
    "utils",
];

type Arrows = BTreeMap<String, BTreeSet<String>>;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// A file of `src/`: its module path, and its code without tests and comments.
fn modules() -> Vec<(Vec<String>, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut modules = Vec::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let mut names: Vec<String> = path
            .iter()
            .map(|name| name.to_str().unwrap().to_owned())
            .collect();
        if names.iter().any(|name| name == "tests") {
            continue;
        }
        if names.last().is_some_and(|name| name == "mod") {
            names.pop();
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let lines = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        modules.push((names, lines.collect::<Vec<_>>().join("\n")));
    }
    assert!(modules.len() > 50, "found only {}", modules.len());
    modules
}

/// The words that follow `prefix` in `code`, including those in the braces of a `use`.
fn words_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
        text.chars().take_while(is_part).collect()
    };
    let mut words = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            words.insert(word(rest));
            continue;
        };
        let (mut depth, mut item) = (1, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    words.insert(word(item.trim()));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                words.insert(word(item.trim()));
                break;
            }
            item.push(c);
        }
    }
    words
}

#[test]
fn imports_go_down_only() {
    let floor = |name: &str| FLOORS.iter().position(|known| *known == name);
    let mut upward = Vec::new();
    for (names, code) in modules() {
        let Some(own) = names.first().filter(|name| *name != "lib") else {
            continue;
        };
        let own_floor = floor(own).unwrap_or_else(|| panic!("'{own}' has no floor"));
        let prefix = if own == "main" {
            "mcp_remote::"
        } else {
            "crate::"
        };
        for used in words_after(&code, prefix) {
            if floor(&used).is_some_and(|used| used < own_floor) {
                upward.push(format!("{} uses {used}", names.join("::")));
            }
        }
    }
    assert!(upward.is_empty(), "imports that go up: {upward:#?}");
}

#[test]
fn no_folder_has_a_circle() {
    let modules = modules();
    let folders: BTreeSet<Vec<String>> = modules
        .iter()
        .filter(|(names, _)| names.len() > 1)
        .map(|(names, _)| names[..names.len() - 1].to_vec())
        .collect();
    assert!(folders.len() > 5, "found only {}", folders.len());
    let mut circles = Vec::new();
    for folder in folders {
        let inside = |names: &[String]| names.len() > folder.len() && names.starts_with(&folder);
        let siblings: BTreeSet<String> = modules
            .iter()
            .filter(|(names, _)| inside(names))
            .map(|(names, _)| names[folder.len()].clone())
            .collect();
        let mut arrows = Arrows::new();
        for (names, code) in modules.iter().filter(|(names, _)| inside(names)) {
            let own = &names[folder.len()];
            let prefix = "super::".repeat(names.len() - folder.len());
            let absolute = format!("crate::{}::", folder.join("::"));
            let mut used = words_after(code, &prefix);
            used.extend(words_after(code, &absolute));
            used.retain(|name| siblings.contains(name) && name != own);
            arrows.entry(own.clone()).or_default().extend(used);
        }
        let mut left = arrows.clone();
        // A module that uses nothing that is left is in no cycle.
        while let Some(free) = left
            .iter()
            .find(|(_, used)| used.iter().all(|used| !left.contains_key(used)))
            .map(|(name, _)| name.clone())
        {
            left.remove(&free);
        }
        if !left.is_empty() {
            circles.push((folder.join("::"), left));
        }
    }
    assert!(circles.is_empty(), "circles: {circles:#?}");
}
