//! How long the head of a request may be.

use crate::common::TestServer;
use crate::support::http::{Http, INITIALIZE};

/// The longest, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The status of a request with this head, to which a header `X-Pad` is added.
fn status(server: &TestServer, head: &str, pad: usize) -> u16 {
    let mut http = Http::connect(server.port);
    let pad = "x".repeat(pad);
    // The server may answer before it has read everything.
    http.try_raw(format!("{head}X-Pad: {pad}\r\n\r\n{INITIALIZE}").as_bytes());
    http.answer().status()
}

/// Bug: heads of up to 100 KB were accepted.
#[test]
fn a_head_that_is_too_long_is_refused() {
    let server = TestServer::start("http");
    let length = INITIALIZE.len();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    );
    let rest = MAX_HEAD - head.len() - "X-Pad: \r\n\r\n".len();
    assert_eq!(status(&server, &head, rest), 200);
    for more in [1, 1000, 40_000, 400_000] {
        assert_eq!(status(&server, &head, rest + more), 431, "{more}");
    }
    let many = |count: usize| (5..count).map(|_| "X: y\r\n").collect::<String>();
    assert_eq!(status(&server, &(head.clone() + &many(100)), 1), 200);
    assert_eq!(status(&server, &(head + &many(101)), 1), 431);
}
