//! Puts any stdio MCP server on the network.
//!
//! Four floors; imports go down only:
//!
//! | floor | modules |
//! |---|---|
//! | edge | [`commands`], [`cli`] |
//! | wiring | [`server`], [`client`], [`handshake`] |
//! | motion | [`audit`], [`hub`], [`child`], [`transport`], [`system`] |
//! | decisions and words | [`permissions`], [`inventory`], [`auth`], [`revocations`], [`router`], [`http`], [`replay`], [`liveness`]; [`jsonrpc`], [`control`], [`metrics`], [`mcp`], `json`, [`utils`] |
//!
//! The lowest floor knows no runtime, no clock and no files: bytes go in, values come out. What
//! the program promises lives there: [`jsonrpc::Message::read`] is the only place where bytes
//! become a message, [`permissions::Rights::decide`] the only one where a message becomes a permit,
//! and [`router::Router`] decides who gets what.

#![forbid(unsafe_code)]

pub mod account;
pub mod audit;
pub mod auth;
pub mod backlog;
pub mod child;
pub mod cli;
pub mod client;
pub mod commands;
pub mod control;
pub mod handshake;
pub mod http;
pub mod hub;
pub mod inventory;
pub(crate) mod json;
pub mod jsonrpc;
pub mod liveness;
pub mod mcp;
pub mod metrics;
pub mod permissions;
pub mod replay;
pub mod revocations;
pub mod router;
pub mod server;
pub mod system;
pub mod transport;
pub mod utils;
