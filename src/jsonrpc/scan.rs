//! A strict JSON reader that finds where things stand and copies nothing.
//!
//! It accepts exactly RFC 8259 (no NaN, no comments, no trailing bytes) and leaves every value
//! where it is: callers get spans. It knows nothing of JSON-RPC.

use std::borrow::Cow;
use wide::u8x16;

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
    /// Nothing in it is escaped.
    pub plain: bool,
}

impl Quoted {
    /// Its text, escapes undone. Empty where it has no agreed one, as with half a surrogate pair: no
    /// known name is empty.
    pub(crate) fn text(self, line: &[u8]) -> Cow<'_, [u8]> {
        let raw = self.span.of(line);
        if self.plain {
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

/// How a string is written.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Plain,
    Escaped,
}

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

/// A cursor over one text. What is read often takes `&mut self` and is small enough to be inlined;
/// the rest takes and gives `self`, so that a cursor can stay in registers.
#[derive(Clone, Copy)]
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    pos: usize,
    /// So many containers may still be opened inside each other.
    room: usize,
    /// Where the block begins whose stops are known.
    block: usize,
    stops: u64,
    /// There is white space that is not a plain blank.
    odd_white: bool,
    /// There is more than ASCII in a string.
    not_ascii: bool,
}

/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Where no block begins that any byte of a line is in.
const NO_BLOCK: usize = usize::MAX / 2;

/// Before so many bytes it pays to look for blocks without a stop first.
const LONG: usize = 4 * BLOCK;

/// So many of them fit into a vector register.
const LANES: usize = 16;

/// What a string cannot go on with.
struct Stops {
    /// A bit for each byte of a block that is a quote, a backslash or a control character.
    mask: u64,
    /// The block has more than ASCII in it.
    not_ascii: bool,
}

impl Stops {
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut all = u8x16::splat(0);
        let mut mask = 0;
        let (vectors, _) = block.as_chunks::<LANES>();
        for (at, vector) in vectors.iter().enumerate() {
            let vector = u8x16::new(*vector);
            all |= vector;
            let controls = vector.min(u8x16::splat(0x1f)).simd_eq(vector);
            let found = quotes_and_escapes(vector) | controls;
            mask |= u64::from(found.to_bitmask()) << (at * LANES);
        }
        let not_ascii = all.to_bitmask() != 0;
        Self { mask, not_ascii }
    }

    /// As [`Stops::of`], for what may be shorter; there is a stop at its end then.
    fn of_part(part: &[u8]) -> Self {
        if let Some(block) = part.first_chunk() {
            return Self::of(block);
        }
        let mut block = [0; BLOCK];
        block[..part.len()].copy_from_slice(part);
        Self::of(&block)
    }
}

fn quotes_and_escapes(vector: u8x16) -> u8x16 {
    vector.simd_eq(u8x16::splat(b'"')) | vector.simd_eq(u8x16::splat(b'\\'))
}

/// How many blocks a string certainly goes on over, and whether they are more than ASCII. Cheaper
/// than [`Stops`], since it does not tell where one is.
fn plain_blocks(rest: &[u8]) -> (usize, bool) {
    let mut all = u8x16::splat(0);
    let (blocks, _) = rest.as_chunks::<BLOCK>();
    let is_plain = |block: &&[u8; BLOCK]| {
        let (vectors, _) = block.as_chunks::<LANES>();
        let (mut found, mut least) = (u8x16::splat(0), u8x16::splat(0xff));
        for vector in vectors {
            let vector = u8x16::new(*vector);
            found |= quotes_and_escapes(vector);
            least = least.min(vector);
            all |= vector;
        }
        let controls = least.min(u8x16::splat(0x1f)).simd_eq(least);
        (found | controls).to_bitmask() == 0
    };
    let plain = blocks.iter().take_while(is_plain).count();
    (plain, all.to_bitmask() != 0)
}

impl<'a> Scanner<'a> {
    /// Reads `text`, which must be valid UTF-8; at most `depth` containers may stand inside each
    /// other, and never more than [`MAX_DEPTH`].
    #[inline(always)]
    pub(crate) fn new(text: &'a [u8], depth: usize) -> Self {
        Self {
            text,
            pos: 0,
            room: depth.min(MAX_DEPTH),
            block: NO_BLOCK,
            stops: 0,
            odd_white: false,
            not_ascii: false,
        }
    }

