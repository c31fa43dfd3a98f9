//! Deadlines for the answers of processes to the router's own requests, and of clients to server requests. A
//! process without a sign of life may still be starting: fetching a package, pulling an image.

use super::{ProcessState, Shared, State};
use crate::router::ProcessId;
use crate::system::pipe::unread;
use crate::utils::span::brief;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::Instant;

/// How often to log what we are waiting for.
const REPORT: Duration = Duration::from_secs(15);

/// How often to check whether a process without a sign of life has read what it was sent. Not an event: no
/// system signals that the reader of a pipe has emptied it.
const LOOK: Duration = Duration::from_millis(200);

/// How long processes and clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a process to answer the router's own requests, once it has given a sign of life.
    pub handshake: Duration,
    /// For a process to give a sign of life, from the first request to it.
    pub start: Duration,
    /// For a client to answer a server request.
    pub question: Duration,
}

impl Deadlines {
    /// The deadline for a request that was sent at `asked`, to a process whose first sign of life came at
    /// `alive`. `None` if that exceeds the range of the clock.
    fn due(&self, asked: Instant, alive: Option<Instant>) -> Option<Instant> {
        match alive {
            Some(alive) => alive.max(asked).checked_add(self.handshake),
            None => asked.checked_add(self.start),
        }
    }
}

/// Runs the router's timers for as long as this is polled: fails server requests that clients have not
/// answered in time, and announces changed lists.
pub(super) async fn keep_time(shared: &Shared) -> Infallible {
    let limit = shared.limits.deadlines.question;
    loop {
        let (oldest, change) = {
            let routing = &shared.lock().routing;
            (routing.oldest_question(), routing.next_change())
        };
        let question = oldest.and_then(|asked| asked.checked_add(limit));
        let due = question.into_iter().chain(change).min();
        let is_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.timed.wait() => continue,
            () = is_due => {}
        }
        let now = Instant::now().into_std();
        shared.handle(|routing, out| {
            if let Some(asked_by) = now.checked_sub(limit) {
                routing.expire_questions(asked_by, out);
            }
            routing.tell_changes(now, out);
        });
    }
}

/// Completes when a process has missed the deadline for one of the router's own requests; returns
/// the method.
pub(super) async fn overdue(shared: &Shared, process: ProcessId) -> &'static str {
    loop {
        let awaited = shared.lock().routing.awaited(process);
        let Some((id, method)) = awaited else {
            shared.asked[process.0].wait().await;
            continue;
        };
        if outlasts(shared, process, id, method).await {
            return method;
        }
    }
}

