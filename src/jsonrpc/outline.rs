//! The kind of message on a line that cannot be kept or read: a look at the outermost
//! object alone, piece by piece, in bounded memory.

use super::Kind;
use super::id::{MAX_ID_LENGTH, RequestId};
use crate::json::{Part, Structure, unescape};

/// The longest text of an id, in bytes: each byte may be written as `\u0000`.
const MAX_PART: usize = 6 * MAX_ID_LENGTH + 2;

/// The most messages that are recognised on one line.
pub const MAX_SEEN: usize = 16;

/// A line seen so far. It is assumed to be JSON: if it is not, the result may be anything, so it may
/// only be used to send an error.
#[derive(Debug, Default)]
pub struct Outline {
    structure: Structure,
    /// The current member, once its name is known.
    member: Option<Member>,
    /// The name, or the id, as far as it has been seen.
    part: Vec<u8>,
    /// The current outermost object.
    open: Option<Head>,
    /// The outermost objects before it.
    closed: Vec<Head>,
    /// There is something else on the line.
    has_junk: bool,
}

/// The members of an outermost object that have a meaning.
#[derive(Debug, Default)]
struct Head {
    jsonrpc: bool,
    id: Option<RequestId>,
    method: bool,
    answer: bool,
    /// A member is duplicated, or the id is invalid.
    spoiled: bool,
    bad_id: bool,
}

impl Head {
    fn kind(&self) -> Option<Kind> {
        match (self.method, self.answer, self.id.clone()) {
            _ if self.bad_id => None,
            (true, false, Some(id)) => Some(Kind::Request(id)),
            (true, false, None) => Some(Kind::Notification),
            (false, true, id) => Some(Kind::Response(id)),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Jsonrpc,
    Id,
    Method,
    Answer,
    Other,
}

impl Member {
    fn named(raw: &[u8]) -> Self {
        match unescape(raw).as_deref() {
            Some("jsonrpc") => Self::Jsonrpc,
            Some("id") => Self::Id,
            Some("method") => Self::Method,
            Some("result" | "error") => Self::Answer,
            _ => Self::Other,
        }
    }
}

impl Outline {
    /// The outline of a whole line.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        let mut outline = Self::default();
        outline.see(line);
        outline
    }

    /// The next bytes of the line.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.take(byte);
            // Nothing in the middle of a long text matters.
            if !self.keeps() {
                bytes = bytes
                    .get(self.structure.plain_text(bytes)..)
                    .unwrap_or_default();
            }
        }
    }

    /// The kind of the line, if it is one whole object that looks like a message and nothing else. A
    /// response without an id belongs to no request, so it is none.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match (&self.closed[..], &self.open) {
            ([head], None) if head.jsonrpc && !head.spoiled && !self.has_junk => {
                head.kind().filter(|kind| *kind != Kind::Response(None))
            }
            _ => None,
        }
    }

    /// The messages that the line may have been meant as, at most [`MAX_SEEN`]: a lenient look,
    /// which accepts what is truncated, lacks `jsonrpc` or is mixed with other text.
    #[must_use]
    pub fn kinds(mut self) -> Vec<Kind> {
        if self.open.is_some() {
            self.end_member();
        }
        let heads = self.closed.iter().chain(&self.open);
        heads.filter_map(Head::kind).take(MAX_SEEN).collect()
    }

    /// True if the current bytes are part of a name or of the id.
    fn keeps(&self) -> bool {
        let awaited = matches!(self.member, None | Some(Member::Id));
        awaited && self.open.is_some() && self.structure.depth() == 1
    }

    fn take(&mut self, byte: u8) {
        let part = self.structure.take(byte);
        match (part, self.structure.depth(), &mut self.open) {
            (Part::White, ..) => {}
            (Part::Object, 1, None) => {
                self.open = (self.closed.len() < MAX_SEEN).then(Head::default);
            }
            (Part::Close, 0, Some(_)) => {
                self.end_member();
                self.closed.extend(self.open.take());
            }
            (_, _, None) => self.has_junk = true,
            // A name is not a container, and neither is an id.
            (Part::Object | Part::Array, 2, Some(head)) => match self.member {
                Some(Member::Id) => head.bad_id = true,
                None => head.spoiled = true,
                Some(_) => {}
            },
            (Part::Colon, 1, Some(_)) if self.member.is_none() => {
                self.member = Some(Member::named(&self.part));
                self.part.clear();
            }
            (Part::Comma, 1, Some(_)) => self.end_member(),
            // Of a number or a literal; next to a string there may be anything.
            (Part::Other, ..) if self.member.is_none() || !is_of_scalar(byte) => {}
            _ => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        if !self.keeps() {
            return;
        }
        if self.part.len() < MAX_PART {
            self.part.push(byte);
        } else if let (Some(Member::Id), Some(head)) = (self.member, &mut self.open) {
            // A name this long is not one of ours; an id this long is invalid.
            head.bad_id = true;
        }
    }

    fn end_member(&mut self) {
        let member = self.member.take();
        let Some(head) = &mut self.open else { return };
        let twice = match member {
            Some(Member::Jsonrpc) => std::mem::replace(&mut head.jsonrpc, true),
            Some(Member::Method) => std::mem::replace(&mut head.method, true),
            Some(Member::Answer) => {
                head.answer = true;
                false
            }
            Some(Member::Id) if self.part == b"null" => false,
            Some(Member::Id) => {
                let id = RequestId::parse(&self.part);
                head.bad_id |= id.is_none() || head.id.is_some();
                head.id = id;
                head.bad_id
            }
            Some(Member::Other) | None => false,
        };
        head.spoiled |= twice;
        self.part.clear();
    }
}

