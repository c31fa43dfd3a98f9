//! Server requests without an answer.

use super::*;

#[test]
fn a_client_that_answers_nothing_is_asked_no_more() {
    let mut bench = Bench::default();
    let peer = bench.legacy(SAMPLING);
    let call = bench.call(peer, 1);
    let ask = |n: usize| SAMPLE.replace(r#""id":"q""#, &format!(r#""id":{n}"#));
    for n in 0..MAX_OPEN_OF_SESSION {
        bench.child(0, &ask(n));
    }
    let asked = bench.peers_heard();
    assert_eq!(asked.len(), MAX_OPEN_OF_SESSION);
    assert_eq!(bench.child_heard(0), [json!(null); 0]);
    bench.child(0, &ask(1000));
    assert_eq!(bench.peers_heard(), []);
    let refusal = bench.child_heard(0).remove(0);
    assert_eq!(refusal["id"], 1000);
    assert_eq!(refusal["error"]["data"]["reason"], "too-many-questions");
    // Each answer makes room for one more.
    let answer = json!({"jsonrpc": "2.0", "id": asked[0].1["id"], "result": {}});
    bench.peer(peer, &answer.to_string());
    assert_eq!(bench.child_heard(0)[0]["id"], 0);
    bench.child(0, &ask(1001));
    assert_eq!(bench.peers_heard().len(), 1);
    bench.done(&call);
}

/// The id, reason and `executed` of the error that the process gets for its question.
fn timed_out(line: &Value) -> (&Value, &Value, &Value) {
    let data = &line["error"]["data"];
    (&line["id"], &data["reason"], &data["executed"])
}

#[test]
fn a_question_has_a_deadline_and_a_late_answer_is_dropped() {
    let mut bench = Bench::default();
    let peer = bench.legacy(SAMPLING);
    let call = bench.call(peer, 1);
    assert!(bench.router.oldest_question().is_none() && !bench.out.timed);
    bench.child(0, SAMPLE);
    assert!(std::mem::take(&mut bench.out.timed));
    let first = bench.clock.0;
    let ours = bench.told(peer)["id"].clone();
    bench.clock.0 += Duration::from_secs(1);
    bench.child(0, &SAMPLE.replace(r#""id":"q""#, r#""id":"r""#));
    let second = bench.told(peer)["id"].clone();
    // The timer is already set for the older one.
    assert!(!bench.out.timed);
    assert_eq!(bench.router.oldest_question(), Some(first));
    bench.router.expire_questions(first, &mut bench.out);
    let told = bench.told(peer);
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(told["params"]["requestId"], ours);
    let heard = bench.child_heard(0).remove(0);
    let expected = (&json!("q"), &json!("question-timeout"), &json!("unknown"));
    assert_eq!(timed_out(&heard), expected);
    // The late answer is dropped, the other one is in time.
    for (id, heard) in [(ours, 0), (second, 1)] {
        let answer = json!({"jsonrpc":"2.0","id":id,"result":{}}).to_string();
        bench.peer(peer, &answer);
        assert_eq!(bench.child_heard(0).len(), heard);
    }
    assert_eq!(bench.router.oldest_question(), None);
    bench.done(&call);
}

/// Also a question to a peer that never finishes its handshake, from the time it was asked.
#[test]
fn a_question_that_waits_for_its_peer_has_the_same_deadline() {
    let mut bench = Bench::default();
    let away = bench.legacy(SAMPLING);
    bench.call(away, 1);
    bench.presence(away, Presence::Lost);
    let asked = bench.clock.0;
    bench.child(0, SAMPLE);
    assert_eq!(bench.peers_heard(), []);
    bench.clock.0 += Duration::from_secs(2);
    bench.presence(away, Presence::Connected);
    bench.told(away);
    assert_eq!(bench.router.oldest_question(), Some(asked));
    bench.presence(away, Presence::Lost);
    bench.child(0, &SAMPLE.replace(r#""id":"q""#, r#""id":"r""#));
    let now = bench.clock.0;
    bench.router.expire_questions(now, &mut bench.out);
    // Only the first one had been asked.
    assert_eq!(bench.told(away)["method"], "notifications/cancelled");
    let heard = bench.child_heard(0);
    let reason = json!("question-timeout");
    let (unknown, no) = (json!("unknown"), json!("no"));
    assert_eq!(timed_out(&heard[0]), (&json!("q"), &reason, &unknown));
    assert_eq!(timed_out(&heard[1]), (&json!("r"), &reason, &no));
}

/// A user with many sessions counts once, not once per session.
#[test]
fn a_user_that_answers_nothing_is_asked_no_more_in_any_session() {
    let mut bench = Bench::default();
    let mut asked = 0;
    let mut ask_all = |bench: &mut Bench, session| {
        let call = bench.call(session, 1);
        for _ in 0..MAX_OPEN_OF_SESSION {
            asked += 1;
            bench.child(
                0,
                &SAMPLE.replace(r#""id":"q""#, &format!(r#""id":{asked}"#)),
            );
        }
        bench.done(&call);
        let heard = bench.peers_heard();
        let questions = heard.iter().filter(|(_, line)| line["method"].is_string());
        questions.count()
    };
    for _ in 0..MAX_OPEN_OF_USER / MAX_OPEN_OF_SESSION {
        let session = bench.legacy_of("greedy");
        assert_eq!(ask_all(&mut bench, session), MAX_OPEN_OF_SESSION);
    }
    assert_eq!(bench.child_heard(0), [json!(null); 0]);
    let one_more = bench.legacy_of("greedy");
    assert_eq!(ask_all(&mut bench, one_more), 0);
    let refused = bench.child_heard(0);
    assert_eq!(refused.len(), MAX_OPEN_OF_SESSION);
    let reason = &refused[0]["error"]["data"]["reason"];
    assert_eq!(reason, "too-many-questions");
    let other = bench.legacy_of("other");
    assert_eq!(ask_all(&mut bench, other), MAX_OPEN_OF_SESSION);
}
