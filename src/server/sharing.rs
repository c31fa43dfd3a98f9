//! Who shares a process of the MCP server, and who gets one of its own: this file alone decides.

use super::isolated::{self, Isolated, Own};
use super::link::Link;
use super::peer::Context;
use super::places::{Account, Bounds, NoPlace, Places, Spot};
use super::session::{self, Opening};
use crate::child::CommandLine;
use crate::hub::{Driver, Hub, Limits, Session};
use crate::jsonrpc::{Kind, Message};
use crate::permissions::Permit;
use crate::router::{self, Profile};
use crate::utils::tally::Tally;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long isolated MCP servers may take to stop: two graces, and a little for the rest.
const STOP: Duration = Duration::from_secs(5);

/// Whose sessions get a process of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Nobody's.
    #[default]
    Never,
    /// Those of clients that the MCP server can ask something.
    Asking,
    /// Everybody's.
    Always,
}

/// Where peers get their MCP server from.
#[derive(Debug)]
pub struct Backend {
    /// Whose processes are isolated.
    pub isolation: Isolation,
    /// How each process is started.
    pub command: CommandLine,
    /// Bounds of each.
    pub limits: Limits,
    /// Most isolated processes at a time.
    pub max_children: Bounds,
}

/// The same, as peers see it.
#[derive(Debug)]
pub(super) struct Sharing {
    isolation: Isolation,
    /// `None` where nobody shares.
    shared: Option<Hub>,
    isolated: Isolated,
}

impl Sharing {
    /// With what runs the shared processes.
    pub(super) fn new(backend: Backend) -> (Self, Option<Driver>) {
        let Backend {
            isolation,
            command,
            limits,
            max_children,
        } = backend;
        let shared = (isolation != Isolation::Always).then(|| Hub::shared(command.clone(), limits));
        let (shared, driver) = shared.unzip();
        let isolated = Isolated {
            command,
            limits,
            places: Places::new(max_children),
        };
        let sharing = Self {
            isolation,
            shared,
            isolated,
        };
        (sharing, driver)
    }

    /// Completes when nothing is under way in the shared processes any more, or after `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        if let Some(hub) = &self.shared {
            hub.idle(limit).await;
        }
    }

    /// How long peers may take to leave, beyond what they take to get their last messages.
    pub(super) fn patience(&self, drain_timeout: Duration) -> Duration {
        match self.isolation {
            Isolation::Never => Duration::ZERO,
            Isolation::Asking | Isolation::Always => STOP + drain_timeout,
        }
    }

    /// Serves a session to its end; gives the reason for the log.
    pub(super) async fn serve(
        &self,
        link: Box<Link>,
        opening: Opening,
        context: &Context,
    ) -> &'static str {
        match (&self.shared, self.isolation) {
            (Some(hub), Isolation::Never) => {
                let placement = Placement::new(hub, &link, None);
                session::live(link, opening, &placement, context).await
            }
            (Some(hub), _) => {
                let placement = Placement::new(hub, &link, Some(&self.isolated));
                Box::pin(serve_apart(link, opening, &placement, context)).await
            }
            (None, _) => {
                let account = Account::of(link.standing.identity(), link.address);
                match self.isolated.start(&account) {
                    Ok(own) => {
                        let placement = Placement::new(&own.hub, &link, None);
                        placement.run(own);
                        Box::pin(serve_apart(link, opening, &placement, context)).await
                    }
                    Err(why) => Box::pin(isolated::turn_away(link, why)).await,
                }
            }
        }
    }
}

/// A session, and whether it shares its process.
#[derive(Debug)]
pub(super) struct Placement<'a> {
    pub session: Session,
    /// What it gets a process of its own from, where it may get one later.
    isolated: Option<&'a Isolated>,
    account: Account,
    of_user: Tally,
    decided: AtomicBool,
    /// Its process, until that is run.
    own: Mutex<Option<Box<Own>>>,
    started: Notify,
    /// The place of its process.
    spot: OnceLock<Spot>,
}

impl<'a> Placement<'a> {
    fn new(hub: &Hub, link: &Link, isolated: Option<&'a Isolated>) -> Self {
        let of_user = link.of_user();
        Self {
            session: hub.attach(link.standing.profile(), &of_user),
            decided: AtomicBool::new(isolated.is_none()),
            isolated,
            account: Account::of(link.standing.identity(), link.address),
            of_user,
            own: Mutex::default(),
            started: Notify::new(),
            spot: OnceLock::new(),
        }
    }

    /// The place of its process, if that is its own.
    pub(super) fn spot(&self) -> Option<Spot> {
        self.spot.get().cloned()
    }

    /// True where this message would give the session a process of its own.
    pub(super) fn moves_with(&self, message: &Message) -> bool {
        !self.decided.load(Ordering::Relaxed)
            && is_initialize(message)
            && router::can_be_asked(message)
    }

    /// Decides, with the first `initialize` of a session, whether it shares: a client that can be asked
    /// does not. To be called before the message is sent.
    ///
    /// # Errors
    /// There can be no further process; the message is not to be sent then.
    pub(super) fn decide(
        &self,
        permit: &Permit,
        profile: impl FnOnce() -> Profile,
    ) -> Result<(), NoPlace> {
        let message = permit.message();
        if let Some(isolated) = self.isolated
            && self.moves_with(message)
        {
            let own = isolated.start(&self.account)?;
            self.session.move_to(&own.hub, profile(), &self.of_user);
            self.run(own);
        }
        if is_initialize(message) {
            self.decided.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn run(&self, own: Own) {
        self.spot.get_or_init(|| own.spot());
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(own));
        self.started.notify_one();
    }

    /// Completes when the session has got a process of its own. Cancel safe.
    async fn own(&self) -> Box<Own> {
        loop {
            let own = self
                .own
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match own {
                Some(own) => return own,
                None => self.started.notified().await,
            }
        }
    }
}

fn is_initialize(message: &Message) -> bool {
    message.method() == "initialize" && matches!(message.kind(), Kind::Request(_))
}

/// Serves a session that has, or may get, a process of its own, and runs that.
async fn serve_apart(
    link: Box<Link>,
    opening: Opening,
    placement: &Placement<'_>,
    context: &Context,
) -> &'static str {
    let left = Notify::new();
    let living = async {
        let end = session::live(link, opening, placement, context).await;
        left.notify_one();
        end
    };
    let running = async {
        tokio::select! {
            own = placement.own() => Box::pin(own.run(&left, context)).await,
            () = left.notified() => {}
        }
    };
    tokio::join!(living, running).0
}
