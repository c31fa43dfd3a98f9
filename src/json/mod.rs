//! JSON text: parsed strictly and in place, into no values except scalars. Independent of JSON-RPC.

mod blocks;
mod names;
mod scalar;
mod scan;
mod span;
mod strict;
mod structure;
mod text;

pub(crate) use names::{fold, folds_to, looks_like_folded};
pub(crate) use scalar::{Number, Scalar};
pub(crate) use scan::{Fault, MAX_DEPTH, Scanner};
pub(crate) use span::{Quoted, Span, plain, plain_bytes, unescape, write_string};
pub(crate) use strict::{
    elements, filter_array, member, member_of_any_name, members, members_of_clear_names,
};
pub(crate) use structure::{Part, Structure};
