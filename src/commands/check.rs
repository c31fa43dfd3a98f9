//! `check`: asks a policy file what some roles may do, by the very code that the server asks.

use super::ask_server::{ask, command_line};
use super::offers::{Access, tables};
use super::{Exit, Failure, logs, pins, print, read_policy, runtime};
use crate::auth::{Members, claim};
use crate::cli::CheckArgs;
use crate::mcp::{ItemKind, Method, Sender};
use crate::permissions::{Effect, Policy, Reason, Rights};
use crate::system::descriptors;
use crate::system::orphans;
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde_json::value::RawValue;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to say what it offers.
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
    let mut roles: Vec<String> = Vec::new();
    for role in args.roles.iter().map(|role| role.trim()) {
        if !role.is_empty() && !roles.iter().any(|known| known == role) {
            roles.push(role.to_owned());
        }
    }
    let claims = read_claims(args.claims.as_deref())?;
    let rights = policy.rights_of(&roles, |name| claim(&claims, name).cloned());
    let item = [
        (ItemKind::Tool, &args.tool),
        (ItemKind::Prompt, &args.prompt),
        (ItemKind::Resource, &args.resource),
    ];
    if args.arguments.is_some() && args.tool.is_none() && args.prompt.is_none() {
        crate::cli::Cli::command()
            .error(
                ErrorKind::MissingRequiredArgument,
                "--arguments are those of a --tool or a --prompt",
            )
            .exit();
    }
    let item = item
        .into_iter()
        .find_map(|(kind, name)| Some((kind, name.as_deref()?)));
    let (text, allowed) = match (&args.method, item) {
        (None, None) => (table(&policy, &rights, &roles), true),
        (Some(method), None) => one(&rights, method, None),
        (method, Some((kind, name))) => {
            let method = method.as_deref().unwrap_or(match kind {
                ItemKind::Tool => Method::CallTool.name(),
                ItemKind::Prompt => Method::GetPrompt.name(),
                ItemKind::Resource => Method::ReadResource.name(),
            });
            if rights.judge_item(method, kind, name).is_none() {
                crate::cli::Cli::command()
                    .error(
                        ErrorKind::ArgumentConflict,
                        format!("rules on {} say nothing about '{method}'", kind.plural()),
                    )
                    .exit();
            }
            let (text, allowed) = one(&rights, method, Some((kind, name)));
            match args.arguments.as_deref() {
                Some(arguments) if allowed => {
                    with_arguments(&rights, method, name, arguments, text)?
                }
                _ => (text, allowed),
            }
        }
    };
    let mut unknown = String::new();
    for role in roles.iter().filter(|role| !policy.has_role(role)) {
        // A string can always be written to.
        let _written = writeln!(unknown, "note: the file has no role '{role}'");
    }
    print(&(text + &unknown))?;
    Ok(allowed)
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
    let access = Access::new(policy, &roles);
    print(&tables(&inventory?, &access))?;
    Ok(())
}

fn read_claims(text: Option<&str>) -> Result<Members, Failure> {
    let Some(text) = text else {
        return Ok(Members::new());
    };
    serde_json::from_str(text).map_err(|err| Failure::caused("--claims is not a JSON object", err))
}

/// The verdict on the arguments of an allowed tool or prompt, whose own verdict is `text`.
fn with_arguments(
    rights: &Rights,
    method: &str,
    name: &str,
    arguments: &str,
    text: String,
) -> Result<(String, bool), Failure> {
    let valid: Result<&RawValue, _> = serde_json::from_str(arguments);
    let raw = valid.map_err(|err| Failure::caused("--arguments is not JSON", err))?;
    match rights.judge_arguments(method, name, raw.get().as_bytes()) {
        None => Ok((text + "  arguments: no rules\n", true)),
        Some(Ok(())) => Ok((text + "  arguments: as the rules want them\n", true)),
        Some(Err(violation)) => {
            let text = text.replacen("allowed: ", "denied: ", 1);
            Ok((format!("{text}  arguments: {violation}\n"), false))
        }
    }
}

fn is_notification(method: &str) -> bool {
    method.starts_with("notifications/")
}

/// The verdict on one method, or on what it uses.
fn one(rights: &Rights, method: &str, item: Option<(ItemKind, &str)>) -> (String, bool) {
    let by_method = rights.judge_method(is_notification(method), method);
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

/// All that these roles may do.
pub(super) fn table(policy: &Policy, rights: &Rights, roles: &[String]) -> String {
    let of_clients = |method: &&Method| method.sender() != Sender::Server;
    let of_clients = Method::ALL.iter().filter(of_clients);
    let mut methods: Vec<&str> = of_clients.map(|method| method.name()).collect();
    let asked: Vec<&str> = Method::asked_of_clients().map(Method::name).collect();
    let known = roles
        .iter()
        .filter_map(|name| Some((name, policy.role(name)?)));
    let known: Vec<_> = known.collect();
    for (_, role) in &known {
        let of_methods = role
            .rules()
            .iter()
            .filter(|rule| rule.list().kind.is_none());
        methods.extend(of_methods.map(|rule| rule.pattern()));
    }
    let mut seen = std::collections::HashSet::new();
    methods.retain(|method| !asked.contains(method) && seen.insert(*method));
    let width = methods.iter().map(|method| method.len()).max().unwrap_or(0);
    let mut lines = vec![format!("{:width$}  may  because", "method")];
    let row = |method: &str, may: bool, reason: &str| {
        let may = if may { "yes" } else { "no" };
        format!("{method:width$}  {may:3}  {reason}")
    };
    for method in methods {
        let verdict = rights.judge_method(is_notification(method), method);
        let (Ok(reason) | Err(reason)) = verdict;
        lines.push(row(method, verdict.is_ok(), &reason.to_string()));
    }
    lines.push("\nasked of the peer by the MCP server:".to_owned());
    for method in asked {
        let blocked = rights.judge_method(false, method).err();
        let reason = match blocked {
            Some(reason @ Reason::Rule(_)) => reason.to_string(),
            _ => "no rule blocks it".to_owned(),
        };
        lines.push(row(method, !rights.blocks(method), &reason));
    }
    for kind in ItemKind::ALL {
        lines.push(format!(
            "\n{}, for the methods that a role allows:",
            kind.plural()
        ));
        for (name, role) in &known {
            if !role.bounds(kind) {
                lines.push(format!(
                    "role '{name}' has no rule, so whatever its methods allow"
                ));
            }
            let rules = role.rules().iter();
            let rules: Vec<_> = rules
                .filter(|rule| rule.list().kind == Some(kind))
                .collect();
            let allows_some = rules.iter().any(|rule| rule.list().effect == Effect::Allow);
            if role.bounds(kind) && !allows_some {
                lines.push(format!("role '{name}' allows none"));
            }
            for rule in rules {
                let does = match rule.list().effect {
                    Effect::Allow => "allows",
                    Effect::Block => "blocks, for all roles,",
                };
                let (pattern, line) = (rule.pattern(), rule.line());
                lines.push(format!("role '{name}' {does} '{pattern}' (line {line})"));
            }
        }
        if known.is_empty() {
            lines.push("no role allows any".to_owned());
        }
    }
    lines.join("\n") + "\n"
}
