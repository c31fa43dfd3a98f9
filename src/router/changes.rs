//! Notifications of changed lists, sent to each peer at a limited rate: some servers send them for every
//! request.

use crate::jsonrpc::Message;
use crate::mcp::Method;
use crate::utils::chunks::Line;
use foldhash::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The shortest time between two notifications of the same kind to one peer.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Longer lines say more than that something has changed, and are never delayed.
const MAX_SIZE: usize = 4096;

/// Which list has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum List {
    Tools,
    Prompts,
    Resources,
}

impl List {
    /// The list that a notification is about, if it says nothing else.
    pub(super) fn of(notification: &Message) -> Option<Self> {
        let list = match notification.mcp_method()? {
            Method::ToolsChanged => Self::Tools,
            Method::PromptsChanged => Self::Prompts,
            Method::ResourcesChanged => Self::Resources,
            _ => return None,
        };
        (notification.size() <= MAX_SIZE).then_some(list)
    }
}

/// The notifications of the last [`INTERVAL`] by receiver, and those that wait for the next one. Receivers
/// are removed after that.
#[derive(Debug)]
pub(super) struct Changes<R> {
    recent: HashMap<(R, List), Option<Line>>,
    /// When each was sent, oldest first.
    told: VecDeque<(Instant, (R, List))>,
}

impl<R> Default for Changes<R> {
    fn default() -> Self {
        Self {
            recent: HashMap::default(),
            told: VecDeque::new(),
        }
    }
}

impl<R: Clone + Eq + Hash> Changes<R> {
    /// Returns the line if it is to be sent now. Else it is delayed, and replaces one that was delayed
    /// before.
    pub(super) fn admit(&mut self, to: R, list: List, line: Line, now: Instant) -> Option<Line> {
        let key = (to, list);
        if let Some(waiting) = self.recent.get_mut(&key) {
            *waiting = Some(line);
            return None;
        }
        self.recent.insert(key.clone(), None);
        self.told.push_back((now, key));
        Some(line)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.told
            .front()
            .and_then(|(told, _)| told.checked_add(INTERVAL))
    }

    /// Takes those that are due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(R, Line)> {
        let mut due = Vec::new();
        while self.next().is_some_and(|next| next <= now)
            && let Some((_, key)) = self.told.pop_front()
        {
            if let Some(line) = self.recent.remove(&key).flatten() {
                due.push((key.0.clone(), line));
                self.recent.insert(key.clone(), None);
                self.told.push_back((now, key));
            }
        }
        due
    }

    /// True if nothing is tracked.
    pub(super) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::utils::chunks::Pieces;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn line(number: usize) -> Line {
        number.to_string().into_bytes().into()
    }

    proptest! {
        /// The first is sent at once, each receiver gets at most one per list and interval, the last one
        /// is sent within an interval, and in the end nothing is tracked.
        #[test]
        fn the_last_is_never_lost(
            said in prop::collection::vec((0u64..400, 0u8..3, any::<bool>()), 1..200),
            late in 0u64..300,
        ) {
            let begin = Instant::now();
            let mut changes = Changes::default();
            let mut now = begin;
            let mut heard: BTreeMap<(u8, List), Vec<(Instant, usize)>> = BTreeMap::new();
            let mut last: BTreeMap<(u8, List), usize> = BTreeMap::new();
            let read = |line: Line| String::from_utf8(line.joined().to_vec()).unwrap();
            for (number, (pause, to, tools)) in said.into_iter().enumerate() {
                let until = now + Duration::from_millis(pause);
                // The timer may be late.
                while let Some(next) = changes.next().map(|next| next + Duration::from_millis(late)) {
                    if next > until {
                        break;
                    }
                    now = next;
                    for (to, line) in changes.take_due(next) {
                        let text = read(line);
                        let (list, number) = text.split_once(' ').unwrap();
                        let list = if list == "Tools" { List::Tools } else { List::Prompts };
                        heard.entry((to, list)).or_default().push((now, number.parse().unwrap()));
                    }
                }
                now = until;
                let list = if tools { List::Tools } else { List::Prompts };
                let text = format!("{list:?} {number}").into_bytes();
                if changes.admit(to, list, text.into(), now).is_some() {
                    heard.entry((to, list)).or_default().push((now, number));
                }
                last.insert((to, list), number);
            }
            while let Some(next) = changes.next() {
                for (to, line) in changes.take_due(next) {
                    let text = read(line);
                    let (list, number) = text.split_once(' ').unwrap();
                    let list = if list == "Tools" { List::Tools } else { List::Prompts };
                    heard.entry((to, list)).or_default().push((next, number.parse().unwrap()));
                }
            }
            prop_assert!(changes.is_empty() && changes.recent.is_empty());
            for (key, number) in last {
                let heard = &heard[&key];
                prop_assert_eq!(heard.last().unwrap().1, number);
                for pair in heard.windows(2) {
                    prop_assert!(pair[1].0 - pair[0].0 >= INTERVAL);
                    prop_assert!(pair[1].1 > pair[0].1);
                }
            }
        }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_last_when_its_time_comes() {
        let mut changes = Changes::default();
        let begin = Instant::now();
        let text = |line: Line| String::from_utf8(line.joined().to_vec()).unwrap();
        let later = |part: u32| begin + INTERVAL * part / 4;
        for list in [List::Tools, List::Prompts] {
            let told = changes.admit("a", list, line(1), begin);
            assert_eq!(told.map(text).as_deref(), Some("1"));
        }
        assert!(changes.admit("a", List::Tools, line(2), later(1)).is_none());
        assert!(changes.admit("a", List::Tools, line(3), later(2)).is_none());
        assert!(changes.admit("b", List::Tools, line(4), later(3)).is_some());
        assert_eq!(changes.next(), Some(later(4)));
        assert!(changes.take_due(later(3)).is_empty());
        let due = changes.take_due(later(4));
        let due: Vec<_> = due.into_iter().map(|(to, line)| (to, text(line))).collect();
        assert_eq!(due, [("a", "3".to_owned())]);
        // That was sent again, and prompts may be sent at once.
        assert!(changes.admit("a", List::Tools, line(5), later(5)).is_none());
        assert!(
            changes
                .admit("a", List::Prompts, line(6), later(5))
                .is_some()
        );
        assert_eq!(changes.take_due(later(8)).len(), 1);
    }
}
