//! Whether a process that has ended is started again, and when. No clock: the time comes in.
//!
//! Only a process that ends by itself counts against `--max-restarts`. One that had been given
//! messages of peers may have ended at one of those, and nobody may end the server for the others: it
//! is started again however often, with pauses that grow unless one user is to blame, whose messages
//! the router then refuses.

use crate::router::{Cause, Sender};
use crate::utils::backoff;
use std::time::Duration;

/// The pause before the first restart; it doubles from restart to restart.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// Peers whose messages are harmless do not wait for longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A process that lived so long was all right: restarts are counted anew.
pub(super) const STABLE: Duration = Duration::from_secs(10);

/// After so many processes in a row that have ended at something unknown, the next ones hear one sender
/// at a time, so that it becomes known.
const TURNS_AFTER: u32 = 2;

/// After so many, the next one is told nothing of what they knew, too: that may be it.
const FORGET_AFTER: u32 = 3;

/// The ends of one process and its successors.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    /// A process has answered something.
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
    /// It has said something.
    pub answered: bool,
    pub lived: Duration,
    /// It was ended since it did not answer in time, which takes longer than failures do.
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
    /// A process has ended that nobody has asked to; `limit` is `--max-restarts`.
    pub(super) fn ended(&mut self, end: End<'_>, limit: u32) -> Next {
        self.proven |= end.answered;
        if end.lived >= STABLE && !end.overdue {
            self.failures = 0;
            self.suspicious = 0;
        }
        // Whoever wants no restarts has something else that starts the server again.
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
            // The router asks a few times only, and refuses a user that is to blame.
            Cause::Probe | Cause::Sender(Sender::User(_)) => (PAUSE, false),
            // A session is left and opened again faster than it can be refused.
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

    /// True once a process has answered something.
    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Processes are counted anew.
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
        // What ends it first may be a message; without one it fails by itself, or it does not.
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

    /// It takes its time, but it is no better.
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
        // Where one user is to blame, it is not what all share; who else is, is still to be seen.
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
        /// Whatever peers send between them, `--max-restarts` ends that are the server's own stay free.
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
