//! The server's questions, and which peer gets them.

mod capabilities;
mod deadlines;

use super::*;
use crate::permissions::Policy;
use crate::router::Presence;
use crate::router::server_requests::{MAX_OPEN_OF_SESSION, MAX_OPEN_OF_USER};

const SAMPLE: &str = r#"{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"_meta":{"progressToken":"p"},"messages":[]}}"#;
const SAMPLING: &str = r#"{"sampling":{}}"#;

/// A question about this task.
fn about_task(task: &str) -> String {
    let related = json!({"io.modelcontextprotocol/related-task": {"taskId": task}});
    json!({"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{"_meta":related}})
        .to_string()
}

impl Bench {
    pub(super) fn legacy_of(&mut self, user: &str) -> SessionId {
        let session = self.attach_user(user);
        self.shake_hands(session, SAMPLING);
        session
    }

    /// Calls a tool; returns the id by which the process knows the call.
    pub(super) fn call(&mut self, session: SessionId, id: u64) -> Value {
        self.peer(
            session,
            &json!({"jsonrpc":"2.0","id":id,"method":"tools/call"}).to_string(),
        );
        self.child_heard(0).remove(0)["id"].clone()
    }

    fn cancel(&mut self, session: SessionId, id: u64) {
        let params = json!({"requestId": id});
        let line = json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":params});
        self.peer(session, &line.to_string());
    }

    /// The process ends for an unknown reason, and the next one gets the messages of one sender at a time.
    pub(super) fn take_turns(&mut self) {
        self.exit_as(0, true, false, true);
        self.start(0);
        let initialize = self.child_heard(0).remove(0)["id"].clone();
        self.done(&initialize);
        self.child_heard(0);
        self.peers_heard();
    }

    /// The process responds.
    pub(super) fn done(&mut self, ours: &Value) {
        self.child(
            0,
            &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string(),
        );
    }

    fn presence(&mut self, session: SessionId, presence: Presence) {
        self.router.set_presence(session, presence, &mut self.out);
    }

    /// The process asks, and gets a refusal; no peer sees the question.
    fn refused(&mut self, question: &str) {
        self.child_heard(0);
        self.child(0, question);
        assert_eq!(self.peers_heard(), []);
        self.hears_refusal();
    }

    fn hears_refusal(&mut self) {
        let lines = self.child_heard(0);
        let error = &lines.last().expect("an answer")["error"];
        assert_eq!(
            (
                &error["code"],
                &error["data"]["reason"],
                &error["data"]["source"]
            ),
            (
                &json!(-32603),
                &json!("ambiguous-requester"),
                &json!("mcp-remote")
            )
        );
    }

    /// The process asks, and this session gets the question.
    fn asked(&mut self, session: SessionId, question: &str) {
        self.child_heard(0);
        self.child(0, question);
        assert_eq!(self.told(session)["method"], "sampling/createMessage");
    }
}

#[test]
fn a_question_goes_to_the_peer_whose_requests_are_all_and_its_answer_comes_back() {
    let mut bench = Bench::default();
    let (rich, idle) = (bench.legacy(SAMPLING), bench.legacy(SAMPLING));
    let call = bench.call(rich, 1);
    bench.child(0, SAMPLE);
    let question = bench.told(rich);
    let ours = question["id"].clone();
    assert_eq!(question["params"]["_meta"]["progressToken"], ours);
    let answer = json!({"jsonrpc":"2.0","id":ours,"result":{"text":"hi"}}).to_string();
    // No other peer can answer it, nor can the asked one under the child's own id.
    bench.peer(idle, &answer);
    bench.peer(rich, r#"{"jsonrpc":"2.0","id":"q","result":{}}"#);
    assert!(bench.child_heard(0).is_empty());
    bench.peer(rich, &json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ours,"progress":1}}).to_string());
    assert_eq!(bench.child_heard(0)[0]["params"]["progressToken"], "p");
    bench.peer(rich, &answer);
    assert_eq!(
        bench.child_heard(0)[0],
        json!({"jsonrpc":"2.0","id":"q","result":{"text":"hi"}})
    );
    bench.peer(rich, &answer);
    assert!(bench.child_heard(0).is_empty());
    // A peer that leaves in between causes an error.
    bench.asked(rich, SAMPLE);
    bench.done(&call);
    bench.told(rich);
    bench.detach(rich);
    let error = bench.child_heard(0).remove(0);
    assert_eq!(
        (&error["id"], &error["error"]["code"]),
        (&json!("q"), &json!(-32603))
    );
}

