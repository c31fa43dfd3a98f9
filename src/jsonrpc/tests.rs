//! The gate by itself: a table of lines, and a comparison with a second reader on random ones.

use super::head::Member;
use super::*;
use crate::utils::chunks::Pieces;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(line: impl AsRef<[u8]>) -> Result<Message, Refusal> {
    Message::read(Bytes::copy_from_slice(line.as_ref()), MAX_PEER_DEPTH)
}

fn written(message: &Message) -> String {
    String::from_utf8(message.to_line(message.id(), &[]).joined().to_vec()).unwrap()
}

#[test]
fn what_passes_is_written_anew() {
    for (line, passed) in [
        (
            r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#,
        ),
        (
            r#" {"method" : "a\u002fb" ,"id":"\u0041","jsonrpc":"\u0032.0"} "#,
            "",
        ),
        (
            r#"{"method":"a\/b","id":"\u0041","jsonrpc":"2.0"}"#,
            r#"{"jsonrpc":"2.0","id":"A","method":"a/b"}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","method":"n","params":[1, 2]}"#,
            r#"{"jsonrpc":"2.0","method":"n","params":[1, 2]}"#,
        ),
        (
            r#"{"extra":{"method":"x"},"params":{},"jsonrpc":"2.0","id":1,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"result":null}"#,
            r#"{"jsonrpc":"2.0","id":3,"result":null}"#,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"a\"\t:\r\"\u{2028}\u{85}é\u{2029}\"}}\r",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\",\"params\":{\"a\" : \"\\u2028\\u0085é\\u2029\"}}",
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":\"\u{2028}\",\"method\":\"\u{85}\"}",
            "{\"jsonrpc\":\"2.0\",\"id\":\"\\u2028\",\"method\":\"\\u0085\"}",
        ),
    ] {
        match read(line) {
            Ok(message) => assert_eq!(written(&message).trim_end(), passed, "{line}"),
            Err(refusal) => assert!(passed.is_empty(), "{line}: {refusal}"),
        }
    }
}

/// Bug: every message of a server or client that ends its lines with CR LF, and every body over HTTP that ends with a
/// line end, was copied byte by byte.
#[test]
fn what_follows_a_message_does_not_make_it_slow() {
    let message = r#"{"jsonrpc":"2.0","id":1,"result":{"x":1}}"#;
    for (before, behind, expected) in [
        ("", "", false),
        ("", "\r", false),
        ("", "\r\n\t\n ", false),
        ("\t", "", true),
    ] {
        let message = read(format!("{before}{message}{behind}")).unwrap();
        assert_eq!(message.needs_mending, expected, "{before:?}, {behind:?}");
    }
}

#[test]
fn a_refused_line_is_answered_under_the_ids_that_are_due() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{}{}}}"#,
        "[".repeat(128),
        "]".repeat(128)
    );
    for (line, code, id) in [
        ("", Code::ParseError, json!(null)),
        ("{", Code::ParseError, json!(null)),
        ("null", Code::InvalidRequest, json!(null)),
        ("{}{}", Code::ParseError, json!(null)),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"x":NaN}}"#,
            Code::ParseError,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m"} x"#,
            Code::ParseError,
            json!(1),
        ),
        (
            r#"[{"jsonrpc":"2.0","id":1,"method":"m"}]"#,
            Code::InvalidRequest,
            json!(null),
        ),
        (r#"{"id":1,"method":"m"}"#, Code::InvalidRequest, json!(1)),
        (
            r#"{"jsonrpc":"1.0","id":"x","method":"m"}"#,
            Code::InvalidRequest,
            json!("x"),
        ),
        (
            r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            Code::InvalidRequest,
            json!(null),
        ),
        (
            r#"{"jsonrpc":"2.0","id":[1],"method":"m"}"#,
            Code::InvalidRequest,
            json!(null),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":"x"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        // An id that names a request of the other side is not used in the response.
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#,
            Code::InvalidRequest,
            json!(null),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
            Code::InvalidRequest,
            json!([]),
        ),
        (
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            Code::InvalidRequest,
            json!([]),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":"x"}"#,
            Code::InvalidRequest,
            json!([]),
        ),
        // Readers disagree on these.
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","method":"n"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
            Code::InvalidRequest,
            json!(null),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"ID":2,"method":"m"}"#,
            Code::InvalidRequest,
            json!(null),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","Method":"n"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","paramſ":{}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","m\u0065thod":"n"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"params":{"Uri":"b"},"jsonrpc":"2.0","id":1,"method":"resources/read"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{},"meta":{}}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":[]}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":1.5}}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":1,"progress_token":2}}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"request_id":2}}"#,
            Code::InvalidRequest,
            json!([]),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\ud800"}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\u0000b"}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000":"b"}}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/list\u0000"}"#,
            Code::InvalidRequest,
            json!(1),
        ),
        (&deep, Code::InvalidRequest, json!(1)),
    ] {
        let refusal = read(line).expect_err(line);
        let replies = refusal.replies().into_iter();
        let ids = replies.map(|line| serde_json::from_slice::<Value>(&line).unwrap()["id"].take());
        // `[]` means no response.
        let expected = if id == json!([]) { vec![] } else { vec![id] };
        assert_eq!((refusal.code, ids.collect()), (code, expected), "{line}");
    }
    let not_utf8 = read(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}").unwrap_err();
    assert_eq!(
        (not_utf8.code, not_utf8.reason),
        (Code::ParseError, "not UTF-8")
    );
}

