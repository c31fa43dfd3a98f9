//! The table of hostile input. A peer of the role `lister` may `tools/list` and little else, one of
//! `caller` may `tools/call`; a child that parses `tools/call` of a lister, or the name `EVIL` of
//! anybody, has been reached past the gate.

use crate::corpus::LIMIT;

/// What is sent.
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
    /// Methods that the child may parse besides the harmless ones.
    pub may: &'static [&'static str],
    pub input: Input,
    /// `id code, …` in any order; `ok` for a result; the id `?` for those that a tolerant look finds in
    /// what is refused.
    answers: String,
    /// The server closes the connection after that.
    pub closes: bool,
    /// The peer hangs up without waiting for anything.
    pub leaves: bool,
    /// Children that themselves refuse what the gate rightly passes.
    pub not_for: &'static [&'static str],
    /// What a peer with a child of its own may say to it.
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

    /// True for right answers to what is refused with `code`: each under an id that stands in it, or
    /// one under none; answers and notifications may go without.
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

    fn closes(mut self) -> Self {
        self.closes = true;
        self
    }

    fn leaves(mut self) -> Self {
        self.leaves = true;
        self
    }
}

/// A forbidden request, alone and well formed.
const EVIL: &str = r#"{"jsonrpc":"2.0","id":66,"method":"tools/call","params":{"name":"EVIL","arguments":{"x":"hunter2"}}}"#;
/// A harmless one.
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

    /// A line of a peer that may call tools; the child may see the call, but not the name `EVIL`.
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
    plain(&mut table);
    several_in_one(&mut table);
    members(&mut table);
    look_alikes(&mut table);
    params(&mut table);
    characters(&mut table);
    encodings(&mut table);
    numbers(&mut table);
    nearly_json(&mut table);
    nesting_and_size(&mut table);
    ids(&mut table);
    answers_and_notifications(&mut table);
    misplaced(&mut table);
    things(&mut table);
    segments(&mut table);
    frames(&mut table);
    table.0
}

fn quoted(method: &str, id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"name":"EVIL"}}}}"#)
}

/// Forbidden methods, spelt so that somebody might take them for allowed ones, or the reverse.
fn plain(table: &mut Table) {
    table.line("a harmless request", LIST, "7 ok");
    table.line("a forbidden request", EVIL, "66 -32601");
    table.line(
        "a forbidden notification",
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"EVIL"}}"#,
        "",
    );
    for method in [
        "tools/call ",
        " tools/call",
        "Tools/Call",
        "TOOLS/LIST",
        "tools/list ",
        "tools/list/",
        "tools/list/../call",
        "tools//list",
        "/tools/list",
        "tools\\\\list",
        "tools%2Fcall",
        "tools/*",
        "*",
        "",
        "tools/list\\n",
        "tools/list\\u2028tools/call",
        "tool\\u017f/list",
        "tools/li\\u017ft",
        "tools/\\u0441all",
        "ping\\u200b",
        "\\uff50ing",
        "notifications/cancelled",
        "notifications/initialized",
        "rpc.discover",
        "mcp-remote/resume",
        "completion/complete",
        "roots/list",
        "sampling/createMessage",
    ] {
        let line = quoted(method, "5");
        table.line(format!("method '{method}'"), line, "5 -32601");
    }
    for method in ["tools/call\\u0000", "tools/list\\u0000", "\\u0000"] {
        let line = quoted(method, "5");
        table.line(format!("method '{method}'"), line, "5 -32600");
    }
    let long = quoted(&"m".repeat(10_000), "5");
    table.line("a very long method", long, "5 -32601");
    let escaped: String = "tools/call"
        .bytes()
        .map(|byte| format!("\\u{byte:04x}"))
        .collect();
    table.line("a method in escapes", quoted(&escaped, "5"), "5 -32601");
    table.line(
        "a method with an escaped slash",
        quoted("tools\\/call", "5"),
        "5 -32601",
    );
}

