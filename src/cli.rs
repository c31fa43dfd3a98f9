//! What can be typed: clap structs only, checked for shape.

use crate::jsonrpc::MAX_LINE;
use crate::server::{Door, Isolation};
use crate::transport::Protocol;
use crate::utils::host;
use crate::utils::secret::Secret;
use crate::utils::size::ByteSize;
use clap::builder::FalseyValueParser;
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  Put the filesystem server on the network, for whoever has a token:
    export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
    mcp-remote server tcp --port 8080 --permissions-config permissions.json -- \\
        npx -y @modelcontextprotocol/server-filesystem /path/to/files

  Make a token for alice:
    mcp-remote generate-token --user alice --roles user --expires-in 12h --quiet

  What an MCP host launches in place of the server:
    MCP_REMOTE_JWT_TOKEN=… mcp-remote client tcp --port 8080 --auto-reconnect

Beyond this machine, use TLS (--tls-cert and --tls-key, client: --tls) or a tunnel (ssh -L).
Logs go to stderr; DEBUG=true or RUST_LOG=debug shows more of them.";

const SERVER_EXAMPLES: &str = "\
Examples:
  For this machine only, no tokens:
    mcp-remote server tcp --port 8080 -- your-mcp-server

  Tokens, roles, and a policy for each role:
    export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
    mcp-remote server ws --port 8080 --permissions-config permissions.json -- \\
        your-mcp-server --verbose /some/folder

  Over the network, encrypted:
    mcp-remote server tcp --port 8080 --tls-cert server.pem --tls-key server.key -- your-mcp-server

Once the port is open, one line on stdout says so; everything else goes to stderr. SIGHUP makes the
server read its files again: secrets, revocations, policy and certificates. A server that was started on
a terminal ends when that closes.";

const CLIENT_EXAMPLES: &str = "\
Examples:
  What an MCP host launches, with MCP_REMOTE_JWT_TOKEN_FILE in its environment:
    mcp-remote client tcp --port 8080 --auto-reconnect --max-attempts 0

  One question by hand:
    echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}' | mcp-remote client tcp --port 8080

  A server behind a path:
    mcp-remote client ws --url wss://mcp.example.com/notes

    Any MCP server with a URL:
    mcp-remote client http --url https://mcp.example.com/mcp --header 'Authorization: Bearer ${TOKEN}'";

const TOKEN_EXAMPLES: &str = "\
Examples:
  Into a variable:
    TOKEN=$(mcp-remote generate-token --user alice --roles user,editor --expires-in 7d --quiet)

  Secret and token in one go, to try things out:
    mcp-remote generate-token --auto-secret --user alice --roles admin

Each token gets an id, by which a server can be told to revoke it (--revoked).";

const INSPECT_EXAMPLES: &str = "\
Examples:
  What does it say?
    mcp-remote inspect-token < ~/.config/mcp-remote/token

  Why is it refused? (The secret is in MCP_REMOTE_JWT_SECRET.)
    mcp-remote inspect-token --jwt-token-file token --revoked revoked.txt

The first of these counts: TOKEN, --jwt-token, --jwt-token-file, MCP_REMOTE_JWT_TOKEN,
MCP_REMOTE_JWT_TOKEN_FILE, stdin.";

