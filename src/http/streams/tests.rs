mod random;

use super::bounds::{MAX_ENDED, MAX_HELD};
use super::*;
use crate::jsonrpc::{MAX_CHILD_DEPTH, MAX_PEER_DEPTH};
use crate::utils::chunks::Pieces;
use futures_util::FutureExt;

const BOUNDS: StreamBounds = StreamBounds {
    waiting: 10_000,
    kept: 2_000,
    kept_of_all: 3_000,
    window: Duration::from_secs(60),
};

fn streams() -> Streams {
    Streams::new(BOUNDS, &Tally::default(), Part::default())
}

fn open(streams: &mut Streams, id: i64) -> Reading {
    let reading = streams.open(&request(id), true).unwrap();
    assert!(streams.begin(&reading));
    reading
}

fn request(id: i64) -> Message {
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"x","_meta":{{"progressToken":"t{id}"}}}}}}"#
    );
    Message::read(line.into(), MAX_PEER_DEPTH).unwrap()
}

fn push(streams: &mut Streams, line: &str) {
    let line = bytes::Bytes::from(format!("{line}\n"));
    let message = Message::read(line.clone(), MAX_CHILD_DEPTH).unwrap();
    streams.push(&message, line.into());
}

fn answer(id: i64) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#)
}

fn progress(id: i64, step: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t{id}","progress":{step}}}}}"#
    )
}

fn told(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}"}}"#)
}

const QUESTION: &str = r#"{"jsonrpc":"2.0","id":77,"method":"elicitation/create","params":{}}"#;

/// Everything that a reader gets now, with the ids.
fn read(streams: &mut Streams, reading: &Reading) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Next::Event(Event { id, line, .. }) = streams.next(reading) {
        let text = String::from_utf8(line.joined().to_vec()).unwrap();
        found.push((id.to_string(), text.trim_end().to_owned()));
    }
    found
}

fn lines(streams: &mut Streams, reading: &Reading) -> Vec<String> {
    read(streams, reading)
        .into_iter()
        .map(|(_, line)| line)
        .collect()
}

/// The next owner can resume what the former owner started, and nothing else.
#[test]
fn a_new_owner_takes_over_all_streams() {
    let mut streams = streams();
    let general = streams.listen();
    let pending = open(&mut streams, 1);
    push(&mut streams, &told("tools/list_changed"));
    let now = Instant::now();
    streams.displace_all(now);
    for reading in [&general, &pending] {
        assert!(reading.wake.wait().now_or_never().is_some());
        assert!(!streams.is_read_by(reading));
        assert_eq!(streams.next(reading), Next::End);
        streams.leave(reading, now);
    }
    assert!(!streams.is_attended());
    push(&mut streams, &answer(1));
    let before_all = streams.make_resumable(&pending);
    let resumed = streams.resume(before_all).unwrap();
    assert_eq!(lines(&mut streams, &resumed), [answer(1)]);
    let general = streams.listen();
    assert_eq!(lines(&mut streams, &general), [told("tools/list_changed")]);
}

#[test]
fn each_message_goes_to_one_stream() {
    let mut streams = streams();
    let general = streams.listen();
    let (first, second) = (open(&mut streams, 1), open(&mut streams, 2));
    for line in [
        progress(1, 1),
        told("message"),
        told("tools/list_changed"),
        QUESTION.to_owned(),
        answer(1),
        progress(2, 1),
        answer(2),
        told("message"),
        QUESTION.to_owned(),
        answer(3),
    ] {
        push(&mut streams, &line);
    }
    assert_eq!(lines(&mut streams, &first), [progress(1, 1), answer(1)]);
    let of_second = [QUESTION.to_owned(), progress(2, 1), answer(2)];
    assert_eq!(lines(&mut streams, &second), of_second);
    let of_none = [
        told("message"),
        told("tools/list_changed"),
        told("message"),
        QUESTION.to_owned(),
    ];
    assert_eq!(lines(&mut streams, &general), of_none);
    assert_eq!(streams.next(&first), Next::End);
    assert_eq!(streams.next(&general), Next::Wait);
}

