//! The command line: clap structs only, which check syntax.

mod client;
mod doctor;
mod listen;
mod server;
mod setup;
mod tips;
mod tokens;

pub use client::{ClientArgs, ClientTransport};
pub use doctor::{DoctorArgs, DoctorTarget};
pub use listen::Listen;
pub use server::{Origin, ServerArgs, ServerTransport};
pub use setup::{CompletionsArgs, ManArgs};
pub use tokens::{
    CheckArgs, GeneratePermissionsArgs, GenerateSecretArgs, GenerateTokenArgs, InspectTokenArgs,
};

use crate::client::http::Place;
use crate::utils::secret::Secret;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use client::CLIENT_EXAMPLES;
use doctor::DOCTOR_EXAMPLES;
use server::SERVER_EXAMPLES;
use setup::{COMPLETIONS_EXAMPLES, MAN_EXAMPLES};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use tokens::{CHECK_EXAMPLES, INSPECT_EXAMPLES, PERMISSIONS_EXAMPLES, TOKEN_EXAMPLES};

const EXAMPLES: &str = "\
Examples:
  Put the filesystem server on the network, for everyone who has a token:
    export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
    mcp-remote server tcp --port 8080 --permissions-config permissions.json -- \\
        npx -y @modelcontextprotocol/server-filesystem /path/to/files

  Create a token for alice:
    mcp-remote generate-token --user alice --roles user --quiet

  What an MCP host launches in place of the server:
    MCP_REMOTE_JWT_TOKEN=… mcp-remote client tcp --port 8080 --auto-reconnect

Beyond this machine, use TLS (--tls-cert and --tls-key, client: --tls) or a
tunnel (ssh -L). Logs go to stderr; DEBUG=true or RUST_LOG=debug shows more.";

/// What somebody reads who types the name of the program alone, at a terminal.
const FIRST_STEPS: &str = "\
mcp-remote puts any stdio MCP server on the network. On the server's machine:
  export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
  mcp-remote generate-permissions --output policy.json -- YOUR-MCP-SERVER
  mcp-remote server tcp --host localhost --port 8080 \\
      --permissions-config policy.json -- YOUR-MCP-SERVER
Then, in another terminal that has the same secret:
  export MCP_REMOTE_JWT_TOKEN=$(mcp-remote generate-token --roles user --quiet)
  mcp-remote doctor client tcp --port 8080
That ends with the entry for your MCP host. All commands: mcp-remote --help
";

/// The version, with the commit and the target it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILT_FROM"), ")");

