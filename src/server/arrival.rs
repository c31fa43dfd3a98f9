//! The first byte of a connection. A connection without one is a health check, a port scan or a
//! browser that connects ahead of time, and not worth a log line.

use crate::transport::socket::Socket;
use tokio::time::Instant;

/// How a connection begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// With a byte, which has not been read.
    Speaks,
    /// With nothing until the deadline.
    Silent,
    /// With its end.
    Gone,
}

/// Waits for the first byte of a connection, until `deadline`.
pub(super) async fn arrival(socket: &Socket, deadline: Instant) -> Arrival {
    match tokio::time::timeout_at(deadline, socket.peek()).await {
        Ok(Ok(1..)) => Arrival::Speaks,
        Ok(Ok(0) | Err(_)) => Arrival::Gone,
        Err(_) => Arrival::Silent,
    }
}
