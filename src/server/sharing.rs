//! Which sessions share a process of the MCP server, and which get their own: decided only here.

use super::access::Authorization;
use super::environment::Environment;
use super::isolated::{ChildPer, Isolated, NoProcess, Own};
use super::owner::Owner;
use super::places::{Bounds, Places, Spot};
use super::stopping::Stopping;
use super::users::{Seat, Users};
use crate::account::{Account, Address};
use crate::auth::Identity;
use crate::child::CommandLine;
use crate::hub::{Driver, Hub, Limits, Session};
use crate::jsonrpc::{Kind, Message};
use crate::metrics::{Open, Transport};
use crate::permissions::{Permit, Rights};
use crate::router::{self, Counted, Profile};
use crate::transport::tls::Holder;
use crate::utils::lock::lock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long isolated MCP servers may take to stop: two grace periods, and a margin.
const STOP: Duration = Duration::from_secs(5);

/// Which sessions get a process of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// None.
    #[default]
    Never,
    /// Those of clients that accept server requests.
    Asking,
    /// All.
    Always,
}

/// How the MCP server is run for peers.
#[derive(Debug)]
pub struct Backend {
    /// Which sessions are isolated.
    pub isolation: Isolation,
    /// How each process is started.
    pub command: CommandLine,
    /// The environment of isolated processes.
    pub environment: Environment,
    /// Which sessions share an isolated process.
    pub per: ChildPer,
    /// The bounds of each process.
    pub limits: Limits,
    /// Most isolated processes at a time.
    pub max_children: Bounds,
}

/// Places sessions at processes.
#[derive(Debug)]
pub(super) struct Sharing {
    isolation: Isolation,
    /// `None` if nothing is shared.
    shared: Option<Hub>,
    isolated: Arc<Isolated>,
}

impl Sharing {
    /// Returns also the driver of the shared processes.
    pub(super) fn new(backend: Backend) -> (Self, Option<Driver>) {
        let Backend {
            isolation,
            command,
            environment,
            per,
            limits,
            max_children,
        } = backend;
        let shared = (isolation != Isolation::Always).then(|| Hub::shared(command.clone(), limits));
        let (shared, driver) = shared.unzip();
        let isolated = Arc::new(Isolated {
            command,
            environment,
            per,
            limits,
            places: Places::new(max_children),
            users: Arc::<Users>::default(),
            hubs: Mutex::default(),
        });
        let sharing = Self {
            isolation,
            shared,
            isolated,
        };
        (sharing, driver)
    }

    /// The owner of the sessions of this peer: its process must not serve the token of another environment.
    pub(super) fn owner(
        &self,
        identity: &Identity,
        rights: &Rights,
        certificate: Option<Holder>,
    ) -> Owner {
        Owner::new(identity, rights, certificate, &self.isolated.environment)
    }

    /// Completes when no request is pending in the shared processes any more, or after `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        if let Some(hub) = &self.shared {
            hub.idle(limit).await;
        }
    }

    /// How long peers may take to leave, besides the time for their last messages.
    pub(super) fn patience(&self, drain_timeout: Duration) -> Duration {
        match self.isolation {
            Isolation::Never => Duration::ZERO,
            Isolation::Asking | Isolation::Always => STOP + drain_timeout,
        }
    }

    /// Begins a session for a peer. If it has a process of its own, or may get one, the caller has
    /// to run [`Placement::run_own`].
    ///
    /// # Errors
    /// There is no process for it.
    pub(super) fn place(&self, party: Party<'_>) -> Result<Placement, NoProcess> {
        match (&self.shared, self.isolation) {
            (Some(hub), Isolation::Never) => Ok(Placement::new(hub, party, None)),
            (Some(hub), _) => Ok(Placement::new(hub, party, Some(&self.isolated))),
            (None, _) => {
                let identity = party.authorization.identity();
                let account = Account::of(identity, party.address);
                let joined = self.isolated.start(&account, identity)?;
                let mut placement = Placement::new(&joined.hub, party, None);
                placement.seat = joined.seat;
                if let Some(own) = joined.own {
                    placement.run(own);
                }
                Ok(placement)
            }
        }
    }

    /// Completes when all processes that sessions of one user share have ended.
    pub(super) async fn ended(&self) {
        self.isolated.users.ended().await;
    }

    /// How many lines wait for clients.
    pub(super) fn waiting(&self) -> usize {
        self.shared.as_ref().map_or(0, Hub::waiting) + self.isolated.waiting()
    }

    /// A session of our own with the shared MCP server, to check whether it answers, and whether it serves
    /// only modern peers. `None` if nothing is shared.
    pub(super) fn look(&self) -> Option<(Session, bool)> {
        let hub = self.shared.as_ref()?;
        let session = hub.attach(Profile::own(), &Counted::default());
        Some((session, hub.serves_modern_only()))
    }

    /// True if all sessions share one process.
    pub(super) fn is_shared_by_all(&self) -> bool {
        self.isolation == Isolation::Never
    }
}