/// Put any stdio MCP server on the network, safely.
#[derive(Debug, Parser)]
#[command(name = "mcp-remote", version = VERSION, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Reads the command line of this process; ends the process where that is wrong.
    #[must_use]
    pub fn from_command_line() -> Self {
        let typed: Vec<_> = std::env::args_os().skip(1).collect();
        let mut command = Self::command();
        if typed.is_empty() && std::io::stderr().is_terminal() {
            command = command.override_help(FIRST_STEPS);
        }
        let parsed = command.try_get_matches();
        let parsed = parsed.and_then(|matches| Self::from_arg_matches(&matches));
        parsed.unwrap_or_else(|mut err| {
            tips::add(&mut err, &typed);
            err.exit()
        })
    }

    /// All that can be typed, without the commands that only this program itself types.
    #[must_use]
    pub fn visible() -> clap::Command {
        let mut whole = Self::command().disable_help_subcommand(true);
        whole.build();
        let visible = whole.get_subcommands().filter(|it| !it.is_hide_set());
        let visible: Vec<_> = visible.cloned().collect();
        clap::Command::new("mcp-remote")
            .version(VERSION)
            .about(whole.get_about().cloned().unwrap_or_default())
            .after_help(EXAMPLES)
            .subcommand_required(true)
            .subcommands(visible)
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start an MCP server and serve it to many peers
    ///
    /// Starts CMD once, as a child process that speaks newline-delimited JSON-RPC on its standard
    /// streams, and shares it among all peers that connect. With a secret, each peer must first
    /// send a token signed with it; with a policy file, each message is checked against what the
    /// token's roles may do. Everything after '--' is the MCP server's own command line.
    #[command(after_help = SERVER_EXAMPLES)]
    Server(Deferred<ServerArgs>),
    /// Make a remote MCP server available on this machine as a stdio server
    ///
    /// What an MCP host (Claude Desktop, an IDE, an SDK) launches in place of the server: stdin
    /// goes to the remote end, its answers come out on stdout. When stdin ends, it waits for
    /// pending answers before it exits.
    #[command(after_help = CLIENT_EXAMPLES)]
    Client(Deferred<ClientArgs>),
    /// Try every step of a connection, or of a server start, and say where it fails
    ///
    /// 'doctor client' does what 'client' would do with the same flags: it looks up the name, connects,
    /// uses TLS, sends the token, asks the MCP server for its lists, and ends with an entry for your MCP
    /// host. 'doctor server' checks what 'server' would need with the same flags, and accepts no connections.
    /// Exit code 1: something has failed, and the last step says what to do.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Deferred<DoctorArgs>),
    /// Generate a secret to sign tokens with
    ///
    /// The secret alone goes to stdout, so this holds just the secret:
    /// SECRET=$(mcp-remote generate-secret)
    GenerateSecret(Deferred<GenerateSecretArgs>),
    /// Ends the process groups it is told of when its stdin ends; started by `server`
    #[command(name = crate::system::reaper::COMMAND, hide = true)]
    ReapOrphans,
    /// Create a token for a user
    ///
    /// Signs a token that says who the user is, with which roles and until when. Prints the line
    /// "Generated JWT token:", the token on the next line, then what it says.
    #[command(after_help = TOKEN_EXAMPLES)]
    GenerateToken(Deferred<GenerateTokenArgs>),
    /// Ask an MCP server what it offers, and write a policy file for it
    ///
    /// Starts CMD, asks it for its tools, prompts and resources as clients of both eras of MCP would, and
    /// writes a policy that names them: 'admin' may do everything, 'user' everything but call the tools
    /// that are marked destructive, 'readonly' may read, and call the tools that are marked read-only.
    /// Prints each tool with its hints and who may call it.
    #[command(after_help = PERMISSIONS_EXAMPLES)]
    GeneratePermissions(Deferred<GeneratePermissionsArgs>),
    /// Say what a policy file lets some roles do, and which line decides
    ///
    /// Evaluates a policy file by the same rules as the server. With a method, a tool, a prompt or a
    /// resource it says "allowed" (exit code 0) or "denied" (exit code 1), and why; with none of them
    /// it prints a table of everything that these roles may do. Exit code 2: the file cannot be read,
    /// or is not valid.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Deferred<CheckArgs>),
    /// Show what a token says, and whether a server would accept it
    ///
    /// Prints the claims of a token, and the user and the roles that a server reads from them. With a
    /// secret, and the other flags of the server, it also says whether that server would accept the
    /// token, and if not, why: exit code 1. Without a secret nothing is checked.
    #[command(after_help = INSPECT_EXAMPLES)]
    InspectToken(Deferred<InspectTokenArgs>),
    /// Print a shell completion script
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(Deferred<CompletionsArgs>),
    /// Print a man page, or write all of them into a folder
    ///
    /// There is a page for the program and one for each command. They say what '--help' says.
    #[command(after_help = MAN_EXAMPLES)]
    Man(Deferred<ManArgs>),
}

/// The value of `MCP_REMOTE_PORT` where it is none of ours: Kubernetes sets that variable to
/// `tcp://ADDRESS:PORT` for every container beside a Service named `mcp-remote`.
#[must_use]
pub fn port_of_a_service() -> Option<String> {
    let value = std::env::var("MCP_REMOTE_PORT").ok()?;
    value.contains("://").then_some(value)
}