const CHECK_EXAMPLES: &str = "\
Examples:
  All that a token with these two roles may do:
    mcp-remote check --permissions-config permissions.json --roles user,editor

  One tool, in a script:
    if mcp-remote check --permissions-config permissions.json --roles user --tool delete_file; then …

  Whether a tool is shown in the list:
    mcp-remote check --permissions-config permissions.json --roles user --method tools/list --tool x";

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
    /// roles may do. All that stands behind '--' is the MCP server's own command line.
    #[command(after_help = SERVER_EXAMPLES)]
    Server(Deferred<ServerArgs>),
    /// Bring a remote MCP server to this machine as a stdio server
    ///
    /// What an MCP host (Claude Desktop, an IDE, an SDK) launches in place of the server: stdin
    /// goes to the remote end, its answers come out on stdout. When stdin ends, the answers still
    /// owed are awaited first.
    #[command(after_help = CLIENT_EXAMPLES)]
    Client(Deferred<ClientArgs>),
    /// Make a secret to sign tokens with
    ///
    /// The secret alone goes to stdout, so this holds just the secret:
    /// SECRET=$(mcp-remote generate-secret)
    GenerateSecret(Deferred<GenerateSecretArgs>),
    /// Ends the process groups it is told of when its stdin ends; started by `server`
    #[command(name = crate::reaper::COMMAND, hide = true)]
    ReapOrphans,
    /// Make a token for a user
    ///
    /// Signs a token that says who its bearer is, with which roles and until when. Prints the line
    /// "Generated JWT token:", the token on the next line, then what it says.
    #[command(after_help = TOKEN_EXAMPLES)]
    GenerateToken(Deferred<GenerateTokenArgs>),
    /// Say what a policy file lets some roles do, and which line decides
    ///
    /// Asks the same rules as the server does. With a method, a tool, a prompt or a resource it says
    /// "allowed" (exit code 0) or "denied" (exit code 1), and why; with none of them it prints a
    /// table of all that these roles may do. A file that cannot be read, or is not valid, ends it
    /// with exit code 2.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Deferred<CheckArgs>),
    /// Show what a token says, and whether a server would take it
    ///
    /// Prints the claims of a token. With a secret, and with what else a server may ask for, it
    /// also says whether that server would let its bearer in, and if not, why: exit code 1.
    /// Without a secret nothing is checked.
    #[command(after_help = INSPECT_EXAMPLES)]
    InspectToken(Deferred<InspectTokenArgs>),
}

/// What may stand behind a subcommand. Clap hears of it when that subcommand is chosen: most of a start
/// would go into the arguments of all the others.
#[derive(Debug)]
pub struct Deferred<T>(pub Box<T>);

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| {
            // What the subcommand says of itself goes before what its arguments say.
            let (about, long) = (
                command.get_about().cloned(),
                command.get_long_about().cloned(),
            );
            let mut command = T::augment_args(command);
            if let Some(about) = about {
                command = command.about(about);
            }
            if let Some(long) = long {
                command = command.long_about(long);
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

/// `tcp`, `ws` or `http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClientTransport {
    /// One JSON message per line over TCP
    Tcp,
    /// One JSON message per text frame over WebSocket
    Ws,
    /// MCP's own transport for the web ("Streamable HTTP"), to any server that has a URL
    Http,
}

/// `tcp`, `ws` or `http`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ServerTransport {
    /// One JSON message per line over TCP
    Tcp,
    /// One JSON message per text frame over WebSocket
    Ws,
    /// MCP's own transport for the web ("Streamable HTTP"): any MCP host connects by URL
    Http,
}

impl From<ServerTransport> for Door {
    fn from(transport: ServerTransport) -> Self {
        match transport {
            ServerTransport::Tcp => Self::Lines(Protocol::Tcp),
            ServerTransport::Ws => Self::Lines(Protocol::WebSocket),
            ServerTransport::Http => Self::Http,
        }
    }
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug)]
pub struct Origin(pub String);

fn origin(typed: &str) -> Result<Origin, String> {
    let (scheme, rest) = typed.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || authority.is_empty() || authority.contains('@') {
        return Err("a URL like https://mcp.example.com is needed".to_owned());
    }
    Ok(Origin(format!("{scheme}://{}", authority.to_lowercase())))
}

