//! Rules on tools, prompts and resources.

use super::*;

/// The table of [`Rights::decide`], points 4 to 6.
#[test]
fn the_table_of_items() {
    let name = |name: &str| format!(r#"{{"name":{name}}}"#);
    let uri = |uri: &str| format!(r#"{{"uri":"{uri}"}}"#);
    let prompt = |name: &str| format!(r#"{{"ref":{{"type":"ref/prompt","name":"{name}"}}}}"#);
    let resource = |uri: &str| format!(r#"{{"ref":{{"type":"ref/resource","uri":"{uri}"}}}}"#);
    let listen = |list: &str| format!(r#"{{"notifications":{{"resourceSubscriptions":{list}}}}}"#);
    for (roles, method, params, allowed) in [
        // A role without rules of a kind does not restrict that kind, whatever the params.
        (&["all"][..], "tools/call", name("\"x\""), true),
        (&["all"], "tools/call", "{}".into(), true),
        (&["all"], "tools/call", "[]".into(), true),
        (&["all"], "resources/read", uri("note:///a/../b"), true),
        // A role with rules of a kind allows only what they name.
        (&["reader"], "tools/call", name("\"list\""), true),
        (&["reader"], "tools/call", name("\"l\\u0069st\""), true),
        (&["reader"], "tools/call", name("\"read_x\""), true),
        (&["reader"], "tools/call", name("\"List\""), false),
        (&["reader"], "tools/call", name("\"list \""), false),
        (&["reader"], "tools/call", name("\"write\""), false),
        (&["none"], "tools/call", name("\"list\""), false),
        // A request that does not name what it uses is denied.
        (&["reader"], "tools/call", "{}".into(), false),
        (&["reader"], "tools/call", "[\"list\"]".into(), false),
        (&["reader"], "tools/call", name("1"), false),
        (&["reader"], "tools/call", name("null"), false),
        (&["reader"], "tools/call", name("[\"list\"]"), false),
        // Roles are combined.
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
        // But the tools of one are not combined with the methods of another.
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
        // A block in any role wins, even if the role does not mention the method.
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
        // Resources, in their canonical spelling only.
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
        // For C readers the text ends there.
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
        // Lists are requested as before, but not as tasks.
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