/// Its answer stood behind requests that were not read while others waited for their turn, which waited for the answer.
#[test]
fn a_session_with_a_full_queue_is_read_while_the_process_waits_for_its_answer() {
    let mut bench = Bench::with_places(1);
    let peer = bench.legacy(SAMPLING);
    bench.call(peer, 0);
    let filler = "x".repeat(1 << 20);
    let call = |bench: &mut Bench, id: u64| {
        let params = json!({"filler": filler});
        let line = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params});
        bench.peer(peer, &line.to_string());
    };
    call(&mut bench, 1);
    let is_full = |bench: &Bench, line: &str| {
        let router = &bench.router;
        router.is_full_for(ProcessId::FIRST, peer, permit(line).message())
    };
    let request = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call"}"#;
    let notification = r#"{"jsonrpc":"2.0","method":"notifications/own"}"#;
    assert!(is_full(&bench, request) && is_full(&bench, notification));
    // What does not wait in the queue does not wait for it either.
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":0,"progress":1}}"#,
    ] {
        assert!(!is_full(&bench, line), "{line}");
    }
    bench.router.take_room(ProcessId::FIRST);
    bench.child(0, SAMPLE);
    let ours = bench.told(peer)["id"].clone();
    assert_eq!(bench.router.take_room(ProcessId::FIRST).sessions, [peer]);
    assert!(!is_full(&bench, request) && !is_full(&bench, notification));
    call(&mut bench, 2);
    let refused = bench.told(peer);
    assert_eq!(refused["error"]["data"]["reason"], "too-many-waiting");
    assert_eq!(refused["error"]["data"]["executed"], "no");
    bench.peer(peer, notification);
    bench.peer(
        peer,
        &json!({"jsonrpc": "2.0", "id": ours, "result": {}}).to_string(),
    );
    assert_eq!(
        bench.child_heard(0),
        [json!({"jsonrpc": "2.0", "id": "q", "result": {}})]
    );
    assert!(is_full(&bench, request));
    assert_eq!(bench.router.pending_requests(peer), 2);
}

/// A health check was taken for another user, so that nobody was asked any more.
#[test]
fn the_proxys_own_requests_are_nobodys() {
    let mut bench = Bench::default();
    let peer = bench.legacy_of("alice");
    for ends in [false, true] {
        let own = bench.router.attach(Profile::own());
        bench.peer(own, r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#);
        let ping = bench.child_heard(0).remove(0)["id"].clone();
        let call = bench.call(peer, 1);
        bench.asked(peer, SAMPLE);
        if ends {
            // It has taken too long.
            bench.detach(own);
            bench.child_heard(0);
            bench.asked(peer, SAMPLE);
        } else {
            bench.done(&ping);
            assert_eq!(bench.told(own)["id"], 0);
            bench.detach(own);
        }
        bench.done(&call);
        bench.told(peer);
        bench.asked(peer, SAMPLE);
    }
}

/// A peer that keeps a request in flight was asked instead of the one that called the tool: the peer
/// with the youngest request was taken for the one that was meant.
#[test]
fn with_several_at_work_nobody_is_asked() {
    let mut bench = Bench::default();
    let (victim, weak) = (bench.legacy_of("victim"), bench.legacy_of("weak"));
    let held = bench.call(weak, 1);
    let call = bench.call(victim, 1);
    bench.refused(SAMPLE);
    bench.done(&call);
    bench.told(victim);
    bench.asked(weak, SAMPLE);
    bench.done(&held);
    bench.told(weak);
    bench.call(victim, 3);
    bench.asked(victim, SAMPLE);
}

/// A process may continue with what was cancelled, and ask about it.
#[test]
fn what_was_cancelled_counts_until_the_process_has_answered_it() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy_of("alice"), bench.legacy_of("bob"));
    let cancelled = bench.call(a, 1);
    bench.cancel(a, 1);
    bench.call(b, 1);
    bench.refused(SAMPLE);
    // The id is reused: the router no longer tracks the first request.
    let second = bench.call(a, 1);
    bench.done(&second);
    bench.told(a);
    bench.refused(SAMPLE);
    bench.done(&cancelled);
    assert_eq!(bench.peers_heard(), []);
    bench.asked(b, SAMPLE);
}

