//! The strings and brackets of JSON text that arrives in pieces, in constant memory.

/// What a byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    White,
    /// A string, including its quotes.
    Text,
    /// `{`, which increases the depth by one.
    Object,
    /// `[`, which also increases the depth by one.
    Array,
    /// `}` or `]`, which decreases the depth by one.
    Close,
    Colon,
    Comma,
    /// A number or a literal, or not JSON at all.
    Other,
}

/// The state after part of a text. It is assumed to be JSON: for anything else the depth may be any
/// number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Structure {
    depth: usize,
    in_string: bool,
    /// The last byte was a backslash that escapes the next.
    escaping: bool,
}

impl Structure {
    /// The number of open objects and arrays.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Advances by one byte.
    pub(crate) fn take(&mut self, byte: u8) -> Part {
        if self.in_string {
            self.in_string = byte != b'"' || self.escaping;
            self.escaping = byte == b'\\' && !self.escaping;
            return Part::Text;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => Part::White,
            b'"' => {
                self.in_string = true;
                Part::Text
            }
            b'{' | b'[' => {
                self.depth += 1;
                if byte == b'{' {
                    Part::Object
                } else {
                    Part::Array
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                Part::Close
            }
            b':' => Part::Colon,
            b',' => Part::Comma,
            _ => Part::Other,
        }
    }

    /// How many of the next `bytes` are in the middle of a string, so that nothing changes in them.
    pub(crate) fn plain_text(&self, bytes: &[u8]) -> usize {
        if !self.in_string || self.escaping {
            return 0;
        }
        memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len())
    }
}
