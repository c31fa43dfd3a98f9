//! What can be typed: clap structs only, checked for shape.

use crate::transport::Protocol;
use crate::utils::secret::Secret;
use crate::utils::size::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  Put the filesystem server on the network, for whoever has a token:
    export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
    mcp-remote server tcp --port 8080 --permissions-config permissions.json -- \\
        npx @modelcontextprotocol/server-filesystem /path/to/files

  Make a token for alice:
    mcp-remote generate-token --user alice --roles user --expires-in 12h --quiet

  What an MCP host launches in place of the server:
    MCP_REMOTE_JWT_TOKEN=… mcp-remote client tcp --host example.com --port 8080 --auto-reconnect

Logs go to stderr; DEBUG=true or RUST_LOG=debug shows more of them.";

/// Put any stdio MCP server on the network, safely.
#[derive(Debug, Parser)]
#[command(name = "mcp-remote", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start an MCP server and offer it to many peers
    ///
    /// Starts CMD once, as a child process that speaks newline-delimited JSON-RPC on its standard
    /// streams, and shares it among all peers that connect. With a secret, each peer must first
    /// show a token signed with it; with a policy file, each message is held to what the token's
    /// roles may do.
    Server(Box<ServerArgs>),
    /// Bring a remote MCP server to this machine as a stdio server
    ///
    /// What an MCP host (Claude Desktop, an IDE, an SDK) launches in place of the server: stdin
    /// goes to the remote end, its answers come out on stdout.
    Client(Box<ClientArgs>),
    /// Make a secret to sign tokens with
    ///
    /// The secret alone goes to stdout: SECRET=$(mcp-remote generate-secret)
    GenerateSecret(GenerateSecretArgs),
    /// Make a token for a user
    GenerateToken(GenerateTokenArgs),
}

/// `tcp` or `ws`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Transport {
    /// One JSON message per line over TCP
    Tcp,
    /// One JSON message per text frame over WebSocket
    Ws,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Ws => Self::WebSocket,
        }
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

/// The secret.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// Secret that tokens are signed with; visible to every user of this machine, better use the
    /// environment [env: MCP_REMOTE_JWT_SECRET=]
    #[arg(long, value_name = "SECRET", help_heading = "Authentication")]
    pub jwt_secret: Option<Secret>,
    /// File that holds the secret [env: MCP_REMOTE_JWT_SECRET_FILE=]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "jwt_secret",
        help_heading = "Authentication"
    )]
    pub jwt_secret_file: Option<PathBuf>,
}

