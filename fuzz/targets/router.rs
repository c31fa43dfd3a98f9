//! Histories of a router, one event per few bytes, against a model that knows the sender of each request:
//! every response reaches its requester, once, and no other peer; in the end nothing is pending.

use mcp_remote::jsonrpc::{Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message};
use mcp_remote::permissions::{Permit, Rights};
use mcp_remote::router::{
    Command, Exit, ForPeer, Output, PROCESSES, ProcessId, Profile, Router, SessionId,
};
use mcp_remote::utils::chunks::Pieces;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

#[derive(Default)]
struct Peer {
    /// Methods and tags of pending requests, by the text of the id.
    open: BTreeMap<String, (&'static str, String)>,
    cancelled: BTreeSet<String>,
    /// Ids of cancelled requests, until they are reused.
    late: BTreeSet<String>,
    /// Its last `initialize` came while another one was in flight.
    refused: bool,
    asked: Vec<Value>,
}

/// The requests that a process has received.
struct Seen {
    process: usize,
    id: Value,
    method: String,
    tag: Value,
    token: Value,
}

#[derive(Default)]
struct World {
    router: Router,
    out: Output,
    peers: BTreeMap<SessionId, Peer>,
    seen: Vec<Seen>,
    questions: Vec<(usize, Value)>,
    up: [bool; PROCESSES],
    /// Processes that may still be started.
    wanted: [bool; PROCESSES],
    count: u32,
}

fn permit(line: &str) -> Option<Permit> {
    let message = Message::read(line.to_owned().into(), MAX_PEER_DEPTH).ok()?;
    Rights::everything().decide(message).ok()
}

/// Longer histories find little more, and are slow.
const MAX_EVENTS: usize = 64;

const LEVELS: [&str; 4] = ["debug", "info", "warning", "error"];

impl World {
    fn peer(&self, pick: u8) -> Option<SessionId> {
        let count = self.peers.len().max(1);
        self.peers.keys().nth(usize::from(pick) % count).copied()
    }

    fn say(&mut self, peer: SessionId, line: &Value) {
        if let Some(permit) = permit(&line.to_string()) {
            let passed = self.router.peer_message(peer, &permit, &mut self.out);
            passed.expect("there are no bounds");
        }
        self.look();
    }

    fn child(&mut self, process: usize, line: &Value) {
        if self.up[process] {
            let message = Message::read(line.to_string().into(), MAX_CHILD_DEPTH).expect("ours");
            self.router.child_message(
                ProcessId::ALL[process],
                &message,
                Instant::now,
                &mut self.out,
            );
        }
        self.look();
    }

