//! Full or slow disks.

use super::*;

/// Stops it; returns how many events it reports as not written.
fn lost_at_the_end(server: TestServer) -> u64 {
    let log = server.stop();
    let line = log
        .lines()
        .find(|line| line.contains("the end of the audit log"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    let (_, lost) = line.split_once("lost=").unwrap_or_else(|| panic!("{line}"));
    lost.trim_end().parse().unwrap()
}

#[test]
fn a_full_disk_is_noticed_counted_and_slows_nobody() {
    for (transport, flags) in WAYS {
        let server = Setup::new(transport)
            .args(flags)
            .args(&["--audit-log", "/dev/full"])
            .start();
        for _ in 0..3 {
            server.assert_serving();
        }
        server.log.wait_for("could not write the audit log");
        let log = server.log.clone();
        // Three came, and three left.
        assert_eq!(lost_at_the_end(server), 6);
        assert_eq!(log.text().matches("could not write").count(), 1);
    }
}

#[test]
fn a_disk_that_was_full_gets_what_waits_and_how_much_is_missing() {
    let audit = Audit::new();
    // The folder is the link: that of a log may be one.
    symlink("/dev", audit.path("folder")).unwrap();
    let server = Setup::new("tcp")
        .args(&["--audit-log", &audit.flag("folder/full"), "--audit-allowed"])
        .start();
    let mut peer = server.peer();
    ping(&mut peer, TOO_MANY);
    server.log.wait_for("the audit log does not keep up");
    std::fs::remove_file(audit.path("folder")).unwrap();
    std::fs::create_dir(audit.path("folder")).unwrap();
    server.signal(Signal::HUP);
    audit.wait_for("folder/full", "lost");
    peer.ask("after", "ping", json!({}));
    let log = server.stop();
    let lines = audit.lines("folder/full");
    let lost = lines
        .iter()
        .position(|line| line["event"] == "lost")
        .unwrap();
    let count = lines[lost]["count"].as_u64().unwrap();
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    // Each ping is recorded or counted, and the reload is counted if it found no room.
    let reloads = 1 - of("reload") as u64;
    assert_eq!(of("allow") as u64 + count - reloads, TOO_MANY as u64 + 1);
    assert_eq!(lines[lost - 1]["event"], "allow");
    let ids: Vec<_> = lines[..lost]
        .iter()
        .filter_map(|line| line["id"].as_u64())
        .collect();
    assert!(
        ids.iter().copied().eq(0..ids.len() as u64),
        "in order, without a gap"
    );
    for said in [
        "could not write the audit log",
        "the audit log is written again",
        &format!("lost={count}"),
    ] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
}

/// A hanging disk: a pipe whose reader does not read.
#[test]
fn a_slow_disk_is_noticed_counted_and_slows_nobody() {
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        mkfifo(&audit, "log");
        // Opened for both, so that opening does not block.
        let mut options = std::fs::OpenOptions::new();
        let both = options.read(true).write(true);
        let reader = both.open(audit.path("log")).unwrap();
        let server = Setup::new(transport)
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let mut peer = server.peer();
        ping(&mut peer, TOO_MANY);
        server.log.wait_for("the audit log does not keep up");
        // It reads again.
        let lines = lines_of(reader);
        let next = || parse(&lines.recv_timeout(PATIENCE).expect("a line"));
        let (mut allowed, mut lost) = (0, None);
        while lost.is_none() {
            let line = next();
            allowed += u64::from(line["event"] == "allow");
            lost = line["count"].as_u64();
        }
        assert_eq!(
            allowed + lost.unwrap(),
            TOO_MANY as u64,
            "{transport} {flags:?}"
        );
        peer.ask("after", "ping", json!({}));
        assert_eq!(next()["id"], "after");
        server.log.wait_for(&format!("lost={}", lost.unwrap()));
    }
}
