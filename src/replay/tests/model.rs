//! Two ends and a wire that can break anywhere, against a model.

use super::*;
use proptest::prelude::*;

/// A line on the wire.
#[derive(Clone, Debug)]
enum Item {
    Line(Bytes),
    Ack(u64),
    /// The client resumes, having received this many lines.
    Resume(u64),
    /// The server's reply.
    Resumed(u64),
    /// The server accepts only this many lines …
    Drain(u64),
    /// … which the client has read; from here on only urgent lines come.
    Heard,
}

#[derive(Debug, Default)]
struct Wire {
    up: VecDeque<Item>,
    down: VecDeque<Item>,
}

#[derive(Clone, Debug)]
enum Event {
    Push {
        client: bool,
        hurries: bool,
    },
    Take {
        client: bool,
        bytes: usize,
    },
    Deliver {
        client: bool,
    },
    Tell {
        client: bool,
    },
    /// The client abandons its connection; what it has sent on it may still arrive.
    Abandon,
    /// The connection is lost, with everything on it.
    Cut,
    /// The server notices that its connection is lost.
    Notice,
    Connect,
    /// The client's connection reaches the server, which may not have read all of an older one.
    Arrive,
    /// A connection that the client has abandoned reaches the server anyway.
    Late,
    Drain,
}

