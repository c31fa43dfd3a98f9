//! Checks an object or array of which nothing is read, 64 bytes at a time.
//!
//! The grammar is a rule on neighbours: each token is followed by one of a few others. Most tokens are checked
//! together, as bits of masks; only brackets, and scalars other than plain integers, are taken one by one.

use super::super::blocks::{BLOCK, Block, Escapes, bytes_at, skip_plain};
use super::levels::Levels;
use super::{Fault, scalar_end};
use fearless_simd::{Level, Simd, dispatch};

/// What is known of a container once it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// The position after it.
    pub end: usize,
    /// Some of its white space is not a plain space.
    pub odd_white: bool,
    /// Its strings may contain non-ASCII characters.
    pub not_ascii: bool,
}

/// Checks the container that starts at `pos`, with at most `room` levels.
#[inline(never)]
pub(super) fn check(text: &[u8], pos: usize, room: usize) -> Result<Checked, Fault> {
    check_at(Level::new(), text, pos, room)
}

#[inline(always)]
pub(super) fn check_at(
    level: Level,
    text: &[u8],
    pos: usize,
    room: usize,
) -> Result<Checked, Fault> {
    dispatch!(level, simd => check_with(simd, text, pos, room))
}

#[inline(always)]
fn check_with<S: Simd>(
    simd: S,
    text: &[u8],
    mut pos: usize,
    room: usize,
) -> Result<Checked, Fault> {
    let mut last = [0; BLOCK];
    let mut state = State::new(text, room);
    let mut all = Block::new(simd, &last);
    while let Some(bytes) = bytes_at(text, pos, &mut last) {
        let block = Block::new(simd, bytes);
        all = all.or(block);
        if state.in_string != 0 && !state.escapes.is_pending() && !block.has_stop() {
            pos = skip_plain(text, pos + BLOCK, &mut all);
            continue;
        }
        if let Some(end) = state.take(block, bytes, pos)? {
            return Ok(Checked {
                end,
                odd_white: state.odd_white,
                not_ascii: all.is_not_ascii(),
            });
        }
        pos += BLOCK;
    }
    Err(Fault::Syntax)
}

/// Finds the tokens that follow others, from block to block.
#[derive(Default)]
struct Following {
    /// The last bit is set if the first token of the next block follows one.
    last: u64,
}

impl Following {
    /// The first byte after each of `bytes` that is not `white`.
    #[inline(always)]
    fn take(&mut self, bytes: u64, white: u64) -> u64 {
        let next = bytes << 1 | self.last >> (BLOCK - 1);
        self.last = bytes;
        if next & white == 0 {
            return next;
        }
        // Adding the first bit of a run moves it behind the run.
        let (moved, carry) = white.overflowing_add(next & white);
        self.last |= u64::from(carry) << (BLOCK - 1);
        (next | moved) & !white
    }
}

/// Brackets of a block.
struct Nesting {
    /// Where the innermost container is an object.
    in_object: u64,
    /// The bytes up to where it stops.
    inside: u64,
    stop: Option<Stop>,
}

/// Why nothing is checked any further.
enum Stop {
    /// The outermost container ends.
    End,
    /// There is one level too many.
    Depth,
}

/// What is carried from one block to the next.
struct State<'a> {
    text: &'a [u8],
    room: usize,
    levels: Levels,
    escapes: Escapes,
    /// All bits are set if the next byte is in a string.
    in_string: u64,
    /// That string is a key.
    in_key: bool,
    in_scalar: bool,
    /// Where the last scalar starts.
    scalar: usize,
    /// The scalars before are checked.
    checked: usize,
    /// Tokens after `[`, `{`, `,` and `:`.
    expected: Following,
    /// Tokens after `[` and `{`.
    first: Following,
    /// Tokens after `{`, and after `,` in an object.
    keys: Following,
    /// Tokens after keys.
    colons: Following,
    odd_white: bool,
}

impl<'a> State<'a> {
    #[inline(always)]
    fn new(text: &'a [u8], room: usize) -> Self {
        Self {
            text,
            room,
            levels: Levels::default(),
            escapes: Escapes::default(),
            in_string: 0,
            in_key: false,
            in_scalar: false,
            scalar: 0,
            checked: 0,
            expected: Following {
                last: 1 << (BLOCK - 1),
            },
            first: Following::default(),
            keys: Following::default(),
            colons: Following::default(),
            odd_white: false,
        }
    }

