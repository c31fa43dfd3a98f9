//! Notifications of changed lists, from servers that send them for every request.

use crate::common::{Setup, request};
use crate::support::http::Session;
use crate::wire::TestPeer;
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

const CHANGED: &str = "notifications/tools/list_changed";

/// How long the list is requested repeatedly.
const STORM: Duration = Duration::from_millis(1500);

/// Requests a list; before the response the MCP server sends a change notification.
fn list(id: usize) -> String {
    request(id, "tools/list", json!({"notify": CHANGED}))
}

fn is_last(message: &Value) -> bool {
    message["params"]["last"] == true
}

/// Requests the list at every change notification, until the last change; returns the number of
/// notifications.
fn obey(mut peer: TestPeer) -> usize {
    let mut told = 0;
    loop {
        let message = peer.next();
        if message["method"] == CHANGED {
            told += 1;
            if is_last(&message) {
                return told;
            }
            peer.send(&list(told));
        }
    }
}

/// Requests the list repeatedly, and then makes the last change; returns the number of notifications,
/// and of requests.
fn insist(peer: &mut TestPeer) -> (usize, usize) {
    let (mut told, mut asked) = (0, 0);
    let end = Instant::now() + STORM;
    while Instant::now() < end {
        asked += 1;
        peer.send(&list(asked));
        loop {
            let message = peer.next();
            if message["id"] == asked {
                break;
            }
            told += usize::from(message["method"] == CHANGED);
        }
    }
    let last = json!({"jsonrpc": "2.0", "method": CHANGED, "params": {"last": true}});
    peer.send(&request("last", "x", json!({"print": format!("{last}\n")})));
    loop {
        let message = peer.next();
        told += usize::from(message["method"] == CHANGED);
        if is_last(&message) {
            return (told, asked);
        }
    }
}

/// Bug: a server that sends one for every `tools/list` caused 1,411 notifications for four ordinary peers in 1.5 s.
#[test]
fn a_changed_list_is_told_once_a_second_and_the_last_change_certainly() {
    for (transport, isolate, others) in [
        ("tcp", "never", 3),
        ("ws", "never", 3),
        ("tcp", "always", 0),
    ] {
        let isolate = format!("--isolate={isolate}");
        let server = Setup::new(transport).args(&[&isolate]).start();
        let begin = Instant::now();
        let mut insisting = server.peer();
        insisting.initialize();
        let others: Vec<_> = (0..others)
            .map(|_| {
                let mut peer = server.peer();
                peer.initialize();
                thread::spawn(|| obey(peer))
            })
            .collect();
        let (told, asked) = insist(&mut insisting);
        let mut all = vec![told];
        all.extend(others.into_iter().map(|peer| peer.join().unwrap()));
        let most = begin.elapsed().as_secs() as usize + 1;
        println!("{transport} {isolate}: told {all:?} of {asked} changes and more");
        assert!(asked > 2 * most, "no storm: {asked}");
        assert!(all.iter().all(|told| *told <= most), "{all:?}, not {most}");
        server.stop();
    }
}

/// The same over HTTP, on the stream that belongs to no request.
#[test]
fn a_changed_list_is_told_once_a_second_over_http() {
    for isolate in ["never", "always"] {
        let server = Setup::new("http")
            .args(&[&format!("--isolate={isolate}")])
            .start();
        let begin = Instant::now();
        let session = Session::begin(server.port);
        let mut stream = session.listen("");
        let mut asked = 0;
        while begin.elapsed() < STORM {
            asked += 1;
            assert_eq!(session.post(&list(asked)).status(), 200);
        }
        let last = json!({"jsonrpc": "2.0", "method": CHANGED, "params": {"last": true}});
        let print = json!({"print": format!("{last}\n")});
        session.post(&request("last", "x", print));
        let mut told = 0;
        loop {
            let event = stream.event().expect("the last change");
            told += usize::from(event.data["method"] == CHANGED);
            if is_last(&event.data) {
                break;
            }
        }
        let most = begin.elapsed().as_secs() as usize + 1;
        assert!(asked > 2 * most, "no storm: {asked}");
        assert!(told <= most, "{isolate}: {told}, not {most}");
        server.stop();
    }
}
