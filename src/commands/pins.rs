//! `--pin-tools`, `generate-permissions --pin` and `check --pins`: tools as they were accepted.

use super::ask_server::{ask, command_line};
use super::{Failure, logs, print, runtime, tools, update_permissions};
use crate::audit;
use crate::cli::CheckArgs;
use crate::inventory::Inventory;
use crate::permissions::{Difference, Drift, PinnedTools, Tell};
use crate::system::{descriptors, orphans};
use crate::utils::escape::escape;
use crate::utils::text;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a server may take to answer what it offers.
const LIMIT: Duration = Duration::from_secs(120);

/// The tools in this file.
///
/// # Errors
/// It cannot be read, or is not a file of pins.
pub(super) fn read(path: &Path) -> Result<PinnedTools, Failure> {
    let name = path.display();
    let text = text::read(path).map_err(|err| {
        Failure::caused(format!("could not read the pinned tools in '{name}'"), err).with_remedy(
            Some("write them with 'mcp-remote generate-permissions --pin'"),
        )
    })?;
    PinnedTools::parse(&text)
        .map_err(|err| Failure::caused(format!("the pinned tools in '{name}' are not valid"), err))
}

/// Records tools that are withheld.
pub(super) fn tell(audit: audit::Log) -> Tell {
    Arc::new(move |tool, drift| {
        tracing::warn!(
            tool,
            "withheld a tool that has {drift} since the tools were accepted (--pin-tools): see 'mcp-remote check --pins', and renew the file with 'generate-permissions --pin' if it is good"
        );
        audit.withheld(tool, &drift.to_string());
    })
}

fn pinned(inventory: &Inventory) -> PinnedTools {
    PinnedTools::of(inventory.tools.iter().flat_map(|tool| {
        let definitions = tool.definitions.iter();
        definitions.map(|definition| (tool.name.as_str(), definition))
    }))
}

/// Writes the file for a server; returns a summary.
///
/// # Errors
/// It cannot be written, or the existing file is not one of pins.
pub(super) fn write(path: &Path, inventory: &Inventory) -> Result<String, Failure> {
    let before = match path.symlink_metadata() {
        Ok(_) => Some(read(path)?),
        Err(_) => None,
    };
    let now = pinned(inventory);
    update_permissions::replace(path, &now.to_text())?;
    let mut said = String::new();
    if let Some(before) = &before {
        said = describe(&before.differences(&now));
    }
    let (name, count) = (escape(&path.display().to_string()), tools(now.len()));
    said.push_str(&format!("Wrote {name} with {count}.\n"));
    Ok(said)
}

/// `check --pins`: true if the server offers exactly what was accepted.
///
/// # Errors
/// The file cannot be read, or the server does not answer what it offers.
pub(super) fn check(args: &CheckArgs, path: &Path) -> Result<bool, Failure> {
    let _logs = logs::start_quiet();
    let before = read(path)?;
    descriptors::raise();
    orphans::adopt();
    let command = command_line(args.command.clone())?;
    let runtime = runtime(|| {})?;
    let inventory = runtime.block_on(ask(&command, LIMIT));
    drop(runtime);
    orphans::finish();
    let now = pinned(&inventory?);
    let differences = before.differences(&now);
    let same = now.len()
        - differences
            .iter()
            .filter(|it| it.drift != Drift::Gone)
            .count();
    let mut said = describe(&differences);
    said.push_str(&format!("{} unchanged.\n", tools(same)));
    print(&said)?;
    Ok(differences.iter().all(|it| it.drift == Drift::Gone))
}

fn describe(differences: &[Difference<'_>]) -> String {
    let mut text = String::new();
    let shown = |value: Option<&Value>| match value {
        Some(value) => escape(&value.to_string()),
        None => "nothing".to_owned(),
    };
    for Difference {
        name,
        drift,
        members,
    } in differences
    {
        // A string can always be written to.
        let _written = writeln!(text, "{drift}: tool '{}'", escape(name));
        for (member, before, now) in members {
            let (member, before, now) = (escape(member), shown(*before), shown(*now));
            let _written = writeln!(text, "  {member}\n  - {before}\n  + {now}");
        }
    }
    text
}
