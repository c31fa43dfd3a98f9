//! The account that a bounded resource is charged to: a user, or an address if there is no user.

use crate::auth::Identity;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// In the network.
    Network(SocketAddr),
    /// On this machine, at the other end of a Unix socket.
    Unix,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A client behind a proxy, whose port is unknown.
            Self::Network(address) if address.port() == 0 => address.ip().fmt(f),
            Self::Network(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// The unit in which addresses are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// An address, or with IPv6 the first of a network.
    Ip(IpAddr),
    /// All peers on Unix sockets.
    Unix,
}

impl Network {
    /// The network that this address is counted in: a host with one IPv6 address can use the 2^64
    /// of its network.
    #[must_use]
    pub fn of(address: Address) -> Self {
        match address {
            Address::Network(address) => Self::Ip(network(address.ip())),
            Address::Unix => Self::Unix,
        }
    }
}

/// The account that a resource is charged to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Account {
    /// The user that the token names.
    User(String),
    /// The address or its network, if there is no token or it names no user.
    Network(Network),
}

impl Account {
    /// The account of a peer at this address.
    #[must_use]
    pub fn of(identity: &Identity, address: Address) -> Self {
        match &identity.user {
            Some(user) => Self::User(user.clone()),
            None => Self::Network(Network::of(address)),
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::V6(segments.into())
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn accounts_are_users_or_networks() {
        let of = |user: Option<&str>, address: &str| {
            let identity = Identity {
                user: user.map(str::to_owned),
                ..Identity::default()
            };
            let address = Address::Network(format!("{address}:1").parse().unwrap());
            Account::of(&identity, address)
        };
        assert_eq!(of(Some("x"), "192.0.2.1"), of(Some("x"), "192.0.2.2"));
        assert_ne!(of(Some("x"), "192.0.2.1"), of(Some("y"), "192.0.2.1"));
        assert_ne!(of(None, "192.0.2.1"), of(None, "192.0.2.2"));
        assert_eq!(of(None, "[2001:db8::1]"), of(None, "[2001:db8::2]"));
        assert_ne!(of(Some("192.0.2.1"), "192.0.2.1"), of(None, "192.0.2.1"));
    }
}
