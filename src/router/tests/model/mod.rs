//! Long random histories against a model that knows only who sent each request.

mod checks;
mod event;
mod peers;
mod processes;

use super::*;
use crate::permissions::Policy;
use crate::router::{PROCESSES, Presence};
use event::{Event, event};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A request of a peer, or of the router, as a process sees it.
struct Seen {
    process: usize,
    ours: Value,
    /// `tag` of the params, which is returned in the response: `SESSION/NUMBER`.
    tag: Value,
    /// The session it belongs to, unless it is the router's own.
    by: Option<String>,
    token: Option<Value>,
    method: String,
    /// A listen request that the process has acknowledged.
    acknowledged: bool,
    /// The process has been notified that the request is cancelled.
    cancelled: bool,
    /// It wants log messages.
    wants_logs: bool,
}

/// The model's state of one peer.
#[derive(Default)]
struct Peer {
    modern: bool,
    user: usize,
    presence: Presence,
    /// Requests in flight: by id text, their tag. `None` for handshakes and the like.
    open: HashMap<String, Option<String>>,
    /// Tags of requests that were cancelled: they may get no response.
    cancelled: BTreeSet<String>,
    /// Tags and tokens of requests that created a task.
    working: BTreeMap<String, Value>,
    /// Tags of listen requests whose acknowledgement it has received.
    acknowledged: BTreeSet<String>,
    /// Open questions to it, by the id it knows.
    asked: BTreeSet<String>,
    wanted: BTreeSet<String>,
    /// Tags of requests that get a response only when the subscription ends.
    listening: BTreeSet<String>,
    /// It sends nothing more.
    half_closed: bool,
}

/// What one process has received in its life.
#[derive(Default)]
struct Life {
    ids: BTreeSet<String>,
    requests: u32,
    initialize: bool,
    initialize_answered: bool,
    initialized: bool,
    /// The sessions whose requests it has received.
    served: BTreeSet<String>,
    /// Something from a peer.
    of_peers: bool,
    /// The proxy itself has checked whether it answers.
    is_checked: bool,
}

#[derive(Default)]
struct World {
    bench: Bench,
    peers: BTreeMap<SessionId, Peer>,
    at_child: Vec<Seen>,
    /// Answered with a task, so that progress may still come.
    tasks_at_child: Vec<Seen>,
    up: [bool; PROCESSES],
    lives: [Life; PROCESSES],
    requests: u32,
    /// Tags of requests whose process has ended: no other process may receive them.
    spent: BTreeSet<String>,
    /// Tags of all requests that were ever cancelled, or forbidden before they were sent.
    withdrawn: BTreeSet<String>,
    /// Methods by tag.
    methods: HashMap<String, String>,
    /// The process does not read any more.
    deaf: [bool; PROCESSES],
    /// Child ids of open questions, by process.
    questions: Vec<(usize, String)>,
    asks: u32,
    answered_questions: BTreeSet<String>,
    /// Progress on questions that has reached a process.
    progress_heard: usize,
    known_ids: BTreeSet<String>,
    /// Users by session, including ended sessions.
    users: HashMap<String, usize>,
    /// Users by task, for each process.
    tasks: HashMap<(usize, String), usize>,
}

const USERS: [&str; 2] = ["alice", "bob"];
const LEVELS: [&str; 4] = ["debug", "info", "warning", "error"];
/// What roles may block.
const BLOCKED: [&str; 3] = ["tools/call", LISTEN, "resources/subscribe"];
const LISTEN: &str = "subscriptions/listen";
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// The token of a question for its progress.
fn token_of(question: &str) -> String {
    format!("token of {question}")
}

fn task_id(task: u8) -> String {
    format!("t{task}")
}

impl World {
    /// A peer that may still send something.
    fn pick_peer(&self, pick: usize) -> Option<SessionId> {
        let speaks = |(id, peer): (&SessionId, &Peer)| (!peer.half_closed).then_some(*id);
        let speaking: Vec<SessionId> = self.peers.iter().filter_map(speaks).collect();
        speaking.get(pick % speaking.len().max(1)).copied()
    }

