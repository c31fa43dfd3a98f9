//! A peer with a process of its own.

use super::*;
use crate::permissions::Policy;
use crate::router::Counted;

struct Alone {
    router: IsolatedRouter,
    out: Output,
    clock: Clock,
}

impl Alone {
    fn new() -> Self {
        let (mut router, out) = (IsolatedRouter::default(), Output::default());
        router.attach(Profile::anybody(), &Counted::default());
        let clock = Clock::default();
        Self { router, out, clock }
    }

    fn peer(&mut self, line: &Value) {
        self.peer_with(&Rights::everything(), line);
    }

    /// The same, for a peer with these rights.
    fn peer_with(&mut self, rights: &Rights, line: &Value) {
        let message = Message::read(line.to_string().into(), MAX_PEER_DEPTH).unwrap();
        let permit = rights.decide(message).unwrap();
        assert_eq!(self.router.peer_message(&permit, &mut self.out), Ok(()));
    }

    /// What the peer gets when the process sends this.
    fn told(&mut self, line: &str) -> Option<Value> {
        let message = Message::read(line.to_owned().into(), MAX_CHILD_DEPTH).expect(line);
        self.router
            .child_message(&message, || self.clock.0, &mut self.out);
        let mut told = self
            .out
            .to_peer
            .drain(..)
            .map(|(_, told)| told.line.joined());
        let first = told.next();
        assert!(told.next().is_none());
        first.map(|line| serde_json::from_slice(&line).unwrap())
    }

    fn told_json(&mut self, line: &Value) -> Option<Value> {
        self.told(&line.to_string())
    }
}

fn call(id: impl Into<Value>, token: &Value) -> Value {
    let params = json!({"_meta": {"progressToken": token}});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": params})
}

fn progress(token: &Value) -> Value {
    let params = json!({"progressToken": token, "progress": 1});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
}

fn answer(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": {}})
}

fn cancel(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})
}

/// Some hosts drop the transport at a response or progress that they do not know.
#[test]
fn what_nobody_waits_for_reaches_nobody() {
    let mut alone = Alone::new();
    let (id, token) = (json!(1), json!("t"));
    alone.peer(&call(1, &token));
    assert_eq!(alone.told_json(&progress(&json!("u"))), None);
    assert_eq!(alone.told_json(&answer(&json!(2))), None);
    assert!(alone.told_json(&progress(&token)).is_some());
    assert_eq!(alone.told_json(&answer(&id)), Some(answer(&id)));
    assert_eq!(alone.told_json(&progress(&token)), None);
    assert_eq!(alone.told_json(&answer(&id)), None);

    alone.peer(&call(1, &token));
    alone.peer(&cancel(&id));
    assert_eq!(alone.router.pending_requests(), 0);
    assert_eq!(alone.told_json(&progress(&token)), None);
    assert_eq!(alone.told_json(&answer(&id)), None);
    // An error that names no request may be for anything.
    let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "x"}});
    assert_eq!(alone.told_json(&error), Some(error));
}

/// The token of a request that has created a task stays valid for the task.
#[test]
fn progress_of_tasks_goes_on() {
    let mut alone = Alone::new();
    let token = json!(7);
    alone.peer(&call(1, &token));
    let task = json!({"taskId": "t", "status": "working"});
    let made = json!({"jsonrpc": "2.0", "id": 1, "result": {"task": task}});
    assert_eq!(alone.told_json(&made), Some(made));
    assert_eq!(alone.told_json(&progress(&token)), Some(progress(&token)));
}

