//! Logs, to stderr. They never stop the program: a stderr that nobody reads loses lines, counted, and
//! nothing else waits for it.

use super::log_line::LogLine;
use crate::cli::LogFormat;
use crate::utils::escape::Escaping;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Stderr, Write};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;
use tracing::field::Field;
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The most lines that wait to be written.
const MAX_WAITING: usize = 4096;

/// How long what is written without the log may take.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);

/// Counts the lines that were lost.
static COUNTER: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines were lost because stderr was not read.
pub(super) fn lost_lines() -> u64 {
    COUNTER.get().map_or(0, ErrorCounter::dropped_lines) as u64
}

/// Starts logging; what waits is written when the guard is dropped, within about a second. `RUST_LOG`
/// decides what is logged; else `DEBUG=true` shows debug lines.
pub(super) fn start(format: LogFormat) -> WorkerGuard {
    start_with(format, "info")
}

/// The same for commands that print something and end: only what goes wrong is logged by default.
pub(super) fn start_quiet() -> WorkerGuard {
    start_with(LogFormat::Text, "warn")
}

fn start_with(format: LogFormat, level: &str) -> WorkerGuard {
    let debug = std::env::var("DEBUG").is_ok_and(|value| value == "true");
    let level = if debug {
        "info,mcp_remote=debug"
    } else {
        level
    };
    let asked = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.trim().is_empty());
    let chosen = asked.and_then(|filter| filter.parse::<Targets>().ok());
    let chosen = chosen.unwrap_or_else(|| level.parse().unwrap_or_default());
    let stderr = CountingStderr {
        stderr: io::stderr(),
        format,
        told: 0,
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_WAITING)
        .thread_name("log")
        .finish(stderr);
    COUNTER.get_or_init(|| writer.error_counter());
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        // Complaints about a stderr that is gone would go there, too, and panic.
        .log_internal_errors(false)
        .with_writer(writer);
    let no_payloads = filter_fn(|metadata| !shows_payloads(metadata));
    match format {
        LogFormat::Text => {
            let on_terminal = is_on_terminal();
            let ansi = is_coloured(on_terminal, |name| std::env::var_os(name));
            let fields = debug_fn(write_field).delimited(" ");
            let lines = builder.with_ansi(ansi).fmt_fields(fields);
            let lines = lines.event_format(LogLine { on_terminal }).finish();
            lines.with(chosen).with(no_payloads).init();
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            builder.finish().with(chosen).with(no_payloads).init();
        }
    }
    guard
}

/// Whether stderr is a terminal.
pub(super) fn is_on_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr())
}

/// Whether lines are coloured, as other programs decide it (no-color.org, bixense.com/clicolors).
fn is_coloured(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    let is_forced =
        variable("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0");
    let is_dumb = variable("TERM").is_some_and(|value| value == "dumb");
    !is_set("NO_COLOR") && (is_forced || is_terminal && !is_dumb)
}

/// Stderr, which gets a note of how many lines were lost as soon as it accepts some again.
struct CountingStderr {
    stderr: Stderr,
    format: LogFormat,
    told: usize,
}

impl CountingStderr {
    fn tell_lost(&mut self) -> io::Result<()> {
        let lost = COUNTER.get().map_or(0, ErrorCounter::dropped_lines);
        let untold = lost.saturating_sub(self.told);
        if untold == 0 {
            return Ok(());
        }
        self.told = lost;
        let what = "log lines were lost, since nobody has read stderr";
        match self.format {
            LogFormat::Text => writeln!(self.stderr, "WARN {untold} {what}"),
            LogFormat::Json => writeln!(
                self.stderr,
                "{{\"level\":\"WARN\",\"message\":\"{what}\",\"lost\":{untold}}}"
            ),
        }
    }
}

impl Write for CountingStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.tell_lost()?;
        self.stderr.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stderr.flush()
    }
}

/// Writes this and a newline to stderr; gives up if that blocks.
pub(super) fn write_stderr(text: String) {
    let (done, written) = mpsc::channel();
    let write = move || {
        // If stderr is closed, the message is lost.
        let _ = writeln!(io::stderr(), "{text}");
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(STDERR_TIMEOUT);
    }
}

/// One field of a log line, of spans and of events. All that others can put into a log is written
/// here and nowhere else, so nothing in it reaches the terminal as a command or as a line of its own, and no value
/// passes for several fields.
fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    let name = field.name();
    let name = name.strip_prefix("r#").unwrap_or(name);
    match (name, writer.has_ansi_escapes()) {
        ("message", _) => return write!(Escaping(writer), "{value:?}"),
        (name, true) => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
        (name, false) => write!(writer, "{name}=")?,
    }
    let text = format!("{value:?}");
    if is_one_value(&text) {
        write!(Escaping(writer), "{text}")
    } else {
        write!(Escaping(writer), "{text:?}")
    }
}

/// True for a word, and for text in quotes.
fn is_one_value(text: &str) -> bool {
    let quoted = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(quoted) = quoted else {
        let odd = |c: char| c.is_whitespace() || c.is_control() || "\"={}".contains(c);
        return !text.is_empty() && !text.contains(odd);
    };
    let mut escaped = false;
    let ends = |c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    };
    let is_cut = quoted.chars().any(ends);
    !is_cut && !escaped
}

/// Libraries trace what goes through them, and the WebSocket library shows the reasons of close
/// frames from debug on: never shown, whatever `RUST_LOG` says.
fn shows_payloads(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = ["mcp_remote", "child"].iter().any(|name| {
        target
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    });
    let most = if target.contains("tungstenite") {
        Level::INFO
    } else {
        Level::DEBUG
    };
    !ours && *metadata.level() > most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        for (is_terminal, set, expected) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (true, &[("TERM", "xterm")], true),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            let variable = |name: &str| {
                let found = set.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(
                is_coloured(is_terminal, variable),
                expected,
                "{is_terminal} {set:?}"
            );
        }
    }

    #[test]
    fn only_words_and_quoted_text_stand_for_themselves() {
        for (text, expected) in [
            ("127.0.0.1:80", true),
            ("3f9c2b7a…", true),
            ("\"a b=\\\"c\\\\\"", true),
            ("\"\"", true),
            ("", false),
            ("\"", false),
            ("two words", false),
            ("a=b", false),
            ("a}", false),
            ("a\n", false),
            ("x\"", false),
            ("\"a\" user=\"admin\"", false),
            ("\"a\\\"", false),
        ] {
            assert_eq!(is_one_value(text), expected, "{text}");
        }
    }
}
