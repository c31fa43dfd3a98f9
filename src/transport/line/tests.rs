use super::*;
use proptest::prelude::*;

/// The lines that a reader with `limit` makes of `bytes` that arrive in pieces; `None` is a line
/// that was too long.
fn read_in_pieces(bytes: &[u8], cuts: &[usize], limit: usize) -> (Vec<Option<Vec<u8>>>, Vec<u8>) {
    let mut builder = tokio_test_stream(bytes, cuts);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut reader = LineReader::new(&mut builder, limit);
        let mut lines = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(line)) => lines.push(Some(line.to_vec())),
                Ok(None) => return (lines, reader.rest().to_vec()),
                Err(LineError::TooLong { .. }) => lines.push(None),
                Err(other) => panic!("{other}"),
            }
        }
    })
}

#[tokio::test]
async fn debug_shows_no_bytes() {
    let mut reader = LineReader::new(&b"one\nhunter2"[..], 100);
    assert_eq!(reader.next().await.unwrap().unwrap(), "one");
    let shown = format!("{reader:?}");
    assert!(
        !shown.contains("hunter") && shown.contains("buffered: 7"),
        "{shown}"
    );
}

/// Bug: a peer that had sent many short lines kept all other tasks waiting until they were read.
#[tokio::test]
async fn others_have_their_turns_between_lines() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    const LINES: usize = 20_000;
    let turns = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&turns);
    let others = tokio::spawn(async move {
        loop {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let stream = b"x\n".repeat(LINES);
    let mut reader = LineReader::new(&*stream, 100);
    let mut read = 0;
    while reader.next().await.unwrap().is_some() {
        read += 1;
    }
    others.abort();
    assert_eq!(read, LINES);
    // The budget of a turn.
    let expected = LINES / 128;
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= expected, "{turns} turns, not {expected}");
}

struct Pieces(std::collections::VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if let Some(mut piece) = self.0.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        std::task::Poll::Ready(Ok(()))
    }
}

fn tokio_test_stream(bytes: &[u8], cuts: &[usize]) -> Pieces {
    let mut pieces = std::collections::VecDeque::new();
    let mut rest = bytes;
    for cut in cuts {
        let (piece, tail) = rest.split_at((*cut).min(rest.len()));
        if !piece.is_empty() {
            pieces.push_back(piece.to_vec());
        }
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push_back(rest.to_vec());
    }
    Pieces(pieces)
}

