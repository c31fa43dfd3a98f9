//! Gate, policy and router combined as in the hub, without the hub.

use super::messages;
use bytes::{Bytes, BytesMut};
use mcp_remote::account::Account;
use mcp_remote::backlog::{Backlog, Bounds};
use mcp_remote::jsonrpc::{MAX_CHILD_DEPTH, MAX_PEER_DEPTH, Message};
use mcp_remote::permissions::{Permit, Policy, Rights};
use mcp_remote::router::{Counted, Output, ProcessId, Profile, Router, SessionId};
use mcp_remote::utils::chunks::Chunks;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Instant;

/// Lines in shared buffers, as a connection delivers them.
#[derive(Default)]
pub struct Framed(BytesMut);

impl Framed {
    /// The next line.
    pub fn line(&mut self, line: &[u8]) -> Bytes {
        if self.0.capacity() < line.len() {
            self.0 = BytesMut::with_capacity(line.len().max(8 * 1024));
        }
        self.0.extend_from_slice(line);
        self.0.split().freeze()
    }
}

/// Drops whatever was to be sent.
pub fn send(out: &mut Output) {
    let out = black_box(out);
    out.to_child.iter_mut().for_each(Chunks::clear);
    out.to_peer.clear();
}

/// Peers with the same rights on one child, all past their handshake.
pub struct Proxy {
    rights: Rights,
    router: Router,
    backlog: Backlog,
    out: Output,
    sessions: Vec<SessionId>,
    /// Requests so far.
    asked: usize,
    /// The child's ids of the requests in flight.
    waiting: VecDeque<String>,
}

impl Proxy {
    /// Sends one more request, for `in_flight` in total.
    pub fn new(sessions: usize, in_flight: usize) -> Self {
        Self::with(Router::new(), sessions, in_flight)
    }

    /// A new one that gives requests the ids which this one gave them.
    pub fn twin(&self, sessions: usize, in_flight: usize) -> Self {
        Self::with(self.router.twin(), sessions, in_flight)
    }

    fn with(router: Router, sessions: usize, in_flight: usize) -> Self {
        let policy = Policy::parse(messages::POLICY).expect("a policy");
        let mut proxy = Self {
            rights: policy.rights(&["user".to_owned()]),
            router,
            backlog: Backlog::new(Bounds {
                total: 256 << 20,
                per_user: Some(128 << 20),
            }),
            out: Output::default(),
            sessions: Vec::new(),
            asked: 0,
            waiting: VecDeque::new(),
        };
        for number in 0..sessions {
            let session = proxy.attach();
            proxy.sessions.push(session);
            proxy.ask(session, &proxy.permit(messages::INITIALIZE.as_bytes()));
            if number == 0 {
                let id = proxy.last_id();
                proxy.answer(messages::initialized(&id).into());
            }
            proxy.ask(session, &proxy.permit(messages::READY.as_bytes()));
            assert_eq!(proxy.out.to_peer.len(), 1, "the answer to initialize");
            proxy.send();
        }
        for _ in 1..in_flight {
            proxy.begin();
        }
        proxy
    }

    /// Adds a session, whose memory is counted.
    fn attach(&mut self) -> SessionId {
        let account = Account::User(self.sessions.len().to_string());
        let counted = Counted {
            holder: self.backlog.holder(account),
            ..Counted::default()
        };
        self.router.attach_of_user(Profile::anybody(), &counted)
    }

    /// Says how another proxy will get the next request (see [`Proxy::perform`]), and how the
    /// child responds to the oldest.
    pub fn rehearse(&mut self) -> (Permit, Message) {
        let permit = self.begin();
        let id = self.waiting.pop_front().expect("it was just asked");
        let answer = messages::answer(&id, r#"{"content":[]}"#);
        let answer = Message::read(answer.into(), MAX_CHILD_DEPTH).expect("an answer");
        self.router
            .child_message(ProcessId::FIRST, &answer, Instant::now, &mut self.out);
        assert_eq!(self.out.to_peer.len(), 1, "the answer");
        self.send();
        (permit, answer)
    }

    /// One request, one response.
    pub fn perform(&mut self, permit: &Permit, answer: &Message) {
        let session = self.next_session();
        self.ask(session, permit);
        self.send();
        self.router
            .child_message(ProcessId::FIRST, answer, Instant::now, &mut self.out);
        self.send();
    }

    /// Passes a line through gate and policy, and to wherever the router sends it.
    pub fn request(&mut self, line: Bytes) {
        let message = Message::read(line, MAX_PEER_DEPTH).expect("a message");
        let permit = self.rights.decide(message).expect("a permit");
        self.ask(self.sessions[0], &permit);
    }

    /// A line of the child.
    pub fn answer(&mut self, line: Bytes) {
        let message = Message::read(line, MAX_CHILD_DEPTH).expect("a message");
        self.router
            .child_message(ProcessId::FIRST, &message, Instant::now, &mut self.out);
    }

    /// See [`send`].
    pub fn send(&mut self) {
        send(&mut self.out);
    }

    /// The id of the last line for the child.
    pub fn last_id(&mut self) -> String {
        let [lines, _] = std::mem::take(&mut self.out.to_child);
        let lines = lines.into_pieces().concat();
        let lines = std::str::from_utf8(&lines).expect("UTF-8");
        let line = lines.lines().last().expect("a line for the child");
        let behind = line.split("\"id\":").nth(1).expect("an id");
        behind
            .split([',', '}'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    fn begin(&mut self) -> Permit {
        let session = self.next_session();
        let permit = self.permit(messages::call(self.asked, "search_notes", "{}").as_bytes());
        self.ask(session, &permit);
        let id = self.last_id();
        self.waiting.push_back(id);
        self.send();
        permit
    }

    fn next_session(&mut self) -> SessionId {
        self.asked += 1;
        self.sessions[self.asked % self.sessions.len()]
    }

    fn permit(&self, line: &[u8]) -> Permit {
        let line = Bytes::copy_from_slice(line);
        let message = Message::read(line, MAX_PEER_DEPTH).expect("a message");
        self.rights.decide(message).expect("a permit")
    }

    fn ask(&mut self, session: SessionId, permit: &Permit) {
        let sent = self.router.peer_message(session, permit, &mut self.out);
        sent.expect("it is short");
    }
}
