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
