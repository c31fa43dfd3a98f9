//! The settings of the HTTP client.

use super::place::Place;
use super::proxy::Proxy;
use crate::client::settings::Reconnect;
use crate::client::token::Tokens;
use crate::transport::tls::Connector;
use crate::utils::secret::Secret;
use std::time::Duration;

/// The server and how to authenticate.
#[derive(Debug)]
pub struct Settings {
    /// The URL.
    pub place: Place,
    /// TLS under HTTP; `None` for plain text.
    pub tls: Option<Connector>,
    /// The proxy to go through.
    pub proxy: Option<Proxy>,
    /// Headers of every request: valid names and values.
    pub headers: Vec<(String, Secret)>,
    /// The token of every request.
    pub tokens: Tokens,
    /// How long answers may take once the host has closed our stdin.
    pub answer_timeout: Duration,
    /// How to retry when the server cannot be reached; `None` for not at all.
    pub reconnect: Option<Reconnect>,
}

impl Settings {
    /// The proxy that passes requests on, where it does not only open a tunnel.
    pub(super) fn relay(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !self.place.tls)
    }
}
