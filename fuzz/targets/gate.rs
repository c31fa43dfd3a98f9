//! One line through the gate: what passes is one line, means the same to another reader, and passes
//! again unchanged.

use bytes::Bytes;
use mcp_remote::jsonrpc::{Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, MAX_SEEN, Message, recover};
use mcp_remote::permissions::Rights;
use mcp_remote::router::{IsolatedRouter, LineLimits, Output};
use mcp_remote::utils::chunks::Chunks;
use serde_json::Value;

fn written(message: Message) -> Option<Vec<u8>> {
    written_within(message, usize::MAX)
}

fn written_within(message: Message, to_child: usize) -> Option<Vec<u8>> {
    let permit = Rights::everything().decide(message).ok()?;
    let limits = LineLimits {
        to_child,
        ..LineLimits::default()
    };
    let (mut router, mut out) = (IsolatedRouter::default(), Output::new(limits));
    if router.peer_message(&permit, &mut out).is_err() {
        assert!(out.to_child.iter().all(Chunks::is_empty));
    }
    let [line, other] = out.to_child;
    assert!(other.is_empty());
    (!line.is_empty()).then(|| line.into_pieces().concat())
}

pub fn run(data: &[u8]) {
    let line = Bytes::copy_from_slice(data);
    let as_child = Message::read(line.clone(), MAX_CHILD_DEPTH);
    let message = match Message::read(line, MAX_PEER_DEPTH) {
        Ok(message) => message,
        Err(refusal) => {
            for answer in refusal.replies() {
                assert!(serde_json::from_slice::<Value>(&answer).is_ok());
                assert_eq!(
                    answer.iter().position(|byte| *byte == b'\n'),
                    Some(answer.len() - 1)
                );
            }
            let recovered = recover(&Bytes::copy_from_slice(data));
            assert!(recovered.messages.len() <= MAX_SEEN);
            return;
        }
    };
    assert_eq!(
        as_child.map(|message| message.kind().clone()).as_ref(),
        Ok(message.kind())
    );
    let (kind, method) = (message.kind().clone(), message.method().to_owned());
    let Some(out) = written(message.clone()) else {
        return;
    };
    let (end, body) = out.split_last().expect("not empty");
    assert_eq!(
        written_within(message.clone(), body.len()).as_ref(),
        Some(&out)
    );
    assert_eq!(written_within(message, body.len() - 1), None);
    assert_eq!(*end, b'\n');
    assert!(body.iter().all(|byte| *byte >= 0x20));
    let text = std::str::from_utf8(body).expect("UTF-8");
    assert!(!text.contains(['\u{85}', '\u{2028}', '\u{2029}']));
    let again = Message::read(Bytes::copy_from_slice(body), MAX_PEER_DEPTH).expect(text);
    assert_eq!((again.kind(), again.method()), (&kind, &*method));
    assert_eq!(written(again).as_deref(), Some(&*out));
    // It rejects lone surrogates and numbers beyond f64, which others accept.
    let Ok(Value::Object(seen)) = serde_json::from_str(text) else {
        return;
    };
    assert_eq!(seen["jsonrpc"], "2.0");
    assert_eq!(
        seen.get("method")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        method
    );
    if let Kind::Request(id) = kind {
        let mut text = Vec::new();
        id.write(&mut text);
        assert_eq!(
            seen["id"].to_string(),
            serde_json::from_slice::<Value>(&text)
                .expect("an id")
                .to_string()
        );
    } else {
        assert!(!seen.contains_key("id") || method.is_empty());
    }
    if let Ok(Value::Object(before)) = serde_json::from_slice::<Value>(data) {
        for name in ["method", "params", "result", "error"] {
            assert_eq!(before.get(name), seen.get(name));
        }
    }
}
