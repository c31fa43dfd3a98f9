//! The lists that peers see.

use super::*;

/// The rest of a result for these roles; `None` when it cannot be filtered.
fn cut(roles: &[&str], method: &str, result: &str) -> Option<String> {
    let permit = ask(roles, method, "{}").unwrap();
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
    let answer = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
    let edits = match permit.list() {
        Some(filter) => filter.edits(&answer).ok()?,
        None => Vec::new(),
    };
    let line = answer.to_line(answer.id(), &edits);
    let line = String::from_utf8(line.joined().to_vec()).unwrap();
    let (_, rest) = line.split_once("\"result\":").unwrap();
    Some(rest.strip_suffix("}\n").unwrap().to_owned())
}

#[test]
fn lists_lose_what_may_not_be_used_and_nothing_else() {
    for (roles, method, result, left) in [
        (
            &["reader"][..],
            "tools/list",
            r#"{ "x":1.0, "tools" : [ {"name":"a"} , {"name":"list","n":1e2} , {"name":"b"},{"name":"c"}, {"name":"read_x"} ,{"name":"d"} ], "nextCursor":"é"}"#,
            r#"{ "x":1.0, "tools" : [ {"name":"list","n":1e2}, {"name":"read_x"} ], "nextCursor":"é"}"#,
        ),
        (
            &["reader"],
            "tools/list",
            r#"{"tools":[{"name":"a"}, {"name":"b"} ],"cacheScope":"public"}"#,
            r#"{"tools":[ ],"cacheScope":"private"}"#,
        ),
        (
            &["reader"],
            "tools/list",
            r#"{"cacheScope":null,"tools":[]}"#,
            r#"{"cacheScope":"private","tools":[]}"#,
        ),
        (
            &["reader"],
            "tools/list",
            r#"{"tools":[]}"#,
            r#"{"tools":[]}"#,
        ),
        // Elements whose name readers may disagree on are removed.
        (
            &["reader"],
            "tools/list",
            r#"{"tools":[{"name":"list","name":"x"},{"Name":"list","name":"list"},{"name":1},{},1,["name"],{"n\u0061me":"list"}]}"#,
            r#"{"tools":[{"n\u0061me":"list"}]}"#,
        ),
        // Everything may be seen: only the scope changes, since others see less.
        (
            &["all"],
            "tools/list",
            r#"{"tools":[{"name":"x"},{}],"cacheScope":"public","ttlMs":1}"#,
            r#"{"tools":[{"name":"x"},{}],"cacheScope":"private","ttlMs":1}"#,
        ),
        (&["all"], "tools/list", r#"{"odd":1}"#, r#"{"odd":1}"#),
        (
            &["reader"],
            "prompts/list",
            r#"{"prompts":[{"name":"x"},{"name":"a summary"}]}"#,
            r#"{"prompts":[{"name":"a summary"}]}"#,
        ),
        (
            &["reader"],
            "resources/list",
            r#"{"resources":[{"uri":"note:///one","name":"x"},{"uri":"note:///public/../x"},{"uri":"note:///two"}]}"#,
            r#"{"resources":[{"uri":"note:///one","name":"x"}]}"#,
        ),
        // A template stays if some expansion of it is allowed.
        (
            &["reader"],
            "resources/templates/list",
            r#"{"resourceTemplates":[{"uriTemplate":"note:///{x}"},{"uriTemplate":"file:///{x}"}]}"#,
            r#"{"resourceTemplates":[{"uriTemplate":"note:///{x}"}]}"#,
        ),
        (
            &["careful"],
            "resources/templates/list",
            r#"{"resourceTemplates":[{"uriTemplate":"note:///secret/{x}"},{"uriTemplate":"note:///{x}"}]}"#,
            r#"{"resourceTemplates":[{"uriTemplate":"note:///{x}"}]}"#,
        ),
        // A list shows what the roles that allow the list permit to be listed.
        (
            &["lister"],
            "tools/list",
            r#"{"tools":[{"name":"x"}]}"#,
            r#"{"tools":[{"name":"x"}]}"#,
        ),
        (
            &["lister", "careful"],
            "tools/list",
            r#"{"tools":[{"name":"delete"},{"name":"x"}]}"#,
            r#"{"tools":[{"name":"x"}]}"#,
        ),
        (&["all"], "ping", r#"{"tools":1}"#, r#"{"tools":1}"#),
    ] {
        let cut = cut(roles, method, result);
        assert_eq!(cut.as_deref(), Some(left), "{roles:?} {method} {result}");
    }
}

#[test]
fn lists_that_cannot_be_cut_are_withheld() {
    for result in [
        "{}",
        "[]",
        "[{\"name\":\"list\"}]",
        "null",
        r#"{"tools":{}}"#,
        r#"{"tools":null}"#,
        r#"{"tools":[],"tools":[]}"#,
        r#"{"tools":[],"Tools":[]}"#,
        r#"{"tools":[],"t\u006fols":[]}"#,
        r#"{"tools":[],"cacheScope":"public","cacheScope":"private"}"#,
        r#"{"tools":[],"cache_scope":"public"}"#,
        r#"{"task":{"taskId":"t"}}"#,
    ] {
        assert_eq!(cut(&["reader"], "tools/list", result), None, "{result}");
    }
}

/// Raw line ends are also escaped in what remains of a list.
#[test]
fn what_stays_of_a_list_is_one_line_for_everybody() {
    let result = "{\"tools\":[{\"name\":\"x\"},\r{\"name\":\"list\",\"d\":\"\u{2028}\"}]}";
    let left = cut(&["reader"], "tools/list", result).unwrap();
    assert_eq!(left, r#"{"tools":[{"name":"list","d":"\u2028"}]}"#);
}

#[test]
fn a_policy_without_such_rules_leaves_lists_alone() {
    let line = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    assert!(decide(&["reader"], line).unwrap().list().is_none());
}
