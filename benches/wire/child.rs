//! The MCP server of the benchmarks: as cheap as possible, so that the cost of what is before it shows.
//!
//! It reads only the id and the first letter of the tool from a line: `echo` responds with text
//! as long as the line, `take` with a word, `give` with `bytes` bytes of text.

use memchr::memchr;
use memchr::memmem::find;
use std::io::{self, Read, Write};

/// Some proxies look for the tool before they call it.
const TOOLS: &str = r#"{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}"#;

const HANDSHAKE: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}"#;

/// A line of text inside a JSON string: like source code, with its newline.
pub const TEXT: &[u8; 64] = b"    let answer = request.answer(&mut connection, 512).await?; \\n";

/// What precedes and follows the text of a response.
const BEFORE: &[u8] = br#"{"content":[{"type":"text","text":""#;
const BEHIND: &[u8] = br#""}]}"#;

/// Appends `bytes` of JSON text, or a little less.
pub fn fill(out: &mut Vec<u8>, bytes: usize) {
    for _ in 0..bytes / TEXT.len() {
        out.extend_from_slice(TEXT);
    }
    out.extend(std::iter::repeat_n(b'x', bytes % TEXT.len()));
}

/// Serves stdin until it ends.
pub fn run() -> io::Result<()> {
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let mut input = vec![0; 1 << 20];
    let (mut filled, mut out) = (0, Vec::new());
    loop {
        let searched = filled;
        if filled == input.len() {
            input.resize(filled * 2, 0);
        }
        let read = stdin.read(&mut input[filled..])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let (mut start, mut from) = (0, searched);
        while let Some(end) = memchr(b'\n', &input[from..filled]).map(|at| from + at) {
            answer(&input[start..end], &mut out);
            (start, from) = (end + 1, end + 1);
        }
        input.copy_within(start..filled, 0);
        filled -= start;
        stdout.write_all(&out)?;
        stdout.flush()?;
        out.clear();
        out.shrink_to(1 << 20);
    }
}

/// The digits after `name` near the beginning of a line.
fn number<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let head = &line[..line.len().min(256)];
    let rest = &head[find(head, name)? + name.len()..];
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    Some(&rest[..end])
}

fn answer(line: &[u8], out: &mut Vec<u8>) {
    let Some(id) = number(line, b"\"id\":") else {
        return;
    };
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(id);
    out.extend_from_slice(b",\"result\":");
    let head = &line[..line.len().min(256)];
    let tool = find(head, b"\"name\":\"").and_then(|at| head.get(at + 8));
    let bytes = match tool {
        Some(b'e') => line.len().saturating_sub(100),
        Some(b'g') => number(line, b"\"bytes\":")
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .unwrap_or_default(),
        _ => 4,
    };
    if find(head, b"\"initialize\"").is_some() {
        out.extend_from_slice(HANDSHAKE.as_bytes());
    } else if tool.is_none() && find(head, b"\"tools/list\"").is_some() {
        out.extend_from_slice(TOOLS.as_bytes());
    } else {
        out.extend_from_slice(BEFORE);
        fill(out, bytes);
        out.extend_from_slice(BEHIND);
    }
    out.extend_from_slice(b"}\n");
}
