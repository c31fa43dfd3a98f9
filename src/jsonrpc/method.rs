//! The name of what is asked or told.

use crate::mcp;

/// A method's name, escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MethodName {
    /// One of MCP's.
    Mcp(mcp::Method),
    Other(Box<str>),
}

impl Default for MethodName {
    /// That of a response, which has none.
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl MethodName {
    #[inline(always)]
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Mcp(method) => method.name(),
            Self::Other(name) => name,
        }
    }
}
