//! How many allocations a message takes on its way through gate, policy and router, counted for the cases of
//! the benchmarks.

#![allow(unreachable_pub)]

#[path = "../benches/cases/mod.rs"]
mod cases;

use cases::{Case, Measure};
use std::cell::Cell;

/// Runs before the one that counts, so that tables and buffers have their size.
const WARM_UP: usize = 200;

/// Counts the allocations of one run.
struct Count<'a>(&'a Cell<u64>);

impl Measure for Count<'_> {
    fn measure<I>(self, mut prepare: impl FnMut() -> I, mut run: impl FnMut(I)) {
        for _ in 0..WARM_UP {
            run(prepare());
        }
        let input = prepare();
        let counted = allocation_counter::measure(|| run(input));
        self.0.set(counted.count_total);
    }
}

#[test]
fn a_message_takes_few_allocations() {
    // The bytes of the line to the peer, and what its readers share.
    for (name, most) in [("gate/text/200B", 1), ("round_trip/text/200B", 2)] {
        let case = Case::all()
            .into_iter()
            .find(|case| case.to_string() == name);
        let count = Cell::new(0);
        let case = case.expect(name);
        case.measure(Count(&count));
        let (count, size) = (count.get(), case.size());
        assert!(count <= most, "{name}: {count} for lines of {size} bytes");
    }
}
