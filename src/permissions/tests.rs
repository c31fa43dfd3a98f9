//! Rules as tables.

use super::*;
use crate::jsonrpc::MAX_PEER_DEPTH;
use crate::utils::chunks::Pieces;

const POLICY: &str = r#"{"permissions": {
    "reader": {"allowedMethods": ["ping", "tools/list", "resources/*"], "blockedMethods": ["resources/write"]},
    "caller": {"allowedMethods": ["tools/*"]},
    "tame": {"allowedMethods": ["initialize"], "blockedMethods": ["tools/call"]},
    "admin": {"allowedMethods": ["*"], "blockedMethods": []},
    "nobody": {"allowedMethods": [], "blockedMethods": ["*"]},
    "quiet": {"allowedMethods": ["*"], "blockedMethods": ["notifications/*"]}
}}"#;

fn decide(roles: &[&str], line: &str) -> Result<Permit, Denial> {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    let message = Message::read(line.to_owned().into(), MAX_PEER_DEPTH).unwrap();
    Policy::parse(POLICY)
        .unwrap()
        .rights(&roles)
        .decide(message)
}

#[test]
fn the_table_of_decisions() {
    for (roles, method, allowed) in [
        (&["reader"][..], "ping", true),
        (&["reader"], "tools/list", true),
        (&["reader"], "tools/call", false),
        (&["reader"], "resources/read", true),
        (&["reader"], "resources/templates/list", true),
        (&["reader"], "resources/write", false),
        (&["reader"], "resources", false),
        (&["reader"], "Ping", false),
        (&["reader"], "", false),
        (&["caller"], "tools/call", true),
        (&["caller"], "toolsx/call", false),
        (&["reader", "caller"], "tools/call", true),
        (&["caller", "reader"], "resources/read", true),
        (&["caller", "tame"], "tools/call", false),
        (&["tame", "caller"], "tools/call", false),
        (&["admin", "tame"], "tools/call", false),
        (&["tame", "admin"], "tools/call", false),
        (&["admin"], "anything/at/all", true),
        (&["admin", "nobody"], "ping", false),
        (&["unknown"], "ping", false),
        (&[], "ping", false),
        (&["unknown", "reader"], "ping", true),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
        assert_eq!(decide(roles, &line).is_ok(), allowed, "{roles:?} {method}");
    }
}

#[test]
fn what_is_not_the_policys_passes() {
    for line in [
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    ] {
        assert!(decide(&["nobody"], line).is_ok(), "{line}");
    }
    assert!(
        decide(
            &["quiet"],
            r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#
        )
        .is_err()
    );
    // As a request it is no handshake notification, and needs a rule.
    assert!(
        decide(
            &["reader"],
            r#"{"jsonrpc":"2.0","id":1,"method":"notifications/initialized"}"#
        )
        .is_err()
    );
}

