//! The real binary with real processes and sockets, seen from outside.

#![allow(unreachable_pub, clippy::print_stderr, clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod audit;
mod auth;
mod backlog;
mod changes;
mod child;
mod child_env;
mod cli;
mod client;
mod client_http;
mod descriptors;
mod doctor;
mod fairness;
mod files;
mod fresh_tokens;
mod gate;
mod generate;
mod hostile;
mod http;
mod isolation;
mod key_sets;
mod key_urls;
mod limits;
mod listeners;
mod metrics;
mod multiplex;
mod oversize;
mod pins;
mod places;
mod poison;
mod policy;
mod probes;
mod proxied;
mod questions;
mod reconnect;
mod rmcp_client;
mod rmcp_server;
mod shells;
mod stuck;
mod systemd;
mod tcp;
mod terminal;
mod tls;
mod tokens;
mod tolerance;
mod typos;
mod unread;
mod websocket;
mod written_size;

use support::{certificates, common, process, site, wire};