/// L13, L18. Bug: of several requests the youngest got every log message.
#[test]
fn a_log_message_is_on_a_requests_stream_only_where_it_can_be_of_no_other() {
    let mut streams = streams();
    let first = open(&mut streams, 1);
    push(&mut streams, &told("message"));
    assert_eq!(lines(&mut streams, &first), [told("message")]);
    let second = open(&mut streams, 2);
    push(&mut streams, &told("message"));
    // There is no listener for messages without a request, but none may be lost.
    assert_eq!(lines(&mut streams, &second), [told("message")]);
    let general = streams.listen();
    push(&mut streams, &told("message"));
    assert_eq!(lines(&mut streams, &general), [told("message")]);
    push(&mut streams, &answer(2));
    assert_eq!(lines(&mut streams, &second), [answer(2)]);
    push(&mut streams, &told("message"));
    assert_eq!(lines(&mut streams, &first), [told("message")]);
}

#[test]
fn a_request_that_takes_its_answer_alone_gets_nothing_else() {
    let mut streams = streams();
    let reading = streams.open(&request(1), false).unwrap();
    for line in [
        progress(1, 1),
        told("message"),
        QUESTION.to_owned(),
        answer(1),
    ] {
        push(&mut streams, &line);
    }
    assert_eq!(lines(&mut streams, &reading), [answer(1)]);
    let general = streams.listen();
    assert_eq!(
        lines(&mut streams, &general),
        [told("message"), QUESTION.to_owned()]
    );
}

#[test]
fn ids_in_flight_are_not_taken_twice() {
    let mut streams = streams();
    let reading = open(&mut streams, 1);
    assert!(streams.open(&request(1), true).is_err());
    push(&mut streams, &answer(1));
    open(&mut streams, 1);
    assert_eq!(lines(&mut streams, &reading), [answer(1)]);
}

#[test]
fn a_client_that_comes_back_gets_the_rest_of_its_stream() {
    let mut streams = streams();
    let now = Instant::now();
    let reading = open(&mut streams, 1);
    let before_all = streams.make_resumable(&reading);
    push(&mut streams, &progress(1, 1));
    let first = read(&mut streams, &reading);
    streams.leave(&reading, now);
    let other = open(&mut streams, 2);
    push(&mut streams, &progress(1, 2));
    push(&mut streams, &progress(2, 1));
    push(&mut streams, &answer(1));
    let after = EventId::parse(&first[0].0).unwrap();
    let again = streams.resume(after).unwrap();
    assert_eq!(lines(&mut streams, &again), [progress(1, 2), answer(1)]);
    assert_eq!(streams.next(&again), Next::End);
    // From the very beginning: what was sent is sent again.
    let again = streams.resume(before_all).unwrap();
    assert_eq!(read(&mut streams, &again).len(), 3);
    // Never sent, unknown stream, and one without ids.
    let bad = |stream, event| EventId { stream, event };
    assert!(streams.resume(bad(after.stream, 9)).is_err());
    assert!(streams.resume(bad(99, 0)).is_err());
    assert!(streams.resume(bad(other.stream, 0)).is_err());
    streams.leave(&again, now);
    streams.sweep(now + BOUNDS.window);
    assert!(streams.resume(before_all).is_err());
}

#[test]
fn the_last_listener_takes_over() {
    let mut streams = streams();
    push(&mut streams, &told("a/list_changed"));
    let old = streams.listen();
    assert_eq!(read(&mut streams, &old).len(), 1);
    assert_eq!(old.wake.wait().now_or_never(), None);
    let new = streams.listen();
    assert!(old.wake.wait().now_or_never().is_some(), "it is told");
    push(&mut streams, &told("b/list_changed"));
    assert_eq!(streams.next(&old), Next::End);
    assert_eq!(lines(&mut streams, &new), [told("b/list_changed")]);
    // The reader that was replaced leaves late, which has no effect.
    streams.leave(&old, Instant::now());
    assert!(streams.is_attended());
}

