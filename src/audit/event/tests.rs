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
        (
            Event::Withhold {
                tool: "x",
                reason: "changed",
            },
            r#""withhold","tool":"x","reason":"changed","verdict":"blocked""#,
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
    fn written(value: impl Serialize) -> String {
        let mut out = Vec::new();
        let mut writer = Serializer::with_formatter(&mut out, Visible);
        value.serialize(&mut writer).unwrap();
        String::from_utf8(out).unwrap()
    }
    let string = |text: &str| written(Text(text));
    assert_eq!(string(&"x".repeat(256)), format!("\"{}\"", "x".repeat(256)));
    assert_eq!(
        string(&"é".repeat(200)),
        format!("\"{}…\"", "é".repeat(128))
    );
    assert_eq!(
        string("a\"b\\c\n\r\u{1b}[2J\u{9b}\u{7f}\u{2028}\u{202e}ß"),
        r#""a\"b\\c\n\r\u001b[2J\u009b\u007f\u2028\u202eß""#
    );
    let roles: Value = serde_json::from_str(&written(List(&["r"; 40]))).unwrap();
    assert_eq!(roles.as_array().unwrap().len(), MAX_LISTED + 1);
    assert_eq!(roles[MAX_LISTED], "…");
}

proptest! {
    /// Whatever name a peer or a token gives itself, a line is one line of JSON that contains it, as far as
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