fn is_of_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::{MAX_CHILD_DEPTH, Message};
    use proptest::prelude::*;

    fn number(id: i64) -> RequestId {
        RequestId::Number(id)
    }

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        let answer = Some(Kind::Response(Some(number(5))));
        for line in [
            r#"{"jsonrpc":"2.0","id":5,"result":{"id":6}}"#,
            r#"{"result":{"content":[{"text":"\",\"id\":7}"}],"id":8},"jsonrpc":"2.0","id":5}"#,
            r#" { "error" : {"code":1,"data":[{"id":9},"id"]} , "id" : 5 , "jsonrpc":"2.0" } "#,
            r#"{"jsonrpc":"2.0","i\u0064":5,"result":"\\","x":{"id":{"id":1}}}"#,
            r#"{"jsonrpc":"2.0","id":5,"result":{},"error":null}"#,
        ] {
            assert_eq!(Outline::of(line.as_bytes()).kind(), answer, "{line}");
        }
        for (line, kind) in [
            (
                r#"{"params":{"method":"x"},"method":"y","jsonrpc":"2.0","id":"q\u0041"}"#,
                Kind::Request(RequestId::String("qA".into())),
            ),
            (
                r#"{"params":{"id":1},"method":"y","jsonrpc":"2.0"}"#,
                Kind::Notification,
            ),
        ] {
            assert_eq!(Outline::of(line.as_bytes()).kind(), Some(kind), "{line}");
        }
    }

    #[test]
    fn what_is_no_message_has_no_outline() {
        let long = format!(
            r#"{{"jsonrpc":"2.0","id":"{}","result":1}}"#,
            "x".repeat(MAX_PART)
        );
        for line in [
            "",
            "Welcome!",
            "[1]",
            r#"{"level":"error","id":5,"error":"a line of a log"}"#,
            r#"{"jsonrpc":"2.0","id":5}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":5,"result":{"#,
            r#"{"jsonrpc":"2.0","id":5,"result":"}"#,
            r#"{"jsonrpc":"2.0","id":5,"result":{}} x"#,
            r#"{"jsonrpc":"2.0","id":5,"id":5,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":5,"id":{},"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":[5],"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":5,"method":"x","result":{}}"#,
            &long,
        ] {
            assert_eq!(Outline::of(line.as_bytes()).kind(), None, "{line}");
        }
    }

    #[test]
    fn a_tolerant_look_finds_the_ids_of_what_is_no_message() {
        let request = |id: &str| Kind::Request(RequestId::parse(id.as_bytes()).unwrap());
        let deep = format!(
            r#"{{"method":"m","params":{}{},"jsonrpc":"2.0","id":9}}"#,
            "[".repeat(2000),
            "]".repeat(2000)
        );
        for (line, kinds) in [
            (
                &br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":NaN}}"#[..],
                vec![request("1")],
            ),
            (
                b"{\"id\":2,\"method\":\"m\",\"params\":\"\xe9\"}",
                vec![request("2")],
            ),
            (
                b"\xef\xbb\xbf{\"id\":3,\"method\":\"m\"}",
                vec![request("3")],
            ),
            (
                br#"{"id":"a","method":"m"}{"id":5e0,"method":"m"}"#,
                vec![request("\"a\""), request("5e0")],
            ),
            (
                br#"{"id":6,"method":"m","params":{"a":[1"#,
                vec![request("6")],
            ),
            (br#"{"method":"m","id":7"#, vec![request("7")]),
            (
                br#"{"method":"m","params":{"id":8}} x"#,
                vec![Kind::Notification],
            ),
            (
                br#"{"id":8,"result":NaN}"#,
                vec![Kind::Response(Some(number(8)))],
            ),
            (deep.as_bytes(), vec![request("9")]),
            (br#"[{"id":1,"method":"m"}]"#, vec![]),
            (br#"{"id":1,"id":2,"method":"m"}"#, vec![]),
            (br#"{"id":{"id":1},"method":"m"}"#, vec![]),
            (b"GET / HTTP/1.1", vec![]),
        ] {
            let text = String::from_utf8_lossy(line);
            assert_eq!(Outline::of(line).kinds(), kinds, "{text}");
        }
        let many = r#"{"id":1,"method":"m"}"#.repeat(1000);
        assert_eq!(Outline::of(many.as_bytes()).kinds().len(), MAX_SEEN);
    }

    #[test]
    fn a_long_line_needs_no_memory() {
        let mut outline = Outline::default();
        outline.see(br#"{"result":{"blob":""#);
        for _ in 0..1000 {
            outline.see(&[b'x'; 4096]);
        }
        outline.see(br#""},"#);
        outline.see(&[&b"\""[..], &[b'k'; 100_000], b"\":1,"].concat());
        outline.see(br#""jsonrpc":"2.0","id":5}"#);
        assert_eq!(outline.kind(), Some(Kind::Response(Some(number(5)))));
        assert!(outline.part.capacity() <= 2 * MAX_PART);
    }

    fn json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            r#"[a-z"\\{}\[\],:\n\u{2028}]{0,12}"#.prop_map(Into::into),
        ];
        leaf.prop_recursive(depth, 24, 4, |inner| {
            let name = prop_oneof![
                Just("id".to_owned()),
                Just("method".to_owned()),
                r#"["\\a]{0,3}"#
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec((name, inner), 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// A message for the gate has the same kind here, however it is split into pieces
        /// and whatever the order of its members.
        #[test]
        fn agrees_with_the_gate(
            payload in json(4),
            id in prop_oneof![
                Just(None),
                (-9_007_199_254_740_991i64..9_007_199_254_740_991).prop_map(|id| Some(id.into())),
                r#"["\\{},:a-z]{0,8}"#.prop_map(|id| Some(serde_json::Value::from(id))),
            ],
            kind in 0usize..3,
            order in Just([0, 1, 2, 3]).prop_shuffle(),
            cuts in prop::collection::vec(1usize..20, 0..20),
        ) {
            let payload = serde_json::json!({"payload": payload});
            let members = [
                Some(r#""jsonrpc":"2.0""#.to_owned()),
                id.map(|id| format!("\"id\":{id}")),
                (kind == 0).then(|| r#""method":"x""#.to_owned()),
                Some(format!("\"{}\":{payload}", ["params", "result", "error"][kind])),
            ];
            let members: Vec<String> = order.iter().filter_map(|at| members[*at].clone()).collect();
            let line = format!("{{{}}}", members.join(","));
            let mut outline = Outline::default();
            let mut rest = line.as_bytes();
            for cut in cuts {
                let (piece, tail) = rest.split_at(cut.min(rest.len()));
                outline.see(piece);
                rest = tail;
            }
            outline.see(rest);
            let message = Message::read(line.clone().into(), MAX_CHILD_DEPTH);
            match message.as_ref().map(Message::kind) {
                Ok(Kind::Response(None)) => prop_assert_eq!(outline.kind(), None),
                Ok(kind) => prop_assert_eq!(outline.kind(), Some(kind.clone()), "{}", line),
                // A result without an id.
                Err(_) => prop_assert_eq!(outline.kind(), None, "{}", line),
            }
        }

        /// Whatever the bytes, no more is kept of them than of messages.
        #[test]
        fn any_bytes_do_no_harm(bytes in r#"[{}\[\]",:\\\x00aid3 ]{0,200}"#) {
            let outline = Outline::of(bytes.as_bytes());
            let whole = outline.kind();
            let kinds = outline.kinds();
            prop_assert!(kinds.len() <= MAX_SEEN);
            prop_assert!(whole.is_none_or(|kind| kinds == [kind]));
        }
    }
}
