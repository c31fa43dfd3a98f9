//! Programs that speak a protocol other than that of the port they have connected to.

use crate::utils::escape::escape;
use memchr::memmem;
use std::io;

/// The answer of a TCP port to an HTTP request, for people and for our client.
const PLAIN_TCP: &str = "this port takes MCP messages over plain TCP connections, one JSON object per line, and no HTTP; use 'mcp-remote client tcp'";

/// What an HTTP port of ours says where there is no MCP.
pub const NOTHING_HERE: &str = "there is nothing here; MCP is at another path, see --path\n";

/// What a port for health checks says elsewhere.
pub const NO_MCP_BUT_HEALTH: &str =
    "there is no MCP on this port; its health checks are /healthz and /readyz\n";

/// What a port for metrics says elsewhere.
pub const NO_MCP_BUT_METRICS: &str = "there is no MCP on this port; its metrics are at /metrics\n";

/// For a client without TLS on a port that has it.
pub const WANTS_TLS: &str = "the server wants TLS; use --tls or wss://, or https:// over HTTP";

/// The most that is quoted of what a port says, in bytes.
const MAX_QUOTED: usize = 60;

/// For a client: the server speaks another transport. Retrying will not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongTransport {
    /// Lines over TCP.
    #[error("this is a TCP port, and no HTTP or WebSocket is spoken there; use 'client tcp'")]
    Tcp,
    /// WebSocket.
    #[error("this is a WebSocket port; use 'client ws'")]
    WebSocket,
    /// HTTP of ours, with MCP at another path.
    #[error(
        "this is a port of 'server http', with MCP at another path; use 'client http' with --url http(s)://HOST:PORT/mcp, 'client ws' with --url ws(s)://HOST:PORT/mcp, or the --path of the server"
    )]
    Path,
    /// HTTP of ours, for health checks or metrics alone.
    #[error(
        "this port has the health checks or the metrics of a server, and no MCP; use the port of its --port or --listen"
    )]
    NoMcp,
    /// Something else than HTTP.
    #[error("no HTTP is spoken on this port, and no WebSocket; is it the port of an MCP server?")]
    NoHttp,
    /// HTTP, which may be upgraded to WebSocket.
    #[error(
        "HTTP is spoken on this port; use 'client http' with --url http(s)://HOST:PORT/mcp, or 'client ws' if it takes WebSockets"
    )]
    Http,
}

impl WrongTransport {
    /// What the answer to an HTTP request says of the port, in the words of this program.
    #[must_use]
    pub fn of_answer(status: u16, body: &[u8]) -> Option<Self> {
        let says = |text: &str| body.trim_ascii_end() == text.trim_ascii_end().as_bytes();
        match status {
            400 if says(PLAIN_TCP) => Some(Self::Tcp),
            404 if says(NOTHING_HERE) => Some(Self::Path),
            404 if says(NO_MCP_BUT_HEALTH) || says(NO_MCP_BUT_METRICS) => Some(Self::NoMcp),
            426 => Some(Self::WebSocket),
            _ => None,
        }
    }
}

impl From<WrongTransport> for io::Error {
    fn from(wrong: WrongTransport) -> Self {
        Self::new(io::ErrorKind::InvalidData, wrong)
    }
}

/// What is wrong with the transport, and the remedy, if that is the cause of an error.
#[must_use]
pub fn explain(err: &io::Error) -> Option<String> {
    let wrong: &WrongTransport = err.get_ref()?.downcast_ref()?;
    Some(wrong.to_string())
}

/// How the first lines of other protocols begin: SSH, HTTP, POP3, IMAP, Redis, VNC.
const GREETINGS: [&[u8]; 7] = [
    b"SSH-", b"HTTP/", b"+OK", b"* OK", b"-ERR", b"-NOAUTH", b"RFB ",
];

/// For a client: why nobody speaks MCP on a port whose first line is this one; `None` if that is not certain, since
/// some servers pass on what their MCP server prints.
#[must_use]
pub fn no_mcp(line: &[u8]) -> Option<String> {
    let said = line.trim_ascii();
    // FTP, SMTP and NNTP begin with a code.
    let is_code = |said: &[u8]| {
        said.len() == 4
            && said[..3].iter().all(u8::is_ascii_digit)
            && matches!(said[3], b' ' | b'-')
    };
    let is_binary = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\x1b');
    let is_foreign = GREETINGS.iter().any(|known| said.starts_with(known))
        || said.get(..4).is_some_and(is_code)
        || said.iter().any(is_binary);
    is_foreign.then(|| {
        format!(
            "no MCP server speaks on this port (it says '{}'); is it the right one?",
            quoted(said)
        )
    })
}

/// The beginning of what a port says, for people.
#[must_use]
pub fn quoted(said: &[u8]) -> String {
    let said = said.trim_ascii();
    escape(&String::from_utf8_lossy(
        &said[..said.len().min(MAX_QUOTED)],
    ))
}

