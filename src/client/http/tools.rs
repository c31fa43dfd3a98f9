//! Arguments of tools that are mirrored into headers (2026-07-28 Streamable HTTP "Custom Headers from
//! Tool Parameters").
//!
//! Pure: results of `tools/list` and calls go in, headers come out.

use super::exchange::Header;
use super::headers::{encode, header};
use crate::http::{Parameter, parameters, tool_name};
use crate::json::{Scalar, Span, elements, filter_array, members};
use crate::jsonrpc::{Edit, Field, Message, Replacement};
use foldhash::HashMap;
use std::borrow::Cow;

/// The most tools with such parameters that are remembered; calls of others go without these
/// headers.
const MAX_TOOLS: usize = 4096;

/// The tools that have such parameters, by name.
#[derive(Debug, Default)]
pub(super) struct Tools(HashMap<String, Vec<Parameter>>);

/// The edits of an answer.
#[derive(Debug, Default)]
pub(super) struct Changes(Option<(Span, Vec<u8>)>);

impl Changes {
    pub(super) fn as_edits(&self) -> Vec<Edit<'_>> {
        let edits = self.0.iter().map(|(span, text)| Edit {
            span: *span,
            with: Replacement::Json(text),
        });
        edits.collect()
    }
}

impl Tools {
    /// Reads the answer to `tools/list`. Tools with invalid annotations are removed from it.
    pub(super) fn observe(&mut self, answer: &Message) -> Changes {
        let Some((span, line)) = answer.result_in_line() else {
            return Changes::default();
        };
        let result = span.of(line);
        let Some([Some(list)]) = members(result, ["tools"]) else {
            return Changes::default();
        };
        let tools = list.of(result);
        let mut spoiled = 0;
        let read = elements(tools, |tool| {
            spoiled += usize::from(!self.learn(tool.of(tools)));
        });
        if read.is_none() || spoiled == 0 {
            return Changes::default();
        }
        let kept = filter_array(tools, |tool| parameters(tool).is_ok());
        let span = Span {
            start: span.start + list.start,
            end: span.start + list.end,
        };
        Changes(Some((span, kept)))
    }

    /// Remembers a tool. False if its annotations are invalid.
    fn learn(&mut self, tool: &[u8]) -> bool {
        let Some(name) = tool_name(tool) else {
            return true;
        };
        match parameters(tool) {
            Ok(parameters) if parameters.is_empty() => {
                self.0.remove(&name);
            }
            Ok(parameters) => {
                if self.0.len() < MAX_TOOLS || self.0.contains_key(&name) {
                    self.0.insert(name, parameters);
                }
            }
            Err(reason) => {
                tracing::warn!(
                    tool = name,
                    reason,
                    "took a tool out of the list: its 'x-mcp-header' is not valid"
                );
                self.0.remove(&name);
                return false;
            }
        }
        true
    }

    /// The headers that mirror the arguments of a call.
    pub(super) fn headers(&self, call: &Message) -> Vec<Header> {
        let parameters = call.text(Field::Name).and_then(|name| self.0.get(&*name));
        let Some(parameters) = parameters else {
            return Vec::new();
        };
        let Some(params) = call.params() else {
            return Vec::new();
        };
        let headers = parameters.iter().filter_map(|parameter| {
            // Without a header, the server refuses what programs may read in different ways.
            let value = parameter.value(params).ok().flatten()?;
            let name = format!("mcp-param-{}", parameter.header);
            header(name.parse().ok()?, encode(&text(&value)?))
        });
        headers.collect()
    }
}

/// A value as a header; `None` if it cannot be one.
fn text<'a>(value: &'a Scalar<'_>) -> Option<Cow<'a, str>> {
    match value {
        Scalar::Text(text) => Some(Cow::Borrowed(text)),
        Scalar::Bool(value) => Some(value.to_string().into()),
        // JSON may write an integer with a decimal point.
        Scalar::Number(number) => Some(number.to_json().into()),
        Scalar::Null => None,
    }
}

#[cfg(test)]
mod tests;
