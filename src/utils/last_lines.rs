//! The last lines of a program on stderr that say why it has ended.

use super::shorten::shorten;
use std::collections::VecDeque;

/// How many lines are kept. What npm says of a package that does not exist fits.
const LINES: usize = 4;

/// How much of a line is kept, in bytes.
const LENGTH: usize = 256;

/// The last few lines, without those that programs end with whatever has happened.
#[derive(Debug, Default)]
pub struct LastLines {
    telling: VecDeque<String>,
    /// The last line of those, for a program that writes no other.
    other: String,
}

impl LastLines {
    /// Takes one line.
    pub fn push(&mut self, line: &str) {
        let line = shorten(line, LENGTH);
        let last = self.telling.back();
        if line.is_empty() || last.is_some_and(|last| last.starts_with(line)) {
            return;
        }
        if !tells(line) {
            self.other = line.to_owned();
            return;
        }
        if self.telling.len() == LINES {
            self.telling.pop_front();
        }
        self.telling.push_back(line.to_owned());
    }

    /// The lines in one; `None` where nothing was written.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let telling: Vec<&str> = self.telling.iter().map(String::as_str).collect();
        let text = match telling.as_slice() {
            [] => self.other.clone(),
            lines => lines.join(" / "),
        };
        Some(text).filter(|text| !text.is_empty())
    }
}

/// False for stack traces, brackets, and what npm and Node.js end with.
fn tells(line: &str) -> bool {
    !line.starts_with(char::is_whitespace)
        && !line.starts_with("Node.js v")
        && !line.contains("A complete log of this run can be found in")
        && line.chars().filter(|it| it.is_alphabetic()).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &str) -> Option<String> {
        let mut last = LastLines::default();
        lines.lines().for_each(|line| last.push(line));
        last.text()
    }

    #[test]
    fn the_cause_is_kept() {
        let npm = "npm error code E404\nnpm error 404 Not Found - GET https://registry.npmjs.org/nope\nnpm error 404\n\
            npm error 404  'nope@*' is not in this registry.\nnpm error 404\n\
            npm error A complete log of this run can be found in: /home/me/.npm/_logs/x.log";
        let node = "node:internal/modules/cjs/loader:1148\n  throw err;\n  ^\n\nError: Cannot find module '/x.js'\n    at Module\n{\n}\n\nNode.js v20.1.0";
        let python =
            "Traceback (most recent call last):\n  File \"x.py\", line 1\nKeyError: 'TOKEN'";
        for (lines, expected) in [
            (
                npm,
                Some(
                    "npm error code E404 / npm error 404 Not Found - GET https://registry.npmjs.org/nope / npm error 404  'nope@*' is not in this registry.",
                ),
            ),
            (
                node,
                Some("node:internal/modules/cjs/loader:1148 / Error: Cannot find module '/x.js'"),
            ),
            (
                python,
                Some("Traceback (most recent call last): / KeyError: 'TOKEN'"),
            ),
            ("  at x\n  at y", Some("  at y")),
            ("aa\nbb\ncc\ndd\nee", Some("bb / cc / dd / ee")),
            ("\n", None),
        ] {
            assert_eq!(text(lines).as_deref(), expected);
        }
    }

    #[test]
    fn little_is_kept() {
        let long = "x".repeat(9999);
        let lines = format!("a{long}\nb{long}\nc{long}\nd{long}\ne{long}");
        assert_eq!(text(&lines).unwrap().len(), LINES * LENGTH + 3 * 3);
    }
}
