//! Text as bit masks, 64 bytes at a time.

use fearless_simd::prelude::*;
use fearless_simd::{Simd, SimdBase, u8x64};

/// Bytes processed together: a bit of a mask for each.
pub(super) const BLOCK: usize = 64;

/// The bytes of `text` from `pos` on, filled up with NUL, which no JSON contains.
#[inline(always)]
pub(super) fn bytes_at<'a>(
    text: &'a [u8],
    pos: usize,
    last: &'a mut [u8; BLOCK],
) -> Option<&'a [u8; BLOCK]> {
    let rest = text.get(pos..)?;
    if let Some(bytes) = rest.first_chunk() {
        return Some(bytes);
    }
    if rest.is_empty() {
        return None;
    }
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    Some(last)
}

/// 64 bytes, for some kind of processor.
#[derive(Clone, Copy)]
pub(super) struct Block<S: Simd> {
    simd: S,
    bytes: u8x64<S>,
}

impl<S: Simd> Block<S> {
    #[inline(always)]
    pub(super) fn new(simd: S, bytes: &[u8; BLOCK]) -> Self {
        let bytes = u8x64::simd_from(simd, *bytes);
        Self { simd, bytes }
    }

    #[inline(always)]
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            bytes: self.bytes | other.bytes,
            ..self
        }
    }

    #[inline(always)]
    fn splat(self, byte: u8) -> u8x64<S> {
        u8x64::splat(self.simd, byte)
    }

    #[inline(always)]
    pub(super) fn is_not_ascii(self) -> bool {
        self.bytes.simd_ge(self.splat(0x80)).any_true()
    }

    /// True if some byte ends a string, is no part of one, or escapes the next.
    #[inline(always)]
    pub(super) fn has_stop(self) -> bool {
        let quotes = self.bytes.simd_eq(self.splat(b'"'));
        let backslashes = self.bytes.simd_eq(self.splat(b'\\'));
        let controls = self.bytes.min(self.splat(0x1f)).simd_eq(self.bytes);
        (quotes | backslashes | controls).any_true()
    }

    /// A bit for each byte that is `byte`.
    #[inline(always)]
    pub(super) fn equal(self, byte: u8) -> u64 {
        self.bytes.simd_eq(self.splat(byte)).to_bitmask()
    }

    /// The same, whether bit 0x20 is set in it or not.
    #[inline(always)]
    pub(super) fn equal_folded(self, byte: u8) -> u64 {
        let folded = self.bytes | self.splat(0x20);
        folded.simd_eq(self.splat(byte)).to_bitmask()
    }

    #[inline(always)]
    pub(super) fn digits(self) -> u64 {
        let values = self.bytes - self.splat(b'0');
        values.min(self.splat(9)).simd_eq(values).to_bitmask()
    }

    #[inline(always)]
    pub(super) fn controls(self) -> u64 {
        self.bytes
            .min(self.splat(0x1f))
            .simd_eq(self.bytes)
            .to_bitmask()
    }

    /// A bit for each byte that may stand alone after a backslash.
    #[inline(always)]
    fn escapable(self) -> u64 {
        let lower = u8x64::simd_from(self.simd, LOWER)
            .swizzle_dyn_within_blocks(self.bytes & self.splat(0xf));
        let upper = u8x64::simd_from(self.simd, UPPER).swizzle_dyn_within_blocks(self.bytes >> 4);
        !(lower & upper).simd_eq(self.splat(0)).to_bitmask()
    }
}

/// By the lower half of a byte, and by the upper one: those of `"/`, `\`, `bfn` and `rt` have a bit in common.
const LOWER: [u8; BLOCK] = four_times([0, 0, 13, 0, 8, 0, 4, 0, 0, 0, 0, 0, 2, 0, 4, 1]);
const UPPER: [u8; BLOCK] = four_times([0, 0, 1, 0, 0, 2, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0]);

const fn four_times(table: [u8; 16]) -> [u8; BLOCK] {
    let (mut all, mut at) = ([0; BLOCK], 0);
    while at < BLOCK {
        all[at] = table[at % 16];
        at += 1;
    }
    all
}

/// The position after the blocks from `pos` on over which a string continues; adds them to `all`.
#[inline(always)]
pub(super) fn skip_plain<S: Simd>(text: &[u8], pos: usize, all: &mut Block<S>) -> usize {
    let (blocks, _) = text.get(pos..).unwrap_or_default().as_chunks();
    let mut plain = 0;
    for bytes in blocks {
        let block = Block::new(all.simd, bytes);
        if block.has_stop() {
            break;
        }
        *all = all.or(block);
        plain += 1;
    }
    pos + plain * BLOCK
}

/// Follows backslashes from block to block.
#[derive(Clone, Copy, Default)]
pub(super) struct Escapes {
    /// 1 if the last byte escapes the next.
    carry: u64,
}

/// The bytes of a block after a backslash.
pub(super) struct Escaped {
    pub all: u64,
    /// Those that may not be there, and `u` without four digits.
    pub wrong: u64,
}

impl Escapes {
    #[inline(always)]
    pub(super) fn is_pending(self) -> bool {
        self.carry != 0
    }

    /// Takes the next block, which is at `pos`.
    #[inline(always)]
    pub(super) fn take<S: Simd>(&mut self, block: Block<S>, text: &[u8], pos: usize) -> Escaped {
        let backslashes = block.equal(b'\\');
        if backslashes | self.carry == 0 {
            return Escaped { all: 0, wrong: 0 };
        }
        let all = self.escaped(backslashes);
        let unicode = all & block.equal(b'u');
        let mut wrong = all & !unicode & !block.escapable();
        if unicode != 0 {
            wrong |= without_digits(text, pos, unicode);
        }
        Escaped { all, wrong }
    }

    /// The bytes that are escaped by the `backslashes` of the next block.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        /// Every second byte, starting with the second.
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        // In a run of backslashes every second one is escaped. The end of a run is found by subtraction, and
        // whether its length is odd from its end.
        let first = backslashes & !self.carry;
        let ends = ((first << 1 | ODD).wrapping_sub(first)) ^ ODD;
        let escaped = ends ^ (backslashes | self.carry);
        self.carry = (ends & backslashes) >> (BLOCK - 1);
        escaped
    }
}

/// Those of `escaped`, of a block at `pos`, which four hexadecimal digits do not follow.
#[inline(never)]
fn without_digits(text: &[u8], pos: usize, mut escaped: u64) -> u64 {
    let mut wrong = 0;
    while escaped != 0 {
        let at = escaped.trailing_zeros() as usize;
        let digits = text.get(pos + at + 1..).and_then(<[u8]>::first_chunk::<4>);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            wrong |= 1 << at;
        }
        escaped &= escaped - 1;
    }
    wrong
}

/// The kinds of processors that this one can be.
#[cfg(test)]
pub(super) fn levels() -> Vec<fearless_simd::Level> {
    use fearless_simd::Level;
    let all = vec![Level::new(), Level::baseline()];
    #[cfg(target_arch = "x86_64")]
    let all = {
        let older = [
            Level::new().as_sse4_2().map(Level::Sse4_2),
            Level::new().as_avx2().map(Level::Avx2),
        ];
        all.into_iter().chain(older.into_iter().flatten()).collect()
    };
    all
}
