//! A request of 2026-07-28, which needs no session: it is served by a hub session of its own, which ends with
//! the answer. If the client hangs up, the request is cancelled.

use super::super::access::{Authorization, invalidated};
use super::super::context::Context;
use super::super::end::why_cut;
use super::super::isolated;
use super::super::sharing::{Party, Placement};
use super::feed::{self, Patience, Source};
use super::gate::{self, Stopped};
use super::reply::{self, Reply, Unanswered};
use super::visitor::{Bearer, Visitor};
use crate::audit::Trail;
use crate::http::{Head, status_of, write_event};
use crate::jsonrpc::{Code, Kind, MAX_CHILD_DEPTH, Message, RequestId};
use crate::mcp::Method;
use crate::metrics::Transport;
use crate::utils::chunks::{Line, Pieces};
use bytes::Bytes;
use hyper::StatusCode;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::Notify;

/// A request, from being sent to its answer.
pub(super) struct Single {
    placement: Arc<Placement>,
    authorization: Authorization,
    context: Arc<Context>,
    trail: Arc<Trail>,
    id: Option<RequestId>,
    ready: VecDeque<Said>,
    done: bool,
    /// The token is no longer valid.
    invalidated: bool,
    /// Ends its own process, where it has one.
    left: Arc<Notify>,
}

/// A message of the MCP server about a request.
pub(super) struct Said {
    pub line: Line,
    is_answer: bool,
    code: Option<i64>,
}

impl Single {
    fn begin(
        visitor: &Visitor,
        bearer: &Bearer,
        authorization: Authorization,
    ) -> Result<Self, Stopped> {
        let party = Party {
            authorization: &authorization,
            address: bearer.address,
            transport: Transport::Http,
            counted: visitor.context.counted(
                &authorization,
                bearer.address,
                bearer.of_user.clone(),
            ),
        };
        let placed = visitor.context.sharing.place(party);
        let placement = Arc::new(placed.map_err(|why| Stopped {
            line: Some(isolated::refusal(why, None)),
            code: Code::InternalError,
            challenge: None,
            later: true,
            status: None,
        })?);
        let left = Arc::<Notify>::default();
        if !visitor.context.sharing.is_shared_by_all() {
            let (context, left) = (Arc::clone(&visitor.context), Arc::clone(&left));
            let placement = Arc::clone(&placement);
            let run = async move { placement.run_own(&left, &context.stopping).await };
            visitor.http_sessions.spawn(run);
        }
        Ok(Self {
            placement,
            authorization,
            context: Arc::clone(&visitor.context),
            trail: Arc::clone(&bearer.trail),
            id: None,
            ready: VecDeque::new(),
            done: false,
            invalidated: false,
            left,
        })
    }

    /// The next message; `None` after the answer, or if there will be none. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.ready.pop_front() {
                return Some(said);
            }
            if self.done {
                return None;
            }
            let session = &self.placement.session;
            match session.take() {
                Err(cut) => {
                    tracing::info!(
                        reason = why_cut(cut, &self.context.stopping).name(),
                        "a request ends"
                    );
                    self.done = true;
                }
                Ok(lines) if lines.is_empty() => tokio::select! {
                    () = session.changed() => {}
                    // The next `take` says why.
                    _cut = session.overflowed() => {}
                    invalidated = invalidated(&mut self.authorization, Some((session, &self.trail))) => {
                        tracing::info!(reason = invalidated.name(), "a request ends");
                        (self.done, self.invalidated) = (true, true);
                    }
                },
                Ok(lines) => lines.into_iter().for_each(|line| self.sort(line)),
            }
        }
    }

    /// The answer to a request that gets none from the MCP server.
    fn unanswered(&self) -> Said {
        let why = if self.invalidated {
            Unanswered::TokenInvalid
        } else {
            Unanswered::Dropped
        };
        Said {
            line: why.line(self.id.as_ref()),
            is_answer: true,
            code: Some(Code::InternalError as i64),
        }
    }

    /// Picks messages about this request: the client gets no server requests and no other answers.
    fn sort(&mut self, line: Line) {
        let Ok(message) = Message::read(line.joined(), MAX_CHILD_DEPTH) else {
            return;
        };
        let is_answer = match message.kind() {
            Kind::Request(_) => return,
            Kind::Notification => false,
            Kind::Response(id) if *id == self.id && !self.done => true,
            Kind::Response(_) => return,
        };
        self.done |= is_answer;
        self.ready.push_back(Said {
            line,
            is_answer,
            code: message.error_code(),
        });
    }
}

impl Source for Single {
    async fn next_event(&mut self) -> Option<Bytes> {
        let said = self.next().await?;
        Some(write_event(None, Some(&said.line)))
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        self.left.notify_one();
    }
}

/// Sets the status that belongs to the error code of the answer.
fn stopped(stopped: Stopped) -> Reply {
    let status = status_of(Some(stopped.code as i64));
    stopped.reply(status)
}

/// Serves a message without a session.
pub(super) async fn serve(
    visitor: &Visitor,
    bearer: &Bearer,
    head: &Head<'_>,
    authorization: Authorization,
    message: Message,
) -> Result<Reply, Reply> {
    if message.mcp_method() == Some(Method::Listen) && !head.accepts.stream {
        return Err(reply::not_acceptable());
    }
    // Before the policy: what it decides on has to be what proxies on the way have gone by.
    let tools = &visitor.http_sessions.tools;
    let checked = tools.check(&visitor.context, &bearer.refusals, head.all, &message);
    Box::pin(checked).await?;
    let permit = gate::judge(visitor, bearer, &authorization, message);
    let permit = permit.map_err(stopped)?;
    let mut single = Single::begin(visitor, bearer, authorization.clone()).map_err(stopped)?;
    let sent = gate::hand_over(&single.placement, bearer, &authorization, &permit).await;
    sent.map_err(stopped)?;
    let Kind::Request(id) = permit.message().kind() else {
        return Ok(reply::empty(StatusCode::ACCEPTED));
    };
    single.id = Some(id.clone());
    let end = Patience::end();
    let first = loop {
        let next = single.next();
        let first = if head.accepts.stream {
            visitor.patience.until(end, next).await
        } else {
            Some(next.await)
        };
        match first.map(|said| said.or_else(|| Some(single.unanswered()))) {
            // A client that does not accept event streams gets only the answer.
            Some(Some(said)) if !head.accepts.stream && !said.is_answer => {}
            Some(Some(said)) if said.is_answer && head.accepts.json => {
                return Ok(reply::json(status_of(said.code), &said.line));
            }
            first => break first.flatten(),
        }
    };
    let begin = first.map(|said| write_event(None, Some(&said.line)));
    let pace = visitor.context.settings.keepalive_interval;
    let events = feed::events(single, begin.into_iter().collect(), pace);
    Ok(reply::events(events))
}