/// True if an error comes from a port that answers HTTP with something else.
#[must_use]
pub fn is_no_http(err: &io::Error) -> bool {
    let wrong = err.get_ref().and_then(|err| err.downcast_ref());
    wrong == Some(&WrongTransport::NoHttp)
}

/// True for the answer of a server with TLS to plain HTTP. Each has its own words: ours says "TLS", most
/// others "HTTPS".
#[must_use]
pub fn wants_tls(status: u16, body: &[u8]) -> bool {
    let says = |word: &str| memmem::find(body, word.as_bytes()).is_some();
    status == 400 && (says("TLS") || says("HTTPS"))
}

/// True for the first line of an HTTP answer.
#[must_use]
pub fn is_http_answer(line: &[u8]) -> bool {
    line.starts_with(b"HTTP/1.")
}

/// True for the first line of an HTTP request, of whatever version.
#[must_use]
pub fn is_http_request(line: &[u8]) -> bool {
    let mut words = line.trim_ascii().split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let version = words.next_back().unwrap_or_default();
    !method.is_empty()
        && method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
        && version.starts_with(b"HTTP/")
}

/// An HTTP answer that says `text`, after which the connection is closed. `headers` are further lines,
/// each with its end. Without a body it is the answer to a HEAD.
#[must_use]
pub fn http_answer(status: &str, headers: &str, text: &str, with_body: bool) -> Vec<u8> {
    let length = text.len();
    let connection = if headers.contains("Upgrade:") {
        "close, upgrade"
    } else {
        "close"
    };
    let body = if with_body { text } else { "" };
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An HTTP answer that says `text`, which a client shows to its user.
#[must_use]
pub fn bad_request(text: &str) -> Vec<u8> {
    http_answer("400 Bad Request", "", &format!("{text}\n"), true)
}

/// The text for an HTTP client on a TCP port. It must not contain the words by which a client
/// detects that it needs TLS.
#[must_use]
pub fn no_http() -> Vec<u8> {
    bad_request(PLAIN_TCP)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bug: a client on a port for health checks or metrics was told to try another path on it.
    #[test]
    fn ports_without_mcp_say_what_they_have() {
        for (text, names) in [
            (NO_MCP_BUT_HEALTH, "/healthz"),
            (NO_MCP_BUT_METRICS, "/metrics"),
        ] {
            assert!(text.contains(names), "{text}");
            let wrong = WrongTransport::of_answer(404, text.as_bytes());
            assert_eq!(wrong, Some(WrongTransport::NoMcp));
        }
        let elsewhere = WrongTransport::of_answer(404, NOTHING_HERE.as_bytes());
        assert_eq!(elsewhere, Some(WrongTransport::Path));
    }

    #[test]
    fn what_a_foreign_port_says_is_quoted_in_part_and_escaped() {
        for (line, quoted) in [
            (
                &b"SSH-2.0-OpenSSH_9.2\r"[..],
                "(it says 'SSH-2.0-OpenSSH_9.2')",
            ),
            (b"+OK \x1b[31m\xff", "(it says '+OK \\u{1b}[31m\u{fffd}')"),
            (b"220 mail.example ESMTP", "'220 mail.example ESMTP'"),
            (b"HTTP/1.1 400 Bad Request", "'HTTP/1.1 400 Bad Request'"),
            (b"J\0\0\0\n8.0.36", "'J\\u{0}"),
        ] {
            let says = no_mcp(line).unwrap_or_default();
            assert!(says.contains(quoted), "{says}");
        }
        assert!(no_mcp(&[b'\0'; 1000]).is_some_and(|says| says.len() < 500));
        // What a server prints when it starts.
        for banner in [
            "Server running on stdio",
            "\x1b[32mready\x1b[0m",
            "2026-11-30 INFO up",
            "200ms",
            "",
        ] {
            assert_eq!(no_mcp(banner.as_bytes()), None, "{banner}");
        }
    }

    #[test]
    fn http_requests_are_recognised() {
        for (line, is_http) in [
            ("GET / HTTP/1.1\r", true),
            ("POST /a?b=%20 HTTP/1.0", true),
            ("OPTIONS * HTTP/1.1\r", true),
            ("VERSION-CONTROL / HTTP/1.1", true),
            ("PRI * HTTP/2.0\r", true),
            ("GET /a path with spaces HTTP/1.1\r", true),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.1", false),
            ("GET /", false),
            ("get / HTTP/1.1", false),
            (" HTTP/1.1", false),
            ("{\"GET\":1} / HTTP/1.1", false),
            ("eyJhbGciOiJIUzI1NiJ9.e30.x", false),
            ("", false),
        ] {
            assert_eq!(is_http_request(line.as_bytes()), is_http, "{line:?}");
        }
    }
}
