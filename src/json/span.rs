//! Where a value stands, and the text of a string that stands there.

use std::borrow::Cow;

/// Where a value stands in its line, in bytes. Lines are no longer than [`super::MAX_LINE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The bytes of `line` that this span covers.
    pub(crate) fn of(self, line: &[u8]) -> &[u8] {
        line.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// In bytes.
    pub(crate) fn len(self) -> usize {
        self.end as usize - self.start as usize
    }

    /// This span, which counts from the start of `outer`, as that one counts.
    pub(crate) fn within(self, outer: Self) -> Self {
        Self {
            start: outer.start + self.start,
            end: outer.start + self.end,
        }
    }
}

/// A string as it stands in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// Quotes included.
    pub span: Span,
    /// Something in it may be escaped.
    pub(super) escapes: bool,
}

impl Quoted {
    /// True where nothing in it is escaped.
    #[inline(always)]
    pub(crate) fn is_plain(self, line: &[u8]) -> bool {
        !self.escapes || memchr::memchr(b'\\', self.span.of(line)).is_none()
    }

    /// True if it has no agreed text, where `text` is what [`Self::text`] gives.
    pub(crate) fn is_ambiguous(self, text: &[u8]) -> bool {
        text.is_empty() && self.span.len() > 2
    }

    /// Its text, escapes undone. Empty where it has no agreed one, as with half a surrogate pair: no
    /// known name is empty.
    pub(crate) fn text(self, line: &[u8]) -> Cow<'_, [u8]> {
        let raw = self.span.of(line);
        if self.is_plain(line) {
            return Cow::Borrowed(raw.get(1..raw.len() - 1).unwrap_or_default());
        }
        match unescape(raw) {
            Some(Cow::Borrowed(text)) => Cow::Borrowed(text.as_bytes()),
            Some(Cow::Owned(text)) => Cow::Owned(text.into_bytes()),
            None => Cow::Borrowed(b""),
        }
    }
}

/// The text of a JSON string (quotes included) with its escapes undone; `None` when `raw` is no
/// string or holds half a surrogate pair, which readers turn into different texts.
pub(crate) fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', raw).is_none() {
        return plain(raw).map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(raw).ok().map(Cow::Owned)
}

/// The text of a JSON string (quotes included) in which nothing is escaped; `None` when `raw` is no
/// string.
pub(crate) fn plain(raw: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(plain_bytes(raw)?).ok()
}

/// The same, where it is known that they are UTF-8.
pub(crate) fn plain_bytes(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Appends `text` as a JSON string. Everything that some reader takes for the end of a line is
/// escaped, besides what JSON itself demands.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text
        .bytes()
        .fold(true, |plain, byte| plain & is_plain(byte))
    {
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend([b'\\', character as u8]),
            '\0'..='\x1f' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                out.extend(format!("\\u{:04x}", u32::from(character)).as_bytes());
            }
            _ => out.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
