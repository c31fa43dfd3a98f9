//! The command line of `doctor`.

use super::{ClientArgs, Deferred, ServerArgs};
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand};

pub(super) const DOCTOR_EXAMPLES: &str = "\
Examples:
  Why does my host get no connection?
    mcp-remote doctor client tcp --host mcp.example.com --port 8080 --tls

  Would this server start?
    mcp-remote doctor server tcp --port 8080 -- your-mcp-server";

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Which end.
    #[command(subcommand)]
    pub target: DoctorTarget,
    /// Print the steps as JSON
    #[arg(long, env = "MCP_REMOTE_JSON", value_parser = FalseyValueParser::new(), global = true)]
    pub json: bool,
}

/// Which end is looked at.
#[derive(Debug, Subcommand)]
pub enum DoctorTarget {
    /// The connection of a client; the flags are those of 'client'
    Client(Deferred<ClientArgs>),
    /// What a server needs to start; the flags are those of 'server'
    Server(Deferred<ServerArgs>),
}
