//! Shared by the tests of the real binary: programs that are started and watched, peers that implement the
//! wire, certificates.

// No test uses all of it.
#![allow(dead_code)]

pub mod built;
pub mod certificates;
pub mod common;
pub mod http;
pub mod process;
pub mod site;
pub mod wire;