/// Python's and TypeScript's hosts accept ids that come back with another type.
#[test]
fn ids_that_come_back_retyped_are_the_peers() {
    for (id, others) in [
        (json!(3), &[r#""3""#, "3.0", "3.00"][..]),
        (json!("3"), &["3", "3.0"]),
        (json!("x"), &[]),
    ] {
        let own = id.to_string();
        for other in others.iter().copied().chain([own.as_str()]) {
            let mut alone = Alone::new();
            alone.peer(&call(id.clone(), &id));
            let line = progress(&json!("TOKEN")).to_string();
            let told = alone.told(&line.replace(r#""TOKEN""#, other));
            assert_eq!(told, Some(progress(&id)), "{id} as {other}");
            let told = alone.told(&format!(
                r#"{{"jsonrpc":"2.0","id":{other},"result":{{}}}}"#
            ));
            assert_eq!(told, Some(answer(&id)), "{id} as {other}");
            assert_eq!(alone.router.pending_requests(), 0);
        }
    }
    // The one that was meant exists as well.
    let mut alone = Alone::new();
    for id in [json!(3), json!("3")] {
        alone.peer(&call(id, &json!(1)));
    }
    for id in [json!("3"), json!(3)] {
        assert_eq!(alone.told_json(&answer(&id)), Some(answer(&id)));
    }
    assert_eq!(alone.told_json(&answer(&json!("4"))), None);
}

fn ping(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "ping"})
}

fn list(id: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/list"})
}

/// A filtered list stays filtered whatever is cancelled, and whatever id it comes back with.
#[test]
fn no_list_passes_whole_under_another_id() {
    let policy = r#"{"permissions":{"r":{"allowedMethods":["*"],"allowedTools":["a"]}}}"#;
    let rights = Policy::parse(policy).unwrap().rights(&["r".to_owned()]);
    let whole = |id: &Value| json!({"jsonrpc": "2.0", "id": id, "result": {"tools": [{"name": "a"}, {"name": "b"}]}});
    let mut alone = Alone::new();
    alone.peer_with(&rights, &list(&json!(3)));
    alone.peer_with(&rights, &ping(&json!("3")));
    let told = alone.told_json(&whole(&json!("3"))).unwrap();
    assert_eq!(told["result"]["tools"], json!([{"name": "a"}]));

    let mut alone = Alone::new();
    alone.peer_with(&rights, &list(&json!(3)));
    for _ in 0..2 {
        alone.peer(&cancel(&json!(3)));
    }
    assert_eq!(alone.router.pending_requests(), 0);
    alone.peer_with(&rights, &ping(&json!(3)));
    let told = std::mem::take(&mut alone.out.to_peer);
    assert_eq!(told.len(), 1, "its id is still in flight");
    assert_eq!(alone.told_json(&whole(&json!(3))), None);
}

#[test]
fn a_question_has_a_deadline_and_a_late_answer_is_dropped() {
    let mut alone = Alone::new();
    let question = |id: &str| json!({"jsonrpc":"2.0","id":id,"method":"elicitation/create"});
    let first = alone.clock.0;
    for id in ["first", "taken back", "second"] {
        assert_eq!(alone.told_json(&question(id)), Some(question(id)));
        alone.clock.0 += Duration::from_secs(1);
    }
    assert!(alone.out.timed);
    alone.told_json(&cancel(&json!("taken back")));
    assert_eq!(alone.router.oldest_question(), Some(first));
    let next = first + Duration::from_secs(1);
    alone.router.expire_questions(next, &mut alone.out);
    let told = alone
        .out
        .to_peer
        .drain(..)
        .map(|(_, told)| told.line.joined());
    let told: Vec<Value> = told
        .map(|line| serde_json::from_slice(&line).unwrap())
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["method"], "notifications/cancelled");
    assert_eq!(told[0]["params"]["requestId"], "first");
    for id in ["first", "taken back", "second"] {
        alone.peer(&answer(&json!(id)));
    }
    let heard = std::mem::take(&mut alone.out.to_child[0]).into_pieces();
    let heard = String::from_utf8(heard.concat()).unwrap();
    let heard: Vec<Value> = heard
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[0]["id"], "first");
    assert_eq!(heard[0]["error"]["data"]["reason"], "question-timeout");
    assert_eq!(heard[1], answer(&json!("second")));
    assert_eq!(alone.router.oldest_question(), None);
}

#[test]
fn a_changed_list_is_told_once_a_second() {
    let mut alone = Alone::new();
    alone.peer(&json!({"jsonrpc":"2.0","id":7,"method":"subscriptions/listen"}));
    let changed = |meta: &Value| json!({"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":meta}});
    let of = |id: Value, number: usize| {
        changed(&json!({"io.modelcontextprotocol/subscriptionId":id,"number":number}))
    };
    let plain = |number: usize| changed(&json!({"number":number}));
    assert_eq!(alone.told_json(&plain(0)), Some(plain(0)));
    assert_eq!(alone.told_json(&of(json!("7"), 0)), Some(of(json!(7), 0)));
    assert!(alone.out.timed);
    for number in 1..9 {
        assert_eq!(alone.told_json(&plain(number)), None);
        assert_eq!(alone.told_json(&of(json!(7), number)), None);
    }
    let next = alone.router.next_change().unwrap();
    assert_eq!(next, alone.clock.0 + Duration::from_secs(1));
    alone.router.tell_changes(next, &mut alone.out);
    let told = alone
        .out
        .to_peer
        .drain(..)
        .map(|(_, told)| told.line.joined());
    let told: Vec<Value> = told
        .map(|line| serde_json::from_slice(&line).unwrap())
        .collect();
    assert_eq!(told, [plain(8), of(json!(7), 8)]);
    // A subscription that has ended gets nothing more.
    assert_eq!(alone.told_json(&of(json!(7), 9)), None);
    alone.told_json(&answer(&json!(7)));
    for seconds in 1..3 {
        let next = next + Duration::from_secs(seconds);
        alone.router.tell_changes(next, &mut alone.out);
    }
    assert!(alone.out.to_peer.is_empty());
    assert_eq!(alone.router.next_change(), None);
}

#[test]
fn half_closed_peer_gets_answers_and_no_server_requests() {
    let mut alone = Alone::new();
    alone.peer(&call(1, &json!("token")));
    alone.peer(&json!({"jsonrpc": "2.0", "id": 2, "method": "subscriptions/listen", "params": {}}));
    let question = json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create"});
    assert!(alone.told_json(&question).is_some());
    alone.out = Output::default();
    alone.router.half_closed(&mut alone.out);
    assert_eq!(alone.told_json(&question), None);
    let heard = std::mem::take(&mut alone.out.to_child[0])
        .into_pieces()
        .concat();
    let heard = String::from_utf8(heard).unwrap();
    let heard: Vec<Value> = heard
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert_eq!(
        (&heard[0]["id"], &heard[2]["id"]),
        (&json!("q"), &json!("q"))
    );
    assert_eq!(heard[1]["params"]["requestId"], 2);
    assert_eq!(alone.router.pending_requests(), 1);
    assert!(alone.told_json(&answer(&json!(1))).is_some());
    assert_eq!(alone.router.pending_requests(), 0);
}
