mod modern;
mod property;
mod session;
mod trouble;

use super::super::exchange::{Cause, Content, Event, Failed, Head, Verb};
use super::*;
use crate::jsonrpc::{MAX_CHILD_DEPTH, Message};
use crate::transport::sse;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

/// A machine, a clock and the exchanges in flight.
struct Bench {
    machine: Machine,
    now: Instant,
    heard: Vec<Value>,
    read_host: bool,
    until: Option<Instant>,
    finished: Option<Option<Request>>,
    gave_up: Option<GiveUp>,
    released: Vec<ExchangeId>,
    aborted: Vec<ExchangeId>,
}

impl Bench {
    fn new(reconnect: Option<Reconnect>) -> Self {
        let place = Place::parse("https://a.example/mcp").unwrap();
        Self {
            machine: Machine::new(place, reconnect, |pause| pause),
            now: Instant::now(),
            heard: Vec::new(),
            read_host: false,
            until: None,
            finished: None,
            gave_up: None,
            released: Vec::new(),
            aborted: Vec::new(),
        }
    }

    fn retrying(max_attempts: u32) -> Self {
        Self::new(Some(Reconnect {
            max_attempts,
            delay: SECOND,
        }))
    }

    /// One with an established legacy session, whose stream was refused.
    fn established() -> Self {
        let mut bench = Self::retrying(3);
        bench.handshake("s1");
        bench
    }

    fn handshake(&mut self, session: &str) {
        self.host(&initialize(0));
        self.answer_initialize(session);
        self.host(&json!({"jsonrpc":"2.0","method":"notifications/initialized"}));
        self.accept_initialized();
        self.heard.clear();
    }

    fn answer_initialize(&mut self, session: &str) {
        let (exchange, request) = self.begin();
        assert_eq!(header(&request, "Mcp-Session-Id"), None);
        let id = body(&request)["id"].clone();
        let head = Head {
            session: Some(HeaderValue::from_str(session).unwrap()),
            ..json_head(200)
        };
        let result = json!({"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"x","version":"1"}});
        self.event(exchange, Event::Answered(head, result_body(&id, &result)));
    }

    fn accept_initialized(&mut self) {
        let (exchange, request) = self.begin();
        assert_eq!(body(&request)["method"], "notifications/initialized");
        self.event(exchange, status(202));
        let (exchange, request) = self.begin();
        assert_eq!(request.verb, Verb::Get);
        self.event(exchange, status(405));
    }

    fn host(&mut self, message: &Value) {
        self.machine
            .on_host_lines(vec![format!("{message}\n").into()]);
    }

    fn event(&mut self, exchange: ExchangeId, event: Event) {
        self.machine.on_event(exchange, event, self.now);
        let heard = self.machine.take_for_host();
        self.heard
            .extend(heard.map(|line| serde_json::from_slice::<Value>(&line).unwrap()));
    }

    /// The next exchange to start, if any.
    fn try_begin(&mut self) -> Option<(ExchangeId, Request)> {
        loop {
            let heard = self.machine.take_for_host();
            self.heard
                .extend(heard.map(|line| serde_json::from_slice::<Value>(&line).unwrap()));
            match self.machine.poll(self.now) {
                Action::Begin(exchange, request) => return Some((exchange, request)),
                Action::Release(exchange) => self.released.push(exchange),
                Action::Abort(exchange) => self.aborted.push(exchange),
                Action::Wait { read_host, until } => {
                    (self.read_host, self.until) = (read_host, until);
                    return None;
                }
                Action::Finish(goodbye) => {
                    self.finished = Some(goodbye);
                    return None;
                }
                Action::GiveUp(reason) => {
                    self.gave_up = Some(reason);
                    return None;
                }
            }
        }
    }

    fn begin(&mut self) -> (ExchangeId, Request) {
        self.try_begin().expect("an exchange begins")
    }

    fn assert_waits(&mut self) {
        let begun = self.try_begin().map(|(_, request)| request);
        assert!(begun.is_none(), "{begun:?}");
    }

    /// What the host has received since the last call.
    fn heard(&mut self) -> Vec<Value> {
        self.assert_waits();
        std::mem::take(&mut self.heard)
    }
}

fn initialize(id: i64) -> Value {
    json!({"jsonrpc":"2.0","id":id,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}})
}

fn call(id: i64) -> Value {
    json!({"jsonrpc":"2.0","id":id,"method":"tools/call","params":{"name":"t","arguments":{}}})
}

fn modern(id: i64, method: &str) -> Value {
    json!({"jsonrpc":"2.0","id":id,"method":method,"params":{"name":"t","_meta":{
        "io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientCapabilities":{}}}})
}

fn cancelled(id: i64) -> Value {
    json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}})
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let mut headers = request.headers.iter();
    headers
        .find(|(known, _)| known.as_str().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_str().unwrap())
}

fn body(request: &Request) -> Value {
    assert!(Message::read(request.body.clone(), MAX_CHILD_DEPTH).is_ok());
    serde_json::from_slice(&request.body).unwrap()
}

fn json_head(status: u16) -> Head {
    Head {
        status,
        content: Content::Json,
        ..Head::default()
    }
}

fn result_body(id: &Value, result: &Value) -> Bytes {
    json!({"jsonrpc":"2.0","id":id,"result":result})
        .to_string()
        .into()
}

fn ok(id: i64) -> Event {
    Event::Answered(json_head(200), result_body(&json!(id), &json!({})))
}

fn status(status: u16) -> Event {
    let head = Head {
        status,
        ..Head::default()
    };
    Event::Answered(head, Bytes::new())
}

fn opened() -> Event {
    Event::Opened(Head {
        status: 200,
        content: Content::EventStream,
        ..Head::default()
    })
}

fn streamed(id: Option<&str>, data: &Value) -> Event {
    Event::Streamed(sse::Event {
        id: id.map(str::to_owned),
        data: if data.is_null() {
            Bytes::new()
        } else {
            data.to_string().into()
        },
        ..sse::Event::default()
    })
}

fn response(id: i64) -> Value {
    json!({"jsonrpc":"2.0","id":id,"result":{}})
}

fn failed(sent: bool) -> Event {
    Event::Failed(Failed {
        sent,
        cause: Cause::Connection,
        reason: "refused".to_owned(),
    })
}

fn ended() -> Event {
    Event::Ended("cut".to_owned())
}

fn assert_failed(heard: &[Value], id: i64, reason: &str, executed: &str) {
    let [error] = heard else {
        panic!("{heard:?}");
    };
    assert_eq!(error["id"], id);
    assert_eq!(error["error"]["code"], -32603);
    assert_eq!(error["error"]["data"]["reason"], reason, "{error}");
    assert_eq!(error["error"]["data"]["executed"], executed, "{error}");
}

impl Bench {
    /// What the host has received, whatever exchanges start.
    fn heard_and_begun(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.heard)
    }

    fn accept_own_initialized(&mut self) {
        let (exchange, request) = self.begin();
        assert_eq!(body(&request)["method"], "notifications/initialized");
        self.event(exchange, status(202));
    }
}
