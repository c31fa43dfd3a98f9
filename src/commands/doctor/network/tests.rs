//! Servers that do not answer. The clock is paused, and passes when nothing else happens.

use super::*;
use socket2::{Domain, Protocol, Socket, Type};
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddrV4};
use tokio::net::TcpListener;

#[track_caller]
fn assert_stops<T>(outcome: &Result<T, Stopped>, report: &Report, step: &str, says: [&str; 2]) {
    let (name, word, text) = report.last();
    assert!(outcome.is_err());
    assert_eq!((name, word), (step, "failed"), "{text}");
    for says in says {
        assert!(text.contains(says), "{says:?} is not in {text}");
    }
}

/// A server that accepts a connection, and says nothing.
fn silent() -> (BoxedStream, impl Sized) {
    let (near, far) = tokio::io::duplex(4096);
    (Box::new(near), far)
}

/// One that trusts an authority of its own.
fn connector() -> Connector {
    let authority = rcgen::generate_simple_self_signed(["mcp.example".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.cert.pem()).unwrap();
    Connector::load("mcp.example", ("--tls-ca", Some(file.path())), None).unwrap()
}

fn port() -> Port {
    Port {
        host: "mcp.example".to_owned(),
        number: 80,
        tls: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_knows_in_time() {
    let mut report = Report::new(true);
    let outcome = resolve("mcp.example", pending(), &mut report).await;
    let says = ["the address of 'mcp.example'", "name server"];
    assert_stops(&outcome, &report, "name", says);
}

/// A full queue of connections: the system ignores another one.
#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let full: Vec<Socket> = (0..8)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _in_progress = socket.connect(&address.into());
            socket
        })
        .collect();
    let mut report = Report::new(true);
    let outcome = connect(vec![address], &mut report).await;
    let says = ["no answer within 15 s", "A firewall"];
    assert_stops(&outcome, &report, "connect", says);
    drop(full);
}

#[tokio::test]
async fn a_port_without_an_answer_to_tls() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = connector();
    tokio::time::pause();
    let mut report = Report::new(true);
    let outcome = secure(stream, Some(&connector), &mut report).await;
    let says = ["does not answer", "is this a TLS port?"];
    assert_stops(&outcome, &report, "tls", says);
}

#[tokio::test(start_paused = true)]
async fn a_port_without_an_answer_to_an_upgrade() {
    let (stream, _far) = silent();
    let mut report = Report::new(true);
    let outcome = upgrade(stream, &port(), "/", &mut report).await;
    let says = ["does not answer", "is this a WebSocket port?"];
    assert_stops(&outcome, &report, "upgrade", says);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_an_answer_to_a_token() {
    let (stream, _far) = silent();
    let mut connection = Connection::over_stream(stream, MAX_SERVER_LINE);
    let token = Secret::from("a.b.c".to_owned());
    let mut report = Report::new(true);
    let outcome = authenticate(&mut connection, Some(&token), &mut report).await;
    let says = ["does not answer to it", "is it mcp-remote, with a secret"];
    assert_stops(&outcome, &report, "login", says);
}
