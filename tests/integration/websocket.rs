//! Frames over WebSocket, byte for byte.

use crate::common::{Setup, TestClient, TestServer, request, token_with};
use crate::wire::{BINARY, CLOSE, PING, PONG, TEXT, TestPeer};
use serde_json::json;

#[test]
fn an_answer_is_one_text_frame_with_a_newline() {
    let server = TestServer::start("ws");
    let mut peer = server.peer();
    for id in 0..3 {
        peer.send(&request(id, "x", json!({})));
    }
    for id in 0..3 {
        let (opcode, payload) = peer.next_frame().unwrap();
        let text = String::from_utf8(payload).unwrap();
        assert_eq!((opcode, text.matches('\n').count()), (TEXT, 1), "{text:?}");
        let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
        assert!(text.starts_with(&head) && text.ends_with("}\n"), "{text:?}");
    }
}

#[test]
fn a_frame_may_hold_half_a_line_or_three() {
    let server = TestServer::start("ws");
    let mut peer = server.peer();
    let one = |id: u32| request(id, "a } \" \\ {", json!({"of": ["}", "]"]}));
    for (opcode, frames, ids) in [
        (TEXT, vec![one(1)], vec![1]),
        (TEXT, vec![one(1) + "\n"], vec![1]),
        (TEXT, vec![one(1) + "\r\n"], vec![1]),
        (BINARY, vec![one(1)], vec![1]),
        (
            TEXT,
            vec![one(1) + "\n" + &one(2) + "\n" + &one(3) + "\n"],
            vec![1, 2, 3],
        ),
        (
            TEXT,
            vec![one(1) + "\n" + &one(2) + "\n" + &one(3)],
            vec![1, 2, 3],
        ),
        (
            TEXT,
            vec![one(1)[..20].to_owned(), one(1)[20..].to_owned()],
            vec![1],
        ),
        (
            TEXT,
            one(1).split_inclusive('"').map(str::to_owned).collect(),
            vec![1],
        ),
        (BINARY, one(1).chars().map(String::from).collect(), vec![1]),
        (
            TEXT,
            vec![
                one(1) + "\n" + &one(2)[..9],
                one(2)[9..].to_owned() + "\n" + &one(3),
            ],
            vec![1, 2, 3],
        ),
        (
            TEXT,
            vec![String::new(), "\n".to_owned(), " ".to_owned(), one(1)],
            vec![1],
        ),
    ] {
        for frame in &frames {
            peer.frame(opcode, frame.as_bytes());
        }
        for id in ids {
            let answer = peer.next();
            assert_eq!(
                (&answer["id"], &answer["result"]["method"]),
                (&json!(id), &json!("a } \" \\ {")),
                "{frames:?}"
            );
        }
    }
}

/// A character may be split by binary frames; fragments make one message.
#[test]
fn bytes_and_fragments_are_put_together() {
    let server = TestServer::start("ws");
    let mut peer = server.peer();
    let line = request(1, "x", json!({"snow": "☃"}));
    for byte in line.as_bytes() {
        peer.frame(BINARY, &[*byte]);
    }
    assert_eq!(peer.next()["result"]["params"]["snow"], "☃");
    let middle = line.find('☃').unwrap() + 1;
    peer.fragment(TEXT, &line.as_bytes()[..middle]);
    peer.frame(PING, b"in between");
    peer.fragment(0, b"");
    peer.fragment(0x80, &line.as_bytes()[middle..]);
    assert_eq!(peer.next()["result"]["params"]["snow"], "☃");
}

#[test]
fn pings_are_answered_and_a_close_is_returned() {
    let server = TestServer::start("ws");
    let mut peer = server.peer();
    peer.frame(PING, b"are you there");
    assert_eq!(
        peer.next_any_frame(),
        Some((PONG, b"are you there".to_vec()))
    );
    peer.frame(CLOSE, &1000u16.to_be_bytes());
    assert_eq!(
        peer.next_frame(),
        Some((CLOSE, 1000u16.to_be_bytes().to_vec()))
    );
    assert_eq!(peer.next_frame(), None);
    server.log.wait_for("disconnected");
}

