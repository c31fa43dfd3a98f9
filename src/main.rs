//! The `mcp-remote` binary.
fn main() {}
