//! `generate-permissions`.

use super::ask_server::{ask, command_line};
use super::banner::quoted;
use super::offers::{RoleAccess, report, tables};
use super::update_permissions::{self, Change, Update};
use super::{Failure, logs, pins, print, runtime};
use crate::cli::GeneratePermissionsArgs;
use crate::inventory::{Draft, Effect, Inventory, Role, draft};
use crate::permissions::Policy;
use crate::system::descriptors;
use crate::system::orphans;
use crate::utils::escape::escape;
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What the hints in the table are worth.
const ABOUT_HINTS: &str = "\
Hints are what the server says of its own tools, and nothing checks them. What
is not read-only counts as destructive unless it says otherwise, as in MCP.";

pub(super) fn run(args: GeneratePermissionsArgs, release: fn()) -> Result<(), Failure> {
    let _logs = logs::start_quiet();
    descriptors::raise();
    orphans::adopt();
    let old = args.update.as_deref().map(update_permissions::read);
    let old = old.transpose()?;
    if let Some(output) = args.output.as_deref().filter(|_| !args.force) {
        refuse_existing(output)?;
    }
    let words: Vec<String> = args
        .command
        .iter()
        .map(|word| quoted(&word.to_string_lossy()))
        .collect();
    let command = command_line(args.command)?;
    let runtime = runtime(release)?;
    let inventory = runtime.block_on(ask(&command, args.timeout));
    drop(runtime);
    orphans::finish();
    let mut inventory = inventory?;
    if let Some(path) = &args.pin {
        let said = pins::write(path, &inventory)?;
        if args.json || args.output.is_some() || args.update.is_some() {
            tell(&said);
        } else {
            print(&said)?;
            return Ok(());
        }
    }
    if let Some(old) = old {
        return update(&old, &inventory, args.json);
    }
    let roles = selected(&args.roles);
    let text = draft_policy(&mut inventory, &roles);
    let policy = Policy::parse(&text)
        .map_err(|err| Failure::caused("could not write a policy for this server", err))?;
    let names: Vec<String> = roles.iter().map(|role| role.name().to_owned()).collect();
    let access = RoleAccess::new(&policy, &names);
    if let Some(output) = &args.output {
        write(output, &text, args.force)?;
    }
    if args.json {
        return print_report(&inventory, &access, &text, args.output.as_deref());
    }
    let mut said = summary(&inventory, &access);
    match &args.output {
        Some(output) => {
            said.push_str(&wrote(output, &names, &words));
            print(&said)?;
        }
        None => {
            tell(&said);
            print(&text)?;
        }
    }
    Ok(())
}

/// The roles of `--roles`, in the order of [`Role::ALL`].
fn selected(names: &[String]) -> Vec<Role> {
    let is_selected = |role: &Role| names.iter().any(|name| name == role.name());
    Role::ALL.into_iter().filter(is_selected).collect()
}

/// Drafts a policy, and notes in `inventory` what it cannot name.
fn draft_policy(inventory: &mut Inventory, roles: &[Role]) -> String {
    let Draft { text, unnameable } = draft(inventory, roles);
    let unnameable = unnameable.iter().map(|name| {
        format!(
            "'{name}' is in no list: a policy cannot name it, since '*' stands for any text there"
        )
    });
    inventory.notes.extend(unnameable);
    text
}

/// Prints everything as JSON, with the policy where no file has it.
fn print_report(
    inventory: &Inventory,
    access: &RoleAccess,
    policy: &str,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let mut report = report(inventory, access);
    report["file"] = json!(output.map(|path| path.display().to_string()));
    if output.is_none() {
        report["policy"] = serde_json::from_str(policy)?;
    }
    print(&format!("{report:#}\n"))?;
    Ok(())
}

