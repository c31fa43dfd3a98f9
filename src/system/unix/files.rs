//! Who may read and write files.

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// The permissions of a file, nine bits.
#[must_use]
pub fn mode(metadata: &Metadata) -> u32 {
    metadata.mode() & 0o777
}

/// True where every user of this machine can read the file.
#[must_use]
pub fn is_readable_by_all(metadata: &Metadata) -> bool {
    metadata.mode() & 0o004 != 0
}

/// The number of the user whose file it is, unless that is us or root.
#[must_use]
pub fn foreign_owner(metadata: &Metadata) -> Option<u32> {
    let owner = metadata.uid();
    (owner != geteuid().as_raw() && owner != 0).then_some(owner)
}

/// A file that is made gets this mode, less the umask; opening waits for nobody, and follows a link
/// only where it may.
pub fn open_with_care(options: &mut OpenOptions, mode: u32, follow: bool) {
    let flags = if follow {
        OFlags::NONBLOCK
    } else {
        OFlags::NONBLOCK | OFlags::NOFOLLOW
    };
    options.mode(mode).custom_flags(flags.bits().cast_signed());
}

/// True where opening has met a link that it must not follow.
#[must_use]
pub fn is_link(err: &io::Error) -> bool {
    Errno::from_io_error(err) == Some(Errno::LOOP)
}
