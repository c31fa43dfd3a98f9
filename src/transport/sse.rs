//! Server-sent events (WHATWG HTML "Server-sent events") from bytes as they arrive.
//!
//! Pure: no I/O, no clock. However the bytes are split, the events are the same.

use bytes::Bytes;
use std::time::Duration;

/// The longest event id that is kept, in bytes: it has to fit into a request header. A longer one
/// counts as none.
pub const MAX_EVENT_ID: usize = 4096;

/// The longest name of an event, in bytes; a longer one is cut.
const MAX_NAME: usize = 256;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What came between two blank lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its type; empty for the default, `message`.
    pub name: String,
    /// The lines of `data`, joined by newlines; empty where there were none.
    pub data: Bytes,
    /// The id that this event sets for the stream: text of visible ASCII. Empty revokes earlier ones.
    pub id: Option<String>,
    /// The pause before a reconnection that this event requests.
    pub retry: Option<Duration>,
}

impl Event {
    /// True for a message of the default type that has data.
    #[must_use]
    pub fn is_message(&self) -> bool {
        !self.data.is_empty() && (self.name.is_empty() || self.name == "message")
    }
}

/// An event is longer than it may be. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit} bytes")]
pub struct TooLong {
    /// The bound, in bytes.
    pub limit: usize,
}

/// Turns the pieces of a stream into events.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    /// The last byte was a carriage return: a newline that follows ends no other line.
    after_return: bool,
    /// Nothing has arrived except perhaps a part of a byte order mark.
    at_start: bool,
    has_data: bool,
    data: Vec<u8>,
    name: String,
    id: Option<String>,
    retry: Option<Duration>,
}

impl Decoder {
    /// Takes events of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_return: false,
            at_start: true,
            has_data: false,
            data: Vec::new(),
            name: String::new(),
            id: None,
            retry: None,
        }
    }

    /// Reads `input` up to the end of an event, or all of it, and leaves the rest there. Empty events are
    /// skipped.
    ///
    /// # Errors
    /// An event that is too long.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, TooLong> {
        while !input.is_empty() {
            if self.after_return {
                self.after_return = false;
                if input[0] == b'\n' {
                    *input = &input[1..];
                    continue;
                }
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', input) else {
                self.reserve(input.len())?;
                self.line.extend_from_slice(input);
                *input = &[];
                break;
            };
            let (rest_of_line, after) = input.split_at(end);
            self.after_return = after[0] == b'\r';
            *input = &after[1..];
            self.reserve(rest_of_line.len())?;
            if let Some(event) = self.end_line(rest_of_line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn reserve(&self, more: usize) -> Result<(), TooLong> {
        let limit = self.limit;
        if self.data.len() + self.line.len() + more > limit {
            return Err(TooLong { limit });
        }
        Ok(())
    }

    /// A line has ended; `rest` is what came of it after what is kept.
    fn end_line(&mut self, rest: &[u8]) -> Option<Event> {
        if self.line.is_empty() {
            return self.take_line(rest);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(rest);
        let event = self.take_line(&line);
        line.clear();
        // Long lines are rare, and their memory is not kept for streams that say little.
        if line.capacity() <= MAX_EVENT_ID {
            self.line = line;
        }
        event
    }

    fn take_line(&mut self, mut line: &[u8]) -> Option<Event> {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.take_event();
        }
        let colon = memchr::memchr(b':', line);
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                let value = &value[..value.len().min(MAX_NAME)];
                self.name = String::from_utf8_lossy(value).into_owned();
            }
            b"id" if !value.contains(&0) => self.id = Some(event_id(value)),
            b"retry" => self.retry = milliseconds(value).or(self.retry),
            // A comment, or something of a later time.
            _ => {}
        }
        None
    }

    fn take_event(&mut self) -> Option<Event> {
        self.has_data = false;
        let event = Event {
            name: std::mem::take(&mut self.name),
            data: std::mem::take(&mut self.data).into(),
            id: self.id.take(),
            retry: self.retry.take(),
        };
        let says_something = !event.data.is_empty() || event.id.is_some() || event.retry.is_some();
        says_something.then_some(event)
    }
}

/// The id as it can be quoted in a header; empty where it cannot.
fn event_id(value: &[u8]) -> String {
    let fits = value.len() <= MAX_EVENT_ID && value.iter().all(|byte| (0x20..0x7f).contains(byte));
    let text = std::str::from_utf8(value).ok().filter(|_| fits);
    text.unwrap_or_default().to_owned()
}

fn milliseconds(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // One with more digits than fit is as long as any.
    let text = std::str::from_utf8(value).ok()?;
    Some(Duration::from_millis(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
