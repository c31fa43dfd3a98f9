//! The open containers, innermost last.

/// The deepest nesting any caller may ask for.
pub(crate) const MAX_DEPTH: usize = 1024;

const WORD: usize = u64::BITS as usize;

/// A bit for each open container, set for an object: a stack of words.
#[derive(Default)]
pub(super) struct Levels {
    /// The innermost ones.
    top: u64,
    /// The full words below.
    below: [u64; MAX_DEPTH / WORD],
    depth: usize,
}

impl Levels {
    #[inline(always)]
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// True if the innermost one is an object.
    #[inline(always)]
    pub(super) fn in_object(&self) -> bool {
        self.top & 1 != 0
    }

    /// What ends it.
    #[inline(always)]
    pub(super) fn end(&self) -> u8 {
        if self.in_object() { b'}' } else { b']' }
    }

    #[inline(always)]
    pub(super) fn open(&mut self, object: bool) {
        if self.depth.is_multiple_of(WORD)
            && let Some(word) = self.below.get_mut(self.depth / WORD)
        {
            *word = self.top;
        }
        self.top = self.top << 1 | u64::from(object);
        self.depth += 1;
    }

    /// Does nothing if none is open.
    #[inline(always)]
    pub(super) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.top >>= 1;
        if self.depth.is_multiple_of(WORD)
            && let Some(word) = self.below.get(self.depth / WORD)
        {
            self.top = *word;
        }
    }
}