#[test]
fn more_cancelled_requests_than_are_looked_out_for_count_too() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy_of("alice"), bench.legacy_of("bob"));
    let cancelled: Vec<Value> = (0..300)
        .map(|id| {
            let ours = bench.call(a, id);
            bench.cancel(a, id);
            bench.child_heard(0);
            ours
        })
        .collect();
    bench.call(b, 1);
    for ours in cancelled.iter().rev() {
        bench.refused(SAMPLE);
        bench.done(ours);
        bench.peers_heard();
    }
    bench.asked(b, SAMPLE);
}

#[test]
fn requests_of_a_session_that_has_ended_count_until_they_are_answered() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy_of("alice"), bench.legacy_of("bob"));
    let call = bench.call(a, 1);
    bench.detach(a);
    bench.refused(SAMPLE);
    bench.call(b, 1);
    bench.refused(SAMPLE);
    // Not even for the same user.
    let again = bench.legacy_of("alice");
    bench.refused(SAMPLE);
    bench.done(&call);
    bench.asked(b, SAMPLE);
    bench.detach(b);
    bench.refused(SAMPLE);
    // A new process does not know them.
    bench.exit(0, true);
    bench.start(0);
    let id = bench.child_heard(0).remove(0)["id"].clone();
    bench.done(&id);
    bench.peers_heard();
    bench.asked(again, SAMPLE);
}

#[test]
fn a_user_that_comes_back_is_asked_what_its_ended_session_led_to() {
    let mut bench = Bench::default();
    let a = bench.legacy_of("alice");
    bench.call(a, 1);
    bench.detach(a);
    bench.child_heard(0);
    let again = bench.legacy_of("alice");
    bench.asked(again, SAMPLE);
    bench.call(again, 1);
    bench.asked(again, SAMPLE);
}

#[test]
fn with_nothing_in_flight_the_only_peer_is_asked() {
    let mut bench = Bench::default();
    let a = bench.legacy_of("alice");
    bench.asked(a, SAMPLE);
    let b = bench.legacy_of("bob");
    bench.refused(SAMPLE);
    bench.detach(b);
    // It may be about what bob did.
    bench.refused(SAMPLE);
    bench.call(a, 1);
    bench.asked(a, SAMPLE);
}

/// A peer that has sent nothing to the process cannot be meant.
#[test]
fn peers_of_the_other_process_do_not_count() {
    let mut bench = Bench::default();
    let a = bench.legacy_of("alice");
    let _silent = bench.attach_user("bob");
    let modern = bench.attach_user("carol");
    bench.peer(modern, DISCOVER);
    bench.asked(a, SAMPLE);
}

#[test]
fn a_session_that_waits_for_its_client_is_not_asked() {
    let mut bench = Bench::default();
    let a = bench.legacy_of("alice");
    bench.call(a, 1);
    // It may return at once, and is asked then.
    bench.presence(a, Presence::Lost);
    bench.child(0, SAMPLE);
    assert!(bench.peers_heard().is_empty() && bench.child_heard(0).is_empty());
    bench.presence(a, Presence::Connected);
    assert_eq!(bench.told(a)["method"], "sampling/createMessage");
    // It does not return.
    bench.presence(a, Presence::Lost);
    bench.child(0, SAMPLE);
    assert!(bench.peers_heard().is_empty() && bench.child_heard(0).is_empty());
    bench.presence(a, Presence::Away);
    bench.hears_refusal();
    bench.refused(SAMPLE);
    bench.presence(a, Presence::Connected);
    bench.asked(a, SAMPLE);
    // It ends.
    bench.presence(a, Presence::Lost);
    bench.child(0, SAMPLE);
    bench.detach(a);
    let errors = bench.child_heard(0);
    let refused = |line: &&Value| line["id"] == "q" && line["error"]["code"] == -32603;
    assert_eq!(errors.iter().filter(refused).count(), 2 + 1);
}

