//! What roles may do: the policy file, and the decision on each message.
//!
//! Only [`Rights::decide`] makes a [`Permit`], and nothing but a permit reaches the child, so no
//! message skips the filter and still compiles.

use crate::jsonrpc::{Code, Kind, Message, NO_DATA, RequestId, error_line};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// A message that may pass.
#[derive(Debug)]
pub struct Permit(Message);

impl Permit {
    /// The message.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0
    }
}

/// A message that may not.
#[derive(Debug)]
pub struct Denial {
    /// The id to answer; `None` for a notification, which vanishes.
    pub id: Option<RequestId>,
    /// The forbidden method.
    pub method: String,
    /// The rule that blocked it; `None` when no rule allowed it.
    pub rule: Option<Arc<Rule>>,
}

impl Denial {
    /// The answer that the peer gets, if it gets one.
    #[must_use]
    pub fn to_line(&self) -> Option<Vec<u8>> {
        let id = self.id.as_ref()?;
        let text = format!(
            "Method not allowed: Access denied for method '{}'",
            self.method
        );
        Some(error_line(Some(id), Code::MethodNotFound, &text, NO_DATA))
    }
}

/// One pattern of the policy file.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    role: String,
    list: &'static str,
    pattern: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role '{}', {} '{}'", self.role, self.list, self.pattern)
    }
}

/// Methods to look up: exact names, families (`tools/*`), or all (`*`).
#[derive(Clone, Debug, Default)]
struct Rules {
    exact: HashMap<Box<str>, Arc<Rule>>,
    /// Keyed with the slash that ends the family's name.
    families: HashMap<Box<str>, Arc<Rule>>,
    all: Option<Arc<Rule>>,
}

impl Rules {
    fn insert(&mut self, rule: Arc<Rule>) {
        match rule.pattern.strip_suffix('*') {
            Some("") => self.all = Some(rule),
            Some(family) => drop(self.families.insert(family.into(), rule)),
            None => drop(self.exact.insert(rule.pattern.as_str().into(), rule)),
        }
    }

    /// Cost: one look-up, and one per slash in `method` where there are families.
    fn find(&self, method: &str) -> Option<&Arc<Rule>> {
        let family = || {
            if self.families.is_empty() {
                return None;
            }
            let ends = method.match_indices('/').map(|(at, _)| at + 1);
            ends.into_iter()
                .find_map(|end| self.families.get(&method[..end]))
        };
        self.all
            .as_ref()
            .or_else(|| self.exact.get(method))
            .or_else(family)
    }
}

/// What one peer may do: the rules of all its roles, merged once when it comes.
#[derive(Clone, Debug)]
pub struct Rights {
    /// `None`: no policy, everything is allowed.
    rules: Option<Arc<(Rules, Rules)>>,
}

impl Rights {
    /// The rights of everybody where there is no policy.
    #[must_use]
    pub fn everything() -> Self {
        Self { rules: None }
    }

    /// True when one of the roles blocks `method`, whether or not another allows it.
    #[must_use]
    pub fn blocks(&self, method: &str) -> bool {
        self.rules
            .as_deref()
            .is_some_and(|(_, block)| block.find(method).is_some())
    }

    /// Decides on one message. In this order, first match wins:
    /// 1. responses pass (the router knows what was asked of whom), and so do the handshake's
    ///    `notifications/initialized` and cancelling, which the hub handles;
    /// 2. a method that any of the roles blocks is denied;
    /// 3. a method that any of the roles allows passes;
    /// 4. everything else is denied.
    ///
    /// # Errors
    /// The [`Denial`].
    pub fn decide(&self, message: Message) -> Result<Permit, Denial> {
        let Some(rules) = &self.rules else {
            return Ok(Permit(message));
        };
        let (allow, block) = &**rules;
        let method = message.method();
        let rule = match message.kind() {
            Kind::Response(_) => return Ok(Permit(message)),
            Kind::Notification
                if matches!(
                    method,
                    "notifications/initialized" | "notifications/cancelled"
                ) =>
            {
                return Ok(Permit(message));
            }
            _ => block.find(method),
        };
        if rule.is_none() && allow.find(method).is_some() {
            return Ok(Permit(message));
        }
        Err(Denial {
            id: message.id().cloned(),
            method: method.to_owned(),
            rule: rule.cloned(),
        })
    }
}

/// A policy file, read.
#[derive(Debug)]
pub struct Policy {
    roles: BTreeMap<String, Vec<Arc<Rule>>>,
}

/// Why a policy file is not one; says where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// A member has the wrong type.
    #[error("{place} must be {expected}")]
    WrongType {
        /// Where in the file.
        place: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A member that we do not know.
    #[error("unknown key '{key}' in {place}; known are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where in the file.
        place: String,
        /// What may stand there.
        known: &'static str,
    },
    /// A member that stands twice.
    #[error("'{key}' stands twice in {place}")]
    Twice {
        /// The key.
        key: String,
        /// Where in the file.
        place: String,
    },
    /// A member that must be there.
    #[error("{place} has no '{key}'")]
    Missing {
        /// The key.
        key: &'static str,
        /// Where in the file.
        place: String,
    },
    /// A pattern with a `*` in a place where it has no meaning.
    #[error("{place}: '{pattern}' is not a method, a family such as 'tools/*', or '*'")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// Where in the file.
        place: String,
    },
}

