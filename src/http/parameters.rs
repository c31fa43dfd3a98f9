//! Arguments of tools that are mirrored in headers (2026-07-28 Streamable HTTP "Custom Headers from Tool
//! Parameters"): which ones the schema of a tool names, and whether both agree.

use super::head::Single;
use super::mirror::{decoded, value};
use crate::json::{Scalar, elements, member_of_any_name, members, unescape};
use crate::jsonrpc::{Field, Message};
use hyper::header::{HeaderMap, HeaderName};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// How the names of the headers begin.
const PREFIX: &str = "mcp-param-";

/// The member of a schema that names a header.
const ANNOTATION: &str = "x-mcp-header";

/// The most tools with such members that are remembered.
const MAX_TOOLS: usize = 4096;

/// The most such members that a tool may have.
const MAX_PARAMETERS: usize = 64;

/// The member of `params` with the arguments.
const ARGUMENTS: &str = "arguments";

/// Members of a schema that hold examples of data, not schemas.
const DATA: [&str; 4] = ["default", "examples", "const", "enum"];

/// A parameter that is mirrored.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameter {
    /// What follows `Mcp-Param-`.
    pub header: String,
    path: Vec<String>,
}

impl Parameter {
    /// Its value in the `params` of a call; `None` if it is absent or null.
    ///
    /// # Errors
    /// It is no scalar, or programs may see different values: on the way to it, a name stands twice or
    /// under a look-alike, or something else than an object holds it.
    pub(crate) fn value<'a>(&self, params: &'a [u8]) -> Result<Option<Scalar<'a>>, Unreadable> {
        let mut value = params;
        for name in std::iter::once(ARGUMENTS).chain(self.path.iter().map(String::as_str)) {
            match member_of_any_name(value, name).ok_or(Unreadable)? {
                Some(span) if span.of(value) != b"null" => value = span.of(value),
                _ => return Ok(None),
            }
        }
        Scalar::read(value).map(Some).ok_or(Unreadable)
    }
}

/// What is not read, or not in one way only.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The tools of a server that have such parameters, by name.
#[derive(Debug, Default)]
pub struct Mirrored(HashMap<String, Vec<Parameter>>);

impl Mirrored {
    /// Reads a result of `tools/list`. Returns the cursor of the next page, if any. Invalid annotations are
    /// ignored.
    ///
    /// # Errors
    /// It is no list of tools.
    pub fn learn(&mut self, result: &[u8]) -> Result<Option<String>, Unreadable> {
        let [tools, cursor] = members(result, ["tools", "nextCursor"]).ok_or(Unreadable)?;
        let tools = tools.ok_or(Unreadable)?.of(result);
        elements(tools, |tool| {
            let tool = tool.of(tools);
            let found = parameters(tool).ok().filter(|found| !found.is_empty());
            if let (Some(name), Some(found)) = (tool_name(tool), found)
                && self.0.len() < MAX_TOOLS
            {
                self.0.insert(name, found);
            }
        })
        .ok_or(Unreadable)?;
        let cursor = cursor.and_then(|cursor| unescape(cursor.of(result)));
        Ok(cursor.map(Cow::into_owned))
    }

    /// Checks the headers of a call: an annotated argument must be in both or in neither, with the same
    /// value. One that programs may read in different ways matches no header, and not its absence either.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, headers: &HeaderMap, call: &Message) -> Result<(), &'static str> {
        let name = call.text(Field::Name);
        let Some(parameters) = name.and_then(|name| self.0.get(&*name)) else {
            return Ok(());
        };
        let params = call.params().unwrap_or(b"{}");
        for parameter in parameters {
            let name = format!("{PREFIX}{}", parameter.header.to_ascii_lowercase());
            // It was checked to be a valid header name.
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
                continue;
            };
            let said = value(Single::of(headers, &name))?
                .map(decoded)
                .transpose()?;
            let meant = parameter.value(params).map_err(|_: Unreadable| {
                "Header mismatch: an argument that an Mcp-Param header repeats is ambiguous or no scalar"
            })?;
            match (said, meant) {
                (None, None) => {}
                (None, Some(_)) => return Err("Header mismatch: an Mcp-Param header is missing"),
                (Some(said), Some(meant)) if is_same(&said, &meant) => {}
                (Some(_), _) => {
                    return Err("Header mismatch: an Mcp-Param header is not the argument");
                }
            }
        }
        Ok(())
    }
}

/// True if any header repeats an argument.
#[must_use]
pub fn repeats_arguments(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(PREFIX))
}

/// True if a header has this value: numbers are compared by value (`42.0` is `42`).
fn is_same(said: &str, meant: &Scalar<'_>) -> bool {
    match meant {
        Scalar::Text(text) => text == said,
        Scalar::Bool(value) => said == if *value { "true" } else { "false" },
        Scalar::Number(_) => {
            let said = serde_json::from_str::<&RawValue>(said);
            said.is_ok_and(|said| Scalar::read(said.get().as_bytes()).as_ref() == Some(meant))
        }
        Scalar::Null => false,
    }
}

