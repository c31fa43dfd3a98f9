//! Bytes into server-sent events: however they are split, the events are the same, and none is longer than
//! the limit.

use mcp_remote::transport::sse::{Decoder, Event, TooLong};

/// The first byte is a limit, the second the size of pieces.
pub fn run(data: &[u8]) {
    let [limit, size, rest @ ..] = data else {
        return;
    };
    let rest = &rest[..rest.len().min(4096)];
    let limit = usize::from(*limit) * 16;
    let whole = decode(std::iter::once(rest), limit);
    let split = decode(rest.chunks(usize::from(*size) + 1), limit);
    assert_eq!(whole.0, split.0);
    assert_eq!(whole.1.is_some(), split.1.is_some());
    assert!(whole.0.iter().all(|event| event.data.len() <= limit));
}

fn decode<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limit: usize,
) -> (Vec<Event>, Option<TooLong>) {
    let mut decoder = Decoder::new(limit);
    let mut events = Vec::new();
    for mut piece in pieces {
        while !piece.is_empty() {
            match decoder.decode(&mut piece) {
                Ok(event) => events.extend(event),
                Err(err) => return (events, Some(err)),
            }
        }
    }
    (events, None)
}