#[test]
fn who_left_without_an_id_is_not_kept_anything() {
    let mut streams = streams();
    let reading = open(&mut streams, 1);
    push(&mut streams, &progress(1, 1));
    streams.leave(&reading, Instant::now());
    push(&mut streams, &progress(1, 2));
    push(&mut streams, QUESTION);
    assert!(streams.open(&request(1), true).is_err(), "it still runs");
    push(&mut streams, &answer(1));
    assert_eq!(streams.streams.len(), 1);
    assert!(streams.requests.is_empty() && !streams.is_attended());
    let general = streams.listen();
    assert_eq!(lines(&mut streams, &general), [QUESTION]);
    assert_eq!((streams.waiting, streams.tokens.len()), (0, 0));
}

#[test]
fn what_is_cancelled_ends_without_an_answer() {
    let mut streams = streams();
    let reading = open(&mut streams, 1);
    streams.cancel(&RequestId::Number(1));
    assert!(reading.wake.wait().now_or_never().is_some());
    assert_eq!(streams.next(&reading), Next::End);
    streams.cancel(&RequestId::Number(1));
    push(&mut streams, &answer(1));
    assert_eq!(streams.next(&reading), Next::End);
}

/// Bug: the client of a request that waited to be sent hung up, and nothing ever ended its stream.
#[test]
fn a_request_that_is_not_sent_leaves_nothing_behind() {
    for leaves_first in [true, false] {
        let mut streams = streams();
        let reading = open(&mut streams, 1);
        let now = Instant::now();
        if leaves_first {
            streams.leave(&reading, now);
            streams.withdraw(&reading);
        } else {
            streams.withdraw(&reading);
            assert_eq!(streams.next(&reading), Next::End);
            streams.leave(&reading, now);
        }
        assert!(streams.requests.is_empty() && !streams.is_attended());
        assert_eq!((streams.streams.len(), streams.tokens.len()), (1, 0));
    }
    // A later request with the same id keeps it.
    let mut streams = streams();
    let cancelled = open(&mut streams, 1);
    streams.cancel(&RequestId::Number(1));
    let other = open(&mut streams, 1);
    streams.withdraw(&cancelled);
    push(&mut streams, &answer(1));
    assert_eq!(lines(&mut streams, &other), [answer(1)]);
}

/// L13. Bug: a question came on the stream of a request that waited to be sent, and was lost if that was refused.
#[test]
fn a_question_is_on_the_stream_of_a_request_that_has_been_sent() {
    let mut streams = streams();
    let running = open(&mut streams, 1);
    let unsent = streams.open(&request(2), true).unwrap();
    push(&mut streams, QUESTION);
    assert_eq!(lines(&mut streams, &running), [QUESTION]);
    assert_eq!(streams.next(&unsent), Next::Wait);
    // Nobody else reads.
    push(&mut streams, &answer(1));
    push(&mut streams, QUESTION);
    assert_eq!(lines(&mut streams, &unsent), [QUESTION]);
    // One that has been cancelled must not be sent.
    streams.cancel(&RequestId::Number(2));
    assert!(!streams.begin(&unsent));
}

#[test]
fn what_waits_and_what_is_kept_is_bounded() {
    let mut streams = streams();
    let (slow, other) = (open(&mut streams, 1), open(&mut streams, 2));
    streams.make_resumable(&slow);
    for step in 0..200 {
        push(&mut streams, &progress(1, step));
    }
    assert!(streams.waiting <= BOUNDS.waiting);
    // Only that stream has ended.
    assert_eq!(streams.next(&slow), Next::End);
    push(&mut streams, &answer(1));
    assert_eq!(streams.next(&slow), Next::End);
    push(&mut streams, &answer(2));
    assert_eq!(lines(&mut streams, &other), [answer(2)]);
    // There is no listener: the oldest are dropped.
    for step in 0..1000 {
        push(&mut streams, &told(&format!("{step}/list_changed")));
    }
    let general = streams.listen();
    let held = lines(&mut streams, &general);
    assert!(held.len() <= MAX_HELD && held.len() > 10, "{}", held.len());
    assert_eq!(held.last(), Some(&told("999/list_changed")));
    assert!(streams.kept_here <= BOUNDS.kept);
    assert_eq!(streams.waiting, 0);
}

