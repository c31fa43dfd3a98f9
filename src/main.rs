//! The `mcp-remote` binary: parses, runs, exits.

use clap::Parser;
use mcp_remote::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_remote::commands::run(Cli::parse())
}
