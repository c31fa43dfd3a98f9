use super::super::blocks::levels;
use super::*;
use crate::json::{unescape, write_string};
use proptest::prelude::*;

fn accepts(text: &[u8]) -> bool {
    let mut scanner = Scanner::new(text, 128);
    scanner.value().and_then(|_| scanner.end()).is_ok()
}

#[test]
fn takes_json_and_nothing_else() {
    for good in [
        "0",
        "-0",
        "1.5e+3",
        "\"\"",
        "\"\\u00e9\\n\"",
        "[]",
        "{}",
        "[1,[2,{}],\"x\"]",
        " { \"a\" : [ ] } ",
        "{\"a\":{\"b\":[null,true,false]}}",
        "\"\u{2028}\"",
        "1e400",
        "\"\\ud800\"",
    ] {
        assert!(accepts(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "NaN",
        "Infinity",
        "-",
        "\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\t\"",
        "[1,]",
        "[,1]",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "[1 2]",
        "1 2",
        "tru",
        "truex",
        "[1}",
        "{\"a\":1]",
        "//x\n1",
        "\u{feff}1",
        "\u{a0}1",
    ] {
        assert!(!accepts(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(accepts(nested(128).as_bytes()));
    let deep = nested(129);
    assert_eq!(
        Scanner::new(deep.as_bytes(), 128).value(),
        Err(Fault::Depth)
    );
    let open = "[".repeat(1_000_000);
    assert_eq!(
        Scanner::new(open.as_bytes(), 4096).value(),
        Err(Fault::Depth)
    );
}

#[test]
fn halves_of_surrogate_pairs_have_no_text() {
    assert_eq!(unescape(br#""\ud83d\ude00""#).as_deref(), Some("😀"));
    assert_eq!(unescape(br#""\ud83d""#), None);
    assert_eq!(unescape(br#""\u0041""#).as_deref(), Some("A"));
}

/// White space, mostly none.
fn white() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => Just(String::new()),
        2 => Just(" ".to_owned()),
        1 => r"[ \t\r\n]{1,3}",
        1 => (50usize..140).prop_map(|length| " ".repeat(length)),
    ]
}

fn quoted() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        5 => "[a-z]{0,9}",
        1 => r#"(\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}|[ -!#-\[\]-~é{}:,]){0,20}"#,
        1 => (0usize..200).prop_map(|length| "x".repeat(length)),
        1 => (0usize..70).prop_map(|length| r"\\".repeat(length)),
    ];
    text.prop_map(|text| format!("\"{text}\""))
}

/// An object or array, in front of which another text may stand.
fn containers() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => quoted(),
        4 => "0|-?[1-9][0-9]{0,5}",
        1 => r"-?(0|[1-9][0-9]{0,80})(\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        2 => r"true|false|null|\[\]|\{\}",
    ];
    let list = |start: char, items: Vec<String>, end| format!("{start}{}{end}", items.join(","));
    let value = leaf.prop_recursive(6, 80, 6, move |inner| {
        let element = (white(), inner.clone(), white())
            .prop_map(|(before, value, after)| format!("{before}{value}{after}"))
            .boxed();
        let key = (white(), quoted(), white())
            .prop_map(|(before, key, after)| format!("{before}{key}{after}:"));
        let member = (key, element.clone()).prop_map(|(key, value)| key + &value);
        prop_oneof![
            prop::collection::vec(element, 0..6).prop_map(move |items| list('[', items, ']')),
            prop::collection::vec(member, 0..6).prop_map(move |items| list('{', items, '}')),
        ]
    });
    (0usize..70, value).prop_map(|(gap, value)| format!("[\"{}\",{value}]", "x".repeat(gap)))
}

/// Both ways to read a container agree on it, however much room there is, and for each kind of processor.
fn reads_alike(text: &[u8]) -> Result<(), TestCaseError> {
    for room in [128, 3] {
        let expected = short_container(Scanner::new(text, room));
        let expected = expected.map(|scanner| (scanner.pos, scanner.odd_white));
        for level in levels() {
            let checked = container::check_at(level, text, 0, room);
            prop_assert!(
                checked.is_err()
                    || checked.is_ok_and(|it| it.not_ascii || text[..it.end].is_ascii())
            );
            let found = checked.map(|checked| (checked.end, checked.odd_white));
            prop_assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(text));
        }
    }
    Ok(())
}

#[test]
fn each_rule_holds_wherever_a_block_ends() {
    let texts = [
        "{}",
        "{1}",
        "{1:2}",
        "{[]}",
        "{[]:1}",
        "{{}:1}",
        "{\"a\"}",
        "{\"a\":}",
        "{:1}",
        "{,}",
        "{\"a\":1,}",
        "{\"a\":1,2}",
        "{\"a\":1,[]}",
        "{\"a\",1}",
        "{\"a\":1:2}",
        "{\"a\":\"b\":1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\"\"b\":1}",
        "{a:1}",
        "{true:1}",
        "[]",
        "[,]",
        "[1,]",
        "[1,,2]",
        "[1 2]",
        "[\"a\"\"b\"]",
        "[\"a\":1]",
        "[\"a\"1]",
        "[1\"a\"]",
        "[1{}]",
        "[{}1]",
        "[{}{}]",
        "[][]",
        "[:]",
        "[1}",
        "{\"a\":1]",
        "[{]}",
        "]",
        "}",
        "[00]",
        "[01]",
        "[-01]",
        "[0]",
        "[-0]",
        "[-]",
        "[10]",
        "[1.]",
        "[.5]",
        "[1.5e+3]",
        "[1e]",
        "[+1]",
        "[0x1]",
        "[tru]",
        "[truee]",
        "[true false]",
        "[true,null]",
        "[nul\\u006c]",
        "[\\\"a\"]",
        "[\"\\\"]",
        "[\"\\\\\"]",
        "[\"\\x\"]",
        "[\"\\u12g4\"]",
        "[\"\\u1234\"]",
        "[\"\n\"]",
        "[\n]",
        "[\x0b]",
        "[\u{a0}]",
        "[\u{e9}]",
        "[\"\u{e9}\"]",
    ];
    for text in texts {
        for gap in 50..66 {
            for white in [0, 1, 70] {
                let spaced = text.replace(',', &format!("{0},{0}", " ".repeat(white)));
                let text = format!("[\"{}\",{spaced}]", "x".repeat(gap));
                reads_alike(text.as_bytes()).unwrap();
            }
        }
    }
}

proptest! {
    #[test]
    fn a_container_is_read_alike_however_long(text in containers(), cut in any::<prop::sample::Index>()) {
        prop_assert!(accepts(text.as_bytes()), "{}", text);
        reads_alike(text.as_bytes())?;
        reads_alike(format!("{text},\\\"[").as_bytes())?;
        reads_alike(&text.as_bytes()[..cut.index(text.len())])?;
    }

    #[test]
    fn what_is_no_container_is_refused_alike(
        text in containers(),
        changes in prop::collection::vec((
            any::<prop::sample::Index>(),
            0..3,
            prop_oneof![
                8 => prop::sample::select(b"\"\\[]{}:, \n\t0123e.-+truefalsnu\0x\x1f\x7f\xc3".to_vec()),
                1 => any::<u8>(),
            ],
        ), 1..4),
    ) {
        let mut text = text.into_bytes();
        for (at, how, byte) in changes {
            let at = 1 + at.index(text.len() - 1);
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => drop(text.remove(at)),
            }
        }
        reads_alike(&text)?;
    }

    #[test]
    fn tokens_in_any_order_are_read_alike(
        start in "\\[|\\{\"a\":",
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "[", "]", "{", "}", ":", ",", "\"a\"", "\"a\":", "1", "true", " ", "{\"a\":1}", "[1]", "1.5", "-", "0",
                "\"\\n\"", "\n", "\"\\\"\"", "\\", "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"",
            ]),
            0..60,
        ),
    ) {
        reads_alike(format!("{start}{}", tokens.concat()).as_bytes())?;
    }

    #[test]
    fn bytes_are_read_alike(text in prop::collection::vec(any::<u8>(), 0..200)) {
        reads_alike(&[b"[", &text[..]].concat())?;
    }
}

