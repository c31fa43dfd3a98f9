//! Bytes on their way out, in pieces: what is small is gathered, what is large is shared with the
//! message that it came in, so that it is neither copied nor kept twice.

use bytes::Bytes;
use std::sync::Arc;

/// From this many bytes on a part is shared instead of copied.
const LARGE: usize = 32 * 1024;

/// Whole lines, or one line being written. `Debug` shows how long it is, never what it says.
#[derive(Default)]
pub struct Chunks {
    pieces: Vec<Bytes>,
    /// The bytes in `pieces`.
    length: usize,
    /// What comes behind them.
    last: Vec<u8>,
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chunks({} bytes)", self.len())
    }
}

impl Chunks {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length + self.last.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where small parts are written.
    pub fn small(&mut self) -> &mut Vec<u8> {
        &mut self.last
    }

    /// All of it, if it is small.
    pub fn only_small(&mut self) -> Option<&mut Vec<u8>> {
        let small = self.pieces.is_empty() && self.last.len() <= LARGE;
        small.then_some(&mut self.last)
    }

    /// Appends some bytes.
    pub fn extend(&mut self, bytes: impl AsRef<[u8]>) {
        self.last.extend_from_slice(bytes.as_ref());
    }

    /// Appends `part`, which is a part of `whole`.
    pub fn share(&mut self, whole: &Bytes, part: &[u8]) {
        if part.len() < LARGE {
            self.last.extend_from_slice(part);
            return;
        }
        self.cut();
        self.length += part.len();
        self.pieces.push(whole.slice_ref(part));
    }

    /// Appends everything of `other`, and leaves that empty.
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            return std::mem::swap(self, other);
        }
        if !other.pieces.is_empty() {
            self.cut();
            self.length += other.length;
            self.pieces.append(&mut other.pieces);
            other.length = 0;
        }
        self.last.append(&mut other.last);
    }

    fn cut(&mut self) {
        if !self.last.is_empty() {
            self.length += self.last.len();
            self.pieces.push(std::mem::take(&mut self.last).into());
        }
    }

    /// The pieces, in order; the last may be empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.pieces.iter().map(|piece| &**piece);
        pieces.chain([&*self.last])
    }

    /// Lets go of everything but a little room.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.length = 0;
        self.last.clear();
        self.last.shrink_to(LARGE);
    }

    /// The pieces, in order.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.cut();
        self.pieces
    }
}

/// One line, newline included. `Debug` shows how long it is, never what it says.
#[derive(Clone, PartialEq, Eq)]
pub enum Line {
    /// In one piece.
    Whole(Bytes),
    /// In several.
    Pieces(Arc<[Bytes]>),
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({} bytes)", self.length())
    }
}

impl From<Chunks> for Line {
    fn from(chunks: Chunks) -> Self {
        if chunks.pieces.is_empty() {
            Self::Whole(chunks.last.into())
        } else {
            Self::Pieces(chunks.into_pieces().into())
        }
    }
}

impl From<Bytes> for Line {
    fn from(line: Bytes) -> Self {
        Self::Whole(line)
    }
}

impl From<Vec<u8>> for Line {
    fn from(line: Vec<u8>) -> Self {
        Self::Whole(line.into())
    }
}

/// What can be sent piece by piece.
pub trait Pieces: Clone {
    /// The pieces, in order.
    fn pieces(&self) -> &[Bytes];

    /// Bytes in all.
    fn length(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// All in one piece.
    fn joined(&self) -> Bytes {
        match self.pieces() {
            [whole] => whole.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl Pieces for Bytes {
    fn pieces(&self) -> &[Bytes] {
        std::slice::from_ref(self)
    }
}

impl Pieces for Line {
    fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Whole(line) => std::slice::from_ref(line),
            Self::Pieces(pieces) => pieces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_parts_are_shared_and_everything_stays_in_order() {
        let whole = Bytes::from(vec![b'x'; 2 * LARGE]);
        let mut chunks = Chunks::default();
        chunks.extend("a");
        chunks.share(&whole, &whole[..10]);
        chunks.share(&whole, &whole[LARGE..]);
        chunks.small().push(b'b');
        let mut all = Chunks::default();
        all.extend("0");
        all.append(&mut chunks);
        assert!(chunks.is_empty());
        all.extend("c");
        assert_eq!(all.len(), 1 + 1 + 10 + LARGE + 2);
        let line = Line::from(all);
        let expected = [&b"0a"[..], &whole[..10], &whole[LARGE..], b"bc"].concat();
        assert_eq!(line.joined(), expected);
        assert_eq!(line.length(), expected.len());
        let shared = line.pieces().iter().find(|piece| piece.len() == LARGE);
        assert_eq!(
            shared.map(|piece| piece.as_ptr()),
            Some(whole[LARGE..].as_ptr())
        );
    }
}
