//! The child's life: what it says, how it ends, and that nothing of it stays.

use crate::common::{BOTH, Setup, TestClient, TestServer, now, request, token, token_with};
use crate::process::{Process, binary, eventually, is_alive, kill, wait_gone, wait_reaped};
use crate::wire::{Acceptor, TestPeer};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The processes of a server's child: itself, and a grandchild that would sleep on.
fn family(peer: &mut TestPeer) -> [u64; 2] {
    let answer = peer.ask("family", "x", json!({"spawn": true}));
    let pids = ["pid", "grandchild"].map(|name| answer["result"][name].as_u64().unwrap());
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{answer}");
    pids
}

#[test]
fn stderr_is_passed_on() {
    let server = Setup::new("tcp").shell("echo at the start >&2").start();
    let mut peer = server.peer();
    peer.ask(1, "x", json!({"stderr": "hello from the child \u{1b}[31m"}));
    for text in ["at the start", "hello from the child"] {
        let line = server.log.wait_for(text);
        assert!(line.contains("child: "), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

/// Raw, these would clear the screen, set the title, forge a line, turn the direction of writing.
const COMMANDS: &str = "\u{1b}[2J\u{1b}]0;x\u{7}\rINFO forged\u{9b}31m\u{85}\u{2028}\u{202e}";

fn assert_tame(text: &str) {
    let odd = |c: &char| c.is_control() && *c != '\n' || "\u{2028}\u{202e}".contains(*c);
    assert_eq!(text.chars().find(odd), None, "{text:?}");
    assert!(text.contains("\\u{1b}[2J"), "{text:?}");
    let forged = text.lines().any(|line| line.starts_with("INFO"));
    assert!(!forged, "{text:?}");
}

#[test]
fn no_text_of_others_reaches_the_terminal_as_a_command() {
    let policy = json!({"permissions": {"user": {"allowedMethods": ["x"]}}});
    let server = Setup::new("tcp").policy(&policy).start();
    let claims =
        json!({"user": format!("eve{COMMANDS}"), "roles": ["user", COMMANDS], "exp": now() + 60});
    let mut peer = server.peer_with(&token(&claims));
    peer.ask(1, "x", json!({"stderr": format!("child{COMMANDS}end")}));
    peer.ask(COMMANDS, COMMANDS, json!({}));
    for part in ["child: child", "eve", "blocked"] {
        assert_tame(&server.log.wait_for(part));
    }
    assert_tame(&server.stop());

    // The last words of a child that never answered stand in the final line.
    let script = format!("printf '%s' '{COMMANDS}' >&2; exit 3");
    let outcome = Setup::new("tcp").shell(&script).run();
    assert_eq!(outcome.code, Some(1));
    assert_tame(&outcome.stderr);
    assert!(outcome.stderr.contains("error: "), "{outcome:?}");

    // And what a server says to a client that it refuses.
    let server = Acceptor::new("tcp");
    let mut client = TestClient::start("tcp", server.port(), &[], Some("a.b.c"));
    let mut peer = server.accept();
    peer.next_line();
    let error = json!({"code": -32002, "message": COMMANDS, "data": {"reason": COMMANDS}});
    peer.send(&json!({"jsonrpc": "2.0", "error": error}).to_string());
    assert_eq!(client.wait(), Some(1));
    let log = client.log.to_the_end();
    assert!(log.contains("error: "), "{log:?}");
    assert_tame(&log);
}

#[test]
fn a_flood_on_stderr_does_not_stop_the_child() {
    let setup = Setup::new("tcp").shell("head -c 3000000 /dev/zero | tr '\\0' 'x' >&2; echo >&2");
    let server = setup.start();
    let mut peer = server.peer();
    let answer = peer.ask(
        1,
        "x",
        json!({"stderrBytes": 2_000_000, "stderr": "and still it writes"}),
    );
    assert_eq!(answer["id"], 1);
    server.log.wait_for("and still it writes");
    server.assert_serving();
}

#[test]
fn what_is_no_message_on_stdout_is_dropped() {
    let banner = r#"printf 'Welcome to the server!\n\n{"not": "a message"}\n[1]\n\377\376\n{"jsonrpc":"2.0","id":1,"res\n'"#;
    for transport in BOTH {
        let server = Setup::new(transport).shell(banner).start();
        let mut peer = server.peer();
        peer.initialize();
        let noise = "working...\n\u{1b}[2J\n{\"jsonrpc\":\"2.0\"}\n{}\n{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":{}}\n";
        for id in 0..3 {
            let answer = peer.ask(id, "x", json!({"print": noise}));
            assert_eq!(answer["id"], id);
        }
        server.log.wait_for("no JSON-RPC message");
        let log = server.log.text();
        assert!(
            !log.contains("Welcome") && !log.contains("working"),
            "{log}"
        );
    }
}

/// A message over the size limit was dropped, and whoever waited for it waited for ever.
#[test]
fn a_message_that_is_too_large_is_answered_and_kept_nowhere() {
    const HUGE: u64 = 300 << 20;
    for (transport, args) in [("tcp", &[][..]), ("ws", &["--isolate"])] {
        let server = Setup::new(transport).args(args).start();
        let mut peer = server.peer();
        peer.initialize();
        for id in [json!(7), json!("seven")] {
            let answer = peer.ask(id.clone(), "x", json!({"huge": HUGE}));
            assert_eq!(answer["id"], id);
            assert_eq!(
                answer["error"],
                json!({"code": -32603, "message": "The MCP server's answer is too large", "data": {
                    "source": "mcp-remote", "reason": "answer-too-large", "executed": "unknown"}})
            );
            assert_eq!(peer.ask(id.clone(), "x", json!({}))["id"], id);
        }
        // What it asks is refused, so that it does not wait either.
        let question = json!({"ask": "roots/list", "askBytes": HUGE});
        assert_eq!(peer.ask(1, "x", question)["id"], 1);
        let refusal = server.wait_seen("\"asked\"");
        assert_eq!(
            serde_json::from_str::<Value>(&refusal).unwrap(),
            json!({"jsonrpc": "2.0", "id": "asked", "error": {"code": -32600, "message": "Invalid Request: too large"}})
        );
        let peak = peak_memory(server.pid());
        assert!(peak < 200 << 20, "{} MiB", peak >> 20);
    }
}

/// An answer that cannot be read was dropped, and whoever waited for it waited for ever.
#[test]
fn an_answer_that_cannot_be_read_is_an_error() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for raw in [
        &*deep,
        r#"{},"error":{"code":1,"message":""}"#,
        r#""\ud800 \x""#,
    ] {
        let answer = peer.ask(3, "x", json!({"raw": raw}));
        assert_eq!(answer["id"], 3, "{answer}");
        assert_eq!(answer["error"]["data"]["reason"], "answer-unreadable");
    }
    // A line of a log may look like an answer from afar.
    let noise = "{\"id\":4,\"level\":\"error\",\"error\":\"no message\",\"result\":[}\n";
    let answer = peer.ask(4, "x", json!({"print": noise}));
    assert_eq!(answer["result"]["method"], "x", "{answer}");
}

/// A process that asks and does not read its answers filled our memory with them.
#[test]
fn a_child_that_asks_without_end_and_reads_nothing_fills_no_memory() {
    for args in [&[][..], &["--isolate"]] {
        let policy = json!({"permissions": {"user": {"allowedMethods": ["*"], "blockedMethods": ["roots/list"]}}});
        let server = Setup::new("tcp").args(args).policy(&policy).start();
        let mut peer = server.peer_with(&token_with(&["user"]));
        let pid = peer.ask(1, "x", json!({}))["result"]["pid"]
            .as_u64()
            .unwrap();
        // Each of these is answered at once, by us.
        peer.send(&request(
            2,
            "x",
            json!({"ask": "roots/list", "askTimes": 1_000_000}),
        ));
        let mut before = None;
        eventually("the child can write no more", || {
            let now = Some(written(pid));
            let still = now == before && now > Some(PIPE);
            before = now;
            std::thread::sleep(Duration::from_millis(300));
            still.then_some(())
        });
        let peak = peak_memory(server.pid());
        assert!(peak < 60 << 20, "{} MiB", peak >> 20);
        kill(pid);
        if args.is_empty() {
            assert_eq!(peer.next()["error"]["message"], "MCP server exited");
            assert_eq!(peer.ask(3, "x", json!({}))["id"], 3);
        }
    }
}

/// What a pipe holds at least, in bytes.
const PIPE: u64 = 60_000;

/// How many bytes a process has written.
fn written(pid: u64) -> u64 {
    let counts = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = counts.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.unwrap().parse().unwrap()
}

/// The most memory that a process has had, in bytes.
fn peak_memory(pid: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}

#[test]
fn the_child_does_not_see_our_settings() {
    let server = Setup::new("tcp")
        .secret()
        .shell("env >&2; echo that was it >&2")
        .start();
    server.log.wait_for("that was it");
    let log = server.log.text();
    assert!(
        log.contains("PATH=") && !log.contains("MCP_REMOTE_"),
        "{log}"
    );
}

#[test]
fn a_question_of_the_child_is_answered() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    peer.ask(1, "x", json!({"ask": "ping"}));
    let answer = server.wait_seen("\"asked\"");
    assert_eq!(
        answer,
        "{\"jsonrpc\":\"2.0\",\"id\":\"asked\",\"result\":{}}\n"
    );
}

