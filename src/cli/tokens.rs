//! The command lines for secrets, tokens and the policy.

use super::{DemandArgs, SecretArgs, TokenArgs, positive_duration};
use crate::utils::secret::Secret;
use clap::Args;
use clap::builder::FalseyValueParser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const TOKEN_EXAMPLES: &str = "\
Examples:
  Into a variable:
    TOKEN=$(mcp-remote generate-token --user alice \\
        --roles user,editor --expires-in 7d --quiet)

  Secret and token in one go, to try things out:
    mcp-remote generate-token --auto-secret --user alice --roles admin

Each token gets an id, by which a server can be told to revoke it (--revoked).";

pub(super) const INSPECT_EXAMPLES: &str = "\
Examples:
  What does it say?
    mcp-remote inspect-token < ~/.config/mcp-remote/token

  Why is it refused? (The secret is in MCP_REMOTE_JWT_SECRET.)
    mcp-remote inspect-token --jwt-token-file token --revoked revoked.txt

The token comes from the first of these: TOKEN, --jwt-token, --jwt-token-file,
MCP_REMOTE_JWT_TOKEN, MCP_REMOTE_JWT_TOKEN_FILE, stdin.";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  Everything that a token with these two roles may do:
    mcp-remote check --permissions-config permissions.json --roles user,editor

  One tool, in a script:
    if mcp-remote check --permissions-config permissions.json \\
        --tool delete_file --roles user; then …

  Whether a tool is shown in the list:
    mcp-remote check --permissions-config permissions.json \\
        --roles user --method tools/list --tool x

  A table of what a server offers, and which role may use it:
    mcp-remote check --permissions-config permissions.json --against -- \\
        npx -y @modelcontextprotocol/server-filesystem /srv/files";

pub(super) const PERMISSIONS_EXAMPLES: &str = "\
Examples:
  A policy for the filesystem server:
    mcp-remote generate-permissions --output permissions.json -- \\
        npx -y @modelcontextprotocol/server-filesystem /srv/files

  After the server has been updated; its new tools are denied at first:
    mcp-remote generate-permissions --update permissions.json -- \\
        npx -y @modelcontextprotocol/server-filesystem /srv/files

Hints are the server's own claims: read the table before you trust the file.";

/// `generate-secret`.
#[derive(Debug, Args)]
pub struct GenerateSecretArgs {
    /// Size of the secret in bits
    #[arg(long, value_name = "BITS", env = "MCP_REMOTE_BITS", default_value = "256", value_parser = ["128", "256", "512"])]
    pub bits: String,
}

/// `generate-token`.
#[derive(Debug, Args)]
pub struct GenerateTokenArgs {
    /// The secret.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// Also generate a new secret, and print it
    #[arg(long, env = "MCP_REMOTE_AUTO_SECRET", value_parser = FalseyValueParser::new(), conflicts_with_all = ["jwt_secret", "jwt_secret_file"], help_heading = "Authentication")]
    pub auto_secret: bool,
    /// Whose token it is
    #[arg(long, value_name = "USER", env = "MCP_REMOTE_USER")]
    pub user: Option<String>,
    /// Roles of the token, separated by commas; a policy file says what they may do
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_ROLES",
        value_delimiter = ','
    )]
    pub roles: Option<Vec<String>>,
    /// How long the token is valid: 60s, 30m, 12h, 7d, 1y
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_EXPIRES_IN", default_value = "1h", value_parser = positive_duration)]
    pub expires_in: Duration,
    /// Who issues it, for servers with --jwt-issuer
    #[arg(long, value_name = "ISSUER", env = "MCP_REMOTE_ISSUER")]
    pub issuer: Option<String>,
    /// Whom it is for, for servers with --jwt-audience
    #[arg(long, value_name = "AUDIENCE", env = "MCP_REMOTE_AUDIENCE")]
    pub audience: Option<String>,
    /// Print the token and nothing else (a secret of --auto-secret goes to stderr)
    #[arg(long, env = "MCP_REMOTE_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
}

