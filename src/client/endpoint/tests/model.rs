//! One client, its host, a sequence of servers, and the events that can happen to them.

use super::*;
use crate::replay::Replay;
use proptest::prelude::*;
use std::collections::VecDeque;

/// What is on a wire.
#[derive(Clone, Debug)]
enum Item {
    Control(Control),
    Line(Bytes),
}

#[derive(Clone, Debug)]
enum Event {
    /// The host sends a request.
    Ask,
    /// The host answers a question from the server.
    Reply,
    /// The client sends.
    Turn,
    /// The server sends this many bytes.
    Send(usize),
    Up,
    Down,
    /// The server responds to one of the pending requests.
    Answer(usize),
    /// The server asks the host a question.
    Question,
    ServerAck,
    /// A second passes.
    Pass,
    Cut,
    Connect,
    /// The server is gone, and is replaced by another.
    Restart,
    Drain,
}

/// The server's side of a session.
#[derive(Default)]
struct Session {
    number: usize,
    replay: Replay,
    waiting: Vec<Value>,
    asked: u64,
    drains: bool,
    heard: bool,
}

/// One client, its host, a sequence of servers, and the wires between them.
struct Model {
    rig: Rig,
    session: Session,
    sessions: usize,
    wire: Option<[VecDeque<Item>; 2]>,
    /// The server has sent something on the current wire.
    connected: bool,
    asked: u64,
    /// Questions that the host has not answered, and the server each came from.
    questions: Vec<(Value, Value)>,
    /// The responses that the host has received, by id.
    answered: Vec<u64>,
    failed: Vec<u64>,
    executed: Vec<u64>,
    /// A server is gone, and its state is lost.
    restarted: bool,
    /// Connections on which the server has sent nothing in time.
    overdue: u32,
}

impl Model {
    fn new() -> Self {
        Self {
            rig: Rig::new(),
            session: Session::default(),
            sessions: 0,
            wire: None,
            connected: false,
            asked: 0,
            questions: Vec::new(),
            answered: Vec::new(),
            failed: Vec::new(),
            executed: Vec::new(),
            restarted: false,
            overdue: 0,
        }
    }

    fn host_gets(&mut self, line: &Bytes) {
        let message: Value = serde_json::from_slice(line).unwrap();
        let method = message["method"].as_str().unwrap_or_default();
        assert!(!method.starts_with("mcp-remote/"), "{message}");
        if method == "roots/list" {
            let id = message["id"].clone();
            let mut open = self.questions.iter();
            assert!(open.all(|(other, _)| *other != id), "two with one id");
            let session = message["params"]["session"].clone();
            self.questions.push((id, session));
        } else if method == "notifications/cancelled" {
            // A host that answers anyway: the answer crosses the cancellation.
        } else if message["error"].is_object() {
            self.failed.push(message["id"].as_u64().unwrap());
        } else {
            self.answered.push(message["id"].as_u64().unwrap());
        }
    }

    fn listen(&mut self) {
        for line in self.rig.told() {
            self.host_gets(&line);
        }
    }

    fn lose(&mut self) {
        if self.wire.take().is_some() {
            self.connected = false;
            self.rig.lose();
        }
    }

    fn connect(&mut self) {
        if self.wire.is_none() {
            self.rig.connect(Offer::Promised);
            self.wire = Some(Default::default());
            self.turn();
        }
    }

    fn turn(&mut self) {
        let Some([up, _]) = &mut self.wire else {
            return;
        };
        match self.rig.poll() {
            Action::Send(lines) => {
                up.extend(lines.into_iter().map(|line| match Control::read(&line) {
                    Some(control) => Item::Control(control),
                    None => Item::Line(line),
                }));
            }
            Action::GiveUp => {
                // After some of these the client drops its session by itself.
                self.overdue += 1;
                self.restarted |= self.overdue >= MAX_UNANSWERED;
                self.lose();
            }
            Action::Wait { .. } => {}
            Action::Finish => panic!("the host is there"),
        }
    }

    fn up(&mut self) {
        let Some([up, down]) = &mut self.wire else {
            return;
        };
        let Some(item) = up.pop_front() else { return };
        match item {
            Item::Control(Control::Resume { session, received }) => {
                self.connected = true;
                (self.session.drains, self.session.heard) = (false, false);
                let known = session == Some(key(self.session.number));
                if !known {
                    self.sessions += 1;
                    self.session = Session {
                        number: self.sessions,
                        ..Session::default()
                    };
                    self.session.replay.start_keeping();
                } else {
                    assert!(!self.session.replay.is_stale(received));
                    self.session.replay.resume(received).unwrap();
                }
                down.push_back(Item::Control(Control::Resumed {
                    session: Some(key(self.session.number)),
                    received: self.session.replay.receipts.acknowledge(),
                    resumed: known,
                }));
            }
            Item::Control(Control::Ack { received }) => {
                self.session.replay.acknowledge(received).unwrap();
            }
            Item::Control(Control::Drain { received, .. }) => {
                self.session.replay.acknowledge(received).unwrap();
                self.session.heard = true;
            }
            Item::Control(other) => panic!("{other:?}"),
            Item::Line(_) if self.session.drains && !self.session.heard => {}
            Item::Line(line) => {
                self.session.replay.receipts.count(line.len());
                let message: Value = serde_json::from_slice(&line).unwrap();
                if message["method"].is_null() {
                    let asked = message["id"].as_u64().unwrap();
                    assert!(asked < self.session.asked, "an answer to what nobody asked");
                    assert_eq!(
                        message["result"]["session"], self.session.number,
                        "an answer to another question"
                    );
                } else {
                    assert!(!self.session.drains, "nothing but answers");
                    let id = message["id"].as_u64().unwrap();
                    self.executed.push(id);
                    self.session.waiting.push(message["id"].clone());
                }
            }
        }
    }

