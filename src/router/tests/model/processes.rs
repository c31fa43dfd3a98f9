//! Actions of processes.

use super::*;

impl World {
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
            Event::Log { pick } => {
                let mut logging = self.at_child.iter().filter(|seen| seen.wants_logs);
                let count = logging.clone().count();
                if let Some(seen) = logging.nth(pick % count.max(1)) {
                    let line = json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1,"tag":seen.tag}});
                    self.child_says(seen.process, &line);
                }
            }
            Event::EndListen { pick } => {
                let listening = self.at_child.iter().enumerate();
                let listens = |peer: &Peer, tag: &str| peer.listening.contains(tag);
                let listening = listening.filter(|(_, seen)| {
                    let tag = seen.tag.as_str().unwrap_or_default();
                    seen.acknowledged && self.peers.values().any(|peer| listens(peer, tag))
                });
                let listening: Vec<usize> = listening.map(|(at, _)| at).collect();
                if let Some(at) = listening.get(pick % listening.len().max(1)) {
                    let seen = self.at_child.remove(*at);
                    let params = json!({"requestId": seen.ours, "tag": seen.tag});
                    let line =
                        json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":params});
                    self.child_says(seen.process, &line);
                }
            }
            Event::Deaf { process } if self.up[process] => {
                self.look();
                self.deaf[process] = true;
                self.bench.router.stopped_reading(ProcessId(process));
            }
            Event::Overdue { process } if self.up[process] => {
                self.prepare_to_die(process);
                let exit = Exit {
                    overdue: Some("initialize"),
                    restarts: true,
                    ..Exit::default()
                };
                let Bench { router, out, .. } = &mut self.bench;
                router.child_exited(ProcessId(process), &exit, out);
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
        self.spend(process, forgets);
        self.bench.exit_as(process, restarts, forgets, suspicious);
    }

    fn prepare_to_die(&mut self, process: usize) {
        self.check_cause(process);
        self.spend(process, false);
    }

    /// What the process has received ends with it.
    fn spend(&mut self, process: usize, forgets: bool) {
        let here = self.at_child.iter().filter(|seen| seen.process == process);
        let spent = here.filter(|seen| forgets || !seen.acknowledged);
        let tags = spent.filter_map(|seen| seen.tag.as_str());
        self.spent.extend(tags.map(str::to_owned));
        self.up[process] = false;
        self.at_child.retain(|seen| seen.process != process);
        self.tasks_at_child.retain(|seen| seen.process != process);
        self.questions.retain(|(at, _)| *at != process);
        self.tasks.retain(|(at, _), _| *at != process);
        self.deaf[process] = false;
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
