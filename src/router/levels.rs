//! Log levels, which each peer of a shared legacy child chooses for itself (2025-11-25
//! server/utilities/logging).

/// A syslog severity; the smaller, the more verbose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(usize);

const NAMES: [&str; 8] = [
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

impl Level {
    /// What a peer gets that never asked, once another has asked: not the other's debug lines.
    pub(super) const UNASKED: Self = Self(1);

    pub(super) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or("emergency")
    }
}
