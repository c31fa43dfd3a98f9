//! docs/limits.md describes each bound as the program implements it.

use crate::pages::page;
use crate::tables::sources;

/// Rows whose bound is not a flag: the row's value, and the constant in the source.
const FIXED: [(&str, &str, &str); 71] = [
    (
        "pages of the list of tools, with `--pin-tools`",
        "1,000",
        "MAX_PAGES: usize = 1000",
    ),
    (
        "times that it is read again because it changes meanwhile",
        "4",
        "MAX_REREADS: usize = 4",
    ),
    (
        "tools that are not [as they were accepted](policy.md#tools-as-they-were-accepted), beyond those in the file, and are told of",
        "256",
        "MAX_TOLD: usize = 256",
    ),
    (
        "the key set of `--jwks`, from a URL",
        "1 MiB",
        "MAX_DOCUMENT: usize = 1 << 20",
    ),
    ("keys in it", "64", "MAX_KEYS: usize = 64"),
    (
        "time to fetch it",
        "10 s",
        "FETCH_TIMEOUT: Duration = Duration::from_secs(10)",
    ),
    (
        "fetches because of tokens with unknown keys, or of failures",
        "1 in 30 s",
        "PAUSE: Duration = Duration::from_secs(30)",
    ),
    (
        "time that a token with an unknown key waits for a fetch",
        "5 s",
        "MAX_WAIT: Duration = Duration::from_secs(5)",
    ),
    (
        "what a session was begun with",
        "1 KiB",
        "MAX_BEGIN: usize = 1024",
    ),
    (
        "pings at a shared MCP server that wait behind no other request of their peer",
        "4, each up to 1 KiB",
        "MAX_PINGS: usize = 4",
    ),
    (
        "tools whose headers are compared with their arguments",
        "4096",
        "MAX_TOOLS: usize = 4096",
    ),
    (
        "sessions revived after a restart",
        "65,536",
        "MAX_REVIVED: usize = 65_536",
    ),
    (
        "what a PROXY header holds behind its fixed part",
        "2 KiB",
        "MAX_REST: usize = 2048",
    ),
    (
        "proxies that a request has come through and are looked at",
        "32",
        "MAX_HOPS: usize = 32",
    ),
    (
        "the head of a request",
        "64 KiB",
        "MAX_HEAD: usize = 64 * 1024",
    ),
    (
        "how slowly a body may come, beyond the time to authenticate",
        "64 KiB/s",
        "SLOWEST: usize = 64 * 1024",
    ),
    (
        "events that wait while nobody listens",
        "256",
        "MAX_HELD: usize = 256",
    ),
    (
        "sent events kept for a client that comes back",
        "4 MiB",
        "MAX_KEPT: usize = 4 << 20",
    ),
    (
        "ended streams kept for a client that comes back",
        "64",
        "MAX_ENDED: usize = 64",
    ),
    (
        "time without a sign of life, WebSocket",
        "90 s",
        "SILENCE: Duration = Duration::from_secs(90)",
    ),
    (
        "WebSocket pings",
        "10 per second, 100 at once",
        "PING_BURST: u32 = 100",
    ),
    (
        "file descriptors kept for starting the MCP server and for reloads",
        "16",
        "RESERVE: usize = 16",
    ),
    ("the token", "16 KiB", "MAX_TOKEN_LINE: usize = 16 * 1024"),
    (
        "everything before authentication, WebSocket",
        "32 KiB",
        "UPGRADE_ALLOWANCE: usize = MAX_TOKEN_LINE + 16 * 1024",
    ),
    (
        "blank lines before the first message",
        "16",
        "MAX_BLANK: usize = 16",
    ),
    (
        "messages on one refused line that are answered",
        "16",
        "MAX_SEEN: usize = 16",
    ),
    (
        "such a request waits for a peer's return",
        "5 s",
        "BACK_AT_ONCE: Duration = Duration::from_secs(5)",
    ),
    (
        "requests remembered after their sender cancelled them or left",
        "1,024",
        "MAX_FORGOTTEN: usize = 1024",
    ),
    (
        "nesting of a message from a peer",
        "128 levels",
        "MAX_PEER_DEPTH: usize = 128",
    ),
    (
        "an id, or a progress token",
        "1 KiB",
        "MAX_ID_LENGTH: usize = 1024",
    ),
    (
        "the name of a tool or prompt, or a URI, where rules decide",
        "8 KiB",
        "MAX_NAME: usize = 8192",
    ),
    (
        "URIs of one `subscriptions/listen`, where rules decide",
        "1,024",
        "MAX_LISTENED: usize = 1024",
    ),
    (
        "a message from the MCP server",
        "64 MiB",
        "MAX_CHILD_MESSAGE: usize = 64 << 20",
    ),
    (
        "nesting of a message from the MCP server",
        "1,024 levels",
        "MAX_DEPTH: usize = 1024",
    ),
    (
        "a line of the MCP server's stderr",
        "8 KiB",
        "MAX_STDERR_LINE: usize = 8 * 1024",
    ),
    (
        "users whose rate is counted",
        "8,192",
        "MAX_USERS: usize = 8192",
    ),
    (
        "requests in flight",
        "16,384",
        "MAX_IN_FLIGHT: usize = 16_384",
    ),
    (
        "cancelled requests whose late answer is still recognised",
        "256",
        "MAX_CANCELLED: usize = 256",
    ),
    (
        "subscribed resources",
        "1,024",
        "MAX_PER_SESSION: usize = 1024",
    ),
    (
        "the URI of a subscription",
        "4 KiB",
        "MAX_URI: usize = 4096",
    ),
    (
        "open `subscriptions/listen`",
        "256",
        "MAX_LISTEN_REQUESTS: usize = 256",
    ),
    (
        "the size of a `subscriptions/listen`",
        "64 KiB",
        "MAX_LISTEN_SIZE: usize = 64 * 1024",
    ),
    (
        "word that a list has changed (`list_changed`)",
        "1 a second",
        "INTERVAL: Duration = Duration::from_secs(1)",
    ),
    (
        "tasks whose owner is known",
        "65,536",
        "MAX_TASKS: usize = 65_536",
    ),
    (
        "tasks whose progress is passed on",
        "256",
        "MAX_PROGRESS: usize = 256",
    ),
    (
        "open requests of the MCP server to peers",
        "1,024",
        "MAX_OPEN: usize = 1024",
    ),
    (
        "open requests of the MCP server to one peer",
        "64",
        "MAX_OPEN_OF_SESSION: usize = 64",
    ),
    (
        "open requests of the MCP server to one user",
        "256",
        "MAX_OPEN_OF_USER: usize = 256",
    ),
    (
        "such requests that wait for one user",
        "16",
        "MAX_PARKED_OF_USER: usize = 16",
    ),
    (
        "URL elicitations of one user whose completion is passed on",
        "256",
        "MAX_ELICITATIONS_OF_USER: usize = 256",
    ),
    (
        "such requests that wait for one peer",
        "8",
        "MAX_PARKED_OF_SESSION: usize = 8",
    ),
    (
        "URL elicitations of one peer whose completion is passed on",
        "64",
        "MAX_ELICITATIONS_OF_SESSION: usize = 64",
    ),
    (
        "such requests that wait for a peer's handshake, or for its return",
        "64, each up to 64 KiB",
        "MAX_PARKED: usize = 64;\nconst MAX_PARKED_SIZE: usize = 64 * 1024",
    ),
    (
        "URL elicitations whose completion is passed on",
        "1,024",
        "MAX_ELICITATIONS: usize = 1024",
    ),
    (
        "what waits for one peer, sent but not acknowledged included",
        "64 MiB",
        "MAX_OUTBOX: usize = 64 << 20",
    ),
    (
        "what waits for a process of the MCP server",
        "1 MiB, then peers are not read",
        "HIGH_WATER: usize = 1 << 20",
    ),
    (
        "what is read ahead of clients that can resume while the MCP server takes nothing",
        "4 MiB",
        "AHEAD: usize = 4 * ACK_BYTES",
    ),
    (
        "what is read ahead of other clients, so that they can [cancel](sharing.md#what-a-shared-process-means) what they wait for",
        "64 KiB",
        "AHEAD_OF_PLAIN: usize = 64 << 10",
    ),
    (
        "audit lines that wait for the disk",
        "4 MiB",
        "LIMIT: usize = 4 << 20",
    ),
    (
        "a line from the host",
        "64 MiB",
        "MAX_HOST_LINE: usize = MAX_QUEUED",
    ),
    (
        "what is read of the host before there is a connection",
        "64 MiB",
        "MAX_QUEUED: usize = 64 << 20",
    ),
    (
        "what waits for the host to read it",
        "1 MiB",
        "MAX_UNWRITTEN: usize = 1 << 20",
    ),
    (
        "requests of the MCP server that the client remembers",
        "1,024",
        "MAX_ASKED: usize = 1024",
    ),
    (
        "requests that are open over HTTP",
        "128",
        "MAX_CALLS: usize = 128",
    ),
    (
        "notifications and answers that are being posted over HTTP",
        "32",
        "MAX_OTHERS: usize = 32",
    ),
    (
        "what waits to be posted over HTTP",
        "64 MiB",
        "MAX_WAITING: usize = 64 << 20",
    ),
    (
        "an answer, or an event of a stream, over HTTP",
        "64 MiB",
        "MAX_SERVER_LINE: usize = (64 << 20) + (64 << 10)",
    ),
    (
        "the head of an HTTP response",
        "64 KiB",
        "MAX_HEAD: usize = 64 * 1024",
    ),
    (
        "redirects in a row, on the same host",
        "5",
        "MAX_MOVES: u32 = 5",
    ),
    (
        "attempts to resume a stream of which nothing comes",
        "5",
        "MAX_RESUMES: u32 = 5",
    ),
    (
        "a pause that an HTTP server asks for",
        "10 min",
        "MAX_RETRY: Duration = Duration::from_secs(600)",
    ),
];

