//! What is printed when a server is started by hand: what it serves, where, for whom, and the command
//! to paste at the other end.

use super::doctor::entry::{PATIENCE, TOKEN_FILE, entry};
use crate::cli::ServerArgs;
use crate::server::{Access, ListenerKind, Listening};
use crate::system;
use crate::transport::Protocol;
use crate::utils::escape::escape;
use crate::utils::host::with_port;
use serde_json::json;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// The file to which the command in the banner writes a token.
const NEW_TOKEN: &str = "token";

/// What is known before the listeners are open.
#[derive(Debug)]
pub(super) struct Banner {
    /// The MCP server.
    pub command: String,
    /// The policy file.
    pub policy: Option<PathBuf>,
    /// The path of MCP over HTTP.
    pub path: String,
    /// The URL that clients use over HTTP.
    pub public_origin: Option<String>,
    /// The command that makes a token, if this program can make one.
    pub make_token: Option<String>,
    /// This machine's name in the certificate.
    pub certified: Option<String>,
}

impl Banner {
    /// The whole text; `outside` is true where other machines can connect.
    pub(super) fn text(&self, listeners: &[Listening], access: &Access, outside: bool) -> String {
        let tokens = access.requirements.is_some();
        let tls = access.tls.is_some();
        let mut lines = vec![String::new(), row("MCP server", &self.command)];
        lines.extend(listeners.iter().flat_map(addresses));
        lines.push(row("may connect", &who(tokens, outside)));
        lines.push(row("may do", &self.rights(access)));
        lines.push(row("encrypted", encryption(tls, outside)));
        if let Some(client) = listeners.iter().find_map(|it| self.client(it, tls)) {
            let file = tokens.then(|| TOKEN_FILE.to_owned());
            let mut command = format!("mcp-remote {}", client.join(" "));
            if tokens {
                command += &format!(" --jwt-token-file {NEW_TOKEN}");
            }
            let make = self.make_token.iter();
            lines.extend(make.map(|make| row("a token", make)));
            lines.push(row("the client", &command));
            lines.push(row(
                "the host",
                "Claude Desktop, Claude Code, Cursor, as JSON:",
            ));
            let patient: Vec<String> = client
                .into_iter()
                .chain(PATIENCE.map(str::to_owned))
                .collect();
            let entry = json!({"mcpServers": {"remote": entry(&patient, file)}});
            lines.push(format!("{entry:#}"));
        }
        lines.push(String::new());
        lines
            .iter()
            .flat_map(|text| text.split('\n'))
            .map(|line| escape(line).to_string())
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn rights(&self, access: &Access) -> String {
        match (&access.policy, &self.policy) {
            (Some(policy), Some(file)) => {
                let roles: Vec<&str> = policy.role_names().collect();
                let file = file.display();
                format!("what {file} says of {}", roles.join(", "))
            }
            _ => "everything: there is no policy (--permissions-config)".to_owned(),
        }
    }

    /// The arguments of a client that connects there.
    fn client(&self, listening: &Listening, tls: bool) -> Option<Vec<String>> {
        let mut words = vec!["client".to_owned()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        match listening {
            Listening::Unix(listener) => {
                add(&["unix", "--path", &listener.path().display().to_string()]);
            }
            Listening::Port(ListenerKind::Health | ListenerKind::Metrics, _) => return None,
            Listening::Port(kind, listeners) => {
                let port = listeners.port().ok()?;
                let certified = self.certified.clone();
                let address = listeners.addresses().next()?.ip();
                let host = certified.unwrap_or_else(|| host(address));
                let scheme = if tls { "https" } else { "http" };
                match kind {
                    ListenerKind::Http => {
                        let own = || format!("{scheme}://{}", with_port(&host, port));
                        let origin = self.public_origin.clone().unwrap_or_else(own);
                        add(&["http", "--url", &format!("{origin}{}", self.path)]);
                        return Some(words);
                    }
                    ListenerKind::Lines(Protocol::WebSocket) => add(&["ws"]),
                    _ => add(&["tcp"]),
                }
                add(&["--host", &host, "--port", &port.to_string()]);
                add(if tls { &["--tls"] } else { &[] });
            }
        }
        Some(words)
    }
}

/// The command that makes a token this server accepts; `None` where tokens come from elsewhere.
pub(super) fn make_token(args: &ServerArgs) -> Option<String> {
    if args.demands.jwks.is_some() {
        return None;
    }
    let in_environment = || {
        let file = std::env::var_os("MCP_REMOTE_JWT_SECRET_FILE").map(PathBuf::from);
        file.filter(|_| std::env::var_os("MCP_REMOTE_JWT_SECRET").is_none())
    };
    let file = match &*args.secret.jwt_secret {
        [] => args.secret.jwt_secret_file.clone().or_else(in_environment),
        _ => None,
    };
    let mut command = "mcp-remote generate-token --user NAME --roles ROLE".to_owned();
    if let Some(file) = file {
        let file = std::path::absolute(&file).unwrap_or(file);
        command += &format!(" --jwt-secret-file {}", quoted(&file.display().to_string()));
    } else if !args.secret.jwt_secret.is_empty() {
        command += " --jwt-secret SECRET";
    }
    for (flag, value) in [
        ("--issuer", &args.demands.jwt_issuer),
        ("--audience", &args.demands.jwt_audience),
    ] {
        if let Some(value) = value {
            command += &format!(" {flag} {}", quoted(value));
        }
    }
    Some(format!("(umask 077; {command} --quiet > {NEW_TOKEN})"))
}

/// The text quoted as one shell word.
pub(super) fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@+".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The first name in a certificate that is not a wildcard: clients must use one of its names.
pub(super) fn certified(file: &Path) -> Option<String> {
    let certificate = CertificateDer::from_pem_file(file).ok()?;
    let certificate = webpki::EndEntityCert::try_from(&certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    names.find(|name| !name.starts_with('*')).map(str::to_owned)
}

fn row(name: &str, text: &str) -> String {
    format!("  {name:<12}{text}")
}

fn addresses(listening: &Listening) -> Vec<String> {
    match listening {
        Listening::Unix(listener) => {
            let path = listener.path().display();
            vec![row("listens", &format!("{path} (Unix socket)"))]
        }
        Listening::Port(kind, listeners) => {
            let addresses = listeners.addresses();
            let line = |address| row("listens", &format!("{address} ({kind})"));
            addresses.map(line).collect()
        }
    }
}

fn who(tokens: bool, outside: bool) -> String {
    let place = if outside {
        "from any machine"
    } else {
        "from this machine alone"
    };
    if tokens {
        format!("anyone with a token, {place}")
    } else {
        format!("anyone, {place}: there is no secret (MCP_REMOTE_JWT_SECRET)")
    }
}

fn encryption(tls: bool, outside: bool) -> &'static str {
    match (tls, outside) {
        (true, _) => "by TLS",
        (false, true) => "not at all: use --tls-cert, or --host localhost and a tunnel",
        (false, false) => "not at all, and it does not leave this machine",
    }
}

/// The name that clients use for the machine listening at this address.
fn host(address: IpAddr) -> String {
    if address.to_canonical().is_loopback() {
        return "localhost".to_owned();
    }
    if !address.is_unspecified() {
        return address.to_string();
    }
    system::host_name()
}
