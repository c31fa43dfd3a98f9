//! The command line of `server`.

use super::listen::{Listen, health, metrics};
use super::{
    DemandArgs, KeepaliveArgs, LogArgs, SecretArgs, duration, number, port, positive_duration,
};
use crate::jsonrpc::MAX_LINE;
use crate::server::{ChildPer, Isolation, ListenerKind, Variable};
use crate::transport::Protocol;
use crate::utils::cidr::Cidr;
use crate::utils::host;
use crate::utils::size::ByteSize;
use clap::builder::FalseyValueParser;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const SERVER_EXAMPLES: &str = "\
Examples:
  For this machine only, no tokens:
    mcp-remote server tcp --port 8080 -- your-mcp-server

  Tokens, roles, and a policy for each role:
    export MCP_REMOTE_JWT_SECRET=$(mcp-remote generate-secret)
    mcp-remote server ws --port 8080 --permissions-config permissions.json -- \\
        your-mcp-server --verbose /some/folder

  Over the network, encrypted:
    mcp-remote server tcp --port 8080 --tls-cert mcp.pem --tls-key mcp.key -- \\
        your-mcp-server

Once the port is open, one line on stdout says so; everything else goes to
stderr. SIGHUP makes the server read its files again: secrets, revocations,
policy and certificates. A server that was started on a terminal exits when
the terminal closes.";

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

impl From<ServerTransport> for ListenerKind {
    fn from(transport: ServerTransport) -> Self {
        match transport {
            ServerTransport::Tcp => Self::Lines(Protocol::Tcp),
            ServerTransport::Ws => Self::Lines(Protocol::WebSocket),
            ServerTransport::Http => Self::Http,
        }
    }
}

/// The default of `--path`.
const PATH: &str = "/mcp";

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

/// An issuer (RFC 8414, section 2); without TLS on this machine only.
fn issuer(typed: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\?#@".contains(&byte);
    let is_safe = ["https://", "http://localhost", "http://127.0.0.1"]
        .iter()
        .any(|scheme| typed.len() > scheme.len() && typed.starts_with(scheme));
    if is_safe && typed.bytes().all(is_plain) {
        Ok(typed.to_owned())
    } else {
        Err("a URL like https://login.example.com is needed, without query and fragment".to_owned())
    }
}

fn path(typed: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if typed.starts_with('/') && typed.bytes().all(is_plain) {
        Ok(typed.to_owned())
    } else {
        Err("a path like /mcp is needed: letters, digits and -._~/ after a slash".to_owned())
    }
}

