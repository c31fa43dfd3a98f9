//! Unix: process groups, signals, sockets in the file system, limits, modes of files.

pub mod descriptors;
pub mod files;
pub mod inherited;
pub mod local;
pub mod orphans;
pub mod parent;
pub mod pipe;
pub mod process;
pub mod reaper;
pub mod signals;
pub mod standard;
pub mod supervisor;

/// The name of this machine in the network.
#[must_use]
pub fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