    fn down(&mut self) {
        let Some([_, down]) = &mut self.wire else {
            return;
        };
        match down.pop_front() {
            None => {}
            Some(Item::Control(control)) => self.rig.hears(control.to_line().into()),
            Some(Item::Line(line)) => self.rig.hears(line),
        }
        self.listen();
    }

    fn send(&mut self, bytes: usize) {
        if let (Some([_, down]), true) = (&mut self.wire, self.connected) {
            let batch = self.session.replay.take(bytes);
            down.extend(batch.lines.into_iter().map(Item::Line));
        }
    }

    fn server_says(&mut self, control: impl FnOnce(u64) -> Control) {
        if let (Some([_, down]), true) = (&mut self.wire, self.connected) {
            let control = control(self.session.replay.receipts.acknowledge());
            down.push_back(Item::Control(control));
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Ask => {
                self.rig.say(request(self.asked));
                self.asked += 1;
            }
            Event::Reply => {
                if !self.questions.is_empty() {
                    let (id, session) = self.questions.remove(0);
                    let reply = json!({"jsonrpc": "2.0", "id": id, "result": {"session": session}});
                    self.rig.say(line(&reply));
                }
            }
            Event::Turn => self.turn(),
            Event::Send(bytes) => self.send(*bytes),
            Event::Up => self.up(),
            Event::Down => self.down(),
            Event::Answer(index) => {
                if !self.session.waiting.is_empty() {
                    let place = index % self.session.waiting.len();
                    let id = self.session.waiting.remove(place);
                    self.session.replay.push(response(&id));
                }
            }
            Event::Question => {
                if self.sessions > 0 {
                    let question = json!({"jsonrpc": "2.0", "id": self.session.asked,
                        "method": "roots/list", "params": {"session": self.session.number}});
                    self.session.asked += 1;
                    self.session.replay.push(line(&question));
                }
            }
            Event::ServerAck => self.server_says(|received| Control::Ack { received }),
            Event::Pass => {
                self.rig.now += SECOND;
                self.turn();
            }
            Event::Cut => self.lose(),
            Event::Connect => self.connect(),
            Event::Restart => {
                self.lose();
                self.session.number = usize::MAX;
                self.restarted = true;
            }
            Event::Drain => {
                if !self.session.drains {
                    self.session.drains = self.connected;
                    let idle = false;
                    self.server_says(|received| Control::Drain { received, idle });
                }
            }
        }
        self.listen();
    }

    /// A wire that holds, and a server that stays.
    fn finish(&mut self) {
        self.lose();
        self.connect();
        for _ in 0..20 {
            self.turn();
            while self.wire.as_ref().is_some_and(|wire| !wire[0].is_empty()) {
                self.up();
            }
            while !self.session.waiting.is_empty() {
                self.happen(&Event::Answer(0));
            }
            self.send(usize::MAX);
            self.happen(&Event::ServerAck);
            while self.wire.as_ref().is_some_and(|wire| !wire[1].is_empty()) {
                self.down();
            }
            while !self.questions.is_empty() {
                self.happen(&Event::Reply);
            }
            self.happen(&Event::Pass);
        }
    }

    fn check(&self) {
        let mut ended = [&self.answered[..], &self.failed].concat();
        ended.sort_unstable();
        let asked: Vec<u64> = (0..self.asked).collect();
        assert_eq!(ended, asked, "answered once, or failed once");
        let ordered = self.executed.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ordered, "executed once and in order: {:?}", self.executed);
        assert!(self.restarted || self.failed.is_empty(), "nothing was lost");
        let executed = |id| self.executed.contains(id);
        assert!(self.answered.iter().all(executed));
        assert!(!self.rig.endpoint.is_needed());
        assert!(self.rig.endpoint.outbound.is_settled() && self.session.replay.is_settled());
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Ask),
        2 => Just(Event::Reply),
        8 => Just(Event::Turn),
        4 => (1usize..200).prop_map(Event::Send),
        10 => Just(Event::Up),
        10 => Just(Event::Down),
        4 => any::<usize>().prop_map(Event::Answer),
        2 => Just(Event::Question),
        2 => Just(Event::ServerAck),
        2 => Just(Event::Pass),
        1 => Just(Event::Cut),
        3 => Just(Event::Connect),
        1 => Just(Event::Restart),
        1 => Just(Event::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Whatever happens to wires and servers: each request gets one response or one error, none is
    /// executed twice or out of order, and no answer of the host reaches another question.
    #[test]
    fn every_request_ends_once(events in prop::collection::vec(event(), 0..300)) {
        let mut model = Model::new();
        for event in &events {
            model.happen(event);
        }
        model.finish();
        model.check();
    }
}