    /// True when some of the white space read so far is a tab or the end of a line.
    pub(crate) fn has_odd_white(&self) -> bool {
        self.odd_white
    }

    /// True where some string read so far has more than ASCII in it, or may have.
    pub(crate) fn is_not_ascii(&self) -> bool {
        self.not_ascii
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
                *self = self.skip_white().unpacked();
                self.peek()
            }
            byte => byte,
        }
    }

    /// The same in variables of the caller's own, which can be registers.
    #[inline(always)]
    fn unpacked(self) -> Self {
        Self {
            text: self.text,
            pos: self.pos,
            room: self.room,
            block: self.block,
            stops: self.stops,
            odd_white: self.odd_white,
            not_ascii: self.not_ascii,
        }
    }

    #[inline(never)]
    fn skip_white(mut self) -> Self {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.odd_white |= byte != b' ';
            self.pos += 1;
        }
        self
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
        self.each(Level::Object, |scanner| {
            let key = scanner.key()?;
            member(scanner, key)
        })
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
            Some(b'"') => return self.string().map(|quoted| quoted.span),
            Some(b'{' | b'[') => {
                let (after, fault) = self.container();
                *self = after.unpacked();
                fault?;
            }
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
    #[inline(never)]
    fn container(self) -> (Self, Result<(), Fault>) {
        let mut at = self.unpacked();
        let read = at.nested();
        (at, read)
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
                self.key()?;
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

    #[inline(always)]
    fn key(&mut self) -> Result<Quoted, Fault> {
        if self.peek() != Some(b'"') {
            self.next_kind();
        }
        let key = self.string()?;
        if self.eat_solid(b':') {
            Ok(key)
        } else {
            Err(Fault::Syntax)
        }
    }

    /// Reads one string.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Quoted, Fault> {
        let start = self.pos;
        if !self.eat(b'"') {
            return Err(Fault::Syntax);
        }
        let mut plain = true;
        // Most end in the block that they begin in.
        let within = self.pos.wrapping_sub(self.block);
        let stops = self.stops.unbounded_shr(within.min(BLOCK) as u32);
        let end = self.pos + stops.trailing_zeros() as usize;
        if stops != 0 && self.text.get(end) == Some(&b'"') {
            self.pos = end + 1;
        } else {
            let (after, read) = self.rest_of_string();
            *self = after.unpacked();
            plain = read? == Style::Plain;
        }
        let span = self.span_from(start);
        Ok(Quoted { span, plain })
    }

    /// Reads on to the end of a string.
    #[inline(never)]
    fn rest_of_string(self) -> (Self, Result<Style, Fault>) {
        let mut at = self.unpacked();
        let read = at.end_of_string();
        (at, read)
    }

    #[inline(always)]
    fn end_of_string(&mut self) -> Result<Style, Fault> {
        let mut style = Style::Plain;
        loop {
            let within = self.pos % BLOCK;
            if self.pos - within != self.block {
                self.look_at(self.pos - within);
            }
            let stops = self.stops >> within;
            if stops == 0 {
                self.pos += BLOCK - within;
                // Where one block has no stop at all, the next ones may have none either.
                if self.stops == 0 && self.text.len().saturating_sub(self.pos) >= LONG {
                    self.skip_plain_blocks();
                }
                continue;
            }
            self.pos += stops.trailing_zeros() as usize;
            let rest = self.text.get(self.pos..).unwrap_or_default();
            self.pos += match rest {
                [b'"', ..] => {
                    self.pos += 1;
                    return Ok(style);
                }
                [
                    b'\\',
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
                    ..,
                ] => 2,
                [b'\\', b'u', hex @ ..] if is_code_unit(hex) => 6,
                _ => return Err(Fault::Syntax),
            };
            style = Style::Escaped;
        }
    }

    #[inline(always)]
    fn skip_plain_blocks(&mut self) {
        let rest = self.text.get(self.pos..).unwrap_or_default();
        let (plain, not_ascii) = plain_blocks(rest);
        self.not_ascii |= not_ascii;
        self.pos += plain * BLOCK;
    }

    #[inline(always)]
    fn look_at(&mut self, block: usize) {
        let part = self.text.get(block..).unwrap_or_default();
        let Stops { mask, not_ascii } = Stops::of_part(part);
        self.block = block;
        self.stops = mask;
        self.not_ascii |= not_ascii;
    }
}

fn is_code_unit(hex: &[u8]) -> bool {
    hex.first_chunk::<4>()
        .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
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
