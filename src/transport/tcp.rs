//! Sockets: bind, accept, connect, and the options we want on each.

mod race;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Keepalive probes start after this much silence …
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// … and follow at this interval.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// A connection whose bytes are not acknowledged for this long is dead.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(45);

/// What an error says of a host name that cannot be resolved.
pub const NO_ADDRESS: &str = "has no address";

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Where a server listens; one port, one or two address families.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Binds `port` (0 for any free one) on `host`; without a host on all interfaces, or on
    /// loopback only.
    ///
    /// # Errors
    /// When no address can be bound.
    pub async fn bind(host: Option<&str>, port: u16, loopback: bool) -> io::Result<Self> {
        let addresses: Vec<SocketAddr> = match host {
            Some(host) => look_up(host, port).await?,
            None if loopback => vec![
                (Ipv4Addr::LOCALHOST, port).into(),
                (Ipv6Addr::LOCALHOST, port).into(),
            ],
            None => vec![
                (Ipv4Addr::UNSPECIFIED, port).into(),
                (Ipv6Addr::UNSPECIFIED, port).into(),
            ],
        };
        let mut listeners: Vec<TcpListener> = Vec::new();
        let mut failure =
            io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
        for mut address in addresses {
            if let Some(first) = listeners.first() {
                address.set_port(first.local_addr()?.port());
            }
            match listen(address) {
                Ok(listener) => listeners.push(listener),
                // A machine without IPv6 still serves IPv4.
                Err(err) if listeners.is_empty() || err.kind() == io::ErrorKind::AddrInUse => {
                    if !listeners.is_empty() {
                        return Err(err);
                    }
                    failure = err;
                    if failure.kind() == io::ErrorKind::AddrInUse {
                        break;
                    }
                }
                Err(err) => tracing::debug!(%address, %err, "not listening on this address"),
            }
        }
        if listeners.is_empty() {
            Err(failure)
        } else {
            Ok(Self(listeners))
        }
    }

    /// A listening socket that was inherited from our parent process.
    ///
    /// # Errors
    /// The system's error.
    pub fn inherited(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(vec![TcpListener::from_std(listener)?]))
    }

    /// The port, as the system gave it.
    ///
    /// # Errors
    /// The system's error.
    pub fn port(&self) -> io::Result<u16> {
        match self.0.first() {
            Some(listener) => Ok(listener.local_addr()?.port()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The addresses, with their port.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(|it| it.local_addr().ok())
    }

    /// True if other machines can reach the port.
    #[must_use]
    pub fn is_reachable_from_outside(&self) -> bool {
        self.0.iter().any(|listener| {
            listener
                .local_addr()
                .is_ok_and(|address| !address.ip().to_canonical().is_loopback())
        })
    }

    /// The next connection. Cancel safe.
    ///
    /// # Errors
    /// The system's error; the listener stays usable.
    pub fn poll_accept(
        &self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        for listener in &self.0 {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted);
            }
        }
        Poll::Pending
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // So that a restarted server gets its port back at once.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The addresses of `host`, in the system's order.
///
/// # Errors
/// That it [has none](NO_ADDRESS).
pub async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(err) => {
            let text = format!("'{host}' {NO_ADDRESS}: {err}");
            Err(io::Error::new(err.kind(), text))
        }
    }
}

/// Connects to `host`, to the first of its addresses that answers.
///
/// # Errors
/// What the last address said, or that the name has none.
pub async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    // Known without the system's resolver, which takes a thread (RFC 6761 section 6.3).
    let addresses = if host == "localhost" {
        vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]
    } else {
        race::interleave(look_up(host, port).await?)
    };
    let stream = race::connect(addresses).await?;
    tune(&stream);
    Ok(stream)
}

/// Sets what both ends want: no delay, and dead connections found.
pub fn tune(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    let outcome = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive));
    #[cfg(target_os = "linux")]
    let outcome = outcome.and_then(|()| socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    // The connection works without these options, only less well.
    if let Err(err) = outcome {
        tracing::debug!(%err, "could not set socket options");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn sockets_notice_dead_connections() {
        let listeners = Listeners::bind(Some("127.0.0.1"), 0, true).await.unwrap();
        let port = listeners.port().unwrap();
        let (near, far) = tokio::join!(
            connect("127.0.0.1", port),
            poll_fn(|context| listeners.poll_accept(context))
        );
        let (near, (far, _)) = (near.unwrap(), far.unwrap());
        tune(&far);
        for stream in [near, far] {
            assert!(stream.nodelay().unwrap());
            let socket = SockRef::from(&stream);
            assert!(socket.keepalive().unwrap());
            #[cfg(target_os = "linux")]
            {
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
                assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
                assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_EVERY);
            }
        }
    }
}
