//! What a child's line was meant for, where it is not exactly one message: hosts forgive a server
//! much, and the proxy is no stricter.

use super::outline::{MAX_SEEN, Outline};
use super::{Kind, MAX_CHILD_DEPTH, Message};
use crate::json::{Scanner, Window};
use bytes::Bytes;

/// What was made out on a line.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Whole messages, in order.
    pub messages: Vec<Message>,
    /// Requests and answers that cannot be read.
    pub unread: Vec<Kind>,
}

/// Finds the messages of a child's line that [`Message::read`] has refused: a byte order mark, a
/// notice or a progress bar may stand before the first, several may follow each other, and `jsonrpc`
/// may be missing.
///
/// The first `{` of the line begins the first object. A later one is looked at only once all before it
/// has been read: inside of what cannot be read, an object may be content that looks like a message.
#[must_use]
pub fn recover(line: &Bytes) -> Recovered {
    let mut found = Recovered::default();
    let mut rest = line.clone();
    while let Some(start) = memchr::memchr(b'{', &rest)
        && found.messages.len() < MAX_SEEN
    {
        let _before = rest.split_to(start);
        let mut window = Window::of(&rest);
        let mut scanner = Scanner::new(&rest, MAX_CHILD_DEPTH, &mut window);
        let Ok(span) = scanner.value() else {
            let outline = Outline::of(&rest);
            match outline.kind() {
                Some(kind) => found.unread.push(kind),
                None => found
                    .unread
                    .extend(outline.kinds().into_iter().filter(is_answer)),
            }
            return found;
        };
        let object = rest.split_to(span.len());
        match Message::read_leniently(object) {
            Ok(message) => found.messages.push(message),
            Err(refusal) => found
                .unread
                .extend(refusal.about.into_iter().filter(is_answer)),
        }
    }
    found
}

/// A log line in JSON may well have an `id`; a result has little else.
fn is_answer(kind: &Kind) -> bool {
    matches!(kind, Kind::Response(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::RequestId;

    fn recovered(line: &[u8]) -> (Vec<Kind>, Vec<Kind>) {
        let found = recover(&Bytes::copy_from_slice(line));
        let kinds = found.messages.iter().map(|message| message.kind().clone());
        (kinds.collect(), found.unread)
    }

    fn answer(id: i64) -> Kind {
        Kind::Response(Some(RequestId::Number(id)))
    }

    #[test]
    fn messages_among_other_things_are_read() {
        for (line, kinds) in [
            (&b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"[..], vec![answer(1)]),
            (b"npm notice new version\r{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", vec![answer(1)]),
            (b"10%\r50%\r100%\r {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}} done", vec![answer(1)]),
            (br#"{"id":1,"result":{}}"#, vec![answer(1)]),
            (br#"{"jsonrpc":"2.0","id":1,"result":{}}{"jsonrpc":"2.0","id":2,"error":{"code":1}}"#, vec![answer(1), answer(2)]),
            (br#"{"jsonrpc":"2.0","id":1,"result":{}} , {"jsonrpc":"2.0","method":"n"}"#, vec![answer(1), Kind::Notification]),
        ] {
            let text = String::from_utf8_lossy(line);
            assert_eq!(recovered(line), (kinds, vec![]), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_fails_what_it_was_for() {
        for (line, unread) in [
            (
                &br#"{"jsonrpc":"2.0","id":1,"result":NaN}"#[..],
                vec![answer(1)],
            ),
            (
                br#"{"jsonrpc":"2.0","id":1,"result":{},"method":"x"}"#,
                vec![],
            ),
            (b"Listening on {port}", vec![]),
            (
                br#"{"level":"error","id":5,"msg":"a line of a log"}"#,
                vec![],
            ),
            (br#"{"level":"info"} ready"#, vec![]),
        ] {
            let text = String::from_utf8_lossy(line);
            assert_eq!(recovered(line), (vec![], unread), "{text}");
        }
    }

    #[test]
    fn content_is_not_taken_for_a_message() {
        let inner = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
        for line in [
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":NaN,"b":{inner}}}}}"#),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"a\":NaN,\r{inner}}}}}"),
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":"\x","b":{inner}}}}}"#),
        ] {
            assert_eq!(
                recovered(line.as_bytes()),
                (vec![], vec![answer(1)]),
                "{line}"
            );
        }
    }
}
