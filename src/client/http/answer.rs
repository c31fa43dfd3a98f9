//! What a complete HTTP response means for the posted message.
//!
//! Pure: a response goes in, an [`Outcome`] comes out.

use super::exchange::{Content, Head};
use crate::handshake;
use crate::jsonrpc::{Executed, Kind, MAX_CHILD_DEPTH, Message, RequestId};
use crate::transport::foreign::{self, WrongTransport};
use bytes::Bytes;
use std::time::Duration;

/// The outcome of a posted message.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The server has accepted it, and does not answer here.
    Accepted,
    /// The JSON-RPC answer to a request.
    Answer(Box<Message>),
    /// The server does not know the session, and has executed nothing.
    SessionLost,
    /// The server requires a token, or another one; with its challenge.
    Unauthorized(Option<String>),
    /// The token has none of the roles that the server requires of everybody; in words.
    Unentitled(String),
    /// The server wants TLS, if there is none.
    WantsTls(Refused),
    /// The server has not accepted it, and asks to retry after this time.
    Later(Duration),
    /// The server has moved to this location.
    Moved(String),
    /// It failed.
    Failed(Refused),
}

/// Why a message was not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub text: String,
    pub status: u16,
    pub executed: Executed,
    /// There is no MCP server here, and will be none.
    pub is_final: bool,
}

/// Classifies the response to a message. `request` is its id if it is a request, `in_session` tells whether
/// it named a session.
pub(super) fn judge(
    head: &Head,
    body: &Bytes,
    request: Option<&RequestId>,
    in_session: bool,
) -> Outcome {
    if head.status == 401 {
        return Outcome::Unauthorized(head.challenge.clone());
    }
    if head.status == 403
        && let Some(refusal) = handshake::read_refusal(body)
    {
        return Outcome::Unentitled(refusal);
    }
    let message = match head.content {
        Content::Json => Message::read(body.clone(), MAX_CHILD_DEPTH).ok(),
        _ => None,
    };
    if in_session && names_lost_session(head.status, message.as_ref()) {
        return Outcome::SessionLost;
    }
    if let (307 | 308, Some(location)) = (head.status, &head.location) {
        return Outcome::Moved(location.clone());
    }
    if let (429 | 503, Some(wait)) = (head.status, head.retry_after) {
        return Outcome::Later(wait);
    }
    let answer = message.filter(|message| request.is_some_and(|id| answers(message, id)));
    match (answer, request) {
        (Some(answer), Some(_)) => Outcome::Answer(Box::new(answer)),
        (_, None) if head.is_success() => Outcome::Accepted,
        _ if foreign::wants_tls(head.status, body) => Outcome::WantsTls(refused(head, body)),
        _ => Outcome::Failed(refused(head, body)),
    }
}

/// True for an answer to this request, and for an error without an id.
fn answers(message: &Message, request: &RequestId) -> bool {
    match message.kind() {
        Kind::Response(Some(id)) => id == request,
        Kind::Response(None) => message.error().is_some(),
        _ => false,
    }
}

/// True if the server does not know our session. The standard says 404; many servers that follow an
/// example of the TypeScript SDK send 400 and mention the session.
fn names_lost_session(status: u16, message: Option<&Message>) -> bool {
    match status {
        404 => true,
        400 => message.and_then(Message::error).is_some_and(|error| {
            let text = String::from_utf8_lossy(error).to_ascii_lowercase();
            text.contains("session")
        }),
        _ => false,
    }
}

