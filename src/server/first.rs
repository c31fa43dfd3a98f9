//! The first line of a connection, which shows whether the peer speaks MCP at all.
//!
//! A web page can have its browser send HTTP requests to any port, with a body of its own choice.
//! If the lines of the head were merely answered with errors, the body would be taken for messages.

use crate::jsonrpc::{
    Code, MAX_PEER_DEPTH, Measured, Message, NO_DATA, Outline, Refusal, error_line, too_large_line,
};
use crate::transport::Reader;
use crate::transport::foreign;
use crate::transport::line::LineError;
use bytes::Bytes;

/// The error for a connection that does not begin with a message.
const FIRST: &str = "a connection has to begin with a JSON object";

/// How many blank lines may precede the first message.
const MAX_BLANK: usize = 16;

/// In UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The beginning of a connection.
#[derive(Debug)]
pub(super) enum First {
    /// A JSON object, or an attempt at one.
    Object(Bytes),
    /// A message that is too long.
    TooLong(Refusal),
    /// Something else: the connection is to be closed.
    Foreign(Foreign),
    /// Nothing at all.
    End,
    /// The connection failed.
    Lost(LineError),
}

/// A beginning that is not MCP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    /// The head of an HTTP request.
    #[error("it is the head of an HTTP request")]
    Http,
    /// Not a JSON object.
    #[error("it is no JSON object: {0}")]
    NoObject(Refusal),
    /// Longer than any message may be.
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    /// Nothing but blank lines.
    #[error("there are only blank lines")]
    Blank,
}

impl Foreign {
    /// The error that is sent before the connection is closed. It has no id and mostly no data, like other
    /// errors about a line: from that, a client that shows a token to a server that wants none recognizes the
    /// case.
    pub(super) fn answer(&self) -> Vec<u8> {
        let (code, text) = match self {
            Self::Http => return foreign::no_http(),
            Self::TooLong(limit) => return too_large_line(None, *limit, Measured::AsRead),
            Self::NoObject(refusal) => (refusal.code, format!("{}; {FIRST}", refusal.text())),
            Self::Blank => (Code::InvalidRequest, format!("Invalid Request: {FIRST}")),
        };
        error_line(None, code, &text, NO_DATA)
    }
}

/// Reads the first line, after a few blank ones. Not cancel safe: how many blank lines came is lost.
pub(super) async fn first(reader: &mut Reader) -> First {
    for _ in 0..=MAX_BLANK {
        let line = match reader.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return First::End,
            Err(LineError::TooLong { limit }) => return too_long(reader, limit).await,
            Err(err) => return First::Lost(err),
        };
        if line.is_empty() || line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let is_stream = matches!(reader, Reader::Line(_));
        return match judge(&line, is_stream) {
            Ok(()) => First::Object(line),
            Err(foreign) => First::Foreign(foreign),
        };
    }
    First::Foreign(Foreign::Blank)
}

/// A first line that is too long is skipped like any other if it is a message.
async fn too_long(reader: &mut Reader, limit: usize) -> First {
    let mut outline = Outline::default();
    match reader.skip(&mut outline).await {
        Ok(true) if outline.kind().is_some() => First::TooLong(Refusal::too_long(limit, outline)),
        Ok(_) => First::Foreign(Foreign::TooLong(limit)),
        Err(err) => First::Lost(err.into()),
    }
}

/// `is_stream` is true unless the lines are framed by a protocol that was negotiated over HTTP.
fn judge(line: &Bytes, is_stream: bool) -> Result<(), Foreign> {
    if is_stream && foreign::is_http_request(line) {
        return Err(Foreign::Http);
    }
    // No head of an HTTP request begins with a brace.
    let begin = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let is_brace = begin.trim_ascii_start().starts_with(b"{");
    match Message::read(line.clone(), MAX_PEER_DEPTH) {
        Err(refusal)
            if !is_brace || refusal.code == Code::ParseError && refusal.about.is_empty() =>
        {
            Err(Foreign::NoObject(refusal))
        }
        // A malformed object is answered like any other malformed message.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Connection;

    #[test]
    fn only_an_object_begins_a_connection() {
        for (line, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, None),
            ("\t {\"jsonrpc\":\"2.0\",\"method\":\"x\"} \r", None),
            ("{}", None),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":NaN}}"#,
                None,
            ),
            (
                "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\"}",
                None,
            ),
            (r#"{"id":1,"method":1}"#, None),
            ("POST / HTTP/1.1\r", Some("HTTP/1.1 400")),
            ("PRI * HTTP/2.0\r", Some("HTTP/1.1 400")),
            ("SSH-2.0-OpenSSH_9.2", Some("-32700")),
            ("EHLO example.org\r", Some("-32700")),
            ("*1\r", Some("-32700")),
            ("{", Some("-32700")),
            ("{} POST / HTTP/1.1", Some("-32700")),
            ("\u{feff}{}", Some("-32700")),
            ("[]", Some("-32600")),
            ("\"{}\"", Some("-32600")),
            ("1", Some("-32600")),
        ] {
            let line = Bytes::from_static(line.as_bytes());
            let found = judge(&line, true).map_err(|foreign| foreign.answer());
            let found = found.map_err(|answer| String::from_utf8(answer).unwrap());
            match (expected, found) {
                (None, Ok(())) => {}
                (Some(says), Err(answer)) if answer.contains(says) => {}
                (_, found) => panic!("{line:?}: {found:?}"),
            }
        }
        let frame = Bytes::from_static(b"GET / HTTP/1.1");
        assert!(matches!(judge(&frame, false), Err(Foreign::NoObject(_))));
    }

    async fn begin(text: &'static str) -> First {
        let stream = tokio_test_stream(text);
        let (mut reader, _writer) = Connection::over_stream(Box::new(stream), 100).split(100);
        first(&mut reader).await
    }

    fn tokio_test_stream(text: &'static str) -> impl crate::transport::Stream {
        tokio::io::join(text.as_bytes(), tokio::io::sink())
    }

    #[tokio::test]
    async fn a_few_blank_lines_are_passed_over() {
        let blank = "\n \r\n\t\n\n{}\nx\n";
        assert!(matches!(begin(blank).await, First::Object(line) if line == "{}"));
        const MANY: &str = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n{}\n";
        assert!(matches!(begin(MANY).await, First::Foreign(Foreign::Blank)));
        assert!(matches!(
            begin(MANY.split_at(1).1).await,
            First::Object(line) if line == "{}"
        ));
        assert!(matches!(begin("\n\n").await, First::End));
        const LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n{}\n";
        assert!(matches!(
            begin(LONG).await,
            First::Foreign(Foreign::TooLong(100))
        ));
    }
}