const ALLOWED: &str = "allowedMethods";
const BLOCKED: &str = "blockedMethods";

impl Policy {
    /// Reads a policy from the text of its file.
    ///
    /// # Errors
    /// Whatever is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let top = "the file".to_owned();
        let mut members = Members::read(text, &top)?;
        let roles = members.take("permissions").ok_or(PolicyError::Missing {
            key: "permissions",
            place: top.clone(),
        })?;
        members.refuse_rest(&top, "'permissions'")?;
        let place = "'permissions'".to_owned();
        let mut policy = Self {
            roles: BTreeMap::new(),
        };
        for (name, role) in Members::read(roles.get(), &place)?.0 {
            let rules = read_role(&name, &role)?;
            policy.roles.insert(name, rules);
        }
        Ok(policy)
    }

    /// The rights of a peer with `roles`. Roles that the policy does not know add nothing.
    #[must_use]
    pub fn rights(&self, roles: &[String]) -> Rights {
        let (mut allow, mut block) = (Rules::default(), Rules::default());
        for rule in roles
            .iter()
            .filter_map(|role| self.roles.get(role))
            .flatten()
        {
            if rule.list == ALLOWED {
                &mut allow
            } else {
                &mut block
            }
            .insert(Arc::clone(rule));
        }
        Rights {
            rules: Some(Arc::new((allow, block))),
        }
    }

    /// True when the policy has a role of this name.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.contains_key(role)
    }

    /// Roles whose peers can open no session at all, since neither `initialize` (legacy clients)
    /// nor `server/discover` (modern ones) is allowed.
    #[must_use]
    pub fn mute_roles(&self) -> Vec<&str> {
        let mute = |role: &&String| {
            let rights = self.rights(std::slice::from_ref(*role));
            let rules = rights.rules.as_deref();
            rules.is_some_and(|(allow, block)| {
                ["initialize", "server/discover"]
                    .iter()
                    .all(|method| block.find(method).is_some() || allow.find(method).is_none())
            })
        };
        self.roles.keys().filter(mute).map(String::as_str).collect()
    }
}

fn read_role(name: &str, text: &RawValue) -> Result<Vec<Arc<Rule>>, PolicyError> {
    let place = format!("role '{name}'");
    let mut members = Members::read(text.get(), &place)?;
    let allowed = members.take(ALLOWED).ok_or(PolicyError::Missing {
        key: ALLOWED,
        place: place.clone(),
    })?;
    let blocked = members.take(BLOCKED);
    members.refuse_rest(&place, "'allowedMethods' and 'blockedMethods'")?;
    let mut rules = Vec::new();
    for (list, text) in [(ALLOWED, Some(allowed)), (BLOCKED, blocked)] {
        let Some(text) = text else { continue };
        let place = format!("role '{name}', key '{list}'");
        let patterns: Vec<String> =
            serde_json::from_str(text.get()).map_err(|_| PolicyError::WrongType {
                place: place.clone(),
                expected: "a list of strings",
            })?;
        for pattern in patterns {
            let stem = pattern.strip_suffix("/*").unwrap_or(&pattern);
            if pattern != "*" && (stem.is_empty() || stem.contains('*')) {
                return Err(PolicyError::BadPattern { pattern, place });
            }
            rules.push(Arc::new(Rule {
                role: name.to_owned(),
                list,
                pattern,
            }));
        }
    }
    Ok(rules)
}

/// The members of an object in their order; a name that stands twice is an error, where a map
/// would silently keep one of them.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    fn read(text: &str, place: &str) -> Result<Self, PolicyError> {
        let members: Self = serde_json::from_str(text).map_err(|err| {
            if err.is_data() {
                PolicyError::WrongType {
                    place: place.to_owned(),
                    expected: "an object",
                }
            } else {
                PolicyError::NotJson(err.to_string())
            }
        })?;
        for (at, (key, _)) in members.0.iter().enumerate() {
            if members.0[..at].iter().any(|(earlier, _)| earlier == key) {
                return Err(PolicyError::Twice {
                    key: key.clone(),
                    place: place.to_owned(),
                });
            }
        }
        Ok(members)
    }

    fn take(&mut self, key: &str) -> Option<Box<RawValue>> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.swap_remove(at).1)
    }

    fn refuse_rest(self, place: &str, known: &'static str) -> Result<(), PolicyError> {
        match self.0.into_iter().next() {
            Some((key, _)) => Err(PolicyError::UnknownKey {
                key,
                place: place.to_owned(),
                known,
            }),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    members.push(pair);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonrpc::MAX_PEER_DEPTH;

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
            "role 'tame', blockedMethods 'tools/call'"
        );
        assert_eq!(
            String::from_utf8(denial.to_line().unwrap()).unwrap(),
            "{\"jsonrpc\":\"2.0\",\"id\":0,\"error\":{\"code\":-32601,\"message\":\"Method not allowed: Access denied for method 'tools/call'\"}}\n"
        );
        let vanished =
            decide(&["reader"], r#"{"jsonrpc":"2.0","method":"tools/call"}"#).unwrap_err();
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
                "unknown key 'version' in the file; known are 'permissions'",
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
                "unknown key 'allowedmethods' in role 'a'; known are 'allowedMethods' and 'blockedMethods'",
            ),
            (
                r#"{"permissions": {"a": {"allowedMethods": []}, "a": {"allowedMethods": ["*"]}}}"#,
                "'a' stands twice in 'permissions'",
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
}
