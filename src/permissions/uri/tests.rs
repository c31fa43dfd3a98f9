//! Tables, and a second interpretation of URIs by a careless server.

use super::*;
use crate::permissions::rule::LISTS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

#[test]
fn plain_uris_pass_and_other_spellings_do_not() {
    for plain in [
        "file:///",
        "file:///a/b.txt",
        "file:///a/",
        "file:///a%20b/%C3%A9/(1)/a@b:c",
        "file:///a%28b%29%40",
        "file:///über",
        "file:///...",
        "file:///a..b/.hidden",
        "note:///x?y=1&z=a/..b",
        "note:///x?next=/",
        "note:///x/?y",
        "http://localhost/x?next=https://a.example/b&c=http://d/",
        "https://example.com/a...b?range=1..2",
        "file:///a%23b/c%3Fd",
        "urn:isbn:0451450523",
        "note:x/y",
        "config:",
        "postgres://User@host/db/Table/schema",
        "github://owner/Repo",
        "http://localhost:3000/x",
        "https://example.com",
        "http://127.0.0.1/",
        "http://[::1]:8080/",
        "screen://",
    ] {
        assert_eq!(fault(plain), None, "{plain}");
    }
    for other in [
        "",
        "a/b",
        "/etc/passwd",
        ":x",
        "1a:x",
        "File:///a",
        " file:///a",
        "file:///a ",
        "file:///a\tb",
        "file:///a\nb",
        "file:///a\u{7f}",
        "file:///a\u{85}",
        "file:///a\u{a0}",
        "file:///\u{feff}a",
        "file:///a\\b",
        "file:///a#b",
        "file:///a/./b",
        "file:///a/../b",
        "file:///..",
        "file:///a/..",
        "file:///a/..;x/b",
        "file:///a/;../b",
        "file:///a/..%20/b",
        "file:///C:../b",
        "file:///public/x?/../../private/key",
        "file:///public/x?a=../../private/key",
        "file:///public/x?a=b&..",
        "file:///public/x?./y",
        "file:///public/x?a/./b",
        "file:///public/x??/../y",
        "file:///public/x%3F/../y",
        "file:///public/x?%2e%2e/y",
        "file:///public/x?.%2e/y",
        "file:///public/x?a%2fb",
        "file:///public/x?a%5Cb",
        "file:///public/x?a\\b",
        "file:///public/x?a\0b",
        "file:///public/x?a%00b",
        "file:///public/x?a#/../b",
        "file:///public/x?/..%23",
        "file:///public/x?a//b",
        "file:///public/x?next=https://a/b",
        "file:///a%C2%85b",
        "file:///a%E2%80%A8b",
        "note://../x",
        "note://./x",
        "note://user:..@host/x",
        "note://a@../x",
        "note://%2e%2e/x",
        "http://localhost/x?next=https://a/../b",
        "http://localhost/x?next=//a",
        "http://localhost/x?next=https:///a",
        "http://localhost/a//b?next=https://a/b",
        "note:../x",
        "note:a/../b",
        "file:///a//b",
        "file:////a",
        "note:a//b",
        "file:///%61",
        "file:///%2e%2e/x",
        "file:///%2E%2E/x",
        "file:///a%2fb",
        "file:///a%2Fb",
        "file:///a%5cb",
        "file:///a%00",
        "file:///a%0Ab",
        "file:///a%7F",
        "file:///a%252e",
        "file:///a%",
        "file:///a%2",
        "file:///a%zz",
        "file:///a%+1",
        "file:///%C0%AE",
        "file:///%FF",
        "file:/a",
        "file:a",
        "file://localhost/a",
        "file://host",
        "note://HOST/x",
        "note://h%6Fst/x",
        "note://h%20st/x",
        "http:example.com/",
        "http:/example.com/",
        "http:///x",
        "http://user@example.com/",
        "http://@example.com/",
        "http://example.com:80/",
        "https://example.com:443/",
        "http://example.com:/",
        "http://example.com:08080/",
        "http://example.com:99999/",
        "http://example.com./",
        "http://Example.com/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://127.0.0.01/",
        "http://[0:0:0:0:0:0:0:1]/",
        "http://bücher.example/",
        "http://exa mple/",
        "http://a[b/",
    ] {
        assert!(fault(other).is_some(), "{other}");
    }
}

fn rule(pattern: &str) -> Arc<Rule> {
    Arc::new(Rule {
        role: String::new(),
        list: &LISTS[0],
        pattern: pattern.to_owned(),
        line: 1,
    })
}

#[test]
fn blocks_hold_for_other_spellings_that_pass() {
    let block = |pattern: &str, uri: &str| {
        assert_eq!(fault(uri), None, "{uri}");
        find_block(&Patterns::new(vec![rule(pattern)], block_text), uri).is_some()
    };
    for (pattern, uri, blocked) in [
        ("file:///a", "file:///a", true),
        ("file:///a", "file:///ab", false),
        ("file:///a", "file:///a/", true),
        ("file:///a/", "file:///a", true),
        ("file:///a", "file:///a?x", true),
        ("file:///a", "file:///a/?x", true),
        ("file:///a/", "file:///a?x=1", true),
        ("file:///a", "file:///a;x", true),
        ("file:///a", "file:///a?x;y", true),
        ("file:///a", "file:///a%3Fx", true),
        ("file:///a", "file:///a%23x", true),
        ("file:///a", "file:///a%3Bx", true),
        ("file:///a", "file:///a/%3Fx", true),
        ("file:///a%3Fb", "file:///a%3Fb?c", true),
        ("file:///a", "file:///a/b", false),
        ("file:///a(1)", "file:///a%281%29", true),
        ("file:///a%281%29", "file:///a(1)", true),
        ("file:///é*", "file:///%C3%A9x", true),
        ("file:///%c3%a9*", "file:///éx", true),
        ("file:///a b", "file:///a%20b", true),
        ("file:///a*b", "file:///a%2Ab", true),
        ("file:///a%2Ab", "file:///a*b", true),
        ("http://h/", "http://h", true),
    ] {
        assert_eq!(block(pattern, uri), blocked, "{pattern} {uri}");
    }
}

