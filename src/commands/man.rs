//! `man`.

use super::{Failure, print};
use crate::cli::{Cli, ManArgs};
use crate::utils::near::nearest;
use clap::Command;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::path::Path;

/// What the generator calls the text below all flags.
const EXTRA: &str = ".SH EXTRA\n";

pub(super) fn run(args: &ManArgs) -> Result<(), Failure> {
    let mut whole = Cli::visible().disable_help_subcommand(true);
    // Only then does a command know that it is one of this program.
    whole.build();
    if let Some(folder) = &args.output {
        let written = fs::create_dir_all(folder).and_then(|()| write_all(&whole, folder));
        return written.map_err(|err| {
            let text = format!("could not write the pages into {}", folder.display());
            Failure::caused(text, err).with_remedy(Some("choose another --output"))
        });
    }
    let command = match args.command.join("-") {
        none if none.is_empty() => &whole,
        name => find(&whole, &name).ok_or_else(|| unknown(&name, &whole))?,
    };
    print(&page(&man(command))?)?;
    Ok(())
}

/// The command of which the page has this name; in that of a nested one a dash follows the outer.
fn find<'a>(outer: &'a Command, name: &str) -> Option<&'a Command> {
    outer.get_subcommands().find_map(|inner| {
        let rest = name.strip_prefix(inner.get_name())?;
        match rest.strip_prefix('-') {
            Some(rest) => find(inner, rest),
            None => rest.is_empty().then_some(inner),
        }
    })
}

fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    let man = man(command);
    fs::write(folder.join(man.get_filename()), page(&man)?)?;
    let mut further = command.get_subcommands();
    further.try_for_each(|further| write_all(further, folder))
}

fn man(command: &Command) -> Man {
    let source = concat!("mcp-remote ", env!("CARGO_PKG_VERSION"));
    let mut command = command.clone();
    // The generator's own has neither the values of flags nor the '--' ahead of a command.
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    Man::new(command.override_usage(usage)).source(source)
}

fn page(man: &Man) -> io::Result<String> {
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8_lossy(&page);
    // Examples have lines that must stay as they are.
    Ok(match page.split_once(EXTRA) {
        Some((flags, rest)) => {
            let end = rest.find(".SH ").unwrap_or(rest.len());
            let (examples, rest) = rest.split_at(end);
            let examples = examples.trim_end();
            format!("{flags}.SH EXAMPLES\n.nf\n{examples}\n.fi\n{rest}")
        }
        None => page.into_owned(),
    })
}

fn unknown(name: &str, whole: &Command) -> Failure {
    let names = whole.get_subcommands().map(Command::get_name);
    let meant = nearest(name, names).map(|meant| format!("; was '{meant}' meant?"));
    let meant = meant.unwrap_or_default();
    Failure::usage(format!("there is no command '{name}'{meant}"))
}
