//! `check`: asks a policy file what some roles may do, with the same code as the server.

mod table;

pub(super) use table::table;

use super::ask_server::{ask, command_line};
use super::offers::{RoleAccess, tables};
use super::{Exit, Failure, logs, pins, print, read_policy, runtime};
use crate::auth::{Members, claim};
use crate::cli::CheckArgs;
use crate::mcp::{ItemKind, Method};
use crate::permissions::{Policy, Rights, Verdict};
use crate::system::descriptors;
use crate::system::orphans;
use crate::utils::near::nearest;
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde_json::value::RawValue;
use std::fmt::{Display, Write};
use std::path::Path;
use std::time::Duration;

/// How long a server may take to answer what it offers.
const AGAINST_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(args: &CheckArgs) -> Exit {
    match check(args) {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(failure) => {
            failure.print();
            // 1 says "denied", and nothing else.
            Exit::Usage
        }
    }
}

/// True when all that was asked about is allowed.
fn check(args: &CheckArgs) -> Result<bool, Failure> {
    if let Some(path) = &args.pins {
        return pins::check(args, path);
    }
    // Without --pins it has to be given.
    let policy = read_policy(args.permissions_config.as_deref().unwrap_or(Path::new("")))?;
    if args.against {
        return against(args, &policy).map(|()| true);
    }
    let roles = distinct(&args.roles);
    let claims = read_claims(args.claims.as_deref())?;
    let rights = policy.rights_of(&roles, |name| claim(&claims, name).cloned());
    if args.arguments.is_some() && args.tool.is_none() && args.prompt.is_none() {
        let text = "--arguments are those of a --tool or a --prompt";
        misuse(ErrorKind::MissingRequiredArgument, text);
    }
    let arguments = args.arguments.as_deref().map(read_arguments).transpose()?;
    let (text, allowed) = match (&args.method, item(args)) {
        (None, None) => (table(&policy, &rights, &roles), true),
        (Some(method), None) => one(&rights, method, None),
        (method, Some(item)) => {
            let method = method.as_deref().unwrap_or(user_of(item.0));
            of_item(&rights, method, item, arguments)
        }
    };
    let mut unknown = String::new();
    if let (true, None, Some((kind, name))) = (allowed, arguments, item(args)) {
        let method = args.method.as_deref().unwrap_or(user_of(kind));
        if rights.bounds_arguments(method, name) {
            unknown += &of_arguments(&policy, &roles, kind, name);
        }
    }
    for role in roles.iter().filter(|role| !policy.has_role(role)) {
        // A string can always be written to.
        let _written = write!(unknown, "note: the file has no role '{role}'");
        if let Some(meant) = nearest(role, policy.role_names()) {
            let _written = write!(unknown, "; did you mean '{meant}'?");
        }
        unknown.push('\n');
    }
    if let Some(method) = &args.method
        && let Some(meant) = misspelt_method(method)
    {
        let _written = writeln!(
            unknown,
            "note: MCP has no method '{method}'; did you mean '{meant}'?"
        );
    }
    // A table is long, and a verdict stands on the first line.
    let is_table = args.method.is_none() && item(args).is_none();
    print(&if is_table {
        unknown + &text
    } else {
        text + &unknown
    })?;
    Ok(allowed)
}

/// The method of MCP that was surely meant, where it has none of this name.
fn misspelt_method(method: &str) -> Option<&'static str> {
    nearest(method, Method::ALL.iter().map(|method| method.name()))
}

/// The roles whose rules on arguments decide, where none were given.
fn of_arguments(policy: &Policy, roles: &[String], kind: ItemKind, name: &str) -> String {
    let rules = |role: &&String| {
        let role = policy.role(role);
        role.is_some_and(|role| role.rules_arguments(kind, name))
    };
    let ruling = roles.iter().filter(rules);
    let ruling: Vec<String> = ruling.map(|role| format!("'{role}'")).collect();
    let (noun, verb) = match ruling.len() {
        1 => ("role", "has"),
        _ => ("roles", "have"),
    };
    let ruling = ruling.join(", ");
    format!(
        "note: {noun} {ruling} {verb} rules on the arguments of this {kind}; give --arguments\n"
    )
}

/// Prints how the command is used, and exits.
fn misuse(kind: ErrorKind, text: impl Display) -> ! {
    let mut program = crate::cli::Cli::command();
    program.build();
    let command = program.find_subcommand_mut("check");
    match command {
        Some(command) => command.error(kind, text).exit(),
        None => clap::Error::raw(kind, text).exit(),
    }
}

/// Role names without blanks, each once.
pub(super) fn distinct(typed: &[String]) -> Vec<String> {
    let mut roles: Vec<String> = Vec::new();
    for role in typed.iter().map(|role| role.trim()) {
        if !role.is_empty() && !roles.iter().any(|known| known == role) {
            roles.push(role.to_owned());
        }
    }
    roles
}

