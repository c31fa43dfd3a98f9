//! MCP over HTTP, seen from outside. The names L1 to L31 and N1 to N34 are those of the rules of MCP's
//! "Streamable HTTP", as docs/http.md lists them.

mod client;
mod doors;
mod hostile;
mod sessions;
mod stateless;