fn path(typed: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if typed.starts_with('/') && typed.bytes().all(is_plain) {
        Ok(typed.to_owned())
    } else {
        Err("a path like /mcp is needed: letters, digits and -._~/ behind a slash".to_owned())
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
    /// Pace of the signs of life on sessions that can be resumed
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_KEEPALIVE_INTERVAL", default_value = "15s", value_parser = positive_duration, help_heading = "Sessions")]
    pub keepalive_interval: Duration,
    /// Silence after which the connection of such a session is taken for dead
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_KEEPALIVE_TIMEOUT", default_value = "45s", value_parser = positive_duration, help_heading = "Sessions")]
    pub keepalive_timeout: Duration,
}

/// The secrets.
#[derive(Debug, Default, Args)]
pub struct SecretArgs {
    /// Secret that tokens are signed with; visible to every user of this machine, better use the
    /// environment. May be repeated: a token is good if any accepts it, new ones are signed with
    /// the first [env: MCP_REMOTE_JWT_SECRET=]
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

/// What is required of tokens beyond their signature.
#[derive(Debug, Args)]
pub struct DemandArgs {
    /// File with the public keys that sign tokens, a JSON Web Key Set, in place of a secret: for tokens of
    /// an identity provider (RS256 to PS512, ES256, ES384, EdDSA). Needs --jwt-audience
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_JWKS",
        conflicts_with_all = ["jwt_secret", "jwt_secret_file"],
        requires = "jwt_audience",
        help_heading = "Authentication"
    )]
    pub jwks: Option<PathBuf>,
    /// Tokens must have this issuer, their claim 'iss'
    #[arg(
        long,
        value_name = "ISSUER",
        env = "MCP_REMOTE_JWT_ISSUER",
        help_heading = "Authentication"
    )]
    pub jwt_issuer: Option<String>,
    /// Tokens must be for this audience, their claim 'aud' or one of several there
    #[arg(
        long,
        value_name = "AUDIENCE",
        env = "MCP_REMOTE_JWT_AUDIENCE",
        help_heading = "Authentication"
    )]
    pub jwt_audience: Option<String>,
    /// How far the clock of whoever made a token may be ahead of this one: tokens whose 'nbf' or 'iat' is
    /// no further in the future are good. 'exp' is exact
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_JWT_LEEWAY", default_value = "60s", value_parser = humantime::parse_duration, help_heading = "Authentication")]
    pub jwt_leeway: Duration,
    /// Claim with the user: a name, a path with dots between the names, or a JSON Pointer; otherwise 'user',
    /// or 'sub' where there is no 'user'
    #[arg(
        long,
        value_name = "CLAIM",
        env = "MCP_REMOTE_USER_CLAIM",
        help_heading = "Authentication"
    )]
    pub user_claim: Option<String>,
    /// Claim with the roles, named likewise: a list of strings, or one string with blanks between them;
    /// otherwise 'roles', a list
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

