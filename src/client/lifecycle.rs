//! One connection after the other: when to connect, how often to retry, when to give up.

use super::bridge::Bridge;
use super::connection::Carrier;
use super::dial::{DialError, Dialed, dial};
use super::end::{End, Lost};
use super::endpoint::{Ended, News, Offer};
use super::error::ClientError;
use super::host::HostInput;
use super::retry::Retry;
use super::settings::{CONNECT_TIMEOUT, Settings};
use super::token;
use crate::transport::{foreign, tls};
use crate::utils::backoff;
use crate::utils::chain::Chain;
use crate::utils::secret::Secret;
use crate::utils::span::brief;
use std::error::Error;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// How long an attempt to connect may still take when the host has left without pending requests.
const UNNEEDED_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The client over all its connections.
pub(super) struct Lifecycle<'a> {
    settings: &'a Settings,
    bridge: &'a Bridge,
    input: &'a mut HostInput,
    address: String,
    /// `None` if reconnecting is not allowed.
    retry: Option<Retry>,
    /// There has been a connection.
    connected: bool,
    /// The token that was shown last.
    token: Option<Secret>,
    /// A refused token was replaced, and no server has accepted the new one yet.
    replaced: bool,
    /// When the last useful connection ended.
    lost_at: Option<Instant>,
}

