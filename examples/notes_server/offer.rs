//! What the server offers, in MCP's terms: its name, tools, prompt and resources. Only builds JSON.

use serde_json::{Map, Value, json};

pub(crate) const PROMPT: &str = "summarise";
pub(crate) const TEMPLATE: &str = "note:///{name}";

const INSTRUCTIONS: &str = "Notes are plain text. List or search them before you write a new one.";

pub(crate) fn server_info() -> Value {
    json!({"name": "notes", "version": env!("CARGO_PKG_VERSION")})
}

pub(crate) fn initialization(version: &str) -> Value {
    let mut result = json!({"protocolVersion": version, "serverInfo": server_info()});
    result["capabilities"] = capabilities();
    result["instructions"] = json!(INSTRUCTIONS);
    result
}

pub(crate) fn discovery(versions: &[&str]) -> Value {
    let mut result = json!({"supportedVersions": versions, "instructions": INSTRUCTIONS});
    result["capabilities"] = capabilities();
    result
}

fn capabilities() -> Value {
    json!({"tools": {}, "resources": {}, "prompts": {}, "completions": {}})
}

pub(crate) fn tools() -> Value {
    let (reads, deletes) = (
        json!({"readOnlyHint": true}),
        json!({"destructiveHint": true}),
    );
    let writes = json!({"destructiveHint": true, "idempotentHint": true});
    json!([
        tool(
            "list_notes",
            "The names of all notes, one a line",
            &[],
            &reads
        ),
        tool("read_note", "The text of a note", &["name"], &reads),
        tool(
            "search_notes",
            "Lines that hold a text, in any case",
            &["query"],
            &reads
        ),
        tool(
            "write_note",
            "Create a note or replace its text",
            &["name", "text"],
            &writes
        ),
        tool("delete_note", "Delete a note for good", &["name"], &deletes),
    ])
}

/// A tool whose arguments are strings, all of them required.
fn tool(name: &str, description: &str, arguments: &[&str], annotations: &Value) -> Value {
    let string = || json!({"type": "string"});
    let properties: Map<_, _> = arguments
        .iter()
        .map(|key| (key.to_string(), string()))
        .collect();
    let schema = json!({"type": "object", "properties": properties, "required": arguments});
    let mut tool = json!({"name": name, "description": description, "inputSchema": schema});
    tool["annotations"] = annotations.clone();
    tool
}

pub(crate) fn prompt() -> Value {
    let note = json!({"name": "note", "description": "Name of the note", "required": true});
    json!({"name": PROMPT, "description": "Summarise a note", "arguments": [note]})
}

/// The prompt, with the note attached.
pub(crate) fn summarise(name: &str, text: &str) -> Value {
    let task = format!("Summarise the note '{name}' in one sentence.");
    let task = json!({"type": "text", "text": task});
    let note = json!({"type": "resource", "resource": contents(name, text)});
    let messages = [task, note].map(|content| json!({"role": "user", "content": content}));
    json!({"description": "Summarise a note", "messages": messages})
}

pub(crate) fn resources(names: &[String]) -> Vec<Value> {
    let resource = |name| json!({"uri": uri_of(name), "name": name, "mimeType": "text/plain"});
    names.iter().map(|name| resource(name.as_str())).collect()
}

pub(crate) fn template() -> Value {
    json!({"uriTemplate": TEMPLATE, "name": "note", "mimeType": "text/plain"})
}

pub(crate) fn contents(name: &str, text: &str) -> Value {
    json!({"uri": uri_of(name), "mimeType": "text/plain", "text": text})
}

fn uri_of(name: &str) -> String {
    // A space is the only character of a name that is not allowed in a URI.
    format!("note:///{}", name.replace(' ', "%20"))
}

pub(crate) fn name_of(uri: &str) -> Option<String> {
    uri.strip_prefix("note:///")
        .map(|name| name.replace("%20", " "))
}
