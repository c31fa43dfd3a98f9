//! What stands in a line of the audit log. No I/O, no clock.

use crate::account::Address;
use crate::auth::Identity;
use crate::jsonrpc::{Kind, Message, Refusal, RequestId};
use crate::mcp::{ItemKind, Method, Names};
use crate::permissions::Denial;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

/// The longest text of somebody else's that is written, in bytes before escaping; what is cut ends
/// in `…`.
const MAX_TEXT: usize = 256;

/// The most roles of one token that are written.
const MAX_ROLES: usize = 32;

/// Something that is on record.
pub(super) enum Event<'a> {
    /// Somebody has connected.
    Connect,
    /// A peer has shown a token that is good.
    Authenticate,
    /// A peer does not come in, or something it sent is not taken up.
    Refuse {
        reason: &'a str,
        about: Option<About<'a>>,
    },
    /// The policy lets a message pass.
    Allow { about: About<'a>, rule: &'a str },
    /// The policy forbids a message.
    Block { about: About<'a>, rule: &'a str },
    /// So many more messages of a peer are not taken up.
    RefuseMore { reason: &'a str, count: u64 },
    /// The policy forbids so many more messages of a peer.
    BlockMore { count: u64 },
    /// A connection has ended.
    Disconnect { reason: &'a str },
    /// Files have been read again; these are broken, and stay as they were.
    Reload { broken: &'a [&'a str] },
    /// So many events could not be written in this place.
    Lost { count: u64 },
}

impl Event<'_> {
    /// Appends this event as one line. `who` is whose connection it is about.
    pub(super) fn write(&self, time: SystemTime, who: &Who, out: &mut Vec<u8>) {
        let (name, verdict) = match self {
            Self::Connect => ("connect", None),
            Self::Authenticate => ("authenticate", Some("accepted")),
            Self::Refuse { .. } | Self::RefuseMore { .. } => ("refuse", Some("refused")),
            Self::Allow { .. } => ("allow", Some("allowed")),
            Self::Block { .. } | Self::BlockMore { .. } => ("block", Some("blocked")),
            Self::Disconnect { .. } => ("disconnect", None),
            Self::Reload { broken: [] } => ("reload", Some("complete")),
            Self::Reload { .. } => ("reload", Some("incomplete")),
            Self::Lost { .. } => ("lost", None),
        };
        out.extend(b"{\"time\":\"");
        show(humantime::format_rfc3339_millis(time), out);
        out.extend(b"\",\"event\":\"");
        out.extend(name.as_bytes());
        out.push(b'"');
        out.extend(&who.members);
        match self {
            Self::Connect | Self::Authenticate => {}
            Self::Refuse { reason, about } => {
                if let Some(about) = about {
                    about.write(out);
                }
                text("reason", reason, out);
            }
            Self::Allow { about, rule } | Self::Block { about, rule } => {
                about.write(out);
                text("rule", rule, out);
            }
            Self::RefuseMore { reason, count } => {
                number("count", count, out);
                text("reason", reason, out);
            }
            Self::BlockMore { count } | Self::Lost { count } => number("count", count, out),
            Self::Disconnect { reason } => text("reason", reason, out),
            Self::Reload { broken: [] } => {}
            Self::Reload { broken } => list("broken", broken.iter().copied(), out),
        }
        if let Some(verdict) = verdict {
            text("verdict", verdict, out);
        }
        out.extend(b"}\n");
    }
}

/// Whose connection it is: the members that all its lines have. What is not known yet is missing.
#[derive(Clone, Default)]
pub(super) struct Who {
    members: Vec<u8>,
}

impl Who {
    pub(super) fn new(connection: u64, peer: Address) -> Self {
        let mut members = Vec::new();
        number("connection", connection, &mut members);
        text("peer", &peer.to_string(), &mut members);
        Self { members }
    }

    pub(super) fn add_client(&mut self, client: Address) {
        text("client", &client.to_string(), &mut self.members);
    }

    pub(super) fn add_certificate(&mut self, subject: &str) {
        text("certificate", subject, &mut self.members);
    }

    pub(super) fn add_identity(&mut self, identity: &Identity) {
        if let Some(user) = &identity.user {
            text("user", user, &mut self.members);
        }
        let roles = identity.roles.iter().map(String::as_str);
        list("roles", roles, &mut self.members);
        if let Some(id) = &identity.id {
            text("jti", id, &mut self.members);
        }
    }

    pub(super) fn add_session(&mut self, key: &str) {
        text("session", key, &mut self.members);
    }
}