/// More than one message where one is expected.
fn several_in_one(table: &mut Table) {
    table.line(
        "a second line",
        format!("{LIST}\n{EVIL}"),
        "7 ok, 66 -32601",
    );
    table.line(
        "a second line, forbidden first",
        format!("{EVIL}\n{LIST}"),
        "7 ok, 66 -32601",
    );
    table.line(
        "many lines",
        [LIST; 1].join("\n") + &format!("\n{EVIL}").repeat(20),
        &("7 ok".to_owned() + &", 66 -32601".repeat(20)),
    );
    table.line(
        "two lines by CRLF",
        format!("{LIST}\r\n{EVIL}\r"),
        "7 ok, 66 -32601",
    );
    table.line(
        "empty lines around",
        format!("\n\r\n{EVIL}\n\n \t\n"),
        "66 -32601",
    );
    for (name, between) in [
        ("nothing", ""),
        ("a space", " "),
        ("a tab", "\t"),
        ("a bare CR", "\r"),
        ("a comma", ","),
        ("NUL", "\0"),
        ("VT", "\u{b}"),
        ("FF", "\u{c}"),
        ("FS", "\u{1c}"),
        ("GS", "\u{1d}"),
        ("RS", "\u{1e}"),
        ("DEL", "\u{7f}"),
        ("NEL", "\u{85}"),
        ("NBSP", "\u{a0}"),
        ("LS", "\u{2028}"),
        ("PS", "\u{2029}"),
        ("BOM", "\u{feff}"),
        ("a semicolon", ";"),
        ("two slashes", "//"),
        ("an escaped newline", "\\n"),
    ] {
        table.line(
            format!("two messages with {name} between"),
            format!("{LIST}{between}{EVIL}"),
            NOT_JSON,
        );
    }
    table.line("a batch of one", format!("[{EVIL}]"), NO_MESSAGE);
    table.line("a batch", format!("[{LIST},{EVIL}]"), NO_MESSAGE);
    table.line("a batch in a batch", format!("[[{EVIL}]]"), NO_MESSAGE);
    table.line("an empty batch", "[]", NO_MESSAGE);
    table.line("a batch without end", format!("[{EVIL}"), NOT_JSON);
    table.line("a batch by its comma only", format!("{LIST},"), NOT_JSON);
    table.line(
        "a batch of notifications",
        r#"[{"jsonrpc":"2.0","method":"tools/call"}]"#,
        NO_MESSAGE,
    );
    table.line("a message in a string", format!("{EVIL:?}"), NO_MESSAGE);
    table.line(
        "a message in another's member",
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","x":{EVIL}}}"#),
        "7 ok",
    );
    table.line(
        "a message in another's params",
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{EVIL}}}"#),
        "7 ok",
    );
    table.line(
        "a message as an id",
        format!(r#"{{"jsonrpc":"2.0","id":{EVIL},"method":"tools/list"}}"#),
        NO_MESSAGE,
    );
    table.line(
        "an object keyed by numbers",
        format!(r#"{{"0":{LIST},"1":{EVIL},"length":2}}"#),
        NO_MESSAGE,
    );
}

/// Members that are missing, of the wrong type, or there twice.
fn members(table: &mut Table) {
    let call = r#""params":{"name":"EVIL"}"#;
    for (name, line, answers) in [
        (
            "no jsonrpc",
            r#"{"id":5,"method":"tools/call"}"#,
            "5 -32600",
        ),
        (
            "jsonrpc 1.0",
            r#"{"jsonrpc":"1.0","id":5,"method":"tools/call"}"#,
            "5 -32600",
        ),
        (
            "jsonrpc as a number",
            r#"{"jsonrpc":2.0,"id":5,"method":"tools/call"}"#,
            "5 -32600",
        ),
        (
            "jsonrpc in escapes",
            r#"{"jsonrpc":"\u0032.0","id":5,"method":"tools/call"}"#,
            "5 -32600",
        ),
        (
            "jsonrpc null",
            r#"{"jsonrpc":null,"id":5,"method":"tools/list"}"#,
            "5 -32600",
        ),
        (
            "jsonrpc and more",
            r#"{"jsonrpc":"2.0 ","id":5,"method":"tools/list"}"#,
            "5 -32600",
        ),
        (
            "no method",
            r#"{"jsonrpc":"2.0","id":5,"params":{"name":"EVIL"}}"#,
            "5 -32600",
        ),
        (
            "method null",
            r#"{"jsonrpc":"2.0","id":5,"method":null}"#,
            "5 -32600",
        ),
        (
            "method as a list",
            r#"{"jsonrpc":"2.0","id":5,"method":["tools/call"]}"#,
            "5 -32600",
        ),
        (
            "method as an object",
            r#"{"jsonrpc":"2.0","id":5,"method":{"tools/call":1}}"#,
            "5 -32600",
        ),
        (
            "method as a number",
            r#"{"jsonrpc":"2.0","id":5,"method":0}"#,
            "5 -32600",
        ),
        ("an empty object", "{}", NO_MESSAGE),
        ("only a version", r#"{"jsonrpc":"2.0"}"#, NO_MESSAGE),
        (
            "params null",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","params":null}"#,
            "5 ok",
        ),
        (
            "params as text",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","params":"{}"}"#,
            "5 -32600",
        ),
        (
            "params as a number",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","params":1}"#,
            "5 -32600",
        ),
        (
            "params true",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","params":true}"#,
            "5 -32600",
        ),
        (
            "params as a list",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[{"name":"x"}]}"#,
            "7 ok",
        ),
        (
            "method and result",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","result":{}}"#,
            NO_MESSAGE,
        ),
        (
            "method and error",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","error":{}}"#,
            NO_MESSAGE,
        ),
        (
            "method and a null result",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","result":null}"#,
            NO_MESSAGE,
        ),
        (
            "result and error",
            r#"{"jsonrpc":"2.0","id":5,"result":{},"error":{}}"#,
            NO_MESSAGE,
        ),
        (
            "unknown members",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","auth":"x","roles":["admin"],"__proto__":{"method":"tools/call"}}"#,
            "7 ok",
        ),
        (
            "constructor and prototype",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"__proto__":{"name":"EVIL"},"constructor":{"prototype":{"name":"EVIL"}}}}"#,
            "7 ok",
        ),
    ] {
        table.line(name, line, answers);
    }
    for (first, second) in [("tools/list", "tools/call"), ("tools/call", "tools/list")] {
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"{first}","method":"{second}",{call}}}"#);
        table.line(format!("method twice, {first} first"), line, "5 -32600");
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":5,"method":"{first}","m\u0065thod":"{second}",{call}}}"#
        );
        table.line(
            format!("method twice in escapes, {first} first"),
            line,
            "5 -32600",
        );
    }
    for (name, line) in [
        (
            "jsonrpc twice",
            r#"{"jsonrpc":"2.0","jsonrpc":"2.0","id":5,"method":"tools/list"}"#,
        ),
        (
            "params twice",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{},"params":{"name":"EVIL"}}"#,
        ),
        (
            "params twice, once null",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","params":{},"params":null}"#,
        ),
        (
            "method twice, once null",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","method":null}"#,
        ),
        (
            "method thrice",
            r#"{"jsonrpc":"2.0","id":5,"method":"tools/list","method":"tools/call","method":"tools/list"}"#,
        ),
    ] {
        table.line(name, line, "5 -32600");
    }
    table.line(
        "id twice",
        r#"{"jsonrpc":"2.0","id":5,"id":6,"method":"tools/list"}"#,
        NO_MESSAGE,
    );
    table.line(
        "id twice, the same",
        r#"{"jsonrpc":"2.0","id":5,"id":5,"method":"tools/list"}"#,
        NO_MESSAGE,
    );
    table.line(
        "result twice",
        r#"{"jsonrpc":"2.0","id":5,"result":1,"result":2}"#,
        NO_MESSAGE,
    );
}

