//! Which tokens are accepted, and what they grant.

use super::*;
use serde_json::json;

const NOW: u64 = 1_800_000_000;

fn sign(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes()).unwrap();
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn secret(text: &str) -> Secret {
    text.to_owned().into()
}

fn verifier(secrets: &[&str], demands: Demands, revoked: &str) -> Verifier {
    let secrets: Vec<Secret> = secrets.iter().map(|text| secret(text)).collect();
    let revocations = Revocations::parse(revoked).unwrap();
    Verifier::new(
        Keys::of_secrets(&secrets).into(),
        demands,
        Arc::new(revocations),
    )
}

fn verify(token: &str) -> Result<Identity, TokenError> {
    verifier(&["s3cret"], Demands::default(), "").verify(&secret(token), NOW)
}

#[test]
fn debug_shows_neither_secret_nor_token() {
    let token = sign(&json!({"user": "alice"}), Algorithm::HS256, "s3cret");
    let verifier = verifier(&["s3cret"], Demands::default(), "");
    let identity = verifier.verify(&secret(&token), NOW).unwrap();
    let debug = format!("{verifier:?} {identity:?}");
    assert!(
        !debug.contains("s3cret") && !debug.contains(&token[..10]),
        "{debug}"
    );
}

#[test]
fn any_of_the_secrets_will_do() {
    let verifier = verifier(&["new", "old", "old"], Demands::default(), "");
    let token = |key| secret(&sign(&json!({"user": "alice"}), Algorithm::HS384, key));
    for key in ["new", "old"] {
        let identity = verifier.verify(&token(key), NOW).unwrap();
        assert_eq!(identity.name(), "alice");
    }
    let error = verifier.verify(&token("older"), NOW).unwrap_err();
    assert_eq!(error, TokenError::Untrusted);
}

#[test]
fn issuer_and_audience_are_required_where_asked_for() {
    use TokenError::{Audience, Issuer, Malformed};
    let some = |text: &str| Some(text.to_owned());
    let (none, issuer, audience, both) = (
        (None, None),
        (some("us"), None),
        (None, some("them")),
        (some("us"), some("them")),
    );
    for (demands, claims, outcome) in [
        (&none, json!({}), Ok(())),
        (&none, json!({"iss": 1, "aud": {"x": 1}}), Ok(())),
        (&issuer, json!({"iss": "us"}), Ok(())),
        (&issuer, json!({"iss": "us", "aud": 7}), Ok(())),
        (&issuer, json!({}), Err(Issuer)),
        (&issuer, json!({"iss": "Us"}), Err(Issuer)),
        (
            &issuer,
            json!({"iss": ["us"]}),
            Err(Malformed("iss".into())),
        ),
        (&issuer, json!({"iss": null}), Err(Malformed("iss".into()))),
        (&audience, json!({"aud": "them"}), Ok(())),
        (&audience, json!({"aud": ["x", "them"]}), Ok(())),
        (&audience, json!({}), Err(Audience)),
        (&audience, json!({"aud": "themselves"}), Err(Audience)),
        (&audience, json!({"aud": []}), Err(Audience)),
        (&audience, json!({"aud": ["x"]}), Err(Audience)),
        (
            &audience,
            json!({"aud": ["them", 7]}),
            Err(Malformed("aud".into())),
        ),
        (
            &audience,
            json!({"aud": {"them": 1}}),
            Err(Malformed("aud".into())),
        ),
        (&both, json!({"iss": "us", "aud": "them"}), Ok(())),
        (&both, json!({"iss": "us"}), Err(Audience)),
        (&both, json!({"aud": "them"}), Err(Issuer)),
    ] {
        let demands = Demands {
            issuer: demands.0.clone(),
            audience: demands.1.clone(),
            ..Demands::default()
        };
        let token = secret(&sign(&claims, Algorithm::HS256, "s3cret"));
        let verified = verifier(&["s3cret"], demands, "").verify(&token, NOW);
        assert_eq!(verified.map(drop), outcome, "{claims}");
    }
}

