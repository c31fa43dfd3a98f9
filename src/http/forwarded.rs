//! The client behind a reverse proxy: `Forwarded` (RFC 7239) and `X-Forwarded-For`.
//!
//! Any client can send these headers, and each proxy only adds its own peer at the right. So they count only
//! if they come from a trusted proxy, and are read from the right, up to the first address that is not a
//! trusted proxy.

use crate::account::Address;
use crate::utils::cidr::Cidr;
use hyper::header::{FORWARDED, HeaderMap, HeaderName};
use std::net::{IpAddr, SocketAddr};

/// The header that nearly all proxies send.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The most hops that are looked at, from the right.
const MAX_HOPS: usize = 32;

/// The hops before the peer of a connection, from the headers of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The nearest first; `None` is one that hides its address.
    standard: Vec<Option<IpAddr>>,
    usual: Vec<Option<IpAddr>>,
}

impl Forwarded {
    /// Reads the headers of a request.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        let hops = |name: &HeaderName, address: fn(&str) -> Option<IpAddr>| {
            let lines = headers.get_all(name).iter().rev();
            let elements = lines.flat_map(|line| {
                // A value that is not text hides all its hops.
                let text = line.to_str().unwrap_or_default();
                text.rsplit(',').map(move |element| address(element.trim()))
            });
            elements.take(MAX_HOPS).collect()
        };
        Self {
            standard: hops(&FORWARDED, for_of_element),
            usual: hops(&X_FORWARDED_FOR, address_of),
        }
    }

    /// The client behind `peer`, if that is one of the `trusted` proxies. If the two headers differ, one of
    /// them is the client's own, so neither counts.
    #[must_use]
    pub fn client(&self, peer: Address, trusted: &[Cidr]) -> Address {
        let Address::Network(socket) = peer else {
            return peer;
        };
        let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
        if !is_trusted(socket.ip()) {
            return peer;
        }
        let walk = |hops: &[Option<IpAddr>]| {
            let mut nearest = socket.ip();
            for hop in hops {
                match hop {
                    Some(address) if is_trusted(*address) => nearest = *address,
                    Some(address) => return *address,
                    // It counts as the last known hop.
                    None => break,
                }
            }
            nearest
        };
        let client = match (&*self.standard, &*self.usual) {
            ([], []) => return peer,
            (hops, []) | ([], hops) => walk(hops),
            (standard, usual) => {
                let client = walk(standard);
                if client != walk(usual) {
                    return peer;
                }
                client
            }
        };
        if client == socket.ip() {
            peer
        } else {
            Address::Network(SocketAddr::new(client, 0))
        }
    }
}

/// The address of an element of `Forwarded`, such as `for="[2001:db8::1]:80";proto=https`.
fn for_of_element(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    let bare = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    address_of(bare.unwrap_or(value))
}

/// An address with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bare = text.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const PEER: &str = "127.0.0.1:5000";

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"].map(|range| range.parse().unwrap());
        let peer = Address::Network(peer.parse().unwrap());
        Forwarded::read(&headers).client(peer, &trusted).to_string()
    }

    #[test]
    fn the_first_from_the_right_that_is_no_proxy_counts() {
        let of = |value: &str| client(PEER, &[("x-forwarded-for", value)]);
        for (value, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("198.51.100.1, 203.0.113.7", "203.0.113.7"),
            (
                "198.51.100.1, 203.0.113.7, 10.0.0.1,10.0.0.2",
                "203.0.113.7",
            ),
            ("10.0.0.9, 10.0.0.1", "10.0.0.9"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            // A hidden client is identified by the proxy that has seen it.
            ("203.0.113.7, unknown", PEER),
            ("203.0.113.7, unknown, 10.0.0.1", "10.0.0.1"),
            ("", PEER),
            ("203.0.113.7,", PEER),
            ("127.0.0.1", PEER),
            ("\u{e9}", PEER),
        ] {
            assert_eq!(of(value), expected, "{value}");
        }
        let lines = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        assert_eq!(client(PEER, &lines), "203.0.113.7");
        let many = format!("203.0.113.7{}", ", 10.0.0.1".repeat(MAX_HOPS));
        assert_eq!(of(&many), "10.0.0.1");
    }

    #[test]
    fn the_standard_header_counts_as_the_usual_one() {
        let of = |value: &str| client(PEER, &[("forwarded", value)]);
        for (value, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("For=\"203.0.113.7:80\";proto=https", "203.0.113.7"),
            ("proto=http; for=\"[2001:db8::1]:80\"", "2001:db8::1"),
            (
                "for=198.51.100.1, for=203.0.113.7, for=10.0.0.1",
                "203.0.113.7",
            ),
            ("for=_hidden", PEER),
            ("for=203.0.113.7, by=10.0.0.1", PEER),
            ("203.0.113.7", PEER),
        ] {
            assert_eq!(of(value), expected, "{value}");
        }
    }

    #[test]
    fn who_is_not_trusted_speaks_for_nobody() {
        let lines = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(client("192.0.2.1:5000", &lines), "192.0.2.1:5000");
        assert_eq!(client("[::ffff:10.0.0.1]:5000", &lines), "203.0.113.7");
    }

    /// A proxy that sets one header passes on the client's own value of the other.
    #[test]
    fn two_headers_that_differ_count_for_nothing() {
        let both =
            |standard, usual| client(PEER, &[("forwarded", standard), ("x-forwarded-for", usual)]);
        assert_eq!(both("for=203.0.113.7", "203.0.113.7"), "203.0.113.7");
        assert_eq!(both("for=198.51.100.1", "203.0.113.7"), PEER);
        assert_eq!(both("for=10.0.0.1", "203.0.113.7"), PEER);
    }
}