/// Top-level names that some reader takes for known ones.
fn look_alikes(table: &mut Table) {
    for name in [
        "Method",
        "METHOD",
        "mEthod",
        "metho\\u0044",
        "m\\u0045thod",
        "\\u004dethod",
    ] {
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/list","{name}":"tools/call"}}"#);
        table.line(format!("'{name}' behind method"), line, "5 -32600");
        let line = format!(r#"{{"jsonrpc":"2.0","id":5,"{name}":"tools/call"}}"#);
        table.line(format!("'{name}' without method"), line, "5 -32600");
    }
    for name in [
        "Params",
        "PARAMS",
        "param\u{17f}",
        "param\\u017f",
        "PARAM\u{17f}",
    ] {
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":5,"method":"tools/list","{name}":{{"name":"EVIL"}}}}"#
        );
        table.line(format!("'{name}' for params"), line, "5 -32600");
    }
    for name in ["ID", "Id", "iD", "\\u0049d"] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":5,"{name}":6,"method":"tools/list"}}"#);
        table.line(format!("'{name}' for id"), line, NO_MESSAGE);
    }
    for name in [
        "Result",
        "re\u{17f}ult",
        "ERROR",
        "JSONRPC",
        "J\u{17f}onrpc",
        "j\u{17f}onrpc",
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/list","{name}":{{}}}}"#);
        table.line(format!("'{name}' beside method"), line, "5 -32600");
    }
    // Not known to any reader: dropped.
    for name in [
        "meth\u{43e}d",
        "method\\u0000",
        "method ",
        " method",
        "me-thod",
        "\\ud800method",
        "methods",
        "\u{ff4d}ethod",
    ] {
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","{name}":"tools/call"}}"#);
        table.line(format!("'{name}' is not method"), line, "7 ok");
    }
}