#[test]
fn revoked_tokens_are_refused() {
    let verifier = verifier(&["s3cret"], Demands::default(), "a1\nuser:mallory");
    for (claims, outcome) in [
        (json!({"user": "alice", "jti": "a2"}), Ok(())),
        (json!({"user": "a1"}), Ok(())),
        (json!({"jti": "mallory"}), Ok(())),
        (
            json!({"user": "alice", "jti": "a1"}),
            Err(TokenError::Revoked),
        ),
        (
            json!({"user": "mallory", "jti": "a2"}),
            Err(TokenError::Revoked),
        ),
        (json!({"sub": "mallory"}), Err(TokenError::Revoked)),
        (
            json!({"jti": "a1", "exp": NOW - 1}),
            Err(TokenError::Revoked),
        ),
        (json!({"jti": 7}), Err(TokenError::Malformed("jti".into()))),
    ] {
        let token = secret(&sign(&claims, Algorithm::HS256, "s3cret"));
        let verified = verifier.verify(&token, NOW);
        assert_eq!(verified.map(drop), outcome, "{claims}");
    }
}

#[test]
fn whom_a_refused_token_names_is_told_where_it_is_one_of_ours() {
    let verifier = verifier(&["s3cret"], Demands::default(), "a1");
    for claims in [
        json!({"user": "alice", "jti": "a1"}),
        json!({"user": "alice", "exp": NOW}),
        json!({"user": "alice", "nbf": NOW + 1}),
    ] {
        let token = |key| secret(&sign(&claims, Algorithm::HS256, key));
        assert!(verifier.verify(&token("s3cret"), NOW).is_err());
        let bearer = verifier.bearer(&token("s3cret")).unwrap();
        assert_eq!(bearer.name(), "alice");
        assert!(verifier.bearer(&token("other")).is_none());
    }
}

#[test]
fn tokens_are_read_without_their_secret() {
    let token = sign(&json!({"user": "alice"}), Algorithm::HS512, "whatever");
    let (header, claims) = read_unverified(&secret(&token)).unwrap();
    assert_eq!(header["alg"], "HS512");
    assert_eq!(claims["user"], "alice");
    let (head, _) = token.rsplit_once('.').unwrap();
    let list = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode("[]"),
        URL_SAFE_NO_PAD.encode("{}")
    );
    for bad in ["", "..", "a.b.c", head, &format!("{token}."), &list] {
        let read = read_unverified(&secret(bad));
        assert_eq!(read.unwrap_err(), TokenError::Untrusted, "{bad}");
    }
}

#[test]
fn claims_become_an_identity() {
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let claims =
            json!({"user": "alice", "roles": ["a", "b"], "exp": NOW + 1, "nbf": NOW, "iat": NOW});
        let identity = verify(&sign(&claims, algorithm, "s3cret")).unwrap();
        assert_eq!(identity.user.as_deref(), Some("alice"));
        assert_eq!(identity.roles, ["a", "b"]);
        assert_eq!(identity.expires, Some(NOW + 1));
    }
    let bare = verify(&sign(
        &json!({"sub": "bob", "aud": "x"}),
        Algorithm::HS256,
        "s3cret",
    ))
    .unwrap();
    assert_eq!(
        (bare.name(), bare.roles.len(), bare.expires),
        ("bob", 0, None)
    );
}

