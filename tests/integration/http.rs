//! MCP over HTTP, seen from outside. The tests name the rules of MCP's "Streamable HTTP" that they cover:
//!
//! | rule | 2025-03-26 to 2025-11-25 (basic/transports) |
//! |---|---|
//! | L1 | one path answers POST and GET |
//! | L2, L3 | `Origin` is checked on every request; a foreign one is 403 |
//! | L4 | without a secret, loopback only: as on every transport, see `tcp.rs` |
//! | L5 | every request is authenticated |
//! | L6, L7 | a notification or a response gets 202 without a body, or an error; what the policy forbids gets 202 and is dropped, as everywhere: an error here makes clients on the Python SDK 1.x end their whole session |
//! | L8 | a request gets JSON or events |
//! | L9 | batches, of 2025-03-26 alone, are refused as everywhere |
//! | L10 | a stream begins with an event that only has an id (2025-11-25) |
//! | L11 | the server may close a connection early: it does not |
//! | L12, L13 | a stream holds what belongs to its request, then the response, and ends |
//! | L14, L15 | a client that disconnects does not cancel |
//! | L16 | what is not supported is 405 |
//! | L17, L18 | the stream of GET holds what belongs to no request |
//! | L19 | each message goes to one stream |
//! | L20, L21 | event ids are unique in their session, and identify their stream |
//! | L22, L23 | GET with `Last-Event-ID` resumes that stream, and no other |
//! | L24 | the session id comes with the response to `initialize` |
//! | L25, L26 | no id is 400, an unknown one is 404; one from before a restart may be revived (`revival.rs`) |
//! | L28, L29 | a bad `MCP-Protocol-Version` is 400, none means an old one |
//! | L30 | header names are case-insensitive |
//! | L31 | an id is no authentication: sessions belong to their owners |
//!
//! | rule | 2026-07-28 (basic/transports) |
//! |---|---|
//! | N1, N6 | a request is a POST, and gets JSON or events |
//! | N2, N3 | as L2 to L5 |
//! | N4, N5 | a client's response is refused, a notification gets 202 |
//! | N7, N8 | a stream holds the notifications of its request, no requests, then the response |
//! | N9, N10 | streams ask not to be buffered, and contain comments (`expect_stream`) |
//! | N12 | a client that disconnects cancels |
//! | N13, N14 | the versions in header and message agree, and the version exists |
//! | N15 | an unknown method is 404 |
//! | N16 | a request without a version is taken for an older revision, which needs a session |
//! | N20 to N22 | `Mcp-Param-*` agrees with the arguments that a tool's schema names, numbers by value (`src/http/parameters.rs`, `mirrors.rs`, `tests/conformance`), others are ignored |
//! | N23 to N25 | errors about `_meta` and capabilities are 400, with the request's id |
//! | N26 | `server/discover` gets a response |
//! | N27, N29, N31 | the MCP server's messages pass unchanged |
//! | N28 | GET and DELETE are 405, a session id is ignored |
//! | N34 | nothing is inferred from an earlier request |

mod ends;
mod heads;
mod hostile;
mod listeners;
mod mirrors;
mod oauth;
mod questions;
mod revival;
mod secure;
mod sessions;
mod stateless;
mod tokens;
mod waiting;