/// Waits for the answer to the request `id`; true if it has not come in time.
async fn outlasts(shared: &Shared, process: ProcessId, id: i64, method: &'static str) -> bool {
    let asked = Instant::now();
    let mut report = asked + REPORT;
    loop {
        let (awaited, ProcessState { alive, pid, .. }) = {
            let state = &mut *shared.lock();
            shared.look_for_life(state, process);
            (state.routing.awaited(process), state.processes[process.0])
        };
        if awaited.is_none_or(|(still, _)| still != id) {
            return false;
        }
        let (now, due) = (Instant::now(), shared.limits.deadlines.due(asked, alive));
        let waited = now.duration_since(asked);
        match alive {
            _ if due.is_none_or(|due| now < due) => {}
            Some(_) => {
                tracing::warn!(
                    pid,
                    method,
                    waited = %brief(waited),
                    "MCP server has not answered in time (--handshake-timeout), ending it"
                );
                return true;
            }
            None => {
                tracing::warn!(
                    pid,
                    method,
                    waited = %brief(waited),
                    "MCP server has given no sign of life in time (--start-timeout), ending it"
                );
                return true;
            }
        }
        if now >= report {
            let (waited, started) = (waited.as_secs(), alive.is_some());
            tracing::info!(
                pid,
                method,
                waited,
                started,
                "waiting for the MCP server to answer"
            );
            report += REPORT;
        }
        let next = due.map_or(report, |due| due.min(report));
        let next = alive.map_or(next.min(now + LOOK), |_| next);
        tokio::select! {
            () = shared.asked[process.0].wait() => {}
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

impl Shared {
    /// A process that reads its stdin has started, even if it has written nothing.
    fn look_for_life(&self, state: &mut State, process: ProcessId) {
        let alive = &mut state.processes[process.0].alive;
        if alive.is_some() {
            return;
        }
        let queue = self.stdin[process.0].lock();
        let has_read = queue.lent().and_then(unread) == Some(0);
        if has_read && queue.unwritten() == 0 {
            *alive = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::CommandLine;
    use crate::hub::{Hub, Limits};
    use crate::jsonrpc::{MAX_PEER_DEPTH, Message};
    use crate::permissions::Rights;
    use crate::router::{Counted, LineLimits, Profile};
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    const DEADLINES: Deadlines = Deadlines {
        handshake: Duration::from_secs(60),
        start: Duration::from_secs(300),
        question: Duration::from_secs(600),
    };

    /// A hub whose first process has been sent its handshake.
    fn asked() -> Hub {
        let command = CommandLine {
            program: "true".into(),
            arguments: Vec::new(),
            variables: Vec::new(),
        };
        let limits = Limits {
            child_message: 1000,
            lines: LineLimits::default(),
            outbox: 1000,
            deadlines: DEADLINES,
            restarts: 0,
            in_flight: 16,
        };
        let (hub, _driver) = Hub::shared(command, limits);
        let first = ProcessId::FIRST;
        hub.0
            .handle(|routing, out| routing.child_started(first, out));
        let session = hub.attach(Profile::anybody(), &Counted::default());
        hub.0.lock().processes[first.0].pid = Some(4242);
        let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
        let permit = Rights::everything().decide(message).unwrap();
        assert!(session.send(&permit, None).is_ok());
        hub
    }

    /// Captures the log.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Waiting without a log line would look like a hung proxy.
    #[tokio::test(start_paused = true)]
    async fn every_answer_has_its_time_and_the_log_says_what_is_waited_for() {
        let kept = Kept::default();
        let writer = kept.clone();
        let logs = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let _logs = tracing::subscriber::set_default(logs.finish());
        let said = || String::from_utf8(std::mem::take(&mut *kept.0.lock().unwrap())).unwrap();
        let waiting = "waiting for the MCP server to answer";
        let late = DEADLINES.start - Duration::from_secs(1);
        for (alive, limit, flag) in [
            (None, DEADLINES.start, "--start-timeout"),
            (
                Some(Duration::ZERO),
                DEADLINES.handshake,
                "--handshake-timeout",
            ),
            (
                Some(late),
                late + DEADLINES.handshake,
                "--handshake-timeout",
            ),
        ] {
            let hub = asked();
            let began = Instant::now();
            let comes_alive = async {
                tokio::time::sleep(alive.unwrap_or(Duration::MAX)).await;
                hub.0.lock().processes[0].alive = Some(Instant::now());
                hub.0.asked[0].raise();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                method = overdue(&hub.0, ProcessId::FIRST) => assert_eq!(method, "initialize"),
                () = comes_alive => {}
            }
            let took = began.elapsed();
            // Timers are whole milliseconds.
            assert!(took >= limit && took < limit + LOOK, "{took:?}");
            let said = said();
            let reports = (limit.as_secs() - 1) / REPORT.as_secs();
            assert_eq!(said.matches(waiting).count() as u64, reports, "{said}");
            assert!(said.contains(flag), "{said}");
            assert_eq!(said.matches("pid=4242").count(), said.lines().count());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_start_is_no_slow_answer() {
        let deadlines = DEADLINES;
        let Deadlines {
            handshake, start, ..
        } = deadlines;
        let asked = Instant::now() + start;
        assert_eq!(deadlines.due(asked, None), Some(asked + start));
        let late = asked + start / 2;
        assert_eq!(deadlines.due(asked, Some(late)), Some(late + handshake));
        let early = asked - start / 2;
        assert_eq!(deadlines.due(asked, Some(early)), Some(asked + handshake));
        let start = Duration::MAX;
        assert_eq!(Deadlines { start, ..DEADLINES }.due(asked, None), None);
    }
}
