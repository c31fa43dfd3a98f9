//! Programs that `cargo test` builds beside the tests.

use std::path::PathBuf;

/// An example.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let example = profile.join("examples").join(name);
    assert!(
        example.is_file(),
        "{} is missing: cargo build --examples",
        example.display()
    );
    example
}
