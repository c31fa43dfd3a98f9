//! Random histories: each reader gets what belongs to its request, in order and once, and the counts of bytes are right.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What can happen. Numbers select from what exists at that time.
#[derive(Clone, Copy, Debug)]
enum Event {
    Open(i64, bool),
    Begin(usize),
    Withdraw(usize),
    Cancel(i64),
    Answer(i64, usize),
    Progress(i64, usize),
    Question,
    Log,
    Change,
    Listen,
    Resume(usize),
    Read(usize, usize),
    Leave(usize),
    MakeResumable(usize),
    DisplaceAll,
    TakeUnheard,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let (id, pick, size) = (0i64..4, 0usize..16, 0usize..300);
    prop_oneof![
        5 => (id.clone(), prop::bool::weighted(0.8)).prop_map(|(id, takes_all)| Event::Open(id, takes_all)),
        4 => pick.clone().prop_map(Event::Begin),
        1 => pick.clone().prop_map(Event::Withdraw),
        1 => id.clone().prop_map(Event::Cancel),
        4 => (id.clone(), size.clone()).prop_map(|(id, size)| Event::Answer(id, size)),
        6 => (id, size).prop_map(|(id, size)| Event::Progress(id, size)),
        2 => Just(Event::Question),
        2 => Just(Event::Log),
        2 => Just(Event::Change),
        2 => Just(Event::Listen),
        4 => pick.clone().prop_map(Event::Resume),
        8 => (pick.clone(), 1usize..5).prop_map(|(pick, count)| Event::Read(pick, count)),
        3 => pick.clone().prop_map(Event::Leave),
        3 => pick.prop_map(Event::MakeResumable),
        1 => Just(Event::DisplaceAll),
        1 => Just(Event::TakeUnheard),
        1 => (0u64..100).prop_map(Event::Pass),
    ]
}

struct World {
    streams: Streams,
    now: Instant,
    /// Readers that have not left, and the last event that each has got.
    readers: Vec<(Reading, Option<u64>)>,
    /// Event ids that clients have.
    known: Vec<EventId>,
    /// The number of each request by its stream.
    requests: BTreeMap<u64, u64>,
    /// The stream of each open request by its id.
    open: BTreeMap<i64, u64>,
    count: u64,
}

impl World {
    fn say(&mut self, mut line: Value, request: Option<u64>) {
        line["jsonrpc"] = json!("2.0");
        line["of"] = json!(request);
        self.count += 1;
        let line = bytes::Bytes::from(format!("{line}\n"));
        let message = Message::read(line.clone(), MAX_CHILD_DEPTH).unwrap();
        self.streams.push(&message, line.into());
    }