    fn pick_any(&self, pick: usize) -> Option<SessionId> {
        let count = self.peers.len();
        self.peers.keys().nth(pick % count.max(1)).copied()
    }

    fn pick_of(&self, pick: usize, modern: bool) -> Option<SessionId> {
        self.pick_peer(pick)
            .filter(|peer| self.peers[peer].modern == modern)
    }

    /// The user of the peer whose request has this tag, while it is connected.
    fn user_of(&self, tag: &Value) -> Option<usize> {
        let (session, _) = tag.as_str()?.split_once('/')?;
        let mut peers = self.peers.iter();
        let (_, peer) = peers.find(|(known, _)| known.to_string() == session)?;
        Some(peer.user)
    }

    /// Sends a request whose response carries its tag.
    fn ask(&mut self, peer: SessionId, id: u8, method: &str, token: bool, mut params: Value) {
        self.requests += 1;
        let tag = format!("{peer}/{}", self.requests);
        let mut meta = serde_json::Map::new();
        if token {
            meta.insert("progressToken".into(), json!(id));
        }
        if self.peers[&peer].modern {
            meta.insert(
                "io.modelcontextprotocol/protocolVersion".into(),
                json!("2026-07-28"),
            );
            if id % 2 == 1 {
                meta.insert("io.modelcontextprotocol/logLevel".into(), json!("info"));
            }
        }
        params["tag"] = json!(tag);
        self.methods.insert(tag.clone(), method.to_owned());
        if params.get("_meta").is_none() {
            params["_meta"] = meta.into();
        }
        // A legacy process does not know it, and handles it like any other request.
        if method == LISTEN && self.bench.router.legacy_only.is_none() {
            let peer = self.peers.get_mut(&peer).unwrap();
            peer.listening.insert(tag.clone());
        }
        self.send(peer, id, method, params, Some(tag));
    }

    fn send(&mut self, peer: SessionId, id: u8, method: &str, params: Value, tag: Option<String>) {
        let line = json!({"jsonrpc":"2.0","id":id,"method":method,"params":params}).to_string();
        let key = id.to_string();
        let state = self.peers.get_mut(&peer).unwrap();
        let doubled = state.open.contains_key(&key);
        if !doubled {
            state.open.insert(key, tag);
        }
        self.bench.peer(peer, &line);
        if doubled {
            let (session, refusal) = self.bench.peers_heard().pop().expect("a refusal");
            assert_eq!(session, peer);
            assert_eq!(
                (&refusal["id"], &refusal["error"]["code"]),
                (&json!(id), &json!(-32600))
            );
        }
        self.look();
    }

    fn child_says(&mut self, process: usize, line: &Value) {
        if self.up[process] {
            self.bench.child(process, &line.to_string());
        }
    }

    fn happen(&mut self, event: &Event) {
        self.peers_act(event);
        self.processes_act(event);
        self.look();
        self.bench.advance();
        self.look();
    }
}

/// How many requests a process is given at once.
fn run(events: &[Event], window: Window) {
    let bench = Bench {
        router: Router::with_window(window),
        ..Bench::default()
    };
    let mut world = World {
        bench,
        up: [true, false],
        ..World::default()
    };
    for event in events {
        world.happen(event);
    }
    world.settle();
}

/// Bug: a request waiting for its sender's turn counted as one that the process works on, so its peer
/// was asked another peer's question.
#[test]
fn a_request_that_waits_for_its_turn_makes_nobody_the_requester() {
    let events = [
        Event::Die {
            process: 0,
            forgets: false,
            suspicious: true,
        },
        Event::Connect {
            modern: false,
            user: 0,
        },
        Event::Connect {
            modern: false,
            user: 1,
        },
        Event::Subscribe {
            peer: 2,
            uri: 0,
            on: false,
        },
        Event::Return { process: 0 },
        Event::Notify { peer: 0 },
        Event::Answer {
            pick: 0,
            error: false,
            task: None,
        },
        Event::Answer {
            pick: 0,
            error: false,
            task: None,
        },
        Event::Request {
            peer: 1,
            id: 0,
            token: false,
        },
        Event::Ask {
            process: 0,
            task: None,
        },
    ];
    run(&events, Window::default());
}

