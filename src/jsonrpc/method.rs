//! The method of a request or notification.

use crate::mcp;

/// A method's name, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MethodName {
    /// One of MCP's.
    Mcp(mcp::Method),
    Other(Box<str>),
}

impl Default for MethodName {
    /// For a response, which has none.
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
