//! The events of a history.

use crate::router::{PROCESSES, Presence};
use proptest::prelude::*;

/// What can happen. Numbers select from what exists at that time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Connect {
        modern: bool,
        user: usize,
    },
    Request {
        peer: usize,
        id: u8,
        token: bool,
    },
    Notify {
        peer: usize,
    },
    Discover {
        peer: usize,
        id: u8,
        proper: bool,
    },
    Listen {
        peer: usize,
        id: u8,
        token: bool,
    },
    Acknowledge {
        pick: usize,
    },
    AboutTask {
        peer: usize,
        id: u8,
        task: u8,
    },
    TaskStatus {
        process: usize,
        task: u8,
    },
    Subscribe {
        peer: usize,
        uri: u8,
        on: bool,
    },
    SetLevel {
        peer: usize,
        level: usize,
    },
    Cancel {
        peer: usize,
        id: u8,
    },
    /// It ends its sending half.
    HalfClose {
        peer: usize,
    },
    Leave {
        peer: usize,
    },
    /// It gets a child of its own.
    Release {
        peer: usize,
    },
    /// A legacy peer goes on as a modern one.
    Modernize {
        peer: usize,
    },
    /// The proxy itself checks whether a process answers.
    Check,
    /// Its roles block one of [`super::BLOCKED`], if any.
    Rights {
        peer: usize,
        blocked: usize,
    },
    /// It loses its connection, stays away, or returns.
    Moves {
        peer: usize,
        presence: Presence,
    },
    Answer {
        pick: usize,
        error: bool,
        task: Option<u8>,
    },
    Progress {
        pick: usize,
    },
    Ask {
        process: usize,
        task: Option<u8>,
    },
    TakeBack {
        pick: usize,
    },
    AnswerAsk {
        pick: usize,
        peer: usize,
    },
    ProgressOnAsk {
        pick: usize,
        peer: usize,
    },
    /// This many seconds after the last question, all older ones have timed out.
    Late {
        seconds: u8,
    },
    Updated {
        uri: u8,
    },
    Broadcast,
    /// A process logs something about one of its requests.
    Log {
        pick: usize,
    },
    /// A process ends a subscription.
    EndListen {
        pick: usize,
    },
    /// A process has closed its stdin.
    Deaf {
        process: usize,
    },
    /// A process has missed a deadline.
    Overdue {
        process: usize,
    },
    /// Some time passes.
    Pass {
        millis: u16,
    },
    /// So many requests come and go that their ids begin to repeat.
    Age,
    Die {
        process: usize,
        forgets: bool,
        suspicious: bool,
    },
    Tick {
        process: usize,
        last: bool,
    },
    Return {
        process: usize,
    },
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let (pick, peer, id, uri, process) = (0usize..64, 0usize..8, 0u8..5, 0u8..3, 0..PROCESSES);
    let presence = prop::sample::select(vec![
        Presence::Connected,
        Presence::Connected,
        Presence::Lost,
        Presence::Away,
    ]);
    let task = || prop::option::weighted(0.3, 0u8..4);
    prop_oneof![
        3 => (any::<bool>(), 0usize..2).prop_map(|(modern, user)| Event::Connect { modern, user }),
        8 => (peer.clone(), id.clone(), any::<bool>()).prop_map(|(peer, id, token)| Event::Request { peer, id, token }),
        1 => peer.clone().prop_map(|peer| Event::Notify { peer }),
        1 => (peer.clone(), id.clone(), any::<bool>()).prop_map(|(peer, id, proper)| Event::Discover { peer, id, proper }),
        2 => (peer.clone(), id.clone(), any::<bool>()).prop_map(|(peer, id, token)| Event::Listen { peer, id, token }),
        2 => pick.clone().prop_map(|pick| Event::Acknowledge { pick }),
        1 => (peer.clone(), id.clone(), 0u8..4).prop_map(|(peer, id, task)| Event::AboutTask { peer, id, task }),
        1 => (process.clone(), 0u8..4).prop_map(|(process, task)| Event::TaskStatus { process, task }),
        2 => (peer.clone(), uri.clone(), any::<bool>()).prop_map(|(peer, uri, on)| Event::Subscribe { peer, uri, on }),
        1 => (peer.clone(), 0usize..4).prop_map(|(peer, level)| Event::SetLevel { peer, level }),
        2 => (peer.clone(), prop_oneof![4 => id, 1 => 8u8..10]).prop_map(|(peer, id)| Event::Cancel { peer, id }),
        1 => peer.clone().prop_map(|peer| Event::HalfClose { peer }),
        1 => peer.clone().prop_map(|peer| Event::Leave { peer }),
        1 => peer.clone().prop_map(|peer| Event::Release { peer }),
        1 => peer.clone().prop_map(|peer| Event::Modernize { peer }),
        1 => Just(Event::Check),
        1 => (peer.clone(), 0usize..4).prop_map(|(peer, blocked)| Event::Rights { peer, blocked }),
        2 => (peer.clone(), presence).prop_map(|(peer, presence)| Event::Moves { peer, presence }),
        9 => (pick.clone(), prop::bool::weighted(0.3), task()).prop_map(|(pick, error, task)| Event::Answer { pick, error, task }),
        3 => pick.clone().prop_map(|pick| Event::Progress { pick }),
        4 => (process.clone(), task()).prop_map(|(process, task)| Event::Ask { process, task }),
        1 => pick.clone().prop_map(|pick| Event::TakeBack { pick }),
        1 => pick.clone().prop_map(|pick| Event::Log { pick }),
        1 => pick.clone().prop_map(|pick| Event::EndListen { pick }),
        1 => process.clone().prop_map(|process| Event::Deaf { process }),
        1 => process.clone().prop_map(|process| Event::Overdue { process }),
        3 => (pick.clone(), peer.clone()).prop_map(|(pick, peer)| Event::AnswerAsk { pick, peer }),
        2 => (pick, peer).prop_map(|(pick, peer)| Event::ProgressOnAsk { pick, peer }),
        1 => (0u8..4).prop_map(|seconds| Event::Late { seconds }),
        1 => uri.prop_map(|uri| Event::Updated { uri }),
        2 => Just(Event::Broadcast),
        2 => (0u16..1500).prop_map(|millis| Event::Pass { millis }),
        1 => Just(Event::Age),
        1 => (process.clone(), prop::bool::weighted(0.2), any::<bool>()).prop_map(|(process, forgets, suspicious)| Event::Die { process, forgets, suspicious }),
        1 => (process.clone(), prop::bool::weighted(0.2)).prop_map(|(process, last)| Event::Tick { process, last }),
        2 => process.prop_map(|process| Event::Return { process }),
    ]
}
