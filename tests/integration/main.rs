//! The real binary with real processes and sockets, seen from outside.

mod auth;
mod child;
mod cli;
mod client;
mod common;
mod gate;
mod hostile;
mod multiplex;
mod policy;
mod process;
mod rmcp_client;
mod tcp;
mod tls;
mod websocket;
mod wire;
