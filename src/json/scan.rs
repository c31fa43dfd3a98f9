//! A strict JSON reader that finds where things stand and copies nothing.
//!
//! It accepts exactly RFC 8259 (no NaN, no comments, no trailing bytes) and leaves every value
//! where it is: callers get spans. It knows nothing of JSON-RPC.

use super::window::Window;
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
    escapes: bool,
}

impl Quoted {
    /// True where nothing in it is escaped.
    #[inline(always)]
    pub(crate) fn is_plain(self, line: &[u8]) -> bool {
        !self.escapes || memchr::memchr(b'\\', self.span.of(line)).is_none()
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

/// Why a text is not the JSON we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON at all.
    Syntax,
    /// JSON, but nested deeper than the caller allows.
    Depth,
}

/// Which kind of container an open level is.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Object,
    Array,
}

impl Level {
    fn start(self) -> u8 {
        match self {
            Self::Object => b'{',
            Self::Array => b'[',
        }
    }

    fn end(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::Array => b']',
        }
    }
}

/// The deepest nesting any caller may ask for.
pub(crate) const MAX_DEPTH: usize = 1024;

/// Open containers by their depth, a bit for each that is an object.
struct Levels([u64; MAX_DEPTH / 64]);

// No depth is out of range, whoever asks: the remainder says so to the compiler.
impl Levels {
    #[inline(always)]
    fn set(&mut self, depth: usize, level: Level) {
        let bit = 1u64 << (depth % 64);
        let word = &mut self.0[depth / 64 % (MAX_DEPTH / 64)];
        match level {
            Level::Object => *word |= bit,
            Level::Array => *word &= !bit,
        }
    }

    #[inline(always)]
    fn get(&self, depth: usize) -> Level {
        if self.0[depth / 64 % (MAX_DEPTH / 64)] >> (depth % 64) & 1 == 1 {
            Level::Object
        } else {
            Level::Array
        }
    }
}

/// A cursor over one text. What is read often is inlined, so that a cursor can stay in registers; the
/// rest takes and gives parts of it.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    window: &'a mut Window,
    pos: usize,
    /// So many containers may still be opened inside each other.
    room: usize,
    /// There is white space that is not a plain blank.
    odd_white: bool,
}

impl<'a> Scanner<'a> {
    /// Reads `text`, which must be valid UTF-8, and which `window` has been made for; at most `depth` containers may stand inside each
    /// other, and never more than [`MAX_DEPTH`].
    #[inline(always)]
    pub(crate) fn new(text: &'a [u8], depth: usize, window: &'a mut Window) -> Self {
        Self {
            text,
            window,
            pos: 0,
            room: depth.min(MAX_DEPTH),
            odd_white: false,
        }
    }

    /// True when some of the white space read so far is a tab or the end of a line.
    pub(crate) fn has_odd_white(&self) -> bool {
        self.odd_white
    }

