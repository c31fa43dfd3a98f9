use super::*;
use proptest::prelude::*;

const KEEPALIVE: Duration = Duration::from_secs(15);

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn urgency_rises_with_lines_and_with_bytes() {
    let mut receipts = Receipts::default();
    assert_eq!(receipts.urgency(), Urgency::Nothing);
    let urgencies: Vec<Urgency> = (0..ACK_LINES)
        .map(|_| {
            receipts.count(1);
            receipts.urgency()
        })
        .collect();
    assert!(urgencies.is_sorted());
    assert_eq!(urgencies[30..32], [Urgency::Soon, Urgency::WithNextLine]);
    assert_eq!(urgencies[62..], [Urgency::WithNextLine, Urgency::Now]);
    assert_eq!(receipts.acknowledge(), ACK_LINES);
    assert_eq!(receipts.urgency(), Urgency::Nothing);
    receipts.count(ACK_BYTES);
    assert_eq!(receipts.urgency(), Urgency::Now);
    assert_eq!(receipts.received(), ACK_LINES + 1);
}

#[test]
fn only_the_first_line_and_the_one_that_makes_it_urgent_ask_for_a_look() {
    let mut receipts = Receipts::default();
    let looks: Vec<u64> = (1..=100).filter(|_| receipts.count(1)).collect();
    assert_eq!(looks, [1, ACK_LINES]);
    receipts.acknowledge();
    assert!(receipts.count(ACK_BYTES), "both at once");
    assert!(!receipts.count(1));
}

#[test]
fn a_keepalive_interval_beyond_all_timers_is_no_overflow() {
    let now = Instant::now();
    let mut schedule = Schedule::new(Duration::MAX, now);
    schedule.sent(now);
    assert_eq!(schedule.due(Urgency::Nothing, now), Due::At(now + FOREVER));
}

#[derive(Clone, Debug)]
enum Event {
    /// This many lines of this many bytes arrive, after this long.
    Receive(u64, u64, usize),
    /// Nothing happens for this long.
    Pass(u64),
    /// Something else is sent, with the acknowledgement attached.
    Send,
}

/// One end that checks its schedule when it is due, and at no other time.
struct End {
    now: Instant,
    schedule: Schedule,
    receipts: Receipts,
    look_at: Instant,
    /// The arrival times of the lines not yet acknowledged.
    open: Vec<Instant>,
    open_bytes: usize,
    last_ack: Instant,
    acks: u64,
}

impl End {
    fn new() -> Self {
        let now = Instant::now();
        let mut end = Self {
            now,
            schedule: Schedule::new(KEEPALIVE, now),
            receipts: Receipts::default(),
            look_at: now,
            open: Vec::new(),
            open_bytes: 0,
            last_ack: now,
            acks: 0,
        };
        end.look();
        end
    }

    fn acknowledge(&mut self) {
        self.receipts.acknowledge();
        self.open.clear();
        self.open_bytes = 0;
    }

    fn look(&mut self) {
        loop {
            match self.schedule.due(self.receipts.urgency(), self.now) {
                Due::At(at) => {
                    assert!(at > self.now);
                    self.look_at = at;
                    return;
                }
                Due::Now => {
                    self.acknowledge();
                    self.schedule.sent(self.now);
                    self.last_ack = self.now;
                    self.acks += 1;
                }
            }
        }
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.look_at <= until {
            self.now = self.look_at;
            self.look();
        }
        self.now = until;
    }

    fn check(&self) {
        assert!((self.open.len() as u64) < ACK_LINES && self.open_bytes < ACK_BYTES);
        let oldest = self.open.first().map(|since| self.now - *since);
        assert!(oldest.unwrap_or_default() < ACK_AFTER, "{oldest:?}");
        assert!(self.now - self.last_ack < KEEPALIVE, "no sign of life");
    }
}

proptest! {
    /// An end that is woken only when [`Receipts::count`] and [`Due::At`] say so never leaves more
    /// unacknowledged than promised, is never silent for long, and sends no more than necessary.
    #[test]
    fn everything_is_acknowledged_in_time_and_not_more_often(
        events in prop::collection::vec(prop_oneof![
            6 => (0u64..400, 1u64..80, 0usize..100_000).prop_map(|(after, lines, bytes)| Event::Receive(after, lines, bytes)),
            2 => (0u64..40_000).prop_map(Event::Pass),
            2 => Just(Event::Send),
        ], 0..60)
    ) {
        let mut end = End::new();
        let began = end.now;
        let (mut lines, mut bytes, mut seconds) = (0, 0, 0);
        for event in events {
            match event {
                Event::Receive(after, count, size) => {
                    end.pass(millis(after));
                    for _ in 0..count {
                        end.open.push(end.now);
                        end.open_bytes += size;
                        lines += 1;
                        bytes += size;
                        if end.receipts.count(size) {
                            end.look();
                        }
                        end.check();
                    }
                    seconds += 1;
                }
                Event::Pass(duration) => end.pass(millis(duration)),
                Event::Send => {
                    if end.receipts.urgency() >= Urgency::WithNextLine {
                        end.acknowledge();
                        end.look();
                    }
                }
            }
            end.check();
        }
        let idle = (end.now - began).as_secs() / KEEPALIVE.as_secs();
        let needed = lines / ACK_LINES + (bytes / ACK_BYTES) as u64 + seconds + idle;
        prop_assert!(end.acks <= needed, "{} acknowledgements instead of {needed}", end.acks);
    }

    /// Silence is found at the limit or at the next check, and only then.
    #[test]
    fn silence_is_found_at_its_limit(
        limit in 1_600u64..100_000,
        arrivals in prop::collection::vec(1u64..120_000, 0..20),
    ) {
        let limit = millis(limit);
        let began = Instant::now();
        let mut silence = Silence::new(limit, 0, began);
        let mut last = began;
        let mut times = Vec::new();
        for gap in arrivals {
            last += millis(gap);
            times.push(last);
        }
        let mut now = began;
        let found = loop {
            now += silence.pace();
            let count = times.iter().filter(|time| **time <= now).count();
            if silence.is_over_limit(count, now) {
                break now;
            }
        };
        let heard = times.iter().filter(|time| **time <= found).max().unwrap_or(&began);
        prop_assert!(found - *heard >= limit);
        prop_assert!(found - *heard <= limit + 2 * silence.pace());
    }
}
