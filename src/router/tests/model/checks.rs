//! What they may receive, and what may remain in the end.

use super::*;

impl World {
    /// No peer is blamed for the end of a process that another may have ended, and no process that has
    /// received anything from a peer counts as having ended by itself.
    pub(super) fn check_cause(&self, process: usize) {
        let cause = self.bench.router.cause_of_end(ProcessId(process), false);
        match &cause {
            Cause::Itself | Cause::Probe => {
                assert!(
                    !self.lives[process].of_peers,
                    "{cause:?} after a peer's message"
                );
            }
            Cause::Sender(Sender::User(user)) => {
                let here = self.at_child.iter().filter(|seen| seen.process == process);
                for seen in here.filter(|seen| !seen.acknowledged) {
                    let tag = seen.tag.as_str().unwrap_or_default();
                    let asker = self.user_of(&seen.tag);
                    let open = asker.filter(|_| !self.withdrawn.contains(tag));
                    assert!(
                        open.is_none_or(|asker| USERS[asker] == &**user),
                        "{cause:?} for {tag}"
                    );
                }
            }
            // All peers have users.
            Cause::Sender(Sender::Session(_)) => {
                assert!(self.lives[process].is_checked, "{cause:?}");
            }
            Cause::Renewal | Cause::Unclear => {}
        }
    }

    /// Reads all output, and checks it against what is allowed.
    pub(super) fn look(&mut self) {
        for process in &self.bench.router.processes {
            process.in_flight.check();
        }
        for command in self.bench.commands() {
            match command {
                Command::Start(process) => self.start(process.0),
                Command::Stop(process) => self.die(process.0, false, false, false),
            }
        }
        for process in 0..PROCESSES {
            if !self.up[process] {
                continue;
            }
            for line in self.bench.written(process) {
                if self.deaf[process] {
                    self.falls_on_deaf_ears(process, &line);
                } else {
                    self.child_hears(process, &line);
                }
            }
        }
        for (session, line) in self.bench.peers_heard() {
            self.peer_hears(session, &line);
        }
    }

    /// What is for the next process must not be sent to this one.
    fn falls_on_deaf_ears(&mut self, process: usize, line: &Value) {
        assert!(line["params"].get("tag").is_none(), "{line} is lost");
        if let Some(id) = line["id"].as_str() {
            self.questions
                .retain(|(at, asked)| (*at, &**asked) != (process, id));
            self.answered_questions.insert(id.to_owned());
        }
        if line["method"] == "notifications/progress" {
            self.progress_heard += 1;
        }
    }

    pub(super) fn child_hears(&mut self, process: usize, line: &Value) {
        let life = &mut self.lives[process];
        let mut tag = line["params"]["tag"].clone();
        if line["method"] == "initialize" {
            tag = line["params"]["clientInfo"]["name"].clone();
            if tag == "mcp-remote" {
                tag = Value::Null;
            }
        }
        life.of_peers |= match line["method"].as_str() {
            // The router answers questions on behalf of peers.
            None | Some("initialize" | "notifications/initialized") => false,
            Some("server/discover") => tag.is_string(),
            Some(_) => true,
        };
        let Some(method) = line["method"].as_str() else {
            let id = line["id"].as_str().unwrap().to_owned();
            let question = (process, id.clone());
            let at = self.questions.iter().position(|asked| *asked == question);
            self.questions.remove(at.expect("an answer to no question"));
            let first = self.answered_questions.insert(id);
            assert!(first, "a question was answered twice");
            return;
        };
        if method == "notifications/progress" {
            // A process that has asked a question also gets its progress during its handshake.
            let token = &line["params"]["progressToken"];
            let mut open = self.questions.iter().filter(|(at, _)| *at == process);
            assert!(
                open.any(|(_, id)| *token == token_of(id)),
                "progress on no question"
            );
            self.progress_heard += 1;
            return;
        }
        match method {
            "initialize" => {
                let again = std::mem::replace(&mut life.initialize, true);
                assert!(!again, "a second handshake");
            }
            "notifications/initialized" => {
                let again = std::mem::replace(&mut life.initialized, true);
                assert!(life.initialize_answered && !again);
            }
            _ if life.initialize => assert!(life.initialized, "{method} in the handshake"),
            _ => assert!(
                line.get("id").is_some() || life.requests > 0,
                "{method} before everything else"
            ),
        }
        life.is_checked |= method == "ping" && tag.is_null();
        let Some(ours) = line.get("id") else {
            if method == "notifications/cancelled" {
                self.child_cancels(process, &line["params"]["requestId"]);
            }
            return;
        };
        life.requests += 1;
        assert!(life.ids.insert(ours.to_string()), "an id was used twice");
        assert!(
            self.known_ids.insert(ours.to_string()) || method == LISTEN,
            "an id of another process was used"
        );
        let text = tag.as_str().unwrap_or_default();
        assert!(
            !self.spent.contains(text),
            "{method} ended a process already"
        );
        if method == "tasks/get" {
            let task = line["params"]["taskId"].as_str().unwrap().to_owned();
            let owner = self.tasks.get(&(process, task)).copied();
            // A session that has left meanwhile cannot be harmed.
            let asker = self.user_of(&tag);
            assert!(owner.is_some() && (asker.is_none() || owner == asker));
        }
        let by = tag.as_str().and_then(|tag| tag.split_once('/'));
        let by = by.map(|(session, _)| session);
        assert!(
            by.is_none_or(|by| self.peers.keys().any(|known| known.to_string() == by)),
            "{method} of a peer that has left"
        );
        assert!(
            !self.withdrawn.contains(text),
            "{method} after it was cancelled or forbidden"
        );
        let by = by.or(line["params"]["by"].as_str()).map(str::to_owned);
        self.lives[process].served.extend(by.clone());
        let token = line["params"]["_meta"].get("progressToken").cloned();
        assert!(token.is_none() || token.as_ref() == Some(ours));
        self.at_child.push(Seen {
            process,
            ours: ours.clone(),
            tag,
            by,
            token,
            method: method.to_owned(),
            acknowledged: false,
            cancelled: false,
            wants_logs: !line["params"]["_meta"]["io.modelcontextprotocol/logLevel"].is_null(),
        });
    }

