//! Policy files that are refused, and the error messages.

use super::*;

#[test]
fn bad_files_say_what_and_where() {
    for (text, message) in [
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        (
            r#"{"permissions": {"x": {"allowedMethods": ["a",]}}}"#,
            "not JSON: expected value at line 1 column 47 (a comma too many?)",
        ),
        (
            "{\"permissions\": {\"x\": {\"allowedMethods\": []}, \n }}",
            "not JSON: key must be a string at line 2 column 2 (a comma too many?)",
        ),
        (
            r#"{"permissions": {"x": ]}"#,
            "not JSON: expected value at line 1 column 23",
        ),
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
