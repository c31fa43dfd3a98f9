//! One request: which site it is for, who sends it, and what it asks for.

use super::super::context::Context;
use super::body;
use super::listen;
use super::post;
use super::reply::{self, Reply};
use super::visitor::{Bearer, Visitor};
use crate::account::Address;
use crate::http::{Denied, Head, Single, SiteError, has_token};
use crate::jsonrpc::{Outline, Refusal};
use crate::metrics;
use crate::transport::foreign::{NO_MCP_BUT_HEALTH, NO_MCP_BUT_METRICS, NOTHING_HERE};
use crate::transport::websocket::Accepted;
use hyper::body::Incoming;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderValue, VARY, WWW_AUTHENTICATE,
};
use hyper::http::request::Parts;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode, Version};
use std::convert::Infallible;
use tracing::Instrument;

/// The methods of the path with MCP.
const METHODS: &str = "GET, POST, DELETE, OPTIONS";

/// The headers that a web page may send: any, because of `Mcp-Param-*`. `*` does not cover `Authorization`,
/// and older browsers do not support it.
const REQUEST_HEADERS: &str = "authorization, content-type, accept, last-event-id, mcp-session-id, mcp-protocol-version, mcp-method, mcp-name, *";

/// The headers that a web page may read.
const REPLY_HEADERS: &str = "mcp-session-id, www-authenticate, retry-after";

/// Answers a request.
pub(super) async fn answer(
    visitor: &Visitor,
    mut request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let site = &visitor.site;
    let accepted = upgrade_of(&request);
    let upgrade = accepted.map(|accepted| (hyper::upgrade::on(&mut request), accepted));
    let (parts, body) = request.into_parts();
    let head = Head::read(&parts.headers);
    let admitted = if hosts_agree(&parts, head.host) {
        site.admit(&head, parts.version == Version::HTTP_10)
    } else {
        Err(SiteError::NoHost)
    };
    let origin = match admitted {
        Ok(origin) => origin,
        Err(err) => return Ok(foreign(visitor, visitor.client(&head), err)),
    };
    let asked = Asked {
        parts: &parts,
        head,
        from_page: origin.is_some(),
    };
    let mut reply = match serve(visitor, asked, body, upgrade).await {
        Ok(reply) | Err(reply) => reply,
    };
    if let Some(resource) = &site.resource
        && let Some(challenge) = reply.headers().get(WWW_AUTHENTICATE)
        && let Some(completed) = resource.complete(challenge)
    {
        reply.headers_mut().insert(WWW_AUTHENTICATE, completed);
    }
    if let Some(origin) = origin {
        let headers = reply.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let readable = HeaderValue::from_static(REPLY_HEADERS);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, readable);
        headers.insert(VARY, HeaderValue::from_static("origin"));
    }
    Ok(reply)
}

/// True unless the URL of a request names another host than its `Host` (RFC 9112, 3.2.2).
fn hosts_agree(parts: &Parts, host: Single<'_>) -> bool {
    let named = parts.uri.authority();
    named.is_none_or(|named| host.text() == Ok(Some(named.as_str())))
}

fn foreign(visitor: &Visitor, client: Address, err: SiteError) -> Reply {
    let (status, word, reason) = match err {
        SiteError::NoHost => (StatusCode::BAD_REQUEST, "host", "there has to be one Host"),
        SiteError::ForeignHost => {
            let reason = match visitor.site.metrics {
                true => "this Host is not allowed on loopback; use localhost or 127.0.0.1",
                false => "this Host is not allowed on loopback; see --public-url",
            };
            (StatusCode::FORBIDDEN, "host", reason)
        }
        SiteError::ForeignOrigin => (
            StatusCode::FORBIDDEN,
            "origin",
            "this origin is not allowed; see --allow-origin",
        ),
    };
    visitor.refuse(
        reason,
        client,
        reply::denied(Denied::plain(status, word, reason)),
    )
}

/// A request, without its body.
#[derive(Clone, Copy)]
struct Asked<'a> {
    parts: &'a Parts,
    head: Head<'a>,
    /// A web page of an allowed origin has sent it.
    from_page: bool,
}

