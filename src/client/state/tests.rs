use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn key(number: usize) -> SessionKey {
    let line = json!({"jsonrpc": "2.0", "method": "mcp-remote/resume",
        "params": {"session": format!("session {number}"), "received": 0}});
    match Control::read(line.to_string().as_bytes()) {
        Some(Control::Resume {
            session: Some(key), ..
        }) => key,
        other => panic!("{other:?}"),
    }
}

fn line(message: &Value) -> Bytes {
    format!("{message}\n").into()
}

fn request(id: u64) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": "x"}))
}

fn answer(id: &Value) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "result": {}}))
}

/// A state that is connected to a server that knows sessions.
fn resumable() -> State {
    let mut state = State::default();
    state.greet(true, true);
    let session = Some(key(0));
    let resumed = Control::Resumed {
        session,
        received: 0,
        resumed: false,
    };
    assert!(state.meet(Some(&resumed)).unwrap().0);
    state
}

/// Bug: where a server that cannot resume had taken the place of one that can, and said nothing of
/// itself, the client asked it again and again, and the host waited for ever.
#[test]
fn a_server_that_never_answers_is_not_asked_for_ever() {
    let mut state = resumable();
    state.say(vec![request(0)]);
    assert_eq!(state.turn().lines, [request(0)]);
    for _ in 0..MAX_UNANSWERED {
        state.lose();
        let (hello, _) = state.greet(true, false);
        let session = Some(key(0));
        let received = 0;
        assert_eq!(hello, Some(Control::Resume { session, received }));
        assert_eq!(state.turn().wait, Some(Wait::Long));
        assert!(!state.wait_no_longer() && state.told().is_empty());
    }
    state.lose();
    let told = state.told();
    assert!(std::str::from_utf8(&told[0]).unwrap().contains("\"id\":0,"));
    let (hello, _) = state.greet(true, false);
    let (session, received) = (None, 0);
    assert_eq!(hello, Some(Control::Resume { session, received }));
    // A moment later it is taken for a server that does not know what that is.
    state.say(vec![request(1)]);
    let turn = state.turn();
    assert_eq!((turn.lines.len(), turn.wait), (0, Some(Wait::Short)));
    assert!(state.wait_no_longer());
    assert_eq!(state.turn().lines, [request(1)]);
    // And once it is known for one, no moment is lost.
    assert!(!state.meet(None).unwrap().0);
    state.lose();
    state.greet(true, false);
    state.say(vec![request(2)]);
    let turn = state.turn();
    assert_eq!((turn.lines, turn.wait), (vec![request(2)], None));
}

#[test]
fn answers_overtake_what_waits_for_the_successor() {
    let mut state = resumable();
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create"});
    let question = without_end(&line(&question));
    assert_eq!(state.receive(question.clone().into()).0, Some(question));
    state.say(vec![request(0), request(1)]);
    assert_eq!(state.turn().lines.len(), 2);
    let (received, idle) = (1, false);
    state.heed(&Control::Drain { received, idle }).unwrap();
    let turn = state.turn();
    let received = 1;
    assert_eq!(turn.control, Some(Control::Drain { received, idle }));
    state.say(vec![request(2), answer(&json!("q"))]);
    let turn = state.turn();
    assert_eq!((turn.lines, turn.open), (vec![answer(&json!("q"))], true));
    assert!(state.turn().lines.is_empty());
    // The successor gets the rest, and no answer.
    state.greet(true, true);
    let session = Some(key(1));
    let received = 0;
    let resumed = false;
    let resumed = Control::Resumed {
        session,
        received,
        resumed,
    };
    state.meet(Some(&resumed)).unwrap();
    assert_eq!(state.turn().lines, [request(1), request(2)]);
}

#[test]
fn a_state_that_waits_for_nothing_is_done() {
    let mut state = resumable();
    let note = line(&json!({"jsonrpc": "2.0", "method": "notifications/x"}));
    state.say(vec![note]);
    state.end();
    assert!(!state.is_served(), "it has not been sent");
    assert_eq!(state.turn().lines.len(), 1);
    assert!(state.is_served() && !state.is_done(), "it may be lost");
    assert_eq!(state.turn().control, Some(Control::Leave));
    assert!(!state.turn().done);
    state.heed(&Control::Ack { received: 1 }).unwrap();
    assert!(state.turn().done);
}

/// What stands on a wire.
#[derive(Clone, Debug)]
enum Item {
    Control(Control),
    Line(Bytes),
}

