//! The body of a request, of bounded size, within bounded time.

use super::super::end::warn_of_backlog;
use crate::backlog::{Excess, Part};
use crate::http::{Denied, Whole};
use crate::jsonrpc::{Code, ErrorData, Executed, Measured, refusal_line, too_large_line};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::time::Instant;

/// The lowest rate at which a body may arrive, in bytes per second.
const SLOWEST: usize = 64 * 1024;

/// Reads a body of at most `limit` bytes, which `kept` counts. The first bytes may take `patience`, and each
/// further piece extends that a little.
///
/// # Errors
/// The reply to send instead. The connection cannot be reused.
pub(super) async fn read(
    mut body: Incoming,
    limit: usize,
    patience: Duration,
    kept: &mut Part,
) -> Result<Bytes, Denied> {
    let announced = body.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > limit) {
        return Err(too_large(limit));
    }
    let deadline = Instant::now() + patience;
    let mut whole = Whole::default();
    loop {
        let length = whole.len();
        let earned = Duration::from_millis((length * 1000 / SLOWEST) as u64);
        let frame = tokio::time::timeout_at(deadline + earned, body.frame()).await;
        let Ok(frame) = frame else {
            return Err(Denied::plain(
                StatusCode::REQUEST_TIMEOUT,
                "too-slow",
                "the body did not come in time",
            ));
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|err| unreadable(&err))?;
        // Trailers are ignored.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if length + data.len() > limit {
            return Err(too_large(limit));
        }
        whole.add(data);
        kept.set(whole.len());
    }
    Ok(whole.into_bytes())
}

/// The reply if the memory for the body was evicted in favor of others.
pub(super) fn evicted(excess: Excess) -> Denied {
    Denied::plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "backlog",
        warn_of_backlog(excess).name(),
    )
}

/// The reply to a body that is invalid or ends early with its connection.
fn unreadable(err: &hyper::Error) -> Denied {
    let cause = err.source().and_then(|cause| cause.downcast_ref());
    let is_cut = cause.is_some_and(|cause: &io::Error| cause.kind() == ErrorKind::UnexpectedEof);
    if !is_cut {
        let reason = "the body cannot be read";
        return Denied::plain(StatusCode::BAD_REQUEST, "bad-body", reason);
    }
    let reason = "Connection lost: the body has not come whole";
    let data = ErrorData::new("connection-lost", Executed::No);
    Denied {
        status: StatusCode::BAD_REQUEST,
        line: refusal_line(Code::InternalError, reason, &data),
        reason,
    }
}

fn too_large(limit: usize) -> Denied {
    Denied {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        line: too_large_line(None, limit, Measured::AsRead),
        reason: "the body is too long",
    }
}
