//! Actions of peers and processes.

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
                if let Some(Some(tag)) = state.open.get(&id.to_string()).cloned() {
                    state.open.remove(&id.to_string());
                    state.cancelled.insert(tag.clone());
                    self.withdrawn.insert(tag.clone());
                    self.look();
                    for seen in &self.at_child {
                        let life = &self.lives[seen.process];
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

    pub(super) fn processes_act(&mut self, event: &Event) {
        match *event {
            Event::Answer { pick, error, task } if !self.at_child.is_empty() => {
                let pick = pick % self.at_child.len();
                if self.at_child[pick].method == LISTEN && !error {
                    return;
                }
                let seen = self.at_child.remove(pick);
                self.answer(seen, error, task);
            }
            Event::Acknowledge { pick } if !self.at_child.is_empty() => {
                let pick = pick % self.at_child.len();
                self.acknowledge(pick);
            }
            Event::Progress { pick } => {
                let mut seen = self.at_child.iter().chain(&self.tasks_at_child);
                let count = self.at_child.len() + self.tasks_at_child.len();
                let Some(seen) = seen.nth(pick % count.max(1)) else {
                    return;
                };
                let Some(token) = &seen.token else { return };
                let line = json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":token,"tag":seen.tag}});
                self.child_says(seen.process, &line);
            }
            Event::TaskStatus { process, task } => {
                let params = json!({"taskId":task_id(task),"process":process});
                let line =
                    json!({"jsonrpc":"2.0","method":"notifications/tasks/status","params":params});
                self.child_says(process, &line);
            }
            Event::Ask { process, task } if self.up[process] => {
                self.asks += 1;
                self.bench.clock.0 += Duration::from_secs(1);
                let id = format!("q{}", self.asks);
                let mut params = json!({"process":process,"_meta":{"progressToken":token_of(&id)}});
                if let Some(task) = task {
                    params["_meta"][RELATED] = json!({"taskId": task_id(task)});
                }
                let line = json!({"jsonrpc":"2.0","id":id,"method":"sampling/createMessage","params":params});
                self.questions.push((process, id));
                self.child_says(process, &line);
            }
            Event::TakeBack { pick } if !self.questions.is_empty() => {
                let pick = pick % self.questions.len();
                let (process, id) = self.questions.remove(pick);
                let line = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}});
                self.child_says(process, &line);
            }
            Event::Late { seconds } => {
                let Bench { router, out, clock } = &mut self.bench;
                let asked_by = clock.0 - Duration::from_secs(seconds.into());
                router.expire_questions(asked_by, out);
                let oldest = router.oldest_question();
                assert!(oldest.is_none_or(|oldest| oldest > asked_by));
            }
            Event::Updated { uri } => {
                for process in 0..PROCESSES {
                    self.child_says(process, &json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":format!("x:{uri}")}}));
                }
            }
            Event::Broadcast => {
                for process in 0..PROCESSES {
                    self.child_says(
                        process,
                        &json!({"jsonrpc":"2.0","method":"notifications/tools/list_changed"}),
                    );
                }
                let listens = self.at_child.iter().filter(|seen| seen.acknowledged);
                let lines: Vec<(usize, Value)> = listens.map(|seen| {
                    let params = json!({"_meta":{SUBSCRIPTION:seen.ours}});
                    let line = json!({"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":params});
                    (seen.process, line)
                }).collect();
                for (process, line) in lines {
                    self.child_says(process, &line);
                }
            }
            Event::Pass { millis } => {
                let Bench { router, out, clock } = &mut self.bench;
                clock.0 += Duration::from_millis(millis.into());
                router.tell_changes(clock.0, out);
                assert!(router.next_change().is_none_or(|next| next > clock.0));
            }
            Event::Age => self.bench.router.peers.numbers.newest += 1 << 30,
            Event::Die {
                process,
                forgets,
                suspicious,
            } if self.up[process] => self.die(process, true, forgets, suspicious),
            Event::Tick { process, last } if self.up[process] => {
                let Bench { router, out, .. } = &mut self.bench;
                if last {
                    router.end_turns(ProcessId(process), out);
                } else {
                    router.tick(ProcessId(process), out);
                }
            }
            Event::Return { process }
                if !self.up[process]
                    && self.bench.router.processes[process].service
                        != crate::router::Service::Idle =>
            {
                self.start(process);
            }
            _ => {}
        }
    }

    pub(super) fn start(&mut self, process: usize) {
        self.up[process] = true;
        self.lives[process] = Life::default();
        self.bench.start(process);
    }

    pub(super) fn die(&mut self, process: usize, restarts: bool, forgets: bool, suspicious: bool) {
        self.check_cause(process);
        let here = self.at_child.iter().filter(|seen| seen.process == process);
        let spent = here.filter(|seen| forgets || !seen.acknowledged);
        let tags = spent.filter_map(|seen| seen.tag.as_str());
        self.spent.extend(tags.map(str::to_owned));
        self.up[process] = false;
        self.at_child.retain(|seen| seen.process != process);
        self.tasks_at_child.retain(|seen| seen.process != process);
        self.questions.retain(|(at, _)| *at != process);
        self.tasks.retain(|(at, _), _| *at != process);
        self.bench.exit_as(process, restarts, forgets, suspicious);
    }

    pub(super) fn answer(&mut self, seen: Seen, error: bool, task: Option<u8>) {
        let mut body = json!({"tag":seen.tag});
        if seen.method == "initialize" {
            self.lives[seen.process].initialize_answered = true;
            body = json!({"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}}});
            if error {
                body = json!({"refused":seen.tag});
                self.lives[seen.process].initialize = false;
            }
        }
        if seen.method == LISTEN {
            body["_meta"] = json!({SUBSCRIPTION: seen.ours});
        }
        let task = task.filter(|_| seen.method == "tools/call" && !error);
        if let Some(task) = task.map(task_id) {
            body["task"] = json!({"taskId":task});
            if let Some(user) = self.user_of(&seen.tag) {
                self.tasks.entry((seen.process, task)).or_insert(user);
            }
        }
        let line = if error {
            json!({"jsonrpc":"2.0","id":seen.ours,"error":{"code":1,"message":"no","data":body}})
        } else {
            json!({"jsonrpc":"2.0","id":seen.ours,"result":body})
        };
        self.bench.child(seen.process, &line.to_string());
        if task.is_some() {
            self.tasks_at_child.push(seen);
        }
    }

    pub(super) fn acknowledge(&mut self, at: usize) {
        let seen = &mut self.at_child[at];
        if seen.method == LISTEN && !std::mem::replace(&mut seen.acknowledged, true) {
            let params = json!({"_meta":{SUBSCRIPTION:seen.ours},"notifications":{"toolsListChanged":true},"tag":seen.tag});
            let line = json!({"jsonrpc":"2.0","method":ACKNOWLEDGED,"params":params});
            let process = seen.process;
            self.child_says(process, &line);
        }
    }
}