    /// Checks the next block, which is at `pos`; returns the end of the container if that is in it.
    #[inline(always)]
    fn take<S: Simd>(
        &mut self,
        block: Block<S>,
        bytes: &[u8; BLOCK],
        pos: usize,
    ) -> Result<Option<usize>, Fault> {
        let escaped = self.escapes.take(block, self.text, pos);
        let quotes = block.equal(b'"') & !escaped.all;
        let controls = block.controls();
        if self.in_string != 0 && quotes == 0 {
            let good = controls | escaped.wrong == 0;
            return good.then_some(None).ok_or(Fault::Syntax);
        }
        // From each opening quotation mark to before the closing one.
        let strings = up_to_next(quotes) ^ self.in_string;
        self.in_string = 0u64.wrapping_sub(strings >> (BLOCK - 1));
        let outside = !(strings | quotes);

        let opens = block.equal_folded(b'{') & outside;
        let closes = block.equal_folded(b'}') & outside;
        let nesting = self.nest(bytes, opens, closes)?;
        let commas = block.equal(b',') & outside;
        let colons = block.equal(b':') & outside;
        let mut white = block.equal(b' ') & outside;
        if controls & outside != 0 {
            let odd = block.equal(b'\n') | block.equal(b'\r') | block.equal(b'\t');
            white |= odd & outside;
            self.odd_white |= odd & outside & nesting.inside != 0;
        }
        let scalars = outside & !(opens | closes | commas | colons | white);
        let scalar_starts = scalars & !(scalars << 1 | u64::from(self.in_scalar));
        self.scalars(block, scalars, scalar_starts, nesting.inside, pos)?;

        let starts = quotes & strings | scalar_starts | opens;
        let expected = self.expected.take(opens | commas | colons, white);
        let first = self.first.take(opens, white);
        let keys = self.keys.take((opens | commas) & nesting.in_object, white);
        let key_ends = self.key_ends(keys & quotes, strings);
        let after_keys = self.colons.take(key_ends, white);
        // What is expected is there and nothing else starts, except that a container may be empty.
        let wrong = expected ^ (starts | closes & first)
            // Keys are strings.
            | keys & !(quotes | closes)
            // Each has a colon, and nothing else has.
            | after_keys ^ colons
            | (controls | escaped.wrong) & strings;
        if wrong & nesting.inside != 0 {
            return Err(Fault::Syntax);
        }
        match nesting.stop {
            None => Ok(None),
            Some(Stop::Depth) => Err(Fault::Depth),
            Some(Stop::End) => Ok(Some(pos + nesting.inside.count_ones() as usize)),
        }
    }

    /// The closing quotation marks of the keys that start in this block, or continue in it.
    #[inline(always)]
    fn key_ends(&mut self, starts: u64, strings: u64) -> u64 {
        let (moved, carry) = strings.overflowing_add(starts | u64::from(self.in_key));
        self.in_key = carry;
        moved & !strings
    }

    #[inline(always)]
    fn nest(&mut self, bytes: &[u8; BLOCK], opens: u64, closes: u64) -> Result<Nesting, Fault> {
        let mask = |levels: &Levels| 0u64.wrapping_sub(u64::from(levels.in_object()));
        let mut in_object = mask(&self.levels);
        let mut rest = opens | closes;
        while rest != 0 {
            let (at, inside) = (rest.trailing_zeros(), rest ^ (rest - 1));
            rest &= rest - 1;
            let is_object = bytes[at as usize % BLOCK] & 0x20 != 0;
            let opening = opens >> at & 1 != 0;
            if opening {
                if self.levels.depth() >= self.room {
                    return Ok(Nesting {
                        in_object,
                        inside,
                        stop: Some(Stop::Depth),
                    });
                }
                self.levels.open(is_object);
            } else {
                if self.levels.in_object() != is_object {
                    return Err(Fault::Syntax);
                }
                self.levels.close();
                if self.levels.depth() == 0 {
                    return Ok(Nesting {
                        in_object,
                        inside,
                        stop: Some(Stop::End),
                    });
                }
            }
            let before = inside >> 1;
            in_object = in_object & before | mask(&self.levels) & !before;
        }
        Ok(Nesting {
            in_object,
            inside: u64::MAX,
            stop: None,
        })
    }

    /// Checks those scalars of a block that are not plain integers.
    #[inline(always)]
    fn scalars<S: Simd>(
        &mut self,
        block: Block<S>,
        scalars: u64,
        starts: u64,
        inside: u64,
        pos: usize,
    ) -> Result<(), Fault> {
        let zeros = starts & block.equal(b'0') & (scalars >> 1 | 1 << (BLOCK - 1));
        let mut odd = (scalars & !block.digits() | zeros) & inside;
        while odd != 0 {
            let bit = odd & odd.wrapping_neg();
            let before = starts & (bit | (bit - 1));
            if before != 0 {
                self.scalar = pos + (BLOCK - 1 - before.leading_zeros() as usize);
            }
            if self.scalar >= self.checked {
                self.checked = scalar_end(self.text, self.scalar).ok_or(Fault::Syntax)?;
            }
            let done = self.checked.saturating_sub(pos);
            odd &= u64::MAX.checked_shl(done as u32).unwrap_or(0) & !bit;
        }
        self.in_scalar = scalars >> (BLOCK - 1) != 0;
        if self.in_scalar && starts != 0 {
            self.scalar = pos + (BLOCK - 1 - starts.leading_zeros() as usize);
        }
        Ok(())
    }
}

/// From each bit to before the next: a carry-less product by all ones.
#[inline(always)]
fn up_to_next(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}