/// `generate-permissions`.
#[derive(Debug, Args)]
pub struct GeneratePermissionsArgs {
    /// File to write, which must not exist yet; otherwise the policy goes to stdout
    #[arg(long, value_name = "FILE", env = "MCP_REMOTE_OUTPUT")]
    pub output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, env = "MCP_REMOTE_FORCE", value_parser = FalseyValueParser::new())]
    pub force: bool,
    /// Roles to write, separated by commas, of admin, user and readonly; others are added by hand
    #[arg(long, value_name = "ROLES", env = "MCP_REMOTE_GENERATE_ROLES", value_delimiter = ',', default_value = "admin,user,readonly", value_parser = ["admin", "user", "readonly"], hide_possible_values = true)]
    pub roles: Vec<String>,
    /// Policy file to compare with the server: new items are added to it as blocked where a role lists items of their
    /// kind, missing ones are reported, and the rest stays as it is
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_UPDATE",
        conflicts_with_all = ["output", "force"]
    )]
    pub update: Option<PathBuf>,
    /// Write the tools as they are now to this file, for 'server --pin-tools', replacing it, and print what differs;
    /// without --output, --update and --json no policy is printed
    #[arg(long, value_name = "FILE", env = "MCP_REMOTE_PIN")]
    pub pin: Option<PathBuf>,
    /// Print everything as JSON, including the policy if it goes to no file
    #[arg(long, env = "MCP_REMOTE_JSON", value_parser = FalseyValueParser::new())]
    pub json: bool,
    /// Time for the server to start and to list everything
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_TIMEOUT", default_value = "2m", value_parser = positive_duration)]
    pub timeout: Duration,
    /// The MCP server and its arguments, after '--'
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `check`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("asks").args(["against", "pins"]))]
pub struct CheckArgs {
    /// Policy file (JSON)
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_PERMISSIONS_CONFIG",
        required_unless_present = "pins"
    )]
    pub permissions_config: Option<PathBuf>,
    /// Start the MCP server after '--', and print how its tools differ from those in this file of pinned tools; exit
    /// code 1 if one has changed or been added
    #[arg(long, value_name = "FILE", env = "MCP_REMOTE_PINS", requires = "command", conflicts_with_all = ["against", "method", "tool", "prompt", "resource", "arguments", "claims"])]
    pub pins: Option<PathBuf>,
    /// Roles of the token, separated by commas
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_ROLES",
        value_delimiter = ',',
        required_unless_present_any = ["against", "pins"]
    )]
    pub roles: Vec<String>,
    /// Start the MCP server after '--', and print which roles may use what it offers: the given roles, or all in the
    /// file
    #[arg(long, env = "MCP_REMOTE_AGAINST", value_parser = FalseyValueParser::new(), requires = "command", conflicts_with_all = ["method", "tool", "prompt", "resource", "arguments", "claims"])]
    pub against: bool,
    /// The MCP server and its arguments, after '--', for --against and --pins
    #[arg(last = true, value_name = "CMD", requires = "asks")]
    pub command: Vec<OsString>,
    /// Method to check; with a tool, a prompt or a resource: the method that uses it, instead of tools/call,
    /// prompts/get or resources/read
    #[arg(long, value_name = "METHOD", env = "MCP_REMOTE_METHOD")]
    pub method: Option<String>,
    /// Tool to check
    #[arg(long, value_name = "NAME", env = "MCP_REMOTE_TOOL", conflicts_with_all = ["prompt", "resource"])]
    pub tool: Option<String>,
    /// Prompt to check
    #[arg(
        long,
        value_name = "NAME",
        env = "MCP_REMOTE_PROMPT",
        conflicts_with = "resource"
    )]
    pub prompt: Option<String>,
    /// Resource, or template, to check
    #[arg(long, value_name = "URI", env = "MCP_REMOTE_RESOURCE")]
    pub resource: Option<String>,
    /// Arguments of the tool or prompt, a JSON object, to check as well
    #[arg(
        long,
        value_name = "JSON",
        env = "MCP_REMOTE_ARGUMENTS",
        conflicts_with = "resource"
    )]
    pub arguments: Option<String>,
    /// Claims of the token, a JSON object, for rules that use them
    #[arg(long, value_name = "JSON", env = "MCP_REMOTE_CLAIMS")]
    pub claims: Option<String>,
}

/// `inspect-token`.
#[derive(Debug, Args)]
pub struct InspectTokenArgs {
    /// The token; '-' reads it from stdin, which is also the default
    #[arg(
        value_name = "TOKEN",
        conflicts_with_all = ["jwt_token", "jwt_token_file"]
    )]
    pub positional: Option<Secret>,
    /// The token.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Policy file (JSON): print what the roles of the token may do
    #[arg(long, value_name = "FILE", env = "MCP_REMOTE_PERMISSIONS_CONFIG")]
    pub permissions_config: Option<PathBuf>,
    /// The secrets.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What tokens must say.
    #[command(flatten)]
    pub demands: DemandArgs,
    /// Roles of which the server requires at least one, separated by commas
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_REQUIRE_ROLES",
        value_delimiter = ',',
        help_heading = "Authentication"
    )]
    pub require_roles: Vec<String>,
}
