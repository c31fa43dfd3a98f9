//! Whether a process that has ended is started again, and when. No clock: the time comes in.
//!
//! Only a process that ends by itself counts against `--max-restarts`. One that had messages of peers may
//! have ended because of one of these, and no peer may end the server for the others: it is restarted any
//! number of times, with pauses that grow unless one user is to blame, whose messages the router then
//! refuses.

use crate::router::{Cause, Sender};
use crate::utils::backoff;
use std::time::Duration;

/// The pause before the first restart; it doubles from restart to restart.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for peers whose messages are harmless.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A process that lived this long was healthy: the restart counters are reset.
pub(super) const STABLE: Duration = Duration::from_secs(10);

/// After this many processes in a row that have ended for an unknown reason, the next ones get the messages
/// of one sender at a time, to find the culprit.
const TURNS_AFTER: u32 = 2;

/// After this many, the state of the last process is not restored either, since that may be the
/// cause.
const FORGET_AFTER: u32 = 3;

/// The ends of one process and its successors.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// A process has answered a request.
    proven: bool,
    /// Processes in a row that have ended by themselves and did not live for long.
    failures: u32,
    /// The same for those that may have ended at a message.
    suspicious: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub cause: &'a Cause,
    /// It has written a message.
    pub answered: bool,
    pub lived: Duration,
    /// It was ended because it missed a deadline, which takes longer than other failures.
    pub overdue: bool,
}

/// What follows the end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Start {
        pause: Duration,
        /// See [`crate::router::Exit::forgets`].
        forgets: bool,
        /// See [`crate::router::Exit::suspicious`].
        suspicious: bool,
    },
    GiveUp,
}

impl Restarts {
    /// Decides after a process has ended by itself; `limit` is `--max-restarts`.
    pub(super) fn ended(&mut self, end: End<'_>, limit: u32) -> Next {
        self.proven |= end.answered;
        if end.lived >= STABLE && !end.overdue {
            self.failures = 0;
            self.suspicious = 0;
        }
        // With 0, something else is meant to restart the server.
        if limit == 0 {
            return Next::GiveUp;
        }
        let (pause, forgets) = match end.cause {
            Cause::Itself => {
                self.failures += 1;
                let never_worked = !self.proven && !end.overdue;
                if never_worked || self.failures > limit {
                    return Next::GiveUp;
                }
                (backoff::delay(PAUSE, self.failures - 1), false)
            }
            // The router retries only a few times, and refuses a user that is to blame.
            Cause::Probe | Cause::Sender(Sender::User(_)) => (PAUSE, false),
            // A client can reopen a session faster than it can be refused.
            Cause::Sender(Sender::Session(_)) | Cause::Unclear | Cause::Renewal => {
                self.suspicious = self.suspicious.saturating_add(1);
                let pause = backoff::delay(PAUSE, self.suspicious - 1).min(MAX_PAUSE);
                let forgets = *end.cause == Cause::Renewal || self.suspicious >= FORGET_AFTER;
                (pause, forgets)
            }
        };
        Next::Start {
            pause,
            forgets,
            suspicious: self.suspicious >= TURNS_AFTER,
        }
    }

