use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn waiting(request: Option<i64>, bytes: usize) -> Waiting {
    let mut line = Chunks::default();
    line.extend(vec![b'x'; bytes]);
    Waiting {
        request,
        place: match request {
            Some(_) => Place::InWindow,
            None => Place::None,
        },
        line,
        _kept: Piece::default(),
    }
}

fn queue(requests: usize) -> Queue {
    let window = Window {
        requests,
        ..Window::default()
    };
    Queue::new(window)
}

fn popped(queue: &mut Queue) -> Option<(u64, Option<i64>)> {
    let next = queue.pop()?;
    Some((next.session.0, next.waiting.request))
}

#[test]
fn one_line_of_each_after_the_other() {
    let (flooder, other) = (SessionId(1), SessionId(2));
    let mut queue = queue(2);
    (0..5).for_each(|request| queue.push(flooder, waiting(Some(request), 1)));
    assert_eq!(popped(&mut queue), Some((1, Some(0))));
    queue.push(other, waiting(Some(10), 1));
    queue.push(other, waiting(None, 1));
    assert!(
        !queue.is_clear_for(other, Place::None)
            && !queue.is_clear_for(SessionId(3), Place::InWindow)
    );
    assert_eq!(popped(&mut queue), Some((1, Some(1))));
    assert_eq!(popped(&mut queue), Some((2, Some(10))));
    assert_eq!(popped(&mut queue), Some((2, None)));
    // The flooding session waits for a response, and no other session waits behind it.
    assert_eq!(popped(&mut queue), None);
    assert!(
        queue.is_clear_for(other, Place::InWindow) && !queue.is_clear_for(flooder, Place::None)
    );
    queue.give(other, 11, Place::InWindow);
    assert!(queue.is_clear_for(other, Place::None) && !queue.is_clear_for(other, Place::InWindow));
    queue.close(flooder, 1);
    queue.take_back(flooder, 2);
    assert_eq!(popped(&mut queue), Some((1, Some(3))));
    assert_eq!(queue.leave(flooder).len(), 1);
    assert_eq!((queue.bytes, queue.turns.len()), (0, 0));
}

#[test]
fn a_ping_goes_ahead_of_its_own_session_and_too_many_do_not() {
    let (peer, other) = (SessionId(1), SessionId(2));
    let mut queue = queue(1);
    let ping = |queue: &mut Queue, request| {
        let mut waiting = waiting(Some(request), 1);
        if queue.takes_ping(peer) {
            waiting.place = Place::Ping;
        }
        queue.push(peer, waiting);
    };
    queue.give(peer, 0, Place::InWindow);
    queue.push(peer, waiting(Some(1), 1));
    assert!(queue.is_clear_for(peer, Place::Ping));
    // It has its turn like a line of any other session.
    queue.push(other, waiting(None, 1));
    assert!(!queue.is_clear_for(peer, Place::Ping));
    let pings = MAX_PINGS as i64;
    (10..12 + pings).for_each(|request| ping(&mut queue, request));
    assert_eq!(popped(&mut queue), Some((2, None)));
    for request in 10..10 + pings {
        assert_eq!(popped(&mut queue), Some((1, Some(request))));
    }
    // The others wait behind the call, and for an answer.
    assert_eq!(popped(&mut queue), None);
    queue.close(peer, 10);
    ping(&mut queue, 20);
    assert_eq!(popped(&mut queue), Some((1, Some(20))));
    queue.close(peer, 0);
    assert_eq!(popped(&mut queue), Some((1, Some(1))));
    queue.leave(peer);
    assert!(queue.shares.is_empty());
}

#[test]
fn a_peer_with_a_long_queue_is_not_read_until_it_is_shorter() {
    let (peer, other) = (SessionId(1), SessionId(2));
    let mut queue = queue(1);
    let room = |queue: &mut Queue| queue.take_room().sessions;
    queue.push(peer, waiting(None, 2 * MAX_BYTES));
    assert!(queue.is_full_for(peer) && !queue.is_full_for(other));
    queue.pop();
    assert!(!queue.is_full_for(peer) && room(&mut queue) == [peer]);
    let lines = i64::try_from(MAX_LINES).unwrap();
    (0..lines).for_each(|request| queue.push(peer, waiting(Some(request), 1)));
    assert!(queue.is_full_for(peer));
    queue.take_back(peer, 7);
    assert!(!queue.is_full_for(peer) && room(&mut queue) == [peer]);
    // Lines that are not queued take up places, too.
    (1000..1002).for_each(|request| queue.give(other, request, Place::InWindow));
    assert!(queue.is_full_for(other));
    queue.close(other, 1000);
    assert!(!queue.is_full_for(other) && room(&mut queue) == [other]);
    // The total limit.
    for session in 10..10 + (MAX_ALL_BYTES / MAX_BYTES) as u64 {
        queue.push(SessionId(session), waiting(None, MAX_BYTES));
    }
    assert!(queue.is_full_for(peer) && !queue.is_full_for(SessionId(9)));
    assert!(!queue.take_room().for_all);
    let mut queue = queue.renewed();
    assert!(queue.take_room().for_all && queue.is_full_for(peer));
    queue.leave(SessionId(10));
    assert!(queue.take_room().for_all && !queue.is_full_for(peer));
}