/// The members of `params` that somebody reads.
fn params(table: &mut Table) {
    let call = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{{params}}}}}"#)
    };
    table.call("a good name", call(r#""name":"good""#), "5 ok");
    for (name, inside) in [
        ("name twice", r#""name":"good","name":"EVIL""#),
        (
            "name twice, the other first",
            r#""name":"EVIL","name":"good""#,
        ),
        (
            "name in escapes, twice",
            r#""name":"good","n\u0061me":"EVIL""#,
        ),
        ("Name", r#""name":"good","Name":"EVIL""#),
        ("Name alone", r#""Name":"EVIL""#),
        ("NAME before name", r#""NAME":"EVIL","name":"good""#),
        ("na_me", r#""name":"good","na_me":"EVIL""#),
        ("name twice, once null", r#""name":"good","name":null"#),
        (
            "_meta twice",
            r#""name":"good","_meta":{},"_meta":{"progressToken":"EVIL"}"#,
        ),
        (
            "meta beside _meta",
            r#""name":"good","_meta":{},"meta":{"progressToken":"EVIL"}"#,
        ),
        (
            "meta alone",
            r#""name":"good","meta":{"progressToken":"EVIL"}"#,
        ),
        ("_Meta", r#""name":"good","_Meta":{"progressToken":"EVIL"}"#),
        ("_meta as a list", r#""name":"good","_meta":[]"#),
        ("_meta as text", r#""name":"good","_meta":"x""#),
        (
            "progressToken twice",
            r#""name":"good","_meta":{"progressToken":1,"progressToken":"EVIL"}"#,
        ),
        (
            "progress_token",
            r#""name":"good","_meta":{"progressToken":1,"progress_token":"EVIL"}"#,
        ),
        (
            "progress_token alone",
            r#""name":"good","_meta":{"progress_token":"EVIL"}"#,
        ),
        (
            "ProgressToken",
            r#""name":"good","_meta":{"ProgressToken":"EVIL"}"#,
        ),
        (
            "progre\u{17f}\u{17f}To\u{212a}en",
            "\"name\":\"good\",\"_meta\":{\"progre\u{17f}\u{17f}To\u{212a}en\":\"EVIL\"}",
        ),
        (
            "progressToken 1.5",
            r#""name":"good","_meta":{"progressToken":1.5}"#,
        ),
        (
            "progressToken true",
            r#""name":"good","_meta":{"progressToken":true}"#,
        ),
        (
            "progressToken -0",
            r#""name":"good","_meta":{"progressToken":-0}"#,
        ),
        (
            "progressToken as a list",
            r#""name":"good","_meta":{"progressToken":["EVIL"]}"#,
        ),
        (
            "progressToken as an object",
            r#""name":"good","_meta":{"progressToken":{}}"#,
        ),
        (
            "progressToken 2^53",
            r#""name":"good","_meta":{"progressToken":9007199254740992}"#,
        ),
        (
            "half a surrogate pair in the name",
            r#""name":"EVIL\ud800""#,
        ),
        ("NUL in the name", r#""name":"EVIL\u0000good""#),
        ("a key with NUL", r#""name":"good","name\u0000":"EVIL""#),
    ] {
        table.call(format!("in params: {name}"), call(inside), "5 -32600");
    }
    for (name, inside) in [
        (
            "a name inside the arguments",
            r#""name":"good","arguments":{"name":"EVIL","Name":"EVIL"}"#,
        ),
        (
            "a name inside _meta",
            r#""name":"good","_meta":{"name":"EVIL"}"#,
        ),
        (
            "a Cyrillic name",
            "\"name\":\"good\",\"n\u{430}me\":\"EVIL\"",
        ),
        ("a name with a space", r#""name":"good","name ":"EVIL""#),
        (
            "a name with half a pair",
            r#""name":"good","name\ud83d":"EVIL""#,
        ),
        (
            "a progress token",
            r#""name":"good","_meta":{"progressToken":"EVIL"}"#,
        ),
        ("_meta null", r#""name":"good","_meta":null"#),
    ] {
        let case = table.call(format!("in params, harmless: {name}"), call(inside), "5 ok");
        case.shared_only = name == "a progress token";
    }
    let read = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{{{params}}}}}"#)
    };
    for (name, inside) in [
        ("uri twice", r#""uri":"x:good","uri":"x:EVIL""#),
        ("URI", r#""uri":"x:good","URI":"x:EVIL""#),
        ("u_ri", r#""uri":"x:good","u_ri":"x:EVIL""#),
        ("Uri alone", r#""Uri":"x:EVIL""#),
        ("ur\\u0069 twice", r#""uri":"x:good","ur\u0069":"x:EVIL""#),
    ] {
        table.call(format!("in params: {name}"), read(inside), "5 -32600");
    }
}

/// Characters that end a line, or a text, for some reader.
fn characters(table: &mut Table) {
    // A text stream in Python would take the middle for a line of its own.
    let inside = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"x\":\r{EVIL}\r}}}}"
    );
    table.line("a message between bare CRs", inside, "7 ok");
    for (name, end) in [
        ("NEL", "\u{85}"),
        ("LS", "\u{2028}"),
        ("PS", "\u{2029}"),
        ("DEL", "\u{7f}"),
    ] {
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"x\":\"{end}[1]{end}{{}}{end}\"}}}}"
        );
        table.line(format!("values between {name}s in a string"), line, "7 ok");
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"{end}\":1}}}}"
        );
        table.line(format!("{name} in a key"), line, "7 ok");
        let line = format!("{{\"jsonrpc\":\"2.0\",{end}\"id\":7,\"method\":\"tools/list\"}}");
        table.line(format!("{name} as white space"), line, NOT_JSON);
        let line = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{end}\",\"method\":\"tools/call\"}}");
        table.line(
            format!("{name} in the id of a forbidden request"),
            line,
            &format!("\"{end}\" -32601"),
        );
    }
    for code in [0, 1, 8, 9, 0xb, 0xc, 0xd, 0x1b, 0x1c, 0x1e, 0x1f] {
        let control = char::from(code);
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{{\"x\":\"{control}\"}}}}"
        );
        table.line(
            format!("control character {code} in a string"),
            line,
            NOT_JSON,
        );
        if !matches!(code, 9 | 0xd) {
            let line =
                format!("{{\"jsonrpc\":\"2.0\",{control}\"id\":7,\"method\":\"tools/list\"}}");
            table.line(
                format!("control character {code} between members"),
                line,
                NOT_JSON,
            );
        }
    }
    table.line(
        "controls as escapes",
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"x":"\u0000\u000a\r\n\u001e\u0085\u2028"}}"#,
        "7 ok",
    );
    table.line("NUL in front", format!("\0{LIST}"), NOT_JSON);
    table.line("NUL behind", format!("{LIST}\0"), NOT_JSON);
    table.line("only NULs", "\0".repeat(100), NOT_JSON);
    table.line("a BOM", format!("\u{feff}{LIST}"), NOT_JSON);
    table.line("a BOM behind", format!("{LIST}\u{feff}"), NOT_JSON);
    table.line("a BOM in a key", "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"\u{feff}method\":\"tools/call\"}".to_owned(), "7 ok");
    table.line(
        "white space all over",
        " \t\r{ \t\r\"jsonrpc\" : \"2.0\" ,\r\"id\"\t:\t7\r,\"method\":\r\"tools/list\"\r}\r \t",
        "7 ok",
    );
    table.line(
        "a record separator in front",
        format!("\u{1e}{LIST}"),
        NOT_JSON,
    );
    table.line(
        "a backslash at the end of a line",
        "{\"jsonrpc\":\"2.0\",\"id\":7,\\\n\"method\":\"tools/call\"}",
        "null -32700, null -32700",
    );
}

/// Bytes that are not UTF-8, or not all of it.
fn encodings(table: &mut Table) {
    let with = |bytes: &[u8]| {
        let head =
            &b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"params\":{\"x\":\""[..];
        [head, bytes, b"\"}}"].concat()
    };
    for (name, bytes) in [
        ("a lone continuation byte", &b"\x80"[..]),
        ("a lead byte without its end", b"\xc3"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong slash of three bytes", b"\xe0\x80\xaf"),
        ("an overlong quote", b"\xc0\xa2"),
        ("an overlong newline", b"\xc0\x8a"),
        ("an overlong NUL", b"\xc0\x80"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("CESU-8", b"\xed\xa0\xbd\xed\xb8\x80"),
        ("beyond Unicode", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("0xff", b"\xff"),
        ("0xfe", b"\xfe"),
        ("Latin-1", b"caf\xe9"),
        ("half an LS", b"\xe2\x80"),
    ] {
        table.line(format!("not UTF-8: {name}"), with(bytes), NOT_JSON);
    }
    let key = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\",\"meth\xc1\xafd\":\"tools/call\"}";
    table.line("not UTF-8: an overlong letter in a key", &key[..], NOT_JSON);
    table.line(
        "not UTF-8: 0xff in front",
        [b"\xff", LIST.as_bytes()].concat(),
        NOT_JSON,
    );
    table.line(
        "not UTF-8: behind",
        [LIST.as_bytes(), b"\xff"].concat(),
        NOT_JSON,
    );
    let wide = |big: bool| -> Vec<u8> {
        let unit = |unit: u16| {
            if big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        // Without a newline character, whose bytes would end the line in its middle.
        EVIL.encode_utf16().flat_map(unit).collect()
    };
    table.line("UTF-16LE", wide(false), NOT_JSON);
    table.line("UTF-16BE", wide(true), NOT_JSON);
    table.line(
        "UTF-16LE with a BOM",
        [b"\xff\xfe", &wide(false)[..]].concat(),
        NOT_JSON,
    );
    table.line(
        "UTF-7",
        "+AHs-+ACI-jsonrpc+ACI-:+ACI-2.0+ACI-+AH0-",
        NOT_JSON,
    );
    for (name, text) in [
        ("noncharacters", "\u{ffff}\u{fffe}\u{1ffff}"),
        ("emoji", "\u{1f600}"),
        ("the replacement", "\u{fffd}"),
        ("a right-to-left override", "\u{202e}"),
    ] {
        table.line(format!("{name} in a string"), with(text.as_bytes()), "7 ok");
    }
    for (name, text) in [
        ("a high surrogate", "\\ud800"),
        ("a low surrogate", "\\udc00"),
        ("a pair the wrong way round", "\\udc00\\ud800"),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{text}"}}"#);
        table.line(format!("{name} as method"), line, "7 -32600");
        let line = format!(r#"{{"jsonrpc":"2.0","id":"{text}","method":"tools/list"}}"#);
        table.line(format!("{name} as id"), line, NO_MESSAGE);
        table.line(
            format!("{name} in a payload"),
            with(text.as_bytes()),
            "7 ok",
        );
    }
    table.line("an escape of three digits", with(b"\\u123"), NOT_JSON);
    table.line("an escape of odd digits", with(b"\\u12g4"), NOT_JSON);
    table.line("an escape of a sign", with(b"\\u+123"), NOT_JSON);
    table.line("an unknown escape", with(b"\\x41"), NOT_JSON);
    table.line("an escaped quote", with(b"\\'"), NOT_JSON);
    table.line("a long escape", with(b"\\u{41}"), NOT_JSON);
    table.line("an octal escape", with(b"\\101"), NOT_JSON);
}

/// Numbers that readers do not agree on.
fn numbers(table: &mut Table) {
    let with = |number: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{"x":{number}}}}}"#)
    };
    for number in [
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "+1",
        "01",
        "-01",
        "00",
        ".5",
        "1.",
        "-.5",
        "-",
        "1e",
        "1e+",
        "0x10",
        "0b1",
        "0o7",
        "1_000",
        "1,000",
        "1 000",
        "--1",
        "1f",
        "undefined",
        "True",
        "None",
        "nil",
        "1n",
    ] {
        table.line(format!("number {number}"), with(number), NOT_JSON);
    }
    for number in [
        "-0",
        "0e0",
        "1E400",
        "1e-400",
        "0.1e+1",
        "18446744073709551616",
        "-9223372036854775809",
    ] {
        table.line(format!("number {number}"), with(number), "7 ok");
    }
    let digits = "9".repeat(4000);
    table.line("a number of 4000 digits", with(&digits), "7 ok");
    // Python refuses to convert it, which leaves its asker without an answer, and nobody else.
    table
        .line("a number of 5000 digits", with(&"9".repeat(5000)), "7 ok")
        .not_for = &["python"];
}

/// What lenient readers take.
fn nearly_json(table: &mut Table) {
    for (name, line) in [
        ("a comment in front", format!("/* x */{LIST}")),
        ("a comment inside", LIST.replace(',', ",/* x */")),
        ("a comment behind", format!("{LIST}// x")),
        ("a hash comment", format!("{LIST}# x")),
        ("a trailing comma", LIST.replace('}', ",}")),
        ("a doubled comma", LIST.replace(',', ",,")),
        ("a leading comma", LIST.replace('{', "{,")),
        ("single quotes", LIST.replace('"', "'")),
        ("backquotes", LIST.replace('"', "`")),
        ("typographic quotes", LIST.replace('"', "\u{201d}")),
        (
            "keys without quotes",
            "{jsonrpc:\"2.0\",id:5,method:\"tools/call\"}".to_owned(),
        ),
        ("equals for colons", LIST.replace(':', "=")),
        ("a colon too many", LIST.replace(':', "::")),
        (
            "no colon",
            r#"{"jsonrpc" "2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        (
            "no comma",
            r#"{"jsonrpc":"2.0" "id":7 "method":"tools/call"}"#.to_owned(),
        ),
        (
            "a number as key",
            r#"{1:2,"jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        (
            "null as key",
            r#"{null:2,"jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        (
            "no end",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call""#.to_owned(),
        ),
        (
            "no beginning",
            r#""jsonrpc":"2.0","id":7,"method":"tools/call"}"#.to_owned(),
        ),
        ("an end too many", format!("{EVIL}}}")),
        ("the wrong end", EVIL.replace("}}}", "}}]")),
        (
            "a string without end",
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call}"#.to_owned(),
        ),
        ("JSONP", format!("callback({EVIL})")),
        ("a prefix against hijacking", format!(")]}}',{EVIL}")),
        ("a header in front", format!("Content-Length: 99 {EVIL}")),
        ("an HTTP request line", "POST / HTTP/1.1".to_owned()),
        ("a TLS greeting", "\u{16}\u{3}\u{1}\u{2}".to_owned()),
        ("an event stream", format!("data: {EVIL}")),
        ("YAML", "jsonrpc: '2.0'".to_owned()),
        ("brackets only", "}{".to_owned()),
        ("a word", "help".to_owned()),
    ] {
        table.line(name, line, NOT_JSON);
    }
    for (name, line) in [
        ("true", "true"),
        ("a number", "42"),
        ("a string", "\"tools/call\""),
        ("null", "null"),
    ] {
        table.line(format!("{name} alone"), line, NO_MESSAGE);
    }
}

fn nesting_and_size(table: &mut Table) {
    let lists = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let objects = |depth: usize| "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    let with = |value: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{{"x":{value}}}}}"#)
    };
    table.line("nested 126 deep", with(&lists(126)), "7 ok");
    table.line("objects nested 126 deep", with(&objects(126)), "7 ok");
    for depth in [127, 1_000, 20_000] {
        table.line(
            format!("lists nested {depth} deep"),
            with(&lists(depth)),
            NO_MESSAGE,
        );
    }
    for depth in [127, 5_000] {
        table.line(
            format!("objects nested {depth} deep"),
            with(&objects(depth)),
            NO_MESSAGE,
        );
    }
    table.line("only openings", "[".repeat(30_000), NO_MESSAGE);
    table.line(
        "only openings of objects",
        "{\"a\":".repeat(5_000),
        NO_MESSAGE,
    );
    table.line(
        "deep in a member that is dropped",
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"tools/list","y":{}}}"#,
            lists(500)
        ),
        NO_MESSAGE,
    );
    let sized = |size: usize| {
        let bare = with("\"\"");
        with(&format!("\"{}\"", "x".repeat(size - bare.len())))
    };
    // The proxy's own id may be longer.
    table.line("as long as may be", sized(LIMIT - 20), "7 ok");
    let case = table.line("a byte too long", sized(LIMIT + 1), NO_MESSAGE);
    case.closes = true;
    let case = table.line("far too long", sized(LIMIT * 3), NO_MESSAGE);
    case.closes = true;
    let case = table.line(
        "too long, and then a message",
        format!("{}\n{EVIL}\n{LIST}", sized(LIMIT + 1)),
        NO_MESSAGE,
    );
    case.closes = true;
    let many: Vec<String> = (0..2000).map(|at| format!("\"k{at}\":{at}")).collect();
    table.line(
        "two thousand members",
        with(&format!("{{{}}}", many.join(","))),
        "7 ok",
    );
}

/// Ids of every kind; the answer has the very same one.
fn ids(table: &mut Table) {
    for id in [
        "0",
        "-1",
        "1",
        "9007199254740991",
        "-9007199254740991",
        "\"\"",
        "\"0\"",
        "\"null\"",
        "\"\\u0000\"",
        "\"__proto__\"",
        "\"\\\"\\\\\"",
        "\"\u{1f600}\"",
        "\"\\r\\n\"",
    ] {
        table.line(
            format!("id {id} of a harmless request"),
            quoted("tools/list", id).replace("EVIL", "x"),
            &format!("{} ok", text_of(id)),
        );
        table.line(
            format!("id {id} of a forbidden request"),
            quoted("tools/call", id),
            &format!("{} -32601", text_of(id)),
        );
    }
    for id in [
        "null",
        "true",
        "false",
        "{}",
        "[]",
        "[1]",
        "{\"a\":1}",
        "\"\\ud800\"",
    ] {
        table.line(format!("id {id}"), quoted("tools/list", id), NO_MESSAGE);
        table.line(
            format!("id {id} of a forbidden request"),
            quoted("tools/call", id),
            NO_MESSAGE,
        );
    }
    for id in [
        "1.5",
        "1.0",
        "1e2",
        "-1.0e1",
        "9007199254740992",
        "-9007199254740992",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "1e400",
    ] {
        // A child of one's own would see the id.
        table
            .line(
                format!("id {id}"),
                quoted("tools/list", id).replace("EVIL", "x"),
                &format!("{id} ok"),
            )
            .shared_only = true;
        table.line(
            format!("id {id} of a forbidden request"),
            quoted("tools/call", id),
            &format!("{id} -32601"),
        );
    }
    let long = format!("\"{}\"", "i".repeat(1025));
    table.line("id too long", quoted("tools/list", &long), NO_MESSAGE);
    let long = format!("\"{}\"", "i".repeat(1024));
    table.line(
        "id as long as may be",
        quoted("tools/call", &long),
        &format!("{long} -32601"),
    );
    // The router's own ids are no secret: numbers from 1 on.
    let twice = format!("{}\n{}", LIST, LIST.replace(":7,", ":\"7\","));
    table.line("7 and \"7\" at a time", twice, "7 ok, \"7\" ok");
}

/// How serde_json writes the id that `json` is.
fn text_of(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    value.to_string()
}

/// Messages that pretend to belong to somebody else's request.
fn answers_and_notifications(table: &mut Table) {
    for id in [
        "0",
        "1",
        "2",
        "7",
        "-1",
        "\"1\"",
        "\"asked\"",
        "\"bystander 1\"",
    ] {
        table.line(
            format!("a forged result for {id}"),
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"EVIL":1}}}}"#),
            "",
        );
        table.line(
            format!("a forged error for {id}"),
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":1,"message":"EVIL"}}}}"#),
            "",
        );
        table.line(
            format!("a forged cancel of {id}"),
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#),
            "",
        );
    }
    for (name, line, answers) in [
        (
            "an error for nobody",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#,
            "",
        ),
        (
            "an error without an id",
            r#"{"jsonrpc":"2.0","error":{"code":1,"message":"x"}}"#,
            "",
        ),
        (
            "an error as text",
            r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#,
            NO_MESSAGE,
        ),
        (
            "a result for nobody",
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            NO_MESSAGE,
        ),
        (
            "a result without an id",
            r#"{"jsonrpc":"2.0","result":{}}"#,
            NO_MESSAGE,
        ),
        (
            "a cancel of nothing",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#,
            "",
        ),
        (
            "a cancel of null",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":null}}"#,
            "",
        ),
        (
            "a cancel of a list",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[1,2,3]}}"#,
            "",
        ),
        (
            "a cancel twice",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestId":2}}"#,
            NO_MESSAGE,
        ),
        (
            "a cancel by request_id",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"request_id":1}}"#,
            NO_MESSAGE,
        ),
        (
            "a cancel by RequestId",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"RequestId":1}}"#,
            NO_MESSAGE,
        ),
        (
            "a cancel with params as a list",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}"#,
            "",
        ),
        (
            "a second handshake's end",
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            "",
        ),
        (
            "forged list changes",
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#,
            "",
        ),
        (
            "a forged log line",
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":"EVIL"}}"#,
            "",
        ),
        (
            "progress on nothing",
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"EVIL","progress":1}}"#,
            "",
        ),
        (
            "progress on a number",
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#,
            "",
        ),
        (
            "progress twice",
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progressToken":2}}"#,
            NO_MESSAGE,
        ),
        (
            "somebody's task",
            r#"{"jsonrpc":"2.0","id":5,"method":"tasks/get","params":{"taskId":"EVIL"}}"#,
            "5 -32601",
        ),
    ] {
        table.line(name, line, answers).shared_only = name.starts_with("progress on");
    }
}

