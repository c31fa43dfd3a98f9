//! When a key set at a URL is fetched again. No clock: times come in, counted from the first fetch.

use std::time::Duration;

/// The longest time between two fetches, so that withdrawn keys stop being accepted.
const REFRESH: Duration = Duration::from_secs(10 * 60);

/// Between two fetches that tokens or failures are the reason of.
const PAUSE: Duration = Duration::from_secs(30);

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Fetch the set.
    Fetch,
    /// Give up its keys: none has been fetched for too long.
    GiveUp,
}

/// What the end of a fetch means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The first one that has failed since the last good one.
    Failed,
    /// Another one that has failed.
    FailedAgain,
    /// Good, after others that have failed.
    Recovered,
    /// Good, as the one before.
    Good,
}

/// The schedule of one key set, of which the first fetch was good.
#[derive(Debug)]
pub struct Refetch {
    max_age: Duration,
    /// How many fetches have begun; each has this as its number.
    begun: u64,
    is_running: bool,
    last_begun: Duration,
    /// The last fetch that a token or a failure was the reason of.
    last_hurried: Option<Duration>,
    last_good: Duration,
    /// A token has named a key that is not there.
    is_wanted: bool,
    /// The operator wants it at once.
    is_demanded: bool,
    is_failing: bool,
    has_given_up: bool,
}