    /// True where some string read so far has more than ASCII in it, or may have.
    pub(crate) fn is_not_ascii(&self) -> bool {
        self.window.is_not_ascii()
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    /// Consumes `byte`, if that comes next.
    #[inline(always)]
    fn eat(&mut self, byte: u8) -> bool {
        if self.peek() == Some(byte) {
            self.pos += 1;
            return true;
        }
        false
    }

    /// Consumes `bytes`, if those come next.
    #[inline(always)]
    pub(crate) fn eat_all<const N: usize>(&mut self, bytes: &[u8; N]) -> bool {
        let next = self.text.get(self.pos..).and_then(<[u8]>::first_chunk);
        let same = next == Some(bytes);
        if same {
            self.pos += N;
        }
        same
    }

    /// The byte behind the next one.
    #[inline(always)]
    pub(crate) fn second(&self) -> Option<u8> {
        self.text.get(self.pos + 1).copied()
    }

    /// Consumes `byte`, if that is the next that is not white space.
    #[inline(always)]
    fn eat_solid(&mut self, byte: u8) -> bool {
        self.eat(byte) || self.next_kind() == Some(byte) && self.eat(byte)
    }

    /// The first byte of the next value, which says what it is; nothing is consumed.
    #[inline(always)]
    pub(crate) fn next_kind(&mut self) -> Option<u8> {
        match self.peek() {
            Some(byte) if byte <= b' ' => {
                let (pos, odd) = skip_white(self.text, self.pos);
                self.pos = pos;
                self.odd_white |= odd;
                self.peek()
            }
            byte => byte,
        }
    }

    #[inline(always)]
    fn span_from(&self, start: usize) -> Span {
        Span {
            start: start as u32,
            end: self.pos as u32,
        }
    }

    /// Reads one container, calling `part` before each value in it, which must consume exactly that.
    #[inline(always)]
    fn each<E: From<Fault>>(
        &mut self,
        level: Level,
        mut part: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.eat_solid(level.start()) {
            return Err(Fault::Syntax.into());
        }
        self.room = self.room.checked_sub(1).ok_or(Fault::Depth)?;
        if !self.eat_solid(level.end()) {
            loop {
                part(self)?;
                if !self.eat_solid(b',') {
                    break;
                }
            }
            if !self.eat(level.end()) {
                return Err(Fault::Syntax.into());
            }
        }
        self.room += 1;
        Ok(())
    }

    /// Reads one object, calling `member` with each key just before its value; `member` must consume
    /// exactly that value.
    #[inline(always)]
    pub(crate) fn object<E: From<Fault>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Quoted) -> Result<(), E>,
    ) -> Result<(), E> {
        self.members(|scanner| {
            let key = scanner.key()?;
            member(scanner, key)
        })
    }

    /// Reads one object, calling `member` before each key; `member` must consume exactly that, its
    /// colon, and its value.
    #[inline(always)]
    pub(crate) fn members<E: From<Fault>>(
        &mut self,
        member: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each(Level::Object, member)
    }

    /// Reads one array, calling `element` before each element; it must consume exactly that one.
    pub(crate) fn array<E: From<Fault>>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each(Level::Array, element)
    }

    /// Where what `read` consumes stands, leading white space aside.
    #[inline(always)]
    pub(crate) fn spanned<E>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<Span, E> {
        self.next_kind();
        let start = self.pos;
        read(self)?;
        Ok(self.span_from(start))
    }

    /// Reads one value of any kind and says where it stood.
    #[inline(always)]
    pub(crate) fn value(&mut self) -> Result<Span, Fault> {
        let kind = self.next_kind();
        let start = self.pos;
        match kind {
            Some(b'"') => return self.string(),
            Some(b'{' | b'[') => self.container()?,
            Some(first) => self.scalar(first)?,
            None => return Err(Fault::Syntax),
        }
        Ok(self.span_from(start))
    }

    /// Reads what is neither a container nor a string, and begins with `first`.
    #[inline(always)]
    fn scalar(&mut self, first: u8) -> Result<(), Fault> {
        match first {
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => Err(Fault::Syntax),
        }
    }

    #[inline(always)]
    fn word<const N: usize>(&mut self, word: &[u8; N]) -> Result<(), Fault> {
        let end = self.pos + N;
        if self.text.get(self.pos..end) != Some(word) {
            return Err(Fault::Syntax);
        }
        self.pos = end;
        Ok(())
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Fault> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            if self.eat(b'.') {
                self.digits()?;
            }
            if self.eat(b'e') || self.eat(b'E') {
                let _sign = self.eat(b'+') || self.eat(b'-');
                self.digits()?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<(), Fault> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(Fault::Syntax);
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.pos += 1;
        }
        Ok(())
    }

    /// Reads an object or array, without recursion.
    #[inline(always)]
    fn container(&mut self) -> Result<(), Fault> {
        let (pos, odd) = container(self.text, self.window, self.pos, self.room)?;
        self.pos = pos;
        self.odd_white |= odd;
        Ok(())
    }

    #[inline(always)]
    fn nested(&mut self) -> Result<(), Fault> {
        let mut levels = Levels([0; MAX_DEPTH / 64]);
        // The innermost open container; so many are open around it.
        let (mut level, mut depth) = (Level::Array, 0);
        loop {
            let opens = match self.next_kind() {
                Some(b'{') => Some(Level::Object),
                Some(b'[') => Some(Level::Array),
                Some(b'"') => {
                    self.string()?;
                    None
                }
                Some(first) => {
                    self.scalar(first)?;
                    None
                }
                None => return Err(Fault::Syntax),
            };
            // A value or a member follows in a container that is open.
            let mut more = false;
            if let Some(inner) = opens {
                if depth == self.room {
                    return Err(Fault::Depth);
                }
                self.pos += 1;
                more = !self.eat_solid(inner.end());
                if more {
                    levels.set(depth, level);
                    depth += 1;
                    level = inner;
                }
            }
            // Whatever ends behind the value.
            while !more {
                if depth == 0 {
                    return Ok(());
                }
                if self.eat_solid(b',') {
                    more = true;
                } else if self.eat(level.end()) {
                    depth -= 1;
                    level = levels.get(depth);
                } else {
                    return Err(Fault::Syntax);
                }
            }
            if level == Level::Object {
                self.skip_key()?;
            }
        }
    }

    /// Fails unless nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.next_kind() {
            None => Ok(()),
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Reads a key and its colon.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Quoted, Fault> {
        self.next_kind();
        let key = self.quoted()?;
        self.colon()?;
        Ok(key)
    }

    #[inline(always)]
    fn skip_key(&mut self) -> Result<(), Fault> {
        self.next_kind();
        self.string()?;
        self.colon()
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Fault> {
        if self.eat_solid(b':') {
            Ok(())
        } else {
            Err(Fault::Syntax)
        }
    }

    /// Reads one string.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Span, Fault> {
        self.quoted().map(|quoted| quoted.span)
    }

    /// Reads one string, and looks whether something in it is escaped.
    #[inline(always)]
    pub(crate) fn quoted(&mut self) -> Result<Quoted, Fault> {
        let start = self.pos;
        if !self.eat(b'"') {
            return Err(Fault::Syntax);
        }
        // Most end in the block that they begin in.
        let near = self.window.near(self.pos);
        let found = near.or_else(|| Some((self.window.find(self.text, self.pos)?, true)));
        let (end, escapes) = found.ok_or(Fault::Syntax)?;
        if self.text.get(end) != Some(&b'"') {
            return Err(Fault::Syntax);
        }
        self.pos = end + 1;
        Ok(Quoted {
            span: self.span_from(start),
            escapes,
        })
    }
}

