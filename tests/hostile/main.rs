//! Hostile input against real children in Python, Node and Go, which log what they parsed, over TCP, WebSocket and HTTP.
//!
//! Needs python3, node and go; a missing one is a failure. Not part of plain `cargo test`:
//! `cargo test --test hostile`.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod corpus;
mod differential;
mod http;
mod recorder;

use support::{common, wire};