impl Refetch {
    /// Keys count for `max_age` after the last good fetch.
    #[must_use]
    pub fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            begun: 1,
            is_running: false,
            last_begun: Duration::ZERO,
            last_hurried: None,
            last_good: Duration::ZERO,
            is_wanted: false,
            is_demanded: false,
            is_failing: false,
            has_given_up: false,
        }
    }

    /// A token names a key that is not in the set. Gives the number of the fetch whose end is worth waiting
    /// for: the one that runs, or that may begin now. One that may begin only later is not waited for.
    pub fn unknown_key(&mut self, now: Duration) -> Option<u64> {
        if self.is_running {
            return Some(self.begun);
        }
        self.is_wanted = true;
        (self.next_fetch() <= now).then_some(self.begun + 1)
    }

    /// Fetches at once, however long ago the last fetch was.
    pub fn demand(&mut self) {
        self.is_demanded = true;
    }

    /// When [`Refetch::step`] has something to say next.
    #[must_use]
    pub fn due(&self) -> Duration {
        let end = self.last_good.saturating_add(self.max_age);
        match self.has_given_up {
            true => self.next_fetch(),
            false => self.next_fetch().min(end),
        }
    }

    fn next_fetch(&self) -> Duration {
        let usual = match self.is_failing {
            true => PAUSE,
            false => REFRESH.min(self.max_age / 2),
        };
        let usual = self.last_begun.saturating_add(usual);
        let hurried = self.last_hurried.map(|last| last.saturating_add(PAUSE));
        match (self.is_demanded, self.is_wanted) {
            (true, _) => Duration::ZERO,
            (false, true) => usual.min(hurried.unwrap_or_default()),
            (false, false) => usual,
        }
    }

    /// The next step. A fetch that was begun and has not ended counts as one that never was.
    pub fn step(&mut self, now: Duration) -> Option<Step> {
        self.is_running = false;
        if !self.has_given_up && self.last_good.saturating_add(self.max_age) <= now {
            self.has_given_up = true;
            return Some(Step::GiveUp);
        }
        if self.next_fetch() > now {
            return None;
        }
        self.begun += 1;
        self.is_running = true;
        if self.is_wanted || self.is_failing {
            self.last_hurried = Some(now);
        }
        self.last_begun = now;
        self.is_wanted = false;
        self.is_demanded = false;
        Some(Step::Fetch)
    }

    /// Notes the end of the fetch; `is_good` tells whether it has returned usable keys.
    pub fn ended(&mut self, now: Duration, is_good: bool) -> Ended {
        self.is_running = false;
        let was_failing = std::mem::replace(&mut self.is_failing, !is_good);
        if is_good {
            self.last_good = now;
            self.has_given_up = false;
        }
        match (is_good, was_failing) {
            (true, true) => Ended::Recovered,
            (true, false) => Ended::Good,
            (false, true) => Ended::FailedAgain,
            (false, false) => Ended::Failed,
        }
    }

    /// The number of the last fetch that has begun.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_set_is_fetched_in_its_pace() {
        let mut refetch = Refetch::new(DAY);
        assert_eq!(refetch.due(), REFRESH);
        assert_eq!(refetch.step(at(599)), None);
        assert_eq!(refetch.step(at(600)), Some(Step::Fetch));
        assert_eq!(refetch.ended(at(601), true), Ended::Good);
        assert_eq!(refetch.due(), at(1200));
    }

    #[test]
    fn an_unknown_key_is_waited_for_where_a_fetch_may_begin() {
        let mut refetch = Refetch::new(DAY);
        assert_eq!(refetch.unknown_key(at(5)), Some(2));
        assert_eq!(refetch.step(at(5)), Some(Step::Fetch));
        assert_eq!(refetch.number(), 2);
        assert_eq!(refetch.unknown_key(at(6)), Some(2), "the one that runs");
        refetch.ended(at(7), true);
        assert_eq!(refetch.due(), at(605), "nobody wants anything");
        assert_eq!(refetch.unknown_key(at(8)), None, "too early");
        assert_eq!(refetch.due(), at(35), "but it is fetched then");
        assert_eq!(refetch.unknown_key(at(35)), Some(3));
        assert_eq!(refetch.step(at(35)), Some(Step::Fetch));
    }

    #[test]
    fn however_many_keys_are_unknown_there_is_one_fetch_in_30_seconds() {
        let mut refetch = Refetch::new(DAY);
        let mut fetches = 0;
        for tenth in 0..6000 {
            let now = Duration::from_millis(tenth * 100);
            refetch.unknown_key(now);
            if refetch.step(now) == Some(Step::Fetch) {
                fetches += 1;
                refetch.ended(now, tenth % 3 == 0);
            }
        }
        assert_eq!(fetches, 20, "in ten minutes");
    }

    #[test]
    fn keys_are_kept_while_the_url_is_down_but_not_for_ever() {
        let mut refetch = Refetch::new(at(100));
        assert_eq!(refetch.due(), at(50), "half its time");
        refetch.demand();
        assert_eq!(refetch.step(at(1)), Some(Step::Fetch));
        assert_eq!(refetch.ended(at(2), false), Ended::Failed);
        assert_eq!(refetch.due(), at(31), "sooner than usual");
        assert_eq!(refetch.step(at(31)), Some(Step::Fetch));
        assert_eq!(refetch.ended(at(32), false), Ended::FailedAgain);
        assert_eq!(refetch.step(at(99)), Some(Step::Fetch));
        assert_eq!(refetch.ended(at(99), false), Ended::FailedAgain);
        assert_eq!(refetch.due(), at(100));
        assert_eq!(refetch.step(at(100)), Some(Step::GiveUp));
        assert_eq!(refetch.due(), at(129), "it goes on trying");
        assert_eq!(refetch.step(at(129)), Some(Step::Fetch));
        assert_eq!(refetch.ended(at(130), true), Ended::Recovered);
        assert_eq!(refetch.due(), at(179));
        assert_eq!(refetch.step(at(230)), Some(Step::GiveUp));
    }

    #[test]
    fn a_fetch_that_never_ended_is_begun_again() {
        let mut refetch = Refetch::new(DAY);
        refetch.demand();
        assert_eq!(refetch.step(at(1)), Some(Step::Fetch));
        assert_eq!(refetch.step(at(2)), None);
        assert_eq!(refetch.unknown_key(at(31)), Some(3), "not the second");
    }
}
