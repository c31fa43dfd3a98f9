//! What a log line for people looks like.

use std::fmt;
use std::time::SystemTime;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// `TIME LEVEL span{fields}: message fields`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLine {
    /// On a terminal the time of day is enough, in seconds.
    pub on_terminal: bool,
}

impl<S, N> FormatEvent<S, N> for LogLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        self.write_time(&mut writer)?;
        let level = metadata.level();
        paint(&mut writer, colour(level), format_args!("{level:>5}"))?;
        writer.write_char(' ')?;
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                writer.write_str(span.metadata().name())?;
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>();
                if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                    write!(writer, "{{{fields}}}")?;
                }
                writer.write_str(": ")?;
            }
        }
        // Where in the code it comes from is for those who look for something.
        let target = metadata.target();
        if *level > Level::INFO || !is_ours(target) {
            paint(&mut writer, DIM, format_args!("{target}:"))?;
            writer.write_char(' ')?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

impl LogLine {
    fn write_time(self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = SystemTime::now();
        if !self.on_terminal {
            return write!(writer, "{} ", humantime::format_rfc3339_micros(now));
        }
        let whole = humantime::format_rfc3339_seconds(now).to_string();
        let time = whole.split_once('T').map_or(&*whole, |(_, time)| time);
        paint(writer, DIM, format_args!("{time}"))?;
        writer.write_char(' ')
    }
}

fn is_ours(target: &str) -> bool {
    target == "mcp_remote" || target.starts_with("mcp_remote::")
}

const DIM: u8 = 2;

/// The code of its colour (ECMA-48, SGR).
fn colour(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

fn paint(writer: &mut Writer<'_>, code: u8, text: fmt::Arguments<'_>) -> fmt::Result {
    if writer.has_ansi_escapes() {
        write!(writer, "\x1b[{code}m{text}\x1b[0m")
    } else {
        writer.write_fmt(text)
    }
}
