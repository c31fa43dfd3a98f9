//! Text that is not JSON, or that parsers read differently.

use super::{EVIL, Input, LIST, NO_MESSAGE, NOT_JSON, Table};
use crate::corpus::LIMIT;

/// Characters that end a line, or a text, for some reader.
pub(super) fn characters(table: &mut Table) {
    // A text stream in Python would take the middle for a line of its own.
    let inside = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"x\":\r{EVIL}\r}}}}"
    );
    table.line("a message between bare CRs", inside, "7 ok");
    for (name, end) in [
        ("NEL", "\u{85}"),
        ("LS", "\u{2028}"),
        ("PS", "\u{2029}"),
        ("DEL", "\u{7f}"),
    ] {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"x\":\"{end}[1]{end}{{}}{end}\"}}}}"
        );
        table.line(format!("values between {name}s in a string"), line, "7 ok");
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"{end}\":1}}}}"
        );
        table.line(format!("{name} in a key"), line, "7 ok");
        let line = format!("{{\"jsonrpc\":\"2.0\",{end}\"id\":7,\"method\":\"tools/list\"}}");
        table.line(format!("{name} as white space"), line, NOT_JSON);
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{end}\",\"method\":\"tools/call\"}}");
        table.line(
            format!("{name} in the id of a forbidden request"),
            line,
            &format!("\"{end}\" -32601"),
        );
    }
    for code in [0, 1, 8, 9, 0xb, 0xc, 0xd, 0x1b, 0x1c, 0x1e, 0x1f] {
        let control = char::from(code);
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"x\":\"{control}\"}}}}"
        );
        table.line(
            format!("control character {code} in a string"),
            line,
            NOT_JSON,
        );
        if !matches!(code, 9 | 0xd) {
            let line =
                format!("{{\"jsonrpc\":\"2.0\",{control}\"id\":7,\"method\":\"tools/list\"}}");
            table.line(
                format!("control character {code} between members"),
                line,
                NOT_JSON,
            );
        }
    }
    table.line(
        "controls as escapes",
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"x":"\u0000\u000a\r\n\u001e\u0085\u2028"}}"#,
        "7 ok",
    );
    table.line("NUL in front", format!("\0{LIST}"), NOT_JSON);
    table.line("NUL behind", format!("{LIST}\0"), NOT_JSON);
    table.line("only NULs", "\0".repeat(100), NOT_JSON);
    table.line("a BOM", format!("\u{feff}{LIST}"), NOT_JSON);
    table.line("a BOM behind", format!("{LIST}\u{feff}"), NOT_JSON);
    table.line("a BOM in a key", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"\u{feff}method\":\"tools/call\"}".to_owned(), "7 ok");
    table.line(
        "white space all over",
        " \t\r{ \t\r\"jsonrpc\" : \"2.0\" ,\r\"id\"\t:\t7\r,\"method\":\r\"tools/list\"\r}\r \t",
        "7 ok",
    );
    table.line(
        "a record separator in front",
        format!("\u{1e}{LIST}"),
        NOT_JSON,
    );
    table.line(
        "a backslash at the end of a line",
        "{\"jsonrpc\":\"2.0\",\"id\":7,\\\n\"method\":\"tools/call\"}",
        "null -32700, null -32700",
    );
}

