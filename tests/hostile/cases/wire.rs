//! Segments of a TCP stream and WebSocket frames.

use super::{Case, EVIL, Input, LIST, NO_MESSAGE, Table};
use crate::corpus::LIMIT;

/// TCP, split where it should not matter.
pub(super) fn segments(table: &mut Table) {
    let bytes = |texts: &[&str]| {
        let owned = texts.iter().map(|text| text.as_bytes().to_vec());
        Input::Segments(owned.collect())
    };
    let (half, other_half) = EVIL.split_at(40);
    table.add("halves", bytes(&[half, other_half, "\n"]), "66 -32601");
    table.add(
        "halves around a whole",
        bytes(&[half, "\n", LIST, "\n", other_half, "\n"]),
        "7 ok, 66 -32700, null -32700",
    );
    table.add(
        "a harmless head, a forbidden tail",
        bytes(&[&LIST[..LIST.len() - 1], ",\"method\":\"tools/call\"}\n"]),
        "7 -32600",
    );
    let each: Vec<Vec<u8>> = EVIL.bytes().chain(*b"\n").map(|byte| vec![byte]).collect();
    table.add("byte by byte", Input::Segments(each), "66 -32601");
    table.0.push(
        Case {
            name: "half a line, then gone".into(),
            role: "lister",
            may: &[],
            input: bytes(&[half]),
            answers: String::new(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        }
        .leaves(),
    );
    table.0.push(
        Case {
            name: "a whole line without its end, then gone".into(),
            role: "lister",
            may: &[],
            input: bytes(&[EVIL]),
            answers: String::new(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        }
        .leaves(),
    );
    let long = "x".repeat(LIMIT * 2);
    table.0.push(
        Case {
            name: "no line end at all".into(),
            role: "lister",
            may: &[],
            input: bytes(&[&long]),
            answers: String::new(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        }
        .leaves(),
    );
}

/// WebSocket, with unusual framing.
pub(super) fn frames(table: &mut Table) {
    const TEXT: u8 = 0x81;
    const BINARY: u8 = 0x82;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    let frames = |frames: &[(u8, &str)]| {
        Input::Frames(
            frames
                .iter()
                .map(|(head, text)| (*head, text.as_bytes().to_vec()))
                .collect(),
        )
    };
    let (half, other_half) = EVIL.split_at(40);
    for (name, input, answers) in [
        (
            "two messages in a frame",
            frames(&[(TEXT, &format!("{LIST}\n{EVIL}"))]),
            "7 ok, 66 -32601",
        ),
        (
            "halves in two frames",
            frames(&[(TEXT, half), (TEXT, other_half)]),
            "66 -32601",
        ),
        (
            "halves, one of them binary",
            frames(&[(BINARY, half), (TEXT, other_half)]),
            "66 -32601",
        ),
        (
            "halves around a ping",
            frames(&[(TEXT, half), (PING, EVIL), (TEXT, other_half)]),
            "66 -32601",
        ),
        ("a binary frame", frames(&[(BINARY, EVIL)]), "66 -32601"),
        (
            "messages in control frames",
            frames(&[(PING, &EVIL[..100]), (PONG, LIST)]),
            "",
        ),
        (
            "an empty frame",
            frames(&[(TEXT, ""), (BINARY, ""), (TEXT, EVIL)]),
            "66 -32601",
        ),
        (
            "fragments",
            frames(&[(1, half), (0, ""), (PING, "x"), (0x80, other_half)]),
            "66 -32601",
        ),
        (
            "the tail belongs to no frame",
            frames(&[
                (TEXT, &format!("{LIST}\n{half}")),
                (TEXT, &format!("{other_half}\n")),
            ]),
            "7 ok, 66 -32601",
        ),
        (
            "a message whose end looks nearer",
            frames(&[
                (TEXT, r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#),
                (TEXT, r#","method":"tools/call"}"#),
                (TEXT, "\n"),
            ]),
            "7 ok, null -32700",
        ),
        (
            "brackets in strings",
            frames(&[
                (TEXT, r#"{"jsonrpc":"2.0","id":5,"x":"}","y":"\"}","#),
                (TEXT, r#""method":"tools/call"}"#),
            ]),
            "5 -32601",
        ),
    ] {
        table.add(name, input, answers);
    }
    let each: Vec<(u8, Vec<u8>)> = EVIL.bytes().map(|byte| (TEXT, vec![byte])).collect();
    table.add("byte by byte in frames", Input::Frames(each), "66 -32601");
    let mut each: Vec<(u8, Vec<u8>)> = EVIL.bytes().map(|byte| (0, vec![byte])).collect();
    each[0].0 = 1;
    each.push((0x80, Vec::new()));
    table.add(
        "byte by byte in fragments",
        Input::Frames(each),
        "66 -32601",
    );
    for (name, input) in [
        ("a continuation of nothing", frames(&[(0x80, EVIL)])),
        (
            "a message inside another's fragments",
            frames(&[(1, half), (TEXT, EVIL)]),
        ),
        ("a reserved opcode", frames(&[(0x83, EVIL)])),
        (
            "a reserved bit, as for compression",
            frames(&[(0xc1, EVIL)]),
        ),
        ("a fragmented ping", frames(&[(0x09, "x")])),
        ("a ping too long", frames(&[(PING, &"x".repeat(126))])),
        (
            "a close in the middle",
            frames(&[(1, half), (0x88, ""), (0x80, other_half)]),
        ),
        (
            "a message behind the close",
            frames(&[(0x88, ""), (TEXT, EVIL)]),
        ),
    ] {
        table.add(name, input, "").closes = true;
    }
    let broken = Input::Frames(vec![(
        TEXT,
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(),
    )]);
    table
        .add("a text frame that is not UTF-8", broken, "")
        .closes = true;
    let over = "x".repeat(LIMIT + 2);
    table.add("a frame too long", frames(&[(TEXT, &over)]), NO_MESSAGE);
    let half = "x".repeat(LIMIT / 2 + 10);
    table.add(
        "fragments too long together",
        frames(&[(1, &half), (0, &half), (0x80, &half)]),
        NO_MESSAGE,
    );
    let open = format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{half}");
    let rest = format!("{half}\",\"id\":66,\"method\":\"tools/call\"}}");
    table.add(
        "a line too long over frames",
        frames(&[(TEXT, &open), (TEXT, &rest), (TEXT, LIST)]),
        "66 -32600, 7 ok",
    );
    table
        .add(
            "a line too long over frames, and no end of it",
            frames(&[(TEXT, &open), (TEXT, &half), (TEXT, EVIL)]),
            "",
        )
        .leaves = true;
}
