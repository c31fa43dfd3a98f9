//! `completions`.

use super::{Failure, print};
use crate::cli::{Cli, CompletionsArgs};
use clap_complete::Shell;

pub(super) fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::visible(), "mcp-remote", &mut script);
    let script = String::from_utf8_lossy(&script);
    print(&match args.shell {
        // clap_complete 4.6 writes the dash in our name in two ways, so bash would find no flags.
        Shell::Bash => script.replace("mcp__subcmd__remote", "mcp__remote"),
        _ => script.into_owned(),
    })?;
    Ok(())
}
