//! Version 2 of the PROXY protocol: what a proxy sends ahead of the bytes of a TCP client, to name the
//! client's address. See <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Its signature, which no other protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The signature of version 1.
const VERSION_1: &[u8] = b"PROXY ";

/// The most that may follow the fixed part, in bytes: addresses, and what else the proxy tells.
const MAX_REST: usize = 2048;

/// Why the client is not known.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// The connection has ended before.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("it does not begin with a PROXY header (send-proxy-v2)")]
    Missing,
    /// It is in version 1.
    #[error("its PROXY header is of version 1, and version 2 is needed (send-proxy-v2)")]
    Version1,
    /// It breaks the rules.
    #[error("its PROXY header is not valid")]
    Invalid,
}

/// Reads the header and nothing after it; returns the client's address, or `None` if the connection is the
/// proxy's own, as in health checks. The caller limits the time. Not cancel safe.
///
/// # Errors
/// There is no valid header.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed[..1]).await?;
    for at in 1..fixed.len() {
        // Compared as it arrives, so that we do not wait for peers that speak another protocol.
        if !begins_well(&fixed[..at]) {
            return Err(ProxyHeaderError::Missing);
        }
        stream.read_exact(&mut fixed[at..=at]).await?;
        if fixed[..at].starts_with(VERSION_1) {
            return Err(ProxyHeaderError::Version1);
        }
    }
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if rest > MAX_REST {
        return Err(ProxyHeaderError::Invalid);
    }
    let mut bytes = vec![0; rest];
    stream.read_exact(&mut bytes).await?;
    parse(fixed[12], fixed[13], &bytes)
}

fn begins_well(bytes: &[u8]) -> bool {
    let begins = |whole: &[u8]| {
        let length = bytes.len().min(whole.len());
        bytes[..length] == whole[..length]
    };
    begins(&SIGNATURE) || begins(VERSION_1)
}

fn parse(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    match command {
        // The proxy's own connection.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(ProxyHeaderError::Invalid),
    }
    // The address and the port of the client; between them stands those of the proxy.
    let (address, port): (IpAddr, _) = match family {
        0x11 => {
            let bytes = rest.get(..12).ok_or(ProxyHeaderError::Invalid)?;
            (
                Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
                &bytes[8..10],
            )
        }
        0x21 => {
            let bytes = rest.get(..36).ok_or(ProxyHeaderError::Invalid)?;
            let mut address = [0; 16];
            address.copy_from_slice(&bytes[..16]);
            (Ipv6Addr::from(address).to_canonical(), &bytes[32..34])
        }
        // Of a kind that has no address here, a Unix socket say.
        _ => return Ok(None),
    };
    Ok(Some(SocketAddr::new(
        address,
        u16::from_be_bytes([port[0], port[1]]),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// Its contents, and the rest of the input.
    async fn read_all(bytes: &[u8]) -> (Result<Option<String>, String>, usize) {
        let mut left = bytes;
        let outcome = read(&mut left).await;
        let outcome = outcome.map(|address| address.map(|address| address.to_string()));
        (outcome.map_err(|err| err.to_string()), left.len())
    }

    #[tokio::test]
    async fn a_header_says_whose_the_bytes_are() {
        let v4 = [203, 0, 113, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 0x01]);
        v6[15] = 7;
        v6[32..34].copy_from_slice(&[0, 9]);
        let with_more = [&v4[..], &[0xEE, 0, 1, 5]].concat();
        for (bytes, expected) in [
            (header(0x21, 0x11, &v4), Some("203.0.113.7:4660")),
            (header(0x21, 0x11, &with_more), Some("203.0.113.7:4660")),
            (header(0x21, 0x21, &v6), Some("[2001::7]:9")),
            (header(0x21, 0x00, &[]), None),
            (header(0x21, 0x31, &[0; 216]), None),
            (header(0x20, 0x11, &v4), None),
        ] {
            let bytes = [&bytes[..], b"{}\n"].concat();
            let (found, left) = read_all(&bytes).await;
            assert_eq!(found, Ok(expected.map(str::to_owned)));
            assert_eq!(left, 3);
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let v4 = [203, 0, 113, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 80];
        for (bytes, says) in [
            (b"{\"jsonrpc\":\"2.0\"}\n".to_vec(), "does not begin"),
            (b"\r\n\r\nGET / HTTP".to_vec(), "does not begin"),
            (
                b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n".to_vec(),
                "version 1",
            ),
            (b"PRI * HTTP/2.0\r\n\r\n".to_vec(), "does not begin"),
            (header(0x11, 0x11, &v4), "not valid"),
            (header(0x22, 0x11, &v4), "not valid"),
            (header(0x21, 0x11, &v4[..11]), "not valid"),
            (header(0x21, 0x21, &v4), "not valid"),
            (header(0x21, 0x11, &[0; MAX_REST + 1]), "not valid"),
            (SIGNATURE.to_vec(), "eof"),
            (Vec::new(), "eof"),
        ] {
            let (found, _) = read_all(&bytes).await;
            let why = found.unwrap_err();
            assert!(why.contains(says), "{bytes:?}: {why}");
        }
    }
}
