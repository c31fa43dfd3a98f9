//! The file of the audit log: how it is opened, its permissions, its rotation.

use super::*;

#[test]
fn a_log_that_cannot_be_opened_is_told_at_start() {
    let audit = Audit::new();
    mkfifo(&audit, "unread");
    for name in ["", "no/such/folder", "unread"] {
        let setup = Setup::new("tcp").args(&["--audit-log", &audit.flag(name)]);
        let says = format!("could not open the audit log {}", audit.flag(name));
        assert_fails(&setup.run(), 1, &says);
    }
    let setup = Setup::new("tcp").args(&["--audit-allowed"]);
    assert_fails(&setup.run(), 2, "--audit-log");
}

#[test]
fn links_are_not_followed() {
    let audit = Audit::new();
    std::fs::write(audit.path("target"), "").unwrap();
    symlink(audit.path("target"), audit.path("link")).unwrap();
    symlink(audit.path("new"), audit.path("dangling")).unwrap();
    for name in ["link", "dangling"] {
        let setup = Setup::new("tcp").args(&["--audit-log", &audit.flag(name)]);
        assert_fails(&setup.run(), 1, "it is a link; name the file itself");
    }
    assert!(!audit.path("new").exists());
    // Nor is one that replaces the file later.
    let server = Setup::new("tcp").args(&["--audit-log", &audit.flag("log")]);
    let server = server.start();
    std::fs::rename(audit.path("log"), audit.path("old")).unwrap();
    symlink(audit.path("target"), audit.path("log")).unwrap();
    server.signal(Signal::HUP);
    server.log.wait_for("it is a link");
    audit.wait_for("old", "reload");
    server.stop();
    assert_eq!(audit.lines("target").len(), 0);
}

#[test]
fn a_log_that_others_can_reach_earns_a_warning() {
    let audit = Audit::new();
    for (mode, flags, warning) in [
        (0o600, &[][..], None),
        (0o620, &[], Some("others can write to the audit log")),
        (0o604, &[], Some("others can read the audit log")),
        (0o640, &["--audit-log-mode", "0640"], None),
        (
            0o666,
            &["--audit-log-mode", "640"],
            Some("others can write to the audit log"),
        ),
    ] {
        std::fs::write(audit.path("log"), "").unwrap();
        std::fs::set_permissions(audit.path("log"), Permissions::from_mode(mode)).unwrap();
        let server = Setup::new("tcp")
            .args(&["--audit-log", &audit.flag("log")])
            .args(flags)
            .start();
        server.assert_serving();
        let log = server.stop();
        let warned = log.lines().find(|line| line.contains("the audit log"));
        match warning {
            None => assert_eq!(warned, None, "{mode:o}"),
            Some(warning) => {
                let warned = warned.unwrap_or_default();
                let mode = format!("mode={mode:04o}");
                assert!(
                    warned.contains(warning) && warned.contains(&mode),
                    "{mode}: {log}"
                );
            }
        }
    }
}

#[test]
fn the_mode_of_a_new_log_can_be_chosen() {
    let audit = Audit::new();
    for (flags, mode) in [(&[][..], 0o600), (&["--audit-log-mode", "0640"], 0o640)] {
        let _before = std::fs::remove_file(audit.path("log"));
        let server = Setup::new("tcp")
            .args(&["--audit-log", &audit.flag("log")])
            .args(flags)
            .start();
        let made = audit.path("log").metadata().unwrap().permissions().mode();
        assert_eq!(made & 0o777, mode);
        server.stop();
    }
    for mode in ["", "0400", "1600", "rw", "0x180"] {
        let setup =
            Setup::new("tcp").args(&["--audit-log", &audit.flag("log"), "--audit-log-mode", mode]);
        assert_fails(&setup.run(), 2, "octal digits");
    }
}

#[test]
fn the_log_can_be_rotated() {
    for (transport, flags) in WAYS {
        let audit = Audit::new();
        let server = Setup::new(transport)
            .args(flags)
            .args(&["--audit-log", &audit.flag("log"), "--audit-allowed"])
            .start();
        let mut peer = server.peer();
        peer.ask("before", "ping", json!({}));
        audit.wait_for("log", "allow");
        std::fs::rename(audit.path("log"), audit.path("old")).unwrap();
        server.signal(Signal::HUP);
        audit.wait_for("log", "reload");
        peer.ask("after", "ping", json!({}));
        server.stop();
        let ids = |name: &str| {
            let mode = audit.path(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "others can read {name}");
            let lines = audit.lines(name);
            let ids = lines.iter().map(|line| line["id"].clone());
            ids.filter(|id| !id.is_null()).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids("old"), ids("log")),
            (vec![json!("before")], vec![json!("after")])
        );
    }
}

#[test]
fn a_rotation_that_fails_keeps_the_file_that_was_open() {
    let audit = Audit::new();
    std::fs::create_dir(audit.path("logs")).unwrap();
    let server = Setup::new("tcp").args(&["--audit-log", &audit.flag("logs/log")]);
    let server = server.start();
    std::fs::rename(audit.path("logs"), audit.path("moved")).unwrap();
    server.signal(Signal::HUP);
    server.log.wait_for("could not open the audit log again");
    audit.wait_for("moved/log", "reload");
    server.assert_serving();
    server.stop();
}
