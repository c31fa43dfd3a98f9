//! Random histories against an arbitrary server: every request of the host gets exactly one
//! response, and none is posted again that may have been executed.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    Ask,
    AskModern,
    Notify,
    Cancel(usize),
    Happens(usize, What),
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum What {
    Answer,
    Open,
    Number,
    StreamAnswer,
    End,
    Unsent,
    Lost,
    Status(u16),
    Later,
}

fn op() -> impl Strategy<Value = Op> {
    let what = prop_oneof![
        4 => Just(What::Answer),
        3 => Just(What::Open),
        3 => Just(What::Number),
        3 => Just(What::StreamAnswer),
        3 => Just(What::End),
        2 => Just(What::Unsent),
        1 => Just(What::Lost),
        2 => prop::sample::select(vec![202, 400, 404, 404, 405, 409, 500, 502]).prop_map(What::Status),
        1 => Just(What::Later),
    ];
    prop_oneof![
        4 => Just(Op::Ask),
        1 => Just(Op::AskModern),
        1 => Just(Op::Notify),
        1 => any::<usize>().prop_map(Op::Cancel),
        12 => (any::<usize>(), what).prop_map(|(which, what)| Op::Happens(which, what)),
        3 => (0..40_000_u64).prop_map(Op::Wait),
    ]
}

/// The state of a request of the host.
#[derive(Default)]
struct Asked {
    answers: usize,
    cancelled: bool,
    /// It is being posted.
    posting: bool,
    /// A server may have executed it.
    executed: bool,
}

struct Underway {
    exchange: ExchangeId,
    request: Request,
    is_open: bool,
    numbered: usize,
}

impl Underway {
    /// The request that is being posted or resumed.
    fn asks(&self) -> Option<Value> {
        match self.request.verb {
            Verb::Post => Some(body(&self.request)["id"].clone()).filter(|id| !id.is_null()),
            _ => {
                let last = header(&self.request, "Last-Event-ID")?;
                serde_json::from_str(last.split('|').next()?).ok()
            }
        }
    }
}

