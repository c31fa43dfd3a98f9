//! The table of hostile input. A peer of the role `lister` may use `tools/list` and little else, one of
//! `caller` may use `tools/call`; a child that parses `tools/call` from a lister, or the name `EVIL` from
//! any peer, has been reached past the gate.

mod ids;
mod json;
mod messages;
mod payloads;
mod wire;

/// The input.
pub enum Input {
    /// A line without its newline; over both transports.
    Line(Vec<u8>),
    /// Segments of a TCP stream.
    Segments(Vec<Vec<u8>>),
    /// WebSocket frames: the first byte of each, and its payload.
    Frames(Vec<(u8, Vec<u8>)>),
}

pub struct Case {
    pub name: String,
    pub role: &'static str,
    /// Methods that the child may parse in addition to the harmless ones.
    pub may: &'static [&'static str],
    pub input: Input,
    /// `id code, …` in any order; `ok` for a result; the id `?` for those found by a lenient look
    /// at what is refused.
    answers: String,
    /// The server then closes the connection.
    pub closes: bool,
    /// The peer disconnects without waiting for anything.
    pub leaves: bool,
    /// Children that themselves reject what the gate rightly passes.
    pub not_for: &'static [&'static str],
    /// What a peer with a child of its own may send to it.
    pub shared_only: bool,
}

impl Case {
    /// Ids as JSON text, with their codes; 0 for a result.
    pub fn expected(&self) -> Vec<(String, i64)> {
        let answers = self.answers.split(", ").filter(|answer| !answer.is_empty());
        let parse = |answer: &str| {
            let (id, code) = answer.rsplit_once(' ').expect("an id and a code");
            let code = if code == "ok" { "0" } else { code };
            (id.to_owned(), code.parse().expect("a code"))
        };
        answers.map(parse).collect()
    }

    /// True for the responses that the table expects, in order.
    pub fn is_right(&self, answers: &[(String, i64)]) -> bool {
        let mut expected = self.expected();
        expected.sort();
        match &expected[..] {
            [(id, code)] if id == "?" => self.is_refused(*code, answers),
            _ => answers == expected,
        }
    }

    /// True for correct responses to what is refused with `code`: each has an id from the input, or one
    /// has none; refused responses and notifications need no response.
    pub fn is_refused(&self, code: i64, answers: &[(String, i64)]) -> bool {
        let Input::Line(line) = &self.input else {
            return answers == [("null".to_owned(), code)];
        };
        let text = String::from_utf8_lossy(line);
        let is_own = |id: &String| id == "null" || text.contains(&format!("\"id\":{id}"));
        let must_answer = text.contains("\"id\":") && text.contains("\"method\":");
        let mut ids = answers.iter().map(|(id, _)| id);
        let several_null = answers.len() > 1 && ids.clone().any(|id| id == "null");
        let right_code = answers.iter().all(|(_, answered)| *answered == code);
        right_code && !several_null && ids.all(is_own) && !(must_answer && answers.is_empty())
    }

    fn leaves(mut self) -> Self {
        self.leaves = true;
        self
    }
}

/// A forbidden request, alone and well formed.
const EVIL: &str = r#"{"jsonrpc":"2.0","id":66,"method":"tools/call","params":{"name":"EVIL","arguments":{"x":"hunter2"}}}"#;
/// A harmless request.
const LIST: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;

/// Not JSON, not a message, forbidden.
const NOT_JSON: &str = "? -32700";
const NO_MESSAGE: &str = "? -32600";

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, name: impl Into<String>, input: Input, answers: &str) -> &mut Case {
        self.0.push(Case {
            name: name.into(),
            role: "lister",
            may: &[],
            input,
            answers: answers.to_owned(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        });
        self.0.last_mut().expect("just pushed")
    }

    fn line(
        &mut self,
        name: impl Into<String>,
        line: impl Into<Vec<u8>>,
        answers: &str,
    ) -> &mut Case {
        self.add(name, Input::Line(line.into()), answers)
    }

    /// A line from a peer that may call tools; the child may see the call, but not the name `EVIL`.
    fn call(
        &mut self,
        name: impl Into<String>,
        line: impl Into<Vec<u8>>,
        answers: &str,
    ) -> &mut Case {
        let case = self.line(name, line, answers);
        case.role = "caller";
        case.may = &["tools/call", "resources/read"];
        case
    }
}

pub fn cases() -> Vec<Case> {
    let mut table = Table::default();
    messages::plain(&mut table);
    messages::several_in_one(&mut table);
    messages::members(&mut table);
    messages::look_alikes(&mut table);
    payloads::params(&mut table);
    json::characters(&mut table);
    json::encodings(&mut table);
    json::numbers(&mut table);
    json::nearly_json(&mut table);
    json::nesting_and_size(&mut table);
    ids::ids(&mut table);
    ids::answers_and_notifications(&mut table);
    messages::misplaced(&mut table);
    payloads::things(&mut table);
    wire::segments(&mut table);
    wire::frames(&mut table);
    table.0
}

fn quoted(method: &str, id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"name":"EVIL"}}}}"#)
}