proptest! {
    /// serde_json is the second opinion: both accept the same texts, except for lone
    /// surrogates and huge numbers (which serde_json rejects).
    #[test]
    fn agrees_with_serde_json(text in r#"[\[\]{},:"\\ 01eE.+\-a-cntrufalse\t]{0,24}"#) {
        let serde = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        let ours = accepts(text.as_bytes());
        prop_assert!(ours == serde || ours, "{text:?}: ours {ours}, serde {serde}");
        if ours && !serde {
            prop_assert!(text.contains("\\u") || text.contains(['e', 'E']), "{text:?}");
        }
    }

    /// The same for longer texts, which cross blocks, with one byte changed.
    #[test]
    fn agrees_with_serde_json_wherever_things_stand(
        values in prop::collection::vec(
            r#"\[(1,|"a",|\{"b":0\},){0,20}null\]|"(\\"|\\\\|\\n|x{1,70}|ü){0,12}"|-?[1-9]{1,9}"#,
            1..12,
        ),
        gap in 0usize..200,
        change in prop::option::of((any::<prop::sample::Index>(), r#"["\\\]}:,x1 \n]"#)),
    ) {
        let mut text = format!("[{}{}]", " ".repeat(gap), values.join(","));
        if let Some((at, with)) = change {
            let at = at.index(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                text.replace_range(at..=at, &with);
            }
        }
        let serde = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert_eq!(accepts(text.as_bytes()), serde, "{}", text);
    }

    #[test]
    fn strings_survive_the_round_trip(text in any::<String>()) {
        let mut raw = Vec::new();
        write_string(&text, &mut raw);
        prop_assert!(accepts(&raw));
        let plain = unescape(&raw);
        prop_assert_eq!(plain.as_deref(), Some(text.as_str()));
        let read = std::str::from_utf8(&raw).unwrap();
        let ends_a_line = read.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']);
        prop_assert!(!ends_a_line);
    }
}
