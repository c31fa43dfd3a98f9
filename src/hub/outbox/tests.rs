//! The queue of a peer, and its writer.

use super::*;
use crate::child::CommandLine;
use crate::hub::{Deadlines, Hub, Limits, Session};
use crate::router::{Counted, LineLimits, Profile};
use crate::transport::Connection;
use crate::transport::outlet::EARLY;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, DuplexStream};

const LIMITS: Limits = Limits {
    child_message: 1000,
    lines: LineLimits {
        to_child: 1000,
        to_peer: 2000,
    },
    outbox: 10 * SMALL,
    deadlines: Deadlines {
        handshake: std::time::Duration::from_secs(60),
        start: std::time::Duration::from_secs(60),
        question: std::time::Duration::from_secs(60),
    },
    restarts: 0,
    in_flight: 64,
};

fn session() -> Session {
    let command = CommandLine {
        program: "true".into(),
        arguments: Vec::new(),
        variables: Vec::new(),
    };
    let (hub, _driver) = Hub::shared(command, LIMITS);
    hub.attach(Profile::anybody(), &Counted::default())
}

/// A writer whose stream holds this many bytes, and its reading end.
fn writer(capacity: usize) -> (Lendable<Writer>, DuplexStream) {
    let (near, far) = tokio::io::duplex(capacity);
    let (_reader, writer) = Connection::over_stream(Box::new(near), 1000).split(1000);
    (Lendable::new(writer), far)
}

fn lines(session: &Session) -> Vec<Vec<u8>> {
    let lines = session.take().unwrap();
    lines.iter().map(|line| line.joined().to_vec()).collect()
}

#[tokio::test]
async fn lines_are_written_where_they_arise_if_the_writer_is_there() {
    let (session, (mut writer, mut far)) = (session(), writer(100));
    let lease = session.lend(&mut writer).unwrap();
    for line in [&b"one\n"[..], b"two\n", b"three\n"] {
        session.reply(line.to_vec());
    }
    session.flush();
    session.reply(b"four\n".to_vec());
    session.flush();
    assert_eq!(session.changed().now_or_never(), None);
    assert_eq!(lines(&session), Vec::<Vec<u8>>::new());
    assert!(!lease.end().unwrap());
    drop(writer);
    let mut arrived = String::new();
    far.read_to_string(&mut arrived).await.unwrap();
    assert_eq!(arrived, "one\ntwo\nthree\nfour\n");
}

#[tokio::test]
async fn much_is_written_before_the_rest_is_there() {
    let (session, (mut writer, mut far)) = (session(), writer(3 * EARLY));
    let _lease = session.lend(&mut writer).unwrap();
    session.reply(b"first\n".to_vec());
    session.reply(vec![b'x'; EARLY]);
    let mut arrived = vec![0; 6 + EARLY];
    let read = far.read_exact(&mut arrived).now_or_never();
    assert!(matches!(read, Some(Ok(_))) && arrived.starts_with(b"first\nx"));
    session.reply(b"rest\n".to_vec());
    session.flush();
    assert_eq!(far.read(&mut arrived).now_or_never().unwrap().unwrap(), 5);
    assert!(session.changed().now_or_never().is_none());
}

#[tokio::test]
async fn what_is_not_taken_at_once_is_for_the_owner_to_send() {
    let (session, (mut writer, mut far)) = (session(), writer(8));
    let lease = session.lend(&mut writer).unwrap();
    session.reply(b"does not fit\n".to_vec());
    session.flush();
    // Nothing overtakes it.
    session.reply(b"second\n".to_vec());
    session.flush();
    assert!(session.changed().now_or_never().is_some());
    assert!(lease.end().unwrap());
    let sending = async {
        writer.flush().await.unwrap();
        writer.send(&session.take().unwrap()).await.unwrap();
        drop(writer);
    };
    let mut arrived = String::new();
    let (_, read) = tokio::join!(sending, far.read_to_string(&mut arrived));
    read.unwrap();
    assert_eq!(arrived, "does not fit\nsecond\n");
}

#[tokio::test]
async fn large_lines_are_for_the_owner_to_send() {
    let (session, (mut writer, _far)) = (session(), writer(100));
    let lease = session.lend(&mut writer).unwrap();
    session.reply(b"small\n".to_vec());
    session.reply(vec![b'x'; SMALL]);
    session.flush();
    assert!(session.changed().now_or_never().is_some());
    assert_eq!(lines(&session), [b"small\n".to_vec(), vec![b'x'; SMALL]]);
    lease.end().unwrap();
}

#[tokio::test]
async fn it_is_not_lent_where_something_is_to_be_done() {
    let (mut writer, _far) = writer(100);
    let waiting = session();
    waiting.reply(b"line\n".to_vec());
    let cut = session();
    cut.outbox.cut(Cut::Stopped);
    let kept = session();
    kept.keep_writer();
    for session in [waiting, cut, kept] {
        assert!(session.lend(&mut writer).is_none());
        assert!(session.changed().now_or_never().is_some());
    }
}

#[tokio::test]
async fn what_fails_is_told_to_the_owner() {
    let (session, (mut writer, far)) = (session(), writer(100));
    let lease = session.lend(&mut writer).unwrap();
    drop(far);
    session.reply(b"line\n".to_vec());
    session.flush();
    assert!(session.changed().now_or_never().is_some());
    assert!(lease.end().is_err());
}

#[tokio::test]
async fn an_owner_that_keeps_the_writer_hears_of_each_line() {
    let (session, (mut writer, _far)) = (session(), writer(100));
    let lease = session.lend(&mut writer).unwrap();
    session.keep_writer();
    assert!(session.changed().now_or_never().is_some());
    assert_eq!(session.pending_requests(), 1, "until the owner has looked");
    session.reply(b"line\n".to_vec());
    session.flush();
    assert!(session.changed().now_or_never().is_some());
    lease.end().unwrap();
    assert_eq!(lines(&session), [b"line\n"]);
    assert_eq!(session.pending_requests(), 0);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut_with_its_writer_lent() {
    let (session, (mut writer, _far)) = (session(), writer(8));
    let lease = session.lend(&mut writer).unwrap();
    for _ in 0..1000 {
        session.reply(vec![b'x'; 10_000]);
        session.flush();
    }
    assert_eq!(session.overflowed().now_or_never(), Some(Cut::Slow));
    lease.end().unwrap();
}
