//! One connection to the server: TCP, a proxy between, TLS above, HTTP/1.1 over it.

use super::place::Place;
use super::proxy::Proxy;
use crate::client::settings::CONNECT_TIMEOUT;
use crate::transport::tls::{Connector, Plain};
use crate::transport::{BoxedStream, tcp};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// The longest response of a proxy to CONNECT, in bytes.
const MAX_TUNNEL_HEAD: usize = 16 * 1024;

/// The sender of requests, and the connection that has to be driven meanwhile.
pub(super) type Opened = (
    SendRequest<Full<Bytes>>,
    Connection<TokioIo<BoxedStream>, Full<Bytes>>,
);

/// Makes one attempt, within [`CONNECT_TIMEOUT`].
pub(super) async fn dial(
    place: &Place,
    tls: Option<&Connector>,
    proxy: Option<&Proxy>,
) -> io::Result<Opened> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open(place, tls, proxy)).await {
        Ok(opened) => opened,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no connection in time",
        )),
    }
}

async fn open(place: &Place, tls: Option<&Connector>, proxy: Option<&Proxy>) -> io::Result<Opened> {
    let stream = reach(place, proxy).await?;
    let stream: BoxedStream = match tls {
        None => Box::new(Plain::new(stream, Vec::new()).for_http()),
        Some(connector) => connector.connect(stream).await?,
    };
    http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        // The buffer may grow beyond its bound.
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)
}

/// A TCP connection that leads to the server.
async fn reach(place: &Place, proxy: Option<&Proxy>) -> io::Result<TcpStream> {
    let Some(proxy) = proxy else {
        return tcp::connect(&place.host, place.port).await;
    };
    let through = |err: io::Error| {
        let text = format!("the proxy {}:{}: {err}", proxy.host, proxy.port);
        io::Error::new(err.kind(), text)
    };
    let mut stream = tcp::connect(&proxy.host, proxy.port)
        .await
        .map_err(through)?;
    if place.tls {
        let address = place.address();
        let mut request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n");
        if let Some(credentials) = &proxy.credentials {
            request += &format!("Proxy-Authorization: {}\r\n", credentials.expose());
        }
        request += "\r\n";
        tunnel(&mut stream, &request).await.map_err(through)?;
    }
    Ok(stream)
}

/// Asks for a tunnel, and waits until there is one.
async fn tunnel(stream: &mut TcpStream, request: &str) -> io::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_TUNNEL_HEAD {
            return Err(io::Error::other("its answer to CONNECT is too long"));
        }
        // Byte by byte, so that nothing after the head is consumed.
        head.push(stream.read_u8().await?);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next()) {
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) if status.starts_with('2') => Ok(()),
        (Some("HTTP/1.1" | "HTTP/1.0"), Some(status)) => {
            let status: String = status
                .chars()
                .take(3)
                .filter(char::is_ascii_digit)
                .collect();
            Err(io::Error::other(format!(
                "it refuses the connection with HTTP {status}"
            )))
        }
        _ => Err(io::Error::other("it does not speak HTTP")),
    }
}
