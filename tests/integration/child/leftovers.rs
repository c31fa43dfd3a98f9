//! No process is left behind.

use super::*;

/// A shell command that starts a daemon, which leaves its MCP server's group and session, and whose
/// parent exits; `env` precedes it. Its process id is a line of `file`.
fn daemon(env: &str, file: &Path) -> String {
    let file = file.display();
    format!("({env} setsid sh -c 'echo $$ >>{file}; exec sleep 1000' </dev/null >/dev/null 2>&1 &)")
}

/// The process ids in `file`, once there are this many.
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

    // A process that exits by itself takes them along, too, and the next one starts its own.
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

/// A shell that started something else and then became the server through `exec`.
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

/// However it ends, nothing is left: not the child, not its children, no zombie.
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

/// What a killed server cannot clean up itself is cleaned up for it.
#[test]
fn nothing_is_left_behind_by_a_server_that_is_killed() {
    let mut server = TestServer::start("tcp");
    let mut peer = server.peer();
    let pids = family(&mut peer);
    server.signal(Signal::KILL);
    server.wait();
    pids.into_iter().for_each(wait_gone);
}

#[test]
fn a_failed_start_leaves_nothing() {
    // The child runs briefly with a grandchild, then exits silently.
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
