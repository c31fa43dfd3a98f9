//! Long random histories against a model that knows only who asked what.

use super::*;
use crate::router::LANES;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What can happen. Numbers pick among what there is at that time.
#[derive(Clone, Debug)]
enum Event {
    Connect { modern: bool },
    Request { peer: usize, id: u8, token: bool },
    Listen { peer: usize, id: u8 },
    Subscribe { peer: usize, uri: u8, on: bool },
    SetLevel { peer: usize, level: usize },
    Cancel { peer: usize, id: u8 },
    Leave { peer: usize },
    Answer { pick: usize, error: bool },
    Progress { pick: usize },
    Ask { lane: usize },
    AnswerAsk { pick: usize, peer: usize },
    Updated { uri: u8 },
    Broadcast,
    Die { lane: usize },
    Return { lane: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let (pick, peer, id, uri, lane) = (0usize..64, 0usize..8, 0u8..5, 0u8..3, 0..LANES);
    prop_oneof![
        3 => any::<bool>().prop_map(|modern| Event::Connect { modern }),
        8 => (peer.clone(), id.clone(), any::<bool>()).prop_map(|(peer, id, token)| Event::Request { peer, id, token }),
        1 => (peer.clone(), id.clone()).prop_map(|(peer, id)| Event::Listen { peer, id }),
        2 => (peer.clone(), uri.clone(), any::<bool>()).prop_map(|(peer, uri, on)| Event::Subscribe { peer, uri, on }),
        1 => (peer.clone(), 0usize..4).prop_map(|(peer, level)| Event::SetLevel { peer, level }),
        2 => (peer.clone(), id).prop_map(|(peer, id)| Event::Cancel { peer, id }),
        1 => peer.clone().prop_map(|peer| Event::Leave { peer }),
        9 => (pick.clone(), any::<bool>()).prop_map(|(pick, error)| Event::Answer { pick, error }),
        3 => pick.clone().prop_map(|pick| Event::Progress { pick }),
        2 => lane.clone().prop_map(|lane| Event::Ask { lane }),
        3 => (pick, peer).prop_map(|(pick, peer)| Event::AnswerAsk { pick, peer }),
        1 => uri.prop_map(|uri| Event::Updated { uri }),
        1 => Just(Event::Broadcast),
        1 => lane.clone().prop_map(|lane| Event::Die { lane }),
        2 => lane.prop_map(|lane| Event::Return { lane }),
    ]
}

/// A request of a peer, as the child sees it.
struct Seen {
    lane: usize,
    ours: Value,
    /// `tag` of the params, which the answer carries back.
    tag: Value,
    token: Option<Value>,
    method: String,
}

/// What the model believes of one peer.
#[derive(Default)]
struct Peer {
    modern: bool,
    /// Requests without an answer: by id text, their tag. `None` for handshakes and the like.
    open: HashMap<String, Option<String>>,
    /// Tags of requests that were cancelled: an answer may come, and at most once.
    cancelled: BTreeSet<String>,
    /// Questions that it was asked, by the id it knows.
    asked: BTreeSet<String>,
    wanted: BTreeSet<String>,
}

#[derive(Default)]
struct World {
    bench: Bench,
    peers: BTreeMap<SessionId, Peer>,
    at_child: Vec<Seen>,
    up: [bool; LANES],
    requests: u32,
    /// Child ids of questions that wait for an answer, by lane.
    questions: Vec<(usize, String)>,
    asks: u32,
    answered_questions: BTreeSet<String>,
    known_ids: BTreeSet<String>,
}

const LEVELS: [&str; 4] = ["debug", "info", "warning", "error"];
const MODERN: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;

impl World {
    fn pick_peer(&self, pick: usize) -> Option<SessionId> {
        let count = self.peers.len();
        self.peers.keys().nth(pick % count.max(1)).copied()
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

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Connect { modern } if self.peers.len() < 8 => {
                let session = self.bench.attach();
                self.peers.insert(
                    session,
                    Peer {
                        modern: *modern,
                        ..Peer::default()
                    },
                );
                if !modern {
                    self.send(
                        session,
                        0,
                        "initialize",
                        json!({"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}),
                        None,
                    );
                    self.bench.peer(
                        session,
                        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                    );
                }
            }
            Event::Request { peer, id, token } => {
                let Some(peer) = self.pick_peer(*peer) else {
                    return;
                };
                self.requests += 1;
                let tag = format!("{peer}/{}", self.requests);
                let mut meta = serde_json::Map::new();
                if *token {
                    meta.insert("progressToken".into(), json!(id));
                }
                if self.peers[&peer].modern {
                    meta.insert(
                        "io.modelcontextprotocol/protocolVersion".into(),
                        json!("2026-07-28"),
                    );
                }
                self.send(
                    peer,
                    *id,
                    "tools/call",
                    json!({"_meta":meta,"tag":tag}),
                    Some(tag),
                );
            }
            Event::Listen { peer, id } => {
                let Some(peer) = self.pick_peer(*peer).filter(|peer| self.peers[peer].modern)
                else {
                    return;
                };
                self.requests += 1;
                let tag = format!("{peer}/{}", self.requests);
                let meta: Value = serde_json::from_str(&format!("{{{MODERN}}}")).unwrap();
                self.send(
                    peer,
                    *id,
                    "subscriptions/listen",
                    json!({"_meta":meta,"tag":tag}),
                    Some(tag),
                );
            }
            Event::Subscribe { peer, uri, on } => {
                let Some(peer) = self
                    .pick_peer(*peer)
                    .filter(|peer| !self.peers[peer].modern)
                else {
                    return;
                };
                let uri = format!("x:{uri}");
                let method = if *on {
                    "resources/subscribe"
                } else {
                    "resources/unsubscribe"
                };
                if self.peers[&peer].open.contains_key("9") {
                    return;
                }
                let wanted = &mut self.peers.get_mut(&peer).unwrap().wanted;
                if *on {
                    wanted.insert(uri.clone())
                } else {
                    wanted.remove(&uri)
                };
                self.send(peer, 9, method, json!({"uri":uri}), None);
            }
            Event::SetLevel { peer, level } => {
                let Some(peer) = self
                    .pick_peer(*peer)
                    .filter(|peer| !self.peers[peer].modern)
                else {
                    return;
                };
                self.send(
                    peer,
                    8,
                    "logging/setLevel",
                    json!({"level":LEVELS[*level]}),
                    None,
                );
            }
            Event::Cancel { peer, id } => {
                let Some(peer) = self.pick_peer(*peer) else {
                    return;
                };
                let line = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}}).to_string();
                self.bench.peer(peer, &line);
                let state = self.peers.get_mut(&peer).unwrap();
                if let Some(Some(tag)) = state.open.get(&id.to_string()).cloned() {
                    state.open.remove(&id.to_string());
                    state.cancelled.insert(tag);
                }
            }
            Event::Leave { peer } => {
                let Some(peer) = self.pick_peer(*peer) else {
                    return;
                };
                self.peers.remove(&peer);
                self.bench.detach(peer);
            }
            Event::Answer { pick, error } if !self.at_child.is_empty() => {
                let pick = pick % self.at_child.len();
                if self.at_child[pick].method == "subscriptions/listen" && !error {
                    return;
                }
                let seen = self.at_child.remove(pick);
                self.answer(&seen, *error);
            }
            Event::Progress { pick } if !self.at_child.is_empty() => {
                let seen = &self.at_child[pick % self.at_child.len()];
                let Some(token) = &seen.token else { return };
                let line = json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"tag":seen.tag}}).to_string();
                self.bench.child(seen.lane, &line);
            }
            Event::Ask { lane } if self.up[*lane] => {
                self.asks += 1;
                let id = format!("q{}", self.asks);
                let line =
                    json!({"jsonrpc":"2.0","id":id,"method":"sampling/createMessage","params":{}})
                        .to_string();
                self.questions.push((*lane, id));
                self.bench.child(*lane, &line);
            }
            Event::AnswerAsk { pick, peer } => {
                let asked: Vec<(SessionId, String)> = self
                    .peers
                    .iter()
                    .flat_map(|(session, peer)| peer.asked.iter().map(|id| (*session, id.clone())))
                    .collect();
                if asked.is_empty() {
                    return;
                }
                let (asked_peer, id) = asked[pick % asked.len()].clone();
                let Some(from) = self.pick_peer(*peer) else {
                    return;
                };
                let before = self.answered_questions.len();
                self.bench.peer(
                    from,
                    &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
                );
                self.look();
                let answered = self.answered_questions.len() - before;
                assert_eq!(
                    answered,
                    usize::from(from == asked_peer),
                    "who was not asked cannot answer"
                );
                if from == asked_peer {
                    self.peers.get_mut(&from).unwrap().asked.remove(&id);
                }
            }
            Event::Updated { uri } => {
                for lane in 0..LANES {
                    self.bench.child(lane, &json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":format!("x:{uri}")}}).to_string());
                }
            }
            Event::Broadcast => {
                for lane in 0..LANES {
                    self.bench.child(
                        lane,
                        r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
                    );
                }
            }
            Event::Die { lane } if self.up[*lane] => {
                self.up[*lane] = false;
                self.at_child.retain(|seen| seen.lane != *lane);
                self.questions.retain(|(at, _)| at != lane);
                self.bench.exit(*lane, true);
            }
            Event::Return { lane }
                if !self.up[*lane]
                    && self.bench.router.lanes[*lane].service != super::super::Service::Idle =>
            {
                self.up[*lane] = true;
                self.bench.start(*lane);
            }
            _ => {}
        }
        self.look();
    }

    fn answer(&mut self, seen: &Seen, error: bool) {
        let body = match seen.method.as_str() {
            "initialize" => {
                json!({"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}}})
            }
            _ => json!({"tag":seen.tag}),
        };
        let line = if error && seen.method != "initialize" {
            json!({"jsonrpc":"2.0","id":seen.ours,"error":{"code":1,"message":"no","data":body}})
        } else {
            json!({"jsonrpc":"2.0","id":seen.ours,"result":body})
        };
        self.bench.child(seen.lane, &line.to_string());
    }

    /// Reads everything that was said, and checks it against what may be said.
    fn look(&mut self) {
        for command in self.bench.commands() {
            if let Command::Start(lane) = command {
                self.up[lane.0] = true;
                self.bench.start(lane.0);
            }
        }
        for lane in 0..LANES {
            if !self.up[lane] {
                continue;
            }
            for line in self.bench.child_heard(lane) {
                self.child_hears(lane, &line);
            }
        }
        for (session, line) in self.bench.peers_heard() {
            self.peer_hears(session, &line);
        }
    }

    fn child_hears(&mut self, lane: usize, line: &Value) {
        match (line.get("method"), line.get("id")) {
            (Some(method), Some(ours)) => {
                let method = method.as_str().unwrap().to_owned();
                let renewed =
                    method == "subscriptions/listen" && self.known_ids.contains(&ours.to_string());
                assert!(
                    self.known_ids.insert(ours.to_string()) || renewed,
                    "an id was used twice"
                );
                self.at_child.push(Seen {
                    lane,
                    ours: ours.clone(),
                    tag: line["params"]["tag"].clone(),
                    token: line["params"]["_meta"].get("progressToken").cloned(),
                    method,
                });
            }
            (None, Some(id)) => {
                let id = id.as_str().unwrap().to_owned();
                let at = self
                    .questions
                    .iter()
                    .position(|question| *question == (lane, id.clone()));
                self.questions.remove(at.expect("an answer to no question"));
                assert!(
                    self.answered_questions.insert(id),
                    "a question was answered twice"
                );
            }
            _ => {}
        }
    }

    fn peer_hears(&mut self, session: SessionId, line: &Value) {
        let peer = self
            .peers
            .get_mut(&session)
            .expect("said to a peer that is gone");
        match (line.get("method").and_then(Value::as_str), line.get("id")) {
            (Some(method), Some(id)) => {
                assert_eq!(method, "sampling/createMessage");
                assert!(!peer.modern && peer.asked.insert(id.to_string()));
            }
            (Some("notifications/progress"), None) => {
                let tag = line["params"]["tag"].as_str().unwrap();
                assert!(
                    tag.starts_with(&format!("{session}/")),
                    "somebody else's progress"
                );
                let open = peer.open.get(&line["params"]["progressToken"].to_string());
                assert!(
                    peer.cancelled.contains(tag)
                        || open.is_some_and(|open| open.as_deref() == Some(tag)),
                    "progress on nothing"
                );
            }
            (Some("notifications/cancelled"), None) => {
                peer.asked.remove(&line["params"]["requestId"].to_string());
            }
            (Some("notifications/resources/updated"), None) => {
                let uri = line["params"]["uri"].as_str().unwrap();
                assert!(
                    peer.wanted.contains(uri),
                    "an update that nobody subscribed to"
                );
            }
            (Some(_), None) => assert!(!peer.modern, "a broadcast to a modern peer"),
            (None, id) => {
                let id = id.expect("an answer without id").to_string();
                let tag = line["result"]["tag"]
                    .as_str()
                    .or(line["error"]["data"]["tag"].as_str());
                if tag.is_some_and(|tag| peer.cancelled.remove(tag)) {
                    return;
                }
                let asked = peer.open.remove(&id).expect("an answer to nothing asked");
                if let Some(tag) = tag {
                    assert_eq!(asked.as_deref(), Some(tag), "somebody else's answer");
                }
            }
        }
    }

    /// Lets every process come back and answer what it was asked: then nothing may be owed.
    fn settle(&mut self) {
        for round in 0.. {
            for lane in 0..LANES {
                self.happen(&Event::Return { lane });
            }
            let waiting: Vec<Seen> = std::mem::take(&mut self.at_child);
            if waiting.is_empty() {
                break;
            }
            for seen in waiting {
                self.answer(&seen, false);
                self.look();
            }
            assert!(round < 10, "it never settles");
        }
        for (session, peer) in &self.peers {
            assert!(peer.open.is_empty(), "{session} waits for {:?}", peer.open);
            assert_eq!(self.bench.router.owed(*session), 0);
        }
        for session in std::mem::take(&mut self.peers).into_keys() {
            self.bench.detach(session);
        }
        self.look();
        assert!(
            self.questions.is_empty(),
            "questions without answers: {:?}",
            self.questions
        );
        let router = &self.bench.router;
        assert!(router.sessions.is_empty());
        for lane in &router.lanes {
            assert!(lane.in_flight.is_empty() && lane.held.is_empty());
            assert_eq!(lane.asks.all().count() + lane.asks.parked.len(), 0);
            assert!(lane.subscriptions.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// The invariants at the top of the router, over random histories of up to 80 events.
    #[test]
    fn the_invariants_hold(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World { up: [true, false], ..World::default() };
        for event in &events {
            world.happen(event);
        }
        world.settle();
    }
}
