//! Arguments of a tool with rules: those that pass satisfy the rules for a reader that keeps the
//! last of duplicate members.

use mcp_remote::permissions::{Policy, Rights};
use serde_json::Value;
use std::sync::LazyLock;

const POLICY: &str = r#"{"permissions": {"r": {"allowedMethods": ["*"], "tools": {"t": {"arguments": {
    "/path": {"within": "/srv/public"},
    "/limit": {"min": 1, "max": 100, "optional": true},
    "/mode": {"in": ["a", 2, true, null], "optional": true},
    "/options/depth": {"equals": 3, "optional": true},
    "/files/*/name": {"glob": "a*z", "maxLength": 8},
    "/force": {"absent": true}
}}}}}}"#;

static RIGHTS: LazyLock<Rights> = LazyLock::new(|| {
    let policy = Policy::parse(POLICY).expect("a policy");
    policy.rights(&["r".to_owned()])
});

fn is_below(path: &str) -> bool {
    let rest = path.strip_prefix("/srv/public");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !path.contains(['\\', '\0', '\n', '\r'])
        && path
            .split('/')
            .all(|segment| segment != "." && segment != "..")
}

pub fn run(data: &[u8]) {
    // The gate stops anything else earlier.
    let Ok(arguments) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    let Some(Ok(())) = RIGHTS.judge_arguments("tools/call", "t", data.trim_ascii()) else {
        return;
    };
    let members = arguments.as_object().expect("an object");
    for (name, value) in members {
        match name.as_str() {
            "path" => assert!(value.as_str().is_some_and(is_below), "{value}"),
            "limit" => {
                let number = value.as_f64().expect("a number");
                assert!((1.0..=100.0).contains(&number), "{value}");
            }
            "mode" => assert!(
                *value == "a" || value.as_f64() == Some(2.0) || *value == true || value.is_null(),
                "{value}"
            ),
            "options" => {
                let options = value.as_object().expect("an object");
                let depth = |(name, value): (&String, &Value)| {
                    name == "depth" && value.as_f64() == Some(3.0)
                };
                assert!(options.iter().all(depth), "{value}");
            }
            "files" => {
                for file in value.as_array().expect("an array") {
                    let name = file["name"].as_str().expect("a name");
                    assert!(name.starts_with('a') && name.ends_with('z'), "{name}");
                    assert!(name.chars().count() <= 8, "{name}");
                }
            }
            other => panic!("{other}"),
        }
    }
    assert!(members.contains_key("path"));
}
