//! What a child's line was meant as, when it is not exactly one message: hosts are lenient towards a
//! server, and the proxy is no stricter.

use super::head::Member;
use super::outline::{MAX_SEEN, Outline};
use super::{Kind, MAX_CHILD_DEPTH, Message};
use crate::json::{Part, Scanner, Structure};
use bytes::Bytes;
use std::borrow::Cow;

/// The numbers that Python's `json` writes but JSON does not have.
const ODD_NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// What was recognised on a line.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Whole messages, in order.
    pub messages: Vec<Message>,
    /// Requests and responses that cannot be read.
    pub unread: Vec<Kind>,
    /// Some of it was read with a replacement for invalid JSON.
    pub mended: bool,
}

impl Recovered {
    /// True if nothing on the line is meant as a message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.unread.is_empty()
    }
}

/// Finds the messages on a child's line that [`Message::read`] has refused: a byte order mark, a
/// notice or a progress bar may precede the first, several may follow each other, and `jsonrpc`
/// may be missing. Bytes that are not UTF-8 become U+FFFD, as in Node's hosts, and `NaN`, `Infinity` and
/// `-Infinity`, which Python writes and reads, become null, as in `JSON.stringify`.
///
/// The first `{` of the line starts the first object. A later one is considered only once everything before it
/// has been read: inside something unreadable, an object may be content that looks like a message.
#[must_use]
pub fn recover(line: &Bytes) -> Recovered {
    let mut found = Recovered::default();
    let mut rest = line.clone();
    if let Cow::Owned(text) = String::from_utf8_lossy(line) {
        found.mended = true;
        rest = text.into();
    }
    let mut is_plain = false;
    while let Some(start) = memchr::memchr(b'{', &rest)
        && found.messages.len() < MAX_SEEN
    {
        let _before = rest.split_to(start);
        let mut scanner = Scanner::new(&rest, MAX_CHILD_DEPTH);
        let Ok(span) = scanner.value() else {
            if !std::mem::replace(&mut is_plain, true)
                && let Some(plain) = without_odd_numbers(&rest)
            {
                found.mended = true;
                rest = plain.into();
                continue;
            }
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
        if is_of_a_log(&object) {
            continue;
        }
        match Message::read_leniently(object.clone()) {
            Ok(message) => found.messages.push(message),
            Err(refusal) => {
                // With its own name a request counts as one, whatever is wrong with it.
                let request = Outline::of(&object).kind().filter(is_request);
                let about = refusal.about.into_iter().filter(is_answer);
                found.unread.extend(about.chain(request));
            }
        }
    }
    found
}

/// True for an object without `jsonrpc` that has members which no message has: a log in JSON may have an `id`, even
/// that of a request, and an `error`.
fn is_of_a_log(object: &[u8]) -> bool {
    let (mut has_version, mut has_others) = (false, false);
    let mut scanner = Scanner::new(object, MAX_CHILD_DEPTH);
    let read = scanner.object(|scanner, key| {
        match Member::recognise(&key.text(object)) {
            Some((Member::Jsonrpc, _)) => has_version = true,
            Some(_) => {}
            None => has_others = true,
        }
        scanner.value().map(drop)
    });
    read.is_ok() && has_others && !has_version
}

fn is_request(kind: &Kind) -> bool {
    matches!(kind, Kind::Request(_))
}

/// The text with null in place of numbers that JSON does not have; `None` if there are none.
fn without_odd_numbers(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut structure = Structure::default();
    let (mut at, mut kept) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let odd = ODD_NUMBERS.iter().find(|odd| rest.starts_with(odd));
        if structure.take(rest[0]) == Part::Other
            && let Some(odd) = odd
        {
            plain.extend_from_slice(text.get(kept..at)?);
            plain.extend_from_slice(b"null");
            at += odd.len();
            kept = at;
            continue;
        }
        at += 1 + structure.plain_text(rest.get(1..)?);
    }
    plain.extend_from_slice(text.get(kept..)?);
    (plain.len() != text.len()).then_some(plain)
}

/// A log line in JSON may well have an `id`; a result has little else.
fn is_answer(kind: &Kind) -> bool {
    matches!(kind, Kind::Response(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::RequestId;
    use crate::utils::chunks::Chunks;

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
    fn what_is_no_json_is_mended() {
        for (line, text) in [
            (
                &br#"{"jsonrpc":"2.0","id":1,"result":{"a":NaN,"b":[-Infinity,Infinity,"NaN \" -Infinity"]}}"#[..],
                r#"{"jsonrpc":"2.0","id":1,"result":{"a":null,"b":[null,null,"NaN \" -Infinity"]}}"#,
            ),
            (
                b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"caf\xe9\",\"b\":NaN}}",
                "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"caf\u{fffd}\",\"b\":null}}",
            ),
        ] {
            let found = recover(&Bytes::from_static(line));
            assert!(found.mended && found.unread.is_empty());
            let mut written = Chunks::default();
            found.messages[0].write(Some(&RequestId::Number(1)), &[], &mut written);
            let written = Vec::from_iter(written.pieces().flatten().copied());
            assert_eq!(String::from_utf8(written).unwrap(), format!("{text}\n"));
        }
        for line in [
            &b"{\"id\":1,\"result\":xNaN}"[..],
            b"{\"id\":1,\"result\":NaN1}",
        ] {
            assert_eq!(recovered(line), (vec![], vec![answer(1)]));
        }
    }

    #[test]
    fn what_cannot_be_read_fails_what_it_was_for() {
        for (line, unread) in [
            (
                &br#"{"jsonrpc":"2.0","id":1,"result":nan}"#[..],
                vec![answer(1)],
            ),
            (
                br#"{"jsonrpc":"2.0","id":1,"result":{},"method":"x"}"#,
                vec![],
            ),
            (
                br#"{"jsonrpc":"2.0","id":1,"method":"x","params":"y"}"#,
                vec![Kind::Request(RequestId::Number(1))],
            ),
            (b"Listening on {port}", vec![]),
            (
                br#"{"level":"error","id":5,"msg":"a line of a log"}"#,
                vec![],
            ),
            (br#"{"level":"info"} ready"#, vec![]),
            (br#"{"level":"info","id":5,"result":"cached"}"#, vec![]),
            (
                br#"{"level":"warn","id":5,"error":{"code":"ETIMEDOUT"}}"#,
                vec![],
            ),
            (br#"{"id":5,"error":null,"msg":"done"}"#, vec![]),
            (br#"{"id":5,"error":"late","msg":"again"}"#, vec![]),
            (br#"{"id":5,"error":"late"}"#, vec![answer(5)]),
            (br#"{"id":5,"method":"GET","path":"/"}"#, vec![]),
        ] {
            let text = String::from_utf8_lossy(line);
            assert_eq!(recovered(line), (vec![], unread), "{text}");
        }
    }

    #[test]
    fn content_is_not_taken_for_a_message() {
        let inner = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
        for line in [
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"a":nan,"b":{inner}}}}}"#),
            format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{{\"a\":nan,\r{inner}}}}}"),
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
