//! Connects to a name that has several addresses, of which some may be dead (RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an address has to answer before the next one is tried beside it (RFC 8305, section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Orders addresses for [`connect`]: alternately of both families, IPv6 first, those of one family as
/// they came. A family that does not work from here then costs one delay and no more.
pub(super) fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (six, four): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six.into_iter(), four.into_iter());
    let mut ordered = Vec::with_capacity(six.len() + four.len());
    while six.len() + four.len() > 0 {
        ordered.extend(six.next());
        ordered.extend(four.next());
    }
    ordered
}

/// Connects to the first address that answers. Tries them in order, each when those before it have
/// failed or have not answered for [`ATTEMPT_DELAY`].
///
/// # Errors
/// What the last one said, when all have failed.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [address] = *addresses {
        return TcpStream::connect(address).await;
    }
    let mut waiting = addresses.into_iter();
    // Dropping it ends the attempts that are left.
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(err)) => failure = err,
                Err(panicked) => failure = panicked.into(),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
            else => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use socket2::{Domain, Socket, Type};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::time::Instant;

    const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn four(number: u8) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, number), 80).into()
    }

    fn six(number: u16) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number), 80).into()
    }

    #[test]
    fn families_alternate_and_ipv6_is_first() {
        assert_eq!(interleave([]), []);
        assert_eq!(interleave([four(1), four(2)]), [four(1), four(2)]);
        assert_eq!(
            interleave([four(1), four(2), four(3), six(1), six(2)]),
            [six(1), four(1), six(2), four(2), four(3)]
        );
        assert_eq!(
            interleave([six(1), six(2), six(3), four(1)]),
            [six(1), four(1), six(2), six(3)]
        );
    }

    proptest! {
        #[test]
        fn no_address_is_lost_and_each_family_keeps_its_order(
            families in prop::collection::vec(any::<bool>(), 0..20)
        ) {
            let addresses: Vec<SocketAddr> = (0..)
                .zip(&families)
                .map(|(number, is_six)| if *is_six { six(number) } else { four(number as u8) })
                .collect();
            let ordered = interleave(addresses.clone());
            for is_six in [false, true] {
                let of = |all: &[SocketAddr]| -> Vec<SocketAddr> {
                    all.iter().copied().filter(|one| one.is_ipv6() == is_six).collect()
                };
                prop_assert_eq!(of(&ordered), of(&addresses));
            }
            // While both families have addresses left, neither comes twice in a row.
            let pairs = families.iter().filter(|is_six| **is_six).count();
            let pairs = pairs.min(families.len() - pairs);
            let alternates = ordered[..2 * pairs].chunks(2).all(|pair| pair[0].is_ipv6() && pair[1].is_ipv4());
            prop_assert!(alternates);
        }
    }

    /// A listener that accepts no connection: its queue is full. Returned with the connections that fill it.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&LOCAL.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _in_progress = socket.connect(&address);
            sockets.push(socket);
        }
        (address.as_socket().unwrap(), sockets)
    }

    /// An address without a listener.
    fn refused() -> SocketAddr {
        TcpListener::bind(LOCAL).unwrap().local_addr().unwrap()
    }

    /// Whether a connection to this address alone fails.
    async fn is_silent(address: SocketAddr) -> bool {
        let attempt = TcpStream::connect(address);
        tokio::time::timeout(2 * ATTEMPT_DELAY, attempt)
            .await
            .is_err()
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_costs_one_delay() {
        let ((first, _kept), (second, _too)) = (silent(), silent());
        assert!(is_silent(first).await && is_silent(second).await);
        let good = TcpListener::bind(LOCAL).unwrap();
        let address = good.local_addr().unwrap();
        for (addresses, delays) in [
            (vec![first, address], 1),
            (vec![first, second, address], 2),
            (vec![first, refused(), address], 1),
        ] {
            let began = Instant::now();
            let stream = connect(addresses).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            let took = began.elapsed();
            assert!(took >= delays * ATTEMPT_DELAY, "{took:?}");
            assert!(took < (delays + 8) * ATTEMPT_DELAY, "{took:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing_and_all_that_refuse_are_an_error() {
        let good = TcpListener::bind(LOCAL).unwrap();
        let address = good.local_addr().unwrap();
        let began = Instant::now();
        let stream = connect(vec![refused(), refused(), address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let failed = connect(vec![refused(), refused()]).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.is_err());
        assert!(began.elapsed() < 8 * ATTEMPT_DELAY, "{:?}", began.elapsed());
    }

    /// A slow address is not abandoned when the next one is tried.
    #[tokio::test]
    async fn an_earlier_address_may_still_answer() {
        let ((slow, sockets), (dead, _kept)) = (silent(), silent());
        sockets[0].set_nonblocking(true).unwrap();
        let make_room = async {
            tokio::time::sleep(2 * ATTEMPT_DELAY).await;
            // The system retries what it could not queue.
            while sockets[0].accept().is_ok() {}
        };
        let (connected, ()) = tokio::join!(connect(vec![slow, dead]), make_room);
        assert_eq!(connected.unwrap().peer_addr().unwrap(), slow);
    }
}
