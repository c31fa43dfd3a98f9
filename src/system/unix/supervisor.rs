//! The service manager that has started us, where it is one that speaks sd_notify(3): it is told when we are
//! ready, alive, reloading and stopping.

use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

/// What it has set in our environment, and what our own children must not take for theirs.
pub const VARIABLES: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
];

/// A handle on the service manager; the default one does nothing. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    socket: Option<Arc<(UnixDatagram, SocketAddr)>>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names, if it names one.
    ///
    /// # Errors
    /// It names one in a form that is not known, or the system gives us no socket.
    pub fn from_environment() -> std::io::Result<Self> {
        let variable = |name| std::env::var(name).ok();
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let socket = UnixDatagram::unbound()?;
        // It is never waited for.
        socket.set_nonblocking(true)?;
        let own = std::process::id().to_string();
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == own);
        let watchdog = variable("WATCHDOG_USEC").filter(|_| is_ours);
        let watchdog = watchdog.and_then(|micros| micros.parse().ok());
        Ok(Self {
            socket: Some(Arc::new((socket, address(&name)?))),
            watchdog: watchdog.map(Duration::from_micros),
        })
    }

    /// True if there is a service manager.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How often it wants to hear that we are alive: twice within the time after which it ends us.
    #[must_use]
    pub fn pace(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// We serve, and the MCP server answers; or all files have been read again.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// Files are being read again.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// We end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    /// We are alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(err) = socket.0.send_to_addr(text.as_bytes(), &socket.1) {
            tracing::debug!(%err, "could not tell the service manager");
        }
    }
}

#[cfg(target_os = "linux")]
fn address(name: &str) -> std::io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(not(target_os = "linux"))]
fn address(name: &str) -> std::io::Result<SocketAddr> {
    SocketAddr::from_pathname(name)
}