#[test]
fn its_exit_is_answered_to_everyone_who_waits() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut peers = [server.peer(), server.peer()];
        let [pid, grandchild] = family(&mut peers[0]);
        for peer in &mut peers {
            peer.send(&request(0, "waits", json!({"silent": true})));
            peer.send(&request("0", "waits", json!({"delayMs": 60_000})));
            assert_eq!(peer.ask("sync", "ping", json!({}))["id"], "sync");
        }
        peers[1].send(&request("end", "x", json!({"exit": 3})));
        for (peer, owed) in peers.iter_mut().zip([2, 3]) {
            for id in &[json!(0), json!("0"), json!("end")][..owed] {
                let answer = peer.next();
                assert_eq!(&answer["id"], id, "{answer}");
                let error = &answer["error"];
                assert_eq!(
                    (&error["code"], &error["message"]),
                    (&json!(-32603), &json!("MCP server exited"))
                );
                let data = &error["data"];
                assert_eq!(data["source"], "mcp-remote", "{answer}");
                assert_eq!(
                    (&data["reason"], &data["executed"]),
                    (&json!("child-exited"), &json!("unknown"))
                );
                assert_eq!(data["status"], "exit status: 3");
            }
        }
        wait_gone(pid);
        wait_gone(grandchild);
        server.log.wait_for("exit status: 3");
    }
}

