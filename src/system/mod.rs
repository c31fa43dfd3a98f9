//! What differs between systems, one file for each subject: on Unix, and on Windows. The rest of the
//! program is the same everywhere.

pub mod asked;
#[cfg(unix)]
#[path = "unix/mod.rs"]
mod this;
#[cfg(windows)]
#[path = "windows/mod.rs"]
mod this;

pub use this::{
    descriptors, files, host_name, inherited, local, orphans, parent, pipe, process, reaper,
    signals, standard, supervisor,
};
