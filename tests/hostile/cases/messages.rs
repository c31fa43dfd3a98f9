//! Messages whose members are duplicated, look alike, or are misplaced.

use super::{EVIL, LIST, NO_MESSAGE, NOT_JSON, Table, quoted};

/// Forbidden methods, spelt to look like allowed ones, or the reverse.
pub(super) fn plain(table: &mut Table) {
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
pub(super) fn several_in_one(table: &mut Table) {
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

/// Members that are missing, of the wrong type, or duplicated.
pub(super) fn members(table: &mut Table) {
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
pub(super) fn look_alikes(table: &mut Table) {
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
    // Unknown to all readers: dropped.
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

/// Requests without an id and notifications with one, from a peer that may do everything: a server
/// that looks at the method alone would execute them, for all peers.
pub(super) fn misplaced(table: &mut Table) {
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
