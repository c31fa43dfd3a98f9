//! The client: an MCP server to the host that started it, a peer to the remote server.

mod bridge;
mod connection;
mod dial;
mod end;
mod endpoint;
mod error;
mod host;
pub mod http;
mod lifecycle;
mod retry;
mod settings;
mod token;

pub use end::Lost;
pub use error::ClientError;
pub use settings::{Place, Port, Reconnect, Settings};
pub use token::{TokenSource, Tokens};

use crate::system::parent;
use crate::utils::own_waker::own_waker;
use bridge::Bridge;
use host::HostInput;
use lifecycle::Lifecycle;
use std::future::Future;
use std::time::Duration;

/// How long the server may take to acknowledge the last lines of a host that has left without
/// pending requests, and to answer invalid ones.
const LAST_ACK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a goodbye to the server may take when we are told to leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the host may take to read its last lines when we leave.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries our stdin to the server and its answers to our stdout, until the host leaves or
/// `shutdown` completes.
///
/// # Errors
/// Why it gave up. Pending requests of the host have been answered with errors.
pub async fn run(
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let bridge = Bridge::new(settings.keepalive_interval);
    let mut input = HostInput::start(bridge.output().replies());
    let outcome = live(&settings, &bridge, &mut input, shutdown).await;
    if let Err(err) = &outcome {
        bridge.give_up(&err.failure(), &mut input).await;
    }
    // A host that does not read must not block our exit.
    let _unread = tokio::time::timeout(LAST_WRITE_TIMEOUT, bridge.finish()).await;
    outcome
}

async fn live(
    settings: &Settings,
    bridge: &Bridge,
    input: &mut HostInput,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ClientError> {
    let host_served = async {
        bridge.host_served().await;
        tokio::time::sleep(LAST_ACK_TIMEOUT).await;
    };
    let told_to_leave = own_waker(async {
        tokio::select! {
            () = shutdown => {}
            () = parent::exited() => {}
            () = host_served => {}
        }
    });
    let unanswered = own_waker(async {
        bridge.host_left().await;
        tokio::time::sleep(settings.answer_timeout).await;
    });
    let mut lifecycle = Lifecycle::new(settings, bridge, input);
    let mut living = std::pin::pin!(lifecycle.run());
    tokio::select! {
        outcome = &mut living => outcome,
        () = unanswered => Err(ClientError::Unanswered {
            address: settings.place.to_string(),
            limit: settings.answer_timeout,
        }),
        () = told_to_leave => {
            bridge.leave();
            // Our goodbye is dropped if the server is too slow.
            let leaving = tokio::time::timeout(GOODBYE_TIMEOUT, living);
            leaving.await.unwrap_or(Ok(()))
        }
    }
}
