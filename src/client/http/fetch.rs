//! Fetches one document that is not MCP by its URL: with bounds on its size and time, over TLS, from this
//! host and no other.

use super::dial::dial;
use super::place::Place;
use super::proxy::Proxy;
use crate::transport::tls::{self, Connector};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode, header};
use std::io;
use std::time::Duration;

/// How long fetching a document may take, redirects included.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest document, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 3;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The host cannot be reached, or TLS is refused.
    #[error("no connection")]
    Connect(#[source] io::Error),
    /// Its certificate is from an unknown authority.
    #[error(
        "its certificate comes from an authority that is not trusted here; name the file with the authority's certificate by --jwks-ca"
    )]
    Authority,
    /// It does not speak TLS.
    #[error("it does not speak TLS on this port")]
    Plain,
    /// The connection broke, or the response is not HTTP.
    #[error("no whole response")]
    Response(#[from] hyper::Error),
    /// It takes too long.
    #[error("no whole response within {} s", FETCH_TIMEOUT.as_secs())]
    TimedOut,
    /// It is too long, as announced or as received.
    #[error("the response is longer than {MAX_DOCUMENT} bytes")]
    TooLarge,
    /// A status other than success.
    #[error("the response is HTTP {0}")]
    Status(u16),
    /// A redirect to a place that is not allowed.
    #[error("it redirects elsewhere, which is not followed: name the last URL instead")]
    Elsewhere,
    /// Too many redirects.
    #[error("it redirects more than {MAX_REDIRECTS} times")]
    Redirects,
    /// A content coding that was not requested.
    #[error("the response is compressed, though that was not asked for")]
    Compressed,
}

/// Fetches the document at `place`.
///
/// # Errors
/// Why there is none.
pub async fn fetch(
    place: &Place,
    tls: &Connector,
    proxy: Option<&Proxy>,
) -> Result<Bytes, FetchError> {
    let fetched = tokio::time::timeout(FETCH_TIMEOUT, follow(place, tls, proxy)).await;
    fetched.unwrap_or(Err(FetchError::TimedOut))
}

async fn follow(
    place: &Place,
    tls: &Connector,
    proxy: Option<&Proxy>,
) -> Result<Bytes, FetchError> {
    let mut place = place.clone();
    for _ in 0..=MAX_REDIRECTS {
        match get(&place, tls, proxy).await? {
            Got::Document(document) => return Ok(document),
            Got::Redirect(location) => {
                place.target = place.redirect(&location).ok_or(FetchError::Elsewhere)?;
            }
        }
    }
    Err(FetchError::Redirects)
}

/// Makes one request over a new connection.
async fn get(place: &Place, tls: &Connector, proxy: Option<&Proxy>) -> Result<Got, FetchError> {
    let dialled = dial(place, Some(tls), proxy).await;
    let (sender, connection) = dialled.map_err(unreachable)?;
    let asking = std::pin::pin!(ask(sender, place));
    match select(asking, std::pin::pin!(connection)).await {
        Either::Left((got, _)) => got,
        // The connection has ended, and all its data has been read.
        Either::Right((_, asking)) => asking.await,
    }
}

fn unreachable(err: io::Error) -> FetchError {
    if tls::is_unknown_authority(&err) {
        FetchError::Authority
    } else if tls::is_plain(&err) {
        FetchError::Plain
    } else {
        FetchError::Connect(err)
    }
}

enum Got {
    Document(Bytes),
    Redirect(String),
}

async fn ask(mut sender: SendRequest<Full<Bytes>>, place: &Place) -> Result<Got, FetchError> {
    let request = Request::get(place.target.clone())
        .header(header::HOST, place.authority())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .header(
            header::USER_AGENT,
            concat!("mcp-remote/", env!("CARGO_PKG_VERSION")),
        )
        .body(Full::default());
    let request = request.map_err(|err| FetchError::Connect(io::Error::other(err)))?;
    let response = sender.send_request(request).await?;
    let header = |name: &header::HeaderName| response.headers().get(name)?.to_str().ok();
    match response.status() {
        StatusCode::OK => {}
        status if status.is_redirection() => {
            let location = header(&header::LOCATION).ok_or(FetchError::Status(status.as_u16()))?;
            return Ok(Got::Redirect(location.to_owned()));
        }
        status => return Err(FetchError::Status(status.as_u16())),
    }
    if header(&header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(FetchError::Compressed);
    }
    whole(response).await.map(Got::Document)
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, FetchError> {
    let mut body = response.into_body();
    if body.size_hint().lower() > MAX_DOCUMENT as u64 {
        return Err(FetchError::TooLarge);
    }
    let mut document = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        if document.len() + data.len() > MAX_DOCUMENT {
            return Err(FetchError::TooLarge);
        }
        document.extend_from_slice(&data);
    }
    Ok(document.into())
}
