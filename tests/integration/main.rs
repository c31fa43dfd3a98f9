//! The real binary with real processes and sockets, seen from outside.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

mod audit;
mod auth;
mod certificates;
mod child;
mod cli;
mod client;
// The chaos tests use it too, and other parts of it.
#[allow(dead_code)]
mod common;
mod descriptors;
mod files;
mod gate;
mod hostile;
mod isolation;
mod limits;
mod multiplex;
mod places;
mod poison;
mod policy;
mod process;
mod questions;
mod reconnect;
mod rmcp_client;
mod rmcp_server;
mod tcp;
mod tls;
mod tokens;
mod tolerance;
mod websocket;
#[allow(dead_code)]
mod wire;
mod written_size;