#[test]
fn bad_claims_are_refused() {
    for (claims, error) in [
        (json!({"exp": NOW}), TokenError::Expired),
        (json!({"exp": NOW - 1}), TokenError::Expired),
        (json!({"exp": "soon"}), TokenError::Malformed("exp".into())),
        (json!({"exp": null}), TokenError::Malformed("exp".into())),
        (json!({"nbf": NOW + 1}), TokenError::NotYetValid("nbf")),
        (json!({"iat": NOW + 1}), TokenError::NotYetValid("iat")),
        (
            json!({"roles": "admin"}),
            TokenError::Malformed("roles".into()),
        ),
        (
            json!({"roles": ["admin", 7]}),
            TokenError::Malformed("roles".into()),
        ),
        (
            json!({"roles": {"admin": true}}),
            TokenError::Malformed("roles".into()),
        ),
        (
            json!({"roles": null}),
            TokenError::Malformed("roles".into()),
        ),
        (json!({"user": ["x"]}), TokenError::Malformed("user".into())),
    ] {
        assert_eq!(
            verify(&sign(&claims, Algorithm::HS256, "s3cret")).unwrap_err(),
            error,
            "{claims}"
        );
    }
}

/// Bug: a clock two seconds behind the issuer's made a new token invalid.
#[test]
fn the_leeway_is_for_the_begin_and_not_for_the_end() {
    let demands = Demands {
        leeway: 60,
        ..Demands::default()
    };
    let verifier = verifier(&["s3cret"], demands, "");
    for (claims, outcome) in [
        (json!({"nbf": NOW + 60, "iat": NOW + 60}), Ok(())),
        (json!({"nbf": NOW as f64 + 59.5}), Ok(())),
        (json!({"iat": "yesterday"}), Ok(())),
        (
            json!({"nbf": NOW + 61}),
            Err(TokenError::NotYetValid("nbf")),
        ),
        (
            json!({"iat": NOW + 61}),
            Err(TokenError::NotYetValid("iat")),
        ),
        (json!({"exp": NOW}), Err(TokenError::Expired)),
        (json!({"exp": NOW - 1}), Err(TokenError::Expired)),
    ] {
        let token = secret(&sign(&claims, Algorithm::HS256, "s3cret"));
        let verified = verifier.verify(&token, NOW);
        assert_eq!(verified.map(drop), outcome, "{claims}");
    }
}

#[test]
fn only_our_signature_counts() {
    let good = sign(&json!({"user": "alice"}), Algorithm::HS256, "s3cret");
    let other = sign(&json!({"user": "alice"}), Algorithm::HS256, "other");
    let body = good.split('.').nth(1).unwrap();
    let none = format!(
        "{}.{body}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#)
    );
    let rsa = format!(
        "{}.{body}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#),
        good.split('.').nth(2).unwrap()
    );
    let cut = &good[..good.len() - 4];
    for bad in [
        &other,
        &none,
        &rsa,
        cut,
        "",
        ".",
        "..",
        "garbage",
        "{}",
        &format!("{good} "),
    ] {
        assert_eq!(verify(bad).unwrap_err(), TokenError::Untrusted, "{bad}");
    }
}

/// A correctly signed token with exactly this header and these claims.
fn sign_text(header: &str, claims: &str) -> String {
    let message = [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let key = EncodingKey::from_secret(b"s3cret").unwrap();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.unwrap())
}

