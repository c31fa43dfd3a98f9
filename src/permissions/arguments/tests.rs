use crate::jsonrpc::{MAX_PEER_DEPTH, Message};
use crate::permissions::{Denial, Policy, PolicyError, Rights};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A policy with one role `r` that may do everything, with these rules on its tools.
fn policy(tools: &Value) -> Result<Policy, PolicyError> {
    let role = json!({"allowedMethods": ["*"], "tools": tools});
    Policy::parse(&json!({"permissions": {"r": role}}).to_string())
}

fn rights(tools: &Value) -> Rights {
    policy(tools).unwrap().rights(&["r".to_owned()])
}

/// Calls the tool `t` with this text as its arguments.
fn call(rights: &Rights, arguments: &str) -> Result<(), Denial> {
    call_with(
        rights,
        &format!(r#"{{"name":"t","arguments":{arguments}}}"#),
    )
}

fn call_with(rights: &Rights, params: &str) -> Result<(), Denial> {
    let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    let message = Message::read(line.into(), MAX_PEER_DEPTH).unwrap();
    rights.decide(message).map(drop)
}

fn answer(denial: &Denial) -> (i64, String) {
    let line = denial.to_line().unwrap();
    let answer: Value = serde_json::from_slice(&line).unwrap();
    let error = &answer["error"];
    assert_eq!(error["code"], denial.code() as i64);
    (
        denial.code() as i64,
        error["message"].as_str().unwrap().to_owned(),
    )
}

fn outcome(rights: &Rights, arguments: &str) -> &'static str {
    match call(rights, arguments) {
        Ok(()) => "passes",
        Err(denial) if answer(&denial).0 == -32600 => "invalid",
        Err(_) => "denied",
    }
}