#[test]
fn denials_name_the_rule() {
    let denial = decide(
        &["caller", "tame"],
        r#"{"jsonrpc":"2.0","id":0,"method":"tools/call"}"#,
    )
    .unwrap_err();
    assert_eq!(
        denial.rule.as_ref().unwrap().to_string(),
        "role 'tame', blockedMethods 'tools/call' (line 4)"
    );
    assert_eq!(
        String::from_utf8(denial.to_line().unwrap()).unwrap(),
        "{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":{\"code\":-32601,\"message\":\"Method not allowed: Access denied for method 'tools/call'\"}}\n"
    );
    let vanished = decide(&["reader"], r#"{"jsonrpc":"2.0","method":"tools/call"}"#).unwrap_err();
    assert!(vanished.to_line().is_none() && vanished.rule.is_none());
}

#[test]
fn bad_files_say_what_and_where() {
    for (text, message) in [
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        (
            "{\n  \"permissions\": {,}\n}",
            "not JSON: key must be a string at line 2 column 19",
        ),
        ("[]", "the file must be an object"),
        ("{}", "the file has no 'permissions'"),
        (r#"{"permissions": []}"#, "'permissions' must be an object"),
        (
            r#"{"permissions": {}, "version": 1}"#,
            "unknown key 'version' in the file (line 1, column 21); known are 'permissions'",
        ),
        (
            r#"{"permision": {}}"#,
            "unknown key 'permision' in the file (line 1, column 2); did you mean 'permissions'?",
        ),
        (
            r#"{"permissions": {"a": []}}"#,
            "role 'a' must be an object",
        ),
        (
            r#"{"permissions": {"a": {}}}"#,
            "role 'a' has no 'allowedMethods'",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": "*"}}}"#,
            "role 'a', key 'allowedMethods' must be a list of strings",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": ["x", 1]}}}"#,
            "role 'a', key 'allowedMethods' must be a list of strings",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": [], "blockedMethods": null}}}"#,
            "role 'a', key 'blockedMethods' must be a list of strings",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": [], "allowedmethods": []}}}"#,
            "unknown key 'allowedmethods' in role 'a' (line 1, column 46); did you mean 'allowedMethods'?",
        ),
        (
            "{\"permissions\": {\n  \"ä\": {\n    \"allowedMethdos\": []}}}",
            "unknown key 'allowedMethdos' in role 'ä' (line 3, column 5); did you mean 'allowedMethods'?",
        ),
        (
            r#"{"permissions": {"ä": {"blocked_tool": []}}}"#,
            "unknown key 'blocked_tool' in role 'ä' (line 1, column 24); did you mean 'blockedTools'?",
        ),
        (
            r#"{"permissions": {"a": {"methods": []}}}"#,
            "unknown key 'methods' in role 'a' (line 1, column 24); known are 'allowedMethods', 'blockedMethods', 'allowedTools', 'blockedTools', 'allowedPrompts', 'blockedPrompts', 'allowedResources', 'blockedResources', 'tools', 'prompts'",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": []}, "a": {"allowedMethods": ["*"]}}}"#,
            "'a' stands twice in 'permissions' (line 1, column 47)",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": [], "allowedTools": "x"}}}"#,
            "role 'a', key 'allowedTools' must be a list of strings",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": [], "blockedResources": [""]}}}"#,
            "role 'a', key 'blockedResources': a pattern is empty",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": [], "allowedTools": [], "allowedTools": ["*"]}}}"#,
            "'allowedTools' stands twice in role 'a' (line 1, column 66)",
        ),
        (
            r#"{"permissions": {"a": {"allowedMethods": ["to*ls"]}}}"#,
            "role 'a', key 'allowedMethods': 'to*ls' is not a method, a family such as 'tools/*', or '*'",
        ),
    ] {
        assert_eq!(
            Policy::parse(text).unwrap_err().to_string(),
            message,
            "{text}"
        );
    }
}

#[test]
fn roles_that_open_no_session_are_named() {
    assert_eq!(
        Policy::parse(POLICY).unwrap().mute_roles(),
        ["caller", "nobody", "reader"]
    );
}

/// Roles with rules on tools, prompts and resources. Those of one letter only restrict.
const ITEMS: &str = r#"{"permissions": {
    "all": {"allowedMethods": ["*"]},
    "reader": {
        "allowedMethods": ["tools/*", "prompts/*", "resources/*", "completion/complete", "subscriptions/listen"],
        "allowedTools": ["read_*", "list"],
        "allowedPrompts": ["*summary"],
        "allowedResources": ["note:///public/*", "note:///one"]
    },
    "writer": {"allowedMethods": ["tools/call"], "allowedTools": ["write", "read_all"]},
    "methodless": {"allowedMethods": ["ping"], "allowedTools": ["*"], "allowedResources": ["*"]},
    "lister": {"allowedMethods": ["tools/list"]},
    "careful": {"allowedMethods": ["*"], "blockedTools": ["*delete*"], "blockedResources": ["note:///secret*"], "blockedPrompts": ["x"]},
    "t": {"allowedMethods": [], "blockedTools": ["read_all"]},
    "none": {"allowedMethods": ["*"], "allowedTools": [], "allowedPrompts": [], "allowedResources": []}
}}"#;

fn rights_of(policy: &str, roles: &[&str]) -> Rights {
    let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
    Policy::parse(policy).unwrap().rights(&roles)
}

fn ask(roles: &[&str], method: &str, params: &str) -> Result<Permit, Denial> {
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
    rights_of(ITEMS, roles).decide(message)
}

/// The table of [`Rights::decide`], points 4 to 6.
#[test]
fn the_table_of_items() {
    let name = |name: &str| format!(r#"{{"name":{name}}}"#);
    let uri = |uri: &str| format!(r#"{{"uri":"{uri}"}}"#);
    let prompt = |name: &str| format!(r#"{{"ref":{{"type":"ref/prompt","name":"{name}"}}}}"#);
    let resource = |uri: &str| format!(r#"{{"ref":{{"type":"ref/resource","uri":"{uri}"}}}}"#);
    let listen = |list: &str| format!(r#"{{"notifications":{{"resourceSubscriptions":{list}}}}}"#);
    for (roles, method, params, allowed) in [
        // A role that names nothing of a kind does not restrict it, whatever the params are.
        (&["all"][..], "tools/call", name("\"x\""), true),
        (&["all"], "tools/call", "{}".into(), true),
        (&["all"], "tools/call", "[]".into(), true),
        (&["all"], "resources/read", uri("note:///a/../b"), true),
        // One that does allows only that.
        (&["reader"], "tools/call", name("\"list\""), true),
        (&["reader"], "tools/call", name("\"l\\u0069st\""), true),
        (&["reader"], "tools/call", name("\"read_x\""), true),
        (&["reader"], "tools/call", name("\"List\""), false),
        (&["reader"], "tools/call", name("\"list \""), false),
        (&["reader"], "tools/call", name("\"write\""), false),
        (&["none"], "tools/call", name("\"list\""), false),
        // What does not say what it uses is denied.
        (&["reader"], "tools/call", "{}".into(), false),
        (&["reader"], "tools/call", "[\"list\"]".into(), false),
        (&["reader"], "tools/call", name("1"), false),
        (&["reader"], "tools/call", name("null"), false),
        (&["reader"], "tools/call", name("[\"list\"]"), false),
        // Roles add up.
        (&["reader", "writer"], "tools/call", name("\"write\""), true),
        (&["reader", "writer"], "tools/call", name("\"list\""), true),
        (
            &["reader", "writer"],
            "tools/call",
            name("\"other\""),
            false,
        ),
        (&["reader", "all"], "tools/call", name("\"other\""), true),
        (&["reader", "all"], "tools/call", "{}".into(), true),
        // But the tools of one are not combined with the methods of the other.
        (&["methodless"], "tools/call", name("\"write\""), false),
        (
            &["methodless", "writer"],
            "tools/call",
            name("\"write\""),
            true,
        ),
        (
            &["methodless", "writer"],
            "tools/call",
            name("\"x\""),
            false,
        ),
        (&["lister", "writer"], "tools/call", name("\"x\""), false),
        (
            &["methodless", "reader"],
            "resources/read",
            uri("note:///x"),
            false,
        ),
        // A block in any role wins, also of a role that has nothing to do with the method.
        (&["careful"], "tools/call", name("\"x\""), true),
        (&["careful"], "tools/call", name("\"x_delete_y\""), false),
        (&["careful"], "tools/call", "{}".into(), false),
        (&["careful", "all"], "tools/call", name("\"delete\""), false),
        (&["all", "careful"], "tools/call", name("\"delete\""), false),
        (&["reader", "t"], "tools/call", name("\"read_all\""), false),
        (&["t", "reader"], "tools/call", name("\"read_one\""), true),
        (
            &["t", "writer", "reader"],
            "tools/call",
            name("\"read_all\""),
            false,
        ),
        // Prompts.
        (&["reader"], "prompts/get", name("\"a summary\""), true),
        (&["reader"], "prompts/get", name("\"other\""), false),
        (&["careful"], "prompts/get", name("\"x\""), false),
        // Resources, in their plain spelling only.
        (&["reader"], "resources/read", uri("note:///one"), true),
        (
            &["reader"],
            "resources/read",
            uri("note:///public/a?b"),
            true,
        ),
        (
            &["reader"],
            "resources/read",
            uri("note:///public/../one"),
            false,
        ),
        (
            &["reader"],
            "resources/read",
            uri("note:///public/%2e%2e/x"),
            false,
        ),
        (&["reader"], "resources/read", uri("note:///two"), false),
        (
            &["reader"],
            "resources/subscribe",
            uri("note:///two"),
            false,
        ),
        (
            &["reader"],
            "resources/unsubscribe",
            uri("note:///two"),
            false,
        ),
        (&["reader"], "resources/subscribe", uri("note:///one"), true),
        (&["careful"], "resources/read", uri("note:///a"), true),
        (&["careful"], "resources/read", uri("NOTE:///secret"), false),
        (
            &["careful"],
            "resources/read",
            uri("note:///%73ecret"),
            false,
        ),
        (
            &["careful"],
            "resources/read",
            uri("note:///secrets?x"),
            false,
        ),
        // Completions.
        (
            &["reader"],
            "completion/complete",
            prompt("a summary"),
            true,
        ),
        (&["reader"], "completion/complete", prompt("other"), false),
        (
            &["reader"],
            "completion/complete",
            resource("note:///public/{x}"),
            true,
        ),
        (
            &["reader"],
            "completion/complete",
            resource("note:///{x}"),
            false,
        ),
        (
            &["reader"],
            "completion/complete",
            resource("note:///one"),
            true,
        ),
        (
            &["careful"],
            "completion/complete",
            resource("note:///{x}"),
            false,
        ),
        (
            &["careful"],
            "completion/complete",
            resource("note:///a/{x}"),
            true,
        ),
        (
            &["careful"],
            "completion/complete",
            resource("NOTE:///{x}"),
            false,
        ),
        (&["reader"], "completion/complete", "{}".into(), false),
        (
            &["reader"],
            "completion/complete",
            r#"{"ref":{}}"#.into(),
            false,
        ),
        (
            &["reader"],
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":1}}"#.into(),
            false,
        ),
        (
            &["reader"],
            "completion/complete",
            r#"{"ref":{"name":"a summary"}}"#.into(),
            false,
        ),
        (
            &["reader"],
            "completion/complete",
            r#"{"ref":{"type":"ref/other","name":"a summary"}}"#.into(),
            false,
        ),
        (
            &["reader"],
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"a summary","uri":"note:///two"}}"#.into(),
            false,
        ),
        // For readers in C, text ends there.
        (
            &["reader"],
            "completion/complete",
            r#"{"ref":{"type":"ref/prompt","name":"a summary\u0000"}}"#.into(),
            false,
        ),
        // Subscriptions.
        (
            &["reader"],
            "subscriptions/listen",
            listen(r#"["note:///one","note:///public/a"]"#),
            true,
        ),
        (
            &["reader"],
            "subscriptions/listen",
            listen(&format!("{:?}", ["note:///one"; 1024])),
            true,
        ),
        (
            &["reader"],
            "subscriptions/listen",
            listen(&format!("{:?}", ["note:///one"; 1025])),
            false,
        ),
        (
            &["reader"],
            "subscriptions/listen",
            listen(r#"["note:///one","note:///two"]"#),
            false,
        ),
        (&["reader"], "subscriptions/listen", listen("[]"), true),
        (&["reader"], "subscriptions/listen", listen("[1]"), false),
        (
            &["reader"],
            "subscriptions/listen",
            listen("\"note:///one\""),
            false,
        ),
        (
            &["reader"],
            "subscriptions/listen",
            r#"{"notifications":{"toolsListChanged":true}}"#.into(),
            true,
        ),
        (
            &["reader"],
            "subscriptions/listen",
            r#"{"notifications":[]}"#.into(),
            false,
        ),
        (&["reader"], "subscriptions/listen", "{}".into(), false),
        (&["all"], "subscriptions/listen", "{}".into(), true),
        // Lists are asked for as ever, but not as tasks.
        (&["reader"], "tools/list", "{}".into(), true),
        (&["reader"], "tools/list", r#"{"task":{}}"#.into(), false),
        (&["all"], "tools/list", r#"{"task":{}}"#.into(), true),
    ] {
        let outcome = ask(roles, method, &params);
        assert_eq!(outcome.is_ok(), allowed, "{roles:?} {method} {params}");
    }
    let long = format!(r#"{{"name":"read_{}"}}"#, "x".repeat(10_000));
    assert!(ask(&["reader"], "tools/call", &long).is_err());
    assert!(ask(&["all"], "tools/call", &long).is_ok());
}

#[test]
fn a_notification_is_held_to_the_same_rules() {
    let decide = |tool: &str| {
        let line =
            format!(r#"{{"jsonrpc":"2.0","method":"tools/call","params":{{"name":"{tool}"}}}}"#);
        let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
        rights_of(ITEMS, &["reader"]).decide(message)
    };
    assert!(decide("list").is_ok());
    assert!(decide("write").unwrap_err().to_line().is_none());
}

#[test]
fn denials_name_the_thing_and_the_line() {
    for (roles, method, params, says, reason) in [
        (
            &["reader"],
            "tools/call",
            r#"{"name":"delete"}"#,
            "tool 'delete'",
            "no rule allows it",
        ),
        (
            &["careful"],
            "tools/call",
            r#"{"name":"delete"}"#,
            "tool 'delete'",
            "role 'careful', blockedTools '*delete*' (line 12)",
        ),
        (
            &["careful"],
            "prompts/get",
            r#"{"name":"x"}"#,
            "prompt 'x'",
            "role 'careful', blockedPrompts 'x' (line 12)",
        ),
        (
            &["careful"],
            "resources/read",
            r#"{"uri":"note:///secret?x"}"#,
            "resource 'note:///secret?x'",
            "role 'careful', blockedResources 'note:///secret*' (line 12)",
        ),
        (
            &["reader"],
            "tools/call",
            "{}",
            "method 'tools/call'",
            "it does not say what it uses",
        ),
    ] {
        let denial = ask(roles, method, params).unwrap_err();
        let line = String::from_utf8(denial.to_line().unwrap()).unwrap();
        let text = format!("\"Method not allowed: Access denied for {says}\"");
        assert!(line.contains(&text), "{line}");
        assert_eq!(denial.reason(), reason);
    }
}

/// What is left of a result for these roles; `None` when it cannot be cut down.
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
        // Elements whose name readers could disagree on go.
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
        // A template stays while something that it may become is allowed.
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
        // A list shows what the roles that allow the list let be listed.
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

/// Raw line ends in a list are mended in what stays of it, too.
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

#[test]
fn ref_and_notifications_are_read_strictly_in_any_case() {
    for (method, params) in [
        ("completion/complete", r#"{"ref":{"type":"x","Type":"y"}}"#),
        ("completion/complete", r#"{"ref":{"name":"x","name":"y"}}"#),
        (
            "completion/complete",
            r#"{"ref":{"uri":"x","u\u0072i":"y"}}"#,
        ),
        ("completion/complete", r#"{"ref":{},"Ref":{}}"#),
        (
            "subscriptions/listen",
            r#"{"notifications":{},"notifications":{}}"#,
        ),
        (
            "subscriptions/listen",
            r#"{"notifications":{"resourceSubscriptions":[],"resource_subscriptions":[]}}"#,
        ),
    ] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        assert!(
            Message::read(line.into(), MAX_PEER_DEPTH).is_err(),
            "{params}"
        );
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const METHODS: [&str; 3] = ["tools/call", "tools/list", "ping"];
    const TOOLS: [&str; 3] = ["a", "b", "ab"];

    fn some(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(prop::sample::select(texts), 0..3)
    }

    fn role() -> impl Strategy<Value = Value> {
        let methods = || some(&["tools/call", "tools/list", "tools/*", "*"]);
        let tools = || some(&["a", "b", "a*", "*b", "*"]);
        let lists = (
            methods(),
            some(&["tools/call", "tools/list"]),
            prop::option::of(tools()),
            prop::option::of(some(&["a", "b", "a*", "*b"])),
        );
        lists.prop_map(|(allow, block, tools, blocked)| {
            let mut role = json!({"allowedMethods": allow, "blockedMethods": block});
            if let Some(tools) = tools {
                role["allowedTools"] = json!(tools);
            }
            if let Some(blocked) = blocked {
                role["blockedTools"] = json!(blocked);
            }
            role
        })
    }

    /// What a peer with these roles may do: each method with each tool, and each tool in the list.
    fn may(roles: &[Value], order: &[usize]) -> Vec<bool> {
        let named: serde_json::Map<String, Value> = roles
            .iter()
            .enumerate()
            .map(|(at, role)| (at.to_string(), role.clone()))
            .collect();
        let policy = Policy::parse(&json!({"permissions": named}).to_string()).unwrap();
        let names: Vec<String> = order.iter().map(ToString::to_string).collect();
        let rights = policy.rights(&names);
        let mut may = Vec::new();
        for method in METHODS {
            for tool in TOOLS {
                let line = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{"name":"{tool}"}}}}"#
                );
                let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
                let Ok(permit) = rights.decide(message) else {
                    may.push(false);
                    continue;
                };
                let list = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{{"name":"{tool}"}}]}}}}"#
                );
                let answer = Message::read(list.into(), MAX_PEER_DEPTH).unwrap();
                let edits = permit.list().map(|filter| filter.edits(&answer).unwrap());
                let line = answer.to_line(None, &edits.unwrap_or_default());
                may.push(String::from_utf8_lossy(&line.joined()).contains("name"));
            }
        }
        may
    }

    fn is_within(less: &[bool], more: &[bool]) -> bool {
        less.iter().zip(more).all(|(less, more)| !less || *more)
    }

    proptest! {
        #[test]
        fn the_order_of_roles_is_no_policy(
            roles in prop::collection::vec(role(), 3),
            order in Just(vec![0, 1, 2]).prop_shuffle(),
        ) {
            prop_assert_eq!(may(&roles, &order), may(&roles, &[0, 1, 2]));
        }

        #[test]
        fn what_a_role_blocks_never_passes(
            roles in prop::collection::vec(role(), 3),
            order in Just(vec![0, 1, 2]).prop_shuffle(),
            tool in prop::sample::select(&TOOLS[..]),
            method in prop::sample::select(&METHODS[..]),
        ) {
            let mut roles = roles;
            roles[1]["blockedTools"] = json!([tool]);
            roles[2]["blockedMethods"] = json!([method]);
            let may = may(&roles, &order);
            for (at, allowed) in may.into_iter().enumerate() {
                let (of, with) = (METHODS[at / TOOLS.len()], TOOLS[at % TOOLS.len()]);
                let blocked = of == method || with == tool && of != "ping";
                prop_assert!(!(allowed && blocked), "{of} {with}");
            }
        }

        #[test]
        fn another_block_never_allows_more(
            roles in prop::collection::vec(role(), 3),
            at in 0usize..3,
            tool in prop::option::of(prop::sample::select(&["a", "*b", "*"][..])),
            method in prop::option::of(prop::sample::select(&METHODS[..])),
        ) {
            let mut blocked = roles.clone();
            for (key, more) in [("blockedTools", tool), ("blockedMethods", method)] {
                let Some(more) = more else { continue };
                let mut list = blocked[at][key].as_array().cloned().unwrap_or_default();
                list.push(json!(more));
                blocked[at][key] = json!(list);
            }
            prop_assert!(is_within(&may(&blocked, &[0, 1, 2]), &may(&roles, &[0, 1, 2])));
        }

        /// Two roles together may what one of them may, blocks aside.
        #[test]
        fn roles_without_blocks_add_up(one in role(), other in role()) {
            let strip = |mut role: Value| {
                role["blockedMethods"] = json!([]);
                role["blockedTools"] = json!([]);
                role
            };
            let roles = [strip(one), strip(other)];
            let alone = may(&roles, &[0]).into_iter().zip(may(&roles, &[1]));
            let either: Vec<bool> = alone.map(|(one, other)| one || other).collect();
            prop_assert_eq!(may(&roles, &[0, 1]), either);
        }
    }
}
