//! Puts any stdio MCP server on the network.
