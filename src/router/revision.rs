//! Revisions of MCP, by what the router has to know of them.

/// The revision without a handshake that the router asks every server for.
pub(super) const MODERN: &str = "2026-07-28";

/// A revision with an `initialize` handshake; the smaller, the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision(usize);

const NAMES: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

impl Revision {
    /// What the router asks every server for, so that what a server offers does not depend on who
    /// came first.
    pub(super) const NEWEST: Self = Self(NAMES.len() - 1);

    pub(super) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or_default()
    }
}
