//! Where an MCP server is: the parts of its URL.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

/// The longest path and query that is accepted, in bytes.
const MAX_TARGET: usize = 8192;

/// A URL that begins with `http://` or `https://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whether to use TLS.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub target: PathAndQuery,
}

impl Place {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let url = url.split('#').next().unwrap_or_default();
        let uri: Uri = url.parse().map_err(|_| "not a URL")?;
        let (tls, default) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err("it must begin with http:// or https://"),
        };
        let authority = uri.authority().ok_or("no host")?;
        if authority.as_str().contains('@') {
            return Err("it has a user; give credentials by --header or --jwt-token-file");
        }
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err("no host");
        }
        let port = match authority.as_str().rsplit_once(']') {
            Some((_, port)) => port,
            None => authority.as_str(),
        };
        if port.contains(':') && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("no such port");
        }
        let root = PathAndQuery::from_static("/");
        let target = uri.path_and_query().cloned().unwrap_or(root);
        Ok(Self {
            tls,
            host: host.to_ascii_lowercase(),
            port: authority.port_u16().unwrap_or(default),
            target,
        })
    }

    /// The host, in brackets if it is an IPv6 address, and the port unless it is the default.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = self.bracketed();
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Path and query of a `Location`; `None` if it is on another host or port, or drops TLS: others would
    /// see what we send there.
    #[must_use]
    pub fn redirect(&self, location: &str) -> Option<PathAndQuery> {
        if location.len() > MAX_TARGET {
            return None;
        }
        let target = if location.starts_with('/') && !location.starts_with("//") {
            let location = location.split('#').next()?;
            location.parse::<Uri>().ok()?.path_and_query()?.clone()
        } else {
            let place = Self::parse(location).ok()?;
            let is_same = (place.tls, &place.host, place.port) == (self.tls, &self.host, self.port);
            is_same.then_some(place.target)?
        };
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, tls, address, authority, target) in [
            ("http://a", false, "a:80", "a", "/"),
            (
                "https://A.example/mcp?x=1#y",
                true,
                "a.example:443",
                "a.example",
                "/mcp?x=1",
            ),
            (
                "http://127.0.0.1:8080/mcp",
                false,
                "127.0.0.1:8080",
                "127.0.0.1:8080",
                "/mcp",
            ),
            ("https://[::1]:443/", true, "[::1]:443", "[::1]", "/"),
            ("https://[::1]:8443/", true, "[::1]:8443", "[::1]:8443", "/"),
        ] {
            let place = Place::parse(url).unwrap();
            assert_eq!(place.tls, tls, "{url}");
            assert_eq!(place.address(), address, "{url}");
            assert_eq!(place.authority(), authority, "{url}");
            assert_eq!(place.target, target, "{url}");
        }
        for url in [
            "",
            "a",
            "/mcp",
            "ws://a/",
            "ftp://a",
            "http://",
            "http://u:p@a/",
            "http://a:99999/",
            "http://a:0/",
            "http://a:x/",
            "http:///mcp",
            "http://a b/",
        ] {
            assert!(Place::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let place = Place::parse("https://a.example/mcp").unwrap();
        for (location, target) in [
            ("/mcp/", Some("/mcp/")),
            ("/mcp/?x=1#y", Some("/mcp/?x=1")),
            ("https://A.example:443/v2", Some("/v2")),
            ("http://a.example/mcp/", None),
            ("https://a.example:444/mcp", None),
            ("https://b.example/mcp", None),
            ("//b.example/mcp", None),
            ("https://u@a.example/mcp", None),
            ("mcp/", None),
            ("", None),
            ("/a\u{e9} b", None),
        ] {
            let found = place.redirect(location);
            assert_eq!(
                found.as_ref().map(PathAndQuery::as_str),
                target,
                "{location}"
            );
        }
    }
}
