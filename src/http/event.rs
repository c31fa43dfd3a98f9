//! Server-sent events, as they are written.

use crate::utils::chunks::{Line, Pieces};
use bytes::Bytes;
use std::fmt;

/// A comment, which clients skip: it keeps proxies from considering the stream dead.
pub const COMMENT: &[u8] = b":\n\n";

/// The id of an event: the number of its stream, and its number in that. It is unique in the
/// session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The number of the stream.
    pub stream: u64,
    /// The number of the event.
    pub event: u64,
}

impl EventId {
    /// Parses an id in exactly this form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let number: u64 = text.parse().ok()?;
            (number.to_string() == text).then_some(number)
        };
        let (stream, event) = text.split_once('-')?;
        Some(Self {
            stream: number(stream)?,
            event: number(event)?,
        })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stream, self.event)
    }
}

/// An event with a message, or only an id if there is none.
#[must_use]
pub fn write_event(id: Option<EventId>, line: Option<&Line>) -> Bytes {
    let length = line.map_or(0, Pieces::length);
    let mut event = Vec::with_capacity(length + 48);
    if let Some(id) = id {
        event.extend(format!("id: {id}\n").as_bytes());
    }
    event.extend(b"data: ");
    for piece in line.iter().flat_map(|line| line.pieces()) {
        event.extend_from_slice(piece);
    }
    // A line has its newline already.
    if !event.ends_with(b"\n") {
        event.push(b'\n');
    }
    event.push(b'\n');
    event.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = EventId {
            stream: 3,
            event: 17,
        };
        assert_eq!(EventId::parse("3-17"), Some(id));
        assert_eq!(id.to_string(), "3-17");
        for bad in ["", "3", "3-", "-1", "03-1", "+3-1", "3-1-1", "3-x", " 3-1"] {
            assert_eq!(EventId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn events_end_with_a_blank_line() {
        let id = Some(EventId {
            stream: 1,
            event: 0,
        });
        let line = Line::from(b"{}\n".to_vec());
        assert_eq!(write_event(id, Some(&line)), "id: 1-0\ndata: {}\n\n");
        assert_eq!(write_event(None, Some(&line)), "data: {}\n\n");
        assert_eq!(write_event(id, None), "id: 1-0\ndata: \n\n");
    }
}
