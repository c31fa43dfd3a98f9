//! Files as editors on all systems save them.

use crate::certificates::Files;
use crate::common::{SECRET, Setup, client_command, now, request, token, token_with};
use crate::process::{Outcome, assert_fails, run};
use serde_json::json;

const POLICY: &str = r#"{"permissions": {"user": {"allowedMethods": ["*"]}}}"#;

/// Each file that a server reads, and the flag that names it.
const OF_SERVER: [(&str, &str); 5] = [
    ("--jwt-secret-file", "secret"),
    ("--permissions-config", "policy"),
    ("--revoked", "revoked"),
    ("--tls-cert", "server.pem"),
    ("--tls-key", "server.key"),
];

/// Each that a client reads.
const OF_CLIENT: [(&str, &str); 2] = [("--jwt-token-file", "token"), ("--tls-ca", "ca.pem")];

fn all() -> Files {
    let files = Files::new();
    for (name, text) in [
        ("policy", POLICY),
        ("secret", SECRET),
        ("revoked", "user:mallory\n"),
        ("token", &token_with(&["user"])),
    ] {
        std::fs::write(files.path(name), text).unwrap();
    }
    files
}

fn change(files: &Files, name: &str, change: fn(&[u8]) -> Vec<u8>) {
    let path = files.path(name);
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, change(&text)).unwrap();
}

fn with_mark(text: &[u8]) -> Vec<u8> {
    [b"\xef\xbb\xbf", text].concat()
}

fn utf16(text: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(text).unwrap();
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    [0xff, 0xfe].into_iter().chain(units).collect()
}

fn server(files: &Files) -> Setup {
    let flags = OF_SERVER.map(|(flag, name)| [flag.to_owned(), files.path(name)]);
    let flags = flags.concat();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Setup::new("tcp").args(&flags)
}

/// A client's ping.
fn ping(files: &Files, port: u16) -> Outcome {
    let mut command = client_command("tcp", port);
    command.arg("--tls");
    for (flag, name) in OF_CLIENT {
        command.args([flag, &files.path(name)]);
    }
    run(&mut command, request(1, "ping", json!({})).as_bytes())
}

#[test]
fn a_byte_order_mark_is_skipped_in_every_file() {
    let files = all();
    for (_, name) in OF_SERVER.iter().chain(&OF_CLIENT) {
        change(&files, name, with_mark);
    }
    let server = server(&files).start();
    let outcome = ping(&files, server.port);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("\"result\""), "{outcome:?}");
    // The revocation list is in effect, including its first line.
    let claims = json!({"user": "mallory", "roles": ["user"], "exp": now() + 60});
    std::fs::write(files.path("token"), token(&claims)).unwrap();
    let outcome = ping(&files, server.port);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("Invalid token"), "{outcome:?}");
}

#[test]
fn utf_16_is_named() {
    for (flag, name) in OF_SERVER {
        let files = all();
        change(&files, name, utf16);
        let outcome = server(&files).run();
        let code = if flag == "--permissions-config" { 2 } else { 1 };
        assert_fails(&outcome, code, "it is saved as UTF-16; save it as UTF-8");
        let named = outcome.stderr.contains(&files.path(name));
        assert!(named, "{flag}: {outcome:?}");
    }
    let server = server(&all()).start();
    for (flag, name) in OF_CLIENT {
        let files = all();
        change(&files, name, utf16);
        let outcome = ping(&files, server.port);
        assert_fails(&outcome, 1, "it is saved as UTF-16; save it as UTF-8");
        assert!(
            outcome.stderr.contains(&files.path(name)),
            "{flag}: {outcome:?}"
        );
    }
}

#[test]
fn a_misspelt_key_of_a_policy_is_named_with_its_place_and_what_was_meant() {
    let files = all();
    let policy = POLICY
        .replace("{\"user\"", "{\n  \"user\"")
        .replace("allowedMethods", "allowedMethdos");
    std::fs::write(files.path("policy"), policy).unwrap();
    let says = "unknown key 'allowedMethdos' in role 'user' (line 2, column 12); did you mean 'allowedMethods'?";
    assert_fails(&server(&files).run(), 2, says);
}