/// Two ends of one session, and every wire there has been between them.
struct Model {
    client: Replay,
    server: Replay,
    wires: Vec<Wire>,
    /// The wire that each end uses at present.
    client_on: Option<usize>,
    server_on: Option<usize>,
    /// The client has received the reply on this wire.
    resumed: bool,
    /// This many lines are urgent, and nothing else is sent.
    client_drains: Option<usize>,
    server_drains: bool,
    /// The client has received the drain.
    heard: bool,
    pushed: [u32; 2],
    /// What the client has pushed, by urgency.
    hurrying: Vec<Bytes>,
    patient: Vec<Bytes>,
    server_got: Vec<Bytes>,
    client_got: Vec<Bytes>,
    /// How many lines each end has sent in total.
    sent: [u64; 2],
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            client: Replay::<Bytes>::default(),
            server: Replay::<Bytes>::default(),
            wires: vec![Wire::default()],
            client_on: Some(0),
            server_on: Some(0),
            resumed: true,
            client_drains: None,
            server_drains: false,
            heard: false,
            pushed: [0; 2],
            hurrying: Vec::new(),
            patient: Vec::new(),
            server_got: Vec::new(),
            client_got: Vec::new(),
            sent: [0; 2],
        };
        model.client.start_keeping();
        model.server.start_keeping();
        model
    }

    fn push(&mut self, client: bool, hurries: bool) {
        let number = &mut self.pushed[usize::from(client)];
        let line = Bytes::from(format!("{}{number}\n", if hurries { '!' } else { '.' }));
        *number += 1;
        if !client {
            self.server.push(line);
            return;
        }
        if hurries {
            self.hurrying.push(line.clone());
        } else {
            self.patient.push(line.clone());
        }
        match &mut self.client_drains {
            Some(ahead) if hurries => {
                self.client.push_ahead(line, *ahead);
                *ahead += 1;
            }
            _ => self.client.push(line),
        }
    }

    fn take(&mut self, client: bool, bytes: usize) {
        let (end, on) = if client {
            (&mut self.client, self.client_on.filter(|_| self.resumed))
        } else {
            (&mut self.server, self.server_on)
        };
        let Some(on) = on else { return };
        let batch = match &mut self.client_drains {
            Some(ahead) if client => {
                if *ahead == 0 {
                    return;
                }
                let batch = end.take(1);
                *ahead -= batch.lines.len();
                batch
            }
            _ => end.take(bytes),
        };
        assert!(batch.resent <= batch.lines.len());
        self.sent[usize::from(client)] += (batch.lines.len() - batch.resent) as u64;
        assert_eq!(self.sent[usize::from(client)], end.sent);
        let wire = &mut self.wires[on];
        let queue = if client { &mut wire.up } else { &mut wire.down };
        queue.extend(batch.lines.into_iter().map(Item::Line));
    }

    fn tell(&mut self, client: bool) {
        if client && let Some(on) = self.client_on.filter(|_| self.resumed) {
            let ack = Item::Ack(self.client.receipts.acknowledge());
            self.wires[on].up.push_back(ack);
        } else if !client && let Some(on) = self.server_on {
            let ack = Item::Ack(self.server.receipts.acknowledge());
            self.wires[on].down.push_back(ack);
        }
    }

    fn deliver(&mut self, client: bool) {
        if client {
            let item = self
                .client_on
                .and_then(|on| self.wires[on].down.pop_front());
            self.client_gets(item);
        } else if let Some(on) = self.server_on
            && let Some(item) = self.wires[on].up.pop_front()
        {
            self.server_gets(item);
        } else if let Some(on) = self.client_on {
            self.arrive(on);
        }
    }

    /// The first thing on a wire that the server does not know yet.
    fn arrive(&mut self, on: usize) {
        if self.server_on == Some(on) {
            return;
        }
        let Some(Item::Resume(received)) = self.wires[on].up.pop_front() else {
            return;
        };
        if self.server.is_stale(received) {
            assert!(self.client_on != Some(on), "the client is refused");
            return;
        }
        self.server.resume(received).unwrap();
        self.wires[on]
            .down
            .push_back(Item::Resumed(self.server.receipts.acknowledge()));
        self.server_on = Some(on);
        (self.server_drains, self.heard) = (false, false);
    }

    fn client_gets(&mut self, item: Option<Item>) {
        match item {
            None => {}
            Some(Item::Line(line)) => {
                self.client.receipts.count(line.len());
                self.client_got.push(line);
            }
            Some(Item::Ack(received)) => self.client.acknowledge(received).unwrap(),
            Some(Item::Resumed(received)) => {
                self.client.resume(received).unwrap();
                self.resumed = true;
            }
            Some(Item::Drain(received)) => {
                let back = self.client.rewind(received).unwrap().count() as u64;
                self.sent[1] -= back;
                let ahead = self.client.prioritize(|line| line[0] == b'!');
                self.client_drains = Some(ahead);
                if let Some(on) = self.client_on {
                    self.wires[on].up.push_back(Item::Heard);
                }
            }
            Some(Item::Resume(_) | Item::Heard) => panic!("not for a client"),
        }
    }

    fn server_gets(&mut self, item: Item) {
        match item {
            Item::Line(_) if self.server_drains && !self.heard => {}
            Item::Line(line) => {
                self.server.receipts.count(line.len());
                self.server_got.push(line);
            }
            Item::Ack(received) => self.server.acknowledge(received).unwrap(),
            Item::Heard => self.heard = true,
            Item::Resume(_) | Item::Resumed(_) | Item::Drain(_) => panic!("not for a server"),
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Push { client, hurries } => self.push(client, hurries),
            Event::Take { client, bytes } => self.take(client, bytes),
            Event::Deliver { client } => self.deliver(client),
            Event::Tell { client } => self.tell(client),
            Event::Abandon => self.client_on = None,
            Event::Cut => {
                if let Some(on) = self.client_on.take() {
                    self.wires[on] = Wire::default();
                }
            }
            Event::Notice => {
                if self.server_on != self.client_on {
                    self.server_on = None;
                }
            }
            Event::Connect => {
                if self.client_on.is_none() {
                    self.client_on = Some(self.wires.len());
                    let mut wire = Wire::default();
                    wire.up
                        .push_back(Item::Resume(self.client.receipts.acknowledge()));
                    self.wires.push(wire);
                    (self.resumed, self.client_drains) = (false, None);
                }
            }
            Event::Arrive => {
                if let Some(on) = self.client_on {
                    self.arrive(on);
                }
            }
            Event::Late => {
                let current = self.client_on;
                let late = self
                    .wires
                    .iter()
                    .position(|wire| matches!(wire.up.front(), Some(Item::Resume(_))));
                if let Some(late) = late.filter(|late| Some(*late) != current) {
                    self.arrive(late);
                    if self.server_on == Some(late)
                        && let Some(on) = self.client_on.take()
                    {
                        // The server has closed the client's current one.
                        self.wires[on] = Wire::default();
                    }
                }
            }
            Event::Drain => {
                if let (Some(on), false) = (self.server_on, self.server_drains) {
                    self.server_drains = true;
                    let drain = Item::Drain(self.server.receipts.acknowledge());
                    self.wires[on].down.push_back(drain);
                }
            }
        }
    }

    /// What has been received so far was received once and in order.
    fn check(&self) {
        for (number, line) in self.client_got.iter().enumerate() {
            assert_eq!(line, &format!(".{number}\n"));
        }
        let of = |first: u8| self.server_got.iter().filter(move |line| line[0] == first);
        assert!(of(b'!').eq(self.hurrying.iter().take(of(b'!').count())));
        assert!(of(b'.').eq(self.patient.iter().take(of(b'.').count())));
        assert_eq!(
            self.client.bytes(),
            self.client.kept.iter().map(cost).sum::<usize>()
        );
    }

    /// A wire that holds.
    fn finish(&mut self) {
        self.happen(&Event::Cut);
        self.happen(&Event::Connect);
        for _ in 0..2 {
            for client in [false, true] {
                self.take(client, usize::MAX);
                self.tell(client);
                while self.wires.last().is_some_and(|wire| !wire.up.is_empty()) {
                    self.deliver(false);
                }
                while self.wires.last().is_some_and(|wire| !wire.down.is_empty()) {
                    self.deliver(true);
                }
            }
        }
        self.check();
        assert_eq!(self.client_got.len(), self.pushed[0] as usize);
        assert_eq!(self.server_got.len(), self.pushed[1] as usize);
        for end in [&self.client, &self.server] {
            assert!(end.is_settled());
            assert_eq!((end.bytes(), end.in_flight(), end.waiting()), (0, 0, 0));
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (any::<bool>(), any::<bool>()).prop_map(|(client, hurries)| Event::Push { client, hurries: hurries && client }),
        8 => (any::<bool>(), 1usize..30).prop_map(|(client, bytes)| Event::Take { client, bytes }),
        14 => any::<bool>().prop_map(|client| Event::Deliver { client }),
        4 => any::<bool>().prop_map(|client| Event::Tell { client }),
        1 => Just(Event::Abandon),
        1 => Just(Event::Cut),
        1 => Just(Event::Notice),
        3 => Just(Event::Connect),
        2 => Just(Event::Arrive),
        1 => Just(Event::Late),
        1 => Just(Event::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// Any interleaving of send, receive, acknowledge, cut, resume, takeover and drain, over wires
    /// that lose whatever is on them, delivers every line once and in order, separately for urgent
    /// lines and the others.
    #[test]
    fn nothing_is_lost_or_doubled(events in prop::collection::vec(event(), 0..300)) {
        let mut model = Model::new();
        for event in &events {
            model.happen(event);
            model.check();
        }
        model.finish();
    }
}
