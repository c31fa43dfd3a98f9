//! Metrics and audit events of messages that are passed on.

use crate::audit::Trail;
use crate::jsonrpc::Message;
use crate::metrics::{self, Verdict};
use crate::permissions::Rights;
use serde_json::Value;
use tracing::Level;

/// Records a message that the MCP server gets or the proxy answers.
pub(super) fn passed(trail: &Trail, message: &Message, rights: &Rights) {
    if let Some(metrics) = metrics::get() {
        metrics.message(message.method(), Verdict::Passed);
    }
    if tracing::enabled!(Level::DEBUG)
        && let Some(id) = message.id()
    {
        let trace = message.params().and_then(traceparent);
        tracing::debug!(method = message.method(), %id, traceparent = trace, "passed on");
    }
    trail.allowed(message, rights);
}

/// The trace that a request belongs to, if it names one in the form of W3C Trace Context, which cannot hold
/// anything private.
fn traceparent(params: &[u8]) -> Option<String> {
    let params: Value = serde_json::from_slice(params).ok()?;
    let trace = params.pointer("/_meta/traceparent")?.as_str()?;
    is_traceparent(trace).then(|| trace.to_owned())
}

/// `version-trace-parent-flags`, in lower case hexadecimal digits.
fn is_traceparent(text: &str) -> bool {
    let mut lengths = text.split('-').map(str::len);
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    [2, 32, 16, 2]
        .iter()
        .all(|length| lengths.next() == Some(*length))
        && lengths.next().is_none()
        && text.bytes().all(|byte| byte == b'-' || is_digit(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_is_taken_for_one() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "secret",
            &good.to_uppercase(),
            &good[1..],
            &format!("{good}-00"),
            &good.replace("4bf9", "4bfg"),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        let params = format!(r#"{{"_meta":{{"traceparent":"{good}"}}}}"#);
        assert_eq!(traceparent(params.as_bytes()).as_deref(), Some(good));
        assert_eq!(traceparent(br#"{"_meta":{"traceparent":1}}"#), None);
    }
}
