//! The yardstick over HTTP: each POST body is a line for the child, and the child's next line is the response.
//! One request at a time, so that responses can be matched without reading them.

use crate::pump::CHUNK;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use memchr::memchr;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Reads line by line.
struct Lines<R> {
    source: R,
    input: Vec<u8>,
    filled: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            input: vec![0; CHUNK],
            filled: 0,
        }
    }

    /// The next line, with its newline; `None` at EOF.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut searched = 0;
        loop {
            let unseen = &self.input[searched..self.filled];
            if let Some(at) = memchr(b'\n', unseen) {
                let end = searched + at + 1;
                let line = Bytes::copy_from_slice(&self.input[..end]);
                self.input.copy_within(end..self.filled, 0);
                self.filled -= end;
                return Ok(Some(line));
            }
            searched = self.filled;
            if self.filled == self.input.len() {
                self.input.resize(self.filled * 2, 0);
            }
            let read = self.source.read(&mut self.input[self.filled..]).await?;
            if read == 0 {
                return Ok(None);
            }
            self.filled += read;
        }
    }
}

/// Serves one connection.
pub async fn serve(stream: TcpStream, stdin: ChildStdin, stdout: ChildStdout) -> io::Result<()> {
    let child = Mutex::new((stdin, Lines::new(stdout)));
    let answer = service_fn(|request| exchange(&child, request));
    let connection = hyper::server::conn::http1::Builder::new();
    let served = connection.serve_connection(TokioIo::new(stream), answer);
    served.await.map_err(io::Error::other)
}

async fn exchange(
    child: &Mutex<(ChildStdin, Lines<ChildStdout>)>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (stdin, stdout) = &mut *child.lock().await;
    let mut body = request.into_body();
    // It ends with a newline.
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            stdin.write_all(&data).await?;
        }
    }
    let line = stdout.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut response = Response::new(Full::new(line));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(response)
}

/// Posts each line of stdin, and writes the responses to stdout.
pub async fn connect(
    stream: TcpStream,
    stdin: impl AsyncRead + Unpin,
    mut stdout: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = connection.await.map_err(io::Error::other)?;
    let mut lines = Lines::new(stdin);
    let carry = async {
        while let Some(line) = lines.next().await? {
            let mut request = Request::new(Full::new(line));
            *request.method_mut() = hyper::Method::POST;
            *request.uri_mut() = hyper::Uri::from_static("/mcp");
            let headers = request.headers_mut();
            headers.insert(HOST, HeaderValue::from_static("localhost"));
            headers.insert(CONTENT_TYPE, JSON);
            let response = sender.send_request(request);
            let mut body = response.await.map_err(io::Error::other)?.into_body();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                    stdout.write_all(&data).await?;
                }
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = connection => ended.map_err(io::Error::other),
        ended = carry => ended,
    }
}
