//! The position of a value, and the text of a string at that position.

use std::borrow::Cow;

/// The position of a value in its line, in bytes. Lines are no longer than [`super::MAX_LINE`].
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

    /// This span, relative to the start of `outer`, in the coordinates of `outer`.
    pub(crate) fn within(self, outer: Self) -> Self {
        Self {
            start: outer.start + self.start,
            end: outer.start + self.end,
        }
    }
}

/// A string as it is written in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    /// Including the quotes.
    pub span: Span,
    /// It may contain an escape.
    pub(super) escapes: bool,
}

impl Quoted {
    /// True if it contains no escape.
    #[inline(always)]
    pub(crate) fn is_plain(self, line: &[u8]) -> bool {
        !self.escapes || memchr::memchr(b'\\', self.span.of(line)).is_none()
    }

    /// True if it has no agreed text, where `text` is the result of [`Self::text`].
    pub(crate) fn is_ambiguous(self, text: &[u8]) -> bool {
        text.is_empty() && self.span.len() > 2
    }

    /// Its unescaped text. Empty if readers disagree on it, as with a lone surrogate: no
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

/// The unescaped text of a JSON string (including its quotes); `None` when `raw` is not a
/// string or contains a lone surrogate, which readers turn into different texts.
pub(crate) fn unescape(raw: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', raw).is_none() {
        return plain(raw).map(Cow::Borrowed);
    }
    serde_json::from_slice::<String>(raw).ok().map(Cow::Owned)
}

/// The text of a JSON string (including its quotes) that contains no escape; `None` when `raw` is not a
/// string.
pub(crate) fn plain(raw: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(plain_bytes(raw)?).ok()
}

/// The same, for bytes that are known to be UTF-8.
pub(crate) fn plain_bytes(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Appends `text` as a JSON string. Everything that some reader takes for a line end is
/// escaped, in addition to what JSON itself requires.
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