#[test]
fn templates_meet_rules_or_are_covered_by_them() {
    for (template, pattern, meets, covered) in [
        ("note:///{name}", "note:///*", true, true),
        ("note:///{name}", "*", true, true),
        ("note:///{name}", "note:///{name}", true, true),
        ("note:///{name}", "note:///a", true, false),
        ("note:///{name}", "note:///a*", true, false),
        ("note:///{name}", "note:///*a", true, false),
        ("note:///{name}", "file:///*", false, false),
        ("note:///{name}", "file:///a", false, false),
        ("note:///{name}/x", "note:///*/y", false, false),
        ("note:///{name}/x", "note:///a/x", true, false),
        ("note:///{name}/x", "note:///*/x", true, true),
        ("{+any}", "note:///a", true, false),
        ("note:///{a}/{b}", "note:///*/*", true, true),
        ("note:///{open", "note:///a", true, false),
        ("note:///%C3%A9/{a}", "note:///é/b", true, false),
    ] {
        let (template, rule) = (Template::new(template), rule(pattern));
        assert_eq!(template.may_meet(&rule), meets, "{pattern}");
        assert_eq!(template.is_covered_by(&rule), covered, "{pattern}");
    }
    assert_eq!(Template::new("file://{/path*}").sample(), "file:///x");
    assert_eq!(Template::new("a:{x}-{?q}").sample(), "a:x-?x");
}

#[test]
fn templates_that_leave_their_folder_are_faulty() {
    for plain in [
        "note:///{name}",
        "note:///{+path}/x{?a,b*}",
        "note:///{a-b:3}{;c}",
    ] {
        assert_eq!(Template::new(plain).fault(), None, "{plain}");
    }
    for other in [
        "note:///{a}/../b",
        "note:///{a}?/../b",
        "note:///x{?a}/../../b",
        "note:///{open",
        "note:///{../../b",
        "note:///{/../b}",
        "note:///{a/../b}",
        "note:///{a\\..}",
        "note:///{}",
        "note:///a}/b{c",
        "note:///{a{b}}",
    ] {
        assert!(Template::new(other).fault().is_some(), "{other}");
    }
}

/// What a careless server may open: the text after `file://`, percent-decoded this many
/// times, up to the first of these characters, with `\` as `/`, and `.`, `..` and empty segments
/// resolved.
fn opened(uri: &str, times: usize, ends: &[char]) -> (String, String) {
    let mut text = uri.strip_prefix("file://").unwrap_or(uri).to_owned();
    for _ in 0..times {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
            let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
            let encoded = byte.filter(|_| *first == b'%');
            bytes.push(encoded.unwrap_or(*first));
            rest = if encoded.is_some() { &tail[2..] } else { tail };
        }
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.split(ends).next().unwrap_or_default();
    let text = text.replace('\\', "/");
    let mut resolved: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment.trim() {
            "." => {}
            ".." => {
                resolved.pop();
            }
            _ if segment.is_empty() => {}
            _ => resolved.push(segment),
        }
    }
    let resolved = resolved.iter().map(|name| format!("/{name}")).collect();
    (text, resolved)
}

const NAMES: &[&str] = &[
    "a", "b.c", "/a", "/", "?", "=", "&", ";a", ":", "%23", "%20a", "2e",
];

const NASTY: &[&str] = &[
    "..", ".", "/..", "/", "//", "\\", "%2e", "%2E%2e", "%2f", "%5C", "%25", "2e", "2f", "%252e",
    "%00", "\0", "?", "%3F", "#", "%23", ";", "%3b", "=", "&", "@", ":", " ", "%20", "%", "%0a",
    "\n", "\u{2028}", "%C0%AE", "\u{fe}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// However a careless server reads a URI that passes, it opens what the text says: nothing
    /// is left to resolve, so it never leaves the folder that a rule names.
    #[test]
    fn plain_uris_open_what_their_text_says(
        head in select(&["file:///srv/public/", "file:///srv/public/x?", "file:///"][..]),
        parts in vec(prop_oneof![select(NAMES), select(NASTY)], 0..8),
    ) {
        let uri = head.to_owned() + &parts.concat();
        if fault(&uri).is_some() {
            return Ok(());
        }
        let all: &[&[char]] = &[&[], &['?'], &['#'], &[';'], &['?', '#', ';']];
        for (times, ends) in (0..4).flat_map(|times| all.iter().map(move |ends| (times, *ends))) {
            let (text, resolved) = opened(&uri, times, ends);
            let plain = text.strip_suffix('/').unwrap_or(&text);
            prop_assert_eq!(plain, &*resolved, "{} {} {:?}", uri, times, ends);
            let inside = resolved == "/srv/public" || resolved.starts_with("/srv/public/");
            prop_assert!(inside || !uri.starts_with("file:///srv/public/"), "{} {}", uri, resolved);
        }
        // Each parameter of a query, and what may precede a drive or a user name.
        for part in opened(&uri, 4, &[]).0.split(['?', '&', '=', ';', ':', '@', '/']) {
            prop_assert!(!matches!(part.trim(), "." | ".."), "{}", uri);
        }
    }
}
