//! Service managers that speak sd_notify: there are none on Windows, and nobody is told.

use std::time::Duration;

/// What one has set in our environment.
pub const VARIABLES: [&str; 0] = [];

/// A handle on the service manager.
#[derive(Clone, Debug, Default)]
pub struct Supervisor;

impl Supervisor {
    /// There is none.
    ///
    /// # Errors
    /// None.
    pub fn from_environment() -> std::io::Result<Self> {
        Ok(Self)
    }

    /// False.
    #[must_use]
    pub fn is_there(&self) -> bool {
        false
    }

    /// Never.
    #[must_use]
    pub fn pace(&self) -> Option<Duration> {
        None
    }

    /// Nobody is told.
    pub fn ready(&self) {}

    /// Nobody is told.
    pub fn reloading(&self) {}

    /// Nobody is told.
    pub fn stopping(&self) {}

    /// Nobody is told.
    pub fn alive(&self) {}
}
