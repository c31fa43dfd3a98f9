//! What was meant by a command line that is wrong in a known way.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// Adds to the error what was meant, if that can be told.
pub(super) fn add(err: &mut clap::Error, typed: &[OsString]) {
    let unknown = match (err.kind(), err.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => unknown.clone(),
        _ => return,
    };
    if unknown == "--token" {
        let meant = ContextValue::String("--jwt-token".to_owned());
        err.insert(ContextKind::SuggestedArg, meant);
    } else if let Some(tip) = misplaced(&unknown, typed) {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        err.insert(ContextKind::Suggested, tips);
    }
}

/// What to say of a word that stands where none is expected.
fn misplaced(unknown: &str, typed: &[OsString]) -> Option<String> {
    if unknown.starts_with('-') {
        return None;
    }
    let is_typed = |name: &str| typed.iter().any(|word| word == name);
    let at = typed.iter().position(|word| word == unknown)?;
    let before = at.checked_sub(1).and_then(|before| typed.get(before));
    let networked = is_typed("server") || is_typed("client");
    if before.is_some_and(|word| word == "--isolate") {
        Some(format!("its value stands behind '=': --isolate={unknown}"))
    } else if networked && unknown.parse::<u16>().is_ok() && !is_typed("--port") {
        Some(format!("the port has a flag: --port {unknown}"))
    } else if is_typed("client") && unknown.contains("://") {
        Some(format!("the URL has a flag: --url {unknown}"))
    } else {
        let starts = is_typed("server") || is_typed("generate-permissions");
        (starts && !is_typed("--"))
            .then(|| format!("the command of the MCP server stands behind '--': -- {unknown} …"))
    }
}
