//! What is measured, in time or in instructions: the pure parts of the program, one by one
//! and together, on messages of several sizes and shapes.
//!
//! Only the library's public API is used, so the internals may change.

mod messages;
mod proxy;
mod wire;

use bytes::Bytes;
use futures_util::FutureExt;
use mcp_remote::jsonrpc::{MAX_PEER_DEPTH, Message};
use mcp_remote::liveness::Urgency;
use mcp_remote::permissions::{Policy, Rights};
use mcp_remote::replay::Replay;
use mcp_remote::router::{IsolatedRouter, Output};
use messages::{Lines, Naming, Shape};
use proxy::{Framed, Proxy};
use std::fmt;
use std::hint::black_box;
use wire::Transport;

/// How something is measured: `prepare` makes the input of one `run` and is not counted itself.
pub trait Measure {
    /// Runs it as many times as requested.
    fn measure<I>(self, prepare: impl FnMut() -> I, run: impl FnMut(I));
}

/// One thing to measure.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    part: Part,
    size: usize,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    /// Reading a line strictly and writing it again.
    Gate(Shape),
    /// Deciding on a tool call, with this many rules.
    Policy { naming: Naming, rules: usize },
    /// Deciding on a tool call when this many rules are on the arguments of other tools.
    OtherArguments { rules: usize },
    /// Deciding on a tool call with rules on one argument of this size.
    Arguments,
    /// A request and a response, for this many peers with this many requests in flight in total.
    Router { sessions: usize, in_flight: usize },
    /// A request from peer to child and its response back: gate, policy, router.
    RoundTrip(Shape),
    /// The same for a list of tools, half of which the peer may see.
    ToolsList,
    /// A line sent, kept, received and acknowledged.
    Replay,
    /// Reading one line from a connection.
    Read(Transport),
    /// Writing one line to a connection.
    Write(Transport),
}

const KIB: usize = 1024;
const SIZES: [usize; 4] = [200, 2 * KIB, 64 * KIB, KIB * KIB];
const RULES: [usize; 3] = [3, 200, 2000];

impl Case {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let small = |part| Self { part, size: 200 };
        let sized = |part| SIZES.map(|size| Self { part, size });
        let router = |sessions, in_flight| {
            small(Part::Router {
                sessions,
                in_flight,
            })
        };
        let mut all = Vec::new();
        all.extend(
            Shape::ALL
                .into_iter()
                .flat_map(|shape| sized(Part::Gate(shape))),
        );
        for naming in [Naming::Names, Naming::Families] {
            all.extend(RULES.map(|rules| small(Part::Policy { naming, rules })));
        }
        all.extend([0, 100].map(|rules| small(Part::OtherArguments { rules })));
        all.extend(sized(Part::Arguments));
        all.extend([
            router(1, 1),
            router(1, 100),
            router(1, 10_000),
            router(1000, 1000),
        ]);
        all.extend(
            Shape::ALL
                .into_iter()
                .flat_map(|shape| sized(Part::RoundTrip(shape))),
        );
        all.push(Self {
            part: Part::ToolsList,
            size: Lines::tools_list().answer("").len(),
        });
        all.push(small(Part::Replay));
        for transport in Transport::ALL {
            all.extend(sized(Part::Read(transport)));
            all.extend(sized(Part::Write(transport)));
        }
        all
    }

    /// Length of the line in bytes, or of each of two.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Measures it.
    pub fn measure(&self, by: impl Measure) {
        match self.part {
            Part::Gate(shape) => gate(&Lines::new(shape, self.size), by),
            Part::Policy { naming, rules } => policy(naming, rules, by),
            Part::OtherArguments { rules } => arguments(rules, "read_note", 0, by),
            Part::Arguments => arguments(1, "tool_0", self.size, by),
            Part::Router {
                sessions,
                in_flight,
            } => router(sessions, in_flight, by),
            Part::RoundTrip(shape) => round_trip(&Lines::new(shape, self.size), by),
            Part::ToolsList => round_trip(&Lines::tools_list(), by),
            Part::Replay => replay(&Lines::new(Shape::Text, self.size), by),
            Part::Read(transport) => read(transport, self.size, by),
            Part::Write(transport) => write(transport, self.size, by),
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            size if size < KIB => format!("{size}B"),
            size if size < KIB * KIB => format!("{}KiB", size / KIB),
            size => format!("{}MiB", size / KIB / KIB),
        };
        match self.part {
            Part::Gate(shape) => write!(f, "gate/{shape}/{size}"),
            Part::Policy { naming, rules } => write!(f, "policy/{naming}/{rules}_rules"),
            Part::OtherArguments { rules } => write!(f, "policy/other_arguments/{rules}_rules"),
            Part::Arguments => write!(f, "policy/arguments/{size}"),
            Part::Router {
                sessions,
                in_flight,
            } => write!(f, "router/{sessions}_sessions/{in_flight}_in_flight"),
            Part::RoundTrip(shape) => write!(f, "round_trip/{shape}/{size}"),
            Part::ToolsList => f.write_str("round_trip/tools_list"),
            Part::Replay => f.write_str("replay"),
            Part::Read(transport) => write!(f, "{transport}/read/{size}"),
            Part::Write(transport) => write!(f, "{transport}/write/{size}"),
        }
    }
}