/// The peer that a session is for.
pub(super) struct Party<'a> {
    pub authorization: &'a Authorization,
    pub address: Address,
    pub transport: Transport,
    /// The counters for its requests and memory.
    pub counted: Counted,
}

/// A session, and whether it shares its process.
#[derive(Debug)]
pub(super) struct Placement {
    pub session: Session,
    /// Gives it a process of its own later, if it may get one.
    isolated: Option<Arc<Isolated>>,
    account: Account,
    counted: Counted,
    decided: AtomicBool,
    identity: Arc<Identity>,
    /// Keeps a process that it shares with sessions of the same user.
    seat: Option<Seat>,
    /// Its process, until it is run.
    own: Mutex<Option<Box<Own>>>,
    started: Notify,
    /// The place of its process.
    spot: OnceLock<Spot>,
    _open: Open,
}

impl Placement {
    fn new(hub: &Hub, party: Party<'_>, isolated: Option<&Arc<Isolated>>) -> Self {
        let Party {
            authorization,
            address,
            transport,
            counted,
        } = party;
        Self {
            session: hub.attach(authorization.profile(), &counted),
            decided: AtomicBool::new(isolated.is_none()),
            isolated: isolated.cloned(),
            account: Account::of(authorization.identity(), address),
            counted,
            identity: Arc::clone(authorization.identity()),
            seat: None,
            own: Mutex::default(),
            started: Notify::new(),
            spot: OnceLock::new(),
            _open: Open::session(transport),
        }
    }

    /// The place of its process, if that is its own.
    pub(super) fn spot(&self) -> Option<Spot> {
        self.spot.get().cloned()
    }

    /// True if this message would give the session a process of its own.
    pub(super) fn moves_with(&self, message: &Message) -> bool {
        !self.decided.load(Ordering::Relaxed)
            && is_initialize(message)
            && router::can_be_asked(message)
    }

    /// Decides, at the first `initialize` of a session, whether it shares a process: a client that accepts
    /// server requests does not. Must be called before the message is sent.
    ///
    /// # Errors
    /// There is no process for it; the message must not be sent then.
    pub(super) fn decide(
        &self,
        permit: &Permit,
        profile: impl FnOnce() -> Profile,
    ) -> Result<(), NoProcess> {
        let message = permit.message();
        if let Some(isolated) = &self.isolated
            && self.moves_with(message)
        {
            let joined = isolated.start(&self.account, &self.identity)?;
            self.session.move_to(&joined.hub, profile(), &self.counted);
            if let Some(own) = joined.own {
                self.run(own);
            }
        }
        if is_initialize(message) {
            self.decided.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn run(&self, own: Own) {
        if let Some(spot) = own.spot() {
            self.spot.get_or_init(|| spot);
        }
        *lock(&self.own) = Some(Box::new(own));
        self.started.notify_one();
    }

    /// Runs the process of this session, once it has one, until the session has left.
    pub(super) async fn run_own(&self, left: &Notify, stopping: &Stopping) {
        let own = tokio::select! {
            // In this order, so that a process that others may have joined is run.
            biased;
            own = self.own() => own,
            () = left.notified() => return,
        };
        if let Some(own) = own.run_for_user(stopping) {
            Box::pin(own.run(left.notified(), stopping)).await;
        }
    }

    /// Completes when the session has a process of its own. Cancel safe.
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