/// The tool, prompt or resource that is asked about.
fn item(args: &CheckArgs) -> Option<(ItemKind, &str)> {
    let names = [
        (ItemKind::Tool, &args.tool),
        (ItemKind::Prompt, &args.prompt),
        (ItemKind::Resource, &args.resource),
    ];
    let mut names = names.into_iter();
    names.find_map(|(kind, name)| Some((kind, name.as_deref()?)))
}

/// The method that uses an item of this kind.
fn user_of(kind: ItemKind) -> &'static str {
    let method = match kind {
        ItemKind::Tool => Method::CallTool,
        ItemKind::Prompt => Method::GetPrompt,
        ItemKind::Resource => Method::ReadResource,
    };
    method.name()
}

/// The verdict on a method for one item, and on the arguments that it is given.
fn of_item(
    rights: &Rights,
    method: &str,
    item: (ItemKind, &str),
    arguments: Option<&RawValue>,
) -> (String, bool) {
    let (kind, name) = item;
    if rights.judge_item(method, kind, name).is_none() {
        let mut text = format!("rules on {} say nothing about '{method}'", kind.plural());
        if let Some(meant) = misspelt_method(method) {
            let _written = write!(text, "; did you mean '{meant}'?");
        }
        misuse(ErrorKind::ArgumentConflict, text);
    }
    let (text, allowed) = one(rights, method, Some(item));
    match arguments {
        Some(arguments) if allowed => with_arguments(rights, method, name, arguments, text),
        _ => (text, allowed),
    }
}

/// Which role may use what a real server offers.
fn against(args: &CheckArgs, policy: &Policy) -> Result<(), Failure> {
    let _logs = logs::start_quiet();
    let roles: Vec<String> = match args.roles.is_empty() {
        true => policy.role_names().map(str::to_owned).collect(),
        false => args.roles.clone(),
    };
    descriptors::raise();
    orphans::adopt();
    let command = command_line(args.command.clone())?;
    let runtime = runtime(|| {})?;
    let inventory = runtime.block_on(ask(&command, AGAINST_LIMIT));
    drop(runtime);
    orphans::finish();
    let access = RoleAccess::new(policy, &roles);
    print(&tables(&inventory?, &access))?;
    Ok(())
}

fn read_claims(text: Option<&str>) -> Result<Members, Failure> {
    let Some(text) = text else {
        return Ok(Members::new());
    };
    serde_json::from_str(text).map_err(|err| Failure::caused("--claims is not a JSON object", err))
}

fn read_arguments(text: &str) -> Result<&RawValue, Failure> {
    let valid: Result<&RawValue, _> = serde_json::from_str(text);
    let raw = valid.map_err(|err| Failure::caused("--arguments is not JSON", err))?;
    match raw.get().starts_with('{') {
        true => Ok(raw),
        false => Err(Failure::new(
            "--arguments is not a JSON object; name the arguments: {\"path\": \"/srv/x\"}",
        )),
    }
}

/// The verdict on the arguments of an allowed tool or prompt, whose own verdict is `text`.
fn with_arguments(
    rights: &Rights,
    method: &str,
    name: &str,
    arguments: &RawValue,
    text: String,
) -> (String, bool) {
    match rights.judge_arguments(method, name, arguments.get().as_bytes()) {
        None => (text + "  arguments: no rules\n", true),
        Some(Ok(())) => (text + "  arguments: as the rules want them\n", true),
        Some(Err(violation)) => {
            let text = text.replacen("allowed: ", "denied: ", 1);
            (format!("{text}  arguments: {violation}\n"), false)
        }
    }
}

/// The verdict on one method, or on what it uses.
fn one(rights: &Rights, method: &str, item: Option<(ItemKind, &str)>) -> (String, bool) {
    let by_method = judge(rights, method);
    let subject = match item {
        Some((kind, name)) => format!("{kind} '{name}' for {method}"),
        None => format!("method {method}"),
    };
    let verdict = |allowed| if allowed { "allowed" } else { "denied" };
    let reason = match by_method {
        Err(reason) => return (format!("denied: {subject}\n  {method}: {reason}\n"), false),
        Ok(reason) => format!("  {method}: {reason}\n"),
    };
    let by_item = item.and_then(|(kind, name)| rights.judge_item(method, kind, name));
    match by_item {
        None => {
            let mut text = format!("allowed: {subject}\n{reason}");
            for kind in ItemKind::ALL {
                if rights.bounds(method, kind) {
                    let _written = writeln!(text, "  not for every {kind}: ask with --{kind}");
                }
            }
            (text, true)
        }
        Some(by_item) => {
            let allowed = by_item.is_ok();
            let (Ok(why) | Err(why)) = by_item;
            let kind = item.map(|(kind, _)| kind.to_string()).unwrap_or_default();
            let text = format!("{}: {subject}\n{reason}  {kind}: {why}\n", verdict(allowed));
            (text, allowed)
        }
    }
}

fn judge<'a>(rights: &'a Rights, method: &str) -> Verdict<'a> {
    rights.judge_method(method.starts_with("notifications/"), method)
}
