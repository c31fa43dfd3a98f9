//! MCP over HTTP, seen from outside. The tests name the rules of MCP's "Streamable HTTP" that they show:
//!
//! | rule | 2025-03-26 to 2025-11-25 (basic/transports) |
//! |---|---|
//! | L1 | one path answers POST and GET |
//! | L2, L3 | `Origin` is checked on every request; a foreign one is 403 |
//! | L4 | without a secret, loopback only: as on every transport, see `tcp.rs` |
//! | L5 | every request is authenticated |
//! | L6, L7 | a notification or an answer is 202 without a body, or an error; what the policy forbids is 202 and vanishes, as everywhere: at an error here clients on the Python SDK 1.x end their whole session |
//! | L8 | a request is answered with JSON or events |
//! | L9 | batches, of 2025-03-26 alone, are refused as everywhere |
//! | L10 | a stream begins with an event that only has an id (2025-11-25) |
//! | L11 | the server may end a connection early: it does not |
//! | L12, L13 | a stream holds what belongs to its request, then the answer, and ends |
//! | L14, L15 | a client that hangs up does not cancel |
//! | L16 | what is not offered is 405 |
//! | L17, L18 | the stream of GET holds what belongs to no request |
//! | L19 | each message goes to one stream |
//! | L20, L21 | ids of events are unique in their session, and tell their stream |
//! | L22, L23 | GET with `Last-Event-ID` goes on with that stream, and no other |
//! | L24 | the session's id comes with the answer to `initialize` |
//! | L25, L26 | no id is 400, one of no session is 404; one of before a restart may go on (`revival.rs`) |
//! | L27 | DELETE ends the session |
//! | L28, L29 | a bad `MCP-Protocol-Version` is 400, none is taken for an old one |
//! | L30 | names of headers have no case |
//! | L31 | an id is no authentication: sessions are their owners' |
//!
//! | rule | 2026-07-28 (basic/transports/streamable-http) |
//! |---|---|
//! | N1, N6 | a request is a POST, answered with JSON or events |
//! | N2, N3 | as L2 to L5 |
//! | N4, N5 | an answer of a client is refused, a notification is 202 |
//! | N7, N8 | a stream holds the notifications of its request, no requests, then the answer |
//! | N9, N10 | streams ask not to be buffered, and have comments (`expect_stream`) |
//! | N11 | events have no ids |
//! | N12 | a client that hangs up cancels |
//! | N13, N14 | the version in header and message agree, and there is such a version |
//! | N15 | a method that there is not is 404 |
//! | N16 | what has no version is taken for an older revision, which needs a session |
//! | N17 to N19 | `Mcp-Method` and `Mcp-Name` agree with the message, in base64 too |
//! | N20 to N22 | `Mcp-Param-*` agrees with the arguments that a tool's schema names, numbers by their value (`src/http/parameters.rs`, `mirrors.rs`, `tests/conformance`), others are passed over |
//! | N23 to N25 | errors about `_meta` and capabilities are 400, with the request's id |
//! | N26 | `server/discover` is answered |
//! | N27, N29, N31 | what the MCP server says passes as it is |
//! | N28 | GET and DELETE are 405, a session's id is passed over |
//! | N30 | both eras share the path |
//! | N32, N33 | see N13; codes of the reserved range are MCP's own |
//! | N34 | nothing is inferred from an earlier request |

mod hostile;
mod listeners;
mod mirrors;
mod oauth;
mod revival;
mod secure;
mod sessions;
mod stateless;
mod tokens;
