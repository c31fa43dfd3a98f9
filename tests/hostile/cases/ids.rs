//! Ids, and messages that pretend to belong to another peer's request.

use super::{LIST, NO_MESSAGE, Table, quoted};

/// Ids of every kind; the response has exactly the same one.
pub(super) fn ids(table: &mut Table) {
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
        // An isolated child would see the id.
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
    // The router's own ids are predictable: numbers from 1 on.
    let twice = format!("{}\n{}", LIST, LIST.replace(":7,", ":\"7\","));
    table.line("7 and \"7\" at a time", twice, "7 ok, \"7\" ok");
}

/// How serde_json writes the id that `json` is.
fn text_of(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("JSON");
    value.to_string()
}

/// Messages that pretend to belong to another peer's request.
pub(super) fn answers_and_notifications(table: &mut Table) {
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
