//! Tasks, and their owners.

use super::*;

#[test]
fn tasks_belong_to_the_user_who_made_them() {
    let mut bench = Bench::default();
    let (alice, bob, alice_again) = (
        bench.attach_user("alice"),
        bench.attach_user("bob"),
        bench.attach_user("alice"),
    );
    for session in [alice, bob, alice_again] {
        bench.shake_hands(session, "{}");
    }
    bench.peer(
        alice,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","task":{}}}"#,
    );
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"task":{{"taskId":"T","status":"working"}}}}}}"#));
    bench.told(alice);
    for method in ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"] {
        let request =
            json!({"jsonrpc":"2.0","id":2,"method":method,"params":{"taskId":"T"}}).to_string();
        bench.peer(bob, &request);
        assert_eq!(bench.told(bob)["error"]["code"], -32602);
        assert!(bench.child_heard(0).is_empty());
        bench.peer(alice_again, &request);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(
            0,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
        );
        bench.told(alice_again);
    }
    for (session, tasks) in [(alice, json!([{"taskId":"T"}])), (bob, json!([]))] {
        bench.peer(session, r#"{"jsonrpc":"2.0","id":3,"method":"tasks/list"}"#);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(0, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tasks":[{{"taskId":"other"}},{{"taskId":"T"}}],"nextCursor":"c"}}}}"#));
        assert_eq!(
            bench.told(session)["result"],
            json!({"tasks":tasks,"nextCursor":"c"})
        );
    }
    bench.child(0, r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"T","status":"completed"}}"#);
    let told: Vec<SessionId> = bench
        .peers_heard()
        .into_iter()
        .map(|(session, _)| session)
        .collect();
    assert_eq!(told, [alice, alice_again]);
}

/// A response with the id of another user's task took the task away from its owner.
#[test]
fn a_task_stays_with_who_made_it() {
    let mut bench = Bench::default();
    let (alice, bob) = (bench.attach_user("alice"), bench.attach_user("bob"));
    for session in [alice, bob] {
        bench.shake_hands(session, "{}");
        bench.peer(session, r#"{"jsonrpc":"2.0","id":1,"method":"x/make"}"#);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(
            0,
            &json!({"jsonrpc":"2.0","id":id,"result":{"taskId":"T"}}).to_string(),
        );
        bench.told(session);
    }
    let about = r#"{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"T"}}"#;
    bench.peer(bob, about);
    assert_eq!(bench.told(bob)["error"]["code"], -32602);
    bench.peer(alice, about);
    assert_eq!(bench.child_heard(0)[0]["method"], "tasks/get");
}

const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A question that belongs to a task went to whichever peer was active, of any user.
#[test]
fn a_question_of_a_task_goes_to_its_owner() {
    let sampling = r#"{"sampling":{}}"#;
    let mut bench = Bench::default();
    let (alice, bob) = (bench.attach_user("alice"), bench.attach_user("bob"));
    for session in [alice, bob] {
        bench.shake_hands(session, sampling);
    }
    make_task(&mut bench, alice);
    bench.peer(bob, r#"{"jsonrpc":"2.0","id":2,"method":"tools/call"}"#);
    bench.child_heard(0);
    let ask = |id: i32, task: Value| {
        let params = json!({"_meta":{RELATED:{"taskId":task}}});
        json!({"jsonrpc":"2.0","id":id,"method":"sampling/createMessage","params":params})
            .to_string()
    };
    bench.child(0, &ask(1, json!("T")));
    bench.told(alice);
    for (id, nobodys) in [(2, json!("other")), (3, json!(7))] {
        bench.child(0, &ask(id, nobodys));
        assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32603);
    }
    bench.detach(alice);
    bench.child_heard(0);
    bench.child(0, &ask(4, json!("T")));
    assert_eq!(bench.child_heard(0)[0]["error"]["code"], -32603);
    assert!(bench.peers_heard().is_empty());
}

fn make_task(bench: &mut Bench, session: SessionId) -> Value {
    bench.peer(
        session,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"p"},"task":{}}}"#,
    );
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":id,"result":{"task":{"taskId":"T"}}}).to_string(),
    );
    bench.told(session);
    id
}

