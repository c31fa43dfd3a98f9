//! Actions of peers.

use super::*;

impl World {
    pub(super) fn peers_act(&mut self, event: &Event) {
        match *event {
            Event::Connect { modern, user } if self.peers.len() < 8 => {
                let session = self.bench.attach_user(USERS[user]);
                let peer = Peer {
                    modern,
                    user,
                    ..Peer::default()
                };
                self.peers.insert(session, peer);
                self.users.insert(session.to_string(), user);
                if !modern {
                    let client = json!({"name":session.to_string(),"version":"1"});
                    let params = json!({"protocolVersion":"2025-11-25","capabilities":{"sampling":{}},"clientInfo":client});
                    self.send(session, 0, "initialize", params, None);
                    self.bench.peer(
                        session,
                        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
                    );
                }
            }
            Event::Request { peer, id, token } => {
                if let Some(peer) = self.pick_peer(peer) {
                    // A ping goes ahead of the others.
                    let method = if id == 2 { "ping" } else { "tools/call" };
                    self.ask(peer, id, method, token, json!({}));
                }
            }
            Event::Notify { peer } => {
                if let Some(peer) = self.pick_peer(peer) {
                    self.bench
                        .peer(peer, r#"{"jsonrpc":"2.0","method":"x/hello"}"#);
                }
            }
            Event::Discover { peer, id, proper } => {
                if let Some(peer) = self.pick_of(peer, true) {
                    let params = if proper {
                        json!({})
                    } else {
                        json!({"_meta":null})
                    };
                    self.ask(peer, id, "server/discover", false, params);
                }
            }
            Event::Listen { peer, id, token } => {
                if let Some(peer) = self.pick_of(peer, true) {
                    self.ask(peer, id, LISTEN, token, json!({}));
                }
            }
            Event::AboutTask { peer, id, task } => {
                if let Some(peer) = self.pick_peer(peer) {
                    let params = json!({"taskId": task_id(task)});
                    self.ask(peer, id, "tasks/get", false, params);
                }
            }
            Event::Subscribe { peer, uri, on } => {
                let Some(peer) = self.pick_of(peer, false) else {
                    return;
                };
                let uri = format!("x:{uri}");
                let state = self.peers.get_mut(&peer).unwrap();
                if state.open.contains_key("9") {
                    return;
                }
                let method = if on {
                    state.wanted.insert(uri.clone());
                    "resources/subscribe"
                } else {
                    state.wanted.remove(&uri);
                    "resources/unsubscribe"
                };
                let params = json!({"uri":uri,"by":peer.to_string()});
                self.send(peer, 9, method, params, None);
            }
            Event::SetLevel { peer, level } => {
                if let Some(peer) = self.pick_of(peer, false) {
                    let params = json!({"level":LEVELS[level],"by":peer.to_string()});
                    self.send(peer, 8, "logging/setLevel", params, None);
                }
            }
            Event::Cancel { peer, id } => {
                let Some(peer) = self.pick_peer(peer) else {
                    return;
                };
                let line = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}}).to_string();
                self.bench.peer(peer, &line);
                let state = self.peers.get_mut(&peer).unwrap();
                if id > 7 {
                    state.open.remove(&id.to_string());
                }
                if let Some(Some(tag)) = state.open.get(&id.to_string()).cloned() {
                    state.open.remove(&id.to_string());
                    state.cancelled.insert(tag.clone());
                    self.withdrawn.insert(tag.clone());
                    self.look();
                    for seen in &self.at_child {
                        let life = &self.lives[seen.process];
                        if self.deaf[seen.process] {
                            continue;
                        }
                        // During the handshake nothing is sent, and little when turns are taken.
                        if seen.tag == tag
                            && seen.method == "tools/call"
                            && life.initialize == life.initialized
                            && !self.bench.router.takes_turns(ProcessId(seen.process))
                        {
                            assert!(seen.cancelled, "a process works on what was cancelled");
                        }
                    }
                }
            }
            Event::HalfClose { peer } => {
                if let Some(peer) = self.pick_peer(peer) {
                    self.half_close(peer);
                }
            }
            Event::Leave { peer } => {
                if let Some(peer) = self.pick_any(peer) {
                    self.peers.remove(&peer);
                    self.bench.detach(peer);
                }
            }
            Event::Modernize { peer } => {
                if let Some(peer) = self.pick_of(peer, false) {
                    self.peers.get_mut(&peer).unwrap().modern = true;
                    self.ask(peer, 7, "tools/call", false, json!({}));
                }
            }
            Event::Check => {
                let router = &mut self.bench.router;
                let own = router.attach(Profile::own());
                self.bench
                    .peer(own, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
                self.look();
                self.bench.detach(own);
            }
            Event::Release { peer } => {
                if let Some(peer) = self.pick_any(peer) {
                    self.release(peer);
                }
            }
            Event::Rights { peer, blocked } => {
                if let Some(peer) = self.pick_any(peer) {
                    self.block(peer, BLOCKED.get(blocked).copied());
                }
            }
            Event::Moves { peer, presence } => {
                if let Some(peer) = self.pick_peer(peer) {
                    self.peers.get_mut(&peer).unwrap().presence = presence;
                    let bench = &mut self.bench;
                    bench.router.set_presence(peer, presence, &mut bench.out);
                }
            }
            Event::AnswerAsk { pick, peer } => {
                let answer = |id| json!({"jsonrpc":"2.0","id":id,"result":{}});
                let spoke = self
                    .speak_of_question(pick, peer, answer, |world| world.answered_questions.len());
                if let Some((from, id)) = spoke {
                    self.peers
                        .get_mut(&from)
                        .unwrap()
                        .asked
                        .remove(&id.to_string());
                }
            }
            Event::ProgressOnAsk { pick, peer } => {
                let progress = |id| json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":id}});
                self.speak_of_question(pick, peer, progress, |world| world.progress_heard);
            }
            _ => {}
        }
    }

    /// Everything the peer gets outside its requests ends, and it is asked no more questions.
    pub(super) fn half_close(&mut self, peer: SessionId) {
        let state = self.peers.get_mut(&peer).unwrap();
        state.half_closed = true;
        state.presence = Presence::Away;
        state.wanted.clear();
        state.asked.clear();
        let listening = &state.listening;
        let ended = state
            .open
            .extract_if(|_, tag| tag.as_ref().is_some_and(|tag| listening.contains(tag)));
        let ended: Vec<String> = ended.filter_map(|(_, tag)| tag).collect();
        state.cancelled.extend(ended.iter().cloned());
        self.withdrawn.extend(ended);
        let bench = &mut self.bench;
        bench.router.half_closed(peer, &mut bench.out);
    }

    /// Its pending requests are answered, and it is gone.
    fn release(&mut self, peer: SessionId) {
        let mut processes = self.bench.router.processes.iter();
        if processes.any(|process| process.initialize_of(peer).is_some()) {
            return;
        }
        let open = self.peers[&peer].open.values().flatten();
        self.withdrawn.extend(open.cloned());
        let bench = &mut self.bench;
        bench.router.release(peer, &mut bench.out);
        self.look();
        let left = self.peers.remove(&peer).unwrap();
        assert!(left.open.is_empty(), "{:?}", left.open);
    }

    /// The roles of a peer block a method from here on, and nothing else.
    fn block(&mut self, peer: SessionId, blocked: Option<&str>) {
        let blocked: Vec<&str> = blocked.into_iter().collect();
        let rules = json!({"allowedMethods": ["*"], "blockedMethods": blocked});
        let policy = json!({"permissions": {"user": rules}}).to_string();
        let rights = Policy::parse(&policy).unwrap().rights(&["user".to_owned()]);
        let state = self.peers.get_mut(&peer).unwrap();
        for tag in state.open.values().flatten() {
            let method = &*self.methods[tag];
            let is_sent = self.at_child.iter().any(|seen| seen.tag == **tag);
            if blocked.contains(&method) && (method == LISTEN || !is_sent) {
                self.withdrawn.insert(tag.clone());
            }
        }
        if blocked.contains(&"resources/subscribe") {
            state.wanted.clear();
        }
        let profile = Profile {
            user: Some(USERS[state.user].to_owned()),
            rights,
            is_own: false,
        };
        let bench = &mut self.bench;
        let _denials = bench.router.set_rights(peer, profile, &mut bench.out);
        self.look();
        let state = &self.peers[&peer];
        for tag in state.open.values().flatten() {
            let is_listen = self.methods[tag] == LISTEN && !state.listening.contains(tag);
            assert!(
                is_listen || !self.withdrawn.contains(tag),
                "{tag} is not refused"
            );
        }
    }

    /// A peer sends a `line` about an open question, whether or not it is the one that was asked: only
    /// that one is `heard`. Returns it, with the question's id, if it was that one.
    pub(super) fn speak_of_question(
        &mut self,
        pick: usize,
        peer: usize,
        line: impl Fn(i64) -> Value,
        heard: impl Fn(&Self) -> usize,
    ) -> Option<(SessionId, i64)> {
        let peers = self.peers.iter();
        let asked: Vec<(SessionId, &String)> = peers
            .flat_map(|(session, peer)| peer.asked.iter().map(|id| (*session, id)))
            .collect();
        let from = self.pick_peer(peer)?;
        let (asked, id) = asked.get(pick % asked.len().max(1))?;
        let (asked, id) = (*asked, id.parse().unwrap());
        let before = heard(self);
        self.bench.peer(from, &line(id).to_string());
        self.look();
        let told = heard(self) - before;
        assert_eq!(
            told,
            usize::from(from == asked),
            "who was not asked is not heard"
        );
        (from == asked).then_some((from, id))
    }
}
