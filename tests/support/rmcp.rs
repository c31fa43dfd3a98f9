//! Shared by the tests' MCP servers on the `rmcp` crate: they serve stdio, or, as a control, the
//! crate's own HTTP, without `mcp-remote` in front of it.

// Two programs use this file as a module.
#![allow(unreachable_pub)]

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::model::{ErrorData, InputRequest, ProtocolVersion, ServerRequest};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext, SubscriptionSink};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ServerHandler, ServiceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

pub type Context = RequestContext<RoleServer>;

/// Serves stdio until it ends or, with `--http [PORT]`, any clients at a port that it prints.
pub async fn serve<S: ServerHandler + Default>() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--http") {
        let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
        return serve_http::<S>(port).await;
    }
    let service = S::default().serve(rmcp::transport::stdio()).await?;
    service.waiting().await?;
    Ok(())
}

#[expect(clippy::print_stdout)]
async fn serve_http<S: ServerHandler + Default>(port: u16) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on port {}", listener.local_addr()?.port());
    let sessions = Arc::<LocalSessionManager>::default();
    let config = StreamableHttpServerConfig::default();
    let server = Arc::<S>::default();
    let service = StreamableHttpService::new(move || Ok(Arc::clone(&server)), sessions, config);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = service.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.handle(request).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        // A client that disconnects ends its connection only.
        tokio::spawn(async move { connection.await.ok() });
    }
}

pub fn model<T: DeserializeOwned>(json: Value) -> Result<T, ErrorData> {
    serde_json::from_value(json).map_err(failed)
}

/// A result from its JSON text, which is shorter than its builders.
pub fn result<T: DeserializeOwned>(mut json: Value) -> Result<T, ErrorData> {
    // `rmcp` removes it again if the client is a legacy one.
    json["resultType"] = json!("complete");
    model(json)
}

pub fn failed(err: impl std::fmt::Display) -> ErrorData {
    ErrorData::internal_error(err.to_string(), None)
}

pub fn is_modern(context: &Context) -> bool {
    context
        .protocol_version()
        .is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

/// Asks a client of the protocol with sessions.
pub async fn ask(context: &Context, question: InputRequest) -> Result<Value, ErrorData> {
    let question = match question {
        InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
        InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
        InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
        _ => return Err(failed("there is no such question")),
    };
    let answer = context.peer.send_request(question).await.map_err(failed)?;
    serde_json::to_value(answer).map_err(failed)
}

/// The listening clients of the protocol without sessions.
#[derive(Default)]
pub struct Listeners(Mutex<Vec<Arc<SubscriptionSink>>>);

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<SubscriptionSink>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn current(&self) -> Vec<Arc<SubscriptionSink>> {
        self.lock().clone()
    }

    /// Serves one until it leaves.
    pub async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let sink = Arc::new(context.sink().clone());
        self.lock().push(Arc::clone(&sink));
        context.cancelled().await;
        self.lock().retain(|other| !Arc::ptr_eq(other, &sink));
        Ok(())
    }

    /// Notifies all clients, including that of `context` if it has a session, that the tools have changed.
    pub async fn announce_tools(&self, context: &Context) -> Result<(), ErrorData> {
        for sink in self.current() {
            // A client that has not subscribed to it does not get it.
            let _not_accepted = sink.notify_tool_list_changed().await;
        }
        if !is_modern(context) {
            let sent = context.peer.notify_tool_list_changed().await;
            sent.map_err(failed)?;
        }
        Ok(())
    }
}
