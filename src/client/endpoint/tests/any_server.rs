//! An arbitrary server, host and clock.

use super::*;
use proptest::prelude::*;

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
        Just(Control::Leave {}),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Connect(Offer),
    Control(Control),
    Line(usize),
    Say(usize),
    Poll,
    Lose,
    Pass(u64),
    HostEnd,
    Leave,
}

fn event() -> impl Strategy<Value = Event> {
    let offer = prop_oneof![
        any::<bool>().prop_map(|admitted| Offer::Nothing { admitted }),
        Just(Offer::Possible),
        Just(Offer::Promised)
    ];
    prop_oneof![
        40 => offer.prop_map(Event::Connect),
        120 => control().prop_map(Event::Control),
        60 => (0usize..6).prop_map(Event::Line),
        100 => (0usize..6).prop_map(Event::Say),
        100 => Just(Event::Poll),
        20 => Just(Event::Lose),
        20 => (0u64..20_000).prop_map(Event::Pass),
        20 => Just(Event::HostEnd),
        1 => Just(Event::Leave),
    ]
}

/// What a server may send, except control lines; `next` is the last request.
fn server_line(kind: usize, next: u64) -> Bytes {
    match kind {
        0 => response(&json!(next)),
        1 => response(&json!("mcp-remote/replay-1-initialize")),
        2 => line(&json!({"jsonrpc": "2.0", "id": 0, "method": "ping"})),
        3 => line(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": ""}})),
        4 => response(&json!("initialize")),
        _ => Bytes::from_static(b"{\n"),
    }
}

/// What a host may send; `next` is a new id.
fn host_line(kind: usize, next: u64) -> Bytes {
    match kind {
        0 => response(&json!(0)),
        1 => line(&json!({"jsonrpc": "2.0", "id": "initialize", "method": "initialize"})),
        2 => line(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})),
        3 => Bytes::from_static(b"{\n"),
        4 => Bytes::from_static(b"\xff\n"),
        _ => request(next),
    }
}

/// The requests of [`host_line`] that have been sent on a connection.
#[derive(Default)]
struct Sent(Vec<Bytes>);

impl Sent {
    fn add(&mut self, lines: Vec<Bytes>, awaits_answer: bool) {
        for line in lines {
            if Control::read(&line).is_some() {
                continue;
            }
            assert!(!awaits_answer, "nothing is sent before the answer");
            if line.ends_with(b"\"method\":\"x\"}\n") {
                assert!(!self.0.contains(&line), "sent twice");
                self.0.push(line);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// A server that sends anything at any time causes no panic here, and never gets a request to execute
    /// twice on one connection.
    #[test]
    fn no_server_breaks_the_client(events in prop::collection::vec(event(), 0..120)) {
        let mut rig = Rig::new();
        let mut next = 0;
        let mut sent = Sent::default();
        for event in events {
            match event {
                Event::Connect(offer) => {
                    rig.lose();
                    rig.connect(offer);
                    sent = Sent::default();
                }
                Event::Control(control) => {
                    let is_drain = matches!(control, Control::Drain { .. });
                    let taken = rig.receive(&control.to_line().into()).is_ok();
                    if is_drain && taken && rig.endpoint.outbound.is_draining() {
                        // The server reports that it has not received what was sent.
                        sent = Sent::default();
                    }
                }
                Event::Line(kind) => drop(rig.receive(&server_line(kind, next))),
                Event::Say(kind) => {
                    next += 1;
                    rig.say(host_line(kind, next));
                }
                Event::Poll => {
                    match rig.poll() {
                        Action::Send(lines) => {
                            sent.add(lines, rig.endpoint.phase.awaits_answer());
                        }
                        Action::Wait { until, .. } => {
                            prop_assert!(until.is_none_or(|until| until > rig.now));
                        }
                        Action::GiveUp => rig.lose(),
                        Action::Finish => prop_assert!(rig.endpoint.is_done()),
                    }
                }
                Event::Lose => rig.lose(),
                Event::Pass(milliseconds) => rig.now += Duration::from_millis(milliseconds),
                Event::HostEnd => rig.endpoint.on_host_end(),
                Event::Leave => rig.endpoint.leave(),
            }
            rig.told();
        }
    }
}