/// Bytes that are not, or not entirely, UTF-8.
pub(super) fn encodings(table: &mut Table) {
    let with = |bytes: &[u8]| {
        let head =
            &b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{\"x\":\""[..];
        [head, bytes, b"\"}}"].concat()
    };
    for (name, bytes) in [
        ("a lone continuation byte", &b"\x80"[..]),
        ("a lead byte without its end", b"\xc3"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong slash of three bytes", b"\xe0\x80\xaf"),
        ("an overlong quote", b"\xc0\xa2"),
        ("an overlong newline", b"\xc0\x8a"),
        ("an overlong NUL", b"\xc0\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("CESU-8", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("0xff", b"\xff"),
        ("0xfe", b"\xfe"),
        ("Latin-1", b"caf\xe9"),
        ("half an LS", b"\xe2\x80"),
    ] {
        table.line(format!("not UTF-8: {name}"), with(bytes), NOT_JSON);
    }
    let key = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"meth\xc1\xafd\":\"tools/call\"}";
    table.line("not UTF-8: an overlong letter in a key", &key[..], NOT_JSON);
    table.line(
        "not UTF-8: 0xff in front",
        [b"\xff", LIST.as_bytes()].concat(),
        NOT_JSON,
    );
    table.line(
        "not UTF-8: behind",
        [LIST.as_bytes(), b"\xff"].concat(),
        NOT_JSON,
    );
    let wide = |big: bool| -> Vec<u8> {
        let unit = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        // Without a newline character, whose bytes would end the line in the middle.
        EVIL.encode_utf16().flat_map(unit).collect()
    };
    table.line("UTF-16LE", wide(false), NOT_JSON);
    table.line("UTF-16BE", wide(true), NOT_JSON);
    table.line(
        "UTF-16LE with a BOM",
        [b"\xff\xfe", &wide(false)[..]].concat(),
        NOT_JSON,
    );
    table.line(
        "UTF-7",
        "+AHs-+ACI-jsonrpc+ACI-:+ACI-2.0+ACI-+AH0-",
        NOT_JSON,
    );
    for (name, text) in [
        ("noncharacters", "\u{ffff}\u{fffe}\u{1ffff}"),
        ("emoji", "\u{1f600}"),
        ("the replacement", "\u{fffd}"),
        ("a right-to-left override", "\u{202e}"),
    ] {
        table.line(format!("{name} in a string"), with(text.as_bytes()), "7 ok");
    }
    for (name, text) in [
        ("a high surrogate", "\\ud800"),
        ("a low surrogate", "\\udc00"),
        ("a pair the wrong way round", "\\udc00\\ud800"),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{text}"}}"#);
        table.line(format!("{name} as method"), line, "7 -32600");
        let line = format!(r#"{{"jsonrpc":"2.0","id":"{text}","method":"tools/list"}}"#);
        table.line(format!("{name} as id"), line, NO_MESSAGE);
        table.line(
            format!("{name} in a payload"),
            with(text.as_bytes()),
            "7 ok",
        );
    }
    table.line("an escape of three digits", with(b"\\u123"), NOT_JSON);
    table.line("an escape of odd digits", with(b"\\u12g4"), NOT_JSON);
    table.line("an escape of a sign", with(b"\\u+123"), NOT_JSON);
    table.line("an unknown escape", with(b"\\x41"), NOT_JSON);
    table.line("an escaped quote", with(b"\\'"), NOT_JSON);
    table.line("a long escape", with(b"\\u{41}"), NOT_JSON);
    table.line("an octal escape", with(b"\\101"), NOT_JSON);
}

/// Numbers that readers disagree on.
pub(super) fn numbers(table: &mut Table) {
    let with = |number: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{"x":{number}}}}}"#)
    };
    for number in [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "+1",
        "01",
        "-01",
        "00",
        ".5",
        "1.",
        "-.5",
        "-",
        "1e",
        "1e+",
        "0x10",
        "0b1",
        "0o7",
        "1_000",
        "1,000",
        "1 000",
        "--1",
        "1f",
        "undefined",
        "True",
        "None",
        "nil",
        "1n",
    ] {
        table.line(format!("number {number}"), with(number), NOT_JSON);
    }
    for number in [
        "-0",
        "0e0",
        "1E400",
        "1e-400",
        "0.1e+1",
        "18446744073709551616",
        "-9223372036854775809",
    ] {
        table.line(format!("number {number}"), with(number), "7 ok");
    }
    let digits = "9".repeat(4000);
    table.line("a number of 4000 digits", with(&digits), "7 ok");
    // Python refuses to convert it, which leaves only its sender without a response.
    table
        .line("a number of 5000 digits", with(&"9".repeat(5000)), "7 ok")
        .not_for = &["python"];
}