    fn pick(&self, pick: usize) -> Option<Reading> {
        let reader = self.readers.get(pick % self.readers.len().max(1));
        reader.map(|(reading, _)| reading.clone())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Open(id, takes_all) => {
                let opened = self.streams.open(&request(id), takes_all);
                assert_eq!(opened.is_err(), self.open.contains_key(&id));
                if let Ok(reading) = opened {
                    self.count += 1;
                    self.requests.insert(reading.stream, self.count);
                    self.open.insert(id, reading.stream);
                    self.readers.push((reading, None));
                }
            }
            Event::Begin(pick) => {
                if let Some(reading) = self.pick(pick) {
                    let over = self.streams.is_over(&reading);
                    assert_eq!(self.streams.begin(&reading), !over);
                }
            }
            Event::Withdraw(pick) => {
                if let Some(reading) = self.pick(pick) {
                    self.streams.withdraw(&reading);
                    self.open.retain(|_, stream| *stream != reading.stream);
                }
            }
            Event::Cancel(id) => {
                self.streams.cancel(&RequestId::Number(id));
                self.open.remove(&id);
            }
            Event::Answer(id, size) => {
                if let Some(stream) = self.open.remove(&id) {
                    let result = json!({"x": "y".repeat(size)});
                    let request = self.requests[&stream];
                    self.say(json!({"id": id, "result": result}), Some(request));
                }
            }
            Event::Progress(id, size) => {
                if let Some(stream) = self.open.get(&id) {
                    let params = json!({"progressToken": format!("t{id}"), "x": "y".repeat(size)});
                    let request = self.requests[stream];
                    let line = json!({"method": "notifications/progress", "params": params});
                    self.say(line, Some(request));
                }
            }
            Event::Question => {
                self.say(json!({"id": 77, "method": "elicitation/create"}), None);
            }
            Event::Log => self.say(json!({"method": "notifications/message"}), None),
            Event::Change => self.say(json!({"method": "notifications/tools/list_changed"}), None),
            Event::Listen => {
                let reading = self.streams.listen();
                self.readers.push((reading, None));
            }
            Event::Resume(pick) => {
                let known = self.known.get(pick % self.known.len().max(1)).copied();
                if let Some(reading) = known.and_then(|id| self.streams.resume(id).ok()) {
                    let last = known.map(|id| id.event);
                    self.readers.push((reading, last));
                }
            }
            Event::Read(pick, count) => {
                let pick = pick % self.readers.len().max(1);
                (0..count).for_each(|_| self.read(pick));
            }
            Event::Leave(pick) => {
                if !self.readers.is_empty() {
                    let pick = pick % self.readers.len();
                    let (reading, _) = self.readers.remove(pick);
                    self.streams.leave(&reading, self.now);
                }
            }
            Event::MakeResumable(pick) => {
                if let Some(reading) = self.pick(pick) {
                    let id = self.streams.make_resumable(&reading);
                    self.known.push(id);
                }
            }
            Event::DisplaceAll => self.streams.displace_all(self.now),
            Event::TakeUnheard => drop(self.streams.take_unheard()),
            Event::Pass(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.streams.sweep(self.now);
            }
        }
        // A stream that is read too slowly ends.
        let running = &self.streams.requests;
        self.open
            .retain(|id, _| running.contains_key(&RequestId::Number(*id)));
    }

    fn read(&mut self, pick: usize) {
        let Some((reading, last)) = self.readers.get_mut(pick) else {
            return;
        };
        let Next::Event(event) = self.streams.next(reading) else {
            return;
        };
        assert_eq!(event.id.stream, reading.stream);
        assert!(
            last.is_none_or(|last| event.id.event > last),
            "once, in order"
        );
        *last = Some(event.id.event);
        let line: Value = serde_json::from_slice(&event.line.joined()).unwrap();
        let own = self.requests.get(&reading.stream);
        if let Some(of) = line["of"].as_u64() {
            assert_eq!(own, Some(&of), "it belongs to another request");
        }
        assert_eq!(event.is_answer, line.get("result").is_some());
        self.known.push(event.id);
    }

    fn check(&self) {
        let Streams {
            streams,
            requests,
            tokens,
            waiting,
            kept_here,
            bounds,
            ..
        } = &self.streams;
        let (mut unsent, mut sent) = (0, 0);
        for stream in streams.values() {
            assert!(stream.first <= stream.unsent && stream.unsent <= stream.end());
            unsent += stream.waiting();
            let all: usize = stream.events.iter().map(|(line, _)| cost(line)).sum();
            sent += all - stream.waiting();
            if let Some(reader) = &stream.reader {
                assert!(reader.next <= stream.unsent);
            }
        }
        assert_eq!((unsent, sent), (*waiting, *kept_here));
        let is_small = |stream: &Stream| stream.end() - stream.unsent <= 1;
        assert!(unsent <= bounds.waiting || streams.values().all(|stream| is_small(stream)));
        assert!(sent <= bounds.kept);
        for (id, number) in requests {
            let stream = &streams[number];
            assert!(stream.request.as_ref() == Some(id) && !stream.over);
        }
        for (token, number) in tokens {
            assert_eq!(streams[number].token.as_ref(), Some(token));
        }
        assert_eq!(requests.len(), self.open.len());
    }

    /// When all requests are answered and all readers have left, nothing remains.
    fn settle(&mut self) {
        for id in 0..4 {
            self.happen(Event::Answer(id, 0));
        }
        while !self.readers.is_empty() {
            self.happen(Event::Leave(0));
        }
        self.happen(Event::Pass(BOUNDS.window.as_secs()));
        self.happen(Event::Pass(BOUNDS.window.as_secs()));
        self.check();
        assert_eq!(self.streams.streams.len(), 1);
        assert!(self.streams.tokens.is_empty() && !self.streams.is_attended());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn each_reader_gets_its_own_in_order_and_once(
        events in prop::collection::vec(event(), 1..80),
        waiting in 100usize..3000,
        kept in 100usize..1500,
    ) {
        let bounds = StreamBounds { waiting, kept, ..BOUNDS };
        let mut world = World {
            streams: Streams::new(bounds, &Tally::default(), Part::default()),
            now: Instant::now(),
            readers: Vec::new(),
            known: Vec::new(),
            requests: BTreeMap::new(),
            open: BTreeMap::new(),
            count: 0,
        };
        for event in events {
            world.happen(event);
            world.check();
        }
        world.settle();
    }
}