/// What is said of a message: nothing of its content but the name that rules are about.
pub(super) struct About<'a> {
    kind: Option<&'static str>,
    method: &'a str,
    item: Option<(ItemKind, Cow<'a, str>)>,
    id: Option<&'a RequestId>,
}

impl<'a> About<'a> {
    pub(super) fn message(message: &'a Message) -> Self {
        let kind = match message.kind() {
            Kind::Request(_) => "request",
            Kind::Notification => "notification",
            Kind::Response(_) => "answer",
        };
        let item = match message.mcp_method().map(Method::names) {
            Some(Names::Item(kind, field)) => message.text(field).map(|name| (kind, name)),
            _ => None,
        };
        Self {
            kind: Some(kind),
            method: message.method(),
            item,
            id: message.id(),
        }
    }

    pub(super) fn denial(denial: &'a Denial) -> Self {
        let is_request = denial.id.is_some();
        let item = denial.item.as_ref();
        Self {
            kind: Some(if is_request {
                "request"
            } else {
                "notification"
            }),
            method: &denial.method,
            item: item.map(|item| (item.kind, Cow::Borrowed(&*item.name))),
            id: denial.id.as_ref(),
        }
    }

    /// What is no message may still have an id.
    pub(super) fn refusal(refusal: &'a Refusal) -> Self {
        Self {
            kind: None,
            method: "",
            item: None,
            id: refusal.id(),
        }
    }

    /// The tool, prompt or resource that the message names.
    pub(super) fn item(&self) -> Option<(ItemKind, &str)> {
        self.item.as_ref().map(|(kind, name)| (*kind, &**name))
    }

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(kind) = self.kind {
            text("kind", kind, out);
        }
        if !self.method.is_empty() {
            text("method", self.method, out);
        }
        match &self.item {
            Some((ItemKind::Tool, name)) => text("tool", name, out),
            Some((ItemKind::Prompt, name)) => text("prompt", name, out),
            Some((ItemKind::Resource, uri)) => text("resource", &without_credentials(uri), out),
            None => {}
        }
        match self.id {
            Some(RequestId::Number(id)) => number("id", id, out),
            Some(RequestId::OtherNumber(id)) => number("id", id, out),
            Some(RequestId::String(id)) => text("id", id, out),
            None => {}
        }
    }
}

/// A URI without what may be secret: whoever stands before an `@` where servers look for a user,
/// what follows `?` or `#`, and the content of `data:`. Holds for spellings that no rule lets pass,
/// too.
fn without_credentials(uri: &str) -> String {
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let (plain, hidden) = uri.split_at(end);
    let (scheme, rest) = plain.split_once(':').unwrap_or(("", plain));
    if scheme.trim().eq_ignore_ascii_case("data") {
        return "data:…".to_owned();
    }
    let place = rest.trim_start_matches(['/', '\\']);
    let authority = place.split(['/', '\\']).next().unwrap_or_default();
    let tail = if hidden.is_empty() { "" } else { "…" };
    match authority.rfind('@') {
        Some(at) => {
            let begin = plain.len() - place.len();
            format!("{}…{}{tail}", &plain[..begin], &place[at..])
        }
        None => format!("{plain}{tail}"),
    }
}

fn name(name: &str, out: &mut Vec<u8>) {
    out.extend(b",\"");
    out.extend(name.as_bytes());
    out.extend(b"\":");
}

fn number(key: &str, number: impl Display, out: &mut Vec<u8>) {
    name(key, out);
    show(number, out);
}

fn text(key: &str, text: &str, out: &mut Vec<u8>) {
    name(key, out);
    string(text, out);
}

fn list<'a>(key: &str, texts: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    name(key, out);
    let mut lead = b'[';
    for (at, text) in texts.enumerate() {
        out.push(lead);
        lead = b',';
        if at == MAX_ROLES {
            string("…", out);
            break;
        }
        string(text, out);
    }
    if lead == b'[' {
        out.push(lead);
    }
    out.push(b']');
}

