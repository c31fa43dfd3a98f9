//! `check`.

use super::*;

fn check(args: &[&str]) -> Outcome {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/examples/permissions-tools.json"
    );
    let mut command = binary();
    command.args(["check", "--permissions-config", file]);
    run(command.args(args), b"")
}

#[test]
fn check_says_what_decides() {
    for (args, code, parts) in [
        (
            &["--roles", "reader", "--tool", "read_note"][..],
            0,
            &[
                "allowed: tool 'read_note'",
                "allowedTools 'read_*' (line 16)",
            ][..],
        ),
        (
            &["--roles", "reader", "--tool", "write_note"],
            1,
            &["denied: tool 'write_note'", "no rule allows it"],
        ),
        (
            &["--roles", "reader,writer", "--tool", "write_note"],
            0,
            &["allowed", "'write_note' (line 21)"],
        ),
        (
            &["--roles", "admin,trainee", "--tool", "delete_note"],
            1,
            &["denied", "blockedTools 'delete_*' (line 25)"],
        ),
        (
            &[
                "--roles",
                "reader",
                "--method",
                "tools/list",
                "--tool",
                "write_note",
            ],
            1,
            &["denied"],
        ),
        (
            &["--roles", "reader", "--prompt", "any"],
            0,
            &["allowed", "role 'reader' has no restriction"],
        ),
        (
            &["--roles", "reader", "--resource", "note:///private/x"],
            1,
            &["denied", "(line 17)"],
        ),
        (
            &["--roles", "reader", "--resource", "note:///a//b"],
            1,
            &["denied", "segment"],
        ),
        (
            &["--roles", "reader", "--method", "resources/read"],
            0,
            &["allowed", "ask with --resource"],
        ),
        (
            &["--roles", "reader", "--method", "roots/list"],
            1,
            &["denied", "(line 15)"],
        ),
        (
            &["--roles", "nobody", "--method", "ping"],
            1,
            &["denied", "no role 'nobody'"],
        ),
        (
            &[
                "--roles",
                "writer",
                "--tool",
                "write_note",
                "--method",
                "ping",
            ],
            2,
            &[],
        ),
        (
            &["--roles", "writer", "--tool", "x", "--prompt", "x"],
            2,
            &[],
        ),
        (&[], 2, &[]),
        (
            &["--roles", "reader,trainee"],
            0,
            &[
                "tools/call ",
                "line 8",
                "roots/list",
                "'delete_*' (line 25)",
                "prompts, ",
            ],
        ),
    ] {
        let outcome = check(args);
        assert_eq!(outcome.code, Some(code), "{args:?}: {outcome:?}");
        for part in parts {
            assert!(
                outcome.stdout.contains(part),
                "{args:?}, {part}: {outcome:?}"
            );
        }
        assert_eq!(outcome.stdout.is_empty(), code == 2, "{outcome:?}");
    }
}

#[test]
fn check_of_a_broken_file_is_not_a_denial() {
    let outcome = run(
        binary().args(["check", "--roles", "x", "--permissions-config", "/nowhere"]),
        b"",
    );
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome
            .stderr
            .starts_with("error: could not read the policy file /nowhere")
    );
}
