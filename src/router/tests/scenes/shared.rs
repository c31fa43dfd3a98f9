//! What all peers share and each has separately: subscriptions and log levels.

use super::*;
use crate::permissions::Policy;
use crate::router::Counted;

#[test]
fn subscriptions_are_counted_per_uri() {
    let mut bench = Bench::default();
    let (a, b, c) = (bench.legacy("{}"), bench.legacy("{}"), bench.legacy("{}"));
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"f:///d"}}"#;
    let unsubscribe =
        r#"{"jsonrpc":"2.0","id":2,"method":"resources/unsubscribe","params":{"uri":"f:///d"}}"#;
    bench.peer(a, subscribe);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#),
    );
    bench.told(a);
    bench.peer(b, subscribe);
    assert_eq!(bench.told(b), json!({"jsonrpc":"2.0","id":1,"result":{}}));
    assert!(bench.child_heard(0).is_empty());
    for uri in ["f:///d", "f:///d/part"] {
        bench.child(0, &json!({"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":uri}}).to_string());
        let told: Vec<SessionId> = bench
            .peers_heard()
            .into_iter()
            .map(|(session, _)| session)
            .collect();
        assert_eq!(told, [a, b]);
    }
    bench.child(0, r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///dd"}}"#);
    bench.peer(b, unsubscribe);
    assert_eq!(bench.told(b)["result"], json!({}));
    assert!(bench.child_heard(0).is_empty());
    bench.detach(a);
    assert_eq!(bench.child_heard(0)[0]["method"], "resources/unsubscribe");
    // A subscription that the child refuses does not count.
    bench.peer(c, subscribe);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(
        0,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":""}}}}"#),
    );
    bench.told(c);
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///d"}}"#,
    );
    assert!(bench.peers_heard().is_empty());
}

/// Two peers that subscribed to one resource before the child had responded to the first of them each
/// reached the child, and the first to leave ended the subscription of both.
#[test]
fn who_subscribes_at_the_same_moment_shares_the_childs_answer() {
    let subscribe = |id: i32| {
        json!({"jsonrpc":"2.0","id":id,"method":"resources/subscribe","params":{"uri":"f:///d"}})
            .to_string()
    };
    let update =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"f:///d"}}"#;
    let mut bench = Bench::default();
    let (a, b, c) = (bench.legacy("{}"), bench.legacy("{}"), bench.legacy("{}"));
    for (id, peer) in [a, b, c].into_iter().enumerate() {
        bench.peer(peer, &subscribe(id as i32));
    }
    let asked = bench.child_heard(0);
    assert_eq!(asked.len(), 1, "{asked:?}");
    // The child's response is shared, so no peer can cancel it or take it along when it leaves.
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":0}}"#,
    );
    bench.detach(a);
    assert!(bench.child_heard(0).is_empty());
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":asked[0]["id"],"result":{"own":"a"}}).to_string(),
    );
    assert_eq!(
        bench.peers_heard(),
        [
            (b, json!({"jsonrpc":"2.0","id":1,"result":{}})),
            (c, json!({"jsonrpc":"2.0","id":2,"result":{}}))
        ]
    );
    bench.child(0, update);
    assert_eq!(bench.peers_heard().len(), 2);
    bench.detach(b);
    assert!(bench.child_heard(0).is_empty());
    bench.detach(c);
    assert_eq!(bench.child_heard(0)[0]["method"], "resources/unsubscribe");

    // A refusal is shared, too, and the next peer sends a new request.
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    bench.peer(a, &subscribe(1));
    bench.peer(b, &subscribe(1));
    let asked = bench.child_heard(0);
    assert_eq!(asked.len(), 1, "{asked:?}");
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":asked[0]["id"],"error":{"code":1,"message":"no"}}).to_string(),
    );
    let told = bench.peers_heard();
    assert_eq!(told.len(), 2);
    assert!(
        told.iter()
            .all(|(_, line)| line["error"]["message"] == "no")
    );
    bench.child(0, update);
    assert!(bench.peers_heard().is_empty());

    // A subscription that a process had not confirmed when it died is not renewed: the peers got an error.
    bench.peer(a, &subscribe(1));
    bench.peer(b, &subscribe(1));
    bench.exit(0, true);
    assert_eq!(bench.peers_heard().len(), 2);
    bench.start(0);
    let handshake = bench.child_heard(0).remove(0);
    bench.child(
        0,
        &json!({"jsonrpc":"2.0","id":handshake["id"],"result":{}}).to_string(),
    );
    assert_eq!(bench.child_heard(0).len(), 1);
    assert!(bench.router.processes[0].subscriptions.is_empty());
}

