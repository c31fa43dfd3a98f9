//! Real clients and real servers with a wire between them that breaks, and processes that die.
//!
//! `CHAOS_SEED=N` runs one seed, `CHAOS_SEEDS=N` runs the seeds 1 to N; a failure names its seed.

#[allow(dead_code)]
#[path = "../integration/common.rs"]
mod common;
mod leaving;
mod liveness;
mod load;
mod lossless;
mod plain;
mod pressure;
#[allow(dead_code)]
#[path = "../integration/process.rs"]
mod process;
mod relay;
mod restart;
mod soak;
mod takeover;
#[allow(dead_code)]
#[path = "../integration/wire.rs"]
mod wire;
