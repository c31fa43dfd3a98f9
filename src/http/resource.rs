//! The metadata for clients that get their token from an authorization server (OAuth 2.0 Protected Resource
//! Metadata, RFC 9728).

use bytes::Bytes;
use hyper::header::HeaderValue;
use serde::Serialize;

/// Where the metadata is, before the path with MCP.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// A server whose tokens come from authorization servers.
#[derive(Clone, Debug)]
pub struct Resource {
    path: String,
    /// The scopes that a token needs to be admitted, if roles are scopes.
    scopes: Option<Vec<String>>,
    metadata: Bytes,
    metadata_url: String,
    /// The parameters that are added to a challenge.
    parameters: String,
}

#[derive(Serialize)]
struct Metadata<'a> {
    resource: String,
    authorization_servers: &'a [String],
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    scopes_supported: &'a [String],
}

impl Resource {
    /// The server at `path` of this origin. `scopes` are what a token needs to get in, `None` where roles are
    /// no scopes; those that no scope can be named (RFC 6749, section 3.3) are left out.
    #[must_use]
    pub fn new(
        origin: &str,
        path: &str,
        authorization_servers: &[String],
        scopes: Option<&[String]>,
    ) -> Self {
        let path = path.trim_end_matches('/');
        let names = |scopes: &[String]| scopes.iter().filter(|it| is_scope(it)).cloned().collect();
        let scopes: Option<Vec<String>> = scopes.map(names);
        let needed = scopes.as_deref().unwrap_or_default();
        let metadata = Metadata {
            resource: format!("{origin}{path}"),
            authorization_servers,
            bearer_methods_supported: ["header"],
            scopes_supported: needed,
        };
        let metadata_url = format!("{origin}{WELL_KNOWN}{path}");
        let mut parameters = format!("resource_metadata=\"{metadata_url}\"");
        if !needed.is_empty() {
            parameters += &format!(", scope=\"{}\"", needed.join(" "));
        }
        Self {
            metadata_url,
            path: path.to_owned(),
            // Strings and lists of them always serialize.
            metadata: serde_json::to_vec(&metadata).unwrap_or_default().into(),
            parameters,
            scopes,
        }
    }

    /// True if a role is a scope that clients can request.
    #[must_use]
    pub fn has_scopes(&self) -> bool {
        self.scopes.is_some()
    }

    /// The challenge to a token that lacks this role for what is asked: all that a token needs for it, what
    /// this one has got in by included.
    #[must_use]
    pub fn lacks(&self, role: &str, present: &[String]) -> Option<HeaderValue> {
        let needed = self.scopes.as_ref()?;
        if !is_scope(role) {
            return None;
        }
        let mut scopes: Vec<&str> = needed.iter().map(String::as_str).collect();
        scopes.retain(|scope| present.iter().any(|role| role == scope));
        scopes.push(role);
        let (metadata, scopes) = (&self.metadata_url, scopes.join(" "));
        let challenge = format!(
            "Bearer error=\"insufficient_scope\", scope=\"{scopes}\", resource_metadata=\"{metadata}\""
        );
        HeaderValue::from_str(&challenge).ok()
    }

    /// The metadata, if this path requests it: with or without the path of the endpoint after it.
    #[must_use]
    pub fn metadata_at(&self, path: &str) -> Option<Bytes> {
        let rest = path.strip_prefix(WELL_KNOWN)?;
        (rest.is_empty() || rest == self.path).then(|| self.metadata.clone())
    }

    /// A challenge (`WWW-Authenticate`) that also names the URL of the metadata.
    #[must_use]
    pub fn complete(&self, challenge: &HeaderValue) -> Option<HeaderValue> {
        let challenge = challenge.to_str().ok()?;
        if challenge.contains("resource_metadata=") {
            return None;
        }
        let separator = if challenge.contains('=') { ", " } else { " " };
        HeaderValue::from_str(&format!("{challenge}{separator}{}", self.parameters)).ok()
    }
}

/// True if this is a valid scope (RFC 6749, section 3.3) that a server may request.
#[must_use]
pub fn is_scope(name: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    // Whether a client may stay logged in is between it and the authorization server.
    !name.is_empty() && name.bytes().all(is_allowed) && name != "offline_access"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resource(scopes: &[&str]) -> Resource {
        let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
        let servers = ["https://idp.example/realms/x".to_owned()];
        Resource::new("https://mcp.example.com", "/mcp", &servers, Some(&scopes))
    }

    #[test]
    fn r1_r3_r4_the_metadata_stand_at_both_paths() {
        let resource = resource(&["mcp:read", "mcp:write"]);
        for path in ["", "/mcp"] {
            let found = resource
                .metadata_at(&format!("{WELL_KNOWN}{path}"))
                .unwrap();
            let found: Value = serde_json::from_slice(&found).unwrap();
            let expected = json!({
                "resource": "https://mcp.example.com/mcp",
                "authorization_servers": ["https://idp.example/realms/x"],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["mcp:read", "mcp:write"],
            });
            assert_eq!(found, expected);
        }
        for path in [
            "/mcp",
            "/.well-known/oauth-protected-resource/other",
            "/.well-known/x",
        ] {
            assert_eq!(resource.metadata_at(path), None, "{path}");
        }
    }

    #[test]
    fn r13_r14_what_an_operation_needs_is_named_in_one_challenge() {
        let at = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\"";
        let resource = resource(&["mcp", "admin"]);
        let present = ["mcp", "read"].map(str::to_owned);
        let told = |role| resource.lacks(role, &present);
        let expected = format!("Bearer error=\"insufficient_scope\", scope=\"mcp write\", {at}");
        assert_eq!(told("write").unwrap().to_str().unwrap(), expected);
        assert_eq!(resource.complete(&told("write").unwrap()), None);
        for role in ["two words", "offline_access", "quo\"te"] {
            assert_eq!(told(role), None, "{role}");
        }
        let servers = ["https://idp.example".to_owned()];
        let other = Resource::new("https://mcp.example.com", "/mcp", &servers, None);
        assert_eq!(other.lacks("write", &present), None);
    }

    #[test]
    fn r2_r12_r16_r17_a_challenge_is_completed() {
        let at = "resource_metadata=\"https://mcp.example.com/.well-known/oauth-protected-resource/mcp\"";
        for (scopes, challenge, expected) in [
            (&[][..], "Bearer", format!("Bearer {at}")),
            (
                &["a", "b"],
                "Bearer error=\"invalid_token\"",
                format!("Bearer error=\"invalid_token\", {at}, scope=\"a b\""),
            ),
            (
                &["offline_access", "a b", "a\"b", "c"],
                "Bearer",
                format!("Bearer {at}, scope=\"c\""),
            ),
        ] {
            let challenge = HeaderValue::from_str(challenge).unwrap();
            let completed = resource(scopes).complete(&challenge).unwrap();
            assert_eq!(completed.to_str().unwrap(), expected);
        }
    }
}
