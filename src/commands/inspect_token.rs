//! `inspect-token`.

use super::access::{demands, read_revocations};
use super::check::{distinct, table};
use super::keys::KeySource;
use super::{Exit, Failure, print, read_policy, runtime};
use crate::auth::{self, ALGORITHMS, ClaimNames, Members, TokenError, Verifier};
use crate::cli::{DemandArgs, InspectTokenArgs};
use crate::utils::near::nearest;
use crate::utils::secret::{Secret, Sources};
use crate::utils::span::span;
use crate::utils::text;
use serde_json::Value;
use std::fmt::Write;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most that is read from stdin, in bytes; no token is as long.
const MAX_INPUT: u64 = 1 << 20;

/// The claims that have a meaning here, as people call them, in the order of the output.
const KNOWN: [(&str, &str); 9] = [
    ("user", "User"),
    ("sub", "Subject"),
    ("roles", "Roles"),
    ("jti", "ID"),
    ("iss", "Issuer"),
    ("aud", "Audience"),
    ("iat", "Issued"),
    ("nbf", "Not before"),
    ("exp", "Expires"),
];

pub(super) fn run(args: InspectTokenArgs, release: fn()) -> Result<Exit, Failure> {
    let token = read_token(&args)?;
    let (header, claims) = auth::read_unverified(&token).map_err(|err| unreadable(&err, &args))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut text = describe(&header, &claims, now) + &read_as(&claims, &args.demands);
    let source = KeySource::new(args.secret, &args.demands)?;
    let required = distinct(&args.require_roles);
    let refusal = match runtime(release)?.block_on(source.read())? {
        None => {
            text +=
                "\nSignature: NOT CHECKED, no secret was given; anybody can have written this\n";
            None
        }
        Some(keys) => {
            let revocations = read_revocations(args.demands.revoked.as_deref())?;
            let verifier = Verifier::new(keys, demands(&args.demands), revocations);
            let verified = verifier.verify(&token, now);
            if let Some(signer) = verifier.signer(&token) {
                text += &match (signer.id, &args.demands.jwks) {
                    (Some(id), _) => format!("\nSigned with: key {}\n", plain(&id.into())),
                    (None, Some(_)) => format!("\nSigned with: key {} of the set\n", signer.number),
                    (None, None) => format!("\nSigned with: secret {}\n", signer.number),
                };
            }
            let refusal = match verified {
                Ok(identity) if identity.has_any_role(&required) => None,
                Ok(_) => Some((
                    "get one with such a role",
                    format!(
                        "it has none of the roles of --require-roles: {}",
                        required.join(", ")
                    ),
                )),
                Err(TokenError::Untrusted) if args.demands.jwks.is_some() => Some((
                    remedy(&TokenError::Untrusted),
                    "no key of --jwks has signed it, or not with the algorithm of that key"
                        .to_owned(),
                )),
                Err(err @ TokenError::UnknownKey) => {
                    let id = plain(header.get("kid").unwrap_or(&Value::Null));
                    let why = format!("its key, {id}, is not in the set of --jwks");
                    Some((remedy(&err), why))
                }
                Err(err) => Some((remedy(&err), explain(&err, &header, &claims, now))),
            };
            match &refusal {
                None => text += "\nAccepted\n",
                Some((remedy, why)) => text += &format!("\nRefused: {why}; {remedy}\n"),
            }
            refusal
        }
    };
    if let Some(file) = &args.permissions_config {
        text += &worth(file, &claims, &demands(&args.demands).names)?;
    }
    print(&text)?;
    Ok(match refusal {
        None => Exit::Done,
        Some(_) => Exit::Failed,
    })
}

/// What to do about a token that is refused.
fn remedy(err: &TokenError) -> &'static str {
    match err {
        TokenError::Untrusted | TokenError::UnknownKey => {
            "check that it was made for this server, and that the secret or key set here is the server's"
        }
        TokenError::NotYetValid(_) => {
            "wait, set this machine's clock, or allow for it with --jwt-leeway"
        }
        TokenError::Issuer | TokenError::Audience => {
            "get one for this server, or check --jwt-issuer and --jwt-audience"
        }
        TokenError::Revoked => "get another one, or remove it from the file of --revoked",
        TokenError::Expired
        | TokenError::Malformed(_)
        | TokenError::Repeated
        | TokenError::Critical => "get a new one from whoever issued it",
    }
}

/// Why what was given cannot be read as a token.
fn unreadable(err: &TokenError, args: &InspectTokenArgs) -> Failure {
    let is_file = |text: &Secret| Path::new(text.expose()).is_file();
    match err {
        TokenError::Repeated => Failure::new(format!("no server takes this token: {err}")),
        _ if args.positional.as_ref().is_some_and(is_file) => {
            Failure::new("this is not a token but the name of a file")
                .with_remedy(Some("give it with --jwt-token-file"))
        }
        _ => Failure::new(
            "this is not a token: one has three parts with dots between them, the first two base64url of JSON objects",
        ),
    }
}