#[test]
fn a_role_can_be_kept_from_log_messages() {
    let mut bench = Bench::default();
    let rules = json!({"allowedMethods": ["*"], "blockedMethods": ["notifications/message"]});
    let policy = json!({"permissions": {"user": rules}}).to_string();
    let rights = Policy::parse(&policy).unwrap().rights(&["user".to_owned()]);
    let kept = bench.router.attach(Profile {
        rights,
        ..Profile::anybody()
    });
    bench.shake_hands(kept, "{}");
    let other = bench.legacy("{}");
    bench.child(
        0,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}}"#,
    );
    bench.told(other);
}

#[test]
fn every_peer_has_its_log_level_and_the_child_the_most_verbose() {
    let mut bench = Bench::default();
    let (a, b, c) = (bench.legacy("{}"), bench.legacy("{}"), bench.legacy("{}"));
    let set = |level: &str| {
        json!({"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":level}})
            .to_string()
    };
    let say = |level: &str| {
        json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":level,"data":1}})
            .to_string()
    };
    let heard = |bench: &mut Bench, level: &str| -> Vec<SessionId> {
        bench.child(0, &say(level));
        bench
            .peers_heard()
            .into_iter()
            .map(|(session, _)| session)
            .collect()
    };
    assert_eq!(heard(&mut bench, "debug"), [a, b, c]);
    for (peer, level) in [(a, "error"), (b, "debug")] {
        bench.peer(peer, &set(level));
        let request = bench.child_heard(0).remove(0);
        assert_eq!(request["params"]["level"], level);
        bench.child(
            0,
            &format!(
                r#"{{"jsonrpc":"2.0","id":{},"result":{{}}}}"#,
                request["id"]
            ),
        );
        assert_eq!(bench.told(peer)["result"], json!({}));
    }
    bench.peer(a, &set("warning"));
    assert_eq!(bench.told(a)["result"], json!({}));
    assert!(bench.child_heard(0).is_empty());
    assert_eq!(heard(&mut bench, "debug"), [b]);
    assert_eq!(heard(&mut bench, "info"), [b, c]);
    assert_eq!(heard(&mut bench, "warning"), [a, b, c]);
    bench.detach(b);
    assert_eq!(bench.child_heard(0)[0]["params"]["level"], "warning");
}

#[test]
fn a_modern_servers_logs_reach_the_only_peer_that_wants_them() {
    let mut bench = Bench::default();
    let (a, b) = (bench.modern(), bench.attach());
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"}}}"#;
    let say =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    bench.peer(a, call);
    bench.child(0, say);
    bench.told(a);
    bench.peer(b, call);
    bench.child(0, say);
    assert!(bench.peers_heard().is_empty());
}

/// Bug: once a peer had left, what the server logged about its request, which it still worked on, went to another.
#[test]
fn a_modern_servers_logs_about_the_request_of_a_peer_that_has_left_reach_nobody_else() {
    let mut bench = Bench::default();
    let (a, b) = (bench.modern(), bench.attach_user("bob"));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"}}}"#;
    let say =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    bench.peer(a, call);
    let left = bench.child_heard(0).remove(0)["id"].clone();
    bench.detach(a);
    bench.peer(b, call);
    bench.child(0, say);
    assert_eq!(bench.peers_heard(), []);
    // A request without log messages has none.
    let again = bench.attach();
    bench.peer(
        again,
        &call.replace("io.modelcontextprotocol/logLevel", "x"),
    );
    bench.detach(again);
    bench.done(&left);
    bench.child(0, say);
    bench.told(b);
    // Another session of the same user may see them.
    bench.detach(b);
    let b = bench.attach_user("bob");
    bench.peer(b, call);
    bench.child(0, say);
    bench.told(b);
}