    /// A process gets a cancellation only for what its peer cancelled, or for what a peer that has left requested.
    pub(super) fn child_cancels(&mut self, process: usize, quoted: &Value) {
        let seen = self.at_child.iter_mut();
        let seen = seen.chain(&mut self.tasks_at_child);
        let Some(seen) = seen.into_iter().find(|seen| seen.ours == *quoted) else {
            assert!(
                self.lives[process].ids.contains(&quoted.to_string()),
                "no id of this process was cancelled"
            );
            return;
        };
        assert_eq!(seen.process, process);
        seen.cancelled = true;
        if seen.method == "ping" && seen.by.is_none() {
            return;
        }
        let tag = seen.tag.as_str().unwrap_or_default();
        // A request without a tag changes the state shared by all peers.
        let (session, _) = tag.split_once('/').expect("a request of a peer's own");
        let is_here = self.peers.keys().any(|known| known.to_string() == session);
        assert!(
            !is_here || self.withdrawn.contains(tag),
            "nobody cancelled {tag}"
        );
    }

    /// Everything the process may be working on belongs to this session, or an earlier one of its user;
    /// if it works on nothing, so does everything it ever received.
    pub(super) fn is_certain(&self, process: usize, session: SessionId) {
        let peers: BTreeSet<String> = self.peers.keys().map(ToString::to_string).collect();
        let session = session.to_string();
        let is_own = |by: &String| {
            *by == session || (!peers.contains(by) && self.users[by] == self.users[&session])
        };
        let at_work = self.at_child.iter().filter(|seen| seen.process == process);
        let mut at_work = at_work.filter_map(|seen| seen.by.as_ref()).peekable();
        if at_work.peek().is_some() {
            assert!(at_work.all(is_own), "asked while it works for another");
        } else {
            let served = &self.lives[process].served;
            assert!(served.iter().all(is_own), "asked though it knows another");
        }
    }

