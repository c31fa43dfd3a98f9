//! Commands that print and exit, and command lines that cannot start.

use crate::common::{SECRET, Setup, now};
use crate::process::{Outcome, assert_fails, binary, run};
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::Value;
use std::process::Command;

fn outcome(args: &[&str]) -> Outcome {
    run(binary().args(args), b"")
}

/// Stdout of a command that must succeed.
fn stdout(args: &[&str]) -> String {
    let outcome = outcome(args);
    assert_eq!(outcome.code, Some(0), "{args:?}: {}", outcome.stderr);
    outcome.stdout
}

fn claims(token: &str, secret: &str) -> Value {
    let key = DecodingKey::from_secret(secret.as_bytes()).unwrap();
    decode(token, &key, &Validation::default()).unwrap().claims
}

#[test]
fn bad_usage_is_told_in_one_line() {
    for (arguments, code, says) in [
        ("bogus", 2, "unrecognized subcommand 'bogus'"),
        ("server", 2, "required arguments"),
        ("server udp --port 1 -- x", 2, "'udp'"),
        ("server tcp --port 1 --bogus -- x", 2, "--bogus"),
        (
            "server tcp --port 1 --max-message-size 9parsecs -- x",
            2,
            "unit",
        ),
        (
            "server tcp --port 1 --max-message-size 0 -- x",
            2,
            "not a size",
        ),
        (
            "server tcp --port 1 --max-message-size 1025MiB -- x",
            2,
            "at most",
        ),
        (
            "server tcp --port 1 --max-connections 0 -- x",
            2,
            "a whole number from 1 to 4294967295 is needed",
        ),
        (
            "server tcp --port 1 --auth-timeout 0s -- x",
            2,
            "greater than zero",
        ),
        ("server tcp --port 1 --idle-timeout soon -- x", 2, "30m"),
        (
            "server tcp --port 1 --idle-timeout 5 -- x",
            2,
            ": a unit is needed; use for instance 60s",
        ),
        (
            "server tcp --port 1 --idle-timeout 5nights -- x",
            2,
            ": 'nights' is no unit; use for instance 60s",
        ),
        (
            "server tcp --port 0 --require-roles a -- x",
            2,
            "needs a secret",
        ),
        (
            "server tcp --port 0 --host no.host.invalid -- cat",
            1,
            "no.host.invalid",
        ),
        (
            "server tcp --port 0 --jwt-secret-file /no/file -- x",
            1,
            "/no/file",
        ),
        (
            "server tcp --port 0 --jwt-secret-file a --jwt-secret b -- x",
            2,
            "with",
        ),
        ("client", 2, "required arguments"),
        ("client tcp", 2, "--port"),
        ("client ws", 2, "use --port, or with 'client ws' --url"),
        ("client http", 2, "needs --url https://host/path"),
        ("client unix", 2, "needs --path"),
        ("client tcp --port 1 --tls-ca x.pem", 2, "add --tls"),
        ("client tcp --port 0", 2, "a number from 1 to 65535"),
        ("client tcp --port abc", 2, "a number from 1 to 65535"),
        ("server tcp --port abc -- x", 2, "a number from 0 to 65535"),
        (
            "client tcp --port 1 --token x",
            2,
            "exists: '--jwt-token'\n",
        ),
        ("client tcp 18180", 2, "the port has a flag: --port 18180"),
        (
            "server tcp 18180 -- x",
            2,
            "the port has a flag: --port 18180",
        ),
        (
            "client http https://h/mcp",
            2,
            "the URL has a flag: --url https://h/mcp",
        ),
        (
            "server tcp --port 1 --isolate always -- x",
            2,
            "--isolate=always",
        ),
        ("server tcp --port 1 npx x", 2, "follows '--': -- npx"),
        (
            "client tcp --url ws://localhost:1",
            2,
            "--url is for 'client ws'",
        ),
        ("client ws --url http://localhost", 2, "ws://"),
        (
            "client ws --url ws://localhost/?token=x",
            2,
            "MCP_REMOTE_JWT_TOKEN",
        ),
        ("client tcp --port 1 --jwt-token=", 1, "empty"),
        ("generate-secret --bits 100", 2, "128, 256, 512"),
        ("generate-token", 1, "--auto-secret"),
        ("generate-token --jwt-secret=", 1, "empty"),
        (
            "generate-token --jwt-secret x --auto-secret",
            2,
            "cannot be used with",
        ),
        ("generate-token --jwt-secret x --expires-in never", 2, "7d"),
        (
            "generate-token --jwt-secret x --expires-in 0s",
            2,
            "greater than zero",
        ),
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        assert_fails(&outcome(&arguments), code, says);
    }
}