async fn serve(
    visitor: &Visitor,
    asked: Asked<'_>,
    body: Incoming,
    upgrade: Option<(OnUpgrade, Accepted)>,
) -> Result<Reply, Reply> {
    let Asked {
        parts,
        head,
        from_page,
    } = asked;
    let path = parts.uri.path();
    if let Some(reply) = health(visitor, parts).await {
        return Ok(reply);
    }
    if visitor.site.metrics && path == "/metrics" {
        return numbers(&visitor.context);
    }
    let resource = visitor.site.resource.as_ref();
    if let Some(metadata) = resource.and_then(|it| it.metadata_at(path)) {
        return match parts.method {
            Method::GET | Method::HEAD => Ok(reply::metadata(metadata)),
            Method::OPTIONS => Ok(preflight(from_page)),
            _ => Err(reply::not_allowed("GET, HEAD, OPTIONS")),
        };
    }
    if !visitor.site.has_mcp_at(path) {
        visitor.note_stray(path);
        let text = match &visitor.site.path {
            Some(_) => NOTHING_HERE,
            None if visitor.site.metrics => NO_MCP_BUT_METRICS,
            None => NO_MCP_BUT_HEALTH,
        };
        return Err(reply::text(StatusCode::NOT_FOUND, text));
    }
    if parts.method == Method::OPTIONS {
        return Ok(preflight(from_page));
    }
    if parts.uri.query().is_some_and(has_token) {
        let reason = "a token does not belong in a URL; send 'Authorization: Bearer'";
        let denied = Denied::plain(StatusCode::BAD_REQUEST, "token-in-url", reason);
        return Err(visitor.refuse(reason, visitor.client(&head), reply::denied(denied)));
    }
    if let Some(upgrade) = upgrade {
        return Ok(visitor.upgrade(&head, upgrade));
    }
    let bearer = visitor.identify(&head).await?;
    // Boxed, because a future that is passed on by value is copied at each level, and hyper keeps room for the
    // whole of it as long as a connection lives.
    let served = Box::pin(async {
        match parts.method {
            Method::POST => take_post(visitor, &bearer, &head, body).await,
            Method::GET => listen::listen(visitor, &bearer, &head).await,
            Method::DELETE => listen::delete(visitor, &bearer, &head).await,
            _ => Err(reply::not_allowed(METHODS)),
        }
    });
    served.instrument(bearer.span.clone()).await
}

/// Reads the body of a POST, and serves the message in it.
async fn take_post(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    body: Incoming,
) -> Result<Reply, Reply> {
    if !head.is_json() {
        let reason = "the body has to be of type application/json";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        let denied = Denied::plain(status, "media-type", reason);
        return Err(reply::last(reply::denied(denied)));
    }
    let settings = &visitor.context.settings;
    let mut kept = bearer.holder.part();
    let read = body::read(
        body,
        settings.max_message_size,
        settings.auth_timeout,
        &mut kept,
    );
    let read = tokio::select! {
        read = read => read,
        excess = bearer.holder.evicted() => Err(body::evicted(excess)),
    };
    let line = read.map_err(|denied| {
        if denied.status == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = settings.max_message_size;
            let refusal = Refusal::too_long(limit, Outline::default());
            bearer.refusals.invalid(&refusal);
        }
        reply::last(reply::denied(denied))
    })?;
    if let Some(metrics) = metrics::get() {
        metrics.received(line.len());
    }
    post::post(visitor, bearer, head, line).await
}

/// The reply to a health check, if it is one: whether this process serves, or whether the MCP server does.
async fn health(visitor: &Visitor, parts: &Parts) -> Option<Reply> {
    let is_asked = matches!(parts.method, Method::GET | Method::HEAD);
    let context = &visitor.context;
    let ready = match parts.uri.path() {
        "/healthz" if is_asked => !context.stopping.has_begun(),
        "/readyz" if is_asked => Box::pin(context.is_ready()).await,
        _ => return None,
    };
    let reply = if ready {
        reply::text(StatusCode::OK, "ok\n")
    } else {
        let text = "the MCP server does not answer\n";
        reply::later(reply::text(StatusCode::SERVICE_UNAVAILABLE, text))
    };
    Some(reply::last(reply))
}

/// The reply to Prometheus.
fn numbers(context: &Context) -> Result<Reply, Reply> {
    let now = metrics::Now {
        backlog: context.backlog.bytes(),
        waiting: context.sharing.waiting(),
    };
    let text = metrics::get().and_then(|metrics| metrics.text(now).ok());
    let text = text.ok_or_else(|| reply::empty(StatusCode::INTERNAL_SERVER_ERROR))?;
    Ok(reply::metrics(text))
}

/// The reply to a WebSocket upgrade.
fn upgrade_of(request: &Request<Incoming>) -> Option<Accepted> {
    let may = request.method() == Method::GET && request.version() == Version::HTTP_11;
    may.then(|| Accepted::of(request.headers())).flatten()
}

/// The reply to a CORS preflight request.
fn preflight(from_page: bool) -> Reply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    if from_page {
        let headers = reply.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static(METHODS),
        );
        let allowed = HeaderValue::from_static(REQUEST_HEADERS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    }
    reply
}