proptest! {
    /// Any split of any byte stream yields the same lines.
    #[test]
    fn splits_do_not_matter(
        bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..300),
        cuts in prop::collection::vec(1usize..40, 0..40),
        limit in 1usize..40,
    ) {
        let mut expected: Vec<Option<Vec<u8>>> = bytes
            .split(|byte| *byte == b'\n')
            .map(|line| (line.len() <= limit).then(|| line.to_vec()))
            .collect();
        let last = expected.pop().unwrap();
        let (mut lines, rest) = read_in_pieces(&bytes, &cuts, limit);
        match last {
            Some(last) => prop_assert_eq!(rest, last),
            // Too long and never ended: reported once, as far as it was read.
            None => prop_assert_eq!(lines.pop(), Some(None)),
        }
        prop_assert_eq!(lines, expected);
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_shown_and_skipped() {
    let bytes = [b"one\n", &[b'x'; 40][..], b"\ntwo\n", &[b'y'; 40], b"end"].concat();
    for cuts in [&[][..], &[1; 80], &[4, 7, 33, 9], &[44, 1, 3]] {
        let mut stream = tokio_test_stream(&bytes, cuts);
        let mut reader = LineReader::new(&mut stream, 8);
        assert_eq!(reader.next().await.unwrap().unwrap(), "one");
        assert!(matches!(
            reader.next().await,
            Err(LineError::TooLong { .. })
        ));
        let mut seen = Vec::new();
        assert!(
            reader
                .skip(|piece| seen.extend_from_slice(piece))
                .await
                .unwrap()
        );
        assert_eq!(seen, [b'x'; 40]);
        assert_eq!(reader.next().await.unwrap().unwrap(), "two");
        assert!(matches!(
            reader.next().await,
            Err(LineError::TooLong { .. })
        ));
        seen.clear();
        assert!(
            !reader
                .skip(|piece| seen.extend_from_slice(piece))
                .await
                .unwrap()
        );
        assert_eq!(seen, [&[b'y'; 40][..], b"end"].concat());
    }
}

#[tokio::test]
async fn a_second_long_line_is_not_copied_while_it_grows() {
    let (mut near, far) = tokio::io::duplex(READ_SIZE);
    let mut reader = LineReader::new(far, usize::MAX);
    let mut line = vec![b'x'; 10 * LONG];
    line.push(b'\n');
    let (written, read) = tokio::join!(near.write_all(&line), reader.next());
    written.unwrap();
    assert_eq!(read.unwrap().unwrap().len(), 10 * LONG);
    let begin = async {
        near.write_all(&line[..2 * LONG]).await.unwrap();
        drop(near);
    };
    let ((), read) = tokio::join!(begin, reader.next());
    assert_eq!(read.unwrap(), None);
    let capacity = reader.buffer.capacity();
    assert!(capacity >= line.len(), "{capacity}");
}

/// Bug: a line of 64 KiB kept the buffer of the long one before it.
#[tokio::test]
async fn a_line_keeps_little_more_memory_than_its_own() {
    let lengths = [10 * LONG, LONG + 1, 10, 10 * LONG, 2 * LONG];
    for piece in [1000, usize::MAX] {
        let (mut near, far) = tokio::io::duplex(READ_SIZE);
        let write = async {
            for length in lengths {
                let mut line = vec![b'x'; length];
                line.push(b'\n');
                for part in line.chunks(piece.min(line.len())) {
                    near.write_all(part).await.unwrap();
                }
            }
        };
        let read = async {
            let mut reader = LineReader::new(far, usize::MAX);
            for length in lengths {
                let line = reader.next().await.unwrap().unwrap();
                assert_eq!(line.len(), length);
                let memory = line.try_into_mut().map(|line| line.capacity());
                // A shared buffer is shared with the line being read.
                if let Ok(memory) = memory {
                    assert!(memory <= 2 * (length + READ_SIZE), "{memory} for {length}");
                }
            }
        };
        tokio::join!(write, read);
    }
}

#[tokio::test]
async fn what_follows_a_long_line_does_not_keep_it() {
    // Little space is left after it in a buffer that grows by doubling.
    const LENGTH: usize = 31 * LONG / 2;
    let text = [vec![b'x'; LENGTH], b"\nnext\n".to_vec()].concat();
    let mut reader = LineReader::new(&*text, usize::MAX);
    let long = reader.next().await.unwrap().unwrap();
    let next = reader.next().await.unwrap().unwrap();
    assert_eq!((long.len(), &*next), (LENGTH, &b"next"[..]));
    assert_ne!(long.as_ptr_range().end.wrapping_add(1), next.as_ptr());
}

#[tokio::test]
async fn lines_are_written_in_order_whatever_their_size() {
    let (near, far) = tokio::io::duplex(8);
    let lines: Vec<Bytes> = [1, 20_000, 3, 15_000, 2_000, 40_000]
        .iter()
        .enumerate()
        .map(|(at, size)| Bytes::from([vec![b'a' + at as u8; *size], vec![b'\n']].concat()))
        .collect();
    let expected: Vec<Bytes> = lines
        .iter()
        .map(|line| line.slice(..line.len() - 1))
        .collect();
    let send = async move {
        let mut writer = LineWriter::new(near);
        writer.send(&lines).await.unwrap();
        writer.close().await.unwrap();
    };
    let receive = async move {
        let mut reader = LineReader::new(far, 1 << 20);
        let mut lines = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            lines.push(line);
        }
        lines
    };
    let ((), received) = tokio::join!(send, receive);
    assert_eq!(received, expected);
}