    pub(super) fn peer_hears(&mut self, session: SessionId, line: &Value) {
        let (method, id, params) = (line["method"].as_str(), line.get("id"), &line["params"]);
        let peer = self
            .peers
            .get_mut(&session)
            .expect("said to a peer that is gone");
        let owns = |task: &Value| {
            let process = params["process"].as_u64().unwrap() as usize;
            let task = (process, task.as_str().unwrap().to_owned());
            self.tasks.get(&task) == Some(&peer.user)
        };
        let tag = params["tag"].as_str().unwrap_or_default();
        let is_open = |id: &Value| {
            let open = peer.open.get(&id.to_string());
            open.is_some_and(|open| open.as_deref() == Some(tag))
        };
        match (method, id) {
            (Some(method), Some(id)) => {
                assert_eq!(method, "sampling/createMessage");
                let related = &params["_meta"][RELATED];
                assert!(related.is_null() || owns(&related["taskId"]));
                assert_eq!(&params["_meta"]["progressToken"], id);
                assert!(!peer.modern && peer.asked.insert(id.to_string()));
                assert_eq!(peer.presence, Presence::Connected);
                if related.is_null() {
                    let process = params["process"].as_u64().unwrap() as usize;
                    self.is_certain(process, session);
                }
            }
            (Some("notifications/progress"), None) => {
                assert!(
                    tag.starts_with(&format!("{session}/")),
                    "somebody else's progress"
                );
                let token = &params["progressToken"];
                assert!(
                    is_open(token) || peer.working.get(tag) == Some(token),
                    "progress on nothing"
                );
            }
            (Some("notifications/cancelled"), None) => {
                let id = params["requestId"].to_string();
                match params["tag"].as_str() {
                    Some(tag) => {
                        let ended = peer.open.remove(&id);
                        assert_eq!(ended.flatten().as_deref(), Some(tag), "somebody else's");
                    }
                    None => drop(peer.asked.remove(&id)),
                }
            }
            (Some("notifications/message"), None) if peer.modern => {
                let (by, _) = tag.split_once('/').unwrap();
                let user = peer.user;
                let here = self.peers.keys().any(|known| known.to_string() == by);
                assert!(
                    by == session.to_string() || (!here && self.users[by] == user),
                    "a log message about another one's request"
                );
            }
            (Some("notifications/resources/updated"), None) => {
                let uri = params["uri"].as_str().unwrap();
                assert!(
                    peer.wanted.contains(uri),
                    "an update that nobody subscribed to"
                );
            }
            (Some("notifications/tasks/status"), None) => assert!(owns(&params["taskId"])),
            (Some(ACKNOWLEDGED), None) => {
                let id = &params["_meta"][SUBSCRIPTION];
                assert!(is_open(id), "not its own");
                let first = peer.acknowledged.insert(tag.to_owned());
                assert!(first, "acknowledged twice");
            }
            (Some(_), None) => match params["_meta"].get(SUBSCRIPTION) {
                Some(id) => assert!(peer.open.contains_key(&id.to_string())),
                None => assert!(!peer.modern, "a broadcast to a modern peer"),
            },
            (None, id) => {
                let id = id.expect("an answer without id").to_string();
                let result = &line["result"];
                if let Some(refused) = line["error"]["data"]["refused"].as_str() {
                    assert_eq!(refused, session.to_string(), "the refusal of another peer");
                }
                if let Some(quoted) = result["_meta"].get(SUBSCRIPTION) {
                    assert_eq!(quoted.to_string(), id, "the end of another subscription");
                }
                let tag = result["tag"]
                    .as_str()
                    .or(line["error"]["data"]["tag"].as_str());
                if let Some(tag) = tag.filter(|_| !result["task"].is_null()) {
                    // Its token was the number that is its id.
                    let token = serde_json::from_str(&id).unwrap();
                    peer.working.insert(tag.to_owned(), token);
                }
                assert!(
                    !tag.is_some_and(|tag| peer.cancelled.contains(tag)),
                    "an answer to what was cancelled"
                );
                let asked = peer.open.remove(&id).expect("an answer to nothing asked");
                if let Some(tag) = tag {
                    assert_eq!(asked.as_deref(), Some(tag), "somebody else's answer");
                }
            }
        }
    }

    /// Lets every process return and answer its requests: then nothing may be pending.
    pub(super) fn settle(&mut self) {
        for round in 0.. {
            for process in 0..PROCESSES {
                if self.deaf[process] {
                    self.die(process, true, false, false);
                    self.look();
                }
                self.happen(&Event::Return { process });
                for last in [false, false, true] {
                    self.happen(&Event::Tick { process, last });
                }
            }
            while self.bench.advance() {
                self.look();
            }
            for at in 0..self.at_child.len() {
                self.acknowledge(at);
                self.look();
            }
            let waiting = std::mem::take(&mut self.at_child);
            if waiting.is_empty() {
                break;
            }
            for seen in waiting {
                let tag = seen.tag.as_str().unwrap_or_default().to_owned();
                let listen = seen.method == LISTEN;
                let answers = |peer: &Peer| peer.open.values().flatten().any(|open| *open == tag);
                if let Some(peer) = self.peers.values().find(|peer| answers(peer)) {
                    assert!(!listen || peer.acknowledged.contains(&tag));
                }
                self.answer(seen, false, None);
                self.look();
            }
            assert!(round < 100, "it never settles");
        }
        for (session, peer) in &self.peers {
            assert!(peer.open.is_empty(), "{session} waits for {:?}", peer.open);
            assert_eq!(self.bench.router.pending_requests(*session), 0);
            let mut processes = self.bench.router.processes.iter();
            assert!(!processes.any(|process| process.in_flight.is_at_work_for(*session)));
        }
        assert!(!self.bench.router.is_busy());
        for session in std::mem::take(&mut self.peers).into_keys() {
            self.bench.detach(session);
        }
        self.look();
        assert!(
            self.questions.is_empty(),
            "questions without answers: {:?}",
            self.questions
        );
        for _ in 0..2 {
            self.happen(&Event::Pass { millis: 1000 });
        }
        let router = &self.bench.router;
        assert!(router.peers.sessions.is_empty() && router.next_change().is_none());
        for process in &router.processes {
            assert!(process.in_flight.is_empty() && process.waiting() == 0);
            assert_eq!(process.server_requests.oldest(), None);
            assert_eq!(process.forgotten.len(), 0);
            assert!(process.subscriptions.is_empty() && !process.tasks.has_progress());
        }
    }
}
