//! What a token reveals without a server: common mistakes, and its expiry.

use super::read_unverified;
use crate::utils::secret::Secret;

/// Why this is clearly not a token, with the remedy, to follow the words "the token". Surrounding white space
/// is ignored. What is not a JWT may still be another kind of token.
#[must_use]
pub fn mistake(token: &Secret) -> Option<&'static str> {
    let token = token.expose().trim();
    let is_quote = |c: char| matches!(c, '"' | '\'' | '`' | '“' | '”' | '‘' | '’');
    let scheme = token.split(char::is_whitespace).next().unwrap_or_default();
    if token.starts_with('\u{feff}') {
        Some("begins with a byte order mark; remove it")
    } else if token.starts_with(is_quote) || token.ends_with(is_quote) {
        Some("has quotes around it; remove them")
    } else if is_placeholder(token) {
        Some(
            "holds the name of a variable instead of its value; set that variable where the token comes from, or use --jwt-token-file",
        )
    } else if ["bearer", "bearer:"]
        .iter()
        .any(|word| scheme.eq_ignore_ascii_case(word))
    {
        Some("begins with 'Bearer'; remove that word")
    } else if token.contains(char::is_whitespace) {
        Some(
            "has white space in it; it has to be one word on one line, as 'generate-token --quiet' prints it",
        )
    } else {
        None
    }
}

/// `$NAME`, `${NAME}`, `%NAME%`, `{{NAME}}` or `<NAME>`, alone or behind a scheme.
fn is_placeholder(token: &str) -> bool {
    let marks = [("$", ""), ("%", "%"), ("{{", "}}"), ("<", ">")];
    let word = token.split(char::is_whitespace).next_back();
    let encloses = |text: &str| {
        let inside = |(start, end)| text.strip_prefix(start)?.strip_suffix(end);
        marks.into_iter().any(|mark| inside(mark).is_some())
    };
    encloses(token) || word.is_some_and(encloses)
}

/// How many seconds ago this token expired by its own `exp`; `None` if it has not, or has none.
#[must_use]
pub fn expired_for(token: &Secret, now: u64) -> Option<f64> {
    let ago = now as f64 - expires_at(token)?;
    (ago >= 0.0).then_some(ago)
}

/// When this token expires by its own `exp`, in seconds since 1970; `None` if it has none.
#[must_use]
pub fn expires_at(token: &Secret) -> Option<f64> {
    let token = token.expose().trim().to_owned().into();
    let (_, claims) = read_unverified(&token).ok()?;
    claims.get("exp")?.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_and_tokens_are_not() {
        for token in [
            "a.b.c",
            "eyJ-_0.eyJ9.x",
            " a.b.c\r\n",
            "\ta.b.c ",
            "opaque",
            "a%3D%3Db",
            "a$b$c",
            "a+b/c=",
        ] {
            assert_eq!(mistake(&token.to_owned().into()), None, "{token:?}");
        }
        for (token, says) in [
            ("Bearer a.b.c", "'Bearer'"),
            ("bearer  a.b.c\n", "'Bearer'"),
            ("Bearer", "'Bearer'"),
            ("\"a.b.c\"", "quotes"),
            ("'a.b.c'", "quotes"),
            ("“a.b.c”", "quotes"),
            ("\"a.b.c", "quotes"),
            ("${MCP_TOKEN}", "variable"),
            ("$MCP_TOKEN", "variable"),
            ("Bearer ${MCP_TOKEN}", "variable"),
            ("${input:token}", "variable"),
            ("%MCP_TOKEN%", "variable"),
            ("{{token}}", "variable"),
            ("<your token>", "variable"),
            ("a.b\nc.d", "white space"),
            ("a.b. c", "white space"),
            ("a\u{a0}.b.c", "white space"),
            ("Generated JWT token:\na.b.c", "generate-token --quiet"),
            ("\u{feff}a.b.c", "byte order mark"),
        ] {
            let said = mistake(&token.to_owned().into()).unwrap_or_else(|| panic!("{token:?}"));
            assert!(said.contains(says), "{token:?}: {said}");
        }
    }

    #[test]
    fn the_end_is_read_without_a_secret() {
        const NOW: u64 = 1_800_000_000;
        use base64::Engine;
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        for (claims, ago) in [
            (format!(r#"{{"exp":{}}}"#, NOW - 60), Some(60.0)),
            (format!(r#"{{"exp":{NOW}}}"#), Some(0.0)),
            (format!(r#"{{"exp":{}}}"#, NOW + 1), None),
            (r#"{"exp":"x"}"#.to_owned(), None),
            ("{}".to_owned(), None),
            ("no claims".to_owned(), None),
        ] {
            let parts = [r#"{"alg":"HS256"}"#, &claims].map(|part| URL_SAFE_NO_PAD.encode(part));
            let token = format!("{}.x\n", parts.join("."));
            assert_eq!(expired_for(&token.into(), NOW), ago, "{claims}");
        }
        assert_eq!(expired_for(&"opaque".to_owned().into(), NOW), None);
    }
}
