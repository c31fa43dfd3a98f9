//! MCP over HTTP ("Streamable HTTP"), as far as it can be decided without I/O: which site a request is for,
//! which revision it belongs to, the status of its answer, and the stream that a message goes to. The
//! revisions with a handshake have sessions; 2026-07-28 has none.

mod denied;
mod era;
mod event;
mod forwarded;
mod head;
mod mirror;
mod parameters;
mod resource;
mod sessions;
mod site;
mod streams;
mod whole;

pub use denied::{Denied, status_of};
pub use era::{Era, era, mismatch};
pub use event::{COMMENT, EventId, write_event};
pub use forwarded::Forwarded;
pub use head::{
    Accepts, BadHeader, Head, LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID, Single, has_token,
};
pub use mirror::{METHOD, NAME};
pub use parameters::{Mirrored, Parameter, Unreadable, parameters, repeats_arguments, tool_name};
pub use resource::{Resource, is_scope};
pub use sessions::{Full, Sessions};
pub use site::{Site, SiteError};
pub use streams::{Event, Next, NotOpen, Reading, StreamBounds, Streams};
pub use whole::Whole;
