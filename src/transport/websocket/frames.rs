//! Frames on their way to the library, which does not report fragments, buffers a message until it is
//! complete, and cannot continue after one that is too long.

use std::collections::VecDeque;
use tokio::io::ReadBuf;

/// A payload that is shorter than this has its length in the second byte of the frame.
pub(super) const SMALL: usize = 126;

/// The longest head of a frame: two bytes, the length, the mask.
const MAX_HEAD: usize = 2 + 8 + 4;

/// The most of a message in one piece. A multiple of the mask's length.
const PIECE: usize = 64 * 1024;

/// Follows the heads of frames (RFC 6455, section 5.2) through a stream that is cut anywhere, counts the
/// frames, and makes frames of their own of the fragments of a message, and of the pieces of one that is
/// too long.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The head under way; the first `known` bytes are.
    head: [u8; MAX_HEAD],
    known: usize,
    /// How many of them have been handed out.
    handed: usize,
    /// What is still to come of the payload of the frame, or piece, under way.
    payload: u64,
    /// What is to come behind that, in further pieces.
    rest: u64,
    message: Message,
    /// Longer messages are cut into pieces; `None` where nothing is changed.
    pub limit: Option<usize>,
    /// The head of what is under way, as far as it has not been handed out.
    staged: Vec<u8>,
    /// Whether the message goes on behind it, for each data frame that the library gets.
    continues: VecDeque<bool>,
}

/// Who makes one of the fragments of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Message {
    /// There are none.
    #[default]
    Whole,
    Library,
    Ours,
}

/// How many frames have begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun {
    pub all: usize,
    /// Those with a payload of less than [`SMALL`] bytes.
    pub small: usize,
}

/// A head, read.
#[derive(Clone, Copy)]
struct Head {
    /// The end flag, reserved bits, the opcode.
    flags: u8,
    length: u64,
    key: Option<[u8; 4]>,
}

impl Head {
    fn read(bytes: &[u8; MAX_HEAD]) -> Self {
        let size = size(bytes[1]);
        let masked = bytes[1] & 0x80 != 0;
        let end = size - if masked { 4 } else { 0 };
        let longer = bytes.get(2..end).unwrap_or_default().iter();
        let longer = longer.fold(0, |length, byte| length << 8 | u64::from(*byte));
        let key = bytes.get(end..size).and_then(|key| key.try_into().ok());
        Self {
            flags: bytes[0],
            length: match bytes[1] & 0x7f {
                126 | 127 => longer,
                short => u64::from(short),
            },
            key: key.filter(|_| masked),
        }
    }

    fn is_final(self) -> bool {
        self.flags & 0x80 != 0
    }

    fn begins_message(self) -> bool {
        matches!(self.flags & 0x0f, 1 | 2)
    }

    fn continues_message(self) -> bool {
        self.flags & 0x0f == 0
    }
}

/// The size of a head with this second byte.
fn size(length: u8) -> usize {
    let longer = match length & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + longer + if length & 0x80 == 0 { 0 } else { 4 }
}

