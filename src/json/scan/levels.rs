//! The open containers, innermost last.

/// The kind of an open container.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Level {
    Object,
    Array,
}

impl Level {
    pub(super) fn start(self) -> u8 {
        match self {
            Self::Object => b'{',
            Self::Array => b'[',
        }
    }

    pub(super) fn end(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::Array => b']',
        }
    }
}

/// The deepest nesting any caller may ask for.
pub(crate) const MAX_DEPTH: usize = 1024;

/// Open containers by depth, a bit for each that is an object.
pub(super) struct Levels([u64; MAX_DEPTH / 64]);

// Never out of range: the remainder proves that to the compiler.
impl Levels {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self([0; MAX_DEPTH / 64])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, depth: usize, level: Level) {
        let bit = 1u64 << (depth % 64);
        let word = &mut self.0[depth / 64 % (MAX_DEPTH / 64)];
        match level {
            Level::Object => *word |= bit,
            Level::Array => *word &= !bit,
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, depth: usize) -> Level {
        if self.0[depth / 64 % (MAX_DEPTH / 64)] >> (depth % 64) & 1 == 1 {
            Level::Object
        } else {
            Level::Array
        }
    }
}
