//! Inherited sockets, which do not exist on Windows.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;

/// The sockets, of which there are none.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Those with a port.
    pub tcp: Vec<TcpListener>,
    /// Those in the file system.
    pub local: Vec<Infallible>,
}

impl Sockets {
    /// # Errors
    /// None.
    pub fn take() -> io::Result<Self> {
        Ok(Self::default())
    }
}