#[test]
fn every_request_of_a_refused_line_is_answered() {
    let refusal =
        read(r#"{"id":1,"method":"m"}{"id":"b","method":"m"}{"id":3,"result":{}}"#).unwrap_err();
    assert_eq!(refusal.replies().len(), 2);
    assert_eq!(
        refusal.answers().collect::<Vec<_>>(),
        [&RequestId::Number(3)]
    );
}

#[test]
fn null_stands_for_absent() {
    for (line, passed) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m"}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1 , "_meta" : null}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1 }}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":null,"a":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":null}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken": null ,"x":2}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"x":2}}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":1},"error":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{"a":1}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"x"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":null}"#,
        ),
        (
            r#"{"jsonrpc":"2.0","id":9.0,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","id":9.0,"method":"m"}"#,
        ),
    ] {
        let message = read(line).expect(line);
        assert_eq!(written(&message).trim_end(), passed, "{line}");
    }
}

#[test]
fn members_that_nobody_reads_may_look_like_anything() {
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"x/y","params":{"name":1,"Name":2,"uri":3,"URI":4}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"name":"x","NAME":"y"},"Uri":"z"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[{"name":"x"},{"name":"y"}]}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"name":"a","Name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":null}}"#,
    ] {
        read(line).expect(line);
    }
}

#[test]
fn nothing_of_a_payload_is_shown() {
    let message =
        read(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"hunter2"}}"#)
            .unwrap();
    assert!(!format!("{message:?}").contains("hunter2"));
    let refusal = read(r#"{"jsonrpc":"2.0","id":1,"hunter2":1}"#).unwrap_err();
    assert!(!format!("{refusal:?} {refusal}").contains("hunter2"));
}

/// Near-messages: members in any order, duplicated, misspelt, oddly spaced.
fn nearly_a_message() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        8 => prop::sample::select(vec!["jsonrpc", "id", "method", "params", "result", "error"]).prop_map(str::to_owned),
        2 => prop::sample::select(vec!["Method", "ID", "param\u{17f}", "m\\u0065thod", "x", "", "re\\u0073ult", "Jsonrpc"]).prop_map(str::to_owned),
    ];
    let value = prop::sample::select(vec![
        "\"2.0\"",
        "1",
        "0",
        "-1",
        "1.0",
        "\"1\"",
        "null",
        "\"tools/call\"",
        "\"ping\"",
        "{}",
        "[]",
        "\"\\u0070ing\"",
        "{\"name\":\"a\"}",
        "{\"name\":\"a\",\"Name\":\"b\"}",
        "{\"name\":\"a\",\"name\":\"b\"}",
        "{\"_meta\":{\"progressToken\":7}}",
        "\"\u{2028}\"",
        "\"\\ud800\"",
        "true",
        "NaN",
        "{\"code\":1,\"message\":\"m\"}",
        "01",
        "1e5",
    ]);
    let space = prop::sample::select(vec!["", "", "", " ", "\t", "\r", "\u{a0}"]);
    let member = (key, value, space.clone())
        .prop_map(|(key, value, space)| format!("{space}\"{key}\":{space}{value}"));
    let rest = prop::collection::vec(member, 0..4);
    (rest, any::<bool>(), space)
        .prop_map(|(mut members, based, space)| {
            if based {
                members.extend(["\"jsonrpc\":\"2.0\"", "\"method\":\"ping\""].map(str::to_owned));
            }
            (members, space)
        })
        .prop_flat_map(|(members, space)| (Just(members).prop_shuffle(), Just(space)))
        .prop_map(|(members, space)| format!("{space}{{{}}}{space}", members.join(",")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// A line that passes reads the same with a second, independent reader, before and after.
    #[test]
    fn a_second_reader_agrees(line in nearly_a_message()) {
        let Ok(message) = read(&line) else { return Ok(()) };
        let out = written(&message);
        let ends_early = out[..out.len() - 1].contains(['\n', '\r', '\t', '\u{2028}']);
        prop_assert!(!ends_early);
        let Ok(after) = serde_json::from_str::<Value>(&out) else {
            // A lone surrogate in a payload: serde_json rejects it, others do not.
            prop_assert!(line.contains("\\ud800"));
            return Ok(());
        };
        let object = after.as_object().unwrap();
        prop_assert_eq!(&object["jsonrpc"], &json!("2.0"));
        prop_assert_eq!(object.get("method").and_then(Value::as_str).unwrap_or_default(), message.method());
        let id = message.id().map(|id| {
            let mut text = Vec::new();
            id.write(&mut text);
            serde_json::from_slice::<Value>(&text).unwrap()
        });
        prop_assert_eq!(object.get("id").filter(|id| !id.is_null()), id.as_ref());
        if let Ok(before) = serde_json::from_str::<Value>(&line) {
            for name in ["method", "id", "params", "result", "error"] {
                let answer = matches!(message.kind(), Kind::Response(_));
                // Params have no meaning next to a result or an error, and are dropped.
                let missing = name == "id" && before.get("id").is_none() || name == "params" && answer;
                let given = before.get(name).filter(|value| !value.is_null());
                let passed = object.get(name).filter(|value| !value.is_null());
                prop_assert!(missing || given == passed, "{} of {}", name, line);
            }
        }
        // We accept what we wrote, and write the same again.
        prop_assert_eq!(written(&read(out.trim_end()).unwrap()), out);
    }

    #[test]
    fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
        let _either = read(&line);
    }
}

#[test]
fn members_are_recognised_by_their_names_and_by_what_looks_like_them() {
    for (member, name) in Member::ALL {
        let found = |name: &str| Member::recognise(name.as_bytes()).map(|(m, e)| (m as usize, e));
        assert_eq!(found(name), Some((member as usize, true)), "{name}");
        let alike = name.to_uppercase();
        assert_eq!(found(&alike), Some((member as usize, false)), "{alike}");
        assert_eq!(found(&format!("{name}s")), None);
    }
}
