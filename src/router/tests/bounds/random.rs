//! Random histories: no written line is longer than its limit.

use super::*;
use proptest::prelude::*;

/// The router's own lines, and errors with short ids, are shorter than this.
const LEAST: usize = 600;

/// What can be sent; numbers select from what exists.
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
    /// The requests that processes have received.
    seen: Vec<(usize, Value)>,
    /// The requests that peers have received.
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
        let owed = self.bench.router.pending_requests(peer);
        let sent = self
            .bench
            .router
            .peer_message(peer, &permit, &mut self.bench.out);
        if sent.is_err() && !answers {
            let out = &self.bench.out;
            assert!(out.to_child.iter().all(|lines| lines.is_empty()) && out.to_peer.is_empty());
            assert_eq!(self.bench.router.pending_requests(peer), owed);
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

    /// Takes the output, and measures it.
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
            let line = line.line.joined();
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

    /// The same for a peer with a process of its own; and nothing that fits is refused.
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
        prop_assert_eq!(router.pending_requests(), usize::from(sent.is_ok()));
        for line in [
            format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":["{answer}"]}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":"q","method":"roots/list","params":["{answer}"]}}"#),
            format!(r#"{{"jsonrpc":"2.0","method":"x","params":["{answer}"]}}"#),
        ] {
            let message = Message::read(line.into(), MAX_CHILD_DEPTH).unwrap();
            router.child_message(&message, Instant::now, &mut out);
        }
        for (_, line) in &out.to_peer {
            prop_assert!(line.line.length() - 1 <= limit);
        }
    }
}