/// A question that waits for a session does not go to another one that exists by then.
#[test]
fn a_question_that_waited_is_asked_only_where_it_is_still_certain() {
    let mut bench = Bench::default();
    let a = bench.legacy_of("alice");
    bench.presence(a, Presence::Lost);
    bench.child(0, SAMPLE);
    let b = bench.legacy_of("bob");
    bench.presence(a, Presence::Connected);
    assert!(bench.peers_heard().is_empty());
    bench.hears_refusal();
    // Nor does it belong to the next session of the same user.
    bench.call(a, 1);
    bench.presence(a, Presence::Lost);
    bench.child(0, SAMPLE);
    bench.detach(b);
    let again = bench.legacy_of("alice");
    bench.detach(a);
    assert!(bench.peers_heard().is_empty());
    let lines = bench.child_heard(0);
    assert!(
        lines
            .iter()
            .any(|line| line["id"] == "q" && line["error"]["code"] == -32603)
    );
    bench.presence(again, Presence::Connected);
    assert!(bench.peers_heard().is_empty());
}

#[test]
fn a_question_about_a_task_goes_to_the_only_session_of_its_owner() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy_of("alice"), bench.legacy_of("bob"));
    let call = bench.call(a, 1);
    let made = json!({"jsonrpc":"2.0","id":call,"result":{"task":{"taskId":"t"}}});
    bench.child(0, &made.to_string());
    bench.told(a);
    // Whichever peer is active.
    bench.call(b, 1);
    bench.asked(a, &about_task("t"));
    bench.refused(&about_task("unknown"));
    bench.presence(a, Presence::Away);
    bench.refused(&about_task("t"));
    bench.presence(a, Presence::Connected);
    let second = bench.legacy_of("alice");
    bench.refused(&about_task("t"));
    bench.detach(a);
    bench.asked(second, &about_task("t"));
    bench.detach(second);
    bench.refused(&about_task("t"));
}

#[test]
fn a_question_waits_for_the_end_of_the_handshake_and_can_be_taken_back() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}}"#);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
    );
    for id in [0, 1] {
        bench.child(
            0,
            &json!({"jsonrpc":"2.0","id":id,"method":"sampling/createMessage"}).to_string(),
        );
    }
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    bench.told(a);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
    );
    let question = bench.told(a);
    assert_eq!(question["method"], "sampling/createMessage");
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#,
    );
    assert_eq!(bench.told(a)["params"]["requestId"], question["id"]);
    bench.child(0, r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#);
    bench
        .child_heard(0)
        .iter()
        .find(|line| **line == json!({"jsonrpc":"2.0","id":2,"result":{}}))
        .unwrap();
}

/// Each of them may be as long as a message of the server: 64 MiB.
#[test]
fn questions_that_wait_are_few_and_short() {
    let mut bench = Bench::default();
    let a = bench.attach();
    bench.peer(a, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"sampling":{}}}}"#);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    bench.child_heard(0);
    let ask = |id: usize, text: &str| {
        json!({"jsonrpc":"2.0","id":id,"method":"sampling/createMessage","params":{"text":text}})
            .to_string()
    };
    bench.child(0, &ask(0, &"x".repeat(64 * 1024)));
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32603);
    for id in 0..100 {
        bench.child(0, &ask(id, ""));
    }
    assert_eq!(bench.child_heard(0).len(), 100 - 8);
}

#[test]
fn half_closed_peer_gets_answers_and_no_server_requests() {
    let mut bench = Bench::default();
    let a = bench.legacy(SAMPLING);
    let call = bench.call(a, 1);
    bench.asked(a, SAMPLE);
    bench.router.half_closed(a, &mut bench.out);
    let failed = bench.child_heard(0).remove(0);
    assert_eq!(failed["id"], "q");
    assert_eq!(failed["error"]["message"], "the client has disconnected");
    bench.refused(SAMPLE);
    assert_eq!(bench.router.pending_requests(a), 1);
    bench.done(&call);
    assert_eq!(bench.told(a)["id"], 1);
    assert_eq!(bench.router.pending_requests(a), 0);
}

#[test]
fn half_closed_peer_has_no_subscriptions() {
    let mut bench = Bench::default();
    let a = bench.legacy(SAMPLING);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:1"}}"#,
    );
    let subscribe = bench.child_heard(0).remove(0);
    bench.done(&subscribe["id"]);
    bench.told(a);
    bench.router.half_closed(a, &mut bench.out);
    let told = bench.child_heard(0).remove(0);
    assert_eq!(told["method"], "resources/unsubscribe");
    assert_eq!(told["params"]["uri"], "x:1");
}
