//! Lines as they are written: whatever is said, and however it grows on the way, none is longer than
//! its receiver takes.

use super::*;
use crate::account::Account;
use crate::backlog::{Backlog, Bounds};
use crate::router::{Counted, PROCESSES, Window};
use futures_util::FutureExt;
use proptest::prelude::*;
use serde_json::json;

/// The router's own lines, and errors with short ids, are shorter than this.
const LEAST: usize = 600;

/// What can be said; numbers pick among what there is.
#[derive(Clone, Debug)]
enum Event {
    Peer(usize, Said),
    Answer { pick: usize, error: bool },
    Child { process: usize, says: usize },
    Restart { process: usize },
}

#[derive(Clone, Debug)]
enum Said {
    Request { method: usize, modern: bool, id: u8 },
    Notification { method: usize, modern: bool },
    Answer { pick: usize },
}

/// The inside of a JSON string that may grow when it is written.
fn text() -> impl Strategy<Value = String> {
    let units = prop::sample::select(vec!["a", "\u{85}", "\u{2028}", "\\t", "\\u0041", "é"]);
    (units, 0usize..260).prop_map(|(unit, times)| unit.repeat(times))
}

fn event() -> impl Strategy<Value = Event> {
    let said = prop_oneof![
        4 => (0usize..12, any::<bool>(), 0u8..9).prop_map(|(method, modern, id)| Said::Request { method, modern, id }),
        1 => (0usize..3, any::<bool>()).prop_map(|(method, modern)| Said::Notification { method, modern }),
        1 => (0usize..64).prop_map(|pick| Said::Answer { pick }),
    ];
    prop_oneof![
        6 => (0usize..3, said).prop_map(|(peer, said)| Event::Peer(peer, said)),
        4 => (0usize..64, any::<bool>()).prop_map(|(pick, error)| Event::Answer { pick, error }),
        3 => (0..PROCESSES, 0usize..6).prop_map(|(process, says)| Event::Child { process, says }),
        1 => (0..PROCESSES).prop_map(|process| Event::Restart { process }),
    ]
}

struct World {
    bench: Bench,
    limits: LineLimits,
    peers: Vec<SessionId>,
    up: [bool; PROCESSES],
    /// What processes have been asked.
    seen: Vec<(usize, Value)>,
    /// What peers have been asked.
    asked: Vec<(SessionId, Value)>,
}