/// `server`.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The transport
    pub transport: ServerTransport,
    /// Port to listen on; 0 takes any free one
    #[arg(long, value_name = "PORT", env = "MCP_REMOTE_PORT", value_parser = |text: &str| port(text, 0))]
    pub port: u16,
    /// Name or address to listen on [default: all interfaces with a secret, loopback without]
    #[arg(long, value_name = "HOST", env = "MCP_REMOTE_HOST", value_parser = host::parse)]
    pub host: Option<String>,
    /// Also listen there: tcp://HOST:PORT, ws://HOST:PORT, http://HOST:PORT, unix:///path/to.sock; may be repeated,
    /// or several separated by commas. TLS applies to all but Unix sockets
    #[arg(
        long,
        value_name = "URL",
        env = "MCP_REMOTE_LISTEN",
        value_delimiter = ','
    )]
    pub listen: Vec<Listen>,
    /// Also answer health checks there, in plain text and nothing else: /healthz, whether the process serves, and
    /// /readyz, whether the MCP server answers [default: on the ports of HTTP alone]
    #[arg(long, value_name = "HOST:PORT", env = "MCP_REMOTE_HEALTH", value_parser = health)]
    pub health: Option<Listen>,
    /// Answer Prometheus there, in plain text, at /metrics: numbers about connections, sessions, messages, times and
    /// the MCP server. Anyone who reaches this port can read them [default: nothing is counted]
    #[arg(long, value_name = "HOST:PORT", env = "MCP_REMOTE_METRICS", value_parser = metrics)]
    pub metrics: Option<Listen>,
    /// Reverse proxy whose client addresses (Forwarded, X-Forwarded-For) are trusted: an address, or a network such
    /// as 10.0.0.0/8; several are separated by commas [default: none is]
    #[arg(
        long,
        value_name = "CIDR",
        env = "MCP_REMOTE_TRUSTED_PROXY",
        value_delimiter = ','
    )]
    pub trusted_proxy: Vec<Cidr>,
    /// These proxies send a PROXY header, version 2, ahead of each connection over TCP
    #[arg(long, env = "MCP_REMOTE_PROXY_PROTOCOL", value_parser = FalseyValueParser::new(), requires = "trusted_proxy")]
    pub proxy_protocol: bool,
    /// Path with MCP, over HTTP
    #[arg(long, value_name = "PATH", env = "MCP_REMOTE_PATH", default_value = PATH, value_parser = path)]
    pub path: String,
    /// Where clients reach the server, over HTTP and through a reverse proxy: https://mcp.example.com. Its name
    /// counts as the server's own, and web pages from there may connect
    #[arg(long, value_name = "URL", env = "MCP_REMOTE_PUBLIC_URL", value_parser = origin)]
    pub public_url: Option<Origin>,
    /// Where clients get their tokens, over HTTP: the issuer of an OAuth authorization server, https://…; may be
    /// repeated, or several separated by commas. Clients without a valid token are told
    #[arg(
        long,
        value_name = "URL",
        env = "MCP_REMOTE_AUTHORIZATION_SERVER",
        value_delimiter = ',',
        value_parser = issuer,
        requires_all = ["public_url", "jwt_audience"],
        help_heading = "Authentication"
    )]
    pub authorization_server: Vec<String>,
    /// The secret.
    #[command(flatten)]
    pub secret: SecretArgs,
    /// What tokens must say.
    #[command(flatten)]
    pub demands: DemandArgs,
    /// Only accept tokens with at least one of these roles, separated by commas
    #[arg(
        long,
        value_name = "ROLES",
        env = "MCP_REMOTE_REQUIRE_ROLES",
        value_delimiter = ',',
        help_heading = "Authentication"
    )]
    pub require_roles: Vec<String>,
    /// Policy file (JSON) that says what roles may do; without one, every client may do everything
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_PERMISSIONS_CONFIG",
        help_heading = "Authentication"
    )]
    pub permissions_config: Option<PathBuf>,
    /// File with the tools as they were accepted, which generate-permissions writes: new tools, and tools whose
    /// description, schema or hints have changed, are withheld
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_PIN_TOOLS",
        help_heading = "Authentication"
    )]
    pub pin_tools: Option<PathBuf>,
    /// Time for a new connection to send its token, including TLS and the WebSocket upgrade: 10s, 1m
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
    /// Use TLS with this certificate (PEM, followed by its chain)
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
    /// Only clients with a certificate from an authority in this file (PEM) may connect
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_TLS_CLIENT_CA",
        requires = "tls_cert",
        help_heading = "TLS"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Maximum size of a message from a peer, as it comes and as it is written for the MCP server: 512KiB, 9MiB, 1GiB
    /// at most; MCP servers on the official TypeScript SDK exit above 10MiB
    #[arg(
        long,
        value_name = "SIZE",
        env = "MCP_REMOTE_MAX_MESSAGE_SIZE",
        default_value = "9MiB",
        value_parser = message_size,
        help_heading = "Limits"
    )]
    pub max_message_size: ByteSize,
    /// Maximum number of authenticated connections, including sessions that wait for their client; further ones get
    /// an error and are closed
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_CONNECTIONS", default_value_t = 1024, value_parser = number(1), help_heading = "Limits")]
    pub max_connections: u32,
    /// Maximum number of these connections for one user, and with --isolate of MCP servers; where a token names no
    /// user, for one address [default: with a secret a quarter of each, at least 4]
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_PER_USER", value_parser = number(1), help_heading = "Limits")]
    pub max_per_user: Option<u32>,
    /// Maximum number of connections that have not authenticated yet, WebSocket upgrade included; the oldest silent
    /// one is closed for one more
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_PENDING", default_value_t = 1024, value_parser = number(1), help_heading = "Limits")]
    pub max_pending: u32,
    /// The same for one address, or one IPv6 network (/64), except in a connection's first second
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_PENDING_PER_ADDRESS", default_value_t = 32, value_parser = number(1), help_heading = "Limits")]
    pub max_pending_per_address: u32,
    /// Maximum memory kept for all clients together (unsent and unacknowledged lines, lines read in part, requests in
    /// flight), and with a secret half of it for one user; the session with the largest backlog ends first
    #[arg(
        long,
        value_name = "SIZE",
        env = "MCP_REMOTE_MAX_BACKLOG",
        default_value = "256MiB",
        help_heading = "Limits"
    )]
    pub max_backlog: ByteSize,
    /// Maximum requests per second of one user; more are answered with an error [default: any number]
    #[arg(long, value_name = "N", env = "MCP_REMOTE_RATE_LIMIT", value_parser = number(1), help_heading = "Limits")]
    pub rate_limit: Option<u32>,
    /// Maximum burst of these requests [default: twice the rate]
    #[arg(long, value_name = "N", env = "MCP_REMOTE_RATE_BURST", value_parser = number(1), requires = "rate_limit", help_heading = "Limits")]
    pub rate_burst: Option<u32>,
    /// Close connections on which no message passes for this long, and end their sessions: 30m, 12h [default: never]
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_IDLE_TIMEOUT", value_parser = positive_duration, help_heading = "Limits")]
    pub idle_timeout: Option<Duration>,
    /// How long a session waits for its client to reconnect; 0s ends sessions with their connections
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_RESUME_WINDOW", default_value = "60s", value_parser = duration, help_heading = "Sessions")]
    pub resume_window: Duration,
    /// Maximum number of resumable sessions, connected or waiting
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_SESSIONS",
        default_value_t = 1024,
        value_parser = number(0),
        help_heading = "Sessions"
    )]
    pub max_sessions: u32,
    /// Signs of life.
    #[command(flatten)]
    pub keepalive: KeepaliveArgs,
    /// When the server stops: how long to wait for requests in flight to be answered, and for clients to fetch their
    /// pending messages
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_DRAIN_TIMEOUT", default_value = "5s", value_parser = duration, help_heading = "Sessions")]
    pub drain_timeout: Duration,
    /// Which sessions get an MCP server process of their own, started when they begin and ended with them: always
    /// (also without a value), every session, for servers that remember who they talk to, such as browsers and
    /// shells; asking, those whose client accepts requests from the server (sampling, elicitation, roots), for tools
    /// that ask their user; never, all share one
    #[arg(long, value_name = "WHO", env = "MCP_REMOTE_ISOLATE", num_args = 0..=1, require_equals = true, default_missing_value = "always", default_value = "never", value_parser = isolation, help_heading = "MCP server")]
    pub isolate: Isolation,
    /// Maximum number of MCP server processes with --isolate
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_CHILDREN", default_value_t = 64, value_parser = number(1), help_heading = "MCP server")]
    pub max_children: u32,
    /// Variable in the environment of each MCP server, NAME=VALUE, with --isolate; may be repeated. {user},
    /// {claim:/path} and {session} in VALUE stand for the user, a claim of the token (as JSON Pointer) and
    /// a random word for the session; {{ and }} for braces
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "MCP_REMOTE_CHILD_ENV",
        help_heading = "MCP server"
    )]
    pub child_env: Vec<Variable>,
    /// Folder with a file USER.env for each user, with --isolate: a NAME=VALUE on each line, for the environment of
    /// the MCP servers of this user. Only its owner may be able to read it (mode 0600)
    #[arg(
        long,
        value_name = "DIR",
        env = "MCP_REMOTE_CHILD_ENV_DIR",
        help_heading = "MCP server"
    )]
    pub child_env_dir: Option<PathBuf>,
    /// What gets a process with --isolate: each session (session), or all sessions of one user together (user)
    #[arg(long, value_name = "WHOM", env = "MCP_REMOTE_CHILD_PER", default_value = "session", value_parser = child_per, help_heading = "MCP server")]
    pub child_per: ChildPer,
    /// Time for a shared MCP server to answer the proxy's own requests ('initialize', 'server/discover', and those
    /// that set up a replacement process), and for an isolated one to answer the first of these, from its first sign
    /// of life; then it is restarted or ended
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_HANDSHAKE_TIMEOUT", default_value = "60s", value_parser = positive_duration, help_heading = "MCP server")]
    pub handshake_timeout: Duration,
    /// Time for a shared MCP server to give its first sign of life, from the first message for it; then it is
    /// restarted
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_START_TIMEOUT", default_value = "5m", value_parser = positive_duration, help_heading = "MCP server")]
    pub start_timeout: Duration,
    /// Time for a client to answer requests from the MCP server (sampling, elicitation, roots); then the MCP server
    /// gets an error, and the client a 'notifications/cancelled'
    #[arg(long, value_name = "TIME", env = "MCP_REMOTE_QUESTION_TIMEOUT", default_value = "10m", value_parser = positive_duration, help_heading = "MCP server")]
    pub question_timeout: Duration,
    /// How many requests of one peer a shared MCP server handles at a time; further requests wait
    #[arg(long, value_name = "N", env = "MCP_REMOTE_MAX_IN_FLIGHT", default_value_t = 16, value_parser = number(1), help_heading = "MCP server")]
    pub max_in_flight: u32,
    /// How many times in a row an MCP server that exits by itself is restarted; 0 for never. An exit that a peer's
    /// message causes does not count: that peer is refused for a while
    #[arg(
        long,
        value_name = "N",
        env = "MCP_REMOTE_MAX_RESTARTS",
        default_value_t = 5,
        value_parser = number(0),
        help_heading = "MCP server"
    )]
    pub max_restarts: u32,
    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Append to this file, as JSON lines, who connects, authenticates, is refused or blocked, and leaves
    #[arg(
        long,
        value_name = "FILE",
        env = "MCP_REMOTE_AUDIT_LOG",
        help_heading = "Logs"
    )]
    pub audit_log: Option<PathBuf>,
    /// Permissions of a newly created audit log, in octal, minus the umask
    #[arg(long, value_name = "MODE", env = "MCP_REMOTE_AUDIT_LOG_MODE", default_value = "0600", value_parser = file_mode, help_heading = "Logs")]
    pub audit_log_mode: u32,
    /// Also record every message that passes in the audit log
    #[arg(long, env = "MCP_REMOTE_AUDIT_ALLOWED", value_parser = FalseyValueParser::new(), requires = "audit_log", help_heading = "Logs")]
    pub audit_allowed: bool,
    /// The MCP server and its arguments, after '--'
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

impl ServerArgs {
    /// Settings that no listener looks at, each with the listeners that would.
    pub fn idle(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let kinds = || {
            let further = self.listen.iter().filter_map(|listen| match listen {
                Listen::Port { kind, .. } => Some(*kind),
                Listen::Unix(_) => None,
            });
            further.chain([self.transport.into()])
        };
        let http = kinds().any(|kind| kind == ListenerKind::Http);
        let web = http || kinds().any(|kind| kind == ListenerKind::Lines(Protocol::WebSocket));
        let settings = [
            ("--path", "HTTP", !http && self.path != PATH),
            ("--public-url", "HTTP", !http && self.public_url.is_some()),
            (
                "--allow-origin",
                "WebSocket or HTTP",
                !web && !self.allow_origin.is_empty(),
            ),
        ];
        let idle = settings.into_iter().filter(|&(_, _, idle)| idle);
        idle.map(|(flag, listeners, _)| (flag, listeners))
    }
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

fn child_per(text: &str) -> Result<ChildPer, String> {
    match text {
        "session" => Ok(ChildPer::Session),
        "user" => Ok(ChildPer::User),
        _ => Err("must be session or user".to_owned()),
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
