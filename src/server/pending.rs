//! Connections that are not authenticated yet, bounded in number, in total and for each address.
//!
//! When there are too many, the oldest silent one of the address that has the most is closed for the newest:
//! a client with a token shows it at once and stops being pending, so a flood of silent connections evicts only
//! itself, and one address does not evict the others.
//!
//! A connection that has sent its first byte is not evicted for others of its address within [`PROTECTED`]: when
//! thousands of clients reconnect at once, the next ones wait in the listen queue. The bound per address
//! counts only connections that have had time to speak, because an HTTP client opens many at once, and a
//! reverse proxy those of all its clients.

mod table;

use crate::account::{Address, Network};
use crate::utils::lock::lock;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use table::{Room, Signal, Table};
use tokio::sync::{Notify, oneshot};

/// All pending connections.
#[derive(Debug)]
pub(super) struct PendingConnections {
    table: Mutex<Table<oneshot::Sender<()>>>,
    left: Notify,
}

/// One pending connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct PendingConnection {
    number: u64,
    all: Arc<PendingConnections>,
    evicted: oneshot::Receiver<()>,
}

impl PendingConnections {
    pub(super) fn new(limit: usize, limit_per_address: usize) -> Self {
        Self {
            table: Mutex::new(Table::new(limit, limit_per_address)),
            left: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table<oneshot::Sender<()>>> {
        lock(&self.table)
    }

    /// Admits a new connection, evicting others if it must. Waits for at most [`PROTECTED`] while all of them are
    /// protected. The connection does not count for its address until `grace` has passed. Cancel safe.
    pub(super) async fn enter(
        self: &Arc<Self>,
        address: Address,
        grace: Duration,
    ) -> PendingConnection {
        let network = Network::of(address);
        loop {
            let full_until = match self.try_enter(network, grace) {
                Ok(entered) => return entered,
                Err(full_until) => full_until,
            };
            let later = tokio::time::sleep_until(full_until.into());
            tokio::select! {
                () = later => {}
                () = self.left.notified() => {}
            }
        }
    }

    /// Fails with when to try again at the latest.
    fn try_enter(
        self: &Arc<Self>,
        network: Network,
        grace: Duration,
    ) -> Result<PendingConnection, Instant> {
        let mut table = self.lock();
        let now = Instant::now();
        loop {
            match table.room(network, now) {
                Room::Free => break,
                Room::Evict(number) => table.evict(number),
                Room::FullUntil(later) => return Err(later),
            }
        }
        let (sender, evicted) = oneshot::channel();
        let number = table.insert(network, sender, now + grace);
        Ok(PendingConnection {
            number,
            all: Arc::clone(self),
            evicted,
        })
    }

    /// Evicts the oldest of all, to get its file descriptor.
    pub(super) fn evict_oldest(&self) {
        self.lock().evict_oldest();
    }
}

impl PendingConnection {
    /// All pending connections, for one that becomes pending once more.
    pub(super) fn all(&self) -> Arc<PendingConnections> {
        Arc::clone(&self.all)
    }

    pub(super) fn spot(&self) -> Spot {
        Spot {
            number: self.number,
            all: Arc::clone(&self.all),
        }
    }

    /// Completes when this connection is evicted. Cancel safe.
    pub(super) async fn evicted(&mut self) {
        if (&mut self.evicted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The position of a pending connection in the table.
#[derive(Debug)]
pub(super) struct Spot {
    number: u64,
    all: Arc<PendingConnections>,
}

impl Spot {
    /// Its first byte has arrived.
    pub(super) fn on_first_byte(&self) {
        self.all.lock().on_first_byte(self.number, Instant::now());
    }

    /// Counts the connection for the client behind a proxy, for which another one of that address may be
    /// evicted.
    pub(super) fn is_of(&self, address: Address) {
        let mut table = self.all.lock();
        table.moves(self.number, Network::of(address), Instant::now());
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.all.lock().remove(self.number);
        self.all.left.notify_one();
    }
}

impl Signal for oneshot::Sender<()> {
    fn go(self) {
        // A connection that has been admitted meanwhile no longer listens.
        let _admitted = self.send(());
    }
}