/// Gives where white space ends, and whether some of it is no plain blank.
#[inline(never)]
fn skip_white(text: &[u8], mut pos: usize) -> (usize, bool) {
    let mut odd = false;
    while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = text.get(pos) {
        odd |= *byte != b' ';
        pos += 1;
    }
    (pos, odd)
}

/// Reads an object or array; gives where it ends, and whether white space in it is no plain blank.
#[inline(never)]
fn container(
    text: &[u8],
    window: &mut Window,
    pos: usize,
    room: usize,
) -> Result<(usize, bool), Fault> {
    let odd_white = false;
    let mut scanner = Scanner {
        text,
        window,
        pos,
        room,
        odd_white,
    };
    scanner.nested()?;
    Ok((scanner.pos, scanner.odd_white))
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
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(inner).ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accepts(text: &[u8]) -> bool {
        let mut window = Window::of(text);
        let mut scanner = Scanner::new(text, 128, &mut window);
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
            Scanner::new(deep.as_bytes(), 128, &mut Window::of(deep.as_bytes())).value(),
            Err(Fault::Depth)
        );
        let open = "[".repeat(1_000_000);
        assert_eq!(
            Scanner::new(open.as_bytes(), 4096, &mut Window::of(open.as_bytes())).value(),
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
        /// serde_json is the second opinion: what one of them takes, the other takes, lone
        /// surrogates and huge numbers (which serde_json refuses) aside.
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{},:"\\ 01eE.+\-a-cntrufalse\t]{0,24}"#) {
            let serde = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let ours = accepts(text.as_bytes());
            prop_assert!(ours == serde || ours, "{text:?}: ours {ours}, serde {serde}");
            if ours && !serde {
                prop_assert!(text.contains("\\u") || text.contains(['e', 'E']), "{text:?}");
            }
        }

        /// The same for longer texts, which span blocks and windows, with one byte changed.
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
}
