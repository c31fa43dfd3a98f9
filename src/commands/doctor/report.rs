//! The result of each step, for people and as JSON.

use super::super::print;
use crate::utils::escape::escape;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The width of a line, in characters.
const WIDTH: usize = 80;

/// Indentation of a step's lines after the first.
const INDENT: usize = 9;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Good,
    /// It works, but needs attention.
    Doubtful,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Doubtful => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One step.
#[derive(Debug)]
struct Step {
    name: &'static str,
    outcome: Outcome,
    detail: String,
    remedy: Option<String>,
    took: Duration,
}

/// The steps so far. In the text form each is printed as soon as it is known.
#[derive(Debug)]
pub(super) struct Report {
    as_json: bool,
    steps: Vec<Step>,
    since: Instant,
    failed: bool,
}

impl Report {
    pub(super) fn new(as_json: bool) -> Self {
        Self {
            as_json,
            steps: Vec::new(),
            since: Instant::now(),
            failed: false,
        }
    }

    pub(super) fn good(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Outcome::Good, detail.into(), None);
    }

    pub(super) fn doubtful(&mut self, name: &'static str, detail: impl Into<String>, remedy: &str) {
        self.add(
            name,
            Outcome::Doubtful,
            detail.into(),
            Some(remedy.to_owned()),
        );
    }

    /// Records the step that failed.
    pub(super) fn failed(
        &mut self,
        name: &'static str,
        detail: impl Into<String>,
        remedy: Option<&str>,
    ) -> Stopped {
        self.failed = true;
        let remedy = remedy.map(str::to_owned);
        self.add(name, Outcome::Failed, detail.into(), remedy);
        Stopped
    }

    fn add(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        detail: String,
        remedy: Option<String>,
    ) {
        let step = Step {
            name,
            outcome,
            detail: escape(&detail),
            remedy: remedy.map(|remedy| escape(&remedy)),
            took: self.since.elapsed(),
        };
        self.since = Instant::now();
        if !self.as_json {
            let took = pretty(step.took);
            let head = format!("{:8} {:11} {:>7} ", outcome.word(), name, took);
            let mut line = wrapped(&head, &step.detail, INDENT);
            if let Some(remedy) = &step.remedy {
                line += &wrapped(&format!("{:INDENT$}→", ""), remedy, INDENT + 2);
            }
            // A closed stdout is not worth an error.
            let _nobody = print(&line);
        }
        self.steps.push(step);
    }

    /// The last step: its name, how it went, and what it says, the remedy after it.
    #[cfg(test)]
    pub(super) fn last(&self) -> (&'static str, &'static str, String) {
        let step = self.steps.last().unwrap();
        let remedy = step.remedy.as_deref().unwrap_or_default();
        let text = format!("{}; {remedy}", step.detail);
        (step.name, step.outcome.word(), text)
    }

    /// True if nothing has failed.
    pub(super) fn is_good(&self) -> bool {
        !self.failed
    }

    /// True if something needs attention.
    pub(super) fn has_doubts(&self) -> bool {
        let mut steps = self.steps.iter();
        steps.any(|step| step.outcome == Outcome::Doubtful)
    }

    /// The complete report, with its closing part.
    pub(super) fn finish(&self, text: &str, entries: Option<Value>) {
        let text = if self.as_json {
            let steps = self.steps.iter().map(|step| {
                json!({
                    "step": step.name, "outcome": step.outcome.word(), "detail": step.detail,
                    "remedy": step.remedy, "milliseconds": step.took.as_millis(),
                })
            });
            let steps: Vec<Value> = steps.collect();
            let report = json!({"ok": self.is_good(), "steps": steps, "entries": entries});
            format!("{report:#}\n")
        } else {
            text.to_owned()
        };
        let _nobody = print(&text);
    }
}

/// Nothing more can be checked: the step that failed is in the report.
#[derive(Debug)]
pub(super) struct Stopped;

/// The text after `head`, wrapped for a narrow terminal; all lines but the first are indented by `indent`.
fn wrapped(head: &str, text: &str, indent: usize) -> String {
    let mut lines = head.to_owned();
    let mut width = head.chars().count();
    for word in text.split(' ') {
        let length = word.chars().count();
        if width + 1 + length > WIDTH {
            lines.push_str(&format!("\n{:indent$}{word}", ""));
            width = indent + length;
        } else {
            lines.push_str(&format!(" {word}"));
            width += 1 + length;
        }
    }
    lines.push('\n');
    lines
}

fn pretty(took: Duration) -> String {
    match took.as_millis() {
        0 => "<1 ms".to_owned(),
        milliseconds @ 1..10_000 => format!("{milliseconds} ms"),
        milliseconds => format!("{} s", milliseconds / 1000),
    }
}
