//! HTTP as bytes: exactly what the test says is sent.

use super::process::PATIENCE;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// The header that names the revision.
pub const VERSION: &str = "MCP-Protocol-Version";

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"t","version":"1"}}}"#;

/// One connection.
pub struct Http {
    stream: BufReader<TcpStream>,
}

/// The head of a response.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands there twice");
        value
    }
}

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    pub head: Head,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_default()
    }
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    /// `null` for one without a message.
    pub data: Value,
}

impl Http {
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The same to a server that may have closed the connection.
    pub fn try_raw(&mut self, bytes: &[u8]) {
        let _closed = self.stream.get_mut().write_all(bytes);
    }

    /// Sends a request to the MCP path.
    pub fn send(
        &mut self,
        method: &str,
        headers: &[(&str, &str)],
        body: &(impl AsRef<[u8]> + ?Sized),
    ) {
        let body = body.as_ref();
        let mut head = format!("{method} /mcp HTTP/1.1\r\n");
        let given = |name: &str| {
            headers
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        for (name, value) in [
            ("Host", "localhost"),
            ("Accept", "application/json, text/event-stream"),
            ("Content-Type", "application/json"),
        ] {
            if !given(name) {
                add(name, value);
            }
        }
        for (name, value) in headers {
            add(name, value);
        }
        if method == "POST" {
            add("Content-Length", &body.len().to_string());
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat());
    }

    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        assert!(line.ends_with(b"\n"), "the connection has ended: {line:?}");
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    pub fn head(&mut self) -> Head {
        let first = self.line();
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else {
                assert_eq!(line, "");
                break;
            };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        Head {
            status: status.unwrap_or_else(|| panic!("{first}")),
            headers,
        }
    }

    pub fn answer(&mut self) -> Answer {
        let head = self.head();
        let length = head
            .header("content-length")
            .map(|length| length.parse().unwrap());
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else {
            body.resize(length.unwrap_or(0), 0);
            self.stream.read_exact(&mut body).unwrap();
        }
        let body = String::from_utf8(body).unwrap();
        Answer { head, body }
    }

    /// The next chunk of a body; `None` at its end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("{size}"));
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// The next event of a stream, skipping comments; `None` at its end.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            let chunk = String::from_utf8(self.chunk()?).unwrap();
            assert!(chunk.ends_with("\n\n"), "{chunk:?}");
            if chunk.starts_with(':') {
                continue;
            }
            let mut event = Event {
                id: None,
                data: Value::Null,
            };
            for line in chunk.lines().filter(|line| !line.is_empty()) {
                match line.split_once(": ") {
                    Some(("id", id)) => event.id = Some(id.to_owned()),
                    Some(("data", "")) => {}
                    Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                    _ => panic!("{chunk:?}"),
                }
            }
            return Some(event);
        }
    }

    /// All events to the end of the stream.
    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.event()).collect()
    }

    /// True when the far end has closed.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest.is_empty(),
            Err(err) => err.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// True once something has come that has not been read.
    pub fn has_more(&mut self) -> bool {
        self.stream.get_ref().set_nonblocking(true).unwrap();
        let has_more = self.stream.fill_buf().is_ok();
        self.stream.get_ref().set_nonblocking(false).unwrap();
        has_more
    }

    /// Its own address, as the server sees it.
    pub fn address(&self) -> String {
        self.stream.get_ref().local_addr().unwrap().to_string()
    }

    pub fn post(&mut self, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send("POST", headers, body);
        self.answer()
    }
}

/// A client with a session.
pub struct Session {
    pub port: u16,
    pub id: String,
    pub version: &'static str,
    pub token: String,
}

impl Session {
    pub fn begin(port: u16) -> Self {
        Self::begin_with(port, "")
    }

    pub fn begin_with(port: u16, token: &str) -> Self {
        let mut session = Self {
            port,
            id: String::new(),
            version: "",
            token: if token.is_empty() {
                String::new()
            } else {
                format!("Bearer {token}")
            },
        };
        let answer = session.post(INITIALIZE);
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.json()["id"], "i");
        let id = answer.head.header("mcp-session-id");
        session.id = id.expect("a session").to_owned();
        session.version = "2025-11-25";
        let told = session.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        assert_eq!((told.status(), told.body.as_str()), (202, ""));
        session
    }

    pub fn send(
        &self,
        method: &str,
        more: &[(&str, &str)],
        body: &(impl AsRef<[u8]> + ?Sized),
    ) -> Http {
        let mut http = Http::connect(self.port);
        let own = [
            ("Mcp-Session-Id", self.id.as_str()),
            (VERSION, self.version),
            ("Authorization", self.token.as_str()),
        ];
        http.send(method, &[&own, more].concat(), body);
        http
    }

    pub fn post(&self, body: &str) -> Answer {
        self.send("POST", &[], body).answer()
    }

    /// A request whose response is a stream.
    pub fn stream(&self, body: &str) -> Http {
        let mut http = self.send("POST", &[], body);
        expect_stream(&mut http);
        http
    }

    /// Listens for messages that belong to no request.
    pub fn listen(&self, last_event: &str) -> Http {
        let mut http = self.send("GET", &[("Last-Event-ID", last_event)], "");
        expect_stream(&mut http);
        http
    }
}

pub fn expect_stream(http: &mut Http) {
    let head = http.head();
    assert_eq!(head.status, 200, "{head:?}");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("transfer-encoding", "chunked"),
    ] {
        assert_eq!(head.header(name), Some(value), "{head:?}");
    }
}

/// Why a request that the MCP server has got has no answer. Nothing may ask its client to send it again.
pub fn unanswered(answer: &Answer) -> String {
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.head.header("retry-after"), None, "{answer:?}");
    let line = answer
        .body
        .lines()
        .find_map(|line| line.strip_prefix("data: "));
    let message: Value = serde_json::from_str(line.unwrap_or(&answer.body)).unwrap();
    assert!(message["id"].is_number(), "{message}");
    assert_eq!(message["error"]["code"], -32603, "{message}");
    assert_eq!(message["error"]["data"]["executed"], "unknown", "{message}");
    let reason = message["error"]["data"]["reason"].as_str();
    reason.unwrap().to_owned()
}

/// A request of a legacy client.
pub fn call(id: u32, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string()
}

/// A request of 2026-07-28, and its headers.
pub fn modern(id: u32, method: &str, mut params: Value) -> (Vec<(String, String)>, String) {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    let mut headers = vec![
        (VERSION.to_owned(), "2026-07-28".to_owned()),
        ("Mcp-Method".to_owned(), method.to_owned()),
    ];
    if let Some(name) = params["name"].as_str().or(params["uri"].as_str()) {
        headers.push(("Mcp-Name".to_owned(), name.to_owned()));
    }
    let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    (headers, body.to_string())
}

/// The same headers with this one replaced; removed if `value` is empty.
pub fn with<'a>(
    headers: &'a [(String, String)],
    name: &'a str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    let others = headers
        .iter()
        .filter(|(known, _)| !known.eq_ignore_ascii_case(name));
    let mut all: Vec<_> = others
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    if !name.is_empty() {
        all.push((name, value));
    }
    all
}