/// `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The transport
    pub transport: Transport,
    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT", env = "MCP_REMOTE_PORT")]
    pub port: u16,
    /// Address to listen on [default: all interfaces with a secret, loopback without]
    #[arg(long, value_name = "HOST", env = "MCP_REMOTE_HOST")]
    pub host: Option<String>,
    /// The secret.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// Roles of which a token must have at least one, separated by commas
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_REQUIRE_ROLES",
        value_delimiter = ',',
        help_heading = "Authentication"
    )]
    pub require_roles: Vec<String>,
    /// Policy file that says what roles may do; without it every peer may do everything
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_PERMISSIONS_CONFIG",
        help_heading = "Authentication"
    )]
    pub permissions_config: Option<PathBuf>,
    /// Time from accept to the end of authentication
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_AUTH_TIMEOUT", default_value = "10s", value_parser = positive_duration, help_heading = "Authentication")]
    pub auth_timeout: Duration,
    /// Web origin that may connect over WebSocket, such as https://example.com; repeatable
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "MCP_REMOTE_ALLOW_ORIGIN",
        value_delimiter = ',',
        help_heading = "Authentication"
    )]
    pub allow_origin: Vec<String>,
    /// Longest message of a peer; servers on the official TypeScript SDK end themselves above 10 MiB
    #[arg(
        long,
        value_name = "SIZE",
        env = "MCP_REMOTE_MAX_MESSAGE_SIZE",
        default_value = "9MiB",
        help_heading = "Limits"
    )]
    pub max_message_size: ByteSize,
    /// Most connections at a time
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_CONNECTIONS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_connections: u32,
    /// Close connections on which nothing happens for so long [default: never]
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_IDLE_TIMEOUT", value_parser = positive_duration, help_heading = "Limits")]
    pub idle_timeout: Option<Duration>,
    /// Give every peer an MCP server of its own, started when it comes and ended when it leaves;
    /// for servers that remember who they talk to, such as browsers and shells
    #[arg(long, env = "MCP_REMOTE_ISOLATE", help_heading = "MCP server")]
    pub isolate: bool,
    /// Most MCP servers at a time with --isolate
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_CHILDREN", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..), help_heading = "MCP server")]
    pub max_children: u32,
    /// How often in a row an MCP server that ends is started again
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_RESTARTS",
        default_value_t = 5,
        help_heading = "MCP server"
    )]
    pub max_restarts: u32,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// The MCP server and its arguments, behind '--'
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The transport
    pub transport: Transport,
    /// Port to connect to
    #[arg(long, value_name = "PORT", env = "MCP_REMOTE_PORT", value_parser = clap::value_parser!(u16).range(1..), required_unless_present = "url")]
    pub port: Option<u16>,
    /// Host to connect to
    #[arg(
        long,
        value_name = "HOST",
        env = "MCP_REMOTE_HOST",
        default_value = "localhost"
    )]
    pub host: String,
    /// Where a WebSocket server is, in place of host and port: ws://host:port/path
    #[arg(long, value_name = "URL", env = "MCP_REMOTE_URL")]
    pub url: Option<String>,
    /// Token to show; visible to every user of this machine, better use the environment
    /// [env: MCP_REMOTE_JWT_TOKEN=]
    #[arg(long, value_name = "TOKEN", help_heading = "Authentication")]
    pub jwt_token: Option<Secret>,
    /// File that holds the token [env: MCP_REMOTE_JWT_TOKEN_FILE=]
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "jwt_token",
        help_heading = "Authentication"
    )]
    pub jwt_token_file: Option<PathBuf>,
    /// Come back when the connection is lost
    #[arg(long, env = "MCP_REMOTE_AUTO_RECONNECT", help_heading = "Reconnection")]
    pub auto_reconnect: bool,
    /// Tries in a row before giving up
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_ATTEMPTS",
        default_value_t = 5,
        help_heading = "Reconnection"
    )]
    pub max_attempts: u32,
    /// Pause before the first try, in milliseconds; doubles from try to try, up to 30 seconds
    #[arg(
        long,
        value_name = "MS",
        env = "MCP_REMOTE_RECONNECT_DELAY",
        default_value_t = 1000,
        help_heading = "Reconnection"
    )]
    pub reconnect_delay: u64,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

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
    /// Make a secret, too, and print it
    #[arg(long, env = "MCP_REMOTE_AUTO_SECRET", conflicts_with_all = ["jwt_secret", "jwt_secret_file"], help_heading = "Authentication")]
    pub auto_secret: bool,
    /// Whose token it is
    #[arg(long, value_name = "USER", env = "MCP_REMOTE_USER")]
    pub user: Option<String>,
    /// Roles of the token, separated by commas
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
    /// Print the token and nothing else
    #[arg(long, env = "MCP_REMOTE_QUIET")]
    pub quiet: bool,
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|err| format!("{err}; use for instance 60s, 30m, 12h, 7d or 1y"))?;
    if duration.is_zero() {
        Err("must be more than nothing".to_owned())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn behind_the_dashes_all_is_the_childs() {
        let cli = Cli::try_parse_from([
            "mcp-remote",
            "server",
            "tcp",
            "--port",
            "1",
            "--",
            "cmd",
            "--port",
            "2",
            "--jwt-secret",
            "x",
            "--",
            "y",
        ]);
        let Command::Server(args) = cli.unwrap().command else {
            panic!("not a server")
        };
        assert_eq!(args.port, 1);
        assert!(args.secret.jwt_secret.is_none());
        assert_eq!(
            args.command,
            ["cmd", "--port", "2", "--jwt-secret", "x", "--", "y"]
        );
    }
}
