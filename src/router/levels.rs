//! Log levels, which each peer of a shared legacy child sets for itself (2025-11-25
//! server/utilities/logging).

use crate::jsonrpc::{Field, Message};

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

/// Why a `logging/setLevel` is refused.
pub(super) const UNKNOWN: &str =
    "level must be one of debug, info, notice, warning, error, critical, alert, emergency";

impl Level {
    /// The level of a `logging/setLevel`; `None` if MCP has no such level.
    pub(super) fn asked(message: &Message) -> Option<Self> {
        Self::parse(&message.text(Field::Level)?)
    }

    /// The level of a peer that never set one, once another has: it must not get the other's debug
    /// lines.
    pub(super) const UNASKED: Self = Self(1);

    pub(super) fn parse(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or("emergency")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_all_levels() {
        let (_, named) = UNKNOWN.split_once("one of ").unwrap();
        assert!(named.split(", ").eq(NAMES));
    }
}