#[test]
fn what_other_programs_may_read_differently_is_refused() {
    use TokenError::{Critical, Repeated, Untrusted};
    let (header, claims) = (r#"{"alg":"HS256"}"#, r#"{"user":"alice"}"#);
    assert_eq!(verify(&sign_text(header, claims)).unwrap().name(), "alice");
    for (header, claims, error) in [
        (
            r#"{"alg":"HS256","crit":["exp"],"exp":1}"#,
            claims,
            Critical,
        ),
        (
            r#"{"alg":"HS256","crit":["b64"],"b64":true}"#,
            claims,
            Critical,
        ),
        (r#"{"alg":"HS256","crit":[]}"#, claims, Critical),
        (r#"{"alg":"HS256","crit":null}"#, claims, Critical),
        (r#"{"alg":"HS256","cr\u0069t":["x"]}"#, claims, Critical),
        (r#"{"alg":"HS256","b64":false}"#, claims, Untrusted),
        (r#"{"alg":"none","alg":"HS256"}"#, claims, Repeated),
        (
            r#"{"alg":"HS256","kid":"a","k\u0069d":"b"}"#,
            claims,
            Repeated,
        ),
        (header, r#"{"user":"alice","user":"bob"}"#, Repeated),
        (
            header,
            r#"{"roles":["a"],"r\u006fles":["admin"]}"#,
            Repeated,
        ),
        (header, r#"{"exp":1,"exp":9999999999}"#, Repeated),
        (header, r#"{"x":{"roles":[],"roles":["admin"]}}"#, Repeated),
        (header, r#"["user"]"#, Untrusted),
    ] {
        let token = sign_text(header, claims);
        assert_eq!(verify(&token).unwrap_err(), error, "{header} {claims}");
        let verifier = verifier(&["s3cret"], Demands::default(), "");
        assert!(verifier.bearer(&secret(&token)).is_none());
    }
}

#[test]
fn any_required_role_suffices() {
    let identity = Identity {
        roles: vec!["user".into()],
        ..Identity::default()
    };
    let required = |roles: &[&str]| {
        roles
            .iter()
            .map(|role| (*role).to_owned())
            .collect::<Vec<_>>()
    };
    assert!(identity.has_any_role(&[]));
    assert!(identity.has_any_role(&required(&["admin", "user"])));
    assert!(!identity.has_any_role(&required(&["admin"])));
}

#[test]
fn secrets_have_the_asked_size() {
    for (bytes, length) in [(16, 22), (32, 43), (64, 86)] {
        assert_eq!(generate_secret(bytes).expose().len(), length);
    }
    assert_ne!(generate_secret(32).expose(), generate_secret(32).expose());
    assert_ne!(generate_id(), generate_id());
    assert_eq!(generate_id().len(), 16);
}

#[test]
fn user_and_roles_stand_where_the_operator_says() {
    let claims = json!({
        "sub": "a1", "email": "ann@example.com", "scope": "read  write", "groups": [],
        "realm_access": {"roles": ["user", "admin"]},
        "https://example.com/roles": ["staff"], "n": 7,
    });
    let names = |user: Option<&str>, roles: Option<&str>| ClaimNames {
        user: user.map(Into::into),
        roles: roles.map(Into::into),
    };
    let read = |names: ClaimNames| {
        let demands = Demands {
            names,
            ..Demands::default()
        };
        let token = secret(&sign(&claims, Algorithm::HS256, "s3cret"));
        let identity = verifier(&["s3cret"], demands, "").verify(&token, NOW)?;
        Ok((identity.user, identity.roles.join(",")))
    };
    let wrong = |name: &str| Err(TokenError::Malformed(name.to_owned()));
    let ann = Some("ann@example.com".to_owned());
    let sub = Some("a1".to_owned());
    for (user, roles, expected) in [
        (None, None, Ok((sub.clone(), String::new()))),
        (Some("email"), None, Ok((ann, String::new()))),
        (Some("nobody"), None, Ok((None, String::new()))),
        (Some("n"), None, wrong("n")),
        (
            None,
            Some("scope"),
            Ok((sub.clone(), "read,write".to_owned())),
        ),
        (None, Some("groups"), Ok((sub.clone(), String::new()))),
        (
            None,
            Some("realm_access.roles"),
            Ok((sub.clone(), "user,admin".to_owned())),
        ),
        (
            None,
            Some("/realm_access/roles"),
            Ok((sub.clone(), "user,admin".to_owned())),
        ),
        (
            None,
            Some("/https:~1~1example.com~1roles"),
            Ok((sub.clone(), "staff".to_owned())),
        ),
        (None, Some("realm_access"), wrong("realm_access")),
        (None, Some("realm_access.none"), Ok((sub, String::new()))),
        (None, Some("n"), wrong("n")),
    ] {
        assert_eq!(read(names(user, roles)), expected, "{user:?} {roles:?}");
    }
}