    /// True once a process has answered a request.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Resets the counters.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
        self.suspicious = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(cause: &Cause, answered: bool) -> End<'_> {
        End {
            cause,
            answered,
            lived: Duration::ZERO,
            overdue: false,
        }
    }

    fn pause(next: Next) -> Duration {
        match next {
            Next::Start { pause, .. } => pause,
            Next::GiveUp => panic!("it gives up"),
        }
    }

    fn mallory() -> Cause {
        Cause::Sender(Sender::User("mallory".into()))
    }

    #[test]
    fn a_server_that_never_worked_is_not_started_again() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.ended(end(&Cause::Itself, false), 5), Next::GiveUp);
        // The first exit may be due to a message; without any it is the server's own failure.
        let mut restarts = Restarts::default();
        for cause in [mallory(), Cause::Unclear, Cause::Probe, Cause::Renewal] {
            pause(restarts.ended(end(&cause, false), 5));
        }
        assert!(!restarts.is_proven());
        assert_eq!(restarts.ended(end(&Cause::Itself, false), 5), Next::GiveUp);
    }

    #[test]
    fn a_server_that_ends_by_itself_is_started_again_so_many_times_in_a_row() {
        let mut restarts = Restarts::default();
        let mut pauses = Vec::new();
        for _ in 0..5 {
            let next = restarts.ended(end(&Cause::Itself, true), 5);
            assert!(matches!(next, Next::Start { forgets: false, .. }));
            pauses.push(pause(next).as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600]);
        let stable = End {
            lived: STABLE,
            ..end(&Cause::Itself, true)
        };
        assert_eq!(pause(restarts.ended(stable, 5)), PAUSE);
        for _ in 1..5 {
            pause(restarts.ended(end(&Cause::Itself, false), 5));
        }
        assert_eq!(restarts.ended(end(&Cause::Itself, true), 5), Next::GiveUp);
    }

    /// It lives longer, but is equally broken.
    #[test]
    fn a_server_that_does_not_answer_is_started_again_so_many_times_in_a_row() {
        for proven in [false, true] {
            let mut restarts = Restarts {
                proven,
                ..Restarts::default()
            };
            let late = End {
                lived: 6 * STABLE,
                overdue: true,
                ..end(&Cause::Itself, false)
            };
            for _ in 0..5 {
                pause(restarts.ended(late, 5));
            }
            assert_eq!(restarts.ended(late, 5), Next::GiveUp);
            assert_eq!(restarts.is_proven(), proven);
        }
    }

    #[test]
    fn the_next_process_is_told_less_when_that_may_be_what_ends_it() {
        let suspicious = |next| {
            matches!(
                next,
                Next::Start {
                    suspicious: true,
                    ..
                }
            )
        };
        let forgets = |next| matches!(next, Next::Start { forgets: true, .. });
        let mut restarts = Restarts::default();
        let mut ended = |cause| restarts.ended(end(&cause, true), 5);
        let next = ended(Cause::Renewal);
        assert!(forgets(next) && !suspicious(next));
        let next = ended(Cause::Unclear);
        assert!(!forgets(next) && suspicious(next));
        let next = ended(Cause::Unclear);
        assert!(forgets(next) && suspicious(next));
        // If one user is to blame, the shared state is not; others may still be found to be.
        let next = ended(mallory());
        assert!(!forgets(next) && suspicious(next));
    }

    #[test]
    fn without_restarts_every_end_is_the_last() {
        for cause in [Cause::Itself, Cause::Probe, Cause::Unclear, mallory()] {
            let next = Restarts::default().ended(end(&cause, true), 0);
            assert_eq!(next, Next::GiveUp);
        }
    }

    fn cause() -> impl Strategy<Value = Cause> {
        prop_oneof![
            Just(mallory()),
            Just(Cause::Unclear),
            Just(Cause::Renewal),
            Just(Cause::Probe),
            Just(Cause::Itself),
        ]
    }

    proptest! {
        /// Whatever peers send, the server's own failures still have all of `--max-restarts`.
        #[test]
        fn no_message_ends_the_server_for_all(
            ends in prop::collection::vec((cause(), any::<bool>(), 0u64..12), 0..100),
            limit in 1u32..10,
        ) {
            let mut restarts = Restarts { proven: true, ..Restarts::default() };
            let mut own = 0;
            for (cause, answered, lived) in &ends {
                let lived = Duration::from_secs(*lived);
                let end = End {
                    cause,
                    answered: *answered,
                    lived,
                    overdue: false,
                };
                if lived >= STABLE {
                    own = 0;
                }
                own += u32::from(*cause == Cause::Itself);
                let next = restarts.ended(end, limit);
                prop_assert_eq!(next == Next::GiveUp, *cause == Cause::Itself && own > limit);
                if next == Next::GiveUp {
                    break;
                }
                prop_assert!(*cause == Cause::Itself || pause(next) <= MAX_PAUSE);
            }
        }
    }
}
