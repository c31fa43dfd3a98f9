//! Carries one exchange: sends its request, and reports what comes back.

use super::exchange::{Cause, Content, Event, ExchangeId, Failed, Head, Request, Verb};
use super::pool::Pool;
use crate::client::token;
use crate::control::MAX_SERVER_LINE;
use crate::http::{SESSION_ID, Whole};
use crate::transport::sse::Decoder;
use crate::transport::{foreign, tls};
use crate::utils::chain::Chain;
use crate::utils::secret::Secret;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::InvalidUri;
use hyper::{Method, Response, StatusCode, header};
use memchr::memmem;
use std::error::Error;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// The most that is read of an unsuccessful response, in bytes.
const MAX_ERROR_BODY: usize = 256 * 1024;

/// The longest value of a header that we look at, in bytes.
const MAX_VALUE: usize = 8192;

/// A report about an exchange.
pub(super) enum Report {
    /// The server has been reached.
    Connected,
    /// It has an event.
    Event(Event),
}

/// Where reports go.
pub(super) type Reports = Sender<(ExchangeId, Report)>;

/// Carries one exchange to its end. May be dropped at any time, which closes its connection.
pub(super) async fn carry(pool: &Pool, exchange: ExchangeId, request: Request, reports: &Reports) {
    let carrier = Carrier {
        pool,
        exchange,
        reports,
    };
    let last = match carrier.send(request).await {
        Ok(last) => last,
        Err(failed) => Event::Failed(failed),
    };
    carrier.report(Report::Event(last)).await;
}

struct Carrier<'a> {
    pool: &'a Pool,
    exchange: ExchangeId,
    reports: &'a Reports,
}

/// The head of a response, and its connection.
struct Exchanged {
    sender: SendRequest<Full<Bytes>>,
    response: Response<Incoming>,
    token: Option<Secret>,
}

impl Exchanged {
    /// The token, if the server does not accept it.
    fn refused(&self) -> Option<&Secret> {
        let is_refused = self.response.status() == StatusCode::UNAUTHORIZED;
        self.token.as_ref().filter(|_| is_refused)
    }

    /// True if the token has expired; one that does not say when it does may have if the server says so.
    fn has_expired(&self) -> bool {
        let challenge = self.response.headers().get(header::WWW_AUTHENTICATE);
        let says = |it: &HeaderValue| memmem::find(it.as_bytes(), b"invalid_token").is_some();
        let expired = self.token.as_ref().and_then(token::has_expired);
        expired.unwrap_or_else(|| challenge.is_some_and(says))
    }
}