struct World {
    bench: Bench,
    asked: BTreeMap<i64, Asked>,
    underway: Vec<Underway>,
    sessions: usize,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::retrying(0);
        bench.handshake("s0");
        Self {
            bench,
            asked: BTreeMap::new(),
            underway: Vec::new(),
            sessions: 0,
        }
    }

    fn ask(&mut self, request: impl Fn(i64) -> Value) {
        let id = self.asked.len() as i64 + 1;
        self.asked.insert(id, Asked::default());
        self.bench.host(&request(id));
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Ask => self.ask(call),
            Op::AskModern => self.ask(|id| modern(id, "tools/call")),
            Op::Notify => {
                let changed = json!({"jsonrpc":"2.0","method":"notifications/roots/list_changed"});
                self.bench.host(&changed);
            }
            Op::Cancel(which) if !self.asked.is_empty() => {
                let id = (which % self.asked.len()) as i64 + 1;
                let asked = self.asked.get_mut(&id).unwrap();
                if asked.answers == 0 && !asked.cancelled {
                    asked.cancelled = true;
                    self.bench.host(&cancelled(id));
                }
            }
            Op::Cancel(_) => {}
            Op::Happens(which, what) if !self.underway.is_empty() => {
                self.happens(which % self.underway.len(), *what);
            }
            Op::Happens(..) => {}
            Op::Wait(milliseconds) => self.bench.now += Duration::from_millis(*milliseconds),
        }
        self.settle();
    }

    /// Starts pending exchanges, and counts the responses.
    fn settle(&mut self) {
        while let Some((exchange, request)) = self.bench.try_begin() {
            let begun = Underway {
                exchange,
                request,
                is_open: false,
                numbered: 0,
            };
            let id = begun.asks().and_then(|id| id.as_i64());
            if let (Verb::Post, Some(asked)) = (
                begun.request.verb,
                id.and_then(|id| self.asked.get_mut(&id)),
            ) {
                assert!(!asked.executed, "posted again");
                assert!(!asked.posting, "posted twice at once");
                assert_eq!(asked.answers, 0, "posted after its answer");
                asked.posting = true;
            }
            self.underway.push(begun);
        }
        for aborted in std::mem::take(&mut self.bench.aborted) {
            self.underway
                .retain(|underway| underway.exchange != aborted);
        }
        for line in std::mem::take(&mut self.bench.heard) {
            if let (Some(id), true) = (line["id"].as_i64(), line["method"].is_null()) {
                self.asked.get_mut(&id).expect("a known request").answers += 1;
            }
        }
    }

    fn happens(&mut self, at: usize, what: What) {
        let sessions = self.sessions + 1;
        let underway = &mut self.underway[at];
        let (exchange, id) = (underway.exchange, underway.asks());
        let is_post = underway.request.verb == Verb::Post;
        let answer = id
            .clone()
            .map(|id| json!({"jsonrpc":"2.0","id":id,"result":{"protocolVersion":"2025-06-18"}}));
        let session = HeaderValue::try_from(format!("s{sessions}")).ok();
        let event = match what {
            What::Answer if is_post && !underway.is_open => match answer {
                Some(answer) => Event::Answered(
                    Head {
                        session,
                        ..json_head(200)
                    },
                    answer.to_string().into(),
                ),
                None => status(202),
            },
            What::Open if !underway.is_open => {
                underway.is_open = true;
                match opened() {
                    Event::Opened(head) => Event::Opened(Head { session, ..head }),
                    other => other,
                }
            }
            What::Number if underway.is_open => {
                underway.numbered += 1;
                let event_id = id.clone().map(|id| format!("{id}|{}", underway.numbered));
                streamed(event_id.as_deref(), &Value::Null)
            }
            What::StreamAnswer if underway.is_open => match answer {
                Some(answer) => streamed(None, &answer),
                None => return,
            },
            What::End if underway.is_open => ended(),
            What::Unsent if !underway.is_open => failed(false),
            What::Lost => failed(true),
            What::Status(code) if !underway.is_open => status(code),
            What::Later if !underway.is_open => Event::Answered(
                Head {
                    status: 503,
                    retry_after: Some(SECOND),
                    ..Head::default()
                },
                Bytes::new(),
            ),
            _ => return,
        };
        self.sessions = sessions;
        let is_over = !matches!(event, Event::Opened(_) | Event::Streamed(_));
        let asked = id
            .and_then(|id| id.as_i64())
            .and_then(|id| self.asked.get_mut(&id));
        if let (true, Some(asked)) = (is_post, asked) {
            asked.posting &= !is_over;
            asked.executed |= match what {
                What::Answer | What::Open | What::Lost => true,
                What::Status(code) => code >= 500 || code == 202,
                _ => false,
            };
        }
        if is_over {
            self.underway.remove(at);
        }
        self.bench.event(exchange, event);
    }

    /// From now on the server responds to everything.
    fn calm_down(&mut self) {
        for _ in 0..self.asked.len() * 4 + 40 {
            self.bench.now += 60 * SECOND;
            self.settle();
            for at in (0..self.underway.len()).rev() {
                let underway = &self.underway[at];
                if underway.asks().is_none() && underway.request.verb == Verb::Get {
                    continue;
                }
                if underway.request.verb == Verb::Get && !underway.is_open {
                    self.happens(at, What::Open);
                }
                let what = if self.underway[at].is_open {
                    What::StreamAnswer
                } else {
                    What::Answer
                };
                self.happens(at, what);
            }
            self.settle();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_ends_in_one_answer_and_runs_once_at_most(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.calm_down();
        prop_assert_eq!(&world.bench.gave_up, &None);
        for (id, asked) in &world.asked {
            let expected = if asked.cancelled { 0..=1 } else { 1..=1 };
            prop_assert!(expected.contains(&asked.answers), "request {}: {} answers", id, asked.answers);
        }
    }

    #[test]
    fn giving_up_answers_what_is_owed(ops in prop::collection::vec(op(), 0..60)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.bench.machine.give_up(&Failure::CONNECTION_LOST, Vec::new());
        world.bench.machine.leave();
        world.settle();
        for (id, asked) in &world.asked {
            let expected = if asked.cancelled { 0..=1 } else { 1..=1 };
            prop_assert!(expected.contains(&asked.answers), "request {}: {} answers", id, asked.answers);
        }
    }
}
