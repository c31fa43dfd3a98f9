//! Who may read and write files: access control lists say it, which are not looked at.

use std::fs::{Metadata, OpenOptions};
use std::io;

/// That only the owner may read and write it, whatever its list says.
#[must_use]
pub fn mode(_metadata: &Metadata) -> u32 {
    0o600
}

/// Unknown, so no.
#[must_use]
pub fn is_readable_by_all(_metadata: &Metadata) -> bool {
    false
}

/// Unknown, so none.
#[must_use]
pub fn foreign_owner(_metadata: &Metadata) -> Option<u32> {
    None
}

/// A file that is made inherits its list from the folder. Making a link takes a privilege here.
pub fn open_with_care(_options: &mut OpenOptions, _mode: u32, _follow: bool) {}

/// No link is refused.
#[must_use]
pub fn is_link(_err: &io::Error) -> bool {
    false
}
