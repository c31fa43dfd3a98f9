//! All sessions over HTTP.

use super::super::Settings;
use super::super::access::Standing;
use super::super::isolated;
use super::super::registry::Owner;
use super::super::sharing::Party;
use super::reply::{self, Reply};
use super::session::{self, HttpSession};
use super::visitor::{Bearer, Visitor};
use crate::handshake::Refused;
use crate::http::{Sessions, Site, StreamBounds, Streams};
use crate::jsonrpc::{Code, ErrorData, Executed, refusal_line};
use crate::utils::lock::lock;
use crate::utils::tally::Tally;
use hyper::StatusCode;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::task::JoinSet;
use tracing::Instrument;

/// The most that waits for one client, in bytes.
const MAX_WAITING: usize = 64 << 20;

/// The most that one session keeps of what it has sent, in case its client comes back, in bytes.
const MAX_KEPT: usize = 4 << 20;

/// The same for all sessions.
const MAX_KEPT_OF_ALL: usize = 64 << 20;

/// All sessions over HTTP, and where the server is that has them.
#[derive(Debug)]
pub(in super::super) struct House {
    site: Site,
    sessions: Mutex<Sessions<Owner, Arc<HttpSession>>>,
    /// The lives of sessions.
    tasks: Mutex<JoinSet<()>>,
    kept: Tally,
    bounds: StreamBounds,
}

impl House {
    pub(in super::super) fn new(settings: &Settings, site: Site) -> Self {
        let per_user = settings.max_connections.per_user;
        let per_user = per_user.unwrap_or(settings.max_sessions);
        Self {
            site,
            sessions: Mutex::new(Sessions::new(settings.max_sessions, per_user)),
            tasks: Mutex::default(),
            kept: Tally::default(),
            bounds: StreamBounds {
                waiting: MAX_WAITING,
                kept: MAX_KEPT,
                kept_of_all: MAX_KEPT_OF_ALL,
                window: settings.resume_window,
            },
        }
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, owner: &Owner, id: &str) {
        drop(self.lock().remove(owner, id));
    }

    fn lock(&self) -> MutexGuard<'_, Sessions<Owner, Arc<HttpSession>>> {
        lock(&self.sessions)
    }

    /// The session of this owner with this id.
    pub(super) fn find(&self, owner: &Owner, id: &str) -> Option<Arc<HttpSession>> {
        self.lock().get(owner, id).cloned()
    }

    /// True where anybody has a session with this id.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.lock().is_known(id)
    }

    /// Runs something that outlives its connection.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Completes when everything has ended that outlives its connection.
    pub(in super::super) async fn ended(&self) {
        let mut tasks = {
            let mut tasks = lock(&self.tasks);
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
    }
}

/// Begins a session.
///
/// # Errors
/// There can be no further one.
pub(super) fn begin(
    visitor: &Visitor,
    bearer: &Bearer,
    standing: &Standing,
) -> Result<Arc<HttpSession>, Reply> {
    let context = &visitor.context;
    let house = &context.house;
    let busy =
        |line: Vec<u8>| reply::later(reply::json(StatusCode::SERVICE_UNAVAILABLE, &line.into()));
    if *context.stopped.borrow() {
        return Err(reply::refused(&Refused::Stopping));
    }
    let party = Party {
        standing,
        address: visitor.address,
        counted: context.counted(standing, visitor.address, bearer.of_user.clone()),
    };
    let holder = party.counted.holder.clone();
    let placed = context.sharing.place(party);
    let placement = placed.map_err(|why| busy(isolated::refusal(why, None)))?;
    let owner = bearer.owner.clone();
    let make = |id: &str| {
        let streams = Streams::new(house.bounds, &house.kept, holder.part());
        let place = (owner.clone(), id.to_owned());
        Arc::new(HttpSession::new(
            place,
            placement,
            streams,
            standing.clone(),
        ))
    };
    let inserted = house
        .lock()
        .insert(&owner, make, |known| known.idle_since());
    let Ok((id, gone)) = inserted else {
        let data = ErrorData::new("too-many-sessions", Executed::No);
        let text = "Too many sessions (--max-sessions)";
        return Err(busy(refusal_line(Code::InternalError, text, &data)));
    };
    if let Some(gone) = gone {
        tracing::info!("too many sessions: the one that was idle for longest ends");
        gone.end();
    }
    let Some(session) = house.find(&owner, &id) else {
        return Err(reply::session_ended());
    };
    let number = session.placement.session.id();
    let span = tracing::info_span!("session", id = %number, user = standing.identity().name());
    let life = session::live(Arc::clone(&session), Arc::clone(context));
    house.spawn(life.instrument(span));
    Ok(session)
}