/// The server, the tables, and notes.
fn summary(inventory: &Inventory, access: &RoleAccess) -> String {
    let server = inventory
        .server
        .as_deref()
        .unwrap_or("a server without a name");
    let revisions = inventory.revisions.join(" and ");
    let mut said = format!(
        "{}, asked in MCP {}\n\n",
        escape(server),
        escape(&revisions)
    );
    said.push_str(&tables(inventory, access));
    if !inventory.tools.is_empty() {
        said.push_str(&format!("\n{ABOUT_HINTS}\n"));
        let unmarked = inventory.tools.iter();
        let unmarked = unmarked.filter(|tool| tool.hints.effect() == Effect::Unmarked);
        match unmarked.count() {
            0 => {}
            1 => said.push_str("One tool has no hints: 'user' may call it, 'readonly' may not. Look at it.\n"),
            many => said.push_str(&format!("{many} tools have no hints: 'user' may call them, 'readonly' may not. Look at them.\n")),
        }
    }
    for note in &inventory.notes {
        said.push_str(&format!("note: {}\n", escape(note)));
    }
    said
}

/// What was written, and what to type next; `command` is that of the MCP server, as a shell reads it.
fn wrote(output: &Path, roles: &[String], command: &[String]) -> String {
    let name = escape(&output.display().to_string());
    let file = escape(&quoted(&output.display().to_string()));
    let role = roles.last().map_or("user", String::as_str);
    let command = escape(&command.join(" "));
    format!(
        "\nWrote {name}. Next:\n  mcp-remote check --permissions-config {file} --roles {role}\n  export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)\n  mcp-remote server tcp --port 8080 --permissions-config {file} \\\n      -- {command}\n"
    )
}

/// For people, where stdout is for the policy.
fn tell(text: &str) {
    // If stderr is closed, the message is lost.
    let _nobody = writeln!(io::stderr(), "{text}");
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_ok() {
        let text = format!("{} is there already", path.display());
        return Err(Failure::new(text).with_remedy(Some(
            "use --force to replace it, or --update to add to it what is new",
        )));
    }
    Ok(())
}

fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    if force {
        return update_permissions::replace(path, text);
    }
    let written = File::create_new(path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => refuse_existing(path),
        Err(err) => Err(Failure::caused(
            format!("could not write {}", path.display()),
            err,
        )),
        Ok(()) => Ok(()),
    }
}

fn update(
    old: &update_permissions::Old,
    inventory: &Inventory,
    as_json: bool,
) -> Result<(), Failure> {
    let Update {
        text,
        policy,
        changes,
    } = update_permissions::update(old, inventory)?;
    if text != old.text {
        update_permissions::replace(&old.path, &text)?;
    }
    let roles: Vec<String> = policy.role_names().map(str::to_owned).collect();
    let access = RoleAccess::new(&policy, &roles);
    if as_json {
        let mut report = report(inventory, &access);
        report["file"] = json!(old.path.display().to_string());
        let of = |wanted: fn(&Change) -> bool| {
            let some = changes.iter().filter(|change| wanted(change));
            some.map(ToString::to_string).collect::<Vec<_>>()
        };
        report["added"] = json!(of(|change| matches!(change, Change::New { .. })));
        report["gone"] = json!(of(|change| matches!(change, Change::Gone(_))));
        report["kept"] = json!(of(|change| matches!(change, Change::Unlisted { .. })));
        print(&format!("{report:#}\n"))?;
        return Ok(());
    }
    let mut said = summary(inventory, &access);
    said.push('\n');
    for change in &changes {
        said.push_str(&format!("{}\n", escape(&change.to_string())));
    }
    let name = escape(&old.path.display().to_string());
    if text == old.text {
        let why = match changes.iter().any(|it| !matches!(it, Change::Gone(_))) {
            true => "no list has to grow",
            false => "nothing is new",
        };
        said.push_str(&format!("{name} stays as it is: {why}.\n"));
    } else {
        said.push_str(&format!("Wrote {name}. To allow what is new, move it from the list of what is blocked to the one\nof what is allowed, in all roles of a token: a block in any of them wins.\n"));
    }
    print(&said)?;
    Ok(())
}
