//! The first bytes on a WebSocket port: an upgrade, another HTTP request, or something other than HTTP.

use crate::transport::foreign::{self, http_answer};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The path of the liveness check.
const HEALTH: &str = "/healthz";

/// The path of the readiness check.
const READINESS: &str = "/readyz";

/// The text for clients without WebSocket.
const UPGRADE: &str = "this port speaks MCP over WebSocket: connect with 'mcp-remote client ws', or with any WebSocket client\n";

/// The length of every `Sec-WebSocket-Key`.
const KEY: usize = 24;

/// The first bytes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The head of an upgrade, and what has come behind it.
    Upgrade(Bytes),
    /// Another HTTP request.
    Plain(Answer),
    /// A health check that asks whether the MCP server answers; with whether the answer has a body.
    Readiness(bool),
    /// Something other than HTTP.
    Foreign,
    /// Nothing, or a part of a head: the far end has hung up.
    End,
}

/// The answer to an HTTP request that upgrades nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The answer, body included.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// False for the answer to a health check.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.status >= 400
    }
}

/// Reads the head of an HTTP request of at most `limit` bytes; more is answered 431. The caller limits
/// the time.
///
/// # Errors
/// The stream's error.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Request> {
    let mut read = BytesMut::with_capacity(1024);
    while read.len() < limit {
        let searched = read.len();
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(Request::End);
        }
        // Resume the search where it ended, so that a sender of single bytes does not cost
        // quadratic time.
        let from = searched.saturating_sub(3);
        let Some(first) = read.iter().position(|byte| !b"\r\n".contains(byte)) else {
            continue;
        };
        if !may_be_http(&read[first..]) {
            return Ok(Request::Foreign);
        }
        if ends_head(read.get(from.max(first)..).unwrap_or_default()) {
            let head = read.split_off(first).freeze();
            return Ok(judge(head));
        }
    }
    let text = "the head of the request is too long\n";
    Ok(Request::Plain(Answer {
        status: 431,
        bytes: http_answer("431 Request Header Fields Too Large", "", text, true),
    }))
}

/// False as soon as the beginning of a stream shows that it is no HTTP request.
fn may_be_http(begin: &[u8]) -> bool {
    match memchr::memchr(b'\n', begin) {
        Some(end) => foreign::is_http_request(&begin[..end]),
        None => begin.first().is_none_or(u8::is_ascii_uppercase),
    }
}

fn ends_head(bytes: &[u8]) -> bool {
    let has = |end| memchr::memmem::find(bytes, end).is_some();
    has(b"\r\n\r\n") || has(b"\n\n")
}

fn judge(bytes: Bytes) -> Request {
    let head = Head::of(&bytes);
    let is_asked = matches!(head.method, "GET" | "HEAD") && !head.lists("upgrade", "websocket");
    if is_asked && head.target.split('?').next() == Some(READINESS) {
        return Request::Readiness(head.method == "GET");
    }
    let answer = plain(&head);
    answer.map_or(Request::Upgrade(bytes), Request::Plain)
}

/// The answer to a request that is no proper upgrade.
fn plain(head: &Head<'_>) -> Option<Answer> {
    let with_body = head.method != "HEAD";
    let answer = |status: u16, reason: &str, headers: &str, text: &str| {
        let bytes = http_answer(&format!("{status} {reason}"), headers, text, with_body);
        Some(Answer { status, bytes })
    };
    let upgrade = |headers: &str| {
        let headers = format!("Upgrade: websocket\r\n{headers}");
        answer(426, "Upgrade Required", &headers, UPGRADE)
    };
    if !head.lists("upgrade", "websocket") {
        let path = head.target.split('?').next();
        return match head.method {
            "GET" | "HEAD" if path == Some(HEALTH) => answer(200, "OK", "", "ok\n"),
            _ => upgrade(""),
        };
    }
    if head
        .value("sec-websocket-version")
        .is_some_and(|version| version != "13")
    {
        return upgrade("Sec-WebSocket-Version: 13\r\n");
    }
    let key = head.value("sec-websocket-key");
    let proper = head.method == "GET"
        && head.version == "HTTP/1.1"
        && head.lists("connection", "upgrade")
        && head.value("sec-websocket-version").is_some()
        && key.is_some_and(|key| key.len() == KEY);
    if proper {
        return None;
    }
    let text = "this is no valid WebSocket upgrade (RFC 6455, section 4.1); does a reverse proxy change it?\n";
    answer(400, "Bad Request", "", text)
}

/// The answer to a health check that asks whether the MCP server answers.
#[must_use]
pub fn readiness(is_ready: bool, with_body: bool) -> Answer {
    let (status, line, headers, text) = if is_ready {
        (200, "200 OK", "", "ok\n")
    } else {
        let text = "the MCP server does not answer\n";
        (503, "503 Service Unavailable", "Retry-After: 1\r\n", text)
    };
    Answer {
        status,
        bytes: http_answer(line, headers, text, with_body),
    }
}