impl Carrier<'_> {
    async fn report(&self, report: Report) {
        // The receiver is gone when the program ends.
        let _ended = self.reports.send((self.exchange, report)).await;
    }

    /// Sends a request. If the server refuses the token, retries once if there is a newer one, and waits for it
    /// if the token has expired.
    async fn send(&self, request: Request) -> Result<Event, Failed> {
        let tokens = &self.pool.settings.tokens;
        let mut exchanged = self.exchange(&request).await?;
        if let Some(refused) = exchanged.refused()
            && tokens.after_refusal(refused).await.is_some()
        {
            tracing::info!("the token was refused, trying the one that has come since");
            exchanged = self.exchange(&request).await?;
        }
        while self.may_wait_for_token(&request)
            && exchanged.has_expired()
            && let Some(refused) = exchanged.refused()
        {
            tokens.next(Some(refused), "has expired").await;
            exchanged = self.exchange(&request).await?;
        }
        if exchanged.token.is_some() && exchanged.response.status().is_success() {
            self.pool.accepted.store(true, Ordering::Relaxed);
        }
        let last = self.receive(exchanged.response).await?;
        self.pool.give_back(exchanged.sender);
        Ok(last)
    }

    /// True once a token has been accepted, if the source may have another one. The end of the session is not
    /// worth waiting.
    fn may_wait_for_token(&self, request: &Request) -> bool {
        let settings = &self.pool.settings;
        settings.reconnect.is_some()
            && settings.tokens.can_change()
            && self.pool.accepted.load(Ordering::Relaxed)
            && request.verb != Verb::Delete
    }

    /// Sends a request, and waits for the head of its response.
    async fn exchange(&self, request: &Request) -> Result<Exchanged, Failed> {
        let tokens = &self.pool.settings.tokens;
        loop {
            let kept = self.pool.take();
            let is_kept = kept.is_some();
            let (mut sender, token) = match kept {
                Some(sender) => (sender, tokens.current().await),
                None => {
                    let token = match tokens.for_connection().await {
                        Err(fault) if self.may_wait_for_token(request) => {
                            tokens.next(None, &fault).await;
                            continue;
                        }
                        token => token.map_err(no_token)?,
                    };
                    let connected = self.pool.connect().await;
                    (connected.map_err(|err| failed(&err, false))?, token)
                }
            };
            let built = match self.build(request, token.as_ref()) {
                // What is in the file cannot even be sent.
                Err(fault) if fault.cause == Cause::Token && self.may_wait_for_token(request) => {
                    self.pool.give_back(sender);
                    tokens.next(None, &fault.reason).await;
                    continue;
                }
                built => built?,
            };
            if request.is_probe {
                self.report(Report::Connected).await;
            }
            match sender.try_send_request(built).await {
                Ok(response) => {
                    return Ok(Exchanged {
                        sender,
                        response,
                        token,
                    });
                }
                Err(mut err) => match err.take_message() {
                    // The server had closed it before.
                    Some(_) if is_kept => {}
                    unsent => return Err(failed(err.error(), unsent.is_none())),
                },
            }
        }
    }

    fn build(
        &self,
        request: &Request,
        token: Option<&Secret>,
    ) -> Result<hyper::Request<Full<Bytes>>, Failed> {
        let place = &self.pool.settings.place;
        let uri = match self.pool.settings.relay() {
            Some(_) => format!("http://{}{}", place.authority(), request.target).parse(),
            None => Ok(request.target.clone().into()),
        };
        let mut built = hyper::Request::new(Full::new(request.body.clone()));
        *built.method_mut() = match request.verb {
            Verb::Post => Method::POST,
            Verb::Get => Method::GET,
            Verb::Delete => Method::DELETE,
        };
        *built.uri_mut() = uri.map_err(|err: InvalidUri| failed(&err, true))?;
        let headers = built.headers_mut();
        headers.clone_from(&self.pool.headers);
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()));
            let mut value = value.map_err(|_| {
                no_token("holds what no header can hold, such as a line break".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        for (name, value) in &request.headers {
            headers.insert(name, value.clone());
        }
        Ok(built)
    }

    /// Reads a response to its end.
    async fn receive(&self, response: Response<Incoming>) -> Result<Event, Failed> {
        let (head, mut body) = response.into_parts();
        let head = read_head(head.status.as_u16(), &head.headers);
        if head.is_success() && head.content == Content::EventStream {
            self.report(Report::Event(Event::Opened(head))).await;
            return self.stream(&mut body).await;
        }
        let limit = if head.is_success() {
            MAX_SERVER_LINE
        } else {
            MAX_ERROR_BODY
        };
        let mut whole = Whole::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|err| failed(&err, true))?;
            let data = frame.into_data().unwrap_or_default();
            if whole.len() + data.len() > limit {
                if !head.is_success() {
                    break;
                }
                return Err(unreadable(format!(
                    "the response is longer than {limit} bytes"
                )));
            }
            whole.add(data);
        }
        Ok(Event::Answered(head, whole.into_bytes()))
    }

    async fn stream(&self, body: &mut Incoming) -> Result<Event, Failed> {
        let mut decoder = Decoder::new(MAX_SERVER_LINE);
        while let Some(frame) = body.frame().await {
            let data = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(err) => return Ok(Event::Ended(Chain(&err).to_string())),
            };
            let mut rest = &data[..];
            while !rest.is_empty() {
                match decoder.decode(&mut rest) {
                    Ok(Some(event)) => self.report(Report::Event(Event::Streamed(event))).await,
                    Ok(None) => {}
                    Err(err) => return Err(unreadable(err.to_string())),
                }
            }
        }
        Ok(Event::Ended("the server has ended the stream".to_owned()))
    }
}

fn read_head(status: u16, headers: &HeaderMap) -> Head {
    let value = |name| headers.get(name).filter(|value| value.len() <= MAX_VALUE);
    let text = |name: HeaderName| value(name)?.to_str().map(str::to_owned).ok();
    let content = headers.get(header::CONTENT_TYPE);
    let content = content.and_then(|value| value.to_str().ok()?.split(';').next());
    let is = |name: &str| content.is_some_and(|it| it.trim().eq_ignore_ascii_case(name));
    let seconds = text(header::RETRY_AFTER).and_then(|value| value.trim().parse().ok());
    Head {
        status,
        content: if is("application/json") {
            Content::Json
        } else if is("text/event-stream") {
            Content::EventStream
        } else {
            Content::Other
        },
        session: value(SESSION_ID).cloned(),
        retry_after: seconds.map(Duration::from_secs),
        challenge: text(header::WWW_AUTHENTICATE),
        location: text(header::LOCATION),
    }
}

fn unreadable(reason: String) -> Failed {
    Failed {
        sent: true,
        cause: Cause::Connection,
        reason,
    }
}

fn no_token(reason: String) -> Failed {
    Failed {
        sent: false,
        cause: Cause::Token,
        reason,
    }
}

fn failed(err: &(dyn Error + 'static), sent: bool) -> Failed {
    let mut causes =
        std::iter::successors(Some(err), |err: &&(dyn Error + 'static)| (*err).source());
    let explained = causes.find_map(|err| {
        let err = err.downcast_ref::<io::Error>()?;
        let cause = match foreign::is_no_http(err) {
            true => Cause::Foreign,
            false => Cause::Tls,
        };
        let reason = tls::explain(err).or_else(|| foreign::explain(err))?;
        Some((cause, reason))
    });
    let (cause, reason) = explained.unwrap_or_else(|| (Cause::Connection, Chain(err).to_string()));
    Failed {
        // If the server refuses the TLS handshake, it has read nothing that was sent with it.
        sent: sent && cause != Cause::Tls,
        cause,
        reason,
    }
}