impl World {
    fn new(limits: LineLimits) -> Self {
        let mut bench = Bench {
            out: Output::new(limits),
            ..Bench::default()
        };
        let peers = (0..3).map(|_| bench.attach()).collect();
        Self {
            bench,
            limits,
            peers,
            up: [true, false],
            seen: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn happen(&mut self, event: &Event, text: &str) {
        match event {
            Event::Peer(peer, said) => self.peer_says(self.peers[*peer], said, text),
            Event::Answer { pick, error } if !self.seen.is_empty() => {
                let (process, request) = self.seen.remove(pick % self.seen.len());
                self.child_answers(process, &request, *error, text);
            }
            Event::Child { process, says } if self.up[*process] => {
                self.child_says(*process, *says, text)
            }
            Event::Restart { process } if self.up[*process] => {
                self.seen.retain(|(at, _)| at != process);
                self.bench.exit(*process, true);
                self.look();
                self.bench.start(*process);
            }
            _ => {}
        }
        self.look();
    }

    fn peer_says(&mut self, peer: SessionId, said: &Said, text: &str) {
        const VERSION: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
        let meta = |modern| if modern { VERSION } else { r#""x":0"# };
        let line = match said {
            Said::Request { method, modern, id } => {
                let meta = meta(*modern);
                let (method, params) = match method {
                    0 => (
                        "initialize",
                        format!(
                            r#""clientInfo":{{"name":"{text}"}},"capabilities":{{"sampling":{{}}}}"#
                        ),
                    ),
                    1 => ("resources/subscribe", format!(r#""uri":"{text}""#)),
                    2 => (
                        "logging/setLevel",
                        format!(r#""level":"info","pad":"{text}",{meta}"#),
                    ),
                    3 => ("subscriptions/listen", format!(r#""pad":"{text}",{meta}"#)),
                    4 => ("tasks/list", meta.to_owned()),
                    5 => (text, meta.to_owned()),
                    6 | 7 => (
                        "tools/call",
                        format!(r#""pad":"{text}","_meta":{{"progressToken":"{id}"}}"#),
                    ),
                    8 => ("server/discover", format!(r#""pad":"{text}""#)),
                    _ => ("tools/call", format!(r#""pad":"{text}",{meta}"#)),
                };
                format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#
                )
            }
            Said::Notification { method, modern } => {
                let (method, params) = match method {
                    0 => ("notifications/initialized", String::new()),
                    1 => (
                        "notifications/cancelled",
                        format!(r#""requestId":1,"reason":"{text}""#),
                    ),
                    _ => ("x/changed", format!(r#""pad":"{text}",{}"#, meta(*modern))),
                };
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{params}}}}}"#)
            }
            Said::Answer { pick } => {
                let asked = self.asked.iter().filter(|(asked, _)| *asked == peer);
                let ids: Vec<&Value> = asked.map(|(_, id)| id).collect();
                let Some(id) = ids.get(pick % ids.len().max(1)) else {
                    return;
                };
                if pick % 3 == 0 {
                    format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"message":"{text}"}}}}"#
                    )
                } else {
                    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"{text}"}}"#)
                }
            }
        };
        let Ok(message) = Message::read(line.into(), MAX_PEER_DEPTH) else {
            return;
        };
        let answers = matches!(message.kind(), crate::jsonrpc::Kind::Response(_));
        let permit = Rights::everything().decide(message).unwrap();
        let owed = self.bench.router.owed(peer);
        let sent = self
            .bench
            .router
            .peer_message(peer, &permit, &mut self.bench.out);
        if sent.is_err() && !answers {
            let out = &self.bench.out;
            assert!(out.to_child.iter().all(|lines| lines.is_empty()) && out.to_peer.is_empty());
            assert_eq!(self.bench.router.owed(peer), owed);
        }
    }

    fn child_answers(&mut self, process: usize, request: &Value, error: bool, text: &str) {
        let id = &request["id"];
        let result = match request["method"].as_str() {
            Some("initialize") => {
                format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{{}},"x":"{text}"}}"#)
            }
            Some("tasks/list") => format!(r#"{{"tasks":[],"x":"{text}"}}"#),
            _ => format!(r#"{{"task":{{"taskId":"t"}},"x":"{text}"}}"#),
        };
        let line = if error {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"{text}"}}}}"#)
        } else {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
        };
        self.bench.child(process, &line);
    }