/// Large frames bypass the library, whose pongs must not end up in the middle of one.
#[test]
fn pongs_stay_out_of_a_large_answer() {
    const BYTES: usize = 16 << 20;
    let server = TestServer::start("ws");
    let mut peer = server.peer();
    peer.send(&request(1, "x", json!({"bytes": BYTES})));
    let head = peer.read_raw(10);
    assert_eq!(head[..2], [0x80 | TEXT, 127]);
    let length = u64::from_be_bytes(head[2..].try_into().unwrap());
    let mut payload = Vec::new();
    let mut pings = 0u8;
    while payload.len() < length as usize {
        let part = (length as usize - payload.len()).min(256 * 1024);
        payload.extend(peer.read_raw(part));
        pings += 1;
        peer.frame(PING, &[pings]);
    }
    let answer: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(answer["result"]["blob"].as_str().unwrap().len(), BYTES);
    // One pong may answer several pings (RFC 6455, section 5.5.3).
    while peer.next_any_frame() != Some((PONG, vec![pings])) {}
}

/// Our client's own masking, in pieces of every length.
#[test]
fn large_messages_of_the_client_arrive_as_they_were() {
    let server = TestServer::start("ws");
    let mut client = TestClient::start("ws", server.port, &[], None);
    for (id, length) in [65_400, 65_536, 131_071, 1 << 20].into_iter().enumerate() {
        let text: String = "für später: ☃ \"so\" \n"
            .chars()
            .cycle()
            .take(length)
            .collect();
        let raw = serde_json::to_string(&text).unwrap();
        let answer = client.ask(id, "x", json!({"raw": raw}));
        assert!(answer["result"] == text, "{length} characters");
    }
}

#[test]
fn the_subprotocol_is_taken_where_it_is_offered() {
    let server = TestServer::start("ws");
    for (offered, taken) in [
        ("", false),
        ("mcp", true),
        ("x, mcp", true),
        ("mcpx", false),
    ] {
        let header = match offered {
            "" => String::new(),
            names => format!("Sec-WebSocket-Protocol: {names}\r\n"),
        };
        let (head, mut peer) = TestPeer::upgrade(server.port, &header);
        let head = head.to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert_eq!(
            head.contains("sec-websocket-protocol: mcp\r\n"),
            taken,
            "{head}"
        );
        assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
    }
}

#[test]
fn web_pages_come_in_where_their_origin_is_allowed() {
    let origin = |origin: &str| format!("Origin: {origin}\r\n");
    let closed = TestServer::start("ws");
    let open = Setup::new("ws")
        .args(&["--allow-origin", "https://a.example,http://localhost:3000"])
        .start();
    for (server, from, status) in [
        (&closed, "https://a.example", "403"),
        (&closed, "null", "403"),
        (&open, "https://a.example", "101"),
        (&open, "http://localhost:3000", "101"),
        (&open, "http://a.example", "403"),
        (&open, "https://a.example.evil", "403"),
        (&open, "", "403"),
    ] {
        let (head, mut peer) = TestPeer::upgrade(server.port, &origin(from));
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{from}: {head}"
        );
        if status == "101" {
            assert_eq!(peer.ask(1, "ping", json!({}))["id"], 1);
        }
    }
    closed.assert_serving();
}

/// The TypeScript tool's client: the token, then its stdin, in pieces as they come; it
/// prints frames unchanged.
#[test]
fn a_client_that_sends_what_its_stdin_gives() {
    let server = Setup::new("ws").secret().start();
    let mut peer = server.peer_with(&token_with(&[]));
    let stdin: String = (0..50)
        .map(|id| request(id, "x", json!({"pad": "{[\"".repeat(id)})) + "\n")
        .collect();
    for chunk in stdin.as_bytes().chunks(1000) {
        peer.frame(TEXT, chunk);
    }
    for id in 0..50 {
        assert_eq!(peer.next()["id"], id);
    }
}
