//! Service managers that speak sd_notify, which do not exist on Windows.

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

    /// Does nothing.
    pub fn ready(&self) {}

    /// Does nothing.
    pub fn reloading(&self) {}

    /// Does nothing.
    pub fn stopping(&self) {}

    /// Does nothing.
    pub fn alive(&self) {}
}
