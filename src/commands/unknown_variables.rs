//! Variables of the environment that look like settings of this program, and are none.

use crate::cli::Cli;
use crate::utils::near::nearest;

/// What the name of each setting begins with.
const PREFIX: &str = "MCP_REMOTE_";

/// Secrets and tokens, which have settings that clap does not read.
const READ_ELSEWHERE: [&str; 4] = [
    "MCP_REMOTE_JWT_SECRET",
    "MCP_REMOTE_JWT_SECRET_FILE",
    "MCP_REMOTE_JWT_TOKEN",
    "MCP_REMOTE_JWT_TOKEN_FILE",
];

/// Warns of each, by name; values may be secrets.
pub(super) fn warn() {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let is_ours = |name: &String| {
        name.starts_with(PREFIX) && !READ_ELSEWHERE.contains(&&**name) && !is_of_a_service(name)
    };
    let mut names: Vec<String> = names.filter(is_ours).collect();
    // Most starts set nothing else, and asking clap for all that it reads takes a while.
    if names.is_empty() {
        return;
    }
    let mut known = READ_ELSEWHERE.map(str::to_owned).to_vec();
    add_known(&Cli::visible(), &mut known);
    names.retain(|name| !known.contains(name));
    for name in names {
        let meant = nearest(&name, known.iter().map(String::as_str));
        tracing::warn!(
            name,
            meant,
            "this environment variable is no setting of mcp-remote, so it has no effect"
        );
    }
}

/// True for what Kubernetes tells each container of Services whose names begin with `mcp-remote`.
fn is_of_a_service(name: &str) -> bool {
    name.contains("_SERVICE_") || name.contains("_PORT_") || name.ends_with("_PORT")
}

/// Adds the variables that this command and its own commands read.
fn add_known(command: &clap::Command, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(variables.filter_map(|name| name.to_str().map(str::to_owned)));
    for command in command.get_subcommands() {
        add_known(command, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_known_and_what_kubernetes_sets_is_left_alone() {
        let mut known = Vec::new();
        add_known(&Cli::visible(), &mut known);
        for name in [
            "MCP_REMOTE_PERMISSIONS_CONFIG",
            "MCP_REMOTE_URL",
            "MCP_REMOTE_JSON",
        ] {
            assert!(known.iter().any(|known| known == name), "{name}");
        }
        for name in [
            "MCP_REMOTE_SERVICE_HOST",
            "MCP_REMOTE_SERVICE_PORT_HTTP",
            "MCP_REMOTE_PORT_8080_TCP_ADDR",
            "MCP_REMOTE_DOCS_PORT",
        ] {
            assert!(is_of_a_service(name), "{name}");
            assert!(!known.iter().any(|known| known == name), "{name}");
        }
    }
}
