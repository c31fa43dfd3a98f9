//! The children: how each is started, and what it has parsed.

use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The languages of the children.
pub const LANGUAGES: [&str; 3] = ["python", "node", "go"];

/// One message, as a child parsed it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seen {
    /// The line was one object, not a batch or something else.
    pub object: bool,
    pub answer: bool,
    pub method: Option<String>,
    pub id: Value,
    pub name: Value,
    pub uri: Value,
    pub request_id: Value,
    pub task_id: Value,
    pub progress_token: Value,
}

fn source(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/recorders");
    folder.join(name).display().to_string()
}

fn built_go() -> String {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recorder_go");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&target);
        let status = go.arg(source("recorder.go")).status();
        let status = status.unwrap_or_else(|err| panic!("go is needed: {err}"));
        assert!(status.success(), "the recorder in Go does not build");
        target
    });
    built.display().to_string()
}

/// The command of the recorder in `language` that writes to `file`.
pub fn command(language: &str, file: &Path) -> Vec<String> {
    let file = file.display().to_string();
    match language {
        "python" => vec!["python3".into(), source("recorder.py"), file],
        "node" => vec!["node".into(), source("recorder.js"), file],
        _ => vec![built_go(), file],
    }
}

/// The content of a recorder's file from byte `from` on; moves `from` to its end.
pub fn read(file: &Path, from: &mut usize) -> Vec<Seen> {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = std::str::from_utf8(&bytes[*from..]).expect("recorders write UTF-8");
    *from = bytes.len();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|err| panic!("{line}: {err}"));
    text.lines().map(parse).collect()
}
