//! Revisions of MCP, as far as the router needs to know them.

/// The revision without a handshake that the router requests from every server.
pub(super) const MODERN: &str = "2026-07-28";

/// A revision with an `initialize` handshake; the smaller, the older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Revision(usize);

const NAMES: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

impl Revision {
    /// The revision that the router requests from every server, so that what a server offers does
    /// not depend on which client came first.
    pub(super) const NEWEST: Self = Self(NAMES.len() - 1);

    pub(super) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or_default()
    }
}