/// The head of a request, as far as it is text.
struct Head<'a> {
    method: &'a str,
    target: &'a str,
    version: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Head<'a> {
    fn of(head: &'a [u8]) -> Self {
        let mut lines = head
            .split(|byte| *byte == b'\n')
            .map(|line| std::str::from_utf8(line).unwrap_or_default().trim_end());
        let mut words = lines.next().unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default();
        Self {
            method: word(),
            target: word(),
            version: word(),
            headers: lines
                .take_while(|line| !line.is_empty())
                .filter_map(|line| line.split_once(':'))
                .collect(),
        }
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = move |header: &&(&str, &str)| header.0.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|(_, value)| value.trim())
    }

    fn value(&self, name: &str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// True where a header that is a list holds this word.
    fn lists(&self, name: &str, word: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    const PROPER: &str = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    async fn read_all(bytes: &[u8]) -> Request {
        read(&mut &*bytes, 1000).await.unwrap()
    }

    #[tokio::test]
    async fn an_upgrade_passes_as_it_came() {
        for rest in ["", "more"] {
            let came = format!("{PROPER}{rest}");
            let request = read_all(came.as_bytes()).await;
            assert_eq!(request, Request::Upgrade(came.into()));
        }
        let blank = format!("\r\n{PROPER}");
        let request = read_all(blank.as_bytes()).await;
        assert_eq!(request, Request::Upgrade(PROPER.into()));
    }

    #[tokio::test]
    async fn what_is_no_upgrade_is_answered() {
        let plain = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
        let long = "x".repeat(1000);
        for (request, status, holds) in [
            (plain("GET / HTTP/1.1"), 426, "Upgrade: websocket\r\n"),
            (
                plain("HEAD / HTTP/1.1"),
                426,
                "Connection: close, upgrade\r\n",
            ),
            (plain("POST /mcp HTTP/1.1"), 426, "client ws"),
            (plain("OPTIONS * HTTP/1.0"), 426, "client ws"),
            (plain("PRI * HTTP/2.0"), 426, "client ws"),
            ("GET / HTTP/1.0\n\n".to_owned(), 426, "client ws"),
            (plain("GET /healthz HTTP/1.1"), 200, "\r\n\r\nok\n"),
            (plain("GET /healthz?full=1 HTTP/1.0"), 200, "\r\n\r\nok\n"),
            (
                plain("HEAD /healthz HTTP/1.1"),
                200,
                "Content-Length: 3\r\n",
            ),
            (plain("POST /healthz HTTP/1.1"), 426, "client ws"),
            (
                PROPER.replace("WebSocket\r\nSec", "h2c\r\nSec"),
                426,
                "client ws",
            ),
            (
                PROPER.replace(": 13", ": 8"),
                426,
                "Sec-WebSocket-Version: 13\r\n",
            ),
            (PROPER.replace("GET", "POST"), 400, "no valid"),
            (PROPER.replace("HTTP/1.1", "HTTP/1.0"), 400, "no valid"),
            (PROPER.replace(", Upgrade", ""), 400, "no valid"),
            (PROPER.replace("Sec-WebSocket-Key", "Key"), 400, "no valid"),
            (
                PROPER.replace("Sec-WebSocket-Version", "V"),
                400,
                "no valid",
            ),
            (plain(&format!("GET /{long} HTTP/1.1")), 431, "too long"),
        ] {
            let Request::Plain(answer) = read_all(request.as_bytes()).await else {
                panic!("{request}");
            };
            let text = String::from_utf8(answer.bytes).unwrap();
            assert_eq!(answer.status, status, "{request}: {text}");
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.contains(holds), "{request}: {text}");
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.is_empty(), request.starts_with("HEAD"), "{text}");
        }
    }

    #[tokio::test]
    async fn other_protocols_are_seen_at_once() {
        for begin in [
            "{",
            "eyJh.e30.x",
            "SSH-2.0-OpenSSH\r\n",
            "\u{1}",
            "[",
            "GET /\r\n",
        ] {
            // The stream does not end.
            let (mut near, mut far) = tokio::io::duplex(100);
            near.write_all(begin.as_bytes()).await.unwrap();
            let request = read(&mut far, 1000).await.unwrap();
            assert_eq!(request, Request::Foreign, "{begin}");
        }
        for begin in ["", "\r\n", "GET", "GET / HTTP/1.1\r\nHost: h\r\n"] {
            assert_eq!(read_all(begin.as_bytes()).await, Request::End, "{begin}");
        }
    }

    #[tokio::test]
    async fn a_head_may_come_byte_by_byte() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let write = near.write_all(PROPER.as_bytes());
        let (written, request) = tokio::join!(write, read(&mut far, 1000));
        written.unwrap();
        assert_eq!(request.unwrap(), Request::Upgrade(PROPER.into()));
    }
}
