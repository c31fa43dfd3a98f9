//! HTTP as the peer speaks it: requests, and the position of the message in a response.

use memchr::memmem::find;
use std::io;
use std::ops::Range;

/// Appends the head of a POST whose body has `length` bytes.
pub fn post(out: &mut Vec<u8>, length: usize, headers: &str) {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

/// Appends a GET.
pub fn get(out: &mut Vec<u8>, headers: &str) {
    let head = format!(
        "GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n"
    );
    out.extend_from_slice(head.as_bytes());
}

/// A response that has arrived completely.
pub struct Response {
    /// The position of its message, in the body or as its last event.
    pub message: Range<usize>,
    pub session: Option<String>,
    pub end: usize,
}

/// The head at the beginning of `bytes`, without the empty line, if it is complete.
pub fn head(bytes: &[u8]) -> io::Result<Option<&str>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
    if head.starts_with("HTTP/1.1 2") {
        Ok(Some(head))
    } else {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]);
        Err(io::Error::other(format!("refused: {shown}")))
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
}

/// The response at the beginning of `bytes`, if it is complete.
pub fn response(bytes: &[u8]) -> io::Result<Option<Response>> {
    let Some(head) = head(bytes)? else {
        return Ok(None);
    };
    let body = head.len() + 4;
    let found = match header(head, "content-length").map(str::parse::<usize>) {
        Some(length) => {
            let end = body + length.map_err(io::Error::other)?;
            (bytes.len() >= end).then_some((body..end, end))
        }
        None if header(head, "transfer-encoding").is_some() => chunks(bytes, body),
        None => Some((body..body, body)),
    };
    let session = || header(head, "mcp-session-id").map(str::to_owned);
    Ok(found.map(|(message, end)| Response {
        message,
        session: session(),
        end,
    }))
}

/// The position of the last message in a chunked body, whose chunks hold whole events, and
/// the end of that body.
fn chunks(bytes: &[u8], mut at: usize) -> Option<(Range<usize>, usize)> {
    let mut message = at..at;
    loop {
        let digits = find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + digits]).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let start = at + digits + 2;
        at = start + size + 2;
        if bytes.len() < at {
            return None;
        }
        if size == 0 {
            return Some((message, at));
        }
        let chunk = &bytes[start..start + size];
        if let Some(data) = find(chunk, b"data: {") {
            let data = data + b"data: ".len();
            let rest = chunk[data..].iter();
            let length = rest.take_while(|byte| !b"\r\n".contains(byte)).count();
            message = start + data..start + data + length;
        }
    }
}

/// Checks that this is the response to the request with this id; the order of members differs between
/// servers.
pub fn check_answer(message: &[u8], id: u64) -> io::Result<()> {
    let own = format!("\"id\":{id}");
    let after = find(message, own.as_bytes()).and_then(|at| message.get(at + own.len()));
    if matches!(after, Some(b',' | b'}')) && find(message, b"\"result\":").is_some() {
        return Ok(());
    }
    let shown = String::from_utf8_lossy(&message[..message.len().min(200)]);
    Err(io::Error::other(format!("not the answer to {id}: {shown}")))
}