#[test]
fn a_killed_child_is_noticed() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let [pid, grandchild] = family(&mut peer);
    peer.send(&request(0, "waits", json!({"silent": true})));
    server.wait_seen("waits");
    kill(pid);
    let answer = peer.next();
    assert_eq!(answer["error"]["message"], "MCP server exited");
    assert_eq!(answer["error"]["data"]["status"], "signal: 9 (SIGKILL)");
    wait_gone(grandchild);
}

#[test]
fn a_child_that_does_not_read_holds_up_nobody_for_ever() {
    let server = TestServer::start("tcp");
    let mut peer = server.peer();
    let [pid, grandchild] = family(&mut peer);
    peer.ask(1, "x", json!({"deaf": true}));
    // Far more than a pipe holds; it fits what may wait for a child.
    let mut other = server.peer();
    other.send(&request(2, "x", json!({"pad": "x".repeat(500_000)})));
    let mut server = server;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    wait_gone(pid);
    wait_gone(grandchild);
}

/// A piece of shell that starts a daemon, which leaves group and session of its MCP server, and its
/// parent ends; `env` stands before it. Its process id is a line of `file`.
fn daemon(env: &str, file: &Path) -> String {
    let file = file.display();
    format!("({env} setsid sh -c 'echo $$ >>{file}; exec sleep 1000' </dev/null >/dev/null 2>&1 &)")
}

