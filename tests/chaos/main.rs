//! Real clients and real servers with an unreliable wire between them, and processes that die.
//!
//! | what | how |
//! |---|---|
//! | all of it, with fixed seeds | `cargo test --test chaos` |
//! | 2,000 requests under 50 cuts, over TCP and over WebSocket, with the seeds 1 to 100 | `CHAOS_SEEDS=100 cargo test --test chaos nothing_is_lost_over -- --nocapture` |
//! | one seed of a failure, which names it | `CHAOS_SEED=N cargo test --test chaos NAME -- --nocapture` |
//! | ten minutes of 20 clients, with the server's memory at each minute | `CHAOS_SOAK=600 cargo test --test chaos soak -- --nocapture` |
//! | a minute of a hostile neighbour beside five clients, with the seeds 1 to 20 | `CHAOS_NEIGHBOUR=60 CHAOS_SEEDS=20 cargo test --test chaos neighbour -- --nocapture` |
//! | 5,000 clients that reconnect at once, with the release binary | `CHAOS_HERD=5000 cargo test --release --test chaos herd -- --nocapture` |
//! | 10,000 sessions, connected and waiting, with the memory of each | `CHAOS_SESSIONS=10000 cargo test --release --test chaos many_sessions -- --nocapture` |
//!
//! Each run prints a [`load::Toll`]: requests, cuts, and how many were lost, duplicated and hung.
//! `CHAOS_LOG=1` also prints the client's log.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod drain;
mod herd;
mod leaving;
mod liveness;
mod load;
mod lossless;
mod neighbour;
mod over_http;
mod plain;
mod pressure;
mod relay;
mod restart;
mod sessions;
mod soak;
mod suspend;
mod takeover;

use support::{certificates, common, process, wire};
