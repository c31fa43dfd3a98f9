//! Web pages in a real browser against every kind of port that the server opens: whatever a page from
//! another origin tries, the MCP server receives nothing from it.
//!
//! Needs Debian's chromium and npm; a missing one is a failure. Not part of plain `cargo test`:
//! `cargo test --test browser`.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod chromium;
mod sdk;
mod site;

use chromium::Chromium;
use common::{Setup, TestServer, token_with};
use serde_json::{Value, json};
use site::{Port, Reports, gullible};
use support::{common, process};

/// A server, by name.
struct Door {
    name: &'static str,
    server: TestServer,
    guarded: bool,
}

/// `allowed` is an origin.
fn doors(allowed: &str) -> Vec<Door> {
    let allow = ["--allow-origin", allowed];
    [
        ("tcp", Setup::new("tcp"), false),
        ("tcp with a secret", Setup::new("tcp").secret(), true),
        (
            "tcp, isolated",
            Setup::new("tcp").args(&["--isolate"]),
            false,
        ),
        ("ws", Setup::new("ws"), false),
        ("ws with a secret", Setup::new("ws").secret(), true),
        ("ws for one origin", Setup::new("ws").args(&allow), false),
        (
            "ws for one origin with a secret",
            Setup::new("ws").secret().args(&allow),
            true,
        ),
    ]
    .into_iter()
    .map(|(name, setup, guarded)| Door {
        name,
        server: setup.start(),
        guarded,
    })
    .collect()
}

impl Door {
    /// What its MCP server has received from web pages so far.
    fn evil(&self) -> Vec<String> {
        let mut peer = match self.guarded {
            true => self.server.peer_with(&token_with(&[])),
            false => self.server.peer(),
        };
        let answer = peer.ask(1, "ping", json!({}));
        assert_eq!(answer["id"], 1, "{}: {answer}", self.name);
        let seen = self.server.seen();
        let evil = seen.lines().filter(|line| line.contains("EVIL"));
        evil.map(str::to_owned).collect()
    }
}

fn page(name: &str, doors: &[Value], next: Option<&str>) -> String {
    let settings = json!({"name": name, "doors": doors, "next": next});
    include_str!("page.html").replace("/*SETTINGS*/", &settings.to_string())
}

/// The result of an attack.
fn result<'a>(report: &'a Value, door: &str, attack: &str) -> &'a str {
    let results = report["results"].as_array().unwrap();
    let of = |result: &&Value| result["door"] == door && result["attack"] == attack;
    let result = results.iter().find(of).expect("each attack is reported");
    result["result"].as_str().unwrap()
}

#[test]
fn web_pages_reach_no_mcp_server() {
    let reports = Reports::new();
    let (evil_site, allowed_site, gullible_port) = (Port::new(), Port::new(), Port::new());
    let allowed_origin = format!("http://allowed.test:{}", allowed_site.number());
    let doors = doors(&allowed_origin);

    let there = |name: &str, port: u16| json!({"name": name, "host": "127.0.0.1", "port": port});
    let mut targets: Vec<Value> = doors
        .iter()
        .map(|door| there(door.name, door.server.port))
        .collect();
    // From the last page to the first, since each names the next one.
    let mut next: Option<String> = None;
    for door in &doors {
        let site = Port::new();
        let target = json!({"name": door.name, "port": site.number()});
        let url = format!("http://rebound.test:{}/page/rebound", site.number());
        let page = page("rebound", &[target], next.as_deref());
        reports.serve(site, page, Some(door.server.port));
        next = Some(url);
    }
    let url = format!("{allowed_origin}/page/allowed");
    reports.serve(
        allowed_site,
        page("allowed", &targets, next.as_deref()),
        None,
    );
    targets.push(there("gullible", gullible_port.number()));
    let evil_url = format!("http://evil.test:{}/page/evil", evil_site.number());
    reports.serve(evil_site, page("evil", &targets, Some(&url)), None);
    let gulled = gullible(gullible_port);

    let browser = Chromium::open(&evil_url);
    let evil = reports.next();
    let allowed = reports.next();
    let rebound: Vec<Value> = doors.iter().map(|_| reports.next()).collect();
    drop(browser);

    // The attacks work: where every line is taken for a message, it is executed.
    let gulled: Vec<String> = gulled.try_iter().collect();
    for attack in ["fetch", "beacon", "form"] {
        let end = format!("EVIL evil gullible {attack}");
        assert!(gulled.iter().any(|line| line.contains(&end)), "{gulled:?}");
    }
    for door in &doors {
        let seen = door.evil();
        let log = door.server.log.text();
        if door.name == "ws for one origin" {
            // The allowed page.
            assert!(
                seen.iter()
                    .all(|line| line.contains("EVIL allowed ws for one origin WebSocket")),
                "{seen:?}"
            );
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert!(result(&allowed, door.name, "WebSocket").starts_with("answered"));
        } else {
            assert_eq!(seen, [""; 0], "{}", door.name);
        }
        // They have connected; the first of each kind is logged.
        let refused = if door.name.starts_with("tcp") {
            "the head of an HTTP request"
        } else {
            "\" is not allowed"
        };
        assert!(log.contains(refused), "{}: {log}", door.name);
    }
    for (report, doors) in [(&evil, &doors[..])]
        .into_iter()
        .chain(rebound.iter().rev().zip(doors.chunks(1)))
    {
        for door in doors {
            let result = |attack| result(report, door.name, attack);
            assert!(result("WebSocket").starts_with("closed"), "{report}");
            assert_eq!(result("EventSource"), "failed", "{report}");
        }
    }
}
