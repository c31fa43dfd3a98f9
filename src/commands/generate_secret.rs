//! `generate-secret`.

use super::{Failure, print};
use crate::auth;
use crate::cli::GenerateSecretArgs;
use std::io::Write;

pub(super) fn run(args: &GenerateSecretArgs) -> Result<(), Failure> {
    let bits: usize = args.bits.parse()?;
    let _nobody = writeln!(std::io::stderr(), "Generated JWT secret ({bits}-bit):");
    print(&format!("{}\n", auth::generate_secret(bits / 8).expose()))?;
    Ok(())
}