/// The name of a tool in a list.
#[must_use]
pub fn tool_name(tool: &[u8]) -> Option<String> {
    let [name] = members(tool, ["name"])?;
    Some(unescape(name?.of(tool))?.into_owned())
}

/// The mirrored parameters of a tool in a list.
///
/// # Errors
/// Which rule the tool breaks.
pub fn parameters(tool: &[u8]) -> Result<Vec<Parameter>, &'static str> {
    let mut found = Vec::new();
    // Most tools have none, and are not parsed any further.
    if memchr::memmem::find(tool, ANNOTATION.as_bytes()).is_none() {
        return Ok(found);
    }
    let Ok(tool) = serde_json::from_slice::<Value>(tool) else {
        return Err("the tool cannot be read");
    };
    if let Some(schema) = tool.get("inputSchema") {
        find(schema, &mut Vec::new(), &mut found)?;
    }
    let mut names = HashSet::new();
    let is_unique = |parameter: &Parameter| names.insert(parameter.header.to_ascii_lowercase());
    if !found.iter().all(is_unique) {
        return Err("two parameters have the same header");
    }
    Ok(found)
}

fn find(
    schema: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<Parameter>,
) -> Result<(), &'static str> {
    let Value::Object(schema) = schema else {
        return Ok(());
    };
    for (key, value) in schema {
        match (key.as_str(), value) {
            (ANNOTATION, header) => {
                let of_type = schema.get("type").and_then(Value::as_str);
                found.push(parameter(header, of_type, path)?);
                if found.len() > MAX_PARAMETERS {
                    return Err("too many parameters have a header");
                }
            }
            ("properties", Value::Object(properties)) => {
                for (name, value) in properties {
                    path.push(name.clone());
                    find(value, path, found)?;
                    path.pop();
                }
            }
            (key, _) if DATA.contains(&key) => {}
            (_, value) if holds_annotation(value) => {
                return Err("it stands where no fixed path leads");
            }
            _ => {}
        }
    }
    Ok(())
}

fn parameter(
    header: &Value,
    of_type: Option<&str>,
    path: &[String],
) -> Result<Parameter, &'static str> {
    let header = header.as_str().unwrap_or_default();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if header.is_empty() || !header.bytes().all(is_token) {
        return Err("it is no name of a header");
    }
    if path.is_empty() || !matches!(of_type, Some("string" | "integer" | "boolean")) {
        return Err("it is for strings, integers and booleans only");
    }
    Ok(Parameter {
        header: header.to_owned(),
        path: path.to_vec(),
    })
}

