//! Handles: Windows has no limit on them that a program meets.

use std::io;

/// Fewer descriptors than may be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The limit.
    pub limit: u64,
    /// How many may be needed.
    pub needed: u64,
}

/// There is no limit to raise.
pub fn raise() {}

/// There are always enough.
#[must_use]
pub fn shortfall(_sockets: u64, _children: u64) -> Option<Shortfall> {
    None
}

/// There is no reserve to fill up.
pub fn restore() -> bool {
    true
}

/// Runs `task`.
pub fn with_reserve<T>(task: impl FnOnce() -> T) -> T {
    task()
}

/// That this process may have no more descriptors.
#[must_use]
pub fn none_left() -> io::Error {
    io::ErrorKind::QuotaExceeded.into()
}

/// True where the system is short of memory: that passes.
#[must_use]
pub fn is_shortage(err: &io::Error) -> bool {
    err.kind() == io::ErrorKind::OutOfMemory
}