#[derive(Clone, Debug)]
enum Event {
    /// The host asks something.
    Ask,
    /// The host answers a question of the server.
    Reply,
    /// The client sends.
    Turn,
    /// The server sends so many bytes.
    Send(usize),
    Up,
    Down,
    /// The server answers one of those that wait.
    Answer(usize),
    /// The server asks the host something.
    Question,
    ServerAck,
    ClientAck,
    Cut,
    Connect,
    /// The server is gone, and another one is there.
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

/// One client, its host, one server after the other, and the wires between them.
struct Model {
    state: State,
    session: Session,
    sessions: usize,
    wire: Option<[VecDeque<Item>; 2]>,
    /// The server speaks on the present wire.
    met: bool,
    asked: u64,
    /// Questions that the host has not answered, and whose they are.
    questions: Vec<(Value, Value)>,
    /// What the host has got, by id.
    answered: Vec<u64>,
    failed: Vec<u64>,
    executed: Vec<u64>,
    /// A server is gone, and what it knew.
    restarted: bool,
}

impl Model {
    fn new() -> Self {
        Self {
            state: State::default(),
            session: Session::default(),
            sessions: 0,
            wire: None,
            met: false,
            asked: 0,
            questions: Vec::new(),
            answered: Vec::new(),
            failed: Vec::new(),
            executed: Vec::new(),
            restarted: false,
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
            // A host that answers all the same: the answer crosses the cancellation.
        } else if message["error"].is_object() {
            self.failed.push(message["id"].as_u64().unwrap());
        } else {
            self.answered.push(message["id"].as_u64().unwrap());
        }
    }

    fn listen(&mut self) {
        for line in self.state.told() {
            self.host_gets(&line);
        }
    }

    fn lose(&mut self) {
        if self.wire.take().is_some() {
            self.met = false;
            self.state.lose();
        }
    }

    fn connect(&mut self) {
        if self.wire.is_none() {
            let (hello, news) = self.state.greet(true, true);
            assert_eq!(news, None);
            let up = hello.map(Item::Control).into_iter().collect();
            self.wire = Some([up, VecDeque::new()]);
        }
    }

    fn turn(&mut self) {
        let Some([up, _]) = &mut self.wire else {
            return;
        };
        let Turn {
            control,
            lines,
            ack,
            ..
        } = self.state.turn();
        up.extend(control.map(Item::Control));
        if ack == Urgency::Now {
            let received = self.state.tell_received();
            up.push_back(Item::Control(Control::Ack { received }));
        }
        up.extend(lines.into_iter().map(Item::Line));
    }

