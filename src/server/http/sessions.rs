//! All sessions over HTTP.

use super::super::Settings;
use super::super::access::Authorization;
use super::super::owner::Owner;
use super::ids::{self, Revived};
use super::parameters::KnownTools;
use super::session::HttpSession;
use crate::http::{Sessions, StreamBounds};
use crate::utils::lock::lock;
use crate::utils::tally::Tally;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::task::JoinSet;

/// The most that may wait for one client, in bytes.
const MAX_WAITING: usize = 64 << 20;

/// The most sent events that one session keeps for resumption, in bytes.
const MAX_KEPT: usize = 4 << 20;

/// The same for all sessions.
const MAX_KEPT_OF_ALL: usize = 64 << 20;

/// All sessions over HTTP.
#[derive(Debug)]
pub(in super::super) struct HttpSessions {
    sessions: Mutex<Sessions<Owner, Arc<HttpSession>>>,
    /// The tasks of sessions.
    tasks: Mutex<JoinSet<()>>,
    /// When this process began, in milliseconds since 1970.
    pub(super) since: u64,
    /// Those that began before this process and continue here.
    pub(super) revived: tokio::sync::Mutex<Revived>,
    /// The parameters that headers of calls must mirror.
    pub(super) tools: KnownTools,
    pub(super) kept: Tally,
    pub(super) bounds: StreamBounds,
}

impl HttpSessions {
    pub(in super::super) fn new(settings: &Settings) -> Self {
        let per_user = settings.max_connections.per_user;
        let per_user = per_user.unwrap_or(settings.max_sessions);
        Self {
            sessions: Mutex::new(Sessions::new(settings.max_sessions, per_user)),
            tasks: Mutex::default(),
            since: ids::now(),
            revived: tokio::sync::Mutex::default(),
            tools: KnownTools::default(),
            kept: Tally::default(),
            bounds: StreamBounds {
                waiting: MAX_WAITING,
                kept: MAX_KEPT,
                kept_of_all: MAX_KEPT_OF_ALL,
                window: settings.resume_window,
            },
        }
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, session: &HttpSession) {
        let mut sessions = self.lock();
        drop(sessions.remove(&session.owner(), &session.id));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Sessions<Owner, Arc<HttpSession>>> {
        lock(&self.sessions)
    }

    /// The session of this owner with this id.
    pub(super) fn find(&self, owner: &Owner, id: &str) -> Option<Arc<HttpSession>> {
        self.lock().get(owner, id).cloned()
    }

    /// The session with this id that began with fewer roles of the same user, and is this one's from here on: the
    /// streams of the former owner end. Another request with the same token may have done that just now.
    pub(super) fn widen(
        &self,
        owner: &Owner,
        authorization: &Authorization,
        id: &str,
    ) -> Option<Arc<HttpSession>> {
        let (session, is_new) = {
            let mut sessions = self.lock();
            let may = |other: &Owner| owner.exceeds(other);
            let (session, is_new) = sessions.hand_over(owner, id, may)?;
            if is_new {
                session.belongs_to(owner.clone());
            }
            (Arc::clone(session), is_new)
        };
        if is_new {
            session.widen(authorization);
        }
        Some(session)
    }

    /// True if there is a session with this id, of any owner.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.lock().is_known(id)
    }

    /// Spawns a task that outlives its connection.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Completes when all tasks that outlive their connections have ended.
    pub(in super::super) async fn ended(&self) {
        let mut tasks = {
            let mut tasks = lock(&self.tasks);
            std::mem::take(&mut *tasks)
        };
        while tasks.join_next().await.is_some() {}
    }
}