/// What may stand behind a subcommand. Clap hears of it when that subcommand is chosen: most of a start
/// would go into the arguments of all the others.
#[derive(Debug)]
pub struct Deferred<T>(pub Box<T>);

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| {
            // The subcommand's own text goes before that of its arguments.
            let (about, long) = (
                command.get_about().cloned(),
                command.get_long_about().cloned(),
            );
            let mut command = T::augment_args(command).mut_args(|arg| {
                // A negative number gets the error of the flag's value, not that of an unknown flag.
                match arg.get_action().takes_values() && !arg.is_positional() {
                    true => arg.allow_negative_numbers(true),
                    false => arg,
                }
            });
            if let Some(about) = about {
                command = command.about(about);
            }
            if let Some(long) = long {
                command = command.long_about(long);
            }
            if port_of_a_service().is_some() {
                command = command.mut_args(|arg| match arg.get_id().as_str() {
                    "port" => arg.env(None::<&str>),
                    _ => arg,
                });
            }
            command
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(|args| Self(args.into()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line, for machines
    Json,
}

/// Shared by `server` and `client`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// How log lines on stderr are written
    #[arg(
        long,
        value_name = "FORMAT",
        env = "MCP_REMOTE_LOG_FORMAT",
        default_value = "text",
        help_heading = "Logs"
    )]
    pub log_format: LogFormat,
}

/// Signs of life on sessions that can be resumed; shared by `server` and `client`.
#[derive(Debug, Args)]
pub struct KeepaliveArgs {
    /// How often keepalives are sent on resumable sessions
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_KEEPALIVE_INTERVAL", default_value = "15s", value_parser = positive_duration, help_heading = "Sessions")]
    pub keepalive_interval: Duration,
    /// How long the connection of such a session may be silent before it is considered dead
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_KEEPALIVE_TIMEOUT", default_value = "45s", value_parser = positive_duration, help_heading = "Sessions")]
    pub keepalive_timeout: Duration,
}

/// The secrets.
#[derive(Debug, Default, Args)]
pub struct SecretArgs {
    /// Secret that tokens are signed with; every user of this machine can see it, so prefer the environment. May be
    /// repeated: a token is accepted if any of them fits; 'generate-token' signs with the first [env:
    /// MCP_REMOTE_JWT_SECRET=]
    #[arg(
        long,
        value_name = "SECRET",
        allow_hyphen_values = true,
        help_heading = "Authentication"
    )]
    pub jwt_secret: Vec<Secret>,
    /// File that holds the secret, or several, one per line [env: MCP_REMOTE_JWT_SECRET_FILE=]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "jwt_secret",
        help_heading = "Authentication"
    )]
    pub jwt_secret_file: Option<PathBuf>,
}

/// Where a key set is.
#[derive(Clone, Debug)]
pub enum KeySetPlace {
    /// On this machine.
    File(PathBuf),
    /// At a URL that begins with `https://`.
    Url(Place),
}

impl KeySetPlace {
    fn parse(typed: OsString) -> Result<Self, &'static str> {
        match typed.to_str() {
            Some(url) if url.starts_with("https://") => Place::parse(url).map(Self::Url),
            Some(url) if url.contains("://") => Err(
                "a key set is fetched over https:// only: anyone who can change it on its way can make tokens",
            ),
            _ => Ok(Self::File(typed.into())),
        }
    }
}

