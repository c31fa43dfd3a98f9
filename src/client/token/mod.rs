//! The token of the client: where it comes from, and when it is read again.

mod helper;

use crate::auth;
use crate::utils::secret::Secret;
use crate::utils::span::span;
use crate::utils::text;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Mutex, Notify};

/// A token that expired less than this many seconds ago may still be valid by the server's clock.
const CLOCK_SKEW: f64 = 60.0;

/// How long a command may take to print a token.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// How long before its expiry a token is renewed, at most; for a short-lived one, the last fifth of
/// its life.
const LEAD: Duration = Duration::from_secs(60);

/// The pause between two checks for a newer token.
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// The longest sleep, so that a clock that jumps (a suspended machine) is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// Where a token comes from.
#[derive(Debug)]
pub enum TokenSource {
    /// It is this one.
    Fixed(Secret),
    /// A file contains it, and may contain another one later.
    File(PathBuf),
    /// This shell command prints it.
    Command(String),
}

/// The token, read again if its source may have a newer one.
#[derive(Debug)]
pub struct Tokens {
    source: Option<TokenSource>,
    state: Mutex<State>,
    /// The token has changed.
    changed: Notify,
    /// Held by the one that waits for a new token; others wait for it.
    waiting: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    current: Option<Secret>,
    /// It has been read and not been shown to a server yet.
    unused: bool,
}

impl Tokens {
    /// `first` is the source's token at startup, if it was read.
    #[must_use]
    pub fn new(source: Option<TokenSource>, first: Option<Secret>) -> Self {
        Self {
            source,
            state: Mutex::new(State {
                unused: first.is_some(),
                current: first,
            }),
            changed: Notify::new(),
            waiting: Mutex::default(),
        }
    }

    /// True if there is a token, or a source for one.
    #[must_use]
    pub fn is_some(&self) -> bool {
        self.source.is_some()
    }

    /// True if the source may have another token later.
    pub(super) fn can_change(&self) -> bool {
        matches!(
            self.source,
            Some(TokenSource::File(_) | TokenSource::Command(_))
        )
    }

    /// The token for a new connection. A file is read again, a command runs again when its last token is
    /// about to expire.
    ///
    /// # Errors
    /// What is wrong with it, to follow the words "the token".
    pub async fn for_connection(&self) -> Result<Option<Secret>, String> {
        let mut state = self.state.lock().await;
        let is_due = match (&self.source, &state.current) {
            (Some(TokenSource::Command(_)), Some(current)) => {
                time_left(current).is_some_and(|left| left <= MAX_PAUSE)
            }
            _ => true,
        };
        if is_due && !state.unused {
            self.read_again(&mut state).await?;
        }
        state.unused = false;
        if let Some(token) = &state.current {
            inspect(token)?;
        }
        Ok(state.current.clone())
    }

    /// The token for a request on an existing connection, as it was read last.
    pub async fn current(&self) -> Option<Secret> {
        self.state.lock().await.current.clone()
    }

    /// Another token than the one that a server has refused, if the source has one by now.
    pub(super) async fn after_refusal(&self, refused: &Secret) -> Option<Secret> {
        if !self.can_change() {
            return None;
        }
        let mut state = self.state.lock().await;
        let is_useless = |token: &Secret| is_same(token, refused) || inspect(token).is_err();
        if state.current.as_ref().is_none_or(is_useless)
            && let Err(err) = self.read_again(&mut state).await
        {
            tracing::warn!("the token {err}");
        }
        let token = state.current.as_ref()?;
        (!is_same(token, refused) && inspect(token).is_ok()).then(|| token.clone())
    }