#[test]
fn arguments_pass_denied_or_invalid() {
    let path = json!({"/path": {"within": "/srv"}});
    let sizes = json!({"/n": {"min": 1, "max": 9007199254740992u64, "optional": true}});
    let deep = json!({"/o/a": {"equals": 1}, "/o/b": {"optional": true}});
    let each = json!({"/paths/*": {"within": ["/a", "/b"]}, "/edits/*/text": {"maxLength": 2, "optional": true}});
    let absent = json!({"/force": {"absent": true}, "/x": {"optional": true}});
    let sharp = json!({"/größe": {"max": 1}});
    for (rules, arguments, expected) in [
        (&path, r#"{"path":"/srv/a"}"#, "passes"),
        (&path, r#"{"p\u0061th":"\/srv\/a"}"#, "passes"),
        (&path, r#"{"path":"/srv/../a"}"#, "denied"),
        (&path, r#"{"path":"/srv/a","path\ud800":"/etc"}"#, "invalid"),
        (&path, r#"{"path":["/srv/a"]}"#, "denied"),
        (&path, r#"{"path":null}"#, "denied"),
        (&path, "{}", "denied"),
        (&path, "null", "denied"),
        (&path, r#"["/srv/a"]"#, "denied"),
        (&path, r#""/srv/a""#, "denied"),
        (&path, r#"{"path":"/srv/a","other":1}"#, "denied"),
        (&path, r#"{"path":"/srv/a","path":"/srv/a"}"#, "invalid"),
        (&path, r#"{"path":"/srv/a","p\u0061th":"/etc"}"#, "invalid"),
        (&path, r#"{"path":"/srv/a","Path":"/etc"}"#, "invalid"),
        (&path, r#"{"path":"/srv/a","PA_TH":"/etc"}"#, "invalid"),
        (&path, r#"{"path":"/srv/a","path\u0000":"/etc"}"#, "invalid"),
        (&sizes, "{}", "passes"),
        (&sizes, r#"{"n":1.0}"#, "passes"),
        (&sizes, r#"{"n":9007199254740993}"#, "denied"),
        (&sizes, r#"{"n":0.99999999999999999999}"#, "denied"),
        (&sizes, r#"{"n":"1"}"#, "denied"),
        (&sizes, r#"{"n":null}"#, "denied"),
        (&deep, r#"{"o":{"a":1}}"#, "passes"),
        (&deep, r#"{"o":{"a":1,"b":{"any":[1]}}}"#, "passes"),
        (&deep, r#"{"o":{"a":1,"c":1}}"#, "denied"),
        (&deep, r#"{"o":{"b":1}}"#, "denied"),
        (&deep, r#"{"o":[1]}"#, "denied"),
        (&deep, r#"{"o":{"a":1},"O":{"a":1}}"#, "invalid"),
        (&deep, r#"{"o":{"a":1,"A":2}}"#, "invalid"),
        (&deep, "{}", "denied"),
        (&each, r#"{"paths":["/a/x","/b"]}"#, "passes"),
        (
            &each,
            r#"{"paths":[],"edits":[{"text":"ab"},{}]}"#,
            "passes",
        ),
        (&each, r#"{"paths":["/a/x","/c"]}"#, "denied"),
        (&each, r#"{"paths":["/a",["/a"]]}"#, "denied"),
        (&each, r#"{"paths":{"*":"/a"}}"#, "denied"),
        (&each, r#"{"paths":"/a"}"#, "denied"),
        (&each, r#"{"paths":[],"edits":[{"text":"abc"}]}"#, "denied"),
        (
            &each,
            r#"{"paths":[],"edits":[{"text":"a","more":1}]}"#,
            "denied",
        ),
        (&sharp, r#"{"größe":1,"GRÖẞE":2}"#, "invalid"),
        (&absent, r#"{"x":[{"y":1}]}"#, "passes"),
        (&absent, r#"{"force":null}"#, "denied"),
    ] {
        let rights = rights(&json!({"t": {"arguments": rules}}));
        assert_eq!(outcome(&rights, arguments), expected, "{rules} {arguments}");
    }
}

#[test]
fn the_arguments_themselves_stand_once_under_their_name() {
    let rights = rights(&json!({"t": {"arguments": {"/a": {"optional": true}}}}));
    for (params, code) in [
        (r#"{"name":"t"}"#, None),
        (r#"{"name":"other","arguments":{"b":1}}"#, None),
        (
            r#"{"name":"t","arguments":{"a":1},"arguments":{"b":1}}"#,
            Some(-32600),
        ),
        (
            r#"{"name":"t","arguments":{"a":1},"Arguments":{"b":1}}"#,
            Some(-32600),
        ),
        (
            r#"{"name":"t","arguments":{"a":1},"arguments\ud800":{"b":1}}"#,
            Some(-32600),
        ),
        (r#"{"name":"t","ARGUMENTS":{"b":1}}"#, Some(-32600)),
        (r#"["t"]"#, Some(-32601)),
        ("{}", Some(-32601)),
    ] {
        let code_of = |denial| answer(&denial).0;
        assert_eq!(
            call_with(&rights, params).err().map(code_of),
            code,
            "{params}"
        );
    }
}

#[test]
fn other_arguments_may_be_allowed() {
    let open = |tool: Value| rights(&json!({"t": tool}));
    let rights = open(json!({"arguments": {"/a": {"equals": 1}}, "otherArguments": "allow"}));
    assert_eq!(outcome(&rights, r#"{"a":1,"b":2}"#), "passes");
    assert_eq!(outcome(&rights, r#"{"b":2}"#), "denied");
    assert_eq!(outcome(&rights, r#"{"a":1,"A":2}"#), "invalid");
    assert_eq!(
        outcome(&open(json!({"otherArguments": "deny"})), r#"{"b":2}"#),
        "denied"
    );
    assert_eq!(
        outcome(&open(json!({"arguments": {}})), r#"{"b":2}"#),
        "denied"
    );
    assert_eq!(outcome(&open(json!({"arguments": {}})), "{}"), "passes");
}

#[test]
fn a_block_holds_for_what_may_be_meant() {
    let blocked = json!({"/env": {"in": ["prod", "live"]}, "/o/n": {"min": 10}, "/paths/*": {"within": "/etc"}});
    let rights = rights(&json!({"t": {"blockedArguments": blocked}}));
    for (arguments, expected) in [
        ("{}", "passes"),
        (r#"{"env":"test","any":1}"#, "passes"),
        (r#"{"env":null}"#, "passes"),
        (r#"{"env":"prod"}"#, "denied"),
        (r#"{"env":["prod"]}"#, "denied"),
        (r#"{"env":1}"#, "denied"),
        (r#"{"env":"test","ENV":"prod"}"#, "invalid"),
        (r#"{"o":{"n":9}}"#, "passes"),
        (r#"{"o":3}"#, "passes"),
        (r#"{"o":{"n":10.0}}"#, "denied"),
        (r#"{"o":[{"n":10}]}"#, "denied"),
        (r#"{"paths":["/srv","/etc/x"]}"#, "denied"),
        (r#"{"paths":["/srv/../etc"]}"#, "denied"),
        (r#"{"paths":["/srv"]}"#, "passes"),
        (r#"{"paths":null,"o":null}"#, "passes"),
    ] {
        assert_eq!(outcome(&rights, arguments), expected, "{arguments}");
    }
}

/// Bug: servers on the official Python SDK read JSON in a string that stands for a list or an object, and others take
/// one value for a list of one, so that what was blocked got through.
#[test]
fn a_block_holds_for_what_stands_for_a_list_or_an_object() {
    let blocked =
        json!({"/o/n": {"min": 10}, "/paths/*": {"within": "/etc"}, "/ids/*": {"equals": 7}});
    let rights = rights(&json!({"t": {"blockedArguments": blocked}}));
    for arguments in [
        r#"{"paths":"[\"/etc/passwd\"]"}"#,
        r#"{"paths":"/etc/passwd"}"#,
        r#"{"ids":7}"#,
        r#"{"o":"{\"n\":10}"}"#,
        r#""{\"paths\":[\"/etc/passwd\"]}""#,
    ] {
        assert_eq!(outcome(&rights, arguments), "denied", "{arguments}");
    }
}

/// Bug: a block of what is below a URI did not hold if a query was added, or for another encoding; nor one of a path
/// for servers that decode paths, or take URIs of files.
#[test]
fn a_block_of_what_is_below_a_root_holds_for_other_spellings() {
    let roots = json!([
        "https://h/admin",
        "note:///a(1)",
        "/srv/drafts",
        "/srv/caf\u{e9}/"
    ]);
    let block = rights(&json!({"t": {"blockedArguments": {"/at": {"within": roots}}}}));
    let allow = rights(&json!({"t": {"arguments": {"/at": {"within": roots}}}}));
    for (at, is_blocked) in [
        ("https://h/admin", true),
        ("https://h/admin/x", true),
        ("https://h/admin?x=1", true),
        ("https://h/admin;x", true),
        ("https://h/admin%3Fx", true),
        ("https://h/admin%23x", true),
        ("note:///a%281%29/x", true),
        ("note:///a%281%29", true),
        ("/srv/%64rafts/x", true),
        ("/srv/%64rafts", true),
        ("/srv/caf%C3%A9/x", true),
        ("file:///srv/drafts/x", true),
        ("file:///srv/%64rafts/x", true),
        ("FILE://localhost/srv/drafts", true),
        ("file:/srv/drafts?x", true),
        ("file:///srv/draftsman", false),
        ("file:///srv/x?/srv/drafts", false),
        ("https://srv/drafts", false),
        ("https://h/administration", false),
        ("https://h/x?next=/admin", false),
        ("note:///a(1)b", false),
        ("/srv/draftsman", false),
        ("/srv/%64raftsman", false),
        ("/srv/drafts?x", false),
        ("/srv/100%/drafts", false),
    ] {
        let arguments = json!({"at": at}).to_string();
        let expected = if is_blocked { "denied" } else { "passes" };
        assert_eq!(outcome(&block, &arguments), expected, "{at}");
        // What allows is compared as text.
        let is_below = roots.as_array().unwrap().iter().any(|root| {
            let root = root.as_str().unwrap().trim_end_matches('/');
            at == root || at.starts_with(&format!("{root}/"))
        });
        let expected = if is_below { "passes" } else { "denied" };
        assert_eq!(outcome(&allow, &arguments), expected, "{at}");
    }
}

#[test]
fn roles_add_up_and_a_block_of_any_role_wins() {
    let file = json!({"permissions": {
        "a": {"allowedMethods": ["tools/call"], "allowedTools": ["t"],
              "tools": {"t": {"arguments": {"/x": {"equals": "a"}}}}},
        "b": {"allowedMethods": ["tools/call"], "allowedTools": ["t*"],
              "tools": {"t": {"arguments": {"/x": {"equals": "b"}}}}},
        "free": {"allowedMethods": ["tools/call"], "allowedTools": ["t"]},
        "elsewhere": {"allowedMethods": ["tools/call"], "allowedTools": ["u"]},
        "mute": {"allowedMethods": ["ping"], "tools": {"t": {"blockedArguments": {"/x": {"equals": "b"}}}}},
    }});
    let policy = Policy::parse(&file.to_string()).unwrap();
    for (roles, a, b, c) in [
        (&["a"][..], "passes", "denied", "denied"),
        (&["a", "b"], "passes", "passes", "denied"),
        (&["a", "free"], "passes", "passes", "passes"),
        (&["a", "elsewhere"], "passes", "denied", "denied"),
        (&["a", "b", "mute"], "passes", "denied", "denied"),
        (&["free", "mute"], "passes", "denied", "passes"),
        (&["elsewhere"], "denied", "denied", "denied"),
    ] {
        let roles: Vec<String> = roles.iter().map(|role| (*role).to_owned()).collect();
        let rights = policy.rights(&roles);
        let found = ["a", "b", "c"].map(|x| outcome(&rights, &json!({"x": x}).to_string()));
        assert_eq!(found, [a, b, c], "{roles:?}");
    }
}

#[test]
fn claims_of_the_token_are_values() {
    let rules = json!({
        "/user": {"equals": {"claim": "sub"}},
        "/project": {"in": {"claim": "/org/projects"}, "optional": true},
        "/path": {"within": {"claim": "home"}, "optional": true},
    });
    let policy = policy(&json!({"t": {"arguments": rules}})).unwrap();
    let claims = json!({"sub": "ann", "org": {"projects": ["p", 7]}, "home": "/home/ann"});
    let find = |name: &str| match name.starts_with('/') {
        true => claims.pointer(name).cloned(),
        false => claims.get(name).cloned(),
    };
    let ann = policy.rights_of(&["r".to_owned()], find);
    let nobody = policy.rights(&["r".to_owned()]);
    for (arguments, expected) in [
        (r#"{"user":"ann"}"#, "passes"),
        (r#"{"user":"bob"}"#, "denied"),
        (r#"{"user":"ann","project":7.0}"#, "passes"),
        (r#"{"user":"ann","project":"q"}"#, "denied"),
        (r#"{"user":"ann","path":"/home/ann/x"}"#, "passes"),
        (r#"{"user":"ann","path":"/home/anna"}"#, "denied"),
    ] {
        assert_eq!(outcome(&ann, arguments), expected, "{arguments}");
        assert_eq!(outcome(&nobody, arguments), "denied", "{arguments}");
    }
    assert!(!format!("{ann:?}").contains("home/ann"));
}

#[test]
fn a_denial_names_the_argument_and_the_log_the_rule() {
    let rules = json!({"/path": {"within": "/srv", "message": "Only files below /srv."}});
    let rights = rights(&json!({"t": {"arguments": rules}}));
    let denial = call(&rights, r#"{"path":"/etc/hunter2"}"#).unwrap_err();
    let text = "Method not allowed: Access denied for argument '/path' of tool 't': Only files below /srv.";
    assert_eq!(answer(&denial), (-32601, text.to_owned()));
    assert_eq!(
        denial.reason(),
        "role 'r', tools 't', argument '/path' (line 1): its value is not allowed"
    );
    let denial = call(&rights, r#"{"path":"/srv","a/~b":1}"#).unwrap_err();
    let text = "Method not allowed: Access denied for argument '/a~1~0b' of tool 't'";
    assert_eq!(answer(&denial), (-32601, text.to_owned()));
    let denial = call(&rights, "[]").unwrap_err();
    let text = "Method not allowed: Access denied for the arguments of tool 't'";
    assert_eq!(answer(&denial), (-32601, text.to_owned()));
}

#[test]
fn prompts_have_rules_of_the_same_form() {
    let role =
        json!({"allowedMethods": ["*"], "prompts": {"p": {"arguments": {"/x": {"glob": "a*"}}}}});
    let policy = Policy::parse(&json!({"permissions": {"r": role}}).to_string()).unwrap();
    let rights = policy.rights(&["r".to_owned()]);
    for (method, x, passes) in [
        ("prompts/get", "ab", true),
        ("prompts/get", "b", false),
        ("tools/call", "b", true),
    ] {
        let params = json!({"name": "p", "arguments": {"x": x}});
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let message = Message::read(line.to_string().into(), MAX_PEER_DEPTH).unwrap();
        assert_eq!(rights.decide(message).is_ok(), passes, "{method} {x}");
    }
}

#[test]
fn what_makes_no_sense_is_an_error_that_says_where() {
    let rule = |rule: Value| json!({"t": {"arguments": {"/a": rule}}});
    for (tools, part) in [
        (
            rule(json!({"equal": 1})),
            "unknown key 'equal' in role 'r', key 'tools', 't', 'arguments', '/a' (line 1",
        ),
        (
            rule(json!({"equals": [1]})),
            "'equals' must be a string, a number",
        ),
        (rule(json!({"in": []})), "'in' must be a list of strings"),
        (rule(json!({"in": "a"})), "'in' must be a list of strings"),
        (
            rule(json!({"glob": "a"})),
            "'glob' must be a string with a '*'",
        ),
        (
            rule(json!({"within": "srv"})),
            "'within' must be an absolute path or a URI",
        ),
        (
            rule(json!({"within": ["/srv", "/srv/../x"]})),
            "'within' must be an absolute path",
        ),
        (rule(json!({"min": "1"})), "'min' must be a number"),
        (
            rule(json!({"minLength": 1.5})),
            "'minLength' must be a whole number",
        ),
        (
            rule(json!({"absent": false})),
            "'absent' must be true, or left out",
        ),
        (
            rule(json!({"absent": true, "optional": true})),
            "without other rules where it has 'absent'",
        ),
        (
            rule(json!({"equals": {"claim": 1}})),
            "must be {\"claim\": NAME}",
        ),
        (
            rule(json!({"equals": {"claims": "sub"}})),
            "unknown key 'claims'",
        ),
        (
            rule(json!({"message": "x".repeat(1025)})),
            "'message' must be at most 1024 bytes long",
        ),
        (
            json!({"t": {"arguments": {"a": {}}}}),
            "must be a JSON Pointer",
        ),
        (
            json!({"t": {"arguments": {"/a//b": {}}}}),
            "must be a JSON Pointer",
        ),
        (
            json!({"t": {"arguments": {"/a~2": {}}}}),
            "must be a JSON Pointer",
        ),
        (
            json!({"t": {"arguments": {"/*": {}}}}),
            "must be a JSON Pointer",
        ),
        (
            json!({"t": {"arguments": {"/a": {}, "/a/b": {}}}}),
            "an argument and on a part of it",
        ),
        (
            json!({"t": {"arguments": {"/a/*": {}, "/a/b": {}}}}),
            "an argument and on a part of it",
        ),
        (
            json!({"t": {"arguments": {"/a_b": {}, "/aB": {}}}}),
            "differ only in case",
        ),
        (
            json!({"t": {"blockedArguments": {"/a": {"optional": true}}}}),
            "which are for 'arguments'",
        ),
        (
            json!({"t": {"otherArguments": "maybe"}}),
            "must be \"allow\" or \"deny\"",
        ),
        (json!({"t": {"argument": {}}}), "did you mean 'arguments'?"),
        (json!({"t*": {}}), "must be the name of one tool or prompt"),
        (json!([]), "role 'r', key 'tools' must be an object"),
    ] {
        let error = policy(&tools).unwrap_err().to_string();
        assert!(error.contains(part), "{tools}: {error}");
    }
}

/// The rules of the property test, evaluated the slow way.
fn slow(rules: &Value, arguments: &Value) -> bool {
    let Some(members) = arguments.as_object() else {
        return false;
    };
    let ruled = rules.as_object().unwrap();
    let known = members
        .keys()
        .all(|name| ruled.contains_key(&format!("/{name}")));
    known
        && ruled.iter().all(|(pointer, rule)| {
            let Some(value) = arguments.pointer(pointer) else {
                return rule["optional"] == true || rule["absent"] == true;
            };
            let number = |key: &str| rule.get(key).map(|limit| limit.as_i64().unwrap());
            let length = value.as_str().map(|text| text.chars().count() as i64);
            rule["absent"] != true
                && rule.get("equals").is_none_or(|wanted| wanted == value)
                && rule
                    .get("in")
                    .is_none_or(|list| list.as_array().unwrap().contains(value))
                && number("min").is_none_or(|least| value.as_i64().is_some_and(|n| n >= least))
                && number("max").is_none_or(|most| value.as_i64().is_some_and(|n| n <= most))
                && number("minLength").is_none_or(|least| length.is_some_and(|n| n >= least))
                && number("maxLength").is_none_or(|most| length.is_some_and(|n| n <= most))
        })
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3i64..4).prop_map(Value::from),
        "[ab\u{e9}\\\\\"]{0,3}".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!([1])),
        Just(json!({"a": 1})),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let scalar = || {
        value().prop_filter("scalars only", |value| {
            !value.is_array() && !value.is_object()
        })
    };
    prop_oneof![
        scalar().prop_map(|value| json!({"equals": value})),
        scalar().prop_map(|value| json!({"equals": value, "optional": true})),
        prop::collection::vec(scalar(), 1..4).prop_map(|list| json!({"in": list})),
        (-3i64..4, 0i64..4).prop_map(|(min, more)| json!({"min": min, "max": min + more})),
        (0u64..3, 0u64..3).prop_map(
            |(min, more)| json!({"minLength": min, "maxLength": min + more, "optional": true})
        ),
        Just(json!({"absent": true})),
        Just(json!({"optional": true})),
        Just(json!({})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn agrees_with_a_slow_reading(
        rules in prop::collection::btree_map("[abc]", rule(), 0..4),
        arguments in prop_oneof![
            9 => prop::collection::btree_map("[abc]", value(), 0..4).prop_map(|members| json!(members)),
            1 => value(),
        ],
    ) {
        let rules: Value = rules.into_iter().map(|(name, rule)| (format!("/{name}"), rule)).collect();
        let passes = call(&rights(&json!({"t": {"arguments": rules}})), &arguments.to_string()).is_ok();
        let arguments = if arguments.is_null() { json!({}) } else { arguments };
        prop_assert_eq!(passes, slow(&rules, &arguments), "{} {}", rules, arguments);
    }
}
