//! A body, piece by piece.

use bytes::{Bytes, BytesMut};

/// The pieces of a body so far. A single one, as most bodies are, is not copied.
#[derive(Debug, Default)]
pub struct Whole {
    first: Bytes,
    more: BytesMut,
}

impl Whole {
    /// The length of all pieces, in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// Adds a piece.
    pub fn add(&mut self, piece: Bytes) {
        if self.first.is_empty() {
            self.first = piece;
        } else {
            self.more.extend_from_slice(&piece);
        }
    }

    /// The body.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.more.is_empty() {
            return self.first;
        }
        let mut all = BytesMut::with_capacity(self.len());
        all.extend_from_slice(&self.first);
        all.extend_from_slice(&self.more);
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_in_order() {
        for pieces in [
            &[][..],
            &[""],
            &["ab"],
            &["", "a", "b"],
            &["a", "", "b", "cd"],
        ] {
            let mut whole = Whole::default();
            for piece in pieces {
                whole.add(Bytes::from_static(piece.as_bytes()));
            }
            assert_eq!(whole.len(), pieces.concat().len());
            assert_eq!(whole.into_bytes(), pieces.concat());
        }
    }
}
