//! Names in a policy that are valid but surely typos.

use super::policy::Policy;
use super::rule::Rule;
use crate::mcp::Method;
use crate::utils::near::nearest;

/// A pattern of a method that MCP does not have, close to one that it has, with what was meant.
#[must_use]
pub fn misspelt(policy: &Policy) -> Vec<(&Rule, String)> {
    let families = families();
    let meant = |rule: &Rule| {
        let pattern = rule.pattern();
        if let Some(family) = pattern.strip_suffix("/*") {
            let near = nearest(family, families.iter().copied())?;
            return Some(format!("{near}/*"));
        }
        let names = Method::ALL.iter().map(|method| method.name());
        nearest(pattern, names).map(str::to_owned)
    };
    let rules = policy.rules_about_methods();
    rules
        .filter_map(|rule| Some((rule, meant(rule)?)))
        .collect()
}

/// What methods of MCP have before their last `/`.
fn families() -> Vec<&'static str> {
    let stem = |method: &Method| Some(method.name().rsplit_once('/')?.0);
    let mut families: Vec<&str> = Method::ALL.iter().filter_map(stem).collect();
    families.sort_unstable();
    families.dedup();
    families
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_close_to_a_method_is_a_typo() {
        let text = r#"{"permissions": {"user": {
            "allowedMethods": ["*", "initialise", "tool/*", "Tools/call", "tools/call", "tools/*", "resources/write",
                "resources/templates/*", "notification/*", "my/method", "sampling/createMesage"],
            "blockedMethods": ["resources/delete"]
        }}}"#;
        let policy = Policy::parse(text).unwrap();
        let typos = misspelt(&policy);
        let typos: Vec<_> = typos
            .iter()
            .map(|(rule, meant)| (rule.pattern(), meant.as_str()))
            .collect();
        assert_eq!(
            typos,
            [
                ("initialise", "initialize"),
                ("tool/*", "tools/*"),
                ("Tools/call", "tools/call"),
                ("notification/*", "notifications/*"),
                ("sampling/createMesage", "sampling/createMessage"),
            ]
        );
    }
}