/// The process ids in `file`, once there are so many.
fn daemons(file: &Path, count: usize) -> Vec<u64> {
    let text = eventually("the daemons have started", || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        (text.matches('\n').count() == count).then_some(text)
    });
    let pids: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| is_alive(*pid)), "{pids:?}");
    pids
}

#[test]
fn daemons_end_with_the_server() {
    for (transport, args, env) in [
        ("tcp", &[][..], ""),
        ("ws", &["--isolate"], ""),
        ("tcp", &[], "exec env -i PATH=\"$PATH\""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pids");
        let mut server = Setup::new(transport)
            .args(args)
            .shell(&daemon(env, &file))
            .start();
        let mut peer = server.peer();
        peer.initialize();
        let pids = daemons(&file, 1);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        // The server reaps before it ends.
        assert!(
            pids.iter()
                .all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        );
    }
}

#[test]
fn daemons_end_with_the_mcp_server_that_started_them_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let server = Setup::new("tcp")
        .args(&["--isolate", "--resume-window", "0s"])
        .shell(&daemon("", &file))
        .start();
    let mut first = server.peer();
    first.initialize();
    let one = daemons(&file, 1)[0];
    let mut second = server.peer();
    second.initialize();
    let other = daemons(&file, 2)[1];
    drop(first);
    wait_reaped(one);
    assert!(is_alive(other));
    assert_eq!(second.ask(1, "ping", json!({}))["id"], 1);

    // A process that ends by itself takes them along, too, and the next one starts its own.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let server = Setup::new("tcp").shell(&daemon("", &file)).start();
    let mut peer = server.peer();
    peer.ask(1, "ping", json!({}));
    let one = daemons(&file, 1)[0];
    peer.ask(2, "x", json!({"exit": 1}));
    wait_reaped(one);
    peer.ask(3, "ping", json!({}));
    let other = eventually("the next daemon has started", || {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().nth(1)?.parse().ok()
    });
    peer.ask(4, "ping", json!({}));
    assert!(is_alive(other));
}

#[test]
fn a_daemon_that_ends_by_itself_leaves_no_zombie() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let server = Setup::new("tcp").shell(&daemon("", &file)).start();
    let pid = daemons(&file, 1)[0];
    kill(pid);
    wait_reaped(pid);
    server.assert_serving();
}

#[test]
fn daemons_end_when_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let mut server = Setup::new("tcp").shell(&daemon("", &file)).start();
    let pid = daemons(&file, 1)[0];
    server.assert_serving();
    server.signal(Signal::KILL);
    server.wait();
    wait_gone(pid);
}

/// A shell that started something else and then became the server by `exec`.
#[test]
fn processes_that_no_mcp_server_started_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (own, others) = (folder.path().join("own"), folder.path().join("others"));
    let mut command = Command::new("sh");
    let before = daemon("", &others)
        .replace("setsid", "")
        .replace(['(', ')'], "");
    command.args(["-c", &format!("{before}\nexec \"$0\" \"$@\"")]);
    command.arg(binary().get_program());
    command.args(["server", "tcp", "--port", "0", "--", "sh", "-c"]);
    command.arg(format!("{}\nexec sleep 1000", daemon("", &own)));
    let mut server = Process::spawn(command.stdin(Stdio::null()));
    let (own, other) = (daemons(&own, 1)[0], daemons(&others, 1)[0]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    wait_gone(own);
    assert!(is_alive(other));
    kill(other);
}