/// Bug: only the log messages of a legacy server on a shared process were withheld.
#[test]
fn who_may_have_no_log_messages_gets_none() {
    let policy = r#"{"permissions":{"user":{"allowedMethods":["*"],"blockedMethods":["notifications/message"]}}}"#;
    let rights = Policy::parse(policy).unwrap().rights(&["user".to_owned()]);
    let profile = || Profile {
        rights: rights.clone(),
        ..Profile::anybody()
    };
    let say =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"info"}}}"#;
    let mut bench = Bench::default();
    bench.modern();
    let peer = bench.router.attach(profile());
    bench.peer(peer, call);
    bench.child(0, say);
    assert_eq!(bench.peers_heard(), []);

    let (mut isolated, mut out) = (IsolatedRouter::default(), Output::default());
    isolated.attach(profile(), &Counted::default());
    let say = Message::read(say.into(), MAX_CHILD_DEPTH).unwrap();
    isolated.child_message(&say, Instant::now, &mut out);
    assert!(out.to_peer.is_empty());
}

/// A server that refused one peer's level did not get the others' level again when it returned.
#[test]
fn a_level_that_is_refused_leaves_that_of_the_others() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    for (peer, level, answer) in [
        (a, "error", json!({"result":{}})),
        (b, "debug", json!({"error":{"code":1,"message":"no"}})),
    ] {
        bench.peer(
            peer,
            &json!({"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":level}})
                .to_string(),
        );
        let mut line = answer;
        line["jsonrpc"] = json!("2.0");
        line["id"] = bench.child_heard(0)[0]["id"].clone();
        bench.child(0, &line.to_string());
        bench.told(peer);
    }
    bench.exit(0, true);
    bench.start(0);
    let id = bench.child_heard(0)[0]["id"].clone();
    bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
    assert_eq!(bench.child_heard(0)[1]["params"]["level"], "error");
}

/// A refusal took the session's earlier level, too, so that it got what it did not want to hear.
#[test]
fn a_session_whose_level_is_refused_keeps_the_one_before() {
    let mut bench = Bench::default();
    let peer = bench.legacy("{}");
    let ask = |bench: &mut Bench, id: u64, level: &str| {
        let params = json!({"level": level});
        let line = json!({"jsonrpc":"2.0","id":id,"method":"logging/setLevel","params":params});
        bench.peer(peer, &line.to_string());
        bench.child_heard(0).remove(0)["id"].clone()
    };
    let answer = |bench: &mut Bench, id: &Value, refused: bool| {
        let mut line = json!({"jsonrpc":"2.0","id":id,"result":{}});
        if refused {
            line = json!({"jsonrpc":"2.0","id":id,"error":{"code":1,"message":"no"}});
        }
        bench.child(0, &line.to_string());
        bench.told(peer);
    };
    let hears = |bench: &mut Bench, level: &str| {
        bench.child(0, &json!({"jsonrpc":"2.0","method":"notifications/message","params":{"level":level,"data":1}}).to_string());
        !bench.peers_heard().is_empty()
    };
    let id = ask(&mut bench, 1, "error");
    answer(&mut bench, &id, false);
    let id = ask(&mut bench, 2, "debug");
    answer(&mut bench, &id, true);
    assert!(!hears(&mut bench, "warning") && hears(&mut bench, "error"));
    // Nor does it keep one of several that are refused together.
    let open = [(3, "debug"), (4, "info")].map(|(id, level)| ask(&mut bench, id, level));
    for id in &open {
        answer(&mut bench, id, true);
    }
    assert!(!hears(&mut bench, "warning") && hears(&mut bench, "error"));
    // A process that ends has agreed to nothing.
    ask(&mut bench, 5, "debug");
    bench.exit(0, true);
    bench.told(peer);
    assert!(!hears(&mut bench, "warning") && hears(&mut bench, "error"));
}

