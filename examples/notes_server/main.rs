//! A small MCP server on stdio: notes in a folder, one file each.
//!
//! ```sh
//! cargo run --example notes_server -- ~/notes     # without a folder: a new temporary one
//! ```
//!
//! It stands in for "any stdio MCP server" in the quickstart and in the tests, and is short enough
//! to read in one go. Standard library and `serde_json` only, one thread, one request at a
//! time. It keeps no state about clients, so clients of every MCP revision can share one
//! process: a request whose `_meta` names a protocol version is answered as 2026-07-28 requires, any
//! other as the revisions with an `initialize` handshake do.

mod folder;
mod offer;

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use folder::Folder;

/// Revisions with a handshake, newest first: the first is offered to a client that asks for an unknown one.
const HANDSHAKE_REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// Revisions without one, where every request is self-contained.
const STATELESS_REVISIONS: [&str; 1] = ["2026-07-28"];
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// The protocol's own limit on the values of one completion.
const MAX_COMPLETIONS: usize = 100;

type Params = Map<String, Value>;
type Outcome = Result<Value, Refusal>;

fn main() -> ExitCode {
    match serve() {
        // A client that closed its end of the pipe has left, which is not our failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "notes_server: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Handles line by line until stdin ends.
fn serve() -> io::Result<()> {
    let notes = match env::args_os().nth(1).map(PathBuf::from) {
        Some(path) => Folder::open(path)?,
        None => Folder::fresh()?,
    };
    let path = notes.path().display();
    let _ = writeln!(io::stderr(), "notes_server: the notes are in {path}");

    let (mut input, mut line) = (io::stdin().lock(), Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 {
        if !line.trim_ascii().is_empty()
            && let Some(answer) = answer(&notes, &line)
        {
            send(&answer)?;
        }
        line.clear();
    }
    Ok(())
}

fn send(message: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{message}")?;
    output.flush()
}

/// Why a request gets no result.
struct Refusal {
    code: i32,
    message: String,
    data: Option<Value>,
}

impl Refusal {
    fn new(code: i32, message: impl Display) -> Refusal {
        let message = message.to_string();
        let data = None;
        Refusal {
            code,
            message,
            data,
        }
    }

    /// The client asked for something that does not exist, or in the wrong way.
    fn params(message: impl Display) -> Refusal {
        Refusal::new(-32602, message)
    }

    fn missing(key: &str) -> Refusal {
        Refusal::params(format!("'{key}' is missing or of the wrong type"))
    }

    fn answer(self, id: &Value) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = self.data {
            error["data"] = data;
        }
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    }
}

/// The response to one line, if it needs one.
fn answer(notes: &Folder, line: &[u8]) -> Option<Value> {
    let message: Value = match serde_json::from_slice(line) {
        Ok(message) => message,
        Err(error) => {
            return Some(
                Refusal::new(-32700, format!("Parse error: {error}")).answer(&Value::Null),
            );
        }
    };
    let id = message.get("id");
    let valid_id = id.filter(|id| id.is_string() || id.is_i64() || id.is_u64());
    let method = message.get("method").and_then(Value::as_str);
    match (method, message.get("jsonrpc").and_then(Value::as_str)) {
        // We send no requests, so a response means nothing to us.
        (None, _) if message.get("result").or(message.get("error")).is_some() => None,
        // A notification: we need none, and none may get a response.
        (Some(_), Some("2.0")) if id.is_none() => None,
        (Some(method), Some("2.0")) if valid_id.is_some() => {
            let outcome = match message.get("params") {
                None => call(notes, method, &Map::new()),
                Some(Value::Object(params)) => call(notes, method, params),
                Some(_) => Err(Refusal::missing("params")),
            };
            Some(match outcome {
                Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                Err(refusal) => refusal.answer(valid_id?),
            })
        }
        _ => Some(Refusal::new(-32600, "Invalid request").answer(valid_id.unwrap_or(&Value::Null))),
    }
}

/// The family of revisions that a request belongs to, taken from the request alone.
#[derive(Clone, Copy, PartialEq)]
enum Era {
    Handshake,
    Stateless,
}

impl Era {
    fn of(method: &str, params: &Params) -> Result<Era, Refusal> {
        let meta = |key| params.get("_meta").and_then(|meta| meta.get(key));
        match meta(VERSION) {
            None if method == "server/discover" => Err(Refusal::missing(VERSION)),
            None => Ok(Era::Handshake),
            Some(Value::String(asked)) if !STATELESS_REVISIONS.contains(&asked.as_str()) => {
                let data = json!({"supported": STATELESS_REVISIONS, "requested": asked});
                let refusal = Refusal::new(-32022, "Unsupported protocol version");
                Err(Refusal {
                    data: Some(data),
                    ..refusal
                })
            }
            Some(Value::String(_)) => match meta(CAPABILITIES) {
                Some(Value::Object(_)) => Ok(Era::Stateless),
                _ => Err(Refusal::missing(CAPABILITIES)),
            },
            Some(_) => Err(Refusal::missing(VERSION)),
        }
    }

    /// Adds what every result of this era carries.
    fn dress(self, method: &str, mut result: Value) -> Value {
        if self == Era::Handshake {
            return result;
        }
        result["resultType"] = json!("complete");
        result["_meta"] = json!({SERVER_INFO: offer::server_info()});
        // What we offer never changes and is the same for all; notes change and belong to one user.
        let (ttl, scope) = match method {
            "server/discover" | "tools/list" | "prompts/list" => (3_600_000, "public"),
            "resources/templates/list" => (3_600_000, "public"),
            "resources/list" | "resources/read" => (0, "private"),
            _ => return result,
        };
        result["ttlMs"] = json!(ttl);
        result["cacheScope"] = json!(scope);
        result
    }
}

/// One request.
fn call(notes: &Folder, method: &str, params: &Params) -> Outcome {
    let era = Era::of(method, params)?;
    if method.ends_with("/list") && params.contains_key("cursor") {
        return Err(Refusal::params("Invalid cursor: our lists have one page"));
    }
    let result = match (method, era) {
        ("initialize", Era::Handshake) => initialize(params)?,
        ("ping", Era::Handshake) => json!({}),
        ("server/discover", Era::Stateless) => offer::discovery(&STATELESS_REVISIONS),
        ("tools/list", _) => json!({"tools": offer::tools()}),
        ("tools/call", _) => call_tool(notes, params)?,
        ("prompts/list", _) => json!({"prompts": [offer::prompt()]}),
        ("prompts/get", _) => get_prompt(notes, params)?,
        ("resources/list", _) => json!({"resources": offer::resources(&notes.names())}),
        ("resources/templates/list", _) => json!({"resourceTemplates": [offer::template()]}),
        ("resources/read", _) => read_resource(notes, params)?,
        ("completion/complete", _) => complete(notes, params)?,
        _ => return Err(Refusal::new(-32601, format!("Method not found: {method}"))),
    };
    Ok(era.dress(method, result))
}

fn initialize(params: &Params) -> Outcome {
    let asked = string(params, "protocolVersion")?;
    let known = HANDSHAKE_REVISIONS.iter().find(|known| **known == asked);
    Ok(offer::initialization(
        known.unwrap_or(&HANDSHAKE_REVISIONS[0]),
    ))
}

/// An unknown tool or a missing argument is a request error; a failure inside the tool is a
/// result (`isError`), which the model sees and can correct.
fn call_tool(notes: &Folder, params: &Params) -> Outcome {
    let nothing = Map::new();
    let arguments = match params.get("arguments") {
        None => &nothing,
        Some(arguments) => arguments
            .as_object()
            .ok_or_else(|| Refusal::missing("arguments"))?,
    };
    let argument = |key| string(arguments, key);
    let outcome = match string(params, "name")? {
        "list_notes" => Ok(lines(&notes.names(), "There are no notes yet.")),
        "read_note" => notes.read(argument("name")?),
        "search_notes" => Ok(search(notes, argument("query")?, params.get("_meta"))),
        "write_note" => notes.write(argument("name")?, argument("text")?),
        "delete_note" => notes.delete(argument("name")?),
        other => return Err(Refusal::params(format!("Unknown tool: {other}"))),
    };
    let failed = outcome.is_err();
    let text = outcome.unwrap_or_else(|problem| problem);
    Ok(json!({"content": [{"type": "text", "text": text}], "isError": failed}))
}

/// Reports progress, note by note, to a client that asked for it.
fn search(notes: &Folder, query: &str, meta: Option<&Value>) -> String {
    let token = meta.and_then(|meta| meta.get("progressToken"));
    let names = notes.names();
    let mut found = Vec::new();
    for (before, name) in names.iter().enumerate() {
        found.extend(notes.search(name, query));
        if let Some(token) = token.filter(|token| token.is_string() || token.is_number()) {
            let mut params = json!({"progressToken": token, "message": format!("Searched {name}")});
            params["progress"] = json!(before + 1);
            params["total"] = json!(names.len());
            let method = "notifications/progress";
            // If this cannot be written, neither can the response, and that ends the server.
            let _ = send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
        }
    }
    lines(&found, "No note says that.")
}

fn get_prompt(notes: &Folder, params: &Params) -> Outcome {
    let prompt = string(params, "name")?;
    if prompt != offer::PROMPT {
        return Err(Refusal::params(format!("Unknown prompt: {prompt}")));
    }
    let name = string(object(params, "arguments")?, "note")?;
    let text = notes.read(name).map_err(Refusal::params)?;
    Ok(offer::summarise(name, &text))
}

fn read_resource(notes: &Folder, params: &Params) -> Outcome {
    let uri = string(params, "uri")?;
    let not_found = |why| Refusal::params(format!("Resource not found: {why}"));
    let name = offer::name_of(uri).ok_or_else(|| not_found(uri.to_owned()))?;
    let text = notes.read(&name).map_err(not_found)?;
    Ok(json!({"contents": [offer::contents(&name, &text)]}))
}

/// Names of notes, for the argument of the prompt and for the variable of the resource template.
fn complete(notes: &Folder, params: &Params) -> Outcome {
    let (reference, argument) = (object(params, "ref")?, object(params, "argument")?);
    match (string(reference, "type")?, string(argument, "name")?) {
        ("ref/prompt", "note") if string(reference, "name")? == offer::PROMPT => (),
        ("ref/resource", "name") if string(reference, "uri")? == offer::TEMPLATE => (),
        _ => return Err(Refusal::params("There is nothing to complete")),
    }
    let (mut values, start) = (notes.names(), string(argument, "value")?);
    values.retain(|name| name.starts_with(start));
    let total = values.len();
    values.truncate(MAX_COMPLETIONS);
    let more = total > MAX_COMPLETIONS;
    Ok(json!({"completion": {"values": values, "total": total, "hasMore": more}}))
}

fn string<'a>(object: &'a Params, key: &str) -> Result<&'a str, Refusal> {
    object
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::missing(key))
}

fn object<'a>(object: &'a Params, key: &str) -> Result<&'a Params, Refusal> {
    object
        .get(key)
        .and_then(Value::as_object)
        .ok_or_else(|| Refusal::missing(key))
}

fn lines(lines: &[String], none: &str) -> String {
    if lines.is_empty() {
        none.to_owned()
    } else {
        lines.join("\n")
    }
}