impl<'a> Lifecycle<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        bridge: &'a Bridge,
        input: &'a mut HostInput,
    ) -> Self {
        Self {
            settings,
            bridge,
            input,
            address: settings.place.to_string(),
            retry: settings.reconnect.map(Retry::new),
            connected: false,
            token: None,
            replaced: false,
            lost_at: None,
        }
    }

    /// Connects and carries lines until the host no longer needs a connection.
    ///
    /// # Errors
    /// Why it gave up.
    pub(super) async fn run(&mut self) -> Result<(), ClientError> {
        while let Some(dialed) = self.connect().await? {
            let began = Instant::now();
            let ended = self.carry(dialed).await;
            self.replaced &= !ended.introduced;
            let goes_on = match ended.end {
                End::Done => false,
                End::Rejected(reason) => self.after_rejection(reason).await?,
                End::Mismatch(reason) => return Err(self.mismatch(reason)),
                End::Lost(Lost::Renewed) => {
                    self.bridge.with(|endpoint| endpoint.prepare_reconnect());
                    tracing::info!(address = %self.address, "the token is renewed, reconnecting with the new one");
                    self.lost_at = Some(Instant::now());
                    true
                }
                End::Lost(lost) => {
                    // A silent server may be waiting for the first request.
                    let useful = ended.introduced || began.elapsed() >= CONNECT_TIMEOUT;
                    self.after_loss(lost, useful).await?
                }
                End::Dismissed => {
                    let useful = ended.carried || began.elapsed() >= CONNECT_TIMEOUT;
                    self.after_dismissal(useful).await?
                }
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Makes a connection, in as many attempts as the settings allow; `None` if none is needed any
    /// more.
    async fn connect(&mut self) -> Result<Option<Dialed>, ClientError> {
        loop {
            let settings = self.settings;
            let attempt = attempt(settings);
            let Some((token, attempt)) = self
                .unless_unneeded(attempt, UNNEEDED_CONNECT_TIMEOUT)
                .await
            else {
                return Ok(None);
            };
            self.token = token;
            let pause = match attempt {
                Ok(dialed) => return Ok(Some(dialed)),
                Err(DialError::Rejected(reason)) => {
                    let has_expired = self.is_expiry(&reason);
                    let refusal = ClientError::Rejected(reason);
                    if !self.after_refusal(refusal, has_expired).await? {
                        return Ok(None);
                    }
                    continue;
                }
                // Whatever renews the token may have been suspended with us.
                Err(DialError::Token(fault)) if self.may_wait_for_token() => {
                    if !self.wait_for_token(None, &fault).await {
                        return Ok(None);
                    }
                    continue;
                }
                Err(err) => self.after_failure(err)?,
            };
            if !self.wait_until(Instant::now() + pause).await {
                return Ok(None);
            }
        }
    }

    /// How long to wait after an attempt that failed.
    fn after_failure(&mut self, err: DialError) -> Result<Duration, ClientError> {
        let err = match err {
            DialError::Rejected(reason) => return Err(ClientError::Rejected(reason)),
            DialError::NotAsked(reason) => return Err(self.mismatch(reason)),
            DialError::Token(fault) => return Err(ClientError::Token(fault)),
            DialError::Io(err) => err,
        };
        if let Some(reason) = tls::explain(&err).or_else(|| foreign::explain(&err)) {
            return Err(self.mismatch(reason));
        }
        tracing::debug!(address = %self.address, err = %Chain(&err), "could not connect");
        if self.retry.is_none() {
            let address = self.address.clone();
            let source = err;
            return Err(ClientError::Connect { address, source });
        }
        self.next_pause(err)
    }

    /// A server has refused the token: a newer one is tried once, and waited for if the token `has_expired`.
    /// False when no connection is needed any more.
    async fn after_refusal(
        &mut self,
        refusal: ClientError,
        has_expired: bool,
    ) -> Result<bool, ClientError> {
        let Some(refused) = self.token.clone() else {
            return Err(refusal);
        };
        let tokens = &self.settings.tokens;
        if !self.replaced {
            let newer = self.unless_unneeded(tokens.after_refusal(&refused), Duration::ZERO);
            if newer.await.flatten().is_some() {
                tracing::info!("the token was refused, trying the one that has come since");
                self.replaced = true;
                return Ok(true);
            }
        }
        if has_expired && self.may_wait_for_token() {
            return Ok(self.wait_for_token(Some(&refused), "has expired").await);
        }
        Err(refusal)
    }

    /// The server has revoked its acceptance.
    async fn after_rejection(&mut self, reason: String) -> Result<bool, ClientError> {
        let has_expired = self.is_expiry(&reason);
        let refusal = self.rejected(reason);
        let lost_at = Instant::now();
        let goes_on = self.after_refusal(refusal, has_expired).await?;
        self.bridge.with(|endpoint| endpoint.prepare_reconnect());
        self.lost_at = Some(lost_at);
        Ok(goes_on)
    }

    /// True if a server has refused the token because it has expired.
    fn is_expiry(&self, reason: &str) -> bool {
        let has_expired = || self.token.as_ref().and_then(token::has_expired);
        reason.contains("Token expired")
            || reason.contains("Invalid token") && has_expired() == Some(true)
    }

    fn may_wait_for_token(&self) -> bool {
        self.connected && self.retry.is_some() && self.settings.tokens.can_change()
    }

    /// Waits for a usable token, other than the one that was refused; false when no connection is needed any
    /// more.
    async fn wait_for_token(&mut self, refused: Option<&Secret>, fault: &str) -> bool {
        // Without a session, the requests in flight are lost.
        self.bridge.with(|endpoint| endpoint.prepare_reconnect());
        let next = self.settings.tokens.next(refused, fault);
        self.unless_unneeded(next, Duration::ZERO).await.is_some()
    }

    async fn carry(&mut self, dialed: Dialed) -> Ended {
        let Dialed { connection, offer } = dialed;
        self.connected = true;
        let (address, lost_at) = (&self.address, self.lost_at);
        let carrier = Carrier {
            bridge: self.bridge,
            tokens: &self.settings.tokens,
            keepalive_timeout: self.settings.keepalive_timeout,
            report: |news| report(address, lost_at, news),
        };
        // Without another connection, the session is useless.
        let offer = match self.retry {
            None if !self.settings.tokens.can_change() => Offer::Nothing {
                admitted: self.token.is_some(),
            },
            _ => offer,
        };
        carrier.carry(connection, offer, self.input).await
    }

    /// Pauses before the next connection; false when none is needed any more.
    async fn after_loss(&mut self, lost: Lost, useful: bool) -> Result<bool, ClientError> {
        if self.retry.is_none() {
            return Err(ClientError::Lost {
                address: self.address.clone(),
                source: lost,
            });
        }
        self.bridge.with(|endpoint| endpoint.prepare_reconnect());
        if useful {
            self.reset();
        }
        if self.lost_at.is_none() {
            tracing::warn!(address = %self.address, reason = %Chain(&lost), "connection lost, reconnecting");
            self.lost_at = Some(Instant::now());
        }
        let pause = self.next_pause(lost)?;
        Ok(self.wait_until(Instant::now() + pause).await)
    }

    /// Waits until the host needs a connection again; false if it has left. A server that ends
    /// sessions before they carry anything gets pauses like one that fails.
    async fn after_dismissal(&mut self, useful: bool) -> Result<bool, ClientError> {
        tracing::info!(address = %self.address, "the server has ended the idle session");
        let mut not_before = Instant::now();
        if useful {
            self.reset();
        } else {
            not_before += self.next_pause(Lost::Dismissed)?;
        }
        if !self.bridge.with(|endpoint| endpoint.is_needed()) {
            tokio::select! {
                () = self.input.ready() => {}
                () = self.bridge.unneeded() => return Ok(false),
            }
        }
        if self.input.is_finished() && self.bridge.end_host() {
            return Ok(false);
        }
        Ok(self.wait_until(not_before).await)
    }

    fn reset(&mut self) {
        self.lost_at = None;
        if let Some(retry) = &mut self.retry {
            retry.succeeded();
        }
    }

    /// How long to wait before the next attempt, after one that failed like this.
    fn next_pause(
        &mut self,
        failure: impl Error + Send + Sync + 'static,
    ) -> Result<Duration, ClientError> {
        let attempts = self.retry.as_ref().map_or(0, Retry::failures);
        match self.retry.as_mut().and_then(Retry::failed) {
            Some(pause) => Ok(backoff::jitter(pause)),
            None => Err(ClientError::GaveUp {
                address: self.address.clone(),
                attempts,
                connected: self.connected,
                source: Box::new(failure),
            }),
        }
    }

    /// Waits; false when no connection is needed any more.
    async fn wait_until(&mut self, time: Instant) -> bool {
        if time <= Instant::now() {
            return true;
        }
        let pause = tokio::time::sleep_until(time);
        self.unless_unneeded(pause, Duration::ZERO).await.is_some()
    }

    /// Awaits `future`, unless no connection is needed any more. Once the host has left without pending
    /// requests, it may take `grace` longer.
    async fn unless_unneeded<T>(
        &mut self,
        future: impl Future<Output = T>,
        grace: Duration,
    ) -> Option<T> {
        let host_done = async {
            self.input.finished().await;
            if !self.bridge.end_host() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            output = future => Some(output),
            () = host_done => None,
            () = self.bridge.unneeded() => None,
        }
    }

    fn rejected(&self, reason: String) -> ClientError {
        match self.token {
            Some(_) => ClientError::Rejected(reason),
            None => ClientError::NoToken,
        }
    }

    fn mismatch(&self, reason: String) -> ClientError {
        let address = self.address.clone();
        ClientError::Mismatch { address, reason }
    }
}

/// One attempt to connect, with the current token.
async fn attempt(settings: &Settings) -> (Option<Secret>, Result<Dialed, DialError>) {
    match settings.tokens.for_connection().await {
        Ok(token) => {
            let dialed = dial(settings, token.as_ref()).await;
            (token, dialed)
        }
        Err(fault) => (None, Err(DialError::Token(fault))),
    }
}

/// Logs news about the server.
fn report(address: &str, lost_at: Option<Instant>, news: News) {
    match (lost_at, news) {
        (None, _) => tracing::info!(%address, "connected"),
        (Some(since), News::Resumed { resent }) => {
            let after = brief(since.elapsed());
            tracing::info!(%address, %after, resent, "reconnected, nothing is lost");
        }
        (Some(since), News::Started { failed }) => {
            let after = brief(since.elapsed());
            tracing::warn!(%address, %after, failed, "reconnected; the server has a new session");
        }
    }
}