/// The user and the roles that a server with these settings reads from the claims.
fn read_as(claims: &Members, flags: &DemandArgs) -> String {
    let names = demands(flags).names;
    let user_claim = names.user_claim(claims);
    let user = match auth::claim(claims, user_claim) {
        Some(user @ Value::String(_)) => format!("{} (from claim {user_claim})", plain(user)),
        None | Some(Value::Null) if names.user.is_some() => {
            format!("none: the token has no claim '{user_claim}'")
        }
        None | Some(Value::Null) => "none: the token has no claim 'user' or 'sub'".to_owned(),
        Some(_) => format!("none: claim '{user_claim}' is not a string"),
    };
    let roles_claim = names.roles_claim();
    let roles = match (auth::claim(claims, roles_claim), names.roles(claims)) {
        (None, _) => format!("none: the token has no claim '{roles_claim}'"),
        (_, Err(_)) => format!("none: claim '{roles_claim}' is not a list of strings"),
        (_, Ok(roles)) => format!("{} (from claim {roles_claim})", plain(&roles.into())),
    };
    format!("\nUser: {user}\nRoles: {roles}\n")
}

/// What a policy lets the roles of the token do.
fn worth(file: &Path, claims: &Members, names: &ClaimNames) -> Result<String, Failure> {
    let policy = read_policy(file)?;
    let roles = names.roles(claims).unwrap_or_default();
    let rights = policy.rights_of(&roles, |name| auth::claim(claims, name).cloned());
    let mut text = String::from("\nWhat its roles may do:\n\n");
    for role in roles.iter().filter(|role| !policy.has_role(role)) {
        let shown = plain(&Value::String(role.clone()));
        let _infallible = write!(text, "The policy has no role '{shown}'");
        let _infallible = match nearest(role, policy.role_names()) {
            Some(meant) => writeln!(text, "; did you mean '{meant}'?"),
            None => writeln!(text, "."),
        };
    }
    Ok(text + &table(&policy, &rights, &roles))
}

fn read_token(args: &InspectTokenArgs) -> Result<Secret, Failure> {
    let stdin = match &args.positional {
        Some(token) if token.expose() == "-" => true,
        Some(token) => return Ok(token.expose().trim().to_owned().into()),
        None => false,
    };
    let sources = Sources {
        what: "JWT token",
        variable: "MCP_REMOTE_JWT_TOKEN",
        flags: args.token.jwt_token.as_slice(),
        file: args.token.jwt_token_file.as_deref(),
    };
    let token = if stdin { None } else { sources.read()? };
    let token = match token {
        Some(token) => token,
        None => read_stdin()?.into(),
    };
    match token.expose().trim() {
        "" => Err(Failure::new("no token given").with_remedy(Some(
            "give it as TOKEN, with --jwt-token-file, in MCP_REMOTE_JWT_TOKEN, or on stdin",
        ))),
        token => Ok(token.to_owned().into()),
    }
}

fn read_stdin() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let hint = "The token, then Enter and Ctrl-D:";
        let _nobody = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{hint}\n"));
    }
    let mut bytes = Vec::new();
    let read = stdin.lock().take(MAX_INPUT).read_to_end(&mut bytes);
    read.and_then(|_| text::text_of(bytes))
        .map_err(|err| Failure::caused("could not read the token from stdin", err))
}

/// Header and claims, one per line. Nothing in them is trusted: neither to be what it should be,
/// nor to be fit for a terminal.
fn describe(header: &Members, claims: &Members, now: u64) -> String {
    let mut text = String::new();
    let algorithm = header.get("alg").unwrap_or(&Value::Null);
    let _infallible = writeln!(text, "Algorithm: {}\n\nClaims:", plain(algorithm));
    for (name, title) in KNOWN {
        if let Some(value) = claims.get(name) {
            let shown = match name {
                "iat" | "nbf" | "exp" => time(name, value, now),
                _ => plain(value),
            };
            let _infallible = writeln!(text, "- {title}: {shown}");
        }
    }
    let known = |name: &str| KNOWN.iter().any(|(known, _)| *known == name);
    for (name, value) in claims.iter().filter(|(name, _)| !known(name)) {
        let name = plain(&Value::String(name.clone()));
        let _infallible = writeln!(text, "- {name}: {}", escape(&value.to_string()));
    }
    text
}

