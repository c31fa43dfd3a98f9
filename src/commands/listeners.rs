//! Opens the listeners of `server`, and announces them.

use super::{Failure, print};
use crate::cli::Listen;
use crate::server::{ListenerKind, Listening};
use crate::system::inherited::Sockets;
use crate::system::local::Listener;
use crate::transport::tcp::Listeners;
use crate::utils::host::with_port;
use std::io;

/// Where to listen.
pub(super) struct ListenPlan {
    pub kind: ListenerKind,
    pub host: Option<String>,
    pub port: u16,
    /// Those of `--listen`, `--health` and `--metrics`.
    pub further: Vec<Listen>,
    /// Sockets that listen already, in place of the first.
    pub inherited: Sockets,
}

/// Uses listening sockets that our parent process has opened.
fn inherit(sockets: Sockets, kind: ListenerKind) -> io::Result<Vec<Listening>> {
    let tcp = sockets.tcp.into_iter().map(Listeners::inherited);
    let tcp = tcp.map(|opened| Ok(Listening::Port(kind, opened?)));
    let local = sockets.local.into_iter().map(Listener::inherited);
    tcp.chain(local.map(|opened| Ok(Listening::Unix(opened?))))
        .collect()
}

impl ListenPlan {
    /// Opens all of them; `loopback` is for a port without a host.
    pub(super) async fn open(self, loopback: bool) -> Result<Vec<Listening>, Failure> {
        let Self {
            kind,
            host,
            port,
            further,
            inherited,
        } = self;
        let mut all = inherit(inherited, kind)?;
        if all.is_empty() {
            all.push(Listening::Port(kind, bind(host, port, loopback).await?));
        }
        for place in &further {
            let opened = open(place)
                .await
                .map_err(|err| failure(&place.to_string(), err, in_use(place)))?;
            all.push(opened);
        }
        Ok(all)
    }
}

/// What to do where something listens at this place already.
fn in_use(place: &Listen) -> &'static str {
    match place {
        Listen::Port {
            kind: ListenerKind::Health,
            ..
        } => "choose another --health, or stop what listens there",
        Listen::Port {
            kind: ListenerKind::Metrics,
            ..
        } => "choose another --metrics, or stop what listens there",
        _ => "choose another --listen, or stop what listens there",
    }
}

async fn bind(host: Option<String>, port: u16, loopback: bool) -> Result<Listeners, Failure> {
    let listeners = Listeners::bind(host.as_deref(), port, loopback).await;
    listeners.map_err(|err| {
        let place = match host {
            Some(host) => with_port(&host, port),
            None => format!("port {port}"),
        };
        let in_use = "choose another --port or --host, or stop what listens there";
        failure(&place, err, in_use)
    })
}

async fn open(place: &Listen) -> io::Result<Listening> {
    Ok(match place {
        Listen::Port { kind, host, port } => {
            Listening::Port(*kind, Listeners::bind(Some(host), *port, true).await?)
        }
        Listen::Unix(path) => Listening::Unix(Listener::bind(path)?),
    })
}

/// `in_use` is the remedy where something listens there already.
fn failure(place: &str, err: io::Error, in_use: &'static str) -> Failure {
    let remedy = match err.kind() {
        io::ErrorKind::AddrInUse => in_use,
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose one of its own, or 0.0.0.0 for all"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not listen there; a port from 1024 on needs no privilege"
        }
        _ => "is the name or the path right, and can this machine use it?",
    };
    Failure::caused(format!("could not listen on {place}"), err).with_remedy(Some(remedy))
}

/// Prints the open listeners to stdout, one per line.
pub(super) fn announce(listeners: &[Listening]) -> Result<(), Failure> {
    for listening in listeners {
        let line = match listening {
            Listening::Port(kind, listeners) => {
                let port = listeners.port()?;
                format!("MCP Remote {kind} server listening on port {port}\n")
            }
            Listening::Unix(listener) => {
                let path = listener.path().display();
                format!("MCP Remote Unix server listening on {path}\n")
            }
        };
        print(&line)?;
    }
    Ok(())
}