    fn up(&mut self) {
        let Some([up, down]) = &mut self.wire else {
            return;
        };
        let Some(item) = up.pop_front() else { return };
        match item {
            Item::Control(Control::Resume { session, received }) => {
                self.met = true;
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
            Some(Item::Control(control)) => {
                let (taken, _) = self.state.meet(Some(&control)).unwrap();
                if !taken {
                    self.state.heed(&control).unwrap();
                }
            }
            Some(Item::Line(line)) => {
                self.state.meet(None).unwrap();
                if let (Some(line), _) = self.state.receive(without_end(&line).into()) {
                    self.host_gets(&line);
                }
            }
        }
        self.listen();
    }

    fn send(&mut self, bytes: usize) {
        if let (Some([_, down]), true) = (&mut self.wire, self.met) {
            let batch = self.session.replay.take(bytes);
            down.extend(batch.lines.into_iter().map(Item::Line));
        }
    }

    fn server_says(&mut self, control: impl FnOnce(u64) -> Control) {
        if let (Some([_, down]), true) = (&mut self.wire, self.met) {
            let control = control(self.session.replay.receipts.acknowledge());
            down.push_back(Item::Control(control));
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Ask => {
                self.state.say(vec![request(self.asked)]);
                self.asked += 1;
            }
            Event::Reply => {
                if !self.questions.is_empty() {
                    let (id, session) = self.questions.remove(0);
                    let reply = json!({"jsonrpc": "2.0", "id": id, "result": {"session": session}});
                    self.state.say(vec![line(&reply)]);
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
                    self.session.replay.push(answer(&id));
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
            Event::ClientAck => {
                if let (Some([up, _]), true) = (&mut self.wire, self.state.is_resumable()) {
                    let received = self.state.tell_received();
                    up.push_back(Item::Control(Control::Ack { received }));
                }
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
                    self.session.drains = self.met;
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
            self.happen(&Event::ClientAck);
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
        assert!(!self.state.is_owing());
        assert!(self.state.replay.is_settled() && self.session.replay.is_settled());
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
        2 => Just(Event::ClientAck),
        1 => Just(Event::Cut),
        3 => Just(Event::Connect),
        1 => Just(Event::Restart),
        1 => Just(Event::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// Whatever happens to wires and servers: each request is answered once or errs once, none is
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

fn control() -> impl Strategy<Value = Control> {
    let number = || prop_oneof![4 => 0u64..6, 1 => any::<u64>()];
    let session = || prop::option::of((0usize..3).prop_map(key));
    prop_oneof![
        (session(), number(), any::<bool>()).prop_map(|(session, received, resumed)| {
            Control::Resumed {
                session,
                received,
                resumed,
            }
        }),
        (session(), number()).prop_map(|(session, received)| Control::Resume { session, received }),
        number().prop_map(|received| Control::Ack { received }),
        (number(), any::<bool>()).prop_map(|(received, idle)| Control::Drain { received, idle }),
        Just(Control::Leave),
    ]
}

#[derive(Clone, Debug)]
enum Nonsense {
    Greet(bool, bool),
    Control(Control),
    Line(usize),
    Say(usize),
    Turn,
    Lose,
    Wait,
    Distrust,
    End,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// A server that says anything at any time breaks nothing here, and gets nothing to execute
    /// twice on one connection.
    #[test]
    fn a_server_may_say_anything(events in prop::collection::vec(prop_oneof![
        2 => any::<(bool, bool)>().prop_map(|(resume, promised)| Nonsense::Greet(resume, promised)),
        6 => control().prop_map(Nonsense::Control),
        3 => (0usize..6).prop_map(Nonsense::Line),
        5 => (0usize..6).prop_map(Nonsense::Say),
        5 => Just(Nonsense::Turn),
        1 => Just(Nonsense::Lose),
        1 => Just(Nonsense::Wait),
        1 => Just(Nonsense::Distrust),
        1 => Just(Nonsense::End),
    ], 0..120)) {
        let mut state = State::default();
        let mut next = 0;
        let mut sent_here: Vec<Bytes> = Vec::new();
        for event in events {
            match event {
                Nonsense::Greet(resume, promised) => {
                    state.lose();
                    state.greet(resume, promised);
                    sent_here.clear();
                }
                Nonsense::Control(control) => match state.meet(Some(&control)) {
                    Ok((true, _)) => {}
                    Ok((false, _)) if state.heed(&control).is_ok() => {
                        if matches!(control, Control::Drain { .. }) {
                            // What was sent is said not to have been received.
                            sent_here.clear();
                        }
                    }
                    _ => state.distrust(),
                },
                Nonsense::Line(kind) => {
                    let line = match kind {
                        0 => answer(&json!(next)),
                        1 => answer(&json!("mcp-remote/replay-1-initialize")),
                        2 => line(&json!({"jsonrpc": "2.0", "id": 0, "method": "ping"})),
                        3 => line(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": ""}})),
                        4 => answer(&json!("initialize")),
                        _ => Bytes::from_static(b"{\n"),
                    };
                    if state.meet(None).is_ok() {
                        state.receive(without_end(&line).into());
                    }
                }
                Nonsense::Say(kind) => {
                    next += 1;
                    state.say(vec![match kind {
                        0 => answer(&json!(0)),
                        1 => line(&json!({"jsonrpc": "2.0", "id": "initialize", "method": "initialize"})),
                        2 => line(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})),
                        3 => Bytes::from_static(b"{\n"),
                        4 => Bytes::from_static(b"\xff\n"),
                        _ => request(next),
                    }]);
                }
                Nonsense::Turn => {
                    let turn = state.turn();
                    prop_assert!(turn.wait.is_none() || turn.lines.is_empty() || turn.resumable
                        || turn.wait == Some(Wait::Long));
                    for line in turn.lines {
                        if line.ends_with(b"\"method\":\"x\"}\n") {
                            prop_assert!(!sent_here.contains(&line), "sent twice");
                            sent_here.push(line);
                        }
                    }
                }
                Nonsense::Lose => state.lose(),
                Nonsense::Wait => drop(state.wait_no_longer()),
                Nonsense::Distrust => state.distrust(),
                Nonsense::End => state.end(),
            }
            state.told();
            state.is_done();
        }
    }
}
