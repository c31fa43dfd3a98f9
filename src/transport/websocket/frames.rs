//! Counts frames on their way to the library, which says nothing of those that end no message.

/// A payload that is shorter than this has its length in the second byte of the frame.
pub(super) const SMALL: usize = 126;

/// Follows the heads of frames (RFC 6455, section 5.2) through a stream that is cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Frames {
    next: Next,
    /// What is still to come of the payload of the frame under way.
    payload: u64,
    masked: bool,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    /// The first of a frame.
    #[default]
    Head,
    /// The one with the short length.
    Length,
    /// One of so many that hold a longer length.
    Longer(u8),
    /// One of so many of the mask.
    Mask(u8),
    Payload,
}

/// How many frames have begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun {
    pub all: usize,
    /// Those with a payload of less than [`SMALL`] bytes.
    pub small: usize,
}

impl Frames {
    /// Reads on.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> Begun {
        let mut begun = Begun::default();
        while let Some((&byte, rest)) = bytes.split_first() {
            if matches!(self.next, Next::Payload) {
                let left = usize::try_from(self.payload).unwrap_or(usize::MAX);
                let passed = left.min(bytes.len());
                bytes = bytes.get(passed..).unwrap_or_default();
                self.payload -= passed as u64;
                if self.payload == 0 {
                    self.next = Next::Head;
                }
                continue;
            }
            bytes = rest;
            self.next = self.after(byte, &mut begun);
        }
        begun
    }

    fn after(&mut self, byte: u8, begun: &mut Begun) -> Next {
        match self.next {
            Next::Head => Next::Length,
            Next::Length => {
                begun.all += 1;
                self.masked = byte & 0x80 != 0;
                self.payload = 0;
                match byte & 0x7f {
                    126 => Next::Longer(2),
                    127 => Next::Longer(8),
                    short => {
                        begun.small += 1;
                        self.payload = short.into();
                        self.after_length()
                    }
                }
            }
            Next::Longer(left) => {
                self.payload = self.payload << 8 | u64::from(byte);
                if left > 1 {
                    Next::Longer(left - 1)
                } else {
                    self.after_length()
                }
            }
            Next::Mask(left @ 2..) => Next::Mask(left - 1),
            Next::Mask(_) | Next::Payload => self.after_mask(),
        }
    }

    fn after_length(&self) -> Next {
        if self.masked {
            Next::Mask(4)
        } else {
            self.after_mask()
        }
    }

    fn after_mask(&self) -> Next {
        if self.payload > 0 {
            Next::Payload
        } else {
            Next::Head
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x81];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..0x1_0000 => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        // What is in it looks like heads of frames.
        let rest = length + if masked { 4 } else { 0 };
        frame.resize(frame.len() + rest, 0x81);
        frame
    }

    proptest! {
        #[test]
        fn every_frame_is_counted_however_the_stream_is_cut(
            frames in prop::collection::vec((prop_oneof![0usize..130, 60_000usize..70_000], any::<bool>()), 0..20),
            cuts in prop::collection::vec(1usize..5_000, 1..50),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(length, masked)| frame(*length, *masked)).collect();
            let small = frames.iter().filter(|(length, _)| *length < SMALL).count();
            let (mut counter, mut begun) = (Frames::default(), Begun::default());
            let mut rest = &stream[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, others) = rest.split_at(*cut.min(&rest.len()));
                let more = counter.see(piece);
                begun.all += more.all;
                begun.small += more.small;
                rest = others;
            }
            prop_assert_eq!(begun, Begun { all: frames.len(), small });
        }
    }
}