#[test]
fn one_line_is_taken_whatever_its_size() {
    let mut streams = streams();
    let reading = open(&mut streams, 1);
    let long = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":"{}"}}}}"#,
        "y".repeat(20_000)
    );
    push(&mut streams, &long);
    assert_eq!(lines(&mut streams, &reading), [long]);
}

#[test]
fn ended_streams_are_bounded_in_number() {
    let mut streams = streams();
    for id in 0..1000 {
        let reading = open(&mut streams, id);
        streams.make_resumable(&reading);
        push(&mut streams, &answer(id));
        assert_eq!(read(&mut streams, &reading).len(), 1);
        streams.leave(&reading, Instant::now());
    }
    assert!(streams.streams.len() <= MAX_ENDED + 1);
    assert!(streams.kept_here <= BOUNDS.kept);
}

/// Bug: a request of the server waited on the general stream for a client that accepts no streams.
#[test]
fn requests_that_no_reader_takes_can_be_taken_back() {
    let mut streams = streams();
    let _json_only = streams.open(&request(1), false).unwrap();
    assert!(!streams.can_be_asked());
    let unheard = streams.unheard();
    push(&mut streams, &told("a"));
    assert_eq!(unheard.wait().now_or_never(), None);
    push(&mut streams, QUESTION);
    assert_eq!(unheard.wait().now_or_never(), Some(()));
    push(&mut streams, &told("b"));
    assert_eq!(streams.take_unheard(), [RequestId::Number(77)]);
    assert_eq!(streams.take_unheard(), []);
    // Whoever listens gets the rest, and further requests.
    let general = streams.listen();
    assert!(streams.can_be_asked());
    push(&mut streams, QUESTION);
    assert_eq!(unheard.wait().now_or_never(), None);
    let found: Vec<_> = read(&mut streams, &general)
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(found, [&told("a"), &told("b"), QUESTION]);
    // What has been sent may have been read.
    streams.leave(&general, Instant::now());
    assert_eq!(streams.take_unheard(), []);
    streams.close();
    assert!(!streams.can_be_asked());
}

/// Bug: a later request with the id of a cancelled one whose stream was read too slowly got no answer.
#[test]
fn a_stream_that_is_read_too_slowly_takes_no_answer_from_another() {
    let mut streams = streams();
    let slow = open(&mut streams, 1);
    let long = |id| {
        progress(id, 1).replace(
            r#""progress""#,
            &format!(r#""x":"{}","progress""#, "y".repeat(4000)),
        )
    };
    push(&mut streams, &long(1));
    push(&mut streams, &long(1));
    streams.cancel(&RequestId::Number(1));
    let again = open(&mut streams, 1);
    let other = open(&mut streams, 2);
    push(&mut streams, &long(2));
    assert_eq!(streams.next(&slow), Next::End);
    push(&mut streams, &answer(1));
    assert_eq!(lines(&mut streams, &again), [answer(1)]);
    assert_eq!(lines(&mut streams, &other), [long(2)]);
}

/// Bug: one long message on a stream kept others from being ended.
#[test]
fn a_long_message_makes_no_room_for_other_streams() {
    let mut streams = streams();
    let (long, other) = (open(&mut streams, 1), open(&mut streams, 2));
    let text = "y".repeat(8000);
    push(
        &mut streams,
        &progress(1, 1).replace(r#""progress""#, &format!(r#""x":"{text}","progress""#)),
    );
    for step in 0..100 {
        push(&mut streams, &progress(2, step));
    }
    assert!(streams.waiting <= BOUNDS.waiting);
    assert_eq!(streams.next(&other), Next::End);
    assert_eq!(lines(&mut streams, &long).len(), 1);
}