/// Bug: a notification that was waiting for its turn when its process ended was the first message
/// of the next one.
#[test]
fn a_new_process_hears_a_request_first() {
    let request = |id| Event::Request {
        peer: 0,
        id,
        token: false,
    };
    let events = [
        Event::Connect {
            modern: false,
            user: 0,
        },
        request(0),
        Event::Notify { peer: 0 },
        request(3),
        request(1),
        Event::Notify { peer: 0 },
        Event::Answer {
            pick: 0,
            error: true,
            task: None,
        },
        Event::Die {
            process: 0,
            forgets: false,
            suspicious: false,
        },
    ];
    let window = Window {
        requests: 1000,
        bytes: 119,
    };
    run(&events, window);
}

/// Bug: a process without a handshake was first sent the notification of a peer that had left meanwhile.
#[test]
fn a_new_process_hears_a_request_first_even_if_peers_leave() {
    let request = |id| Event::Request {
        peer: 0,
        id,
        token: false,
    };
    let events = [
        Event::Connect {
            modern: false,
            user: 0,
        },
        Event::Answer {
            pick: 0,
            error: true,
            task: None,
        },
        request(0),
        request(1),
        Event::Notify { peer: 0 },
        Event::Die {
            process: 0,
            forgets: false,
            suspicious: false,
        },
        Event::Leave { peer: 0 },
    ];
    let (requests, bytes) = (1, 1);
    run(&events, Window { requests, bytes });
}

/// Bug: a process that had received only our `resources/unsubscribe` seemed to end by itself.
#[test]
fn a_process_that_ends_after_a_request_of_our_own_does_not_end_by_itself() {
    let connect = |modern| Event::Connect { modern, user: 0 };
    let answer = |error| Event::Answer {
        pick: 0,
        error,
        task: None,
    };
    let die = Event::Die {
        process: 0,
        forgets: false,
        suspicious: false,
    };
    let subscribe = Event::Subscribe {
        peer: 2,
        uri: 0,
        on: true,
    };
    let events = [
        connect(false),
        connect(true),
        answer(true),
        subscribe,
        Event::Leave { peer: 1 },
        answer(false),
        die.clone(),
        Event::Return { process: 0 },
        Event::HalfClose { peer: 0 },
        die,
    ];
    let (requests, bytes) = (1, 1);
    run(&events, Window { requests, bytes });
}

/// Bug: a request held for the end of a handshake counted as one that the process works on, so its peer was asked the
/// question of another.
#[test]
fn a_request_that_waits_for_a_handshake_makes_nobody_the_requester() {
    let connect = Event::Connect {
        modern: false,
        user: 0,
    };
    let answer = |error| Event::Answer {
        pick: 0,
        error,
        task: None,
    };
    let events = [
        connect.clone(),
        answer(false),
        Event::Leave { peer: 0 },
        Event::Die {
            process: 0,
            forgets: false,
            suspicious: false,
        },
        connect.clone(),
        connect.clone(),
        connect.clone(),
        connect.clone(),
        Event::Request {
            peer: 0,
            id: 0,
            token: false,
        },
        Event::HalfClose { peer: 2 },
        Event::HalfClose { peer: 0 },
        Event::Return { process: 0 },
        answer(true),
        answer(false),
        connect,
        Event::Subscribe {
            peer: 3,
            uri: 0,
            on: false,
        },
        Event::Ask {
            process: 0,
            task: None,
        },
    ];
    let (requests, bytes) = (1, 1);
    run(&events, Window { requests, bytes });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// The invariants at the top of the router, over random histories of up to 80 events.
    #[test]
    fn the_invariants_hold(
        events in prop::collection::vec(event(), 1..80),
        requests in prop_oneof![1usize..4, Just(1000)],
        bytes in prop_oneof![1usize..300, Just(1_000_000)],
    ) {
        run(&events, Window { requests, bytes });
    }
}
