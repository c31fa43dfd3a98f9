//! A strict JSON parser that records positions and copies nothing.
//!
//! It accepts exactly RFC 8259 (no NaN, no comments, no trailing bytes) and leaves every value
//! where it is: callers get spans. Independent of JSON-RPC.

mod container;
mod levels;

pub(crate) use levels::MAX_DEPTH;

use super::span::{Quoted, Span};
use super::text;
use levels::Levels;

/// What is left of a text from which it pays to check a container 64 bytes at a time: that takes some hundred
/// instructions more than a few tokens.
const LONG: usize = 4096;

/// Why a text is not JSON that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not JSON at all.
    Syntax,
    /// JSON, but nested deeper than the caller allows.
    Depth,
}

/// A cursor over one text. The hot functions are inlined, so that a cursor can stay in registers; the
/// others take and return parts of it.
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    pos: usize,
    /// How many more levels may be nested.
    room: usize,
    /// There is white space other than a plain space.
    odd_white: bool,
    not_ascii: bool,
}

impl<'a> Scanner<'a> {
    /// Parses `text`; at most `depth` containers may be nested, and never more than [`MAX_DEPTH`].
    #[inline(always)]
    pub(crate) fn new(text: &'a [u8], depth: usize) -> Self {
        Self {
            text,
            pos: 0,
            room: depth.min(MAX_DEPTH),
            odd_white: false,
            not_ascii: false,
        }
    }

    /// True when some of the white space so far is a tab or a line end.
    pub(crate) fn has_odd_white(&self) -> bool {
        self.odd_white
    }

    /// True when some string so far contains non-ASCII characters, or may.
    pub(crate) fn is_not_ascii(&self) -> bool {
        self.not_ascii
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.pos).copied()
    }

    /// Consumes `byte`, if it is next.
    #[inline(always)]
    fn eat(&mut self, byte: u8) -> bool {
        if self.peek() == Some(byte) {
            self.pos += 1;
            return true;
        }
        false
    }

    /// Consumes `bytes`, if they are next.
    #[inline(always)]
    pub(crate) fn eat_all<const N: usize>(&mut self, bytes: &[u8; N]) -> bool {
        let next = self.text.get(self.pos..).and_then(<[u8]>::first_chunk);
        let same = next == Some(bytes);
        if same {
            self.pos += N;
        }
        same
    }

    /// The byte after the next one.
    #[inline(always)]
    pub(crate) fn second(&self) -> Option<u8> {
        self.text.get(self.pos + 1).copied()
    }

    /// Consumes `byte`, if it is next after white space.
    #[inline(always)]
    fn eat_solid(&mut self, byte: u8) -> bool {
        self.eat(byte) || self.next_kind() == Some(byte) && self.eat(byte)
    }

    /// The first byte of the next value, which determines its type; nothing is consumed.
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

    /// Parses one container, calling `part` before each value in it, which must consume exactly that.
    #[inline(always)]
    fn each<E: From<Fault>>(
        &mut self,
        [start, end]: [u8; 2],
        mut part: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.eat_solid(start) {
            return Err(Fault::Syntax.into());
        }
        self.room = self.room.checked_sub(1).ok_or(Fault::Depth)?;
        if !self.eat_solid(end) {
            loop {
                part(self)?;
                if !self.eat_solid(b',') {
                    break;
                }
            }
            if !self.eat(end) {
                return Err(Fault::Syntax.into());
            }
        }
        self.room += 1;
        Ok(())
    }

    /// Parses one object, calling `member` with each key just before its value; `member` must consume
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

    /// Parses one object, calling `member` before each key; `member` must consume exactly that, its
    /// colon, and its value.
    #[inline(always)]
    pub(crate) fn members<E: From<Fault>>(
        &mut self,
        member: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each(*b"{}", member)
    }

    /// Parses one array, calling `element` before each element; it must consume exactly that one.
    pub(crate) fn array<E: From<Fault>>(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each(*b"[]", element)
    }

    /// The span of what `read` consumes, without leading white space.
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

    /// Parses one value of any kind and returns its span.
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

    /// Parses a value that is neither a container nor a string, and starts with `first`.
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

    /// Parses an object or array, without recursion.
    #[inline(always)]
    fn container(&mut self) -> Result<(), Fault> {
        if self.text.len() - self.pos < LONG {
            *self = short_container(Self { ..*self })?;
            return Ok(());
        }
        let checked = container::check(self.text, self.pos, self.room)?;
        self.pos = checked.end;
        self.odd_white |= checked.odd_white;
        self.not_ascii |= checked.not_ascii;
        Ok(())
    }

    #[inline(always)]
    fn nested(&mut self) -> Result<(), Fault> {
        let mut levels = Levels::default();
        loop {
            // A value or a member follows in an open container.
            let mut more = false;
            match self.next_kind().ok_or(Fault::Syntax)? {
                first @ (b'{' | b'[') => {
                    if levels.depth() >= self.room {
                        return Err(Fault::Depth);
                    }
                    self.pos += 1;
                    levels.open(first == b'{');
                    more = !self.eat_solid(levels.end());
                    if !more {
                        levels.close();
                    }
                }
                b'"' => drop(self.string()?),
                first => self.scalar(first)?,
            }
            // Whatever ends after the value.
            while !more {
                if levels.depth() == 0 {
                    return Ok(());
                }
                if self.eat_solid(b',') {
                    more = true;
                } else if self.eat(levels.end()) {
                    levels.close();
                } else {
                    return Err(Fault::Syntax);
                }
            }
            if levels.in_object() {
                self.skip_key()?;
            }
        }
    }

    /// Fails unless only white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match self.next_kind() {
            None => Ok(()),
            Some(_) => Err(Fault::Syntax),
        }
    }

    /// Parses a key and its colon.
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

    /// Parses one string.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<Span, Fault> {
        self.quoted().map(|quoted| quoted.span)
    }

    /// Parses one string, and checks whether it contains an escape.
    #[inline(always)]
    pub(crate) fn quoted(&mut self) -> Result<Quoted, Fault> {
        let start = self.pos;
        if !self.eat(b'"') {
            return Err(Fault::Syntax);
        }
        // Most are short and plain.
        let found = match text::near_end(self.text, self.pos) {
            Some(end) => end,
            None => text::end(self.text, self.pos).ok_or(Fault::Syntax)?,
        };
        self.pos = found.pos + 1;
        self.not_ascii |= found.not_ascii;
        Ok(Quoted {
            span: self.span_from(start),
            escapes: found.escapes,
        })
    }
}

/// Returns the end of white space, and whether some of it is not a plain space.
#[inline(never)]
fn skip_white(text: &[u8], mut pos: usize) -> (usize, bool) {
    let mut odd = false;
    while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = text.get(pos) {
        odd |= *byte != b' ';
        pos += 1;
    }
    (pos, odd)
}

/// Parses an object or array token by token; returns the scanner behind it.
#[inline(never)]
fn short_container(mut scanner: Scanner<'_>) -> Result<Scanner<'_>, Fault> {
    scanner.nested()?;
    Ok(scanner)
}

/// The end of the scalar at `pos`. `None` if there is none, or something is attached to it.
#[inline(never)]
fn scalar_end(text: &[u8], pos: usize) -> Option<usize> {
    let mut scanner = Scanner::new(text, 0);
    scanner.pos = pos;
    scanner.scalar(scanner.peek()?).ok()?;
    let ends = matches!(
        scanner.peek(),
        None | Some(b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'[' | b']' | b'{' | b'}' | b'"')
    );
    ends.then_some(scanner.pos)
}

#[cfg(test)]
mod tests;
