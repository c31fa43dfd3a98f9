//! The site that requests are for: path, host, and the web pages that may send them.
//!
//! A web page can send requests to its visitor's own machine, and, with a name that resolves to it (DNS
//! rebinding), read the answers. So a server on loopback accepts only loopback names, and no server accepts
//! requests of unknown pages.

use super::head::{Head, Single};
use super::resource::Resource;
use hyper::header::HeaderValue;
use std::net::IpAddr;

/// A site.
#[derive(Clone, Debug)]
pub struct Site {
    /// The path with MCP; `None` if there are only health checks.
    pub path: Option<String>,
    /// It serves metrics for Prometheus.
    pub metrics: bool,
    /// The port that it listens on.
    pub port: u16,
    /// It can be reached from this machine only.
    pub loopback: bool,
    /// It speaks TLS.
    pub tls: bool,
    /// Origins of web pages that may send requests.
    pub allowed_origins: Vec<String>,
    /// The origin by which clients reach it, for example through a proxy:
    /// `https://mcp.example.com`, without a path.
    pub public_origin: Option<String>,
    /// The metadata for clients that get their token elsewhere.
    pub resource: Option<Resource>,
}

/// Why a request is not for this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SiteError {
    /// There is no `Host`, or more than one.
    NoHost,
    /// It is for another host.
    ForeignHost,
    /// It comes from a web page that is not allowed.
    ForeignOrigin,
}

impl Site {
    /// Checks the host and the origin of a request. Returns the origin of the web page, if an allowed one
    /// sent it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(
        &self,
        head: &Head<'_>,
        is_http_10: bool,
    ) -> Result<Option<HeaderValue>, SiteError> {
        match head.host {
            Single::Absent if is_http_10 => {}
            Single::Once(host) => {
                let host = host.to_str().map_err(|_| SiteError::ForeignHost)?;
                if self.loopback && !self.is_own(host) {
                    return Err(SiteError::ForeignHost);
                }
            }
            Single::Absent | Single::Repeated => return Err(SiteError::NoHost),
        }
        match head.origin {
            Single::Absent => Ok(None),
            Single::Once(origin) if self.allows(origin) => Ok(Some(origin.clone())),
            Single::Once(_) | Single::Repeated => Err(SiteError::ForeignOrigin),
        }
    }

    /// True for the path with MCP, with or without a slash at its end: many people write one, and clients follow no
    /// redirect with a POST.
    #[must_use]
    pub fn has_mcp_at(&self, path: &str) -> bool {
        self.path.as_deref().is_some_and(|own| {
            own == path
                || own.strip_suffix('/') == Some(path)
                || path.strip_suffix('/') == Some(own)
        })
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        let scheme = if self.tls { "https://" } else { "http://" };
        let own = || {
            let authority = origin.strip_prefix(scheme)?;
            let default = if self.tls { 443 } else { 80 };
            let (name, port) = split(authority)?;
            let port = match port {
                Some(port) => port.parse().ok()?,
                None => default,
            };
            Some(is_loopback(name) && port == self.port)
        };
        self.allowed_origins.iter().any(|known| known == origin)
            || self.public_origin.as_deref() == Some(origin)
            || (self.loopback && own().unwrap_or(false))
    }

    /// True for a `Host` that is valid for a server on loopback. Any port, because it may be
    /// forwarded.
    fn is_own(&self, host: &str) -> bool {
        let Some((name, _)) = split(host) else {
            return false;
        };
        let public = self.public_origin.as_deref();
        let public = public
            .and_then(|origin| origin.split_once("://"))
            .and_then(|(_, authority)| split(authority));
        is_loopback(name) || public.is_some_and(|(public, _)| public.eq_ignore_ascii_case(name))
    }
}

/// Name and port of `name:port`; `None` if the port is not made of digits.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    let after_name = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after_name..].rfind(':') else {
        return Some((authority, None));
    };
    let at = after_name + colon;
    let port = &authority[at + 1..];
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port.then_some((&authority[..at], Some(port)))
}