/// `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The transport
    pub transport: ServerTransport,
    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT", env = "MCP_REMOTE_PORT")]
    pub port: u16,
    /// Name or address to listen on [default: all interfaces with a secret, loopback without]
    #[arg(long, value_name = "HOST", env = "MCP_REMOTE_HOST", value_parser = host::parse)]
    pub host: Option<String>,
    /// Path with MCP, over HTTP
    #[arg(long, value_name = "PATH", env = "MCP_REMOTE_PATH", default_value = "/mcp", value_parser = path)]
    pub path: String,
    /// Where clients find the server, over HTTP and through a reverse proxy: https://mcp.example.com. Its
    /// name is taken for the server's own, and web pages from there may connect
    #[arg(long, value_name = "URL", env = "MCP_REMOTE_PUBLIC_URL", value_parser = origin)]
    pub public_url: Option<Origin>,
    /// The secret.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What tokens must say.
    #[command(flatten)]
    pub demands: DemandArgs,
    /// Roles of which a token must have at least one to get in, separated by commas
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_REQUIRE_ROLES",
        value_delimiter = ',',
        help_heading = "Authentication"
    )]
    pub require_roles: Vec<String>,
    /// Policy file (JSON) that says what roles may do; without it whoever gets in may do everything
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_PERMISSIONS_CONFIG",
        help_heading = "Authentication"
    )]
    pub permissions_config: Option<PathBuf>,
    /// Time for a new connection to show its token, TLS and WebSocket upgrade included: 10s, 1m
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_AUTH_TIMEOUT", default_value = "10s", value_parser = positive_duration, help_heading = "Authentication")]
    pub auth_timeout: Duration,
    /// Web pages of this origin, such as https://example.com, may connect over WebSocket or HTTP; several
    /// are separated by commas [default: no web page may]
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "MCP_REMOTE_ALLOW_ORIGIN",
        value_delimiter = ',',
        help_heading = "Authentication"
    )]
    pub allow_origin: Vec<String>,
    /// Speak TLS, and show this certificate: PEM, the server's own first, then the chain
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CERT",
        requires = "tls_key",
        help_heading = "TLS"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key: PEM, not encrypted
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_KEY",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    pub tls_key: Option<PathBuf>,
    /// Let only those connect who show a certificate from an authority in this file (PEM)
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CLIENT_CA",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Longest message a peer may send, as it comes and as it is written for the MCP server: 512KiB, 9MiB,
    /// 1GiB at most; MCP servers on the official TypeScript SDK end themselves above 10MiB
    #[arg(
        long,
        value_name = "SIZE",
        env = "MCP_REMOTE_MAX_MESSAGE_SIZE",
        default_value = "9MiB",
        value_parser = message_size,
        help_heading = "Limits"
    )]
    pub max_message_size: ByteSize,
    /// Most connections at a time, after authentication, sessions that wait for their client
    /// included; one more is told so and closed
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_CONNECTIONS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_connections: u32,
    /// Most connections of one user at a time, sessions that wait for their client included, and with
    /// --isolate most MCP servers; where a token names no user, of one address [default: with a secret a
    /// quarter of each, at least 4]
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_PER_USER", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_per_user: Option<u32>,
    /// Most connections at a time that have not authenticated yet, WebSocket upgrade included; the
    /// oldest gives way to one more
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_PENDING", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_pending: u32,
    /// The same for one address, or one network of IPv6 (64 bits)
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_PENDING_PER_ADDRESS", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub max_pending_per_address: u32,
    /// Most memory kept for all clients together (unsent and unacknowledged lines, lines read in part,
    /// requests in flight), and with a secret half of it for one user; the session with the largest backlog
    /// ends first
    #[arg(
        long,
        value_name = "SIZE",
        env = "MCP_REMOTE_MAX_BACKLOG",
        default_value = "256MiB",
        help_heading = "Limits"
    )]
    pub max_backlog: ByteSize,
    /// Most requests per second of one user; more are answered with an error [default: any number]
    #[arg(long, value_name = "N", env = "MCP_REMOTE_RATE_LIMIT", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub rate_limit: Option<u32>,
    /// Most requests of one user at once, with --rate-limit [default: twice the rate]
    #[arg(long, value_name = "N", env = "MCP_REMOTE_RATE_BURST", value_parser = clap::value_parser!(u32).range(1..), requires = "rate_limit", help_heading = "Limits")]
    pub rate_burst: Option<u32>,
    /// Close connections on which no message passes for so long, and end their sessions: 30m, 12h
    /// [default: never]
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_IDLE_TIMEOUT", value_parser = positive_duration, help_heading = "Limits")]
    pub idle_timeout: Option<Duration>,
    /// How long a session waits for its client to come back after the connection was lost; 0s
    /// ends sessions with their connections
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_RESUME_WINDOW", default_value = "60s", value_parser = humantime::parse_duration, help_heading = "Sessions")]
    pub resume_window: Duration,
    /// Most sessions that can be resumed, connected or waiting
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_SESSIONS",
        default_value_t = 1024,
        help_heading = "Sessions"
    )]
    pub max_sessions: u32,
    /// Signs of life.
    #[command(flatten)]
    pub keepalive: KeepaliveArgs,
    /// When the server stops: how long requests in flight may take to be answered, and clients to
    /// fetch what they are owed
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_DRAIN_TIMEOUT", default_value = "5s", value_parser = humantime::parse_duration, help_heading = "Sessions")]
    pub drain_timeout: Duration,
    /// Who gets an MCP server process of its own, started when it comes and ended when it leaves:
    /// always (also without a value) every session, for servers that remember who they talk to, such as
    /// browsers and shells; asking those whose client the server can ask (sampling, elicitation, roots),
    /// for tools that ask their user; never: all share
    #[arg(long, value_name = "WHO", env = "MCP_REMOTE_ISOLATE", num_args = 0..=1, require_equals = true, default_missing_value = "always", default_value = "never", value_parser = isolation, help_heading = "MCP server")]
    pub isolate: Isolation,
    /// Most MCP servers at a time with --isolate
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_CHILDREN", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..), help_heading = "MCP server")]
    pub max_children: u32,
    /// Time for a shared MCP server to answer what the proxy itself asks it ('initialize',
    /// 'server/discover', what it tells a process that replaces another), from its first sign of life;
    /// then it is started again
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_HANDSHAKE_TIMEOUT", default_value = "60s", value_parser = positive_duration, help_heading = "MCP server")]
    pub handshake_timeout: Duration,
    /// Time for a shared MCP server to give its first sign of life, from the first message for it; then
    /// it is started again
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_START_TIMEOUT", default_value = "5m", value_parser = positive_duration, help_heading = "MCP server")]
    pub start_timeout: Duration,
    /// Most requests of one peer that a shared MCP server is given before it has answered one of them;
    /// more wait for their turn
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_IN_FLIGHT", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..), help_heading = "MCP server")]
    pub max_in_flight: u32,
    /// How often in a row an MCP server that ends by itself is started again; 0 never starts it again.
    /// What ends at a peer's message does not count: that peer is refused for a while
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
    /// Append to this file, as JSON lines, who connects, comes in, is refused or blocked, and leaves
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_AUDIT_LOG",
        help_heading = "Logs"
    )]
    pub audit_log: Option<PathBuf>,
    /// Permissions of an audit log that has to be made, in octal, less the umask
    #[arg(long, value_name = "MODE", env = "MCP_REMOTE_AUDIT_LOG_MODE", default_value = "0600", value_parser = file_mode, help_heading = "Logs")]
    pub audit_log_mode: u32,
    /// Put into the audit log what is allowed, too: a line for every message
    #[arg(long, env = "MCP_REMOTE_AUDIT_ALLOWED", value_parser = FalseyValueParser::new(), requires = "audit_log", help_heading = "Logs")]
    pub audit_allowed: bool,
    /// The MCP server and its arguments, behind '--'
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// The token.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Token to show; visible to every user of this machine, better use the environment
    /// [env: MCP_REMOTE_JWT_TOKEN=]
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

