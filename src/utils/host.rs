//! Hosts as people write them: a name, or an address, which may stand in brackets as it does in a URL.

use std::net::Ipv6Addr;

/// A host without the brackets around an IPv6 address.
///
/// # Errors
/// What is wrong with it, with the remedy.
pub fn parse(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return Err("it is a URL; give the name or the address alone".to_owned());
    }
    let Some(rest) = text.strip_prefix('[') else {
        let port = text.rsplit_once(':').map(|(name, _)| name);
        return match port {
            Some(name) if !name.contains(':') => {
                Err("it has a port, which belongs in --port".to_owned())
            }
            _ => Ok(text.to_owned()),
        };
    };
    let (address, port) = rest.split_once(']').ok_or("the ']' is missing")?;
    if !port.is_empty() {
        return Err("it has a port, which belongs in --port".to_owned());
    }
    // The name of an interface may stand behind a link-local address.
    let (number, _) = address.split_once('%').unwrap_or((address, ""));
    if number.parse::<Ipv6Addr>().is_err() {
        return Err("only IPv6 addresses stand in brackets".to_owned());
    }
    Ok(address.to_owned())
}

/// Host and port for people and for URLs: an IPv6 address gets its brackets.
#[must_use]
pub fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_those_of_a_url() {
        for (text, host) in [
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
            ("127.0.0.1", "127.0.0.1"),
            ("mcp.example.com", "mcp.example.com"),
            ("", ""),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(host), "{text}");
        }
        for (text, says) in [
            ("[::1", "']'"),
            ("[::1]:80", "--port"),
            ("localhost:80", "--port"),
            ("[localhost]", "IPv6"),
            ("[127.0.0.1]", "IPv6"),
            ("ws://localhost", "URL"),
        ] {
            let err = parse(text).unwrap_err();
            assert!(err.contains(says), "{text}: {err}");
        }
    }

    #[test]
    fn with_a_port_only_ipv6_gets_brackets() {
        for (host, text) in [
            ("::1", "[::1]:80"),
            ("fe80::1%eth0", "[fe80::1%eth0]:80"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("localhost", "localhost:80"),
        ] {
            assert_eq!(with_port(host, 80), text);
        }
    }
}
