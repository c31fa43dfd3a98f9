//! `generate-token` and `inspect-token`, and carelessly supplied secrets and tokens.

use super::*;

#[test]
fn a_new_token_has_a_name_of_its_own() {
    let make = |args: &[&str]| {
        let mut command = binary();
        command
            .args(["generate-token", "--user", "alice"])
            .args(args);
        run(command.env("MCP_REMOTE_JWT_SECRET", SECRET), b"").stdout
    };
    let text = make(&["--issuer", "us", "--audience", "notes"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("Generated JWT token:", 10));
    let id = lines[7].strip_prefix("- ID: ").expect(&text);
    assert_eq!(lines[8..], ["- Issuer: us", "- Audience: notes"]);
    let inspected = inspect(&[lines[1]], b"");
    assert!(
        inspected.stdout.contains(&format!("- ID: {id}\n")),
        "{inspected:?}"
    );
    assert_ne!(make(&["--quiet"]), make(&["--quiet"]));
}

fn inspect(args: &[&str], stdin: &[u8]) -> Outcome {
    run(binary().arg("inspect-token").args(args), stdin)
}

#[test]
fn a_token_is_shown_without_its_secret() {
    let (hour, day) = (3600, 86_400);
    let token = token(&json!({
        "user": "alice", "roles": ["admin", "user"], "jti": "a1", "iss": "us", "aud": ["x", "y"],
        "iat": now() - 3 * day, "nbf": now() - 3 * hour, "exp": now() + 3 * hour, "team": {"id": 7},
        "note": "\u{1b}[2Jx\n- Roles: root",
    }));
    let shown = inspect(&[&token], b"");
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
    for line in [
        "Algorithm: HS256",
        "- User: alice",
        "User: alice (from claim user)",
        "Roles: admin, user (from claim roles)",
        "- Roles: admin, user",
        "- ID: a1",
        "- Issuer: us",
        "- Audience: x, y",
        "- team: {\"id\":7}",
        "- note: \"\\u001b[2Jx\\n- Roles: root\"",
        "Signature: NOT CHECKED, no secret was given; anybody can have written this",
    ] {
        assert!(
            shown.stdout.lines().any(|shown| shown == line),
            "{line}: {shown:?}"
        );
    }
    for (title, end) in [
        ("Issued", "Z (3d ago)"),
        ("Not before", "Z (3h ago)"),
        ("Expires", "Z (in 3h)"),
    ] {
        let found = shown
            .stdout
            .lines()
            .find(|line| line.starts_with(&format!("- {title}: 20")));
        assert!(
            found.is_some_and(|line| line.ends_with(end)),
            "{title}: {shown:?}"
        );
    }
    // From any source.
    let files = Files::new();
    let file = files.write("token", &format!("{token}\n"));
    let padded = format!("  {token}\r\n");
    let in_variable = run(
        binary()
            .arg("inspect-token")
            .env("MCP_REMOTE_JWT_TOKEN", &token),
        b"",
    );
    for outcome in [
        inspect(&[], padded.as_bytes()),
        inspect(&["-"], padded.as_bytes()),
        inspect(&["--jwt-token", &token], b""),
        inspect(&["--jwt-token-file", &file], b""),
        in_variable,
    ] {
        assert_eq!(
            (outcome.code, &outcome.stdout),
            (Some(0), &shown.stdout),
            "{outcome:?}"
        );
    }
    assert_fails(&inspect(&["-"], b" \n"), 1, "no token given");
    assert_fails(&inspect(&[&file], b""), 1, "with --jwt-token-file");
    for bad in ["x", "a.b.c"] {
        assert_fails(&inspect(&["-"], bad.as_bytes()), 1, "this is not a token");
    }
}

#[test]
fn a_token_is_read_as_the_server_would() {
    let claims = json!({"sub": "s", "preferred_username": "bob", "id": 7, "realm_access": {"roles": ["a", "b"]}, "list": []});
    let token = token(&claims);
    for (flags, user, roles) in [
        (
            "",
            "User: s (from claim sub)",
            "Roles: none: the token has no claim 'roles'",
        ),
        (
            "--user-claim preferred_username --roles-claim realm_access.roles",
            "User: bob (from claim preferred_username)",
            "Roles: a, b (from claim realm_access.roles)",
        ),
        (
            "--user-claim usr --roles-claim realm_acess.roles",
            "User: none: the token has no claim 'usr'",
            "Roles: none: the token has no claim 'realm_acess.roles'",
        ),
        (
            "--user-claim id --roles-claim id",
            "User: none: claim 'id' is not a string",
            "Roles: none: claim 'id' is not a list of strings",
        ),
        (
            "--roles-claim list",
            "User: s (from claim sub)",
            "Roles: none (from claim list)",
        ),
    ] {
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let outcome = inspect(&[&[token.as_str()], &flags[..]].concat(), b"");
        let lines: Vec<&str> = outcome.stdout.lines().collect();
        assert!(
            lines.windows(2).any(|two| two == [user, roles]),
            "{user}, {roles}: {outcome:?}"
        );
    }
}

/// Bug: a mistyped flag was taken for the token.
#[test]
fn a_mistyped_flag_is_not_a_token() {
    for (flags, unexpected, meant) in [
        (
            &["--permision-config", "git.json"][..],
            "'--permision-config' found",
            "'--permissions-config'",
        ),
        (&["--jwt-sekret"], "'--jwt-sekret' found", "'--jwt-secret'"),
        (&["-x"], "'-x' found", ""),
    ] {
        let outcome = inspect(flags, b"");
        assert_fails(&outcome, 2, unexpected);
        assert!(outcome.stderr.contains(meant), "{outcome:?}");
    }
}

#[test]
fn a_token_is_judged_as_the_server_would() {
    let files = Files::new();
    let revoked = files.write("revoked", "a1\nuser:bob");
    let two = files.write("secrets", &format!("{NEW}\n{OLD}\n"));
    let with = |claims: &Value, algorithm| {
        let key = EncodingKey::from_secret(OLD.as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    };
    let plain = |claims: Value| with(&claims, Algorithm::HS256);
    let one = ["--jwt-secret", OLD];
    let unsigned = {
        let token = plain(json!({"user": "alice"}));
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap())
    };
    for (token, args, refusal) in [
        (plain(json!({"user": "alice"})), &one[..], None),
        (
            with(&json!({}), Algorithm::HS512),
            &["--jwt-secret-file", &two],
            None,
        ),
        (
            plain(of("alice", "a2")),
            &["--jwt-secret", OLD, "--revoked", &revoked],
            None,
        ),
        (
            plain(json!({})),
            &["--jwt-secret", NEW],
            Some("none of the secrets given has signed it"),
        ),
        (
            unsigned,
            &one,
            Some("the algorithm is none, not HS256, HS384 or HS512"),
        ),
        (
            plain(json!({"exp": now() - 7200})),
            &one,
            Some("it expired, exp is 20"),
        ),
        (
            plain(json!({"exp": now() - 7200})),
            &one,
            Some("Z (expired 2h ago)"),
        ),
        (plain(json!({"nbf": now() + 7200})), &one, Some("Z (in 2h)")),
        (
            plain(json!({"roles": "admin"})),
            &one,
            Some("claim 'roles' has the wrong type"),
        ),
        (
            plain(json!({})),
            &["--jwt-secret", OLD, "--jwt-issuer", "us"],
            Some("--jwt-issuer"),
        ),
        (
            plain(json!({})),
            &["--jwt-secret", OLD, "--jwt-audience", "us"],
            Some("--jwt-audience"),
        ),
        (
            plain(json!({"roles": ["a"]})),
            &["--jwt-secret", OLD, "--require-roles", "b, a"],
            None,
        ),
        (
            plain(json!({"roles": ["a"]})),
            &["--jwt-secret", OLD, "--require-roles", "b,c"],
            Some("none of the roles of --require-roles: b, c"),
        ),
        (
            plain(of("alice", "a1")),
            &["--jwt-secret", OLD, "--revoked", &revoked],
            Some("revoked"),
        ),
        (
            plain(of("bob", "b1")),
            &["--jwt-secret", OLD, "--revoked", &revoked],
            Some("revoked"),
        ),
    ] {
        let outcome = inspect(&[&[token.as_str()], args].concat(), b"");
        let verdict = outcome.stdout.lines().last().unwrap();
        match refusal {
            None => assert_eq!(
                (outcome.code, verdict, outcome.stderr.as_str()),
                (Some(0), "Accepted", "")
            ),
            Some(why) => {
                assert_eq!(outcome.code, Some(1), "{outcome:?}");
                let told = verdict.strip_prefix("Refused: ");
                let (found, remedy) = told.unwrap().split_once("; ").unwrap();
                assert!(found.contains(why) && !remedy.is_empty(), "{outcome:?}");
                // Bug: it said so again.
                assert_eq!(outcome.stderr, "");
            }
        }
        let all = outcome.stdout + &outcome.stderr;
        assert!(!all.contains(OLD) && !all.contains(NEW), "{all}");
    }
    let broken = files.write("revoked", "x y");
    let outcome = inspect(&["a.b.c", "--jwt-secret", OLD, "--revoked", &broken], b"");
    assert_fails(&outcome, 1, "this is not a token");
}

#[test]
fn careless_secrets_earn_one_warning() {
    let good = ["--jwt-secret", SECRET];
    let public = "can be read in 'ps'";
    let short = "a secret is shorter than 256 bits";
    let told = |setup: Setup| {
        let server = setup.start();
        server.reload();
        let log = server.stop();
        [public, short].map(|text| log.matches(text).count())
    };
    let new = || Setup::new("tcp");
    let variable = |secret: &str| new().env("MCP_REMOTE_JWT_SECRET", secret);
    assert_eq!(told(new().args(&good)), [1, 0]);
    assert_eq!(
        told(new().args(&["--jwt-secret", "x", "--jwt-secret", "y"])),
        [1, 1]
    );
    assert_eq!(told(variable("hunter2")), [0, 1]);
    let made = |bits| {
        let outcome = run(binary().args(["generate-secret", "--bits", bits]), b"");
        outcome.stdout.trim_end().to_owned()
    };
    for (bits, warnings) in [("128", 1), ("256", 0), ("512", 0)] {
        assert_eq!(told(variable(&made(bits))), [0, warnings], "{bits}");
    }
    let server = Setup::new("tcp").secret().start();
    let token = token(&of("alice", "a1"));
    let mut client = TestClient::start("tcp", server.port, &["--jwt-token", &token], None);
    client.ask(1, "ping", json!({}));
    client.log.wait_for("--jwt-token can be read in 'ps'");
}

#[test]
fn a_token_in_a_url_is_refused() {
    let server = Setup::new("ws").secret().env("RUST_LOG", "trace").start();
    let token = token(&of("alice", "a1"));
    for query in ["token=", "a=b&access_token=", "jwt=", "Token="] {
        let mut peer = TestPeer::connect("tcp", server.port);
        peer.raw(
            format!(
                "GET /notes?{query}{token} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(
            peer.next_line().as_deref(),
            Some("HTTP/1.1 400 Bad Request\r"),
            "{query}"
        );
    }
    let log = server.stop();
    assert_eq!(log.matches("a token in the URL").count(), 4, "{log}");
    assert!(
        !log.contains(&token) && !log.contains(&token[..40]),
        "{log}"
    );
    for url in [
        "ws://x:secret@localhost:1/",
        "ws://localhost:1/?token=secret",
    ] {
        let outcome = run(binary().args(["client", "ws", "--url", url]), b"");
        assert_fails(&outcome, 2, "MCP_REMOTE_JWT_TOKEN");
        assert!(
            !outcome.stderr.contains("secret@") && !outcome.stderr.contains("=secret"),
            "{outcome:?}"
        );
    }
}
