//! URIs, so far as rules need to understand them: which ones can be compared as text, and which
//! rules meet a template.
//!
//! MCP servers read one resource out of many spellings of its URI: they decode `%2e%2e`, resolve
//! `..`, lower the case of hosts, skip `?query`. A rule is a text, so where there are rules only the
//! plain spelling passes, and blocks are compared more loosely than what allows.

use super::pattern::{Glob, Patterns};
use super::rule::Rule;
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Schemes whose slashes and ports web URL parsers complete and drop, with the port that is dropped.
const WEB_SCHEMES: [(&str, &str); 5] = [
    ("http", "80"),
    ("https", "443"),
    ("ws", "80"),
    ("wss", "443"),
    ("ftp", "21"),
];

/// Why a URI is not in its plain spelling; `None` when it is. Refused is
/// - a scheme that is missing or has upper-case letters, and a host that has;
/// - control characters, white space, `\` and `#`, in any place;
/// - percent-encoding of letters, digits, `-._~`, of `/`, `\`, `%` and control characters, and what
///   does not decode to UTF-8;
/// - the segments `.` and `..`, and empty segments, in the path; one slash at its end may stand;
/// - `file:` without `///`, that is, with a host; for web schemes a missing host, user names, the
///   scheme's own port, and addresses that are not written in their usual form.
pub(super) fn fault(uri: &str) -> Option<&'static str> {
    let Some((scheme, rest)) = uri.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Some("the URI does not begin with a scheme in lower case");
    };
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '#' | '\u{feff}');
    if rest.contains(odd) {
        return Some("the URI has a control character, white space, '\\' or '#' in it");
    }
    if !is_encoded_plainly(rest) {
        return Some("the URI has percent-encoding that it does not need, or that hides something");
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, rest),
    };
    if !is_plain_authority(scheme, authority) {
        return Some("the URI's host is not in its plain form");
    }
    let path = path.split('?').next().unwrap_or_default();
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if path.contains("//") || path.split('/').any(is_dots) {
        return Some("the URI's path has a segment that is empty, '.' or '..'");
    }
    None
}

fn is_scheme(text: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase();
    let other = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    text.as_bytes().first().is_some_and(letter)
        && text.bytes().all(|byte| letter(&byte) || other(&byte))
}

fn is_encoded_plainly(text: &str) -> bool {
    let needless = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || byte.is_ascii_control()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'%')
    };
    let encoded = memchr::memchr_iter(b'%', text.as_bytes());
    encoded
        .map(|at| byte_at(text.as_bytes(), at))
        .all(|byte| byte.is_some_and(|byte| !needless(byte)))
        && decode(text).is_some()
}

/// What the `%` at this place and the two digits behind it stand for.
fn byte_at(text: &[u8], at: usize) -> Option<u8> {
    let digit = |place: usize| char::from(*text.get(place)?).to_digit(16);
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

/// The text with its percent-encoding undone; `None` when that cannot be done.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let (bytes, mut at, mut decoded) = (text.as_bytes(), 0, Vec::new());
    while let Some(byte) = bytes.get(at) {
        let encoded = *byte == b'%';
        decoded.push(if encoded { byte_at(bytes, at)? } else { *byte });
        at += if encoded { 3 } else { 1 };
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn is_plain_authority(scheme: &str, authority: Option<&str>) -> bool {
    if scheme == "file" {
        return authority == Some("");
    }
    let web = WEB_SCHEMES.iter().find(|(name, _)| *name == scheme);
    let Some(authority) = authority else {
        return web.is_none();
    };
    let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    if place.contains(|c: char| c.is_uppercase() || c == '%') {
        return false;
    }
    let Some((_, own_port)) = web else {
        return true;
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let is_port =
        |port: &str| port != *own_port && port.parse::<u16>().is_ok_and(|n| n.to_string() == port);
    user.is_empty() && !authority.contains('@') && port.is_none_or(is_port) && is_plain_host(host)
}

fn is_plain_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let parsed: Option<Ipv6Addr> = address.parse().ok();
        return parsed.is_some_and(|parsed| parsed.to_string() == address);
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let last = host.rsplit('.').next().unwrap_or_default();
    match last.bytes().next() {
        None => false,
        // What ends in a number is an address to URL parsers, in whatever base it is written.
        Some(b'0'..=b'9') => host.parse::<Ipv4Addr>().is_ok(),
        Some(_) => host.bytes().all(name),
    }
}

/// What the pattern of a block is matched as: with its percent-encoding undone, as the URIs that it
/// is held against.
pub(super) fn block_text(rule: &Rule) -> String {
    decode(&rule.pattern).map_or_else(|| rule.pattern.clone(), Cow::into_owned)
}

/// The rule that blocks a plain URI, if one does. Blocks also hold for other encodings, with a query
/// or parameters (`;…`) added, and with or without a slash at the end, since many servers open the
/// same resource then.
pub(super) fn find_block<'a>(block: &'a Patterns, uri: &str) -> Option<&'a Arc<Rule>> {
    if block.is_empty() {
        return None;
    }
    let until = |ends: &[char]| &uri[..uri.find(ends).unwrap_or(uri.len())];
    [uri, until(&['?']), until(&['?', ';'])]
        .into_iter()
        .find_map(|uri| {
            let uri = decode(uri)?;
            block.find(&uri).or_else(|| match uri.strip_suffix('/') {
                Some(shorter) => block.find(shorter),
                None => block.find(&format!("{uri}/")),
            })
        })
}

/// A URI template (RFC 6570), each of whose expressions may become any text.
pub(super) struct Template<'a> {
    text: &'a str,
    /// Stands for all that it can become, and more.
    instances: Option<Glob>,
    /// With a character in the place of each expression that only a `*` matches.
    holes: String,
}

impl<'a> Template<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let decoded = decode(text).unwrap_or(Cow::Borrowed(text));
        Self {
            text,
            instances: Glob::new(&fill(&decoded, |_| "*")),
            holes: fill(text, |_| "\0"),
        }
    }

    /// Something that the template may become, to see whether its own text is plain.
    pub(super) fn sample(&self) -> String {
        fill(self.text, |operator| match operator {
            Some('/') => "/x",
            Some('?') => "?x",
            Some('&') => "&x",
            Some(';') => ";x",
            _ => "x",
        })
    }

    /// False only where no instance matches the rule.
    pub(super) fn may_meet(&self, rule: &Rule) -> bool {
        let text = block_text(rule);
        let Some(instances) = &self.instances else {
            return true;
        };
        rule.pattern == self.text
            || match Glob::new(&text) {
                Some(glob) => glob.may_meet(instances),
                None => instances.matches(&text),
            }
    }

    /// True only where every instance matches the rule.
    pub(super) fn is_covered_by(&self, rule: &Rule) -> bool {
        rule.pattern == self.text
            || Glob::new(&rule.pattern).is_some_and(|glob| glob.matches(&self.holes))
    }
}

/// The text with `expression(operator)` in the place of each `{…}`.
fn fill(template: &str, expression: impl Fn(Option<char>) -> &'static str) -> String {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((literal, behind)) = rest.split_once('{') {
        filled.push_str(literal);
        filled.push_str(expression(behind.chars().next()));
        rest = behind.split_once('}').map_or("", |(_, rest)| rest);
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::rule::LISTS;

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
            "note:///x?y=1&z=a/../b",
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
}
