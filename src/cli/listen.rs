//! The URLs of `--listen`.

use crate::server::ListenerKind;
use crate::transport::Protocol;
use crate::utils::host::{self, with_port};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What else a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port.
    Port {
        /// What is spoken there.
        kind: ListenerKind,
        /// Name or address.
        host: String,
        /// Its number; 0 for any free one.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// `HOST:PORT` for health checks.
pub(super) fn health(text: &str) -> Result<Listen, String> {
    plain(text, ListenerKind::Health)
}

/// `HOST:PORT` for Prometheus.
pub(super) fn metrics(text: &str) -> Result<Listen, String> {
    plain(text, ListenerKind::Metrics)
}

fn plain(text: &str, kind: ListenerKind) -> Result<Listen, String> {
    if text.contains(['/', '?', '#', '@']) {
        return Err("only host and port are needed, such as 127.0.0.1:9464".to_owned());
    }
    let (host, port) = split(text, "", "127.0.0.1:9464")?;
    Ok(Listen::Port { kind, host, port })
}

/// Host and port of `authority`. An error shows how it is written after `scheme`, as in `example`.
fn split(authority: &str, scheme: &str, example: &str) -> Result<(String, u16), String> {
    let (name, port) = authority
        .rsplit_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| format!("host and port are needed, such as {example}"))?;
    let port = super::port(port, 0)?;
    if name.contains(':') && !name.starts_with('[') {
        let text = format!("an IPv6 address stands in brackets: {scheme}[::1]:8080");
        return Err(text);
    }
    Ok((host::parse(name)?, port))
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let kind = match scheme {
            "tcp" => ListenerKind::Lines(Protocol::Tcp),
            "ws" => ListenerKind::Lines(Protocol::WebSocket),
            "http" => ListenerKind::Http,
            "unix" if rest.starts_with('/') => return Ok(Self::Unix(rest.into())),
            "unix" => return Err("an absolute path is needed: unix:///path/to.sock".to_owned()),
            "wss" | "https" | "tls" => {
                let text = "with --tls-cert every port speaks TLS: write ws://, http:// or tcp://";
                return Err(text.to_owned());
            }
            _ => {
                let text = "tcp://HOST:PORT, ws://…, http://… or unix:///path/to.sock is needed";
                return Err(text.to_owned());
            }
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err("only host and port are needed; the path is that of --path".to_owned());
        }
        let (host, port) = split(authority, "tcp://", "tcp://0.0.0.0:8080")?;
        Ok(Self::Port { kind, host, port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { host, port, .. } => f.write_str(&with_port(host, *port)),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_listeners() {
        let port = |kind, host: &str, port| {
            let host = host.to_owned();
            Ok(Listen::Port { kind, host, port })
        };
        let tcp = ListenerKind::Lines(Protocol::Tcp);
        for (url, expected) in [
            ("tcp://0.0.0.0:8080", port(tcp, "0.0.0.0", 8080)),
            ("tcp://[::1]:0/", port(tcp, "::1", 0)),
            (
                "ws://localhost:1",
                port(ListenerKind::Lines(Protocol::WebSocket), "localhost", 1),
            ),
            (
                "http://a.example:80",
                port(ListenerKind::Http, "a.example", 80),
            ),
            ("unix:///run/x.sock", Ok(Listen::Unix("/run/x.sock".into()))),
        ] {
            assert_eq!(url.parse::<Listen>(), expected, "{url}");
        }
        for (url, says) in [
            ("", "is needed"),
            ("8080", "is needed"),
            ("0.0.0.0:8080", "is needed"),
            ("udp://0.0.0.0:1", "is needed"),
            ("unix://run/x.sock", "absolute"),
            ("https://0.0.0.0:1", "--tls-cert"),
            ("http://0.0.0.0:1/mcp", "--path"),
            ("http://me@0.0.0.0:1", "only host"),
            ("tcp://0.0.0.0", "host and port"),
            ("tcp://:8080", "host and port"),
            ("tcp://0.0.0.0:x", "number"),
            ("tcp://0.0.0.0:70000", "number"),
            ("tcp://::1:8080", "brackets"),
            ("tcp://[x]:8080", "IPv6"),
        ] {
            let why = url.parse::<Listen>().unwrap_err();
            assert!(why.contains(says), "{url}: {why}");
        }
    }

    /// Bug: `--metrics 9464` was answered with a URL of `tcp://`, which is refused there.
    #[test]
    fn the_address_of_health_checks_is_no_url() {
        let host = "127.0.0.1".to_owned();
        let kind = ListenerKind::Metrics;
        let port = 9464;
        assert_eq!(
            metrics("127.0.0.1:9464"),
            Ok(Listen::Port { kind, host, port })
        );
        for (text, says) in [
            ("9464", "such as 127.0.0.1:9464"),
            ("127.0.0.1", "such as 127.0.0.1:9464"),
            ("tcp://127.0.0.1:9464", "only host and port"),
            ("127.0.0.1:9464/metrics", "only host and port"),
            ("127.0.0.1:x", "a port is a number from 0 to 65535"),
            ("::1:9464", "brackets: [::1]"),
        ] {
            for read in [health, metrics] {
                let why = read(text).unwrap_err();
                assert!(why.contains(says), "{text}: {why}");
                assert!(!why.contains("tcp://"), "{text}: {why}");
            }
        }
    }
}
