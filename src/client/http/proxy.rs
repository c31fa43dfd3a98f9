//! The proxy for a server, from the usual environment variables.
//!
//! Pure: the values of the variables come in.

use super::place::Place;
use crate::utils::secret::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

/// An HTTP proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The value of `Proxy-Authorization`.
    pub credentials: Option<Secret>,
}

/// Finds the proxy for a place. `variable` gives the value of an environment variable.
///
/// # Errors
/// Which variable is invalid, and why.
pub fn choose(
    place: &Place,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let value = |names: &[&'static str]| {
        let set = names
            .iter()
            .filter_map(|name| Some((*name, variable(name)?)));
        set.into_iter().find(|(_, value)| !value.trim().is_empty())
    };
    let names: &[&str] = if place.tls {
        &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let Some((name, url)) = value(names) else {
        return Ok(None);
    };
    let exceptions = value(&["no_proxy", "NO_PROXY"]);
    if exceptions.is_some_and(|(_, list)| is_excepted(place, &list)) || is_loopback(&place.host) {
        return Ok(None);
    }
    let proxy = parse(url.trim());
    proxy
        .map(Some)
        .map_err(|why| format!("{name} is not of the form http://host:port: {why}"))
}

fn parse(url: &str) -> Result<Proxy, &'static str> {
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Err("only proxies that begin with http:// are supported"),
        None => url,
    };
    let rest = rest.trim_end_matches('/');
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let place = Place::parse(&format!("http://{rest}"))?;
    let credentials = user.map(|user| {
        let user = percent_decoded(user);
        Secret::from(format!("Basic {}", STANDARD.encode(user)))
    });
    Ok(Proxy {
        host: place.host,
        port: place.port,
        credentials,
    })
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = &after[2..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn is_loopback(host: &str) -> bool {
    let is_address = |address: IpAddr| address.to_canonical().is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_address)
}

/// True when `NO_PROXY` names the place: `*`, a domain and all below it, or an address; each with or
/// without a port.
fn is_excepted(place: &Place, list: &str) -> bool {
    list.split([',', ' ']).map(str::trim).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (&*entry, None),
        };
        if port.is_some_and(|port| port.parse() != Ok(place.port)) {
            return false;
        }
        let host = host.trim_matches(['[', ']']);
        let domain = host.trim_start_matches('*').trim_start_matches('.');
        if domain.is_empty() {
            return host == "*";
        }
        let above = place.host.strip_suffix(domain);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let place = Place::parse(url).unwrap();
        let variable = |name: &str| {
            let mut found = variables.iter().filter(|(known, _)| *known == name);
            found.next().map(|(_, value)| (*value).to_owned())
        };
        let proxy = choose(&place, variable)?;
        Ok(proxy.map(|proxy| format!("{}:{}", proxy.host, proxy.port)))
    }

    #[test]
    fn the_scheme_of_the_url_chooses_the_variable() {
        let both = [("HTTPS_PROXY", "http://s:1"), ("HTTP_PROXY", "http://p:2")];
        assert_eq!(chosen("https://a/", &both), Ok(Some("s:1".to_owned())));
        assert_eq!(chosen("http://a/", &both), Ok(Some("p:2".to_owned())));
        assert_eq!(chosen("http://a/", &both[..1]), Ok(None));
        assert_eq!(
            chosen("http://a/", &[("ALL_PROXY", "x:3/")]),
            Ok(Some("x:3".to_owned()))
        );
        assert_eq!(chosen("http://a/", &[("http_proxy", "")]), Ok(None));
        let lower = [("https_proxy", "http://l:1"), ("HTTPS_PROXY", "http://u:1")];
        assert_eq!(chosen("https://a/", &lower), Ok(Some("l:1".to_owned())));
        for wrong in ["socks5://a:1", "https://a:1", "http://", "http://a:x"] {
            let err = chosen("http://a/", &[("HTTP_PROXY", wrong)]).unwrap_err();
            assert!(err.starts_with("HTTP_PROXY is not"), "{err}");
        }
    }

    #[test]
    fn some_places_are_reached_without_a_proxy() {
        for (url, list, direct) in [
            ("http://a.example/", "", false),
            ("http://a.example/", "*", true),
            ("http://a.example/", "a.example", true),
            ("http://a.example/", "example", true),
            ("http://a.example/", ".example", true),
            ("http://a.example/", "*.example", true),
            ("http://a.example/", "b.example, A.EXAMPLE", true),
            ("http://a.example/", "ample", false),
            ("http://a.example:81/", "a.example:80", false),
            ("http://a.example:81/", "a.example:81", true),
            ("http://[2001:db8::1]/", "2001:db8::1", true),
            ("http://[2001:db8::1]/", "[2001:db8::1]:80", true),
            ("http://192.0.2.1/", "192.0.2.1", true),
            ("http://192.0.2.1/", "192.0.2.2", false),
            ("http://localhost/", "", true),
            ("http://127.0.0.9/", "", true),
            ("http://[::1]/", "", true),
        ] {
            let variables = [("HTTP_PROXY", "http://p:2"), ("NO_PROXY", list)];
            let is_direct = chosen(url, &variables) == Ok(None);
            assert_eq!(is_direct, direct, "{url} {list}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_not_shown() {
        let proxy = parse("http://us%65r:p%40ss@p:1/").unwrap();
        let shown = format!("{proxy:?}");
        let credentials = proxy.credentials.unwrap();
        assert_eq!(
            credentials.expose(),
            format!("Basic {}", STANDARD.encode("user:p@ss"))
        );
        assert!(!shown.contains("Basic"), "{shown}");
    }
}