fn is_loopback(name: &str) -> bool {
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let address: Option<IpAddr> = bare.unwrap_or(name).parse().ok();
    name.eq_ignore_ascii_case("localhost")
        || address
            .is_some_and(|address| address.is_loopback() && address.is_ipv6() == bare.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HOST, HeaderMap, ORIGIN};

    fn site(loopback: bool) -> Site {
        Site {
            metrics: false,
            path: Some("/mcp".to_owned()),
            port: 8080,
            loopback,
            tls: false,
            allowed_origins: vec!["https://app.example.com".to_owned()],
            public_origin: Some("https://mcp.example.com".to_owned()),
            resource: None,
        }
    }

    fn admit(site: &Site, hosts: &[&str], origins: &[&str]) -> Result<bool, SiteError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        site.admit(&Head::read(&headers), false)
            .map(|origin| origin.is_some())
    }

    #[test]
    fn one_slash_at_the_end_of_the_path_makes_no_difference() {
        for (own, same, others) in [
            (
                "/mcp",
                &["/mcp", "/mcp/"][..],
                &["/", "/mcp//", "/mcpx", "/MCP", "/mcp/x", ""][..],
            ),
            ("/a/b/", &["/a/b/", "/a/b", "/a/b//"], &["/a", "/a/", "a/b"]),
            ("/", &["/"], &["/mcp", "/mcp/"]),
        ] {
            let site = Site {
                path: Some(own.to_owned()),
                ..site(true)
            };
            for path in same {
                assert!(site.has_mcp_at(path), "{own} {path}");
            }
            for path in others {
                assert!(!site.has_mcp_at(path), "{own} {path}");
            }
        }
        let health = Site {
            path: None,
            ..site(true)
        };
        assert!(!health.has_mcp_at("/") && !health.has_mcp_at(""));
    }

    #[test]
    fn hosts_of_a_server_on_loopback() {
        let (own, open) = (site(true), site(false));
        for host in [
            "localhost:8080",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.8.8.8",
            "[::1]:8080",
            "[::1]",
            "mcp.example.com",
            "MCP.example.com:443",
        ] {
            assert_eq!(admit(&own, &[host], &[]), Ok(false), "{host}");
        }
        for host in [
            "evil.example.com",
            "localhost.evil.com:8080",
            "127.0.0.1.nip.io",
            "::1",
            "[127.0.0.1]",
            "192.0.2.1",
            "",
            "app.example.com",
            "[::1].evil.com",
            "localhost@evil.com",
            "localhost:evil.com",
            "localhost:+8080",
            "localhost:",
            "[::1]:x",
        ] {
            assert_eq!(
                admit(&own, &[host], &[]),
                Err(SiteError::ForeignHost),
                "{host}"
            );
            assert_eq!(admit(&open, &[host], &[]), Ok(false), "{host}");
        }
        for hosts in [&[][..], &["localhost", "localhost"], &["localhost", "evil"]] {
            assert_eq!(admit(&own, hosts, &[]), Err(SiteError::NoHost), "{hosts:?}");
            assert_eq!(
                admit(&open, hosts, &[]),
                Err(SiteError::NoHost),
                "{hosts:?}"
            );
        }
        assert!(own.admit(&Head::read(&HeaderMap::new()), true).is_ok());
    }

    #[test]
    fn origins_that_may_ask() {
        let (own, open) = (site(true), site(false));
        for origin in [
            "http://localhost:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
        ] {
            assert_eq!(admit(&own, &["localhost"], &[origin]), Ok(true), "{origin}");
            assert_eq!(
                admit(&open, &["localhost"], &[origin]),
                Err(SiteError::ForeignOrigin),
                "{origin}"
            );
        }
        for origin in ["https://app.example.com", "https://mcp.example.com"] {
            assert_eq!(admit(&own, &["localhost"], &[origin]), Ok(true), "{origin}");
            assert_eq!(
                admit(&open, &["localhost"], &[origin]),
                Ok(true),
                "{origin}"
            );
        }
        for origins in [
            &["http://localhost:8081"][..],
            &["http://localhost:+8080"],
            &["http://[::1]:+8080"],
            &["http://localhost:"],
            &["https://localhost:8080"],
            &["http://localhost"],
            &["null"],
            &[""],
            &["http://app.example.com"],
            &["https://app.example.com", "https://app.example.com"],
            &["https://app.example.com.evil.com"],
        ] {
            assert_eq!(
                admit(&own, &["localhost"], origins),
                Err(SiteError::ForeignOrigin),
                "{origins:?}"
            );
        }
    }
}
