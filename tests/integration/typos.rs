//! Valid input that is surely a mistake is reported.

use crate::common::{Setup, example, now, request, token};
use crate::process::{assert_fails, binary, run};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

const SECRET: &str = "what the tests sign their tokens with";

#[test]
fn a_server_names_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let readable =
        |mode| std::fs::set_permissions(&secret, PermissionsExt::from_mode(mode)).unwrap();
    readable(0o644);
    let policy = json!({"permissions": {"user": {"allowedMethods": ["initialise", "tool/*", "server/discover"]}}});
    let file = folder.path().join("policy.json");
    std::fs::write(&file, policy.to_string()).unwrap();
    let flags = [
        ("--permissions-config", file.to_str().unwrap()),
        ("--jwt-secret-file", secret.to_str().unwrap()),
        ("--require-roles", "usr"),
        ("--allow-origin", "foo.example"),
    ];
    let flags: Vec<&str> = flags
        .iter()
        .flat_map(|(flag, value)| [*flag, value])
        .collect();
    let server = Setup::new("ws").args(&flags).start();
    for part in [
        "allowedMethods 'initialise' (line 1)\" meant=\"initialize\"",
        "allowedMethods 'tool/*' (line 1)\" meant=\"tools/*\"",
        "role=\"usr\" meant=\"user\"",
        "--allow-origin is no origin",
        &format!("can read {0}: chmod 600 {0}", secret.display()),
    ] {
        let line = server.log.wait_for(part);
        assert!(line.contains("WARN"), "{line}");
    }
    let start = server.log.wait_for("peers may connect");
    assert!(
        start.contains("tls=false tokens=true roles=\"user\""),
        "{start}"
    );
    server.reload();
    server
        .log
        .wait_for("reloaded secrets=1 revoked=0 broken=0 policy_roles=1");
    drop(server);
    readable(0o600);
    let log = Setup::new("tcp").args(&flags[2..4]).start().stop();
    assert!(!log.contains("every user"), "{log}");
}

#[test]
fn a_client_says_that_others_can_read_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let claims = json!({"user": "alice", "roles": ["user"], "exp": now() + 60});
    std::fs::write(&file, token(&claims)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o604)).unwrap();
    let server = Setup::new("tcp").secret().start();
    let mut client = binary();
    let port = server.port.to_string();
    client
        .args(["client", "tcp", "--port", &port, "--jwt-token-file"])
        .arg(&file);
    let outcome = run(&mut client, (request(1, "x", json!({})) + "\n").as_bytes());
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains(&format!("can read {0}: chmod 600 {0}\n", file.display())),
        "{outcome:?}"
    );
    let home = run(
        binary().args([
            "client",
            "tcp",
            "--port",
            "1",
            "--jwt-token-file",
            "~/token",
        ]),
        b"",
    );
    assert_fails(&home, 1, "give the full path");
}

#[test]
fn tokens_say_what_they_are_worth() {
    let generate = |args: &[&str]| {
        run(
            binary()
                .args(["generate-token", "--quiet"])
                .args(args)
                .env("MCP_REMOTE_JWT_SECRET", SECRET),
            b"",
        )
    };
    let nobody = generate(&[]);
    assert!(
        nobody.stderr.contains("use --user and --roles"),
        "{nobody:?}"
    );
    let user = generate(&["--user", "alice", "--roles", "reader,raeder"]);
    assert_eq!(user.stderr, "");
    let mut command = binary();
    command.args([
        "inspect-token",
        "--permissions-config",
        "examples/permissions-tools.json",
    ]);
    let inspected = run(command.arg(user.stdout.trim()), b"");
    assert_eq!(inspected.code, Some(0), "{inspected:?}");
    let checked = run(
        binary().args([
            "check",
            "--permissions-config",
            "examples/permissions-tools.json",
            "--roles",
            "raeder",
        ]),
        b"",
    );
    let meant = "note: the file has no role 'raeder'; did you mean 'reader'?";
    assert!(checked.stdout.starts_with(meant), "{checked:?}");
    let flags = ["--roles", "reader", "--method", "tools/cal"];
    let policy = ["--permissions-config", "examples/permissions-tools.json"];
    let checked = run(binary().arg("check").args(policy).args(flags), b"");
    let meant = "note: MCP has no method 'tools/cal'; did you mean 'tools/call'?";
    assert!(checked.stdout.starts_with("allowed: "), "{checked:?}");
    assert!(checked.stdout.contains(meant), "{checked:?}");
    for part in [
        "The policy has no role 'raeder'; did you mean 'reader'?",
        "role 'reader' allows 'read_*'",
    ] {
        assert!(inspected.stdout.contains(part), "{part}: {inspected:?}");
    }
}