fn holds_annotation(value: &Value) -> bool {
    match value {
        Value::Object(members) => members
            .iter()
            .any(|(key, value)| key == ANNOTATION || holds_annotation(value)),
        Value::Array(items) => items.iter().any(holds_annotation),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::MAX_PEER_DEPTH;
    use hyper::header::HeaderValue;

    const LIST: &str = r#"{"tools":[
        {"name":"plain","inputSchema":{"type":"object","properties":{"x":{"type":"string"}}}},
        {"name":"t","inputSchema":{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
            "on":{"type":"boolean","x-mcp-header":"On"}}}},
        {"name":"broken","inputSchema":{"properties":{"x":{"type":"number","x-mcp-header":"X"}}}}],
        "nextCursor":"two"}"#;

    #[test]
    fn n20_n21_headers_say_what_the_arguments_say() {
        let mut known = Mirrored::default();
        assert_eq!(known.learn(LIST.as_bytes()), Ok(Some("two".to_owned())));
        assert_eq!(known.learn(br#"{"tools":[]}"#), Ok(None));
        assert_eq!(known.learn(br#"{"tools":[],"nextCursor":null}"#), Ok(None));
        for other in [r#"{}"#, r#"{"tools":{}}"#, r#"{"tools":null}"#] {
            assert_eq!(known.learn(other.as_bytes()), Err(Unreadable), "{other}");
        }
        let check = |name: &str, arguments: &str, headers: &[(&str, &str)]| {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
            );
            let call = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                map.append(name, HeaderValue::from_str(value).unwrap());
            }
            known.check(&map, &call).is_ok()
        };
        const REGION: &str = "mcp-param-region";
        for (name, arguments, headers, right) in [
            ("t", "{}", &[][..], true),
            ("t", r#"{"region":null}"#, &[], true),
            ("t", r#"{"region":"eu"}"#, &[(REGION, "eu")], true),
            (
                "t",
                r#"{"region":"\u00e9"}"#,
                &[(REGION, "=?base64?w6k=?=")],
                true,
            ),
            (
                "t",
                r#"{"region":"=?base64?x"}"#,
                &[(REGION, "=?base64?x")],
                true,
            ),
            (
                "t",
                r#"{"deep":{"n":42}}"#,
                &[("mcp-param-n", "42.0")],
                true,
            ),
            (
                "t",
                r#"{"deep":{"n":42.0}}"#,
                &[("mcp-param-n", "42")],
                true,
            ),
            ("t", r#"{"on":false}"#, &[("mcp-param-on", "false")], true),
            (
                "t",
                r#"{"region":"eu"}"#,
                &[(REGION, "eu"), ("mcp-param-other", "x")],
                true,
            ),
            ("plain", r#"{"x":"a"}"#, &[("mcp-param-x", "b")], true),
            ("broken", r#"{"x":1}"#, &[], true),
            ("t", r#"{"region":"eu"}"#, &[], false),
            ("t", r#"{"region":"eu"}"#, &[(REGION, "EU")], false),
            (
                "t",
                r#"{"region":"eu"}"#,
                &[(REGION, "eu"), (REGION, "eu")],
                false,
            ),
            (
                "t",
                r#"{"region":"e"}"#,
                &[(REGION, "=?base64?ZQ=?=")],
                false,
            ),
            (
                "t",
                r#"{"region":"e"}"#,
                &[(REGION, "=?base64?Z!==?=")],
                false,
            ),
            ("t", "{}", &[(REGION, "eu")], false),
            ("t", r#"{"region":null}"#, &[(REGION, "null")], false),
            (
                "t",
                r#"{"deep":{"n":9007199254740993}}"#,
                &[("mcp-param-n", "9007199254740992")],
                false,
            ),
            ("t", r#"{"deep":{"n":1}}"#, &[("mcp-param-n", "one")], false),
            ("t", r#"{"on":true}"#, &[("mcp-param-on", "True")], false),
        ] {
            assert_eq!(
                check(name, arguments, headers),
                right,
                "{name} {arguments} {headers:?}"
            );
        }
    }

    #[test]
    fn what_programs_may_read_in_different_ways_agrees_with_no_header() {
        const PROPERTIES: &str = r#""region":{"type":"string","x-mcp-header":"Region"},
            "größe":{"type":"integer","x-mcp-header":"Size"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}}"#;
        let list = format!(
            r#"{{"tools":[{{"name":"t","inputSchema":{{"properties":{{{PROPERTIES}}}}}}}]}}"#
        );
        let mut known = Mirrored::default();
        known.learn(list.as_bytes()).unwrap();
        let check = |members: &str, headers: &[(&'static str, &str)]| {
            let line = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t",{members}}}}}"#
            );
            let call = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
            let headers = headers.iter().map(|(name, value)| {
                let value = HeaderValue::from_str(value).unwrap();
                (HeaderName::from_static(name), value)
            });
            known.check(&headers.collect(), &call).is_ok()
        };
        const NORTH: &[(&str, &str)] = &[("mcp-param-region", "north")];
        for (members, headers, right) in [
            (
                r#""arguments":{"region":"south","x":1e999}"#,
                &[][..],
                false,
            ),
            (r#""arguments":{"region":"north","x":1e999}"#, NORTH, true),
            (r#""arguments":{"region":"south","x":"\ud800"}"#, &[], false),
            (
                r#""arguments":{"region":"north","x":"\ud800"}"#,
                NORTH,
                true,
            ),
            (
                r#""arguments":{"region":"south"},"arguments":{"region":"north"}"#,
                NORTH,
                false,
            ),
            (
                r#""arguments":{"region":"south","region":"north"}"#,
                NORTH,
                false,
            ),
            (
                r#""arguments":{"region":"north","Region":"south"}"#,
                NORTH,
                false,
            ),
            (r#""arguments":{"Region":"south"}"#, &[], false),
            (r#""Arguments":{"region":"south"}"#, &[], false),
            (r#""arguments":{"region\u0000":"south"}"#, &[], false),
            (r#""arguments":{"region":["south"]}"#, &[], false),
            (r#""arguments":{"region":"south\u0000"}"#, &[], false),
            (
                r#""arguments":{"region":"north","region\ud800":"south"}"#,
                NORTH,
                false,
            ),
            (r#""arguments":["south"]"#, &[], false),
            (r#""arguments":{"deep":[1]}"#, &[], false),
            (
                r#""arguments":{"deep":{"n":1,"N":2}}"#,
                &[("mcp-param-n", "1")],
                false,
            ),
            (r#""arguments":null"#, &[], true),
            (r#""arguments":{"deep":null}"#, &[], true),
            // Names that are not ASCII are distinguished, too.
            (
                r#""arguments":{"größe":1,"größen":2,"länge":3}"#,
                &[("mcp-param-size", "1")],
                true,
            ),
            (
                r#""arguments":{"größe":1,"GRÖSSE":2}"#,
                &[("mcp-param-size", "1")],
                false,
            ),
        ] {
            assert_eq!(check(members, headers), right, "{members} {headers:?}");
        }
        for (meant, said, right) in [
            (
                "1000000000000000000000000000000000000000000001",
                "1000000000000000000000000000000000000000000002",
                false,
            ),
            ("18446744073709551617", "18446744073709551616", false),
            ("18446744073709551617", "18446744073709551617.0", true),
            ("9007199254740993.0", "9007199254740992.0", false),
            ("1e3", "1000", true),
            ("1", "+1", false),
            ("1", "01", false),
            ("1", "", false),
        ] {
            let members = format!(r#""arguments":{{"deep":{{"n":{meant}}}}}"#);
            assert_eq!(
                check(&members, &[("mcp-param-n", said)]),
                right,
                "{meant} {said}"
            );
        }
    }
}