/// Requests without an id and notifications with one, of a peer that may do everything: a server
/// that looks at the method alone would act on them, for everybody.
fn misplaced(table: &mut Table) {
    let mut add = |name: &str, line: String, answers: &str| {
        table.line(name, line, answers).role = "anybody";
    };
    for (method, inside) in [
        ("notifications/cancelled", r#""requestId":"EVIL""#),
        ("notifications/initialized", ""),
        ("notifications/progress", r#""progressToken":"EVIL""#),
        ("notifications/tasks/status", r#""taskId":"EVIL""#),
    ] {
        let line =
            format!(r#"{{"jsonrpc":"2.0","id":5,"method":"{method}","params":{{{inside}}}}}"#);
        add(&format!("{method} as a request"), line, "5 -32600");
    }
    for method in [
        "initialize",
        "ping",
        "server/discover",
        "subscriptions/listen",
        "tools/call",
        "tasks/cancel",
        "tasks/result",
        "resources/subscribe",
        "resources/unsubscribe",
        "logging/setLevel",
        "completion/complete",
        "prompts/get",
    ] {
        let line = format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"uri":"EVIL","taskId":"EVIL","level":"debug"}}}}"#
        );
        add(&format!("{method} as a notification"), line, "");
    }
    add(
        "a notification with a progress token",
        r#"{"jsonrpc":"2.0","method":"x/run","params":{"_meta":{"progressToken":"EVIL"}}}"#
            .to_owned(),
        "",
    );
}

