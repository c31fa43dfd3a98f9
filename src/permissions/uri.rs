//! URIs, as far as rules need to understand them: which ones can be compared as text, and which
//! rules apply to a template.
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

/// What ends a segment for one server or another: one that strips `file://` opens `/a/x?/../b` as it
/// stands, another takes what follows `=` for a path, Windows reads `C:..` as a folder.
const SEGMENT_ENDS: [char; 8] = ['/', '?', '#', '&', '=', ';', ':', '@'];

/// Why a URI is not in its plain spelling; `None` when it is. Refused is
/// - a scheme that is missing or has upper-case letters, and a host that has;
/// - control characters, white space, `\` and `#`, in any place;
/// - percent-encoding of letters, digits, `-._~`, of `/`, `\`, `%`, control characters and line
///   separators, and what does not decode to UTF-8;
/// - the segments `.` and `..` in any place, authority and query included ([`SEGMENT_ENDS`]);
/// - empty segments in path and query; one slash at the end may stand, and `://` in the query of a
///   web scheme, since that is how web pages pass on an address;
/// - `file:` without `///`, that is, with a host; for web schemes a missing host, user names, the
///   scheme's own port, and addresses that are not written in their usual form.
pub(super) fn fault(uri: &str) -> Option<&'static str> {
    let Some((scheme, rest)) = uri.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Some("the URI does not begin with a scheme in lower case");
    };
    if rest.contains(|c: char| c.is_whitespace() || is_odd(c) || matches!(c, '\\' | '#')) {
        return Some("the URI has a control character, white space, '\\' or '#' in it");
    }
    let decoded = decode(rest).filter(|text| is_encoded_plainly(rest) && !text.contains(is_odd));
    let Some(decoded) = decoded else {
        return Some("the URI has percent-encoding that it does not need, or that hides something");
    };
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
    // Windows drops encoded spaces at the end of a name.
    let is_dots = |segment: &str| matches!(segment.trim(), "." | "..");
    if has_empty_segment(scheme, path) || decoded.split(SEGMENT_ENDS).any(is_dots) {
        return Some("the URI has a segment that is empty, '.' or '..'");
    }
    None
}

/// True for characters that are invalid in a URI, encoded or not: programs end lines and strings at
/// them.
pub(super) fn is_odd(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

fn has_empty_segment(scheme: &str, path_and_query: &str) -> bool {
    let (path, query) = path_and_query
        .split_once('?')
        .unwrap_or((path_and_query, ""));
    if path.contains("//") || !query.contains("//") {
        return path.contains("//");
    }
    let is_web = WEB_SCHEMES.iter().any(|(name, _)| *name == scheme);
    !is_web || query.replace("://", ":/").contains("//")
}

fn is_scheme(text: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase();
    let other = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    text.as_bytes().first().is_some_and(letter)
        && text.bytes().all(|byte| letter(&byte) || other(&byte))
}

/// True if a `%` encodes a byte that changes what path this is for whoever decodes it: a dot, a separator, a control
/// character, or another `%`.
pub(super) fn hides_a_path(text: &str) -> bool {
    let encoded = memchr::memchr_iter(b'%', text.as_bytes());
    encoded
        .filter_map(|at| byte_at(text.as_bytes(), at))
        .any(is_path_byte)
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_control() || matches!(byte, b'.' | b'/' | b'\\' | b'%')
}

fn is_encoded_plainly(text: &str) -> bool {
    let needless = |byte: u8| {
        byte.is_ascii_alphanumeric() || is_path_byte(byte) || matches!(byte, b'-' | b'_' | b'~')
    };
    let encoded = memchr::memchr_iter(b'%', text.as_bytes());
    encoded
        .map(|at| byte_at(text.as_bytes(), at))
        .all(|byte| byte.is_some_and(|byte| !needless(byte)))
}

/// The byte that the `%` at this place and the two digits after it encode.
fn byte_at(text: &[u8], at: usize) -> Option<u8> {
    let digit = |place: usize| char::from(*text.get(place)?).to_digit(16);
    u8::try_from(digit(at + 1)? * 16 + digit(at + 2)?).ok()
}

/// The text percent-decoded; `None` if the encoding is invalid.
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

/// True if a server may find a path or URI at or below `root`, which has no slash at its end: once its percent-encoding
/// is undone, or, of a URI, with a query, a fragment or parameters (`;…`) added to the root. A file has a path and a URI.
pub(super) fn may_be_below(text: &str, root: &str) -> bool {
    let (text, root) = (decode_loosely(text), decode_loosely(root));
    let is_path = root.starts_with('/');
    let file = file_path(&text).filter(|_| is_path);
    let ends: &[char] = match file {
        None if is_path => &['/'],
        _ => &['/', '?', '#', ';'],
    };
    let rest = file.unwrap_or(&text).strip_prefix(&*root);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(ends))
}

/// The path in a URI of a file (RFC 8089).
fn file_path(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("file") {
        return None;
    }
    match rest.strip_prefix("//") {
        Some(rest) => rest.get(rest.find('/')?..),
        None => Some(rest),
    }
}

/// The text percent-decoded, as far as it is encoded.
fn decode_loosely(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let (bytes, mut at, mut decoded) = (text.as_bytes(), 0, Vec::new());
    while let Some(byte) = bytes.get(at) {
        let encoded = byte_at(bytes, at).filter(|_| *byte == b'%');
        decoded.push(encoded.unwrap_or(*byte));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// What the pattern of a block is matched as: with its percent-encoding undone, as the URIs that it
/// is held against.
pub(super) fn block_text(rule: &Rule) -> String {
    decode(&rule.pattern).map_or_else(|| rule.pattern.clone(), Cow::into_owned)
}

/// The rule that blocks a plain URI, if one does. Blocks also hold for other encodings, with a query,
/// a fragment or parameters (`;…`) added, encoded or not, and with or without a slash at the end,
/// since many servers open the same resource then.
pub(super) fn find_block<'a>(block: &'a Patterns, uri: &str) -> Option<&'a Arc<Rule>> {
    if block.is_empty() {
        return None;
    }
    fn cut<'a>(text: &'a str, ends: &[char]) -> &'a str {
        &text[..text.find(ends).unwrap_or(text.len())]
    }
    let whole = decode(uri)?;
    let cut_first = [&['?'][..], &['?', ';']].map(|ends| decode(cut(uri, ends)));
    [&['?', '#'][..], &['?', '#', ';']]
        .map(|ends| cut(&whole, ends))
        .into_iter()
        .chain([&*whole])
        .chain(cut_first.iter().flatten().map(|text| &**text))
        .find_map(|uri| {
            block.find(uri).or_else(|| match uri.strip_suffix('/') {
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

    /// Why the template's own text is not plain, or what stands in braces is no expression: a
    /// server that takes `{/../x}` for part of a path would leave the folder. `None` when all is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        let mut rest = self.text;
        while let Some((_, behind)) = rest.split_once(['{', '}']) {
            let (expression, after) = behind.split_once('}').unwrap_or(("", ""));
            if !is_expression(expression) {
                return Some("the template has an expression that cannot be read");
            }
            rest = after;
        }
        fault(&self.sample())
    }

    /// Something that the template may become.
    fn sample(&self) -> String {
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

/// RFC 6570, section 2.2, with `-` in names, which many servers have.
fn is_expression(text: &str) -> bool {
    let variables = text.strip_prefix(['+', '#', '.', '/', ';', '?', '&']);
    let variables = variables.unwrap_or(text);
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.,:*%".contains(&byte);
    !variables.is_empty() && variables.bytes().all(letter)
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
mod tests;
