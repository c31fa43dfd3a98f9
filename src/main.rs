//! The `mcp-remote` binary: parses, runs, exits.

use mcp_remote::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    mcp_remote::commands::run(Cli::from_command_line(), release_memory)
}

/// Gives back to the system what the allocator keeps of the memory that is free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "no safe crate wraps it")]
fn release_memory() {
    // SAFETY: it takes no pointer and may be called at any time (malloc_trim(3), "MT-Safe").
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do by themselves what they can.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn release_memory() {}