/// A peer that may use every method, but not the tool, the prompt or the resources called `EVIL`.
fn things(table: &mut Table) {
    let mut add = |method: &str, params: &str, answer: &str| {
        let line = format!(r#"{{"jsonrpc":"2.0","id":5,"method":"{method}"{params}}}"#);
        let case = table.line(format!("{method} with {params}"), line, answer);
        case.role = "careful";
        case.may = &[
            "ping",
            "tools/call",
            "prompts/get",
            "resources/read",
            "completion/complete",
        ];
    };
    add(
        "tools/call",
        r#","params":{"name":"good","arguments":{"name":"EVIL"}}"#,
        "5 ok",
    );
    add("resources/read", r#","params":{"uri":"x:good"}"#, "5 ok");
    for method in ["tools/call", "prompts/get"] {
        for params in [
            r#","params":{"name":"EVIL"}"#,
            r#","params":{"name":"\u0045VI\u004c"}"#,
            r#","params":{"n\u0061me":"EVIL"}"#,
            r#","params":{"arguments":{"name":"EVIL"}}"#,
            r#","params":{"name":["EVIL"]}"#,
            r#","params":{"name":{"name":"EVIL"}}"#,
            r#","params":{"name":null}"#,
            r#","params":{"name":7}"#,
            r#","params":["EVIL"]"#,
            r#","params":{}"#,
            "",
        ] {
            add(method, params, "5 -32601");
        }
    }
    for method in [
        "resources/read",
        "resources/subscribe",
        "resources/unsubscribe",
    ] {
        for uri in [
            "\"x:EVIL\"",
            "\"x:EVIL/1\"",
            "\"x:EVIL?a\"",
            "\"x:EVIL#a\"",
            "\"X:EVIL\"",
            "\"x:%45VIL\"",
            "\"x:EV%49L\"",
            "\"x:\\u0045VIL\"",
            "\" x:EVIL\"",
            "\"x:a/../EVIL\"",
            "\"x:./EVIL\"",
            "\"x:\\\\EVIL\"",
            "\"x:\\tEVIL\"",
            "[\"x:EVIL\"]",
            "null",
        ] {
            add(method, &format!(r#","params":{{"uri":{uri}}}"#), "5 -32601");
        }
        add(method, "", "5 -32601");
    }
    let prompt = r#""type":"ref/prompt""#;
    let resource = r#""type":"ref/resource""#;
    for inside in [
        &format!(r#""ref":{{{prompt},"name":"EVIL"}}"#),
        &format!(r#""ref":{{{prompt},"name":"good","uri":"x:EVIL"}}"#),
        &format!(r#""ref":{{{prompt}}}"#),
        &format!(r#""ref":{{{resource},"uri":"x:EVIL"}}"#),
        &format!(r#""ref":{{{resource},"uri":"x:EVIL{{a}}"}}"#),
        &format!(r#""ref":{{{resource},"uri":"{{+a}}"}}"#),
        &format!(r#""ref":{{{resource},"uri":"x:good","name":"EVIL"}}"#),
        r#""ref":{"type":"ref/other","name":"EVIL"}"#,
        r#""ref":{"name":"EVIL"}"#,
        r#""ref":[{"type":"ref/prompt","name":"EVIL"}]"#,
        r#""argument":{}"#,
    ] {
        add(
            "completion/complete",
            &format!(r#","params":{{{inside}}}"#),
            "5 -32601",
        );
    }
    for inside in [
        &format!(r#""ref":{{{prompt},"name":"good","name":"EVIL"}}"#),
        &format!(r#""ref":{{{prompt},"name":"good","Name":"EVIL"}}"#),
        &format!(r#""ref":{{{resource},"uri":"x:good","u_ri":"x:EVIL"}}"#),
        &format!(r#""ref":{{{prompt},"name":"good"}},"Ref":{{{prompt},"name":"EVIL"}}"#),
    ] {
        add(
            "completion/complete",
            &format!(r#","params":{{{inside}}}"#),
            "5 -32600",
        );
    }
    for list in [
        r#"["x:good","x:EVIL"]"#,
        r#""x:EVIL""#,
        r#"[["x:EVIL"]]"#,
        r#"{"0":"x:EVIL"}"#,
        "null",
    ] {
        let params = format!(r#","params":{{"notifications":{{"resourceSubscriptions":{list}}}}}"#);
        add("subscriptions/listen", &params, "5 -32601");
    }
    add("tools/list", r#","params":{"task":{}}"#, "5 -32601");
    let line = r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"EVIL"}}"#;
    let case = table.line("a forbidden tool as a notification", line, "");
    (case.role, case.may) = ("careful", &["ping"]);
}

/// TCP, cut where it should not matter.
fn segments(table: &mut Table) {
    let bytes = |texts: &[&str]| {
        let owned = texts.iter().map(|text| text.as_bytes().to_vec());
        Input::Segments(owned.collect())
    };
    let (half, other_half) = EVIL.split_at(40);
    table.add("halves", bytes(&[half, other_half, "\n"]), "66 -32601");
    table.add(
        "halves around a whole",
        bytes(&[half, "\n", LIST, "\n", other_half, "\n"]),
        "7 ok, 66 -32700, null -32700",
    );
    table.add(
        "a harmless head, a forbidden tail",
        bytes(&[&LIST[..LIST.len() - 1], ",\"method\":\"tools/call\"}\n"]),
        "7 -32600",
    );
    let each: Vec<Vec<u8>> = EVIL.bytes().chain(*b"\n").map(|byte| vec![byte]).collect();
    table.add("byte by byte", Input::Segments(each), "66 -32601");
    table.0.push(
        Case {
            name: "half a line, then gone".into(),
            role: "lister",
            may: &[],
            input: bytes(&[half]),
            answers: String::new(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        }
        .leaves(),
    );
    table.0.push(
        Case {
            name: "a whole line without its end, then gone".into(),
            role: "lister",
            may: &[],
            input: bytes(&[EVIL]),
            answers: String::new(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        }
        .leaves(),
    );
    let long = "x".repeat(LIMIT * 2);
    table.0.push(
        Case {
            name: "no line end at all".into(),
            role: "lister",
            may: &[],
            input: bytes(&[&long]),
            answers: NO_MESSAGE.into(),
            closes: false,
            leaves: false,
            not_for: &[],
            shared_only: false,
        }
        .closes(),
    );
}

/// WebSocket, framed as nobody would.
fn frames(table: &mut Table) {
    const TEXT: u8 = 0x81;
    const BINARY: u8 = 0x82;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    let frames = |frames: &[(u8, &str)]| {
        Input::Frames(
            frames
                .iter()
                .map(|(head, text)| (*head, text.as_bytes().to_vec()))
                .collect(),
        )
    };
    let (half, other_half) = EVIL.split_at(40);
    for (name, input, answers) in [
        (
            "two messages in a frame",
            frames(&[(TEXT, &format!("{LIST}\n{EVIL}"))]),
            "7 ok, 66 -32601",
        ),
        (
            "halves in two frames",
            frames(&[(TEXT, half), (TEXT, other_half)]),
            "66 -32601",
        ),
        (
            "halves, one of them binary",
            frames(&[(BINARY, half), (TEXT, other_half)]),
            "66 -32601",
        ),
        (
            "halves around a ping",
            frames(&[(TEXT, half), (PING, EVIL), (TEXT, other_half)]),
            "66 -32601",
        ),
        ("a binary frame", frames(&[(BINARY, EVIL)]), "66 -32601"),
        (
            "messages in control frames",
            frames(&[(PING, &EVIL[..100]), (PONG, LIST)]),
            "",
        ),
        (
            "an empty frame",
            frames(&[(TEXT, ""), (BINARY, ""), (TEXT, EVIL)]),
            "66 -32601",
        ),
        (
            "fragments",
            frames(&[(1, half), (0, ""), (PING, "x"), (0x80, other_half)]),
            "66 -32601",
        ),
        (
            "the tail belongs to no frame",
            frames(&[
                (TEXT, &format!("{LIST}\n{half}")),
                (TEXT, &format!("{other_half}\n")),
            ]),
            "7 ok, 66 -32601",
        ),
        (
            "a message whose end looks nearer",
            frames(&[
                (TEXT, r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#),
                (TEXT, r#","method":"tools/call"}"#),
                (TEXT, "\n"),
            ]),
            "7 ok, null -32700",
        ),
        (
            "brackets in strings",
            frames(&[
                (TEXT, r#"{"jsonrpc":"2.0","id":5,"x":"}","y":"\"}","#),
                (TEXT, r#""method":"tools/call"}"#),
            ]),
            "5 -32601",
        ),
    ] {
        table.add(name, input, answers);
    }
    let each: Vec<(u8, Vec<u8>)> = EVIL.bytes().map(|byte| (TEXT, vec![byte])).collect();
    table.add("byte by byte in frames", Input::Frames(each), "66 -32601");
    let mut each: Vec<(u8, Vec<u8>)> = EVIL.bytes().map(|byte| (0, vec![byte])).collect();
    each[0].0 = 1;
    each.push((0x80, Vec::new()));
    table.add(
        "byte by byte in fragments",
        Input::Frames(each),
        "66 -32601",
    );
    for (name, input) in [
        ("a continuation of nothing", frames(&[(0x80, EVIL)])),
        (
            "a message inside another's fragments",
            frames(&[(1, half), (TEXT, EVIL)]),
        ),
        ("a reserved opcode", frames(&[(0x83, EVIL)])),
        (
            "a reserved bit, as for compression",
            frames(&[(0xc1, EVIL)]),
        ),
        ("a fragmented ping", frames(&[(0x09, "x")])),
        ("a ping too long", frames(&[(PING, &"x".repeat(126))])),
        (
            "a close in the middle",
            frames(&[(1, half), (0x88, ""), (0x80, other_half)]),
        ),
        (
            "a message behind the close",
            frames(&[(0x88, ""), (TEXT, EVIL)]),
        ),
    ] {
        table.add(name, input, "").closes = true;
    }
    let broken = Input::Frames(vec![(
        TEXT,
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(),
    )]);
    table
        .add("a text frame that is not UTF-8", broken, "")
        .closes = true;
    let over = "x".repeat(LIMIT + 2);
    table
        .add("a frame too long", frames(&[(TEXT, &over)]), NO_MESSAGE)
        .closes = true;
    let half = "x".repeat(LIMIT / 2 + 10);
    table
        .add(
            "fragments too long together",
            frames(&[(1, &half), (0, &half), (0x80, &half)]),
            NO_MESSAGE,
        )
        .closes = true;
    let open = format!("\"{half}");
    table
        .add(
            "a line too long over frames",
            frames(&[(TEXT, &format!("{{{open}")), (TEXT, &half), (TEXT, &half)]),
            NO_MESSAGE,
        )
        .closes = true;
}
