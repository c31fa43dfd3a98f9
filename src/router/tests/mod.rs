//! The router by itself: scenarios for its promises, and a model that checks it over long random
//! histories.

mod bounds;
mod model;
mod scenes;

use super::{
    Cause, Command, Exit, ForPeer, IsolatedRouter, LineLimits, Output, ProcessId, Profile, Router,
    Sender, SessionId, TooLarge, Window,
};
use crate::jsonrpc::{Kind, MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message, RequestId};
use crate::permissions::{Permit, Rights};
use crate::utils::chunks::Pieces;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A router, with its output sorted by receiver.
#[derive(Default)]
struct Bench {
    router: Router,
    out: Output,
    clock: Clock,
}

/// Does not advance unless it is set.
struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

fn permit(line: &str) -> Permit {
    let message = Message::read(line.to_owned().into(), MAX_PEER_DEPTH).expect(line);
    Rights::everything()
        .decide(message)
        .expect("there is no policy")
}

impl Bench {
    /// A process gets this many requests of a session before it has answered one.
    fn with_places(requests: usize) -> Self {
        let window = Window {
            requests,
            ..Window::default()
        };
        Self {
            router: Router::with_window(window),
            ..Self::default()
        }
    }

    fn attach(&mut self) -> SessionId {
        self.attach_user("anybody")
    }

    fn attach_user(&mut self, user: &str) -> SessionId {
        self.router.attach(Profile {
            user: Some(user.to_owned()),
            ..Profile::anybody()
        })
    }

    fn detach(&mut self, session: SessionId) {
        self.router.detach(session, &mut self.out);
    }

    /// Delivers the queued lines to the processes; true if there were any.
    fn advance(&mut self) -> bool {
        let Self { router, out, .. } = self;
        let advanced = ProcessId::ALL.map(|process| router.advance(process, out));
        advanced.contains(&true)
    }

    fn peer(&mut self, session: SessionId, line: &str) {
        assert_eq!(self.try_peer(session, line), Ok(()));
    }

    fn try_peer(&mut self, session: SessionId, line: &str) -> Result<(), TooLarge> {
        self.router
            .peer_message(session, &permit(line), &mut self.out)
    }

    fn child(&mut self, process: usize, line: &str) {
        let message = Message::read(line.to_owned().into(), MAX_CHILD_DEPTH).expect(line);
        self.router
            .child_message(ProcessId(process), &message, || self.clock.0, &mut self.out);
    }

    fn exit(&mut self, process: usize, restarts: bool) {
        self.exit_as(process, restarts, false, false);
    }

    /// The process ends, and its successor starts without its state.
    fn forget_and_exit(&mut self, process: usize) {
        self.exit_as(process, true, true, false);
    }

    fn exit_as(&mut self, process: usize, restarts: bool, forgets: bool, suspicious: bool) {
        let exit = Exit {
            status: "signal: 9".into(),
            stderr: Some("oops".into()),
            overdue: None,
            restarts,
            forgets,
            suspicious,
        };
        self.router
            .child_exited(ProcessId(process), &exit, &mut self.out);
    }

    fn start(&mut self, process: usize) {
        self.router.child_started(ProcessId(process), &mut self.out);
    }

    /// The lines sent to a process since the last look.
    fn child_heard(&mut self, process: usize) -> Vec<Value> {
        self.advance();
        self.written(process)
    }

    /// The same, excluding lines that wait for their turn.
    fn written(&mut self, process: usize) -> Vec<Value> {
        let bytes = std::mem::take(&mut self.out.to_child[process]);
        let lines = String::from_utf8(bytes.into_pieces().concat()).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// The lines sent to peers since the last look.
    fn peers_heard(&mut self) -> Vec<(SessionId, Value)> {
        let lines = std::mem::take(&mut self.out.to_peer);
        let read = |(session, ForPeer { line, answers }): (SessionId, ForPeer)| {
            let line = line.joined();
            assert_eq!(memchr::memchr_iter(b'\n', &line).count(), 1);
            if let Some(id) = answers {
                let message = Message::read(line.clone(), MAX_CHILD_DEPTH).unwrap();
                assert_eq!(*message.kind(), Kind::Response(Some(id)));
            }
            (session, serde_json::from_slice(&line).unwrap())
        };
        lines.into_iter().map(read).collect()
    }

    /// The only line that a peer got.
    fn told(&mut self, session: SessionId) -> Value {
        let mut lines = self.peers_heard();
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (to, line) = lines.remove(0);
        assert_eq!(to, session);
        line
    }

    /// The number of the request that the first process knows by this id.
    fn number(&self, id: &Value) -> i64 {
        let id = RequestId::parse(id.to_string().as_bytes()).unwrap();
        let Router {
            peers, processes, ..
        } = &self.router;
        processes[0].ids.number(&id, &peers.numbers).unwrap()
    }

    fn commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.out.commands)
    }

    /// A modern peer, whose server has been found to be modern.
    fn modern(&mut self) -> SessionId {
        let session = self.attach();
        self.peer(session, r#"{"jsonrpc":"2.0","id":"era","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#);
        for _ in 0..2 {
            for line in self.child_heard(0) {
                assert_eq!(line["method"], "server/discover");
                self.child(
                    0,
                    &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, line["id"]),
                );
            }
        }
        assert_eq!(self.told(session)["id"], "era");
        session
    }

    /// A legacy peer after its handshake, with these capabilities.
    fn legacy(&mut self, capabilities: &str) -> SessionId {
        let session = self.attach();
        self.shake_hands(session, capabilities);
        session
    }

    fn shake_hands(&mut self, session: SessionId, capabilities: &str) {
        self.peer(session, &format!(
            r#"{{"jsonrpc":"2.0","id":"init","method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"test","version":"1"}}}}}}"#
        ));
        if let Some(request) = self.child_heard(0).first() {
            assert_eq!(request["method"], "initialize");
            let id = &request["id"];
            self.child(0, &format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{"listChanged":true}}}},"serverInfo":{{"name":"s","version":"1"}}}}}}"#
            ));
            assert_eq!(
                self.child_heard(0)[0]["method"],
                "notifications/initialized"
            );
        }
        assert_eq!(self.told(session)["id"], "init");
        self.peer(
            session,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        );
    }
}