    fn request(&mut self, peer: SessionId, id: &Value, method: &'static str, mut params: Value) {
        self.count += 1;
        let tag = format!("{peer}/{}", self.count);
        params["tag"] = json!(tag);
        let state = self.peers.get_mut(&peer).expect("a peer");
        state.late.remove(&id.to_string());
        state.refused = false;
        let key = id.to_string();
        let is_new = !state.open.contains_key(&key);
        state.open.entry(key.clone()).or_insert((method, tag));
        self.say(
            peer,
            &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}),
        );
        let state = self.peers.get_mut(&peer).expect("a peer");
        if is_new && state.refused {
            state.open.remove(&key);
        }
    }

    fn happen(&mut self, event: [u8; 4]) {
        let [kind, who, a, b] = event;
        let id = match a % 6 {
            0 => json!(0),
            1 => json!("0"),
            2 => json!(""),
            number => json!(number),
        };
        let meta = match b % 4 {
            0 => json!({"progressToken": id}),
            1 => json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"}),
            2 => {
                json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "progressToken": "t"})
            }
            _ => json!({}),
        };
        let Some(peer) = self.peer(who) else {
            let session = self.router.attach(Profile::anybody());
            self.peers.insert(session, Peer::default());
            return;
        };
        match kind % 18 {
            0 if self.peers.len() < 6 => {
                let session = self.router.attach(Profile {
                    user: Some(format!("u{}", a % 2)),
                    ..Profile::anybody()
                });
                self.peers.insert(session, Peer::default());
            }
            1 => {
                let params = json!({"protocolVersion": "2025-11-25", "capabilities": {"sampling": {}, "roots": {}}});
                self.request(peer, &id, "initialize", params);
            }
            2 => self.say(
                peer,
                &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            ),
            3 | 4 => self.request(peer, &id, "tools/call", json!({"_meta": meta, "name": "x"})),
            5 => self.request(peer, &id, "server/discover", json!({"_meta": meta})),
            6 => {
                let method = if b & 1 == 0 {
                    "resources/subscribe"
                } else {
                    "resources/unsubscribe"
                };
                self.request(peer, &id, method, json!({"uri": format!("x:{}", b % 3)}));
            }
            7 => self.request(
                peer,
                &id,
                "logging/setLevel",
                json!({"level": LEVELS[usize::from(b % 4)]}),
            ),
            8 => self.request(
                peer,
                &id,
                "tasks/get",
                json!({"taskId": format!("t{}", b % 3), "_meta": meta}),
            ),
            9 => {
                self.say(peer, &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}));
                let state = self.peers.get_mut(&peer).expect("a peer");
                if let Some((method, tag)) = state.open.get(&id.to_string()).cloned()
                    && method != "initialize"
                {
                    state.open.remove(&id.to_string());
                    state.late.insert(id.to_string());
                    state.cancelled.insert(tag);
                }
            }
            10 => {
                self.router.detach(peer, &mut self.out);
                self.peers.remove(&peer);
                self.look();
            }
            11 | 12 if !self.seen.is_empty() => {
                let seen = self.seen.remove(usize::from(who) % self.seen.len());
                self.answer(&seen, a & 3 == 0, b);
            }
            13 if !self.seen.is_empty() => {
                let seen = &self.seen[usize::from(who) % self.seen.len()];
                let line = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": seen.token, "tag": seen.tag}});
                let process = seen.process;
                if !line["params"]["progressToken"].is_null() {
                    self.child(process, &line);
                }
            }
            14 => {
                let process = usize::from(a) % PROCESSES;
                self.count += 1;
                let method = ["sampling/createMessage", "roots/list", "ping"][usize::from(b % 3)];
                let id = json!(format!("q{}", self.count));
                if self.up[process] {
                    self.questions.push((process, id.clone()));
                    self.child(
                        process,
                        &json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {}}),
                    );
                }
            }
            15 => {
                let id = match self.peers[&peer].asked.first() {
                    Some(id) if a & 1 == 0 => id.clone(),
                    _ => json!(a),
                };
                self.say(peer, &json!({"jsonrpc": "2.0", "id": id, "result": {}}));
            }
            16 => {
                let process = usize::from(a) % PROCESSES;
                let method = [
                    "notifications/tools/list_changed",
                    "notifications/resources/updated",
                    "notifications/message",
                ][usize::from(b % 3)];
                self.child(process, &json!({"jsonrpc": "2.0", "method": method, "params": {"uri": "x:1", "level": "error"}}));
            }
            17 => {
                let process = usize::from(a) % PROCESSES;
                if self.up[process] {
                    self.up[process] = false;
                    self.wanted[process] = true;
                    self.seen.retain(|seen| seen.process != process);
                    self.questions.retain(|(at, _)| *at != process);
                    let exit = Exit {
                        restarts: true,
                        ..Exit::default()
                    };
                    self.router
                        .child_exited(ProcessId::ALL[process], &exit, &mut self.out);
                    self.look();
                } else {
                    self.start(process);
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, process: usize) {
        if self.wanted[process] && !self.up[process] {
            self.up[process] = true;
            self.router
                .child_started(ProcessId::ALL[process], &mut self.out);
            self.look();
        }
    }

    fn answer(&mut self, seen: &Seen, error: bool, kind: u8) {
        let mut body = json!({"tag": seen.tag});
        if seen.method == "initialize" {
            body["protocolVersion"] = json!("2025-11-25");
            body["capabilities"] = json!({"tools": {"listChanged": true}});
        } else if kind & 4 == 4 {
            body["task"] = json!({"taskId": format!("t{}", kind % 3)});
        }
        let line = if error {
            json!({"jsonrpc": "2.0", "id": seen.id, "error": {"code": -32601, "message": "no", "data": body}})
        } else {
            json!({"jsonrpc": "2.0", "id": seen.id, "result": body})
        };
        self.child(seen.process, &line);
    }

    /// Takes the output, and checks it, until nothing is queued any more.
    fn look(&mut self) {
        loop {
            self.pass_on();
            let advance = |process| self.router.advance(process, &mut self.out);
            if !ProcessId::ALL.map(advance).contains(&true) {
                return;
            }
        }
    }

    fn pass_on(&mut self) {
        for command in std::mem::take(&mut self.out.commands) {
            for (process, id) in ProcessId::ALL.into_iter().enumerate() {
                if command == Command::Start(id) {
                    self.wanted[process] = true;
                    self.start(process);
                } else if command == Command::Stop(id) {
                    self.wanted[process] = false;
                    self.up[process] = false;
                    self.seen.retain(|seen| seen.process != process);
                    self.questions.retain(|(at, _)| *at != process);
                    self.router
                        .child_exited(id, &Exit::default(), &mut self.out);
                }
            }
        }
        for process in 0..PROCESSES {
            if !self.up[process] {
                continue;
            }
            let bytes = std::mem::take(&mut self.out.to_child[process]);
            let bytes = bytes.into_pieces().concat();
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let line: Value = serde_json::from_slice(line).expect("a line");
                self.child_hears(process, &line);
            }
        }
        for (session, ForPeer { line, answers }) in std::mem::take(&mut self.out.to_peer) {
            let line = line.joined();
            if let Some(id) = answers {
                let message = Message::read(line.clone(), MAX_CHILD_DEPTH).expect("a message");
                assert_eq!(*message.kind(), Kind::Response(Some(id)));
            }
            let line: Value = serde_json::from_slice(&line).expect("a line");
            self.peer_hears(session, &line);
        }
    }

    fn child_hears(&mut self, process: usize, line: &Value) {
        match (line["method"].as_str(), &line["id"]) {
            (Some(_), Value::Null) => {}
            (Some(method), id) => {
                let twice = self
                    .seen
                    .iter()
                    .any(|seen| seen.process == process && seen.id == *id);
                assert!(!twice, "an id was used twice");
                self.seen.push(Seen {
                    process,
                    id: id.clone(),
                    method: method.to_owned(),
                    tag: line["params"]["tag"].clone(),
                    token: line["params"]["_meta"]["progressToken"].clone(),
                });
            }
            (None, id) => {
                let question = (process, id.clone());
                let at = self.questions.iter().position(|asked| *asked == question);
                self.questions.remove(at.expect("an answer to no question"));
            }
        }
    }

    fn peer_hears(&mut self, session: SessionId, line: &Value) {
        let peer = self
            .peers
            .get_mut(&session)
            .expect("said to a peer that is gone");
        match (line["method"].as_str(), &line["id"]) {
            (Some("notifications/progress"), _) => {
                let tag = line["params"]["tag"].as_str().expect("ours has one");
                assert!(
                    tag.starts_with(&format!("{session}/")),
                    "somebody else's progress"
                );
            }
            (Some("notifications/cancelled"), _) => {
                peer.asked
                    .retain(|asked| *asked != line["params"]["requestId"]);
            }
            (Some(_), Value::Null) => {}
            (Some(_), id) => {
                assert!(!peer.asked.contains(id), "asked twice under one id");
                peer.asked.push(id.clone());
            }
            (None, id) => {
                let tag = line["result"]["tag"]
                    .as_str()
                    .or(line["error"]["data"]["tag"].as_str());
                if let Some(tag) = tag.filter(|_| line["result"].get("protocolVersion").is_none()) {
                    assert!(
                        tag.starts_with(&format!("{session}/")) || line["error"].is_object(),
                        "somebody else's answer"
                    );
                    if peer.cancelled.remove(tag) {
                        match peer.open.get(&id.to_string()) {
                            // It got the response shared by all that wait for the same.
                            Some((method, _)) => assert_eq!(*method, "resources/subscribe"),
                            None => return,
                        }
                    }
                }
                let refused = line["error"]["code"] == -32600;
                let why = line["error"]["message"].as_str().unwrap_or_default();
                peer.refused = why.ends_with("initialize is already under way");
                let open = if refused {
                    peer.open.get(&id.to_string()).cloned()
                } else {
                    peer.open.remove(&id.to_string())
                };
                let late = peer.late.contains(&id.to_string());
                assert!(
                    open.is_some() || refused || late,
                    "an answer to nothing: {line}"
                );
            }
        }
    }

    /// Processes return and respond: then nothing is pending.
    fn settle(&mut self) {
        for round in 0.. {
            for process in 0..PROCESSES {
                self.start(process);
            }
            let waiting = std::mem::take(&mut self.seen);
            if waiting.is_empty() {
                break;
            }
            for seen in waiting {
                self.answer(&seen, false, 0);
            }
            assert!(round < 100, "it never settles");
        }
        for session in self.peers.keys() {
            assert_eq!(self.router.pending_requests(*session), 0, "{session} waits");
        }
        for session in self.peers.keys().copied().collect::<Vec<_>>() {
            self.router.detach(session, &mut self.out);
            self.peers.remove(&session);
            self.look();
        }
        assert!(
            self.questions.is_empty(),
            "questions without answers: {:?}",
            self.questions
        );
    }
}

pub fn run(data: &[u8]) {
    let mut world = World {
        wanted: [true, false],
        up: [true, false],
        ..World::default()
    };
    for event in data.chunks_exact(4).take(MAX_EVENTS) {
        world.happen([event[0], event[1], event[2], event[3]]);
    }
    world.settle();
}