    fn child_says(&mut self, process: usize, says: usize, text: &str) {
        let token = self.seen.first().map(|(_, request)| request["id"].clone());
        let token = token.unwrap_or_default();
        let (head, params) = match says {
            0 | 1 => (
                r#""id":"q","method":"sampling/createMessage""#,
                format!(r#""pad":"{text}","_meta":{{"progressToken":"tokenoftenletters"}}"#),
            ),
            2 => (
                r#""method":"notifications/progress""#,
                format!(r#""progressToken":{token},"message":"{text}""#),
            ),
            3 => (
                r#""method":"notifications/message""#,
                format!(r#""level":"error","data":"{text}""#),
            ),
            4 => (
                r#""method":"notifications/cancelled""#,
                format!(r#""requestId":"q","reason":"{text}""#),
            ),
            _ => (
                r#""method":"notifications/subscriptions/acknowledged""#,
                format!(
                    r#""pad":"{text}","_meta":{{"io.modelcontextprotocol/subscriptionId":{token}}}"#
                ),
            ),
        };
        self.bench.child(
            process,
            &format!(r#"{{"jsonrpc":"2.0",{head},"params":{{{params}}}}}"#),
        );
    }

    /// Takes what was said, and measures it.
    fn look(&mut self) {
        for command in self.bench.commands() {
            match command {
                Command::Start(ProcessId(process)) if !self.up[process] => {
                    self.up[process] = true;
                    self.bench.start(process);
                }
                Command::Start(_) => {}
                Command::Stop(ProcessId(process)) => {
                    self.up[process] = false;
                    self.seen.retain(|(at, _)| *at != process);
                    self.bench.exit(process, false);
                }
            }
        }
        for process in 0..PROCESSES {
            let lines = std::mem::take(&mut self.bench.out.to_child[process]);
            for line in lines
                .into_pieces()
                .concat()
                .split_inclusive(|byte| *byte == b'\n')
            {
                let text = std::str::from_utf8(line).unwrap();
                assert!(
                    line.len() - 1 <= self.limits.to_child,
                    "{} for {text}",
                    line.len()
                );
                let line: Value = serde_json::from_slice(line).unwrap();
                if line.get("id").is_some() && line.get("method").is_some() {
                    self.seen.push((process, line));
                }
            }
        }
        for (session, line) in std::mem::take(&mut self.bench.out.to_peer) {
            let line = line.joined();
            let text = std::str::from_utf8(&line).unwrap();
            assert!(
                line.len() - 1 <= self.limits.to_peer,
                "{} for {text}",
                line.len()
            );
            let line: Value = serde_json::from_slice(&line).unwrap();
            if line.get("id").is_some() && line.get("method").is_some() {
                self.asked.push((session, line["id"].clone()));
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_written_is_no_longer_than_its_limit(
        to_child in LEAST..2 * LEAST,
        to_peer in LEAST..2 * LEAST,
        events in prop::collection::vec((event(), text()), 1..60),
    ) {
        let mut world = World::new(LineLimits { to_child, to_peer });
        for (event, text) in &events {
            world.happen(event, text);
        }
    }

    /// The same for a peer that has a process to itself; and nothing that fits is refused.
    #[test]
    fn what_a_pipe_writes_is_no_longer_than_its_limit(
        text in text(), answer in text(), id in text(), limit in LEAST..2 * LEAST,
    ) {
        let id = &id[..id.char_indices().map(|(at, _)| at).nth(8).unwrap_or(0)];
        let mut router = IsolatedRouter::default();
        let mut out = Output::new(LineLimits { to_child: limit, to_peer: limit });
        router.attach(Profile::anybody(), &Counted::default());
        let line = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"x","params":["{text}"]}}"#);
        let Ok(message) = Message::read(line.into(), MAX_PEER_DEPTH) else {
            return Ok(());
        };
        let written = message.to_line(message.id(), &[]).length() - 1;
        let sent = router.peer_message(&Rights::everything().decide(message).unwrap(), &mut out);
        prop_assert_eq!(sent.is_ok(), written <= limit);
        prop_assert_eq!(out.to_child[0].len(), if sent.is_ok() { written + 1 } else { 0 });
        prop_assert_eq!(router.owed(), usize::from(sent.is_ok()));
        for line in [
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":["{answer}"]}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":"q","method":"roots/list","params":["{answer}"]}}"#),
            format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{answer}"]}}"#),
        ] {
            let message = Message::read(line.into(), MAX_CHILD_DEPTH).unwrap();
            router.child_message(&message, Instant::now, &mut out);
        }
        for (_, line) in &out.to_peer {
            prop_assert!(line.length() - 1 <= limit);
        }
    }
}

/// A legacy peer with a request in flight, which has been asked something; and the id of that.
fn asked() -> (Bench, SessionId, Value) {
    let mut bench = Bench::default();
    let peer = bench.legacy(r#"{"sampling":{}}"#);
    bench.child(0, r#"{"jsonrpc":"2.0","id":"the child's own id","method":"sampling/createMessage","params":{"_meta":{"progressToken":"its own token, which is long"}}}"#);
    let question = bench.told(peer)["id"].clone();
    bench.peer(peer, r#"{"jsonrpc":"2.0","id":5,"method":"x"}"#);
    bench.child_heard(0);
    (bench, peer, question)
}

/// The bound is on the line that the process gets, to the byte, whatever the line was that came.
#[test]
fn what_fits_to_the_byte_passes_and_one_byte_less_does_not() {
    let text = "a\u{2028}\u{85}\\t\u{2029}é".repeat(20);
    let (_, _, question) = asked();
    for line in [
        format!(
            r#"{{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{{"_meta":{{"progressToken":""}},"x":"{text}"}}}}"#
        ),
        format!(r#"{{"jsonrpc":"2.0","id":[],"method":"{text}"}}"#)
            .replace("[]", "\"longer than ours\""),
        format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{text}"]}}"#),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":5,"reason":"{text}"}}}}"#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{question},"message":"{text}"}}}}"#
        ),
        format!(r#"{{"jsonrpc":"2.0","id":{question},"result":{{"x":"{text}"}}}}"#),
    ] {
        let (mut bench, peer, _) = asked();
        bench.peer(peer, &line);
        let written = bench.out.to_child[0].len() - 1;
        let (mut bench, peer, _) = asked();
        bench.out.limits.to_child = written;
        assert_eq!(bench.try_peer(peer, &line), Ok(()), "{line}");
        assert_eq!(bench.out.to_child[0].len(), written + 1);
        let (mut bench, peer, _) = asked();
        bench.out.limits.to_child = written - 1;
        let refused = Err(TooLarge { limit: written - 1 });
        assert_eq!(bench.try_peer(peer, &line), refused, "{line}");
        assert_eq!(bench.router.owed(peer), 1);
        assert!(bench.peers_heard().is_empty());
        let heard = bench.child_heard(0);
        if line.contains("result") {
            // The question is not left open.
            assert_eq!(heard[0]["id"], "the child's own id");
            assert_eq!(heard[0]["error"]["data"]["reason"], "answer-too-large");
            bench.out.limits = LineLimits::default();
            bench.peer(peer, &line);
            assert!(bench.child_heard(0).is_empty());
        } else {
            assert!(heard.is_empty(), "{heard:?}");
        }
    }
}

/// What the router says by itself of what a peer has said, then or to the next process.
#[test]
fn what_is_told_again_is_measured_as_it_is_told() {
    let text = "\\t".repeat(100);
    let subscribe = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{text}"}}}}"#
    );
    let level = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"info"}}"#;
    for (line, most) in [(&*subscribe, 6 * 100 + 100), (level, 85)] {
        let (mut bench, peer, _) = asked();
        bench.out.limits.to_child = line.len() + 2;
        assert!(bench.try_peer(peer, line).is_err(), "{line}");
        assert!(bench.child_heard(0).is_empty());
        bench.out.limits.to_child = most;
        assert_eq!(bench.try_peer(peer, line), Ok(()), "{line}");
    }
    let initialize = |name: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"clientInfo":{{"name":"{name}"}}}}}}"#
        )
    };
    // The process is told of another client where this one makes the line too long.
    let own = "mcp-remote";
    for (name, to_child, heard) in [
        (&*"\u{2028}".repeat(100), 1200, &*"\u{2028}".repeat(100)),
        (&"\u{2028}".repeat(100), 800, own),
        ("x", 100, own),
        ("x", 800, "x"),
    ] {
        let mut bench = Bench::default();
        let peer = bench.attach();
        bench.out.limits.to_child = to_child;
        assert_eq!(bench.try_peer(peer, &initialize(name)), Ok(()));
        let told = bench.child_heard(0);
        assert_eq!(told[0]["params"]["clientInfo"]["name"], heard);
    }
}