/// Bug: each of these named a remedy that does not help.
#[test]
fn remedies_name_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("headers");
    std::fs::write(&headers, "# ours\nX-Team: a\nsecret\n").unwrap();
    let headers = headers.to_str().unwrap();
    let url = "http://localhost:1/";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let server = ["server", "tcp", "--port", "0"];
    for (arguments, code, says) in [
        (
            [&server[..], &["--metrics", &taken, "--", "cat"]].concat(),
            1,
            "choose another --metrics",
        ),
        (
            [&server[..], &["--health", &taken, "--", "cat"]].concat(),
            1,
            "choose another --health",
        ),
        (
            [&server[..], &["--", "cat -u x"]].concat(),
            1,
            "are one word here; remove the quotes",
        ),
        (
            [&server[..], &["--", "no-such-program x"]].concat(),
            1,
            "check the command after '--'",
        ),
        (
            vec!["generate-permissions", "--", "cat -u"],
            1,
            "are one word here; remove the quotes",
        ),
        (
            vec!["client", "http", "--url", url, "--header-file", headers],
            2,
            &format!("line 3 of --header-file {headers} is not of the form 'Name: value'"),
        ),
    ] {
        assert_fails(&outcome(&arguments), code, says);
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in [
        &["--help"][..],
        &["server", "--help"],
        &["client", "--help"],
        &["generate-token", "-h"],
        &["inspect-token", "-h"],
    ] {
        assert!(stdout(args).contains("Usage: mcp-remote"), "{args:?}");
    }
    assert!(stdout(&["--help"]).contains("Examples:"));
    let version = stdout(&["--version"]);
    let own = format!("mcp-remote {} (", env!("CARGO_PKG_VERSION"));
    assert!(version.starts_with(&own), "{version}");
    assert!(
        version.contains("-linux-") || version.contains("-apple-"),
        "{version}"
    );
}

#[test]
fn every_setting_has_an_environment_twin() {
    let commands = [
        "server",
        "client",
        "generate-secret",
        "generate-token",
        "check",
        "inspect-token",
    ];
    let help = commands
        .map(|command| stdout(&[command, "--help"]))
        .concat();
    let words: Vec<&str> = help.split_whitespace().collect();
    let unwrapped = words.join(" ");
    let flags = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"));
    let mut counted = 0;
    for flag in flags.filter_map(|line| line.split([' ', '=', '[']).next()) {
        let twin = flag.to_uppercase().replace('-', "_");
        let twin = format!("[env: MCP_REMOTE_{twin}=");
        assert!(unwrapped.contains(&twin), "--{flag} has no {twin}");
        counted += 1;
    }
    assert!(counted > 20, "{help}");
}

#[test]
fn a_secret_stands_alone_on_stdout() {
    for (args, length) in [
        (&[][..], 43),
        (&["--bits", "128"], 22),
        (&["--bits", "256"], 43),
        (&["--bits", "512"], 86),
    ] {
        let outcome = outcome(&[&["generate-secret"], args].concat());
        let secret = outcome.stdout.strip_suffix('\n').unwrap();
        assert_eq!((outcome.code, secret.len()), (Some(0), length));
        assert!(
            secret
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)),
            "{secret}"
        );
        assert!(!outcome.stderr.contains(secret));
    }
}

#[test]
fn a_token_stands_behind_its_headline() {
    let text = stdout(&[
        "generate-token",
        "--jwt-secret",
        SECRET,
        "--user",
        "alice",
        "--roles",
        "admin, user",
        "--expires-in",
        "12h",
    ]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Generated JWT token:");
    let claims = claims(lines[1], SECRET);
    assert_eq!(claims["user"], "alice");
    assert_eq!(claims["roles"], serde_json::json!(["admin", "user"]));
    let (iat, exp) = (
        claims["iat"].as_u64().unwrap(),
        claims["exp"].as_u64().unwrap(),
    );
    assert!(now() - iat < 60 && exp - iat == 12 * 3600, "{claims}");
    assert!(
        text.contains("- User: alice\n- Roles: admin, user\n- Expires: "),
        "{text}"
    );
}

#[test]
fn the_expiry_is_read_as_documented() {
    let year = 31_557_600;
    for (text, seconds) in [
        ("60s", 60),
        ("30m", 1800),
        ("12h", 43_200),
        ("7d", 604_800),
        ("1y", year),
        ("1h 30m", 5400),
    ] {
        let token = stdout(&[
            "generate-token",
            "--jwt-secret",
            SECRET,
            "--quiet",
            "--expires-in",
            text,
        ]);
        let claims = claims(token.trim_end(), SECRET);
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            seconds,
            "{text}"
        );
        assert!(
            claims.get("user").is_none() && claims.get("roles").is_none(),
            "{claims}"
        );
    }
    let endless = stdout(&[
        "generate-token",
        "--jwt-secret",
        SECRET,
        "--quiet",
        "--expires-in",
        "500000y",
    ]);
    claims(endless.trim_end(), SECRET);
}

