//! Who shares a process of the MCP server, and who gets one of its own: this file alone decides.

use super::access::Standing;
use super::isolated::{Isolated, Own};
use super::places::{Bounds, NoPlace, Places, Spot};
use super::stopping::Stopping;
use crate::account::{Account, Address};
use crate::child::CommandLine;
use crate::hub::{Driver, Hub, Limits, Session};
use crate::jsonrpc::{Kind, Message};
use crate::permissions::Permit;
use crate::router::{self, Counted, Profile};
use crate::utils::lock::lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
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
    isolated: Arc<Isolated>,
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
        let isolated = Arc::new(Isolated {
            command,
            limits,
            places: Places::new(max_children),
        });
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

    /// A session for a peer. Where it has a process of its own, or may get one, somebody has to call
    /// [`Placement::run_own`].
    ///
    /// # Errors
    /// It would need one process too many.
    pub(super) fn place(&self, party: Party<'_>) -> Result<Placement, NoPlace> {
        match (&self.shared, self.isolation) {
            (Some(hub), Isolation::Never) => Ok(Placement::new(hub, party, None)),
            (Some(hub), _) => Ok(Placement::new(hub, party, Some(&self.isolated))),
            (None, _) => {
                let account = Account::of(party.standing.identity(), party.address);
                let own = self.isolated.start(&account)?;
                let placement = Placement::new(&own.hub, party, None);
                placement.run(own);
                Ok(placement)
            }
        }
    }

    /// A session of nobody's with what is shared, to ask whether it answers, and whether its peers are
    /// modern ones. `None` where nothing is shared.
    pub(super) fn look(&self) -> Option<(Session, bool)> {
        let hub = self.shared.as_ref()?;
        let session = hub.attach(Profile::anybody(), &Counted::default());
        Some((session, hub.serves_modern_only()))
    }

    /// True where all share one process, so that no session has one of its own.
    pub(super) fn is_shared_by_all(&self) -> bool {
        self.isolation == Isolation::Never
    }
}

/// Whom a session is for.
pub(super) struct Party<'a> {
    pub standing: &'a Standing,
    pub address: Address,
    /// What its requests and the memory kept for it are counted in.
    pub counted: Counted,
}

/// A session, and whether it shares its process.
#[derive(Debug)]
pub(super) struct Placement {
    pub session: Session,
    /// What it gets a process of its own from, where it may get one later.
    isolated: Option<Arc<Isolated>>,
    account: Account,
    counted: Counted,
    decided: AtomicBool,
    /// Its process, until that is run.
    own: Mutex<Option<Box<Own>>>,
    started: Notify,
    /// The place of its process.
    spot: OnceLock<Spot>,
}

impl Placement {
    fn new(hub: &Hub, party: Party<'_>, isolated: Option<&Arc<Isolated>>) -> Self {
        let Party {
            standing,
            address,
            counted,
        } = party;
        Self {
            session: hub.attach(standing.profile(), &counted),
            decided: AtomicBool::new(isolated.is_none()),
            isolated: isolated.cloned(),
            account: Account::of(standing.identity(), address),
            counted,
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
        if let Some(isolated) = &self.isolated
            && self.moves_with(message)
        {
            let own = isolated.start(&self.account)?;
            self.session.move_to(&own.hub, profile(), &self.counted);
            self.run(own);
        }
        if is_initialize(message) {
            self.decided.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn run(&self, own: Own) {
        self.spot.get_or_init(|| own.spot());
        *lock(&self.own) = Some(Box::new(own));
        self.started.notify_one();
    }

    /// Runs the process of this session, once it has got one, until the session has left.
    pub(super) async fn run_own(&self, left: &Notify, stopping: &Stopping) {
        tokio::select! {
            own = self.own() => Box::pin(own.run(left, stopping)).await,
            () = left.notified() => {}
        }
    }

    /// Completes when the session has got a process of its own. Cancel safe.
    async fn own(&self) -> Box<Own> {
        loop {
            let own = lock(&self.own).take();
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