/// However it ends, nothing stays: not the child, not its children, no zombie.
#[test]
fn nothing_is_left_behind() {
    for (transport, signals) in [
        ("tcp", &[Signal::TERM][..]),
        ("ws", &[Signal::INT]),
        ("tcp", &[Signal::INT, Signal::TERM]),
    ] {
        let mut server = Setup::new(transport)
            .args(&["--drain-timeout", "0s"])
            .start();
        let mut peer = server.peer();
        let pids = family(&mut peer);
        peer.send(&request(0, "waits", json!({"silent": true})));
        server.wait_seen("waits");
        let begin = Instant::now();
        for signal in signals {
            server.signal(*signal);
        }
        assert_eq!(server.wait().code(), Some(0), "{signals:?}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{signals:?}");
        wait_reaped(pids[0]);
        wait_gone(pids[1]);
    }
}

/// What a server that is killed cannot do itself is done for it.
#[test]
fn nothing_is_left_behind_by_a_server_that_is_killed() {
    let mut server = TestServer::start("tcp");
    let mut peer = server.peer();
    let pids = family(&mut peer);
    server.signal(Signal::KILL);
    server.wait();
    pids.into_iter().for_each(wait_gone);
}

/// A child that takes neither the end of its stdin nor SIGTERM for an answer is killed in the end.
#[test]
fn a_stubborn_child_is_killed() {
    let stubborn = || {
        Setup::new("tcp")
            .shell("trap '' TERM INT")
            .echo(&["--ignore-eof"])
            .start()
    };
    let mut server = stubborn();
    let pids = family(&mut server.peer());
    let begin = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    let took = begin.elapsed();
    assert!(
        took > Duration::from_millis(3900) && took < Duration::from_secs(8),
        "{took:?}"
    );
    pids.into_iter().for_each(wait_gone);

    // A second signal does not wait.
    let mut server = stubborn();
    let pids = family(&mut server.peer());
    let begin = Instant::now();
    server.signal(Signal::INT);
    server.log.wait_for("a second signal ends at once");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(2));
    pids.into_iter().for_each(wait_gone);
}

