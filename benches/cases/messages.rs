//! The messages and policies that are measured.

use std::fmt;

/// The kind of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One long text.
    Text,
    /// One long text with an occasional newline or quotation mark, not all of it ASCII.
    Code,
    /// An array of small objects.
    Items,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Code, Self::Items];

    /// A JSON value that is `length` bytes long.
    fn value(self, length: usize) -> String {
        const TEXT: &str =
            "Whatever stands in a note is carried as it came, and nobody looks at it again. ";
        const CODE: &str =
            r#"    let name = path.join(\"notes\"); // für später\n    println!(\"{name}\");\n"#;
        let mut value = String::new();
        match self {
            Self::Text | Self::Code => {
                let piece = if self == Self::Text { TEXT } else { CODE };
                value.push('"');
                while value.len() + piece.len() < length {
                    value.push_str(piece);
                }
                value.extend(std::iter::repeat_n(
                    '.',
                    length.saturating_sub(value.len() + 1),
                ));
                value.push('"');
            }
            Self::Items => {
                value.push('[');
                for number in 0.. {
                    let item = format!(
                        r#"{{"id":{number},"name":"note {number}","size":{},"done":{}}},"#,
                        number * 37 % 1000,
                        number % 3 == 0
                    );
                    if value.len() + item.len() + 4 > length {
                        break;
                    }
                    value.push_str(&item);
                }
                let rest = length.saturating_sub(value.len() + 3);
                value.push_str(&format!("\"{}\"]", ".".repeat(rest)));
            }
        }
        value
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Code => "code",
            Self::Items => "items",
        })
    }
}

/// A request and its response, without newlines, and a notification with the same payload.
pub struct Lines {
    request: String,
    /// The text before and after the id.
    answer: (&'static str, String),
    notification: String,
}

/// Pads the gap between two texts so that the total is `size` bytes.
fn fill(size: usize, before: &str, after: &str, shape: Shape) -> String {
    let value = shape.value(size.saturating_sub(before.len() + after.len()));
    format!("{before}{value}{after}")
}

impl Lines {
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":"#;

    /// Lines of `size` bytes (the response is slightly off when its id does not have four digits).
    pub fn new(shape: Shape, size: usize) -> Self {
        let content = match shape {
            Shape::Items => [r#"{"content":[],"structuredContent":{"items":"#, "}}}"],
            _ => [r#"{"content":[{"type":"text","text":"#, "}]}}"],
        };
        Self {
            request: fill(
                size,
                r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search_notes","arguments":{"text":"#,
                "}}}",
                shape,
            ),
            answer: (
                Self::ANSWER,
                fill(
                    size - Self::ANSWER.len() - 4,
                    &format!(",\"result\":{}", content[0]),
                    content[1],
                    shape,
                ),
            ),
            notification: fill(
                size,
                r#"{"jsonrpc":"2.0","method":"notifications/note","params":{"text":"#,
                "}}",
                shape,
            ),
        }
    }

    /// The request for a list of tools, and a list of 100.
    pub fn tools_list() -> Self {
        let tool = |number| {
            let family = if number % 2 == 0 { "search" } else { "delete" };
            format!(
                r#"{{"name":"{family}_{number}","description":"Looks through all notes of the user for those in which the text stands.","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string"}},"limit":{{"type":"integer"}}}},"required":["text"]}}}}"#
            )
        };
        let tools: Vec<String> = (0..100).map(tool).collect();
        Self {
            request: r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#.to_owned(),
            answer: (
                Self::ANSWER,
                format!(r#","result":{{"tools":[{}]}}}}"#, tools.join(",")),
            ),
            notification: String::new(),
        }
    }

    /// The request of a peer.
    pub fn request(&self) -> Vec<u8> {
        self.request.clone().into_bytes()
    }

    /// The child's response to the request with this id.
    pub fn answer(&self, id: &str) -> Vec<u8> {
        [self.answer.0, id, &self.answer.1].concat().into_bytes()
    }

    /// The notification.
    pub fn notification(&self) -> Vec<u8> {
        self.notification.clone().into_bytes()
    }
}

/// A call of a tool.
pub fn call(id: usize, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

/// The child's response.
pub fn answer(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// How a peer opens a session …
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

/// … and ends the handshake.
pub const READY: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// The child's response to `initialize`.
pub fn initialized(id: &str) -> String {
    answer(
        id,
        r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}"#,
    )
}

/// What a peer may do, as ten rules.
pub const POLICY: &str = r#"{"permissions": {"user": {
    "allowedMethods": ["initialize", "ping", "tools/list", "tools/call", "notifications/*"],
    "blockedMethods": ["roots/list"],
    "allowedTools": ["read_note", "write_note", "search_*"],
    "blockedTools": ["delete_*"]
}}}"#;

/// How the rules of a policy name tools.
#[derive(Clone, Copy, Debug)]
pub enum Naming {
    /// Each names one.
    Names,
    /// Each names those with a common prefix.
    Families,
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "names",
            Self::Families => "families",
        })
    }
}

/// A policy with this many rules, and a tool that is allowed by its last rule other than the blocking ones.
pub fn policy(naming: Naming, rules: usize) -> (String, &'static str) {
    let (end, tool) = match naming {
        Naming::Names => ("", "read_0"),
        Naming::Families => ("_*", "read_0_notes"),
    };
    let list = |verb: &str, count: usize| {
        let patterns = (0..count)
            .rev()
            .map(|number| format!("\"{verb}_{number}{end}\""));
        patterns.collect::<Vec<_>>().join(",")
    };
    let blocked = rules / 3;
    let text = format!(
        r#"{{"permissions":{{"user":{{"allowedMethods":["tools/call"],"allowedTools":[{}],"blockedTools":[{}]}}}}}}"#,
        list("read", rules - 1 - blocked),
        list("write", blocked),
    );
    (text, tool)
}

/// A policy with rules on the arguments of this many tools, starting with `tool_0`.
pub fn rules_on_arguments(count: usize) -> String {
    let rule = |number| {
        format!(r#""tool_{number}":{{"arguments":{{"/path":{{"within":"/srv","minLength":1}}}}}}"#)
    };
    let rules: Vec<String> = (0..count).map(rule).collect();
    format!(
        r#"{{"permissions":{{"user":{{"allowedMethods":["tools/call"],"tools":{{{}}}}}}}}}"#,
        rules.join(",")
    )
}
