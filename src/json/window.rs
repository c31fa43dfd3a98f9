//! Finds the end of strings: quotation marks, escapes and control characters of a text, many bytes at
//! a time.

use wide::u8x16;

/// Bytes processed together.
const BLOCK: usize = 64;

/// How many of them fit in a vector register.
const LANES: usize = 16;
const VECTORS: usize = BLOCK / LANES;

/// How many blocks are processed before the first of them is needed.
const BLOCKS: usize = 8;

/// The remaining length from which it pays to look for blocks without a stop first.
const LONG: usize = 4 * BLOCK;

/// Consecutive blocks, and the stops in them: bytes that a string cannot contain, or that end
/// it. Blocks are numbered from the start of the text.
#[derive(Default)]
pub(crate) struct Window {
    first: usize,
    /// The number of known blocks.
    known: usize,
    /// A bit for each byte that is an unescaped quotation mark, a control character, or
    /// the start of an invalid escape.
    stops: [u64; BLOCKS],
    /// A bit for each block that contains an escape.
    escapes: u64,
    /// The last byte of the last block escapes the next one.
    escaping: bool,
    not_ascii: bool,
}

impl Window {
    /// The first blocks of `text`.
    pub(crate) fn of(text: &[u8]) -> Self {
        let mut window = Self::default();
        window.move_to(text, 0);
        window
    }

    /// True if a block processed so far contains non-ASCII bytes.
    pub(crate) fn is_not_ascii(&self) -> bool {
        self.not_ascii
    }

    /// The first stop from `pos` on, if it is in the same block and that is known, and whether
    /// that block contains an escape.
    #[inline(always)]
    pub(crate) fn near(&self, pos: usize) -> Option<(usize, bool)> {
        let at = (pos / BLOCK).wrapping_sub(self.first);
        let stops = *self.stops.get(at)? >> (pos % BLOCK);
        let found = stops != 0 && at < self.known;
        found.then(|| {
            (
                pos + stops.trailing_zeros() as usize,
                self.escapes >> at & 1 == 1,
            )
        })
    }

    /// The first stop from `pos` on, inside a string; everything before it has been checked,
    /// or is done.
    #[inline(never)]
    pub(crate) fn find(&mut self, text: &[u8], mut pos: usize) -> Option<usize> {
        while pos < text.len() {
            let at = (pos / BLOCK).wrapping_sub(self.first);
            if at >= self.known {
                self.move_to(text, pos / BLOCK);
                continue;
            }
            let stops = self.stops.get(at).map_or(0, |stops| stops >> (pos % BLOCK));
            if stops != 0 {
                return Some(pos + stops.trailing_zeros() as usize);
            }
            pos += BLOCK - pos % BLOCK;
            // If one block has no stop at all, the next ones may have none either.
            if at + 1 == self.known
                && self.stops.get(at) == Some(&0)
                && !self.escaping
                && text.len().saturating_sub(pos) >= LONG
            {
                let (plain, not_ascii) = plain_blocks(text.get(pos..).unwrap_or_default());
                self.not_ascii |= not_ascii;
                pos += plain * BLOCK;
            }
        }
        None
    }

    /// Processes the blocks from `block` on. If that is not the next one, the skipped blocks
    /// escape nothing, or a string starts in it: then escapes before it do not matter.
    #[inline(never)]
    fn move_to(&mut self, text: &[u8], block: usize) {
        self.escaping &= block == self.first + self.known;
        (self.first, self.known, self.escapes) = (block, 0, 0);
        let rest = text.get(block * BLOCK..).unwrap_or_default();
        let (whole, part) = rest.as_chunks();
        let mut all = u8x16::splat(0);
        for bytes in whole.iter().take(BLOCKS) {
            self.look_at(text, bytes, &mut all);
        }
        if whole.len() < BLOCKS && !part.is_empty() {
            let mut bytes = [0; BLOCK];
            bytes[..part.len()].copy_from_slice(part);
            self.look_at(text, &bytes, &mut all);
        }
        self.not_ascii |= all.to_bitmask() != 0;
    }

    /// Processes the next block, and adds all its bytes to `all`.
    #[inline(always)]
    fn look_at(&mut self, text: &[u8], bytes: &[u8; BLOCK], all: &mut u8x16) {
        let vectors = vectors(bytes);
        *all |= any(vectors);
        let ends = vectors.map(|vector| vector.simd_eq(u8x16::splat(b'"')) | controls(vector));
        let backslashes = vectors.map(|vector| vector.simd_eq(u8x16::splat(b'\\')));
        let mut stops = mask(ends);
        if self.escaping || any(backslashes).to_bitmask() != 0 {
            self.escapes |= 1 << self.known;
            let escaped = self.escaped(mask(backslashes));
            stops = stops & !escaped | wrong(text, self.first + self.known, bytes, escaped);
        }
        if let Some(known) = self.stops.get_mut(self.known) {
            *known = stops;
            self.known += 1;
        }
    }

    /// The bytes escaped by the `backslashes` of the next block.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        /// Every second byte, starting with the second.
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        let carry = u64::from(self.escaping);
        // In a run of backslashes every second one is escaped. The end of a run is found by
        // subtraction, and whether its length is odd from its end.
        let first = backslashes & !carry;
        let ends = ((first << 1 | ODD).wrapping_sub(first)) ^ ODD;
        self.escaping = ends & backslashes & 1 << (BLOCK - 1) != 0;
        ends ^ (backslashes | carry)
    }
}

