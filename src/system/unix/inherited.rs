//! Listening sockets that were inherited from our parent process (sd_listen_fds(3)).

use listenfd::ListenFd;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

/// The sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Those with a port.
    pub tcp: Vec<TcpListener>,
    /// Those in the file system.
    pub local: Vec<UnixListener>,
}

impl Sockets {
    /// Takes all that there are. To be called before there is a second thread, since it changes the environment.
    ///
    /// # Errors
    /// The last of them is no stream socket.
    pub fn take() -> io::Result<Self> {
        let mut handed = ListenFd::from_env();
        let mut sockets = Self::default();
        for at in 0..handed.len() {
            if let Ok(Some(listener)) = handed.take_tcp_listener(at) {
                sockets.tcp.push(listener);
            } else {
                sockets.local.extend(handed.take_unix_listener(at)?);
            }
        }
        Ok(sockets)
    }
}
