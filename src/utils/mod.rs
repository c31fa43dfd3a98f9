//! Small named things, one per file, that know nothing of MCP.

pub mod alarm;
pub mod backoff;
pub mod bucket;
pub mod chain;
pub mod chunks;
pub mod cidr;
pub mod escape;
pub mod host;
pub mod last_lines;
pub(crate) mod lock;
pub mod near;
pub mod own_waker;
pub mod secret;
pub mod seldom;
pub mod shorten;
pub mod signal;
pub mod size;
pub mod span;
pub mod spare;
pub mod tally;
pub mod text;
pub mod unique;

/// This many random bytes as lower-case hexadecimal digits.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0u8; bytes];
    rand::fill(&mut random[..]);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
