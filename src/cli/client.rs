//! The command line of `client`.

use super::{KeepaliveArgs, LogArgs, TokenArgs, milliseconds, number, port, positive_duration};
use crate::utils::host;
use crate::utils::secret::Secret;
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const CLIENT_EXAMPLES: &str = "\
Examples:
  What an MCP host launches, with MCP_REMOTE_JWT_TOKEN_FILE in its environment:
    mcp-remote client tcp --port 8080 --auto-reconnect --max-attempts 0

  One question by hand:
    echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}' |
        mcp-remote client tcp --port 8080

  A server behind a path:
    mcp-remote client ws --url wss://mcp.example.com/notes

  Any MCP server with a URL:
    mcp-remote client http --url https://mcp.example.com/mcp \\
        --header 'Authorization: Bearer ${TOKEN}'";

/// `tcp`, `ws`, `http` or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientTransport {
    /// One JSON message per line over TCP
    Tcp,
    /// One JSON message per text frame over WebSocket
    Ws,
    /// MCP's own transport for the web ("Streamable HTTP"), to any server that has a URL
    Http,
    /// One JSON message per line over a Unix socket
    Unix,
}

/// The default of `--max-attempts`.
const MAX_ATTEMPTS: u32 = 5;

/// The default of `--reconnect-delay`, in milliseconds.
const RECONNECT_DELAY: u32 = 1000;

/// `client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The transport
    pub transport: ClientTransport,
    /// Port to connect to; not needed with --url or --path
    #[arg(long, value_name = "PORT", env = "MCP_REMOTE_PORT", value_parser = |text: &str| port(text, 1))]
    pub port: Option<u16>,
    /// Host to connect to, name or address
    #[arg(
        long,
        value_name = "HOST",
        env = "MCP_REMOTE_HOST",
        default_value = "localhost",
        value_parser = host::parse
    )]
    pub host: String,
    /// URL of a WebSocket or HTTP server, instead of --host and --port: ws://host:port/path or http://host:port/path;
    /// wss:// and https:// for TLS
    #[arg(long, value_name = "URL", env = "MCP_REMOTE_URL")]
    pub url: Option<String>,
    /// The Unix socket of a server, with 'client unix': /run/mcp.sock
    #[arg(long, value_name = "PATH", env = "MCP_REMOTE_SOCKET")]
    pub path: Option<PathBuf>,
    /// The token.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Shell command that prints the token; run when there is none yet, when it is about to expire and when it is
    /// refused [env: MCP_REMOTE_JWT_TOKEN_COMMAND=]
    #[arg(
        long,
        value_name = "CMD",
        conflicts_with_all = ["jwt_token", "jwt_token_file"],
        help_heading = "Authentication"
    )]
    pub jwt_token_command: Option<String>,
    /// Header of every HTTP request, 'Name: value'; may be repeated. ${VARIABLE} is replaced from the environment,
    /// which keeps a secret out of the list of processes [env: MCP_REMOTE_HEADER=]
    #[arg(long, value_name = "HEADER", help_heading = "Authentication")]
    pub header: Vec<Secret>,
    /// File with such headers, one per line
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_HEADER_FILE",
        help_heading = "Authentication"
    )]
    pub header_file: Option<PathBuf>,
    /// Use TLS; the server's certificate has to be for the name in --host, from an authority that this machine trusts
    #[arg(long, env = "MCP_REMOTE_TLS", value_parser = FalseyValueParser::new(), help_heading = "TLS")]
    pub tls: bool,
    /// Trust the authorities in this file (PEM) instead of those of this machine
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CA",
        help_heading = "TLS"
    )]
    pub tls_ca: Option<PathBuf>,
    /// Certificate to present to servers that ask for one (PEM, followed by its chain)
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CERT",
        requires = "tls_key",
        help_heading = "TLS"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM, not encrypted)
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_KEY",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    pub tls_key: Option<PathBuf>,
    /// Reconnect when the connection is lost, and retry if it cannot be made yet
    #[arg(long, env = "MCP_REMOTE_AUTO_RECONNECT", value_parser = FalseyValueParser::new(), help_heading = "Reconnection")]
    pub auto_reconnect: bool,
    /// Reconnect attempts in a row, with --auto-reconnect; 0 for no limit
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_ATTEMPTS",
        default_value_t = MAX_ATTEMPTS,
        value_parser = number(0),
        help_heading = "Reconnection"
    )]
    pub max_attempts: u32,
    /// Delay before the first attempt, in milliseconds; it doubles with each attempt, up to 30 seconds
    #[arg(
        long,
        value_name = "MS",
        env = "MCP_REMOTE_RECONNECT_DELAY",
        default_value_t = RECONNECT_DELAY,
        value_parser = milliseconds,
        help_heading = "Reconnection"
    )]
    pub reconnect_delay: u32,
    /// How long to wait for answers after the host has closed stdin; then they fail
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_ANSWER_TIMEOUT", default_value = "1h", value_parser = positive_duration, help_heading = "Sessions")]
    pub answer_timeout: Duration,
    /// Signs of life.
    #[command(flatten)]
    pub keepalive: KeepaliveArgs,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
}

impl ClientArgs {
    /// True where there is a setting of reconnection, but nothing reconnects.
    #[must_use]
    pub fn has_idle_reconnection(&self) -> bool {
        let settings = (self.max_attempts, self.reconnect_delay);
        !self.auto_reconnect && settings != (MAX_ATTEMPTS, RECONNECT_DELAY)
    }
}