fn gate(lines: &Lines, by: impl Measure) {
    let rights = Rights::everything();
    let (mut router, mut out) = (IsolatedRouter::default(), Output::default());
    let mut framed = Framed::default();
    let line = lines.notification();
    by.measure(
        || framed.line(&line),
        |line| {
            let message = Message::read(line, MAX_PEER_DEPTH).expect("a message");
            let permit = rights.decide(message).expect("a permit");
            router.peer_message(&permit, &mut out).expect("it is short");
            proxy::send(&mut out);
        },
    );
}

fn policy(naming: Naming, rules: usize, by: impl Measure) {
    let (policy, tool) = messages::policy(naming, rules);
    let rights = Policy::parse(&policy)
        .expect("a policy")
        .rights(&["user".to_owned()]);
    let line = Bytes::from(messages::call(1, tool, "{}"));
    by.measure(
        || Message::read(line.clone(), MAX_PEER_DEPTH).expect("a message"),
        |message| drop(black_box(rights.decide(message).expect("a permit"))),
    );
}

fn arguments(rules: usize, tool: &str, size: usize, by: impl Measure) {
    let rights = Policy::parse(&messages::rules_on_arguments(rules))
        .expect("a policy")
        .rights(&["user".to_owned()]);
    let arguments = format!(r#"{{"path":"/srv/{}"}}"#, "x".repeat(size));
    let line = Bytes::from(messages::call(1, tool, &arguments));
    by.measure(
        || Message::read(line.clone(), MAX_PEER_DEPTH).expect("a message"),
        |message| drop(black_box(rights.decide(message).expect("a permit"))),
    );
}

fn router(sessions: usize, in_flight: usize, by: impl Measure) {
    // The first says how the second will number its requests.
    let mut rehearsal = Proxy::new(sessions, in_flight);
    let mut table = rehearsal.twin(sessions, in_flight);
    by.measure(
        || rehearsal.rehearse(),
        |(permit, answer)| table.perform(&permit, &answer),
    );
}

fn round_trip(lines: &Lines, by: impl Measure) {
    let mut rehearsal = Proxy::new(1, 1);
    let mut proxy = rehearsal.twin(1, 1);
    let mut framed = [Framed::default(), Framed::default()];
    by.measure(
        || {
            let request = lines.request();
            rehearsal.request(Bytes::copy_from_slice(&request));
            let answer = lines.answer(&rehearsal.last_id());
            rehearsal.answer(Bytes::copy_from_slice(&answer));
            rehearsal.send();
            let [peer, child] = &mut framed;
            (peer.line(&request), child.line(&answer))
        },
        |(request, answer)| {
            proxy.request(request);
            proxy.send();
            proxy.answer(answer);
            proxy.send();
        },
    );
}

fn replay(lines: &Lines, by: impl Measure) {
    let (mut near, mut far) = (Replay::<Bytes>::default(), Replay::<Bytes>::default());
    near.start_keeping();
    let line = Bytes::from(lines.notification());
    by.measure(
        || (),
        |()| {
            near.push(line.clone());
            for line in near.take(KIB).lines {
                if far.receipts.count(line.len()) && far.receipts.urgency() == Urgency::Now {
                    let received = far.receipts.acknowledge();
                    near.acknowledge(received).expect("it was sent");
                }
            }
        },
    );
}

fn read(transport: Transport, size: usize, by: impl Measure) {
    let (mut reader, _writer) = transport.connection(&Lines::new(Shape::Text, size).notification());
    by.measure(
        || (),
        |()| {
            let line = reader.next().now_or_never().expect("bytes are there");
            drop(black_box(line.expect("no error")));
        },
    );
}

fn write(transport: Transport, size: usize, by: impl Measure) {
    let (_reader, mut writer) = transport.connection(b"");
    let mut line = Lines::new(Shape::Text, size).notification();
    line.push(b'\n');
    let line = Bytes::from(line);
    by.measure(
        || line.clone(),
        |line| {
            let sent = writer.send(&[line]).now_or_never();
            sent.expect("there is room").expect("no error");
        },
    );
}
