//! Params, and names that a policy reads.

use super::Table;

/// The members of `params` that some component reads.
pub(super) fn params(table: &mut Table) {
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

/// A peer that may use every method, but not the tool, prompt or resources called `EVIL`.
pub(super) fn things(table: &mut Table) {
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