/// `client`.
#[derive(Debug, Args)]
pub struct ClientArgs {
    /// The transport
    pub transport: ClientTransport,
    /// Port to connect to; not needed with --url
    #[arg(long, value_name = "PORT", env = "MCP_REMOTE_PORT", value_parser = clap::value_parser!(u16).range(1..), required_unless_present = "url")]
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
    /// Where a WebSocket or HTTP server is, in place of --host and --port: ws://host:port/path or
    /// http://host:port/path; wss:// and https:// for TLS
    #[arg(long, value_name = "URL", env = "MCP_REMOTE_URL")]
    pub url: Option<String>,
    /// The token.
    #[command(flatten)]
    pub token: TokenArgs,
    /// Header of every HTTP request, 'Name: value'; may be repeated. ${VARIABLE} stands for a variable of
    /// the environment, which keeps a secret out of the list of processes [env: MCP_REMOTE_HEADER=]
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
    /// Speak TLS; the server's certificate has to be for the name in --host, from an authority that
    /// this machine trusts
    #[arg(long, env = "MCP_REMOTE_TLS", value_parser = FalseyValueParser::new(), help_heading = "TLS")]
    pub tls: bool,
    /// Trust the certificate authorities in this file (PEM), and no others
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CA",
        help_heading = "TLS"
    )]
    pub tls_ca: Option<PathBuf>,
    /// Certificate to show to servers that ask for one: PEM, our own first, then the chain
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CERT",
        requires = "tls_key",
        help_heading = "TLS"
    )]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key: PEM, not encrypted
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_KEY",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    pub tls_key: Option<PathBuf>,
    /// Connect again when the connection is lost or cannot be made yet
    #[arg(long, env = "MCP_REMOTE_AUTO_RECONNECT", value_parser = FalseyValueParser::new(), help_heading = "Reconnection")]
    pub auto_reconnect: bool,
    /// Tries to connect again, in a row, before giving up; with --auto-reconnect
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_ATTEMPTS",
        default_value_t = 5,
        help_heading = "Reconnection"
    )]
    pub max_attempts: u32,
    /// Pause before the first of these tries, in milliseconds; doubles from try to try, up to 30
    /// seconds
    #[arg(
        long,
        value_name = "MS",
        env = "MCP_REMOTE_RECONNECT_DELAY",
        default_value_t = 1000,
        help_heading = "Reconnection"
    )]
    pub reconnect_delay: u64,
    /// Signs of life.
    #[command(flatten)]
    pub keepalive: KeepaliveArgs,
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
    /// Make a new secret, too, and print it
    #[arg(long, env = "MCP_REMOTE_AUTO_SECRET", value_parser = FalseyValueParser::new(), conflicts_with_all = ["jwt_secret", "jwt_secret_file"], help_heading = "Authentication")]
    pub auto_secret: bool,
    /// Whose token it is, for logs
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
    /// Who issues the token, for servers that ask for it with --jwt-issuer
    #[arg(long, value_name = "ISSUER", env = "MCP_REMOTE_ISSUER")]
    pub issuer: Option<String>,
    /// Whom the token is for, for servers that ask for it with --jwt-audience
    #[arg(long, value_name = "AUDIENCE", env = "MCP_REMOTE_AUDIENCE")]
    pub audience: Option<String>,
    /// Print the token and nothing else (a secret of --auto-secret goes to stderr)
    #[arg(long, env = "MCP_REMOTE_QUIET", value_parser = FalseyValueParser::new())]
    pub quiet: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Policy file (JSON) to ask
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_PERMISSIONS_CONFIG",
        required = true
    )]
    pub permissions_config: PathBuf,
    /// Roles of the token, separated by commas
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_ROLES",
        value_delimiter = ',',
        required = true
    )]
    pub roles: Vec<String>,
    /// Method to ask about; with a tool, a prompt or a resource: the method that uses it, else
    /// tools/call, prompts/get and resources/read
    #[arg(long, value_name = "METHOD", env = "MCP_REMOTE_METHOD")]
    pub method: Option<String>,
    /// Tool to ask about
    #[arg(long, value_name = "NAME", env = "MCP_REMOTE_TOOL", conflicts_with_all = ["prompt", "resource"])]
    pub tool: Option<String>,
    /// Prompt to ask about
    #[arg(
        long,
        value_name = "NAME",
        env = "MCP_REMOTE_PROMPT",
        conflicts_with = "resource"
    )]
    pub prompt: Option<String>,
    /// Resource to ask about, or the template of resources to complete or to list
    #[arg(long, value_name = "URI", env = "MCP_REMOTE_RESOURCE")]
    pub resource: Option<String>,
    /// Arguments of the tool or prompt, a JSON object, to ask about as well
    #[arg(
        long,
        value_name = "JSON",
        env = "MCP_REMOTE_ARGUMENTS",
        conflicts_with = "resource"
    )]
    pub arguments: Option<String>,
    /// Claims of the token, a JSON object, for rules on arguments that ask for them
    #[arg(long, value_name = "JSON", env = "MCP_REMOTE_CLAIMS")]
    pub claims: Option<String>,
}

