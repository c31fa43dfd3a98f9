//! An MCP client that asks for every list of a server, page by page.

use super::{Hints, Inventory, Tool};
use crate::mcp::{List, Method, Names, Revision};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The most pages of one list.
const MAX_PAGES: usize = 1000;

/// The most entries of one list.
const MAX_ENTRIES: usize = 10_000;

/// How often a server may say that a list has changed and have it read again.
const MAX_REREADS: usize = 4;

/// The lists, tools last: servers may add tools once they know their client.
const LISTS: [Method; 4] = [
    Method::ListPrompts,
    Method::ListResources,
    Method::ListTemplates,
    Method::ListTools,
];

/// Why a server could not be asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It answers the first request with an error.
    #[error("it answered '{method}' with an error: {error}")]
    Refused {
        /// The request.
        method: &'static str,
        /// Code and message.
        error: String,
    },
    /// Its answer is not of the form that MCP gives it.
    #[error("its answer to '{0}' is not what MCP says it is")]
    Malformed(&'static str),
    /// Its list does not end.
    #[error("its answers to '{0}' do not end: there are too many pages or entries")]
    Endless(&'static str),
}

/// What to do after a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Lines to be sent, each with its newline.
    pub send: Vec<u8>,
    /// Everything is known.
    pub done: bool,
}

/// A conversation with one server.
#[derive(Debug)]
pub struct Session {
    modern: bool,
    /// The request that waits for its answer.
    asked: Method,
    id: u64,
    left: VecDeque<Method>,
    pages: usize,
    cursor: Option<String>,
    rereads: usize,
    inventory: Inventory,
}

impl Session {
    /// Begins as a client of the newest revision with a handshake, or of the newest without one, with
    /// this id. Gives the first line to be sent, too.
    #[must_use]
    pub fn new(modern: bool, id: u64) -> (Self, Vec<u8>) {
        let asked = if modern {
            Method::Discover
        } else {
            Method::Initialize
        };
        let session = Self {
            modern,
            asked,
            id,
            left: VecDeque::new(),
            pages: 0,
            cursor: None,
            rereads: 0,
            inventory: Inventory::default(),
        };
        let line = session.request();
        (session, line)
    }

