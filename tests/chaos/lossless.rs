//! While both ends live, broken connections cost nothing: nothing is lost, duplicated,
//! hung or out of order.

use crate::certificates::Files;
use crate::common::{BOTH, Setup, TestClient, request};
use crate::load::{AGAIN, ALERT, Host, Seed, Tally, Toll, seeds, stop};
use crate::process::PATIENCE;
use crate::relay::{Plan, Relay};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::time::Instant;

const REQUESTS: u64 = 2000;
const CUTS: usize = 50;

/// Maximum requests in flight; a host sends a few at a time, and sometimes many.
const MOST: usize = 64;

/// The setup of both ends.
#[derive(Clone, Copy, Debug)]
struct Way {
    transport: &'static str,
    secret: bool,
    tls: bool,
    isolated: bool,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [
            (self.secret, "secret"),
            (self.tls, "tls"),
            (self.isolated, "isolated"),
        ];
        f.write_str(self.transport)?;
        let mut words = words.iter().filter(|(has, _)| *has);
        words.try_for_each(|(_, word)| write!(f, " {word}"))
    }
}

fn run(way: Way, seed: u64, requests: u64, cuts: usize) -> Toll {
    let _seed = Seed(seed, way.transport);
    let mut random = StdRng::seed_from_u64(seed);
    let tally = Tally::new();
    let files = Files::new();
    let mut setup = tally.server(way.transport);
    let mut flags = Vec::new();
    if way.secret {
        setup = setup.secret();
    }
    if way.tls {
        let identity = files.identity("server");
        setup = setup.args(&identity.iter().map(String::as_str).collect::<Vec<_>>());
        flags = files.trusting("ca");
    }
    if way.isolated {
        setup = setup.args(&["--isolate", "--max-children", "1"]);
    }
    let server = setup.start();
    let relay = Relay::new(server.port);
    let began = Instant::now();
    let mut host = Host::start_with(way.transport, relay.port, 1, way.secret, &flags);
    host.tolerant = true;
    let plan = Plan {
        cuts,
        every: 300 << 10,
        silent: true,
    };
    relay.begin(plan, seed);
    host.initialize();
    // More than the requested number, if the wire has not broken often enough by then.
    while host.asked() < requests || (relay.cuts() < cuts && host.asked() < 20 * requests) {
        host.ask(&mut random);
        let most = if random.random_ratio(1, 50) { 0 } else { MOST };
        if host.owed() > most {
            host.hear_until_within(most, PATIENCE);
        }
        host.hear();
    }
    host.hear_until(0);
    let toll = host.toll(&tally, relay.cuts());
    println!(
        "{way}, seed {seed}: {toll}; {} connections, {:.1} s",
        relay.connections(),
        began.elapsed().as_secs_f64()
    );
    if std::env::var_os("CHAOS_LOG").is_some() {
        println!("{}", host.client.log.text());
    }
    if toll.hung == 0 {
        host.leave();
    }
    assert!(relay.cuts() >= cuts, "only {} cuts", relay.cuts());
    let text = tally.text();
    assert!(
        !text.contains("mcp-remote/"),
        "a control line has reached the child"
    );
    stop(server);
    toll
}

/// Runs all seeds before it reports failures.
fn run_all(ways: impl IntoIterator<Item = (Way, u64)>, requests: u64, cuts: usize) {
    let mut sum = Toll::default();
    for (way, seed) in ways {
        sum += run(way, seed, requests, cuts);
    }
    println!("{} runs: {sum}", sum.runs);
    assert!(sum.is_nothing(), "{sum}");
}

fn usual(transport: &'static str) -> Way {
    Way {
        transport,
        secret: true,
        tls: false,
        isolated: false,
    }
}

#[test]
fn nothing_is_lost_over_tcp() {
    let seeds = seeds(&[1, 2, 3]).into_iter();
    run_all(seeds.map(|seed| (usual("tcp"), seed)), REQUESTS, CUTS);
}

#[test]
fn nothing_is_lost_over_websocket() {
    let seeds = seeds(&[1, 2, 3]).into_iter();
    run_all(seeds.map(|seed| (usual("ws"), seed)), REQUESTS, CUTS);
}

/// Every combination, each with its own seeds. Bug: without a token, what was sent before the
/// server's first line was lost with the connection.
#[test]
fn nothing_is_lost_in_any_combination() {
    let mut ways = Vec::new();
    for number in 0..16 {
        let way = Way {
            transport: BOTH[number & 1],
            secret: number & 2 != 0,
            tls: number & 4 != 0,
            isolated: number & 8 != 0,
        };
        let seeds = seeds(&[100 + number as u64]).into_iter();
        ways.extend(seeds.map(|seed| (way, seed)));
    }
    run_all(ways, REQUESTS / 5, CUTS / 4);
}

/// The paths with the most layers between the two ends, at full length.
#[test]
fn nothing_is_lost_under_tls_and_with_a_child_of_ones_own() {
    let way = |transport, tls, isolated| Way {
        tls,
        isolated,
        ..usual(transport)
    };
    let ways = [
        (way("tcp", true, false), 4),
        (way("ws", true, false), 5),
        (way("tcp", false, true), 6),
        (way("ws", true, true), 7),
    ];
    let all = ways
        .into_iter()
        .flat_map(|(way, seed)| seeds(&[seed]).into_iter().map(move |seed| (way, seed)));
    run_all(all, REQUESTS, CUTS);
}

/// A question from the MCP server is asked once, and answered once.
#[test]
fn questions_and_their_answers_are_not_lost() {
    for (number, transport) in BOTH.into_iter().cycle().take(4).enumerate() {
        for seed in seeds(&[200 + number as u64]) {
            let _seed = Seed(seed, transport);
            let args: &[&str] = if number < 2 { &[] } else { &["--isolate"] };
            let server = Setup::new(transport).args(ALERT).args(args).start();
            let relay = Relay::new(server.port);
            let flags = [AGAIN, ALERT].concat();
            let mut client = TestClient::start(transport, relay.port, &flags, None);
            let params =
                json!({"protocolVersion": "2025-06-18", "capabilities": {"elicitation": {}}});
            client.ask("init", "initialize", params);
            client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
            let plan = Plan {
                cuts: 30,
                every: 700,
                silent: false,
            };
            relay.begin(plan, seed);
            let mut asked = 0;
            while relay.cuts() < 30 || asked < 100 {
                let params = json!({"ask": "elicitation/create", "n": asked});
                client.send(&request(asked, "tools/call", params));
                // In this order: the child sends its question before its response.
                let question = client.next();
                assert_eq!(question["method"], "elicitation/create", "{question}");
                assert_eq!(client.next()["id"], asked);
                let result = json!({"action": "accept", "content": {"n": asked}});
                let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
                client.send(&answer.to_string());
                server.wait_seen(&format!("\"content\":{{\"n\":{asked}}}"));
                asked += 1;
            }
            let answers = server.seen().matches("\"content\"").count();
            assert_eq!(answers as u64, asked, "lost or doubled");
            println!(
                "{transport} {args:?}, seed {seed}: {asked} questions, {} cuts",
                relay.cuts()
            );
            client.close_stdin();
            assert_eq!(client.wait(), Some(0));
            stop(server);
        }
    }
}
