use super::*;
use crate::replay::Replay;
use crate::transport::{Connection, SMALL, Writer};
use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWrite, DuplexStream};
use tokio::sync::Notify;

impl TryWrite for DuplexStream {
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(self).poll_write(&mut context, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

type Pipe = Outlet<DuplexStream, ChunkQueue>;

fn push(outlet: &Pipe, bytes: &[u8]) -> bool {
    let mut queue = outlet.lock();
    queue.waiting.extend(bytes);
    queue.added(bytes.len())
}

/// Everything that can be read now.
fn read_now(far: &mut DuplexStream) -> Vec<u8> {
    let mut arrived = Vec::new();
    let mut piece = vec![0; 100_000];
    while let Some(read) = far.read(&mut piece).now_or_never() {
        match read.unwrap() {
            0 => break,
            read => arrived.extend(&piece[..read]),
        }
    }
    arrived
}

#[tokio::test]
async fn producers_write_to_a_lent_sink_without_waking_its_owner() {
    let (near, mut far) = tokio::io::duplex(100);
    let outlet = Pipe::new(ChunkQueue::default());
    let mut sink = Lendable::new(near);
    let lease = outlet.lend(&mut sink).unwrap();
    assert!(push(&outlet, b"one\n"), "the first");
    assert!(!push(&outlet, b"two\n"), "not the first");
    assert!(read_now(&mut far).is_empty(), "gathered");
    outlet.flush();
    assert_eq!(read_now(&mut far), b"one\ntwo\n");
    assert!(push(&outlet, b"three\n"));
    outlet.flush();
    outlet.flush();
    assert_eq!(read_now(&mut far), b"three\n");
    assert!(outlet.woken().now_or_never().is_none());
    assert!(!lease.end().unwrap(), "nothing is left");
}

#[tokio::test]
async fn the_owner_writes_what_the_sink_did_not_take_and_nothing_overtakes_it() {
    let (near, mut far) = tokio::io::duplex(8);
    let outlet = Pipe::new(ChunkQueue::default());
    let mut sink = Lendable::new(near);
    let lease = outlet.lend(&mut sink).unwrap();
    push(&outlet, b"does not fit\n");
    outlet.flush();
    assert!(outlet.lock().is_recalled());
    assert_eq!(read_now(&mut far), b"does not");
    push(&outlet, b"second\n");
    outlet.flush();
    assert!(read_now(&mut far).is_empty());
    assert!(outlet.woken().now_or_never().is_some());
    assert!(lease.end().unwrap());
    let rest: Vec<&[u8]> = vec![b" fit\nsecond\n", b""];
    assert_eq!(outlet.lock().waiting.pieces().next(), rest.first().copied());
    assert!(outlet.lend(&mut sink).is_none(), "it is not idle");
}

#[tokio::test]
async fn much_is_written_before_a_flush() {
    let (near, mut far) = tokio::io::duplex(3 * EARLY);
    let outlet = Pipe::new(ChunkQueue::default());
    let mut sink = Lendable::new(near);
    let _lease = outlet.lend(&mut sink);
    push(&outlet, b"first\n");
    push(&outlet, &[b'x'; EARLY]);
    assert_eq!(read_now(&mut far).len(), 6 + EARLY);
    assert!(outlet.woken().now_or_never().is_none());
}

#[tokio::test]
async fn large_chunks_are_for_the_owner() {
    let (near, mut far) = tokio::io::duplex(1 << 20);
    let outlet = Pipe::new(ChunkQueue::default());
    let mut sink = Lendable::new(near);
    let lease = outlet.lend(&mut sink).unwrap();
    let large = Bytes::from(vec![b'x'; 100_000]);
    {
        let mut queue = outlet.lock();
        queue.waiting.share(&large, &large);
        queue.added(large.len());
    }
    assert!(outlet.woken().now_or_never().is_some());
    drop(lease);
    assert!(read_now(&mut far).is_empty());
    assert_eq!(outlet.lock().unwritten(), 100_000);
}

#[tokio::test]
async fn a_sink_that_is_not_lent_wakes_its_owner_for_each_line() {
    let outlet = Pipe::new(ChunkQueue::default());
    assert!(!push(&outlet, b"line\n"));
    assert!(outlet.woken().now_or_never().is_some());
    let (near, _far) = tokio::io::duplex(100);
    let mut sink = Lendable::new(near);
    assert!(outlet.lend(&mut sink).is_none(), "a line waits");
}

#[tokio::test]
async fn a_batch_is_flushed_before_its_owner_waits_and_when_it_is_dropped() {
    let (near, mut far) = tokio::io::duplex(100);
    let outlet = Pipe::new(ChunkQueue::default());
    let mut sink = Lendable::new(near);
    let _lease = outlet.lend(&mut sink);
    let (lines, mut arrive) = tokio::sync::mpsc::channel(9);
    let batch = Batch::new(&outlet);
    for line in [b"one\n", b"two\n"] {
        lines.try_send(line).unwrap();
    }
    for _ in 0..2 {
        push(&outlet, batch.next(arrive.recv()).await.unwrap());
        assert!(read_now(&mut far).is_empty(), "there is more at once");
    }
    assert!(batch.next(arrive.recv()).now_or_never().is_none());
    assert_eq!(read_now(&mut far), b"one\ntwo\n");
    push(&outlet, b"three\n");
    drop(batch);
    assert_eq!(read_now(&mut far), b"three\n");
}

#[tokio::test]
async fn a_driven_sink_that_fails_ends_its_driver() {
    let (near, far) = tokio::io::duplex(100);
    let outlet = Pipe::new(ChunkQueue::default());
    let progress = Notify::new();
    let mut driver = Box::pin(outlet.drive(near, || progress.notify_waiters()));
    assert!(driver.as_mut().now_or_never().is_none());
    drop(far);
    push(&outlet, b"line\n");
    outlet.flush();
    assert_eq!(driver.await.kind(), io::ErrorKind::BrokenPipe);
}

/// The queue of a peer: numbered lines that are kept, and a writer that its owner also uses for other
/// things.
#[derive(Default)]
struct Kept(Replay<Bytes>);

impl Queue<Writer> for Kept {
    fn is_idle(&self) -> bool {
        self.0.waiting() == 0
    }

    fn try_write(&mut self, writer: &mut Writer, gathered: usize) -> io::Result<bool> {
        if gathered > SMALL {
            return Ok(false);
        }
        writer.try_send(&self.0.take(usize::MAX).lines)
    }
}

fn peer(capacity: usize) -> (Outlet<Writer, Kept>, Lendable<Writer>, DuplexStream) {
    let (near, far) = tokio::io::duplex(capacity);
    let (_reader, writer) = Connection::over_stream(Box::new(near), 1000).split(1000);
    let mut kept = Kept::default();
    kept.0.start_keeping();
    (Outlet::new(kept), Lendable::new(writer), far)
}

fn say(outlet: &Outlet<Writer, Kept>, line: &'static [u8]) {
    let mut queue = outlet.lock();
    queue.0.push(Bytes::from_static(line));
    queue.added(line.len());
}

#[tokio::test]
async fn a_peers_writer_is_lent_and_comes_back_with_what_it_holds() {
    let (outlet, mut writer, mut far) = peer(8);
    let lease = outlet.lend(&mut writer).unwrap();
    say(&outlet, b"does not fit\n");
    outlet.flush();
    say(&outlet, b"second\n");
    outlet.woken().await;
    assert!(lease.end().unwrap(), "the writer holds the rest");
    let sending = async {
        writer.flush().await.unwrap();
        let lines = outlet.lock().0.take(usize::MAX).lines;
        writer.send(&lines).await.unwrap();
        drop(writer);
    };
    let mut arrived = String::new();
    let (_, read) = tokio::join!(sending, far.read_to_string(&mut arrived));
    read.unwrap();
    assert_eq!(arrived, "does not fit\nsecond\n");
    assert_eq!(outlet.lock().0.acknowledge(2), Ok(()), "both were counted");
}

#[tokio::test]
async fn an_owner_that_is_dropped_has_its_writer_back() {
    let (outlet, mut writer, mut far) = peer(100);
    {
        let mut owner = Box::pin(async {
            let _lease = outlet.lend(&mut writer);
            std::future::pending::<()>().await;
        });
        assert!(owner.as_mut().now_or_never().is_none());
        say(&outlet, b"line\n");
        outlet.flush();
    }
    writer.send(&[Bytes::from_static(b"last\n")]).await.unwrap();
    assert_eq!(read_now(&mut far), b"line\nlast\n");
}

#[tokio::test]
async fn an_error_that_a_producer_meets_is_for_the_owner() {
    let (outlet, mut writer, far) = peer(100);
    let lease = outlet.lend(&mut writer).unwrap();
    drop(far);
    say(&outlet, b"line\n");
    outlet.flush();
    assert!(outlet.woken().now_or_never().is_some());
    assert!(lease.end().is_err());
}

#[tokio::test]
async fn a_recalled_writer_is_not_written_to() {
    let (outlet, mut writer, mut far) = peer(100);
    let lease = outlet.lend(&mut writer).unwrap();
    outlet.lock().recall();
    assert!(outlet.woken().now_or_never().is_some());
    say(&outlet, b"line\n");
    outlet.flush();
    assert!(read_now(&mut far).is_empty() && outlet.lock().is_recalled());
    assert!(lease.end().unwrap());
    assert!(!outlet.lock().is_recalled());
}

#[derive(Clone, Debug)]
enum Event {
    /// This many bytes are queued.
    Push(usize),
    Flush,
    /// The far end reads this many.
    Read(usize),
    /// The owner's task has its turn.
    Drive,
}

proptest! {
    /// Whichever side writes, and however slowly the far end reads: every byte comes out once, in order.
    #[test]
    fn bytes_come_out_once_and_in_order(
        capacity in 1usize..10_000,
        events in prop::collection::vec(prop_oneof![
            4 => prop_oneof![1usize..200, 1usize..50_000].prop_map(Event::Push),
            4 => Just(Event::Flush),
            3 => (1usize..20_000).prop_map(Event::Read),
            3 => Just(Event::Drive),
        ], 0..80),
    ) {
        let (near, mut far) = tokio::io::duplex(capacity);
        let outlet = Arc::new(Pipe::new(ChunkQueue::default()));
        let progress = Notify::new();
        let mut driver = Box::pin(outlet.drive(near, || progress.notify_waiters()));
        let (mut sent, mut arrived) = (Vec::new(), Vec::new());
        let next = |sent: &Vec<u8>, length: usize| -> Vec<u8> {
            (sent.len()..sent.len() + length).map(|at| (at % 251) as u8).collect()
        };
        for event in events {
            match event {
                Event::Push(length) => {
                    let bytes = Bytes::from(next(&sent, length));
                    sent.extend(&bytes);
                    let mut queue = outlet.lock();
                    queue.waiting.share(&bytes, &bytes);
                    queue.added(length);
                }
                Event::Flush => outlet.flush(),
                Event::Read(length) => {
                    let mut piece = vec![0; length];
                    if let Some(read) = far.read(&mut piece).now_or_never() {
                        arrived.extend(&piece[..read.unwrap()]);
                    }
                }
                Event::Drive => assert!(driver.as_mut().now_or_never().is_none()),
            }
            prop_assert!(sent.starts_with(&arrived));
        }
        while arrived.len() < sent.len() {
            let before = arrived.len();
            outlet.flush();
            assert!(driver.as_mut().now_or_never().is_none());
            arrived.extend(read_now(&mut far));
            prop_assert!(arrived.len() > before, "it stands still");
        }
        prop_assert_eq!(&arrived, &sent);
        assert!(driver.as_mut().now_or_never().is_none());
        prop_assert_eq!(outlet.lock().unwritten(), 0);
    }
}