/// Nobody waits for an answer that is too long, and a question that is goes back to the process.
#[test]
fn what_is_too_long_for_a_peer_is_answered() {
    let text = "\u{85}".repeat(200);
    let (mut bench, peer, _) = asked();
    bench.out.limits.to_peer = 600;
    bench.peer(peer, r#"{"jsonrpc":"2.0","id":"six","method":"x"}"#);
    let ours = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"error","data":"{text}"}}}}"#));
    assert!(bench.peers_heard().is_empty());
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{ours},"result":"{text}"}}"#),
    );
    let answer = bench.told(peer);
    assert_eq!(answer["id"], "six");
    assert_eq!(answer["error"]["data"]["reason"], "answer-too-large");
    assert_eq!(bench.router.owed(peer), 1);
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{{"x":"{text}"}}}}"#));
    assert!(bench.peers_heard().is_empty());
    let refusal = &bench.child_heard(0)[0];
    assert_eq!(
        (&refusal["id"], &refusal["error"]["code"]),
        (&"q".into(), &(-32600).into())
    );
}

/// Bug: what waits for its turn was no part of `--max-backlog`.
#[test]
fn what_waits_for_its_turn_is_kept_for_its_session() {
    let backlog = Backlog::new(Bounds {
        total: 100_000,
        per_user: None,
    });
    let holder = backlog.holder(Account::User("greedy".into()));
    let counted = Counted {
        holder: holder.clone(),
        ..Counted::default()
    };
    let window = Window {
        requests: 1,
        ..Window::default()
    };
    let mut bench = Bench {
        router: Router::with_window(window),
        ..Bench::default()
    };
    bench.legacy("{}");
    let session = bench.router.attach_of_user(Profile::anybody(), &counted);
    let pad = "x".repeat(10_000);
    for id in 0..9 {
        bench.peer(
            session,
            &json!({"jsonrpc":"2.0","id":id,"method":"x","params":{"pad":pad}}).to_string(),
        );
    }
    assert_eq!(bench.child_heard(0).len(), 1);
    assert_eq!(holder.evicted().now_or_never(), None);
    for id in 9..13 {
        bench.peer(
            session,
            &json!({"jsonrpc":"2.0","id":id,"method":"x","params":{"pad":pad}}).to_string(),
        );
    }
    assert!(holder.evicted().now_or_never().is_some());
}