/// Appends a JSON string of bounded length. Beyond what JSON demands, everything is escaped that
/// would make a terminal or an editor show another line than there is: control characters, and
/// those that change direction or take no room.
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut written = 0;
    for character in text.chars() {
        written += character.len_utf8();
        if written > MAX_TEXT {
            out.extend("…".as_bytes());
            break;
        }
        match character {
            '"' | '\\' => out.extend([b'\\', character as u8]),
            ' '..='~' => out.push(character as u8),
            '\0'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => show(format_args!("\\u{:04x}", u32::from(character)), out),
            _ => out.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

fn show(what: impl Display, out: &mut Vec<u8>) {
    // A Vec takes everything.
    let _never_fails = write!(out, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::{Policy, Rights};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    /// 2026-11-23, a quarter of a second past noon.
    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_435_200_250)
    }

    fn line(event: &Event<'_>, who: &Who) -> String {
        let mut out = Vec::new();
        event.write(noon(), who, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn message(text: &str) -> Message {
        Message::read(bytes::Bytes::copy_from_slice(text.as_bytes()), 128).unwrap()
    }

    fn about(text: &str) -> Value {
        let message = message(text);
        let about = About::message(&message);
        let written = line(&Event::Allow { about, rule: "r" }, &Who::default());
        let mut value: Value = serde_json::from_str(&written).unwrap();
        let members = value.as_object_mut().unwrap();
        for name in ["time", "event", "rule", "verdict"] {
            assert!(members.remove(name).is_some(), "{written}");
        }
        value
    }

    fn alice() -> Who {
        let mut who = Who::new(7, Address::Network("192.0.2.1:5000".parse().unwrap()));
        who.add_certificate("CN=laptop");
        who.add_identity(&Identity {
            user: Some("alice".to_owned()),
            roles: vec!["a".to_owned(), "b".to_owned()],
            id: Some("1f".to_owned()),
            ..Identity::default()
        });
        who.add_session("0123abcd");
        who
    }

    #[test]
    fn lines_are_as_documented() {
        let start = r#"{"time":"2026-11-23T12:00:00.250Z","event":"#;
        let who = r#","connection":7,"peer":"192.0.2.1:5000","certificate":"CN=laptop","user":"alice","roles":["a","b"],"jti":"1f","session":"0123abcd""#;
        let message = message(
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm","arguments":{"path":"x"}}}"#,
        );
        let refusal = Refusal {
            code: crate::jsonrpc::Code::InvalidRequest,
            about: vec![Kind::Request(RequestId::String("x".into()))],
            reason: "batches are not supported",
            limit: None,
        };
        let policy = r#"{"permissions":{"a":{"allowedMethods":["*"],"blockedTools":["rm"]}}}"#;
        let rights = Policy::parse(policy).unwrap().rights(&["a".to_owned()]);
        let denial = rights.decide(message.clone()).unwrap_err();
        for (event, rest) in [
            (Event::Connect, format!(r#""connect"{who}"#)),
            (
                Event::Authenticate,
                format!(r#""authenticate"{who},"verdict":"accepted""#),
            ),
            (
                Event::Refuse {
                    reason: "no token in time",
                    about: None,
                },
                format!(r#""refuse"{who},"reason":"no token in time","verdict":"refused""#),
            ),
            (
                Event::Refuse {
                    reason: refusal.reason,
                    about: Some(About::refusal(&refusal)),
                },
                format!(
                    r#""refuse"{who},"id":"x","reason":"batches are not supported","verdict":"refused""#
                ),
            ),
            (
                Event::Allow {
                    about: About::message(&message),
                    rule: "role 'a'",
                },
                format!(
                    r#""allow"{who},"kind":"request","method":"tools/call","tool":"rm","id":1,"rule":"role 'a'","verdict":"allowed""#
                ),
            ),
            (
                Event::Block {
                    about: About::denial(&denial),
                    rule: &denial.reason(),
                },
                format!(
                    r#""block"{who},"kind":"request","method":"tools/call","tool":"rm","id":1,"rule":"role 'a', blockedTools 'rm' (line 1)","verdict":"blocked""#
                ),
            ),
            (
                Event::RefuseMore {
                    reason: "too many",
                    count: 7,
                },
                format!(r#""refuse"{who},"count":7,"reason":"too many","verdict":"refused""#),
            ),
            (
                Event::BlockMore { count: 9 },
                format!(r#""block"{who},"count":9,"verdict":"blocked""#),
            ),
            (
                Event::Disconnect {
                    reason: "the peer has left",
                },
                format!(r#""disconnect"{who},"reason":"the peer has left""#),
            ),
        ] {
            assert_eq!(line(&event, &alice()), format!("{start}{rest}}}\n"));
        }
        let nobody = Who::default();
        for (event, rest) in [
            (
                Event::Reload { broken: &[] },
                r#""reload","verdict":"complete""#,
            ),
            (
                Event::Reload {
                    broken: &["policy", "tls"],
                },
                r#""reload","broken":["policy","tls"],"verdict":"incomplete""#,
            ),
            (Event::Lost { count: 3 }, r#""lost","count":3"#),
        ] {
            assert_eq!(line(&event, &nobody), format!("{start}{rest}}}\n"));
        }
    }

    #[test]
    fn a_message_is_told_by_its_name_only() {
        for (text, told) in [
            (
                r#"{"jsonrpc":"2.0","id":"a","method":"prompts/get","params":{"name":"p","arguments":{"k":"v"}}}"#,
                json!({"kind": "request", "method": "prompts/get", "prompt": "p", "id": "a"}),
            ),
            (
                r#"{"jsonrpc":"2.0","id":2,"method":"resources/read","params":{"uri":"db://u:pw@h/t?key=1"}}"#,
                json!({"kind": "request", "method": "resources/read", "resource": "db://…@h/t…", "id": 2}),
            ),
            (
                r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"name":"n"}}"#,
                json!({"kind": "notification", "method": "notifications/x"}),
            ),
            (
                r#"{"jsonrpc":"2.0","id":-3,"result":{"name":"n"}}"#,
                json!({"kind": "answer", "id": -3}),
            ),
            (
                r#"{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":{"n":1}}}"#,
                json!({"kind": "request", "method": "tools/call", "id": 4}),
            ),
        ] {
            assert_eq!(about(text), told);
        }
    }

    #[test]
    fn uris_lose_what_may_be_secret() {
        for (uri, written) in [
            ("file:///a/b.txt", "file:///a/b.txt"),
            ("note:///{name}", "note:///{name}"),
            ("file:///home/a@b", "file:///home/a@b"),
            ("urn:isbn:0451450523", "urn:isbn:0451450523"),
            ("db://user:pw@host/x", "db://…@host/x"),
            ("db://us@er:p@host/x", "db://…@host/x"),
            ("http:\\\\user:pw@host\\x", "http:\\\\…@host\\x"),
            ("http:user:pw@host", "http:…@host"),
            ("//user:pw@host/x", "//user:…@host/x"),
            ("user:pw@host", "user:…@host"),
            ("https://host/x?token=1", "https://host/x…"),
            ("https://host/x#token", "https://host/x…"),
            ("https://u:p@host?token=1", "https://…@host…"),
            ("data:text/plain,secret", "data:…"),
            (" DATA:text/plain,secret", "data:…"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(uri), written, "{uri}");
        }
    }

    #[test]
    fn texts_are_bounded_and_cannot_pretend() {
        let string = |text: &str| {
            let mut out = Vec::new();
            super::string(text, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(string(&"x".repeat(256)), format!("\"{}\"", "x".repeat(256)));
        assert_eq!(
            string(&"é".repeat(200)),
            format!("\"{}…\"", "é".repeat(128))
        );
        assert_eq!(
            string("a\"b\\c\n\r\u{1b}[2J\u{9b}\u{7f}\u{2028}\u{202e}ß"),
            r#""a\"b\\c\u000a\u000d\u001b[2J\u009b\u007f\u2028\u202eß""#
        );
        let mut out = Vec::new();
        list("roles", ["r"; 40].into_iter(), &mut out);
        let roles: Value = serde_json::from_slice(&out[9..]).unwrap();
        assert_eq!(roles.as_array().unwrap().len(), MAX_ROLES + 1);
        assert_eq!(roles[MAX_ROLES], "…");
    }

    proptest! {
        /// Whatever a peer or a token calls itself, a line is one line of JSON that says so, as far as
        /// it is short.
        #[test]
        fn every_line_is_one_line_of_json(user in any::<String>(), role in any::<String>(), tool in any::<String>(), id in any::<String>()) {
            let mut who = Who::default();
            who.add_identity(&Identity { user: Some(user.clone()), roles: vec![role.clone()], ..Identity::default() });
            let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool}});
            let call = message(&call.to_string());
            let rights = Rights::everything();
            let rule = rights.judge_method(false, call.method()).unwrap().to_string();
            let written = line(&Event::Allow { about: About::message(&call), rule: &rule }, &who);
            let (text, end) = written.split_at(written.len() - 1);
            prop_assert_eq!(end, "\n");
            let ends_a_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
            prop_assert!(!text.contains(ends_a_line));
            let read: Value = serde_json::from_str(text).unwrap();
            for (key, is) in [("user", &user), ("tool", &tool), ("id", &id)] {
                if is.len() <= MAX_TEXT {
                    prop_assert_eq!(read[key].as_str(), Some(is.as_str()));
                }
            }
            if role.len() <= MAX_TEXT {
                prop_assert_eq!(read["roles"][0].as_str(), Some(role.as_str()));
            }
        }
    }
}