/// What is required of tokens beyond their signature.
#[derive(Debug, Args)]
pub struct DemandArgs {
    /// Public keys that sign tokens, a JSON Web Key Set, in place of a secret: for tokens of an identity provider
    /// (RS256 to PS512, ES256, ES384, EdDSA). Needs --jwt-audience. A file, or a URL that begins with https://,
    /// which is fetched periodically and when a token names an unknown key
    #[arg(
        long,
        value_name = "KEYS",
        env = "MCP_REMOTE_JWKS",
        value_parser = OsStringValueParser::new().try_map(KeySetPlace::parse),
        conflicts_with_all = ["jwt_secret", "jwt_secret_file"],
        requires = "jwt_audience",
        help_heading = "Authentication"
    )]
    pub jwks: Option<KeySetPlace>,
    /// PEM file with the authorities to trust for the URL of --jwks; default: those of this machine
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_JWKS_CA",
        requires = "jwks",
        help_heading = "Authentication"
    )]
    pub jwks_ca: Option<PathBuf>,
    /// How long keys from a URL stay valid while it is unreachable; after that every token is refused
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_JWKS_MAX_AGE", default_value = "24h", value_parser = positive_duration, help_heading = "Authentication")]
    pub jwks_max_age: Duration,
    /// Only accept tokens with this 'iss'
    #[arg(
        long,
        value_name = "ISSUER",
        env = "MCP_REMOTE_JWT_ISSUER",
        help_heading = "Authentication"
    )]
    pub jwt_issuer: Option<String>,
    /// Only accept tokens with this 'aud', alone or in a list
    #[arg(
        long,
        value_name = "AUDIENCE",
        env = "MCP_REMOTE_JWT_AUDIENCE",
        help_heading = "Authentication"
    )]
    pub jwt_audience: Option<String>,
    /// How far 'nbf' and 'iat' of a token may be in the future, for clocks that differ; 'exp' is exact
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_JWT_LEEWAY", default_value = "60s", value_parser = duration, help_heading = "Authentication")]
    pub jwt_leeway: Duration,
    /// Claim with the user: a name, a dotted path of names, or a JSON Pointer; default: 'user', or 'sub' if there is
    /// no 'user'
    #[arg(
        long,
        value_name = "CLAIM",
        env = "MCP_REMOTE_USER_CLAIM",
        help_heading = "Authentication"
    )]
    pub user_claim: Option<String>,
    /// Claim with the roles, named likewise: a list of strings, or one space-separated string; default: 'roles', a
    /// list
    #[arg(
        long,
        value_name = "CLAIM",
        env = "MCP_REMOTE_ROLES_CLAIM",
        help_heading = "Authentication"
    )]
    pub roles_claim: Option<String>,
    /// File of revoked tokens and users: on each line 'jti:ID', 'user:NAME', or an id alone
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_REVOKED",
        help_heading = "Authentication"
    )]
    pub revoked: Option<PathBuf>,
}

/// The token.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// The token; every user of this machine can see it, so prefer the environment [env: MCP_REMOTE_JWT_TOKEN=]
    #[arg(long, value_name = "TOKEN", help_heading = "Authentication")]
    pub jwt_token: Option<Secret>,
    /// File that holds the token and nothing else [env: MCP_REMOTE_JWT_TOKEN_FILE=]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "jwt_token",
        help_heading = "Authentication"
    )]
    pub jwt_token_file: Option<PathBuf>,
}

/// A port, no less than `lowest`.
fn port(text: &str, lowest: u16) -> Result<u16, String> {
    let port = text.parse().ok().filter(|&port| port >= lowest);
    port.ok_or_else(|| format!("a port is a number from {lowest} to 65535"))
}

/// A whole number, no less than `lowest`.
fn number(lowest: u32) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|&number| number >= lowest);
        number.ok_or_else(|| format!("a whole number from {lowest} to {} is needed", u32::MAX))
    }
}

/// A whole number of milliseconds.
fn milliseconds(text: &str) -> Result<u32, String> {
    let needed = "a whole number of milliseconds is needed, without a unit, such as 1000";
    text.parse().map_err(|_| needed.to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let what = |err| match err {
        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
            "a unit is needed".to_owned()
        }
        humantime::DurationError::UnknownUnit { unit, .. } => format!("'{unit}' is no unit"),
        err => err.to_string(),
    };
    humantime::parse_duration(text)
        .map_err(|err| format!("{}; use for instance 60s, 30m, 12h, 7d or 1y", what(err)))
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        Err("must be greater than zero".to_owned())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests;