/// `inspect-token`.
#[derive(Debug, Args)]
pub struct InspectTokenArgs {
    /// The token; '-' reads it from stdin, as happens when none is given in any way
    #[arg(
        value_name = "TOKEN",
        conflicts_with_all = ["jwt_token", "jwt_token_file"],
        allow_hyphen_values = true
    )]
    pub positional: Option<Secret>,
    /// The token.
    #[command(flatten)]
    pub token: TokenArgs,
    /// The secrets.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What tokens must say.
    #[command(flatten)]
    pub demands: DemandArgs,
}

fn message_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size.0 > MAX_LINE {
        Err(format!("must be {} at most", ByteSize(MAX_LINE)))
    } else {
        Ok(size)
    }
}

/// Words for yes and no are what the flag was before it took a value.
fn isolation(text: &str) -> Result<Isolation, String> {
    match text.to_lowercase().as_str() {
        "always" | "true" | "t" | "yes" | "y" | "on" | "1" => Ok(Isolation::Always),
        "asking" => Ok(Isolation::Asking),
        "never" | "false" | "f" | "no" | "n" | "off" | "0" | "" => Ok(Isolation::Never),
        _ => Err("must be always, asking or never".to_owned()),
    }
}

fn file_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0o200..=0o777) if mode & 0o200 > 0 => Ok(mode),
        _ => Err(
            "give three octal digits with write permission for the owner, for instance 0640"
                .to_owned(),
        ),
    }
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
    fn what_was_typed_does_not_show_secrets() {
        for typed in [
            "server tcp --port 1 --jwt-secret hunter2 --jwt-secret hunter3 -- x",
            "client tcp --port 1 --jwt-token hunter2",
            "generate-token --jwt-secret hunter2",
            "inspect-token hunter2 --jwt-secret hunter2",
            "inspect-token --jwt-token hunter2 --jwt-secret -hunter",
        ] {
            let typed = ["mcp-remote"].into_iter().chain(typed.split(' '));
            let debug = format!("{:?}", Cli::try_parse_from(typed).unwrap());
            assert!(
                !debug.contains("hunter") && debug.contains("Secret(…)"),
                "{debug}"
            );
        }
    }

    #[test]
    fn isolation_takes_a_value_or_none() {
        for (flag, isolation) in [
            (None, Isolation::Never),
            (Some("--isolate"), Isolation::Always),
            (Some("--isolate=always"), Isolation::Always),
            (Some("--isolate=asking"), Isolation::Asking),
            (Some("--isolate=never"), Isolation::Never),
            (Some("--isolate=false"), Isolation::Never),
        ] {
            let typed = ["mcp-remote", "server", "tcp", "--port", "1"];
            let typed = typed.into_iter().chain(flag).chain(["--", "asking"]);
            let Command::Server(Deferred(args)) = Cli::try_parse_from(typed).unwrap().command
            else {
                panic!("not a server")
            };
            assert_eq!(args.isolate, isolation, "{flag:?}");
            assert_eq!(args.command, ["asking"]);
        }
        let typed = ["mcp-remote", "server", "tcp", "--port", "1"];
        let wrong = typed.into_iter().chain(["--isolate=sometimes", "--", "x"]);
        assert!(Cli::try_parse_from(wrong).is_err());
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
        let Command::Server(Deferred(args)) = cli.unwrap().command else {
            panic!("not a server")
        };
        assert_eq!(args.port, 1);
        assert!(args.secret.jwt_secret.is_empty());
        assert_eq!(
            args.command,
            ["cmd", "--port", "2", "--jwt-secret", "x", "--", "y"]
        );
    }
}