/// What lenient readers accept.
pub(super) fn nearly_json(table: &mut Table) {
    for (name, line) in [
        ("a comment in front", format!("/* x */{LIST}")),
        ("a comment inside", LIST.replace(',', ",/* x */")),
        ("a comment behind", format!("{LIST}// x")),
        ("a hash comment", format!("{LIST}# x")),
        ("a trailing comma", LIST.replace('}', ",}")),
        ("a doubled comma", LIST.replace(',', ",,")),
        ("a leading comma", LIST.replace('{', "{,")),
        ("single quotes", LIST.replace('"', "'")),
        ("backquotes", LIST.replace('"', "`")),
        ("typographic quotes", LIST.replace('"', "\u{201d}")),
        (
            "keys without quotes",
            "{jsonrpc:\"2.0\",id:5,method:\"tools/call\"}".to_owned(),
        ),
        ("equals for colons", LIST.replace(':', "=")),
        ("a colon too many", LIST.replace(':', "::")),
        (
            "no colon",
            r#"{"jsonrpc" "2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        (
            "no comma",
            r#"{"jsonrpc":"2.0" "id":7 "method":"tools/call"}"#.to_owned(),
        ),
        (
            "a number as key",
            r#"{1:2,"jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        (
            "null as key",
            r#"{null:2,"jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        (
            "no end",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call""#.to_owned(),
        ),
        (
            "no beginning",
            r#""jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        ("an end too many", format!("{EVIL}}}")),
        ("the wrong end", EVIL.replace("}}}", "}}]")),
        (
            "a string without end",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call}"#.to_owned(),
        ),
        ("JSONP", format!("callback({EVIL})")),
        ("a prefix against hijacking", format!(")]}}',{EVIL}")),
        ("a header in front", format!("Content-Length: 99 {EVIL}")),
        ("an HTTP request line", "POST / HTTP/1.1".to_owned()),
        ("a TLS greeting", "\u{16}\u{3}\u{1}\u{2}".to_owned()),
        ("an event stream", format!("data: {EVIL}")),
        ("YAML", "jsonrpc: '2.0'".to_owned()),
        ("brackets only", "}{".to_owned()),
        ("a word", "help".to_owned()),
    ] {
        table.line(name, line, NOT_JSON);
    }
    for (name, line) in [
        ("true", "true"),
        ("a number", "42"),
        ("a string", "\"tools/call\""),
        ("null", "null"),
    ] {
        table.line(format!("{name} alone"), line, NO_MESSAGE);
    }
}

pub(super) fn nesting_and_size(table: &mut Table) {
    let lists = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let with = |value: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{"x":{value}}}}}"#)
    };
    table.line("nested 126 deep", with(&lists(126)), "7 ok");
    table.line("objects nested 126 deep", with(&objects(126)), "7 ok");
    for depth in [127, 1_000, 20_000] {
        table.line(
            format!("lists nested {depth} deep"),
            with(&lists(depth)),
            NO_MESSAGE,
        );
    }
    for depth in [127, 5_000] {
        table.line(
            format!("objects nested {depth} deep"),
            with(&objects(depth)),
            NO_MESSAGE,
        );
    }
    table.line("only openings", "[".repeat(30_000), NO_MESSAGE);
    table.line(
        "only openings of objects",
        "{\"a\":".repeat(5_000),
        NO_MESSAGE,
    );
    table.line(
        "deep in a member that is dropped",
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","y":{}}}"#,
            lists(500)
        ),
        NO_MESSAGE,
    );
    let sized = |size: usize| {
        let bare = with("\"\"");
        with(&format!("\"{}\"", "x".repeat(size - bare.len())))
    };
    // The proxy's own id may be longer.
    table.line("as long as may be", sized(LIMIT - 20), "7 ok");
    table.line("a byte too long", sized(LIMIT + 1), NO_MESSAGE);
    table.line("far too long", sized(LIMIT * 3), NO_MESSAGE);
    let long = sized(LIMIT + 1).into_bytes();
    let after: [&[u8]; 4] = [b"\n", EVIL.as_bytes(), b"\n", LIST.as_bytes()];
    let mut segments = vec![long.clone()];
    segments.extend(after.map(<[u8]>::to_vec));
    segments.push(b"\n".to_vec());
    let answers = "7 -32600, 66 -32601, 7 ok";
    let name = "too long, and then messages";
    table.add(name, Input::Segments(segments), answers);
    let texts = [long, EVIL.into(), LIST.into()];
    let frames = texts.map(|text| (0x81, text)).to_vec();
    let name = "a frame too long, and then messages";
    table.add(name, Input::Frames(frames), answers);
    let many: Vec<String> = (0..2000).map(|at| format!("\"k{at}\":{at}")).collect();
    table.line(
        "two thousand members",
        with(&format!("{{{}}}", many.join(","))),
        "7 ok",
    );
}
