//! Finds the end of strings: quotation marks, escapes and control characters of a text, many bytes at a time.

use super::blocks::{BLOCK, Block, Escapes, bytes_at, skip_plain};
use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, i8x16};

/// What is known of a string once its end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Of its closing quotation mark.
    pub pos: usize,
    /// It may contain an escape.
    pub escapes: bool,
    /// It may contain non-ASCII characters.
    pub not_ascii: bool,
}

/// Bytes of a short string.
const NEAR: usize = 16;

/// As [`end`], for a short string of plain ASCII that is not among the last bytes; `None` for any other.
#[inline(always)]
pub(super) fn near_end(text: &[u8], pos: usize) -> Option<End> {
    let bytes = text.get(pos..)?.first_chunk::<NEAR>()?;
    let stops = dispatch!(Level::baseline(), simd => {
        let bytes = i8x16::simd_from(simd, bytes.map(u8::cast_signed));
        let equal = |byte: u8| bytes.simd_eq(i8x16::splat(simd, byte.cast_signed()));
        // Bytes that are not ASCII are negative, too.
        let odd = bytes.simd_lt(i8x16::splat(simd, b' '.cast_signed()));
        (odd | equal(b'"') | equal(b'\\')).to_bitmask()
    });
    let pos = pos + stops.trailing_zeros() as usize;
    let ends = stops != 0 && text.get(pos) == Some(&b'"');
    ends.then_some(End {
        pos,
        escapes: false,
        not_ascii: false,
    })
}

/// The end of the string whose text starts at `pos`; `None` if that is no JSON string.
#[inline(never)]
pub(super) fn end(text: &[u8], pos: usize) -> Option<End> {
    end_at(Level::new(), text, pos)
}

#[inline(always)]
fn end_at(level: Level, text: &[u8], pos: usize) -> Option<End> {
    dispatch!(level, simd => find(simd, text, pos))
}

#[inline(always)]
fn find<S: Simd>(simd: S, text: &[u8], mut pos: usize) -> Option<End> {
    let mut last = [0; BLOCK];
    let mut all = Block::new(simd, &last);
    let (mut backslashes, mut escapes) = (Escapes::default(), false);
    loop {
        let block = Block::new(simd, bytes_at(text, pos, &mut last)?);
        all = all.or(block);
        if backslashes.is_pending() || block.has_stop() {
            let escaped = backslashes.take(block, text, pos);
            escapes |= escaped.all != 0;
            let stops = block.equal(b'"') & !escaped.all | block.controls() | escaped.wrong;
            if stops != 0 {
                pos += stops.trailing_zeros() as usize;
                break;
            }
            pos += BLOCK;
        } else {
            // The next blocks may have no stop either.
            pos = skip_plain(text, pos + BLOCK, &mut all);
        }
    }
    let ends = text.get(pos) == Some(&b'"');
    ends.then(|| End {
        pos,
        escapes,
        not_ascii: all.is_not_ascii(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::blocks::levels;
    use super::*;
    use proptest::prelude::*;

    /// The end of the string whose text starts at `pos`, byte by byte: its quotation mark, or a byte
    /// that it cannot contain.
    fn plainly(text: &[u8], mut pos: usize) -> Option<usize> {
        loop {
            match text.get(pos..)? {
                [b'"', ..] => return Some(pos),
                [0..=0x1f, ..] => return None,
                [b'\\', b'u', hex @ ..] if hex.len() >= 4 => {
                    let good = hex[..4].iter().all(u8::is_ascii_hexdigit);
                    if !good {
                        return None;
                    }
                    pos += 6;
                }
                [b'\\', byte, ..] if b"\"\\/bfnrt".contains(byte) => pos += 2,
                [b'\\', _, ..] => return None,
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

    fn check(text: &[u8], pos: usize) -> Result<(), TestCaseError> {
        let expected = plainly(text, pos);
        let near = near_end(text, pos).into_iter().map(Some);
        for found in near.chain(levels().into_iter().map(|level| end_at(level, text, pos))) {
            prop_assert_eq!(found.map(|end| end.pos), expected, "from {}", pos);
            if let Some(end) = found {
                let within = &text[pos..end.pos];
                prop_assert!(end.escapes || !within.contains(&b'\\'));
                prop_assert!(end.not_ascii || within.is_ascii());
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_byte_finds(text in runs(), from in any::<prop::sample::Index>()) {
            check(&text, 0)?;
            check(&text, from.index(text.len() + 1))?;
        }
    }

    /// Each byte after each other one, wherever a block ends.
    #[test]
    fn finds_each_byte_that_ends_a_string() {
        for first in [b'x', b'\\', b'"'] {
            for second in 0..=0xff {
                for gap in [0, 14, 15, 62, 63] {
                    let text = [&vec![b'x'; gap][..], &[first, second], b"0c1ex\""].concat();
                    check(&text, 0).unwrap();
                }
            }
        }
    }
}