/// Those `escaped` bytes of a block that may not be escaped.
#[inline(always)]
fn wrong(text: &[u8], block: usize, bytes: &[u8; BLOCK], escaped: u64) -> u64 {
    let mut worst = 0;
    let mut rest = escaped;
    while rest != 0 {
        let byte = bytes[rest.trailing_zeros() as usize % BLOCK];
        worst |= ESCAPES[usize::from(byte)];
        rest &= rest - 1;
    }
    if worst == 0 {
        0
    } else {
        look_closely(text, block, escaped)
    }
}

/// For each byte, its meaning after a backslash: 0 for an escape, 1 for the start of one, 2 for none.
const ESCAPES: [u8; 256] = {
    let mut escapes = [2; 256];
    let whole = b"\"\\/bfnrt";
    let mut at = 0;
    while at < whole.len() {
        escapes[whole[at] as usize] = 0;
        at += 1;
    }
    escapes[b'u' as usize] = 1;
    escapes
};

#[inline(never)]
fn look_closely(text: &[u8], block: usize, escaped: u64) -> u64 {
    let is_wrong = |at: &usize| match text.get(block * BLOCK + at..) {
        Some([b'u', hex @ ..]) => !hex
            .first_chunk::<4>()
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        Some([byte, ..]) => ESCAPES[usize::from(*byte)] != 0,
        _ => true,
    };
    let bits = (0..BLOCK).filter(|at| escaped >> at & 1 == 1);
    bits.filter(is_wrong).fold(0, |all, at| all | 1 << at)
}

#[inline(always)]
fn vectors(bytes: &[u8; BLOCK]) -> [u8x16; VECTORS] {
    let (vectors, _) = bytes.as_chunks::<LANES>();
    std::array::from_fn(|at| u8x16::new(vectors[at]))
}

#[inline(always)]
fn any([a, b, c, d]: [u8x16; VECTORS]) -> u8x16 {
    (a | b) | (c | d)
}

/// A bit for each byte of a block.
#[inline(always)]
fn mask([a, b, c, d]: [u8x16; VECTORS]) -> u64 {
    let pair = |low: u8x16, high: u8x16| low.to_bitmask() | high.to_bitmask() << LANES;
    u64::from(pair(a, b)) | u64::from(pair(c, d)) << (2 * LANES)
}

#[inline(always)]
fn controls(vector: u8x16) -> u8x16 {
    vector.min(u8x16::splat(0x1f)).simd_eq(vector)
}

/// The number of blocks over which a string certainly continues, and whether they contain non-ASCII. Cheaper
/// than looking for stops, since it does not say where one is.
fn plain_blocks(rest: &[u8]) -> (usize, bool) {
    let mut all = u8x16::splat(0);
    let (blocks, _) = rest.as_chunks::<BLOCK>();
    let is_plain = |block: &&[u8; BLOCK]| {
        let (mut found, mut least) = (u8x16::splat(0), u8x16::splat(0xff));
        for vector in vectors(block) {
            found |= vector.simd_eq(u8x16::splat(b'"')) | vector.simd_eq(u8x16::splat(b'\\'));
            least = least.min(vector);
            all |= vector;
        }
        (found | controls(least)).to_bitmask() == 0
    };
    let plain = blocks.iter().take_while(is_plain).count();
    (plain, all.to_bitmask() != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The end of the string whose text starts at `pos`, byte by byte: its quotation mark, or a byte
    /// that it cannot contain.
    fn plainly(text: &[u8], mut pos: usize) -> Option<usize> {
        loop {
            match text.get(pos..)? {
                [b'"' | 0..=0x1f, ..] => return Some(pos),
                [b'\\', b'u', hex @ ..] if hex.len() >= 4 => {
                    let good = hex[..4].iter().all(u8::is_ascii_hexdigit);
                    if !good {
                        return Some(pos + 1);
                    }
                    pos += 6;
                }
                [b'\\', byte, ..] if b"\"\\/bfnrt".contains(byte) => pos += 2,
                [b'\\', _, ..] => return Some(pos + 1),
                [b'\\'] | [] => return None,
                _ => pos += 1,
            }
        }
    }

    fn runs() -> impl Strategy<Value = Vec<u8>> {
        let run = prop_oneof![
            4 => Just("x"), 1 => Just("é"), 4 => Just("\\"), 2 => Just("\""), 1 => Just("\n"),
            1 => Just("u"), 1 => Just("\\u00e9"), 1 => Just("\\n"),
        ];
        let runs = (
            run,
            prop_oneof![4 => 0usize..4, 1 => 60usize..70, 1 => 200usize..700],
        );
        prop::collection::vec(runs, 0..12).prop_map(|runs| {
            let texts = runs.iter().map(|(text, times)| text.repeat(*times));
            texts.collect::<String>().into_bytes()
        })
    }

    proptest! {
        /// Strings one after the other, skipping what is between them.
        #[test]
        fn finds_what_a_look_at_each_byte_finds(text in runs(), gaps in prop::collection::vec(0usize..1500, 8)) {
            let mut window = Window::of(&text);
            let mut pos = 0;
            for gap in gaps {
                let found = match window.near(pos) {
                    Some((found, escapes)) => {
                        let within = &text[pos..found.min(text.len())];
                        prop_assert!(escapes || !within.contains(&b'\\'));
                        Some(found)
                    }
                    None => window.find(&text, pos),
                };
                let expected = plainly(&text, pos);
                let end =
                    |found: Option<usize>| found.filter(|at| text.get(*at) == Some(&b'"'));
                prop_assert_eq!(end(found), end(expected), "from {}", pos);
                let Some(found) = end(found) else { break };
                prop_assert!(window.is_not_ascii() || text[pos..found].is_ascii());
                // The first byte of a string is not escaped.
                let from = (found + 1 + gap).min(text.len());
                let run = text[from - 1..].iter().take_while(|byte| **byte == b'\\');
                pos = (from + run.count()).min(text.len());
            }
        }
    }
}