#[test]
fn a_peer_whose_last_line_has_gone_has_room_even_if_the_others_leave_none() {
    let (hanging, other) = (SessionId(1), SessionId(2));
    let mut queue = queue(1);
    queue.give(hanging, 0, Place::InWindow);
    queue.push(hanging, waiting(Some(1), MAX_ALL_BYTES));
    queue.push(other, waiting(None, 1));
    assert!(queue.is_full_for(other));
    assert_eq!(popped(&mut queue), Some((2, None)));
    assert!(queue.bytes >= MAX_ALL_BYTES && !queue.is_full_for(other));
    assert_eq!(queue.take_room().sessions, [other]);
}

#[derive(Clone, Debug)]
enum Event {
    Push { session: u64, is_request: bool },
    Pop,
    Answer { pick: usize },
    TakeBack { pick: usize },
    Leave { session: u64 },
    Renew,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0u64..4, any::<bool>()).prop_map(|(session, is_request)| Event::Push { session, is_request }),
        6 => Just(Event::Pop),
        3 => any::<usize>().prop_map(|pick| Event::Answer { pick }),
        1 => any::<usize>().prop_map(|pick| Event::TakeBack { pick }),
        1 => (0u64..4).prop_map(|session| Event::Leave { session }),
        1 => Just(Event::Renew),
    ]
}

proptest! {
    /// The lines of each session stay in order, none has more requests in flight than there are
    /// places, and between two lines of one session every other session with a line ready gets one through.
    #[test]
    fn turns_are_fair(events in prop::collection::vec(event(), 1..300), window in 1usize..4) {
        let mut queue = queue(window);
        let mut lines: BTreeMap<u64, VecDeque<(Option<i64>, usize)>> = BTreeMap::new();
        let mut given: Vec<(u64, i64)> = Vec::new();
        // How often others have had a turn since this session was ready.
        let mut passed: BTreeMap<u64, BTreeMap<u64, usize>> = BTreeMap::new();
        for (at, event) in events.into_iter().enumerate() {
            let number = i64::try_from(at).unwrap();
            match event {
                Event::Push { session, is_request } => {
                    let request = is_request.then_some(number);
                    queue.push(SessionId(session), waiting(request, at));
                    lines.entry(session).or_default().push_back((request, at));
                }
                Event::Pop => {
                    let next = queue.pop();
                    let mut passing = passed.keys();
                    prop_assert_eq!(next.is_none(), passing.next().is_none());
                    if let Some(Next { session, waiting }) = next {
                        let session = session.0;
                        let expected = lines.get_mut(&session).and_then(VecDeque::pop_front);
                        prop_assert_eq!(expected, Some((waiting.request, waiting.line.len())));
                        given.extend(waiting.request.map(|request| (session, request)));
                        passed.remove(&session);
                        for (other, turns) in &mut passed {
                            let turns = turns.entry(session).or_default();
                            *turns += 1;
                            prop_assert!(*turns <= 1, "{} passed {} twice", session, other);
                        }
                    }
                }
                Event::Answer { pick } if !given.is_empty() => {
                    let (session, request) = given.swap_remove(pick % given.len());
                    queue.close(SessionId(session), request);
                }
                Event::TakeBack { pick } => {
                    let requests: Vec<(u64, i64)> = lines.iter().flat_map(|(session, lines)| {
                        lines.iter().filter_map(|(request, _)| request.map(|request| (*session, request)))
                    }).collect();
                    if let Some((session, request)) = requests.get(pick % requests.len().max(1)) {
                        queue.take_back(SessionId(*session), *request);
                        let own = lines.get_mut(session).unwrap();
                        own.retain(|(known, _)| *known != Some(*request));
                    }
                }
                Event::Leave { session } => {
                    let left = queue.leave(SessionId(session));
                    let own = lines.remove(&session).unwrap_or_default();
                    prop_assert_eq!(left.len(), own.len());
                    given.retain(|(known, _)| *known != session);
                }
                Event::Renew => {
                    queue = queue.renewed();
                    given.clear();
                    passed.clear();
                }
                Event::Answer { .. } => {}
            }
            for session in 0..4 {
                let open = given.iter().filter(|(known, _)| *known == session).count();
                prop_assert!(open <= window);
                let first = lines.get(&session).and_then(VecDeque::front);
                if first.is_some_and(|(request, _)| request.is_none() || open < window) {
                    passed.entry(session).or_default();
                } else {
                    passed.remove(&session);
                }
            }
            let bytes: usize = lines.values().flatten().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(queue.bytes, bytes);
        }
    }
}