#[test]
fn a_policy_is_compared_with_a_real_server() {
    let mut command = binary();
    command.args([
        "check",
        "--permissions-config",
        "examples/permissions-tools.json",
        "--against",
        "--",
    ]);
    let outcome = run(command.arg(example("notes_server")), b"");
    assert_eq!(
        (outcome.code, outcome.stderr.as_str()),
        (Some(0), ""),
        "{outcome:?}"
    );
    let row = |name: &str| {
        let found = outcome.stdout.lines().find(|line| line.starts_with(name));
        let cells = found
            .unwrap_or_else(|| panic!("{name}: {outcome:?}"))
            .split_whitespace();
        cells.skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let head = row("tool");
    let cell = |role: &str, tool: &str| {
        let at = head.iter().position(|name| name == role).unwrap();
        row(tool)[at].clone()
    };
    assert_eq!(cell("reader", "read_note"), "yes");
    assert_eq!(cell("reader", "write_note"), "no");
    assert_eq!(cell("writer", "write_note"), "yes");
    assert_fails(
        &run(binary().args(["check", "--permissions-config", "x"]), b""),
        2,
        "--roles",
    );
}

#[test]
fn help_fits_a_terminal_of_80_columns_and_is_no_wider_than_100() {
    let commands = [
        "server",
        "client",
        "doctor",
        "generate-secret",
        "generate-token",
        "generate-permissions",
        "check",
        "inspect-token",
    ];
    let mut seen = 0;
    for command in commands {
        for (columns, most) in [("80", 80), ("200", 100)] {
            let mut help = binary();
            help.args([command, "--help"]).env("COLUMNS", columns);
            for line in run(&mut help, b"").stdout.lines() {
                seen += 1;
                assert!(line.chars().count() <= most, "{command}: {line}");
            }
        }
    }
    assert!(seen > 300);
}

/// Bug: with a mistyped variable for the policy, a server said nothing and let every token do everything.
#[test]
fn unknown_variables_and_a_missing_policy_are_named() {
    let server = Setup::new("tcp").secret();
    let server = server
        .env("MCP_REMOTE_PERMISSION_CONFIG", "hunter2")
        .env("MCP_REMOTE_SERVICE_HOST", "10.0.0.1")
        .env("MCP_REMOTE_ISOLATE", "never")
        .start();
    let line = server.log.wait_for("no setting of mcp-remote");
    for part in [
        "WARN",
        "name=\"MCP_REMOTE_PERMISSION_CONFIG\"",
        "meant=\"MCP_REMOTE_PERMISSIONS_CONFIG\"",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let start = server.log.wait_for("peers may connect");
    assert!(start.contains("tokens=true policy=\"none\""), "{start}");
    let port = server.port.to_string();
    let mut client = binary();
    client.args(["client", "tcp", "--port", &port]);
    let client = run(client.env("MCP_REMOTE_JWT_TOKN", "hunter2"), b"");
    let meant = "meant=\"MCP_REMOTE_JWT_TOKEN\"";
    assert!(client.stderr.contains(meant), "{client:?}");
    let mut doctor = binary();
    doctor.args(["doctor", "client", "tcp", "--port", &port]);
    let doctor = run(doctor.env("MCP_REMOTE_JWT_TOKN", "hunter2"), b"");
    assert!(doctor.stderr.contains(meant), "{doctor:?}");
    let log = server.stop();
    assert_eq!(log.matches("no setting of").count(), 1, "{log}");
    assert!(!log.contains("hunter2") && !client.stderr.contains("hunter2"));
}

#[test]
fn settings_without_effect_are_named() {
    let warned = "has no effect: this server has no listener for";
    let path = ["--path", "/notes"];
    let origin = ["--allow-origin", "https://example.com"];
    let public = ["--public-url", "https://mcp.example.com"];
    for (transport, flags, wanted) in [
        ("tcp", [path, origin].concat(), 2),
        ("tcp", public.to_vec(), 1),
        ("ws", [path, origin].concat(), 1),
        ("http", [path, origin, public].concat(), 0),
        ("tcp", vec!["--path", "/mcp"], 0),
    ] {
        let log = Setup::new(transport).args(&flags).start().stop();
        assert_eq!(log.matches(warned).count(), wanted, "{flags:?}: {log}");
    }
    let server = Setup::new("tcp").start();
    let port = server.port.to_string();
    for (flags, wanted) in [
        (&["--max-attempts", "0"][..], true),
        (&["--reconnect-delay", "10"], true),
        (&["--max-attempts", "0", "--auto-reconnect"], false),
        (&[], false),
    ] {
        let client = ["client", "tcp", "--port", &port];
        let outcome = run(binary().args(client).args(flags), b"");
        let warned = outcome
            .stderr
            .contains("have no effect without --auto-reconnect");
        assert_eq!((outcome.code, warned), (Some(0), wanted), "{outcome:?}");
    }
}