#[test]
fn auto_secret_prints_the_secret_that_signs() {
    let text = stdout(&["generate-token", "--auto-secret"]);
    let secret = text
        .lines()
        .find_map(|line| line.strip_prefix("Generated secret: "))
        .unwrap();
    let token = text
        .lines()
        .skip_while(|line| *line != "Generated JWT token:")
        .nth(1)
        .unwrap();
    claims(token, secret);
    let quiet = outcome(&["generate-token", "--auto-secret", "--quiet"]);
    let secret = quiet
        .stderr
        .trim()
        .strip_prefix("Generated secret: ")
        .unwrap();
    claims(quiet.stdout.trim_end(), secret);
}

#[test]
fn the_workflow_of_the_readme_works_as_pasted() {
    let script = r#"
        set -e
        function mcp-remote { "$BINARY" "$@"; }
        SECRET=$(mcp-remote generate-secret --bits 256)
        TOKEN=$(mcp-remote generate-token --jwt-secret "$SECRET" --user "admin" --roles "admin" --expires-in "24h" | grep "Generated JWT token:" -A1 | tail -1)
        echo "$SECRET"
        echo "$TOKEN"
    "#;
    let mut shell = Command::new("bash");
    shell
        .args(["-c", script])
        .env("BINARY", env!("CARGO_BIN_EXE_mcp-remote"));
    let outcome = run(&mut shell, b"");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!((outcome.code, lines.len()), (Some(0), 2), "{outcome:?}");
    assert_eq!(claims(lines[1], lines[0])["roles"][0], "admin");
}

/// Bug: the error did not say what had no space left.
#[cfg(target_os = "linux")]
#[test]
fn a_stdout_that_takes_nothing_is_named() {
    let script = format!(
        "'{}' generate-secret > /dev/full",
        env!("CARGO_BIN_EXE_mcp-remote")
    );
    let outcome = run(Command::new("sh").args(["-c", &script]), b"");
    assert_fails(
        &outcome,
        1,
        "could not write to stdout: No space left on device",
    );
}

#[test]
fn a_closed_stdout_is_no_failure() {
    let script = format!(
        "'{}' generate-token --auto-secret | true",
        env!("CARGO_BIN_EXE_mcp-remote")
    );
    let mut shell = Command::new("bash");
    let outcome = run(shell.args(["-o", "pipefail", "-c", &script]), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
}

#[test]
fn what_stands_behind_the_dashes_is_the_childs() {
    let setup = Setup::new("tcp").program(&[
        "sh",
        "-c",
        "echo \"$@\" >&2; exit 7",
        "sh",
        "--port",
        "x",
        "--",
        "--jwt-secret",
        "y",
    ]);
    let outcome = setup.run();
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.contains("--port x -- --jwt-secret y"),
        "{outcome:?}"
    );
}

/// Kubernetes sets it like this for every container next to a Service named `mcp-remote`.
#[test]
fn a_port_of_kubernetes_ends_no_start() {
    let value = "tcp://10.0.0.1:8080";
    let server = Setup::new("tcp").env("MCP_REMOTE_PORT", value).start();
    server.log.wait_for("MCP_REMOTE_PORT is ignored");
    server.assert_serving();
    let mut client = binary();
    client.args(["client", "tcp"]).env("MCP_REMOTE_PORT", value);
    let outcome = run(&mut client, b"");
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("--port"), "{outcome:?}");
    // A value that is a port is still used.
    client.env("MCP_REMOTE_PORT", "1");
    assert_eq!(run(&mut client, b"").code, Some(1));
}
