//! The command lines for installing the program on a machine: completions and manual pages.

use clap::Args;
use clap_complete::Shell;
use std::path::PathBuf;

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  bash, for this user:
    mcp-remote completions bash > \\
        ~/.local/share/bash-completion/completions/mcp-remote

  zsh, for all users:
    mcp-remote completions zsh > /usr/local/share/zsh/site-functions/_mcp-remote

  fish, for this user:
    mcp-remote completions fish > ~/.config/fish/completions/mcp-remote.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  Read the page of 'server':
    mcp-remote man server | man -l -

  Install all pages, for all users:
    mcp-remote man --output /usr/local/share/man/man1";

/// `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command, such as server or doctor client; without one, the page of the program
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write all pages into this folder, which is created if missing
    #[arg(
        long,
        value_name = "DIR",
        env = "MCP_REMOTE_OUTPUT",
        conflicts_with = "command"
    )]
    pub output: Option<PathBuf>,
}