/// Strings without quotes where nothing in them can be taken for something else, lists of such
/// strings with commas; everything else as JSON.
fn plain(value: &Value) -> String {
    let simple = |text: &str| {
        let ordinary = |c: char| c.is_alphanumeric() || "-_.:/@+ ".contains(c);
        !text.is_empty() && text.trim() == text && text.chars().all(ordinary)
    };
    match value {
        Value::String(text) if simple(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) if list.iter().all(Value::is_string) => {
            list.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        other => escape(&other.to_string()),
    }
}

/// JSON leaves characters as they are that move the cursor or turn the direction of writing.
fn escape(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        let ordinary = c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric();
        if ordinary {
            text.push(c);
        } else {
            let _infallible = write!(text, "\\u{{{:x}}}", u32::from(c));
        }
    }
    text
}

fn time(name: &str, value: &Value, now: u64) -> String {
    let Some(seconds) = value
        .as_f64()
        .filter(|seconds| (0.0..2.5e11).contains(seconds))
    else {
        return format!("{} (not a time)", plain(value));
    };
    let at = UNIX_EPOCH + Duration::from_secs(seconds as u64);
    let far = span((seconds - now as f64).abs());
    let relative = match (name, seconds > now as f64) {
        (_, true) => format!("in {far}"),
        ("exp", false) => format!("expired {far} ago"),
        (_, false) => format!("{far} ago"),
    };
    format!("{} ({relative})", humantime::format_rfc3339_seconds(at))
}

/// Why a token is refused, with what its bearer needs to know to do something about it.
fn explain(err: &TokenError, header: &Members, claims: &Members, now: u64) -> String {
    let at = |name: &str| claims.get(name).map(|value| time(name, value, now));
    match err {
        TokenError::Untrusted => {
            let algorithm = header.get("alg").unwrap_or(&Value::Null);
            let fit = ALGORITHMS
                .iter()
                .any(|fit| Some(format!("{fit:?}").as_str()) == algorithm.as_str());
            if fit {
                "none of the secrets given has signed it".to_owned()
            } else {
                format!(
                    "the algorithm is {}, not HS256, HS384 or HS512",
                    plain(algorithm)
                )
            }
        }
        TokenError::Expired => format!("it expired, exp is {}", at("exp").unwrap_or_default()),
        TokenError::NotYetValid(claim) => {
            let time = at(claim).unwrap_or_default();
            format!("it is not valid yet, {claim} is {time}")
        }
        TokenError::Malformed(_)
        | TokenError::Repeated
        | TokenError::Critical
        | TokenError::UnknownKey => err.to_string(),
        TokenError::Issuer => "its issuer is not the one of --jwt-issuer".to_owned(),
        TokenError::Audience => "it is not for the audience of --jwt-audience".to_owned(),
        TokenError::Revoked => "it is revoked, by its id or its user".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn times_are_dates_and_distances() {
        for (name, seconds, text) in [
            ("exp", NOW + 3 * 3600, "2027-01-15T11:00:00Z (in 3h)"),
            ("exp", NOW + 3 * 3600 - 1, "2027-01-15T10:59:59Z (in 3h)"),
            ("exp", NOW + 3600, "2027-01-15T09:00:00Z (in 60m)"),
            (
                "exp",
                NOW - 2 * 3600,
                "2027-01-15T06:00:00Z (expired 2h ago)",
            ),
            ("exp", NOW, "2027-01-15T08:00:00Z (expired 0s ago)"),
            ("iat", NOW - 90, "2027-01-15T07:58:30Z (90s ago)"),
            ("nbf", NOW + 86_400 * 30, "2027-02-14T08:00:00Z (in 30d)"),
        ] {
            assert_eq!(time(name, &json!(seconds), NOW), text);
        }
        for (value, text) in [
            (json!("soon"), "soon (not a time)"),
            (json!(-1), "-1 (not a time)"),
            (json!(1e300), "1e+300 (not a time)"),
            (json!(null), "null (not a time)"),
            (json!(1_800_000_000.9), "2027-01-15T08:00:00Z (in 1s)"),
        ] {
            assert_eq!(time("exp", &value, NOW), text);
        }
    }

    #[test]
    fn claims_cannot_pass_for_others() {
        for (value, text) in [
            (json!("Alice Smith"), "Alice Smith"),
            (json!("älice"), "älice"),
            (json!(["a", "b"]), "a, b"),
            (json!([]), "none"),
            (json!(["a, b"]), r#""a, b""#),
            (json!(["a", 1]), r#"["a",1]"#),
            (json!(""), r#""""#),
            (json!("x "), r#""x ""#),
            (json!("x\n- Roles: admin"), r#""x\n- Roles: admin""#),
            (json!("\u{1b}[2J"), r#""\u001b[2J""#),
            (
                json!("\u{9b}2J\u{202e}\u{7f}"),
                r#""\u{9b}2J\u{202e}\u{7f}""#,
            ),
            (json!({"a": "\u{2028}"}), r#"{"a":"\u{2028}"}"#),
        ] {
            assert_eq!(plain(&value), text, "{value}");
        }
    }
}
