//! How long the pure parts take: `cargo bench --bench pure`, with `-- WORD` to select some.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

mod cases;

use cases::{Case, Measure};
use divan::Bencher;
use divan::counter::BytesCount;

struct Timed<'a, 'b> {
    bencher: Bencher<'a, 'b>,
    size: usize,
}

impl Measure for Timed<'_, '_> {
    fn measure<I>(self, prepare: impl FnMut() -> I, run: impl FnMut(I)) {
        self.bencher
            .counter(BytesCount::new(self.size))
            .with_inputs(prepare)
            .bench_local_values(run);
    }
}

#[divan::bench(args = Case::all())]
fn pure(bencher: Bencher<'_, '_>, case: &Case) {
    case.measure(Timed {
        bencher,
        size: case.size(),
    });
}

fn main() {
    divan::main();
}