#[test]
fn peers_are_told_that_the_server_stops() {
    for transport in BOTH {
        let mut server = TestServer::start(transport);
        let mut peers = [server.peer(), server.peer()];
        peers
            .iter_mut()
            .for_each(|peer| drop(peer.ask(0, "ping", json!({}))));
        server.signal(Signal::TERM);
        peers.iter_mut().for_each(TestPeer::assert_closed);
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn a_failed_start_leaves_nothing() {
    // The child is up for a moment with a grandchild, then ends without a word.
    let script = "sleep 1000 & echo grandchild $! >&2; exit 4";
    let outcome = Setup::new("tcp").program(&["sh", "-c", script]).run();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.contains("grandchild "))
        .unwrap();
    let pid = line.rsplit(' ').next().unwrap().parse().unwrap();
    wait_gone(pid);
}

#[test]
fn a_slow_reader_harms_nobody() {
    let server = TestServer::start("tcp");
    let (mut slow, mut quick) = (server.peer(), server.peer());
    for id in 0..4 {
        slow.send(&request(id, "x", json!({"bytes": 8 << 20})));
    }
    assert_eq!(quick.ask(1, "ping", json!({}))["id"], 1);
    for id in 0..4 {
        assert_eq!(slow.next()["id"], id);
    }
}

#[test]
fn a_reader_that_is_too_slow_is_cut() {
    let server = TestServer::start("tcp");
    let mut slow = server.peer();
    for id in 0..12 {
        slow.send(&request(id, "x", json!({"bytes": 8 << 20})));
    }
    server.log.wait_for("reads too slowly");
    server.assert_serving();
}

/// Peers notice nothing but the errors of what was in flight.
#[test]
fn a_child_that_ends_is_started_again() {
    let server = TestServer::start("tcp");
    let mut peers = [server.peer(), server.peer()];
    peers.iter_mut().for_each(|peer| drop(peer.initialize()));
    let pid = |peer: &mut TestPeer| peer.ask(0, "x", json!({}))["result"]["pid"].as_u64();
    let first = pid(&mut peers[0]);
    for round in 1..4 {
        peers[0].send(&request(1, "x", json!({"exit": round})));
        assert_eq!(peers[0].next()["error"]["message"], "MCP server exited");
        let next = pid(&mut peers[1]);
        assert!(next.is_some() && next != first, "{next:?}");
        assert_eq!(pid(&mut peers[0]), next);
        let seen = server.seen();
        let count = |method: &str| seen.matches(&format!("{method:?}")).count();
        let handshakes = (count("initialize"), count("notifications/initialized"));
        assert_eq!(handshakes, (round + 1, round + 1));
    }
}

/// How long the answers may take on a machine that does other things, too; left alone they take
/// well under the 2 seconds that are promised.
const LOADED: Duration = Duration::from_secs(10);

/// Five real clients, 40 requests each in flight, and the child is killed: every request ends in
/// an answer or an error within 2 seconds, and the next call works without anybody doing anything.
#[test]
fn a_child_that_is_killed_under_load_leaves_nobody_waiting() {
    for transport in BOTH {
        let server = TestServer::start(transport);
        let mut clients: Vec<TestClient> = (0..5)
            .map(|_| TestClient::start(transport, server.port, &[], None))
            .collect();
        let pid = clients[0].ask("first", "x", json!({}))["result"]["pid"]
            .as_u64()
            .unwrap();
        for client in &mut clients {
            for id in 0..40 {
                client.send(&request(id, "x", json!({"delayMs": id * 20})));
            }
        }
        for client in &clients {
            assert_eq!(client.next()["id"], 0);
        }
        kill(pid);
        let killed = Instant::now();
        for client in &mut clients {
            let mut ids: Vec<u64> = (1..40)
                .map(|_| {
                    let answer = client.next();
                    let error = &answer["error"]["message"];
                    assert!(
                        answer["result"].is_object() || error == "MCP server exited",
                        "{answer}"
                    );
                    answer["id"].as_u64().unwrap()
                })
                .collect();
            ids.sort_unstable();
            assert_eq!(ids, (1..40).collect::<Vec<u64>>());
        }
        assert!(killed.elapsed() < LOADED, "{:?}", killed.elapsed());
        for client in &mut clients {
            let answer = client.ask("next", "x", json!({}));
            assert!(
                answer["result"]["pid"]
                    .as_u64()
                    .is_some_and(|next| next != pid),
                "{answer}"
            );
        }
    }
}

#[test]
fn a_child_that_ends_too_often_ends_the_server() {
    let setup = Setup::new("tcp").args(&["--max-restarts", "0"]);
    let mut server = setup.start();
    let mut peer = server.peer();
    peer.ask(0, "x", json!({}));
    peer.send(&request(1, "x", json!({"exit": 9})));
    assert_eq!(peer.next()["error"]["data"]["status"], "exit status: 9");
    peer.assert_closed();
    assert_eq!(server.wait().code(), Some(1));
    server.log.wait_for("error: ");
}

#[test]
fn isolated_peers_have_a_child_of_their_own() {
    for transport in BOTH {
        let mut server = Setup::new(transport).args(&["--isolate"]).start();
        let mut peers = [server.peer(), server.peer()];
        let families: Vec<[u64; 2]> = peers.iter_mut().map(family).collect();
        assert_ne!(families[0], families[1]);
        // Nothing is rewritten: the child is the peer's own.
        peers[0].send(&request(
            "mine",
            "own",
            json!({"_meta": {"progressToken": "t"}}),
        ));
        assert_eq!(peers[0].next()["id"], "mine");
        assert!(
            server
                .wait_seen("\"own\"")
                .contains("\"progressToken\":\"t\"")
        );
        let [first, second] = peers;
        drop(first);
        families[0].into_iter().for_each(wait_gone);
        assert!(families[1].into_iter().all(is_alive));
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        drop(second);
        families[1].into_iter().for_each(wait_gone);
    }
}