/// Guesses at the ids of others were dropped without a word; late answers are nobody's fault.
#[test]
fn only_an_answer_under_an_id_that_was_not_given_is_suspicious() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    let call = |bench: &mut Bench, peer, id: u64| {
        let line = json!({"jsonrpc":"2.0","id":id,"method":"tools/call"});
        bench.peer(peer, &line.to_string());
        bench.child_heard(0).remove(0)["id"].clone()
    };
    let is_suspicious = |bench: &mut Bench, id: &Value| {
        bench.child(0, &json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string());
        std::mem::take(&mut bench.out.unasked)
    };
    let [answered, cancelled, open] = [1, 2, 3].map(|id| call(&mut bench, a, id));
    let forgotten = call(&mut bench, b, 1);
    bench.peer(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#,
    );
    bench.detach(b);
    for id in [&answered, &answered, &cancelled, &cancelled] {
        assert!(!is_suspicious(&mut bench, id));
    }
    for id in [
        json!(1),
        json!("x"),
        json!((1u64 << 31) - 1),
        json!(1u64 << 40),
    ] {
        let number = RequestId::parse(id.to_string().as_bytes());
        let ids = &bench.router.processes[0].ids;
        let numbers = &bench.router.peers.numbers;
        let is_guess = number.is_some_and(|id| ids.number(&id, numbers).is_none());
        assert_eq!(is_suspicious(&mut bench, &id), is_guess, "{id}");
    }
    // An id that a user has guessed may be one that was given, but hardly one of the last millions.
    bench.router.peers.numbers.newest += 1 << 25;
    for id in [&open, &forgotten] {
        assert!(!is_suspicious(&mut bench, id));
    }
    for id in [&open, &forgotten, &answered, &cancelled] {
        assert!(is_suspicious(&mut bench, id));
    }
}

/// Some servers send it for every `tools/list`, and each notified peer requests that list: four
/// peers got 1,411 notifications in 1.5 s.
#[test]
fn peers_are_told_of_a_changed_list_once_a_second_and_of_the_last_change_certainly() {
    let mut bench = Bench::default();
    let (a, b) = (bench.legacy("{}"), bench.legacy("{}"));
    let changed = |list: &str, number: usize| json!({"jsonrpc":"2.0","method":format!("notifications/{list}/list_changed"),"params":{"_meta":{"number":number}}});
    let say =
        |bench: &mut Bench, list: &str, number| bench.child(0, &changed(list, number).to_string());
    for number in 0..100 {
        say(&mut bench, "tools", number);
    }
    assert!(std::mem::take(&mut bench.out.timed));
    say(&mut bench, "prompts", 0);
    say(&mut bench, "resources", 0);
    assert!(!bench.out.timed);
    let mut expected: Vec<(SessionId, Value)> = Vec::new();
    for list in ["tools", "prompts", "resources"] {
        expected.extend([a, b].map(|to| (to, changed(list, 0))));
    }
    assert_eq!(bench.peers_heard(), expected);
    // A peer that comes later has not been notified yet.
    let late = bench.legacy("{}");
    say(&mut bench, "tools", 100);
    assert_eq!(bench.told(late), changed("tools", 100));
    bench.detach(b);
    let next = bench.router.next_change().unwrap();
    assert_eq!(next, bench.clock.0 + Duration::from_secs(1));
    bench.clock.0 = next;
    bench.router.tell_changes(next, &mut bench.out);
    assert_eq!(bench.told(a), changed("tools", 100));
    bench.router.tell_changes(next, &mut bench.out);
    assert_eq!(bench.peers_heard(), []);
    // Other notifications pass at once.
    for _ in 0..2 {
        bench.child(0, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
        assert_eq!(bench.peers_heard().len(), 2);
    }
    bench.clock.0 += Duration::from_secs(1);
    let now = bench.clock.0;
    bench.router.tell_changes(now, &mut bench.out);
    assert_eq!(bench.router.next_change(), None);
}
