//! Networks as people write them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::net::IpAddr;
use std::str::FromStr;

/// The bits before an IPv4 address that is written as IPv6.
const MAPPED: u8 = 96;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// True for an address in this range. IPv4 addresses written as IPv6 are IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits));
                (base.to_bits() ^ address.to_bits()) & mask.unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits));
                (base.to_bits() ^ address.to_bits()) & mask.unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "an address or a network is needed, such as 10.0.0.1 or 10.0.0.0/8".to_owned();
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().map_err(|_| wrong())?,
        };
        if bits > most {
            return Err(format!("a network of this kind has at most {most} bits"));
        }
        // IPv4 addresses that are written as IPv6 are IPv4 here, too.
        let mapped = match base {
            IpAddr::V6(base) if bits >= MAPPED => base.to_ipv4_mapped(),
            _ => None,
        };
        let (base, bits) = match mapped {
            Some(base) => (IpAddr::V4(base), bits - MAPPED),
            None => (base, bits),
        };
        let range = Self { base, bits };
        let is_first = |bit: u32| match base {
            IpAddr::V4(base) => base.to_bits().checked_shl(bit).unwrap_or(0) == 0,
            IpAddr::V6(base) => base.to_bits().checked_shl(bit).unwrap_or(0) == 0,
        };
        if is_first(bits.into()) {
            Ok(range)
        } else {
            Err("there are bits behind the network's; write its first address".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "::1", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "::ffff:127.0.0.1", true),
            ("127.0.0.1/32", "127.0.0.2", false),
            ("10.1.2.128/25", "10.1.2.127", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "::1", true),
            ("::1", "::1", true),
            // Bug: these held no address.
            ("::ffff:127.0.0.1", "127.0.0.1", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.0.0.0", false),
        ] {
            let parsed: Cidr = range.parse().unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                holds,
                "{range} {address}"
            );
        }
        for bad in [
            "",
            "x",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/-1",
            "10.0.0.1/8",
            "10.0.0/8",
            "10.0.0.0/",
            "::ffff:10.0.0.1/104",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
