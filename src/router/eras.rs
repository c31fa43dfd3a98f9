//! Which process serves whom: servers on the official SDKs serve peers of one era in one process,
//! so each era has its own.

use super::lane::Service;
use super::{Command, LaneId, Output, Router, SessionId};
use crate::jsonrpc::Message;

impl Router {
    /// The lane that serves `message`, starting its process where there is none.
    pub(super) fn lane_for(
        &mut self,
        from: SessionId,
        message: &Message,
        out: &mut Output,
    ) -> LaneId {
        let before = self
            .sessions
            .get(&from)
            .is_some_and(|session| session.modern);
        let modern = match message.method() {
            "initialize" => false,
            _ => message.is_modern() || before,
        };
        if let Some(session) = self.sessions.get_mut(&from) {
            session.modern = modern;
        }
        if modern && self.legacy_only.is_none() {
            let probe = message.method() == "server/discover";
            let service = if probe {
                Service::Probing
            } else {
                Service::Modern
            };
            self.claim(
                |service| matches!(service, Service::Modern | Service::Probing),
                service,
                out,
            )
        } else {
            self.claim(|service| service == Service::Legacy, Service::Legacy, out)
        }
    }

    fn claim(
        &mut self,
        serves: impl Fn(Service) -> bool,
        becomes: Service,
        out: &mut Output,
    ) -> LaneId {
        let find = |wanted: &dyn Fn(Service) -> bool| {
            LaneId::ALL
                .into_iter()
                .find(|lane| wanted(self.lanes[lane.0].service))
        };
        if let Some(lane) = find(&serves) {
            return lane;
        }
        if let Some(lane) = find(&|service| service == Service::Fresh) {
            self.lanes[lane.0].service = becomes;
            return lane;
        }
        // Two eras, two lanes: were none idle, one would serve this era and have been found.
        let lane = find(&|service| service == Service::Idle).unwrap_or(LaneId::FIRST);
        self.lanes[lane.0].service = becomes;
        self.lanes[lane.0].down = true;
        out.commands.push(Command::Start(lane));
        lane
    }

    /// The first answer to `server/discover` tells what the server is. Errors of 2026-07-28's own
    /// range come from modern servers only (basic "Error Codes").
    pub(super) fn discovered(&mut self, lane: LaneId, answer: &Message, out: &mut Output) {
        let modern = answer.result().is_some()
            || answer
                .error_code()
                .is_some_and(|code| (-32099..=-32020).contains(&code));
        if modern {
            self.lanes[lane.0].service = Service::Modern;
            return;
        }
        self.legacy_only = Some(answer.clone());
        if self
            .lanes
            .iter()
            .any(|lane| lane.service == Service::Legacy)
        {
            out.commands.push(Command::Stop(lane));
        } else {
            self.lanes[lane.0].service = Service::Fresh;
        }
    }
}
