//! Text of others made fit for a terminal: what moves the cursor, changes colours, ends a line or
//! turns the direction of writing is shown, not obeyed.

use std::fmt::{self, Write};

/// Passes text on with its control characters written as `\u{1b}` and the like.
#[derive(Debug)]
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, odd)) = rest.char_indices().find(|(_, c)| is_odd(*c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", odd.escape_default())?;
            rest = &rest[at + odd.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

/// `text` with its control characters written as `\u{1b}` and the like.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = Escaping(String::with_capacity(text.len()));
    // Writing to a string does not fail.
    let _infallible = escaped.write_str(text);
    escaped.0
}

/// Tabs stay: they forge nothing, and stack traces are full of them.
fn is_odd(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_lines = matches!(c, '\u{2028}' | '\u{2029}');
    (c.is_control() && c != '\t') || turns || ends_lines || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_obey_is_shown() {
        for (text, shown) in [
            ("", ""),
            (
                "plain, \t with tabs, \\ and äöü 日本 👩‍💻",
                "plain, \t with tabs, \\ and äöü 日本 👩‍💻",
            ),
            ("\x1b[2Jx", "\\u{1b}[2Jx"),
            ("a\rb\nc\0", "a\\rb\\nc\\u{0}"),
            ("\u{7f}\u{9b}31m\u{85}", "\\u{7f}\\u{9b}31m\\u{85}"),
            ("a\u{2028}\u{2029}", "a\\u{2028}\\u{2029}"),
            (
                "\u{202e}gpj\u{2066}\u{200f}\u{61c}",
                "\\u{202e}gpj\\u{2066}\\u{200f}\\u{61c}",
            ),
            ("\u{feff}", "\\u{feff}"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }
}
