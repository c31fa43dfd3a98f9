//! JSON text: read strictly and in place, never into values. It knows nothing of JSON-RPC.

mod names;
mod scan;
mod span;
mod strict;
mod structure;
mod window;

pub(crate) use names::{folds_to, looks_like_folded};
pub(crate) use scan::{Fault, MAX_DEPTH, Scanner};
pub(crate) use span::{Quoted, Span, plain, plain_bytes, unescape, write_string};
pub(crate) use strict::{elements, filter_array, member, members};
pub(crate) use structure::{Part, Structure};
pub(crate) use window::Window;