fn refused(head: &Head, body: &Bytes) -> Refused {
    let status = head.status;
    // With a --url a path is to be changed in it.
    let wrong = WrongTransport::of_answer(status, body).filter(|it| *it != WrongTransport::Path);
    if let Some(wrong) = wrong {
        return Refused {
            text: wrong.to_string(),
            status,
            executed: Executed::No,
            is_final: true,
        };
    }
    let (text, executed) = match status {
        200..300 => (
            "the server gave no JSON-RPC answer".to_owned(),
            Executed::Unknown,
        ),
        300..400 => {
            let place = head.location.as_deref().unwrap_or("another place");
            let text = format!(
                "the server says HTTP {status} and names {place}; redirects of this kind are not followed: give that place by --url if it is the right one"
            );
            (text, Executed::No)
        }
        403 => (
            "the server refuses this with HTTP 403; the token may lack a scope or a role"
                .to_owned(),
            Executed::No,
        ),
        404 | 405 => (
            format!(
                "the server says HTTP {status}: there is no MCP server at this --url, or one that speaks HTTP+SSE of 2024-11-05 only; is the path of --url right?"
            ),
            Executed::No,
        ),
        413 => (
            "the message is longer than the server takes (HTTP 413)".to_owned(),
            Executed::No,
        ),
        400..500 => (format!("the server says HTTP {status}"), Executed::No),
        502 | 504 => (
            format!(
                "the server says HTTP {status}: a reverse proxy gets no answer from what is behind it"
            ),
            Executed::Unknown,
        ),
        _ => (format!("the server says HTTP {status}"), Executed::Unknown),
    };
    Refused {
        text,
        status,
        executed,
        is_final: matches!(status, 404 | 405),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, content: Content) -> Head {
        Head {
            status,
            content,
            ..Head::default()
        }
    }

    /// In one word, for a request with the id 1 that named a session.
    fn judged(head: &Head, body: &str, in_session: bool) -> String {
        let body = Bytes::copy_from_slice(body.as_bytes());
        match judge(head, &body, Some(&RequestId::Number(1)), in_session) {
            Outcome::Answer(message) => format!("answer {:?}", message.error_code()),
            Outcome::Failed(refused) => format!("{:?}", refused.executed),
            Outcome::Moved(place) => place,
            Outcome::Later(wait) => format!("{wait:?}"),
            Outcome::Unauthorized(_) => "unauthorized".to_owned(),
            Outcome::Unentitled(text) => text,
            Outcome::WantsTls(_) => "TLS".to_owned(),
            Outcome::SessionLost => "lost".to_owned(),
            Outcome::Accepted => "accepted".to_owned(),
        }
    }

    #[test]
    fn responses_to_requests() {
        let ok = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
        let other = r#"{"jsonrpc":"2.0","id":2,"result":{}}"#;
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"x"}}"#;
        let no_id = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#;
        let roles = r#"{"jsonrpc":"2.0","error":{"code":-32001,"message":"Insufficient roles","data":{"required":["boss"],"provided":[]}}}"#;
        for (status, body, in_session, expected) in [
            (200, ok, true, "answer None"),
            (
                200,
                "{\n \"jsonrpc\":\"2.0\",\r\n\"id\":1,\"result\":{}}",
                true,
                "answer None",
            ),
            (200, error, true, "answer Some(-32601)"),
            (200, other, true, "Unknown"),
            (200, "<html>", true, "Unknown"),
            (202, "", true, "Unknown"),
            (400, error, true, "answer Some(-32601)"),
            (400, no_id, true, "lost"),
            (400, no_id, false, "answer Some(-32000)"),
            (400, "", true, "No"),
            (401, error, true, "unauthorized"),
            (403, "", true, "No"),
            (403, error, true, "answer Some(-32601)"),
            (
                403,
                roles,
                true,
                "Insufficient roles (one of the roles boss is required)",
            ),
            (400, "this port speaks TLS", false, "TLS"),
            (404, "", true, "lost"),
            (404, "", false, "No"),
            (404, error, false, "answer Some(-32601)"),
            (405, "", true, "No"),
            (413, "", true, "No"),
            (429, "", true, "No"),
            (500, "", true, "Unknown"),
            (500, error, true, "answer Some(-32601)"),
            (502, "<html>", true, "Unknown"),
            (503, "", true, "Unknown"),
        ] {
            let head = head(status, Content::Json);
            assert_eq!(judged(&head, body, in_session), expected, "{status} {body}");
        }
    }

    /// Bug: nothing said that it is the reverse proxy that answers.
    #[test]
    fn a_proxy_without_its_server_is_named() {
        for status in [502, 504] {
            let said = refused(&head(status, Content::Other), &Bytes::new());
            assert!(said.text.contains("reverse proxy"), "{}", said.text);
        }
    }

    #[test]
    fn responses_with_a_header_that_counts() {
        let moved = |status, location: Option<&str>| Head {
            location: location.map(str::to_owned),
            ..head(status, Content::Other)
        };
        assert_eq!(judged(&moved(307, Some("/mcp/")), "", false), "/mcp/");
        assert_eq!(judged(&moved(308, Some("/mcp/")), "", false), "/mcp/");
        for status in [301, 302, 303] {
            assert_eq!(judged(&moved(status, Some("/mcp/")), "", false), "No");
        }
        assert_eq!(judged(&moved(307, None), "", false), "No");
        for status in [429, 503] {
            let later = Head {
                retry_after: Some(Duration::from_secs(2)),
                ..head(status, Content::Other)
            };
            assert_eq!(judged(&later, "", true), "2s");
        }
    }

    #[test]
    fn responses_to_notifications() {
        let judged = |status| judge(&head(status, Content::Other), &Bytes::new(), None, false);
        for status in [200, 202, 204] {
            assert!(matches!(judged(status), Outcome::Accepted), "{status}");
        }
        for status in [400, 404, 405, 500] {
            assert!(matches!(judged(status), Outcome::Failed(_)), "{status}");
        }
    }
}
