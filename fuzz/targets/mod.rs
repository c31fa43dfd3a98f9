//! What is fuzzed: each target takes any bytes and panics when a promise is broken. Included by the
//! fuzzers and by `tests/corpus.rs`, which replays `fuzz/seeds`.

pub mod frame;
pub mod gate;
pub mod policy;
pub mod router;
pub mod token;
