use super::*;
use crate::jsonrpc::MAX_CHILD_DEPTH;
use crate::utils::chunks::Pieces;
use bytes::Bytes;

fn message(text: String) -> Message {
    Message::read(Bytes::from(text), MAX_CHILD_DEPTH).unwrap()
}

fn tool(name: &str, schema: &str) -> String {
    format!(r#"{{"name":"{name}","inputSchema":{schema}}}"#)
}

/// The part of a list that the host receives.
fn listed(tools: &mut Tools, list: &[String]) -> String {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{}],"x":1}}}}"#,
        list.join(",")
    );
    let answer = message(text);
    let changes = tools.observe(&answer);
    let line = answer.to_line(answer.id(), &changes.as_edits()).joined();
    String::from_utf8(line.to_vec()).unwrap()
}

fn call(tools: &Tools, name: &str, arguments: &str) -> Vec<(String, String)> {
    let text = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
    );
    let headers = tools.headers(&message(text)).into_iter();
    headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}

const SQL: &str = r#"{"type":"object","properties":{
    "region":{"type":"string","x-mcp-header":"Region"},
    "limit":{"type":"integer","x-mcp-header":"Limit"},
    "dry":{"type":"boolean","x-mcp-header":"Dry"},
    "where":{"type":"object","properties":{"zone":{"type":"string","x-mcp-header":"Zone"}}},
    "query":{"type":"string"}}}"#;

#[test]
fn m3_arguments_are_mirrored_as_the_schema_says() {
    let mut tools = Tools::default();
    assert_eq!(
        call(&tools, "sql", r#"{"region":"x"}"#),
        [],
        "before the list is known"
    );
    listed(
        &mut tools,
        &[tool("sql", SQL), tool("plain", r#"{"type":"object"}"#)],
    );
    for (arguments, expected) in [
        (
            r#"{"region":"us-west1","query":"q"}"#,
            &[("Region", "us-west1")][..],
        ),
        (
            r#"{"limit":42,"dry":false}"#,
            &[("Limit", "42"), ("Dry", "false")],
        ),
        (r#"{"limit":-7}"#, &[("Limit", "-7")]),
        (r#"{"limit":42.0}"#, &[("Limit", "42")]),
        (
            r#"{"limit":18446744073709551617}"#,
            &[("Limit", "18446744073709551617")],
        ),
        // The server rejects it, whatever the header says.
        (
            r#"{"region":"a","Region":"b","limit":1}"#,
            &[("Limit", "1")],
        ),
        (r#"{"region":"a","query":1e999}"#, &[("Region", "a")]),
        (
            r#"{"limit":9007199254740991}"#,
            &[("Limit", "9007199254740991")],
        ),
        (
            r#"{"where":{"zone":"\u00e9"}}"#,
            &[("Zone", "=?base64?w6k=?=")],
        ),
        (r#"{"region":"","dry":null}"#, &[("Region", "")]),
        (r#"{"where":"zone","zone":"x"}"#, &[]),
        (r#"{"region":["x"],"limit":{}}"#, &[]),
        ("{}", &[]),
        ("null", &[]),
    ] {
        let mut headers = call(&tools, "sql", arguments);
        headers.sort_unstable();
        let expected = expected.iter().map(|(name, value)| {
            (
                format!("mcp-param-{}", name.to_lowercase()),
                (*value).to_owned(),
            )
        });
        let mut expected: Vec<_> = expected.collect();
        expected.sort_unstable();
        assert_eq!(headers, expected, "{arguments}");
    }
    assert_eq!(call(&tools, "plain", r#"{"region":"x"}"#), []);
    listed(&mut tools, &[tool("sql", r#"{"type":"object"}"#)]);
    assert_eq!(
        call(&tools, "sql", r#"{"region":"x"}"#),
        [],
        "the newest list counts"
    );
}

#[test]
fn m4_tools_whose_annotations_break_the_rules_are_taken_out() {
    let property = |schema: &str| format!(r#"{{"type":"object","properties":{{"a":{schema}}}}}"#);
    for bad in [
        property(r#"{"type":"string","x-mcp-header":""}"#),
        property(r#"{"type":"string","x-mcp-header":"a b"}"#),
        property(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#),
        property(r#"{"type":"string","x-mcp-header":"é"}"#),
        property(r#"{"type":"string","x-mcp-header":7}"#),
        property(r#"{"type":"number","x-mcp-header":"A"}"#),
        property(r#"{"type":"array","x-mcp-header":"A"}"#),
        property(r#"{"x-mcp-header":"A"}"#),
        property(r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#),
        property(r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#),
        r##"{"$defs":{"a":{"type":"string","x-mcp-header":"A"}},"properties":{"a":{"$ref":"#/$defs/a"}}}"##.to_owned(),
        r#"{"type":"object","x-mcp-header":"A"}"#.to_owned(),
        r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#.to_owned(),
    ] {
        let mut tools = Tools::default();
        let list = [tool("one", SQL), tool("bad", &bad), tool("two", "{}")];
        let line = listed(&mut tools, &list);
        assert!(line.contains(r#""one""#) && line.contains(r#""two""#), "{line}");
        assert!(!line.contains(r#""bad""#) && line.contains(r#""x":1"#), "{bad}");
    }
}

#[test]
fn lists_without_annotations_stay_as_they_are() {
    let mut tools = Tools::default();
    let odd = property_named_like_it();
    for list in [
        vec![],
        vec![tool("a", "{}")],
        vec![tool("a", SQL)],
        vec![tool("a", &odd)],
    ] {
        let line = listed(&mut tools, &list);
        for tool in &list {
            assert!(line.contains(&tool.replace('\n', " ")), "{line}");
        }
    }
    let error = message(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#.to_owned());
    assert!(tools.observe(&error).as_edits().is_empty());
}

/// A parameter may have that name itself, and it may occur in data.
fn property_named_like_it() -> String {
    r#"{"properties":{"x-mcp-header":{"type":"string","default":{"x-mcp-header":"A"}}}}"#.to_owned()
}