impl Frames {
    /// Reads on in what has been handed out already.
    pub(super) fn see(&mut self, mut bytes: &[u8]) -> Begun {
        let mut begun = Begun::default();
        while !bytes.is_empty() {
            let taken = if self.payload > 0 {
                self.take_payload(bytes.len())
            } else {
                self.take_head(bytes, &mut begun)
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        self.staged.clear();
        self.handed = self.known;
        begun
    }

    /// Hands out as much of `bytes` as there is room for; gives how much of them that was.
    pub(super) fn pass(
        &mut self,
        bytes: &[u8],
        room: &mut ReadBuf<'_>,
        begun: &mut Begun,
    ) -> usize {
        let mut taken = 0;
        loop {
            self.hand_out_staged(room);
            let rest = bytes.get(taken..).unwrap_or_default();
            if rest.is_empty() || room.remaining() == 0 {
                return taken;
            }
            taken += if self.payload > 0 {
                let length = self.take_payload(rest.len().min(room.remaining()));
                room.put_slice(rest.get(..length).unwrap_or_default());
                length
            } else {
                self.take_head(rest, begun)
            };
        }
    }

    fn hand_out_staged(&mut self, room: &mut ReadBuf<'_>) {
        if self.staged.len() <= room.remaining() {
            room.put_slice(&self.staged);
            return self.staged.clear();
        }
        let staged = room.remaining();
        room.put_slice(self.staged.get(..staged).unwrap_or_default());
        self.staged.drain(..staged);
    }

    /// True while something of a head waits to be handed out.
    pub(super) fn is_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// True where the message goes on behind the next data frame that the library gives.
    pub(super) fn next_continues(&mut self) -> bool {
        self.continues.pop_front().unwrap_or_default()
    }

    fn take_head(&mut self, bytes: &[u8], begun: &mut Begun) -> usize {
        let mut taken = 0;
        // Mostly it has come as a whole.
        if self.known == 0
            && let Some(head) = bytes.first_chunk()
        {
            self.head = *head;
            self.known = size(head[1]);
            taken = self.known;
        }
        while self.known < 2 || self.known < size(self.head[1]) {
            let (Some(byte), Some(place)) = (bytes.get(taken), self.head.get_mut(self.known))
            else {
                return taken;
            };
            *place = *byte;
            self.known += 1;
            taken += 1;
        }
        let head = Head::read(&self.head);
        begun.all += 1;
        begun.small += usize::from(head.length < SMALL as u64);
        let is_new = std::mem::take(&mut self.handed);
        let known = std::mem::take(&mut self.known);
        match (head.key, self.limit) {
            (Some(key), Some(limit)) if is_new == 0 && self.is_to_be_cut(head, limit) => {
                self.cut(head, key);
            }
            _ => {
                self.note_whole(head);
                self.payload = head.length;
                let bytes = self.head.get(is_new..known).unwrap_or_default();
                self.staged.extend_from_slice(bytes);
            }
        }
        taken
    }

    /// True for a fragment, and for a message of more than `limit` bytes.
    fn is_to_be_cut(&self, head: Head, limit: usize) -> bool {
        let is_plain = head.flags & 0x70 == 0;
        let is_long = head.length > limit as u64 || !head.is_final();
        is_plain
            && match self.message {
                Message::Whole => head.begins_message() && is_long,
                Message::Ours => head.begins_message() || head.continues_message(),
                Message::Library => false,
            }
    }

    /// A frame is handed out as it is.
    fn note_whole(&mut self, head: Head) {
        let (begins, goes_on) = (head.begins_message(), head.continues_message());
        if (begins || goes_on) && head.is_final() {
            self.message = Message::Whole;
            self.continues.push_back(false);
        } else if begins {
            self.message = Message::Library;
        }
    }

    /// A frame is handed out in pieces, each of which is a message to the library.
    fn cut(&mut self, head: Head, key: [u8; 4]) {
        if head.begins_message() && self.message == Message::Ours {
            // Inside of another message's fragments: a continuation of nothing is as wrong.
            self.payload = head.length;
            return self.stage(0x80, head.length, key);
        }
        self.message = match head.is_final() {
            true => Message::Whole,
            false => Message::Ours,
        };
        self.rest = head.length;
        self.head = [0; MAX_HEAD];
        if let Some(place) = self.head.first_chunk_mut() {
            *place = key;
        }
        self.next_piece();
    }

    /// Begins the next piece; the mask stands where the head did.
    fn next_piece(&mut self) {
        let longest = self.limit.unwrap_or_default().clamp(4, PIECE) & !3;
        self.payload = self.rest.min(longest as u64);
        self.rest -= self.payload;
        let goes_on = self.rest > 0 || self.message == Message::Ours;
        self.continues.push_back(goes_on);
        let key = self.head.first_chunk().copied().unwrap_or_default();
        // Binary: a character may be cut.
        self.stage(0x82, self.payload, key);
    }

    fn stage(&mut self, flags: u8, length: u64, key: [u8; 4]) {
        self.staged.extend_from_slice(&[flags, 0x80 | 127]);
        self.staged.extend_from_slice(&length.to_be_bytes());
        self.staged.extend_from_slice(&key);
    }

    /// Goes on by up to `most` bytes in the payload under way.
    fn take_payload(&mut self, most: usize) -> usize {
        let left = usize::try_from(self.payload).unwrap_or(usize::MAX);
        let taken = left.min(most);
        self.payload -= taken as u64;
        if self.payload == 0 && self.rest > 0 {
            self.next_piece();
        }
        taken
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
        // Its content looks like frame headers.
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

    /// What the library receives from `stream`, split like this: for each frame its first byte, its payload, and
    /// whether it continues.
    fn passed(limit: usize, stream: &[u8], cuts: &[usize]) -> Vec<(u8, Vec<u8>, bool)> {
        let mut frames = Frames {
            limit: Some(limit),
            ..Frames::default()
        };
        let (mut passed, mut rest, mut begun) = (Vec::new(), stream, Begun::default());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() && !frames.is_staged() {
                break;
            }
            let mut room = vec![0; *cut];
            let mut room = ReadBuf::new(&mut room);
            let most = rest.len().min(2 * cut);
            rest = &rest[frames.pass(&rest[..most], &mut room, &mut begun)..];
            passed.extend_from_slice(room.filled());
        }
        let mut read = Vec::new();
        let mut passed = &passed[..];
        while !passed.is_empty() {
            let size = size(passed[1]);
            let mut head = [0; MAX_HEAD];
            head[..size].copy_from_slice(&passed[..size]);
            let head = Head::read(&head);
            let (payload, others) = passed[size..].split_at(head.length as usize);
            let key = head.key.unwrap().into_iter().cycle();
            let plain = payload.iter().zip(key).map(|(byte, key)| byte ^ key);
            let goes_on = !matches!(head.flags & 0x0f, 8..) && frames.next_continues();
            read.push((head.flags, plain.collect(), goes_on));
            passed = others;
        }
        read
    }

    proptest! {
        /// Nothing is lost or added, messages end where they did, and no piece is too long.
        #[test]
        fn messages_are_cut_and_stay_the_same(
            messages in prop::collection::vec(prop::collection::vec(0usize..300, 1..4), 1..6),
            cuts in prop::collection::vec(1usize..50, 1..20),
            limit in 4usize..200,
        ) {
            let (mut stream, mut expected, mut next) = (Vec::new(), Vec::new(), 0u8);
            for fragments in &messages {
                let mut whole = Vec::new();
                for (at, length) in fragments.iter().enumerate() {
                    let end = if at + 1 == fragments.len() { 0x80 } else { 0 };
                    let mut frame = frame(*length, true);
                    frame[0] = end | u8::from(at == 0);
                    let begin = frame.len() - length;
                    frame[begin - 4..begin].copy_from_slice(&[1, 2, 3, 4]);
                    for (at, byte) in frame[begin..].iter_mut().enumerate() {
                        next = next.wrapping_add(1);
                        whole.push(next);
                        *byte = next ^ [1, 2, 3, 4][at % 4];
                    }
                    stream.extend(frame);
                    // A ping, masked.
                    stream.extend([0x89, 0x81, 0, 0, 0, 0, b'x']);
                }
                expected.push(whole);
            }
            let (mut found, mut whole, mut pings) = (Vec::new(), Vec::new(), 0);
            for (flags, payload, goes_on) in passed(limit, &stream, &cuts) {
                prop_assert!(flags & 0x80 != 0 && payload.len() <= limit);
                if flags == 0x89 {
                    pings += 1;
                    continue;
                }
                whole.extend(payload);
                if !goes_on {
                    found.push(std::mem::take(&mut whole));
                }
            }
            prop_assert_eq!(pings, messages.iter().map(Vec::len).sum::<usize>());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_message_inside_of_fragments_is_as_wrong_as_before() {
        let stream = [[0x01, 0x80, 0, 0, 0, 0], [0x81, 0x80, 0, 0, 0, 0]].concat();
        let flags: Vec<u8> = passed(100, &stream, &[100])
            .iter()
            .map(|frame| frame.0)
            .collect();
        assert_eq!(flags, [0x82, 0x80]);
    }
}
