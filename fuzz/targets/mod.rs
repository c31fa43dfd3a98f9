//! The fuzz targets: each takes any bytes and panics when an invariant is broken. Included by the
//! fuzzers and by `tests/corpus.rs`, which replays `fuzz/seeds`.
//!
//! `cargo fuzz run -s none frame fuzz/corpus/frame fuzz/seeds/frame`, on a nightly toolchain. There is no
//! unsafe code here for a sanitizer to check, and without one a run is several times as fast.

pub mod arguments;
pub mod frame;
pub mod gate;
pub mod policy;
pub mod router;
pub mod sse;
pub mod token;