    /// Waits until the source has a token that a server may accept, other than `refused`. What is wrong with the
    /// present one is logged once, however many wait. Cancel safe.
    pub(super) async fn next(&self, refused: Option<&Secret>, fault: &str) {
        let is_other = |token: &Secret| {
            refused.is_none_or(|refused| !is_same(token, refused)) && inspect(token).is_ok()
        };
        let _turn = self.waiting.lock().await;
        if self.current().await.is_some_and(|token| is_other(&token)) {
            return;
        }
        // Its remedy is on its way.
        let fault = fault.split(';').next().unwrap_or_default();
        match &self.source {
            Some(TokenSource::File(file)) => {
                let file = file.display();
                tracing::warn!("the token {fault}; waiting for a new one from {file}");
            }
            _ => {
                tracing::warn!("the token {fault}; waiting for a new one from --jwt-token-command")
            }
        }
        let mut pause = MIN_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
            let mut state = self.state.lock().await;
            match self.read().await {
                Ok(token) if is_other(&token) => return self.keep(&mut state, token),
                Ok(_) => {}
                Err(err) => tracing::debug!("the token {err}"),
            }
        }
    }

    /// Completes when there is a newer token and the one in use expires soon. Cancel safe.
    pub(super) async fn renewed(&self) {
        if !self.can_change() {
            return std::future::pending().await;
        }
        loop {
            tokio::select! {
                () = self.look_ahead() => return,
                () = self.changed.notified() => {}
            }
        }
    }

    /// Completes when another token is in use, for whatever reason. Cancel safe.
    pub(super) async fn replaced(&self) {
        self.changed.notified().await;
    }

    /// Checks for a newer token before this one expires, until there is one.
    async fn look_ahead(&self) {
        let left = self.current().await.as_ref().and_then(time_left);
        let Some(left) = left else {
            return std::future::pending().await;
        };
        let end = SystemTime::now() + left;
        let mut next = end - LEAD.min(left / 5);
        loop {
            let now = SystemTime::now();
            if now >= end {
                return std::future::pending().await;
            }
            if let Ok(pause) = next.duration_since(now)
                && !pause.is_zero()
            {
                tokio::time::sleep(pause.min(MAX_SLEEP)).await;
                continue;
            }
            if self.find_newer().await {
                return;
            }
            let left = end.duration_since(now).unwrap_or_default();
            next = now + (left / 4).clamp(MIN_PAUSE, MAX_PAUSE);
        }
    }

    /// Reads the source; true if its token is valid for longer than the one in use.
    async fn find_newer(&self) -> bool {
        let mut state = self.state.lock().await;
        let before = state.current.clone();
        if let Err(err) = self.read_again(&mut state).await {
            tracing::warn!("the token {err}");
            return false;
        }
        let (Some(before), Some(after)) = (before, &state.current) else {
            return false;
        };
        let is_newer = match (time_left(&before), time_left(after)) {
            (Some(old), Some(new)) => new > old,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        is_newer && !is_same(&before, after) && inspect(after).is_ok()
    }

    /// Reads the source. If that fails, keeps the present token, if any.
    async fn read_again(&self, state: &mut State) -> Result<(), String> {
        if self.source.is_none() {
            return Ok(());
        }
        match self.read().await {
            Ok(token) => {
                self.keep(state, token);
                Ok(())
            }
            Err(err) if state.current.is_some() => {
                tracing::warn!("the token {err}; going on with the one that was read before");
                Ok(())
            }
            Err(err) => Err(err),
        }
    }

    /// Keeps a token that has been read.
    fn keep(&self, state: &mut State, token: Secret) {
        let old = state.current.replace(token.clone());
        if old.is_none_or(|old| !is_same(&old, &token)) {
            state.unused = true;
            self.changed.notify_waiters();
        }
    }

    /// What the source has now.
    async fn read(&self) -> Result<Secret, String> {
        let read = match &self.source {
            None => Err("has no source".to_owned()),
            Some(TokenSource::Fixed(token)) => Ok(token.clone()),
            Some(TokenSource::File(file)) => match text::read(file) {
                Ok(text) => Ok(text.trim().to_owned().into()),
                Err(err) => Err(format!("could not be read from {}: {err}", file.display())),
            },
            Some(TokenSource::Command(command)) => helper::run(command, COMMAND_TIMEOUT)
                .await
                .map_err(|err| format!("could not be obtained with --jwt-token-command: {err}")),
        };
        read.and_then(|token: Secret| match token.expose() {
            "" => Err("is empty where it comes from".to_owned()),
            _ => Ok(token),
        })
    }
}

fn is_same(one: &Secret, other: &Secret) -> bool {
    one.expose() == other.expose()
}

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// How long a token is still valid by its own claims; `None` if it does not say.
fn time_left(token: &Secret) -> Option<Duration> {
    let expires = Duration::try_from_secs_f64(auth::expires_at(token)?).ok()?;
    Some(expires.saturating_sub(now()))
}

/// True if a token has expired by its own claims, or is about to and may have by a server's clock; `None` if
/// it does not say.
pub(super) fn has_expired(token: &Secret) -> Option<bool> {
    time_left(token).map(|left| left.as_secs_f64() <= CLOCK_SKEW)
}

/// Checks a token before any server does. Each attempt checks again, since time passes.
///
/// # Errors
/// What is wrong with it, with the remedy, to follow the words "the token".
fn inspect(token: &Secret) -> Result<(), String> {
    if let Some(mistake) = auth::mistake(token) {
        return Err(mistake.to_owned());
    }
    match auth::expired_for(token, now().as_secs()) {
        Some(ago) if ago > CLOCK_SKEW => Err(format!(
            "expired {} ago; get a new one, or set this machine's clock",
            span(ago)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
