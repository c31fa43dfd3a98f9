//! What the tests of the real binary share: programs that are started and watched, peers that speak the
//! wire, certificates.

// No test uses all of it.
#![allow(dead_code)]

pub mod certificates;
pub mod common;
pub mod http;
pub mod process;
pub mod site;
pub mod wire;
