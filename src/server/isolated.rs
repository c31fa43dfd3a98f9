//! Processes of the MCP server that serve one session each.

use super::places::{NoPlace, Place, Places, Spot};
use super::stopping::Stopping;
use crate::account::Account;
use crate::child::CommandLine;
use crate::hub::{Driver, Hub, Limits};
use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};
use std::sync::Arc;
use tokio::sync::Notify;

/// How isolated processes are started, and how many.
#[derive(Debug)]
pub(super) struct Isolated {
    pub command: CommandLine,
    pub limits: Limits,
    pub places: Arc<Places>,
}

/// A process for one session, to be run.
#[derive(Debug)]
pub(super) struct Own {
    pub hub: Hub,
    driver: Driver,
    place: Place,
}

impl Isolated {
    /// A process for a session of `account`.
    pub(super) fn start(&self, account: &Account) -> Result<Own, NoPlace> {
        let place = self.places.take(account)?;
        let (hub, driver) = Hub::isolated(self.command.clone(), self.limits);
        Ok(Own { hub, driver, place })
    }
}

impl Own {
    /// Its place among the isolated processes.
    pub(super) fn spot(&self) -> Spot {
        self.place.spot()
    }

    /// Runs it until its session has left, or the server stops and nothing is under way any more.
    pub(super) async fn run(self, left: &Notify, stopping: &Stopping) {
        let Self { hub, driver, place } = self;
        let leaving = async {
            tokio::select! {
                () = left.notified() => return,
                () = stopping.begins() => {}
            }
            tokio::select! {
                () = left.notified() => {}
                () = hub.idle(stopping.drain_timeout) => {}
            }
        };
        let outcome = driver.run(leaving).await;
        // The session may go on for a while, to tell its client what was said last.
        drop(place);
        if let Err(err) = outcome {
            tracing::error!(%err, "the MCP server of this peer is lost");
        }
    }
}

/// Why there is no process for a session, for the log.
pub(super) fn reason(why: NoPlace) -> &'static str {
    match why {
        NoPlace::Full => "too many MCP servers",
        NoPlace::TooManyOfUser => "too many MCP servers of this user",
    }
}

/// The same for the peer.
pub(super) fn refusal(why: NoPlace, id: Option<&RequestId>) -> Vec<u8> {
    let (text, data) = match why {
        NoPlace::Full => (
            "Too many MCP servers",
            ErrorData::new("too-many-children", Executed::No),
        ),
        NoPlace::TooManyOfUser => (
            "Too many MCP servers of this user (--max-per-user)",
            ErrorData::new("too-many-of-user", Executed::No),
        ),
    };
    error_line(id, Code::InternalError, text, Some(&data))
}