/// The official TypeScript SDK queues the response to a request with the task that it names.
#[test]
fn nobody_names_somebody_elses_task() {
    let mut bench = Bench::default();
    let (alice, bob) = (bench.attach_user("alice"), bench.attach_user("bob"));
    for session in [alice, bob] {
        bench.shake_hands(session, "{}");
    }
    make_task(&mut bench, alice);
    for (related, owners) in [
        (r#"{"taskId":"T"}"#, true),
        (r#"{"taskId":"T","taskId":"T"}"#, false),
        ("{}", false),
        ("null", false),
    ] {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{"{RELATED}":{related}}}}}}}"#
        );
        bench.peer(bob, &call);
        assert_eq!(bench.told(bob)["error"]["code"], -32602);
        bench.peer(alice, &call);
        let passed = bench.child_heard(0);
        assert_eq!(passed.len(), usize::from(owners), "{related}");
        if let Some(call) = passed.first() {
            bench.child(
                0,
                &json!({"jsonrpc":"2.0","id":call["id"],"result":{}}).to_string(),
            );
        }
        bench.told(alice);
    }
}

/// Once its request was answered with a task, the task's progress reached no peer.
#[test]
fn progress_of_a_task_goes_on_under_the_token_of_its_request() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    let id = make_task(&mut bench, a);
    let progress =
        json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":id,"progress":1}})
            .to_string();
    bench.child(0, &progress);
    assert_eq!(bench.told(a)["params"]["progressToken"], "p");
    bench.detach(b);
    bench.child(0, &progress);
    bench.told(a);
    bench.detach(a);
    bench.child(0, &progress);
    assert!(bench.peers_heard().is_empty());
    assert!(!bench.router.processes[0].tasks.has_progress());
}

/// A response to `tasks/list` with a duplicate `tasks` was passed on unchanged.
#[test]
fn a_list_of_tasks_that_cannot_be_cut_down_is_withheld() {
    let mut bench = Bench::default();
    let a = bench.legacy("{}");
    for list in [r#"{"tasks":[],"tasks":[{"taskId":"T"}]}"#, "{}"] {
        bench.peer(a, r#"{"jsonrpc":"2.0","id":1,"method":"tasks/list"}"#);
        let id = bench.child_heard(0)[0]["id"].clone();
        bench.child(
            0,
            &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{list}}}"#),
        );
        assert_eq!(bench.told(a)["error"]["data"]["reason"], "unreadable-list");
    }
}

/// The next process may give the same id to another user's task.
#[test]
fn a_request_about_a_task_does_not_outlive_the_process_that_has_it() {
    let mut bench = Bench::with_places(1);
    let a = bench.legacy("{}");
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#;
    bench.peer(a, call);
    let ours = bench.child_heard(0).remove(0)["id"].clone();
    let made = json!({"jsonrpc":"2.0","id":ours,"result":{"task":{"taskId":"t1"}}});
    bench.child(0, &made.to_string());
    bench.told(a);
    bench.peer(a, call);
    let related = json!({"io.modelcontextprotocol/related-task":{"taskId":"t1"}});
    for line in [
        json!({"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"t1"}}),
        json!({"jsonrpc":"2.0","id":3,"method":"x","params":{"_meta":related}}),
        json!({"jsonrpc":"2.0","id":4,"method":"x","params":{}}),
    ] {
        bench.peer(a, &line.to_string());
    }
    assert_eq!(bench.child_heard(0).len(), 1);
    bench.exit(0, true);
    let told = bench.peers_heard();
    let executed = |line: &Value| line["error"]["data"]["executed"].clone();
    let told: Vec<_> = told
        .iter()
        .map(|(_, line)| (line["id"].clone(), executed(line)))
        .collect();
    let expected = [(1, "unknown"), (2, "no"), (3, "no")];
    assert_eq!(
        told,
        expected.map(|(id, executed)| (json!(id), json!(executed)))
    );
}

/// Bug: an id stood for the newest request that could have it, so that one of long ago got no answer, and a task no
/// progress.
#[test]
fn a_request_of_long_ago_is_answered_and_its_task_has_progress() {
    let mut bench = Bench::default();
    let (alice, bob) = (bench.legacy("{}"), bench.legacy("{}"));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"p"}}}"#;
    bench.peer(alice, call);
    let old = bench.child_heard(0)[0]["id"].clone();
    let number = bench.number(&old);
    let say_progress = |bench: &mut Bench| {
        let params = json!({"progressToken":old,"progress":1});
        let line = json!({"jsonrpc":"2.0","method":"notifications/progress","params":params});
        bench.child(0, &line.to_string());
        assert_eq!(bench.told(alice)["params"]["progressToken"], "p");
    };
    for rounds in 1..4 {
        bench.router.peers.numbers.newest = number + (rounds << 30) - 1;
        let new = bench.call(bob, 1);
        assert_ne!(old, new);
        say_progress(&mut bench);
        bench.done(&new);
        bench.told(bob);
        if rounds == 2 {
            let task = json!({"task":{"taskId":"T","status":"working"}});
            let line = json!({"jsonrpc":"2.0","id":old,"result":task});
            bench.child(0, &line.to_string());
            assert_eq!(bench.told(alice)["id"], 1);
        }
    }
}