    /// The request that waits for its answer.
    #[must_use]
    pub fn asked(&self) -> &'static str {
        self.asked.name()
    }

    /// All that is known.
    #[must_use]
    pub fn into_inventory(self) -> Inventory {
        self.inventory
    }

    /// Handles a line of the server. Invalid and unrequested messages are ignored.
    ///
    /// # Errors
    /// The conversation cannot continue.
    pub fn receive(&mut self, line: &[u8]) -> Result<Step, Fault> {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return Ok(Step::default());
        };
        let id = message.get("id").filter(|id| !id.is_null());
        match (message.get("method").and_then(Value::as_str), id) {
            (Some(method), Some(id)) => Ok(answer(method, id)),
            (Some(method), None) => {
                self.on_list_changed(method);
                Ok(Step::default())
            }
            (None, Some(id)) if self.is_mine(id) => self.answered(&message),
            _ => Ok(Step::default()),
        }
    }

    /// Some servers give a number back as a string or as a fraction.
    fn is_mine(&self, id: &Value) -> bool {
        match id {
            Value::String(text) => text.parse() == Ok(self.id),
            Value::Number(number) => number.as_f64() == Some(self.id as f64),
            _ => false,
        }
    }

    fn on_list_changed(&mut self, method: &str) {
        let list = match method {
            "notifications/tools/list_changed" => Method::ListTools,
            "notifications/prompts/list_changed" => Method::ListPrompts,
            "notifications/resources/list_changed" => Method::ListResources,
            _ => return,
        };
        // A list that is still to be read is read as it is then.
        if self.rereads < MAX_REREADS
            && !self.left.contains(&list)
            && self.asked != Method::Initialize
        {
            self.rereads += 1;
            self.left.push_back(list);
        }
    }

    fn answered(&mut self, message: &Value) -> Result<Step, Fault> {
        if let Some(error) = message.get("error").filter(|error| !error.is_null()) {
            return self.refused(error);
        }
        let result = message
            .get("result")
            .filter(|result| result.is_object())
            .ok_or(Fault::Malformed(self.asked.name()))?;
        let mut send = Vec::new();
        match self.asked.names() {
            Names::List(list) => {
                if self.take_page(list, result)? {
                    return Ok(self.ask(self.asked, Vec::new()));
                }
            }
            _ => {
                self.begin(result)?;
                if !self.modern {
                    send = line(&json!({"jsonrpc": "2.0", "method": Method::Initialized.name()}));
                }
            }
        }
        Ok(self.next(send))
    }

    /// An error for one list must not prevent the others.
    fn refused(&mut self, error: &Value) -> Result<Step, Fault> {
        let method = self.asked.name();
        let code = error.get("code").and_then(Value::as_i64);
        let text = error.get("message").and_then(Value::as_str);
        let text = text.unwrap_or("without a message");
        let error = code.map_or_else(|| text.to_owned(), |code| format!("{code} {text}"));
        if !matches!(self.asked.names(), Names::List(_)) {
            return Err(Fault::Refused { method, error });
        }
        if code != Some(-32601) {
            let note = format!("'{method}' was answered with an error: {error}");
            self.inventory.notes.push(note);
        }
        Ok(self.next(Vec::new()))
    }

    /// Reads the server's description of itself, and which lists it has.
    fn begin(&mut self, result: &Value) -> Result<(), Fault> {
        let malformed = Fault::Malformed(self.asked.name());
        let info = match self.modern {
            true => result
                .get("_meta")
                .and_then(|meta| meta.get("io.modelcontextprotocol/serverInfo")),
            false => None,
        };
        let info = info.or_else(|| result.get("serverInfo"));
        let text = |key| info.and_then(|info| info.get(key)).and_then(Value::as_str);
        self.inventory.server = text("name").map(|name| match text("version") {
            Some(version) => format!("{name} {version}"),
            None => name.to_owned(),
        });
        let revision = if self.modern {
            Revision::NEWEST.name()
        } else {
            let version = result.get("protocolVersion").and_then(Value::as_str);
            version.ok_or(malformed)?
        };
        self.inventory.revisions = vec![revision.to_owned()];
        let has = |kind| {
            let capabilities = result.get("capabilities");
            capabilities.is_some_and(|all| all.get(kind).is_some_and(|one| !one.is_null()))
        };
        let offered = |method: &Method| match method {
            Method::ListTools => has("tools"),
            Method::ListPrompts => has("prompts"),
            _ => has("resources"),
        };
        self.left = LISTS.into_iter().filter(offered).collect();
        Ok(())
    }

    /// Adds the entries of a page. True if there is another one.
    fn take_page(&mut self, list: List, result: &Value) -> Result<bool, Fault> {
        let method = self.asked.name();
        let entries = result.get(list.member).and_then(Value::as_array);
        for entry in entries.ok_or(Fault::Malformed(method))? {
            match entry.get(list.key).and_then(Value::as_str) {
                Some(name) => self.add(name, entry),
                None => {
                    let note = format!("an entry of '{method}' has no {}", list.key);
                    if !self.inventory.notes.contains(&note) {
                        self.inventory.notes.push(note);
                    }
                }
            }
        }
        let known = match self.asked {
            Method::ListTools => self.inventory.tools.len(),
            Method::ListPrompts => self.inventory.prompts.len(),
            Method::ListResources => self.inventory.resources.len(),
            _ => self.inventory.templates.len(),
        };
        self.pages += 1;
        let cursor = result.get("nextCursor").and_then(Value::as_str);
        let same = cursor.is_some() && cursor == self.cursor.as_deref();
        if known > MAX_ENTRIES || same || cursor.is_some() && self.pages >= MAX_PAGES {
            return Err(Fault::Endless(method));
        }
        self.cursor = cursor.map(str::to_owned);
        Ok(self.cursor.is_some())
    }

    fn add(&mut self, name: &str, entry: &Value) {
        let names = match self.asked {
            Method::ListTools => {
                let hint = |key| entry.get("annotations")?.get(key)?.as_bool();
                let hints = Hints {
                    read_only: hint("readOnlyHint"),
                    destructive: hint("destructiveHint"),
                };
                let tools = &mut self.inventory.tools;
                match tools.iter_mut().find(|tool| tool.name == name) {
                    Some(known) => {
                        known.hints = known.hints.most_careful(hints);
                        known.definitions.push(entry.clone());
                    }
                    None => tools.push(Tool {
                        name: name.to_owned(),
                        hints,
                        definitions: vec![entry.clone()],
                    }),
                }
                return;
            }
            Method::ListPrompts => &mut self.inventory.prompts,
            Method::ListResources => &mut self.inventory.resources,
            _ => &mut self.inventory.templates,
        };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }

    fn next(&mut self, send: Vec<u8>) -> Step {
        self.pages = 0;
        self.cursor = None;
        match self.left.pop_front() {
            Some(method) => self.ask(method, send),
            None => Step { send, done: true },
        }
    }

    fn ask(&mut self, method: Method, mut send: Vec<u8>) -> Step {
        self.asked = method;
        self.id += 1;
        send.extend(self.request());
        Step { send, done: false }
    }

    fn request(&self) -> Vec<u8> {
        let client = json!({"name": "mcp-remote", "version": env!("CARGO_PKG_VERSION")});
        // The same as for a shared MCP server: the list of tools may depend on it.
        let capabilities = json!({
            "sampling": {"context": {}, "tools": {}}, "elicitation": {"form": {}, "url": {}},
        });
        let mut params = json!({});
        if let Some(cursor) = &self.cursor {
            params["cursor"] = json!(cursor);
        }
        if self.modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": Revision::NEWEST.name(),
                "io.modelcontextprotocol/clientInfo": client,
                "io.modelcontextprotocol/clientCapabilities": capabilities,
            });
        } else if self.asked == Method::Initialize {
            params = json!({
                "protocolVersion": Revision::NEWEST_LEGACY.name(),
                "capabilities": capabilities,
                "clientInfo": client,
            });
        }
        let method = self.asked.name();
        line(&json!({"jsonrpc": "2.0", "id": self.id, "method": method, "params": params}))
    }
}

/// The answer to what a server asks: it is alive, and can do nothing else.
fn answer(method: &str, id: &Value) -> Step {
    let message = if method == Method::Ping.name() {
        json!({"jsonrpc": "2.0", "id": id, "result": {}})
    } else {
        let error = json!({"code": -32601, "message": "Method not found"});
        json!({"jsonrpc": "2.0", "id": id, "error": error})
    };
    Step {
        send: line(&message),
        done: false,
    }
}

fn line(message: &Value) -> Vec<u8> {
    format!("{message}\n").into_bytes()
}