/// The rows of the page: what, whom, default, flag, error.
fn rows() -> Vec<Vec<String>> {
    let text = page("docs/limits.md").text;
    let (_, tables) = text.split_once("## The table\n").expect("the bounds");
    let tables = tables.split("\n## ").next().unwrap_or_default();
    let rows = tables.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    })
    .filter(|cells: &Vec<String>| cells[0] != "what" && !cells[0].starts_with("---"))
    .collect()
}

#[test]
fn every_row_is_complete() {
    let rows = rows();
    assert!(rows.len() > 45, "{}", rows.len());
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        let flag = row[3].starts_with("`--") || row[3].starts_with("`client --");
        assert!(flag || row[3] == "fixed", "{row:?}");
    }
}

#[test]
fn fixed_bounds_are_those_of_the_source() {
    let rows = rows();
    let sources = sources().concat();
    for (what, value, constant) in FIXED {
        let row = rows.iter().find(|row| row[0] == what);
        let row = row.unwrap_or_else(|| panic!("docs/limits.md has no row {what:?}"));
        assert_eq!(row[2], value, "{what}");
        let found = sources.contains(constant);
        assert!(
            found,
            "docs/limits.md says {value:?} of {what:?}, but src/ has no {constant}"
        );
    }
}

#[test]
fn flags_of_the_server_that_are_bounds_are_in_the_table() {
    let server = page("docs/server.md").text;
    let bounds = server.lines().filter_map(|line| {
        let flag = line.strip_prefix("| `--")?.split([' ', '`']).next()?;
        let is_bound = flag.starts_with("max-") || flag.starts_with("rate-");
        (is_bound || flag.ends_with("-timeout")).then(|| flag.to_owned())
    });
    let listed: Vec<String> = rows().into_iter().map(|row| row[3].clone()).collect();
    let mut checked = 0;
    for flag in bounds.filter(|flag| flag != "drain-timeout") {
        checked += 1;
        let cell = format!("`--{flag}`");
        assert!(
            listed.iter().any(|it| it.contains(&cell)),
            "docs/limits.md has no row for --{flag}"
        );
    }
    assert!(checked > 10, "{checked}");
}
