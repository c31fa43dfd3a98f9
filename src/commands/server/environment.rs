//! `--child-env` and `--child-env-dir`: what isolated processes find in their environment.

use super::Failure;
use crate::cli::ServerArgs;
use crate::server::{ChildPer, Environment, Isolation};
use std::collections::BTreeSet;

/// The environment of isolated processes, which names their user. Takes what it needs out of `args`.
///
/// # Errors
/// Flags that exclude each other, or that make no sense without a secret.
pub(super) fn environment(args: &mut ServerArgs, has_users: bool) -> Result<Environment, Failure> {
    let environment = Environment {
        variables: std::mem::take(&mut args.child_env),
        folder: args.child_env_dir.take(),
    };
    let flag = match (&*environment.variables, &environment.folder, args.child_per) {
        ([_, ..], _, _) => "--child-env",
        (_, Some(_), _) => "--child-env-dir",
        (_, _, ChildPer::User) => "--child-per user",
        ([], None, ChildPer::Session) => return Ok(environment),
    };
    if args.isolate != Isolation::Always {
        return Err(Failure::usage(format!(
            "{flag} needs --isolate: a process that all share has no user"
        )));
    }
    if args.child_per == ChildPer::User && environment.names_session() {
        return Err(Failure::usage(
            "{session} in --child-env and --child-per user exclude each other: such a process serves several sessions",
        ));
    }
    let names: BTreeSet<_> = environment.variables.iter().map(|it| &it.name).collect();
    if names.len() < environment.variables.len() {
        return Err(Failure::usage("--child-env sets a variable twice"));
    }
    if let Some(folder) = environment
        .folder
        .as_ref()
        .filter(|folder| !folder.is_dir())
    {
        let text = format!("--child-env-dir {} is not a folder", folder.display());
        return Err(Failure::new(text));
    }
    if !has_users {
        return Err(Failure::new(format!(
            "{flag} needs a secret, since it is about the users of tokens; set MCP_REMOTE_JWT_SECRET"
        )));
    }
    Ok(environment)
}
