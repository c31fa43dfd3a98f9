//! Processes of the MCP server that serve one session each.

use super::environment::Environment;
use super::places::{NoPlace, Place, Places, Spot};
use super::stopping::Stopping;
use super::users::{Listing, Seat, Users};
use crate::account::Account;
use crate::auth::{self, Identity};
use crate::child::CommandLine;
use crate::hub::{Driver, Hub, Limits, WeakHub};
use crate::jsonrpc::{Code, ErrorData, Executed, RequestId, error_line};
use crate::utils::lock::lock;
use std::sync::{Arc, Mutex, MutexGuard};
use tracing::Instrument;

/// Which sessions share an isolated process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChildPer {
    /// Each session has its own.
    #[default]
    Session,
    /// The sessions of one user share one.
    User,
}

/// How isolated processes are started, and how many.
#[derive(Debug)]
pub(super) struct Isolated {
    pub command: CommandLine,
    pub environment: Environment,
    pub per: ChildPer,
    pub limits: Limits,
    pub places: Arc<Places>,
    pub users: Arc<Users>,
    /// Those of all processes, and of some that have ended.
    pub hubs: Mutex<Vec<WeakHub>>,
}

/// A process for a session.
#[derive(Debug)]
pub(super) struct Joined {
    pub hub: Hub,
    /// The driver to run, unless another session runs it.
    pub own: Option<Own>,
    /// Keeps a shared process alive for as long as the session needs it.
    pub seat: Option<Seat>,
}

/// A process, to be run.
#[derive(Debug)]
pub(super) struct Own {
    pub hub: Hub,
    driver: Driver,
    place: Place,
    /// Where sessions of its user find it.
    listing: Option<Listing>,
}

/// Why there is no process for a session.
#[derive(Clone, Copy, Debug)]
pub(super) enum NoProcess {
    /// The limit on processes is reached.
    Full,
    /// The limit for its user is reached.
    TooManyOfUser,
    /// Its environment cannot be built.
    Environment,
}

impl From<NoPlace> for NoProcess {
    fn from(why: NoPlace) -> Self {
        match why {
            NoPlace::Full => Self::Full,
            NoPlace::TooManyOfUser => Self::TooManyOfUser,
        }
    }
}

impl Isolated {
    /// How many lines wait for clients of the processes.
    pub(super) fn waiting(&self) -> usize {
        let hubs: Vec<Hub> = self.kept().iter().filter_map(WeakHub::upgrade).collect();
        hubs.iter().map(Hub::waiting).sum()
    }

    /// The hubs that have not ended.
    fn kept(&self) -> MutexGuard<'_, Vec<WeakHub>> {
        let mut hubs = lock(&self.hubs);
        hubs.retain(|hub| hub.upgrade().is_some());
        hubs
    }

    /// A process for a session of `account`.
    pub(super) fn start(
        &self,
        account: &Account,
        identity: &Identity,
    ) -> Result<Joined, NoProcess> {
        let variables = self.environment.of(identity, &auth::generate_id());
        let variables = variables.map_err(|why| {
            tracing::warn!(%why, "no MCP server is started for this user");
            NoProcess::Environment
        })?;
        let user = identity.user.as_deref();
        let user = user.filter(|_| self.per == ChildPer::User);
        if let Some((hub, seat)) = user.and_then(|user| self.users.join(user, &variables)) {
            let seat = Some(seat);
            return Ok(Joined {
                hub,
                own: None,
                seat,
            });
        }
        let place = self.places.take(account)?;
        let mut command = self.command.clone();
        command.variables.clone_from(&variables);
        let (hub, driver) = match user {
            Some(_) => Hub::shared(command, self.limits),
            None => Hub::isolated(command, self.limits),
        };
        self.kept().push(hub.downgrade());
        let listed = user.map(|user| self.users.list(user, variables, &hub));
        let (listing, seat) = listed.unzip();
        let own = Own {
            hub: hub.clone(),
            driver,
            place,
            listing,
        };
        Ok(Joined {
            hub,
            own: Some(own),
            seat,
        })
    }
}

impl Own {
    /// Its place among the isolated processes, which it may lose to others while its session waits for its
    /// client.
    pub(super) fn spot(&self) -> Option<Spot> {
        self.listing.is_none().then(|| self.place.spot())
    }

    /// Runs it in a task of its own if several sessions may share it; else returns it.
    pub(super) fn run_for_user(self, stopping: &Stopping) -> Option<Self> {
        let Some(listing) = &self.listing else {
            return Some(self);
        };
        let (users, stopping) = (listing.users(), stopping.clone());
        let run = async move { self.run(std::future::pending(), &stopping).await };
        users.spawn(run.in_current_span());
        None
    }

    /// Runs it until its sessions have left, or the server stops and no request is pending any
    /// more.
    pub(super) async fn run(self, left: impl Future<Output = ()>, stopping: &Stopping) {
        let Self {
            hub,
            driver,
            place,
            listing,
        } = self;
        let leaving = async {
            let mut left = std::pin::pin!(async {
                match &listing {
                    Some(listing) => listing.unneeded().await,
                    None => left.await,
                }
            });
            tokio::select! {
                () = &mut left => return,
                () = stopping.begins() => {}
            }
            tokio::select! {
                () = left => {}
                () = hub.idle(stopping.drain_timeout) => {}
            }
        };
        let outcome = driver.run(leaving).await;
        // The session may continue for a while, to deliver the last messages.
        drop(place);
        if let Err(err) = outcome {
            tracing::error!(%err, "the MCP server of this peer is lost");
        }
    }
}

/// Why there is no process for a session, for the log.
pub(super) fn reason(why: NoProcess) -> &'static str {
    match why {
        NoProcess::Full => "too many MCP servers",
        NoProcess::TooManyOfUser => "too many MCP servers of this user",
        NoProcess::Environment => "the environment of its MCP server cannot be made",
    }
}

/// The error for the peer if there is no process for its session.
pub(super) fn refusal(why: NoProcess, id: Option<&RequestId>) -> Vec<u8> {
    let (text, data) = match why {
        NoProcess::Full => (
            "Too many MCP servers",
            ErrorData::new("too-many-children", Executed::No),
        ),
        NoProcess::TooManyOfUser => (
            "Too many MCP servers of this user (--max-per-user)",
            ErrorData::new("too-many-of-user", Executed::No),
        ),
        NoProcess::Environment => (
            "No MCP server can be started for this user; the server's log says why",
            ErrorData::new("no-child-environment", Executed::No),
        ),
    };
    error_line(id, Code::InternalError, text, Some(&data))
}
