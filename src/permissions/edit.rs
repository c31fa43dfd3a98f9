//! Adds names to the lists of a policy file, and leaves everything else byte for byte.

use super::error::PolicyError;
use super::object::{Member, Members};
use serde_json::value::RawValue;

/// Adds `names` to the list `key` of a role; creates the list if the role has none. `text` is a valid policy
/// file.
///
/// # Errors
/// That it is not.
pub fn append(
    text: &str,
    role: &str,
    key: &'static str,
    names: &[String],
) -> Result<String, PolicyError> {
    if names.is_empty() {
        return Ok(text.to_owned());
    }
    let missing = |key, place: &str| PolicyError::Missing {
        key,
        place: place.to_owned(),
    };
    let permissions = Members::read(text, text, "the file")?.take("permissions");
    let permissions = permissions.ok_or_else(|| missing("permissions", "the file"))?;
    let mut roles = Members::read(permissions.get(), text, "'permissions'")?;
    let place = format!("role '{role}'");
    let object = roles.take(role).ok_or_else(|| missing("a role", &place))?;
    let members: Vec<Member<'_>> = Members::read(object.get(), text, &place)?
        .into_iter()
        .collect();
    let quoted: Vec<String> = names
        .iter()
        .map(|name| serde_json::Value::from(name.as_str()).to_string())
        .collect();
    let (at, added) = match members.iter().find(|member| member.name == key) {
        Some(list) => into_list(text, list.value, &quoted),
        None => {
            let last = members.last().ok_or_else(|| missing(key, &place))?;
            let end = offset(last.value.get(), text) + last.value.get().len();
            let between = separator(object);
            (end, format!("{between}\"{key}\": [{}]", quoted.join(", ")))
        }
    };
    Ok([&text[..at], &added, &text[at..]].concat())
}

/// Where the new elements of a list go, and how they are written there.
fn into_list(text: &str, list: &RawValue, quoted: &[String]) -> (usize, String) {
    let begin = offset(list.get(), text);
    let inner = list.get().trim_end_matches(']').trim_end();
    let end = begin + inner.len();
    if inner == "[" {
        return (end, quoted.join(", "));
    }
    let separator = separator(list);
    let added = quoted.iter().map(|name| separator.clone() + name);
    (end, added.collect())
}

fn offset(part: &str, text: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// The separator of two elements of a list, or two members of an object: a line end if the first
/// one is on a line of its own.
fn separator(container: &RawValue) -> String {
    let inner = container.get().get(1..).unwrap_or_default();
    let space = &inner[..inner.len() - inner.trim_start().len()];
    match space.rsplit_once('\n') {
        Some((_, indent)) => format!(",\n{indent}"),
        None => ", ".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permissions::Policy;

    fn after(text: &str, role: &str, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let text = append(text, role, "blockedTools", &names).unwrap();
        Policy::parse(&text).unwrap();
        text
    }

    #[test]
    fn lists_grow_where_they_stand() {
        for (list, grown) in [
            ("[]", r#"["x", "y\"z"]"#),
            ("[ ]", r#"["x", "y\"z" ]"#),
            (r#"["a"]"#, r#"["a", "x", "y\"z"]"#),
            (
                "[\n   \"a\",\n   \"]\"\n ]",
                "[\n   \"a\",\n   \"]\",\n   \"x\",\n   \"y\\\"z\"\n ]",
            ),
        ] {
            let file = |list| {
                format!(
                    "{{\"permissions\":{{\"b\":{{\"allowedMethods\":[]}},\"a\" : {{\"blockedTools\": {list} , \"allowedMethods\":[]}}}}}}"
                )
            };
            assert_eq!(after(&file(list), "a", &["x", "y\"z"]), file(grown));
        }
    }

    #[test]
    fn a_list_that_is_not_there_is_made() {
        let flat = r#"{"permissions":{"a":{"allowedMethods":["*"]}}}"#;
        let made = r#"{"permissions":{"a":{"allowedMethods":["*"], "blockedTools": ["x"]}}}"#;
        assert_eq!(after(flat, "a", &["x"]), made);
        let deep = "{\n  \"permissions\": {\n    \"a\": {\n      \"allowedMethods\": [\n        \"*\"\n      ]\n    }\n  }\n}\n";
        let made = deep.replace("      ]\n", "      ],\n      \"blockedTools\": [\"x\"]\n");
        assert_eq!(after(deep, "a", &["x"]), made);
        assert_eq!(after(deep, "a", &[]), deep);
        assert!(append(deep, "b", "blockedTools", &["x".to_owned()]).is_err());
    }
}
