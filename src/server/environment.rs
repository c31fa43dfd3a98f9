//! The environment of a process that serves one user.

use crate::auth::Identity;
use crate::system::files;
use crate::utils::secret::Secret;
use crate::utils::text;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest file of a user, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The longest user name that names a file, in bytes.
const MAX_USER: usize = 200;

/// The sources of each process's environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Variables for all users.
    pub variables: Vec<Variable>,
    /// A folder with a file of variables for each user.
    pub folder: Option<PathBuf>,
}

/// A variable, with placeholders in its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    value: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    User,
    /// By its JSON Pointer.
    Claim(String),
    Session,
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let (name, value) = split(typed).ok_or("it is not of the form NAME=VALUE")?;
        if value.contains(is_unfit) {
            return Err("its value holds a line break".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            value: pieces(value)?,
        })
    }
}

/// The parts of a value; two braces stand for one.
fn pieces(value: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(['{', '}']) {
        plain += &rest[..at];
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            plain += brace;
            rest = after;
            continue;
        }
        let (name, after) = rest
            .split_once('}')
            .filter(|_| brace == "{")
            .ok_or("a brace stands alone in its value; write {{ or }} for a brace")?;
        let piece = match name {
            "user" => Piece::User,
            "session" => Piece::Session,
            _ => match name.strip_prefix("claim:") {
                Some(pointer) if pointer.starts_with('/') => Piece::Claim(pointer.to_owned()),
                _ => {
                    return Err(format!(
                        "'{{{name}}}' stands for nothing: there are {{user}}, {{claim:/path}} and {{session}}, and {{{{ for a brace"
                    ));
                }
            },
        };
        pieces.push(Piece::Text(std::mem::take(&mut plain)));
        pieces.push(piece);
        rest = after;
    }
    plain += rest;
    pieces.push(Piece::Text(plain));
    Ok(pieces)
}

/// Name and value of a variable.
fn split(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = name.bytes().all(is_plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    (is_name && !name.is_empty()).then_some((name, value))
}

/// Not allowed in values: a program that reads lines would take what follows for another variable.
fn is_unfit(c: char) -> bool {
    matches!(c, '\0' | '\n' | '\r')
}

/// Why a process cannot be started for a user. Contains no values, which may be secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("{0} stands for the user, and this token names none")]
    NoUser(&'static str),
    #[error("the token has no claim '{0}' that is text, a number, true or false")]
    NoClaim(String),
    #[error("the value of '{0}' holds a line break or a NUL")]
    Value(String),
    #[error("the user's name is no file name")]
    FileName,
    #[error("could not read {0}: {1}")]
    Unreadable(String, String),
    #[error(
        "others than its owner may read or write {0} (its mode is {1:o}): set its mode to 0600"
    )]
    Mode(String, u32),
    #[error("{0}, line {1}: {2}")]
    Line(String, usize, &'static str),
}

impl Environment {
    /// True if there is nothing to set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.folder.is_none()
    }

    /// True where a variable names the session.
    #[must_use]
    pub fn names_session(&self) -> bool {
        let mut values = self.variables.iter().map(|variable| &variable.value);
        values.any(|value| value.contains(&Piece::Session))
    }

    /// The claims of this token that its variables name, as text.
    pub(super) fn claims_of(&self, identity: &Identity) -> Vec<Option<String>> {
        let pieces = self.variables.iter().flat_map(|variable| &variable.value);
        let claims = pieces.filter_map(|piece| match piece {
            Piece::Claim(pointer) => Some(claim_text(identity, pointer)),
            Piece::Text(_) | Piece::User | Piece::Session => None,
        });
        claims.collect()
    }

    /// The variables of a process for this user.
    pub(super) fn of(
        &self,
        identity: &Identity,
        session: &str,
    ) -> Result<Vec<(String, Secret)>, Unfit> {
        let mut variables = Vec::new();
        for variable in &self.variables {
            let value = variable.expand(identity, session)?;
            variables.push((variable.name.clone(), value.into()));
        }
        if let Some(folder) = &self.folder {
            let user = identity.user.as_deref();
            let user = user.ok_or(Unfit::NoUser("the file in --child-env-dir"))?;
            if !is_file_name(user) {
                return Err(Unfit::FileName);
            }
            read(&folder.join(format!("{user}.env")), &mut variables)?;
        }
        Ok(variables)
    }
}

impl Variable {
    fn expand(&self, identity: &Identity, session: &str) -> Result<String, Unfit> {
        let mut text = String::new();
        for piece in &self.value {
            match piece {
                Piece::Text(plain) => text += plain,
                Piece::Session => text += session,
                Piece::User => {
                    let user = identity.user.as_deref();
                    text += user.ok_or(Unfit::NoUser("{user}"))?;
                }
                Piece::Claim(pointer) => {
                    let claim = claim_text(identity, pointer);
                    text += &claim.ok_or_else(|| Unfit::NoClaim(pointer.clone()))?;
                }
            }
        }
        if text.contains(is_unfit) {
            return Err(Unfit::Value(self.name.clone()));
        }
        Ok(text)
    }
}

/// A claim that is text, a number, true or false.
fn claim_text(identity: &Identity, pointer: &str) -> Option<String> {
    match identity.claim(pointer)? {
        Value::String(claim) => Some(claim),
        claim @ (Value::Number(_) | Value::Bool(_)) => Some(claim.to_string()),
        _ => None,
    }
}

/// True for a name that stays in the folder and is not a hidden file.
fn is_file_name(user: &str) -> bool {
    let is_foreign = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    !user.is_empty()
        && user.len() <= MAX_USER
        && !user.starts_with('.')
        && !user.contains(is_foreign)
}

/// Adds the variables of a file.
fn read(path: &Path, variables: &mut Vec<(String, Secret)>) -> Result<(), Unfit> {
    let name = path.display().to_string();
    let unreadable = |why: &dyn std::fmt::Display| Unfit::Unreadable(name.clone(), why.to_string());
    // Open regular files only: a FIFO would block.
    let about = std::fs::metadata(path).map_err(|err| unreadable(&err))?;
    if !about.is_file() {
        return Err(unreadable(&"it is no file"));
    }
    let file = File::open(path).map_err(|err| unreadable(&err))?;
    let mode = files::mode(&file.metadata().map_err(|err| unreadable(&err))?);
    if mode & 0o077 != 0 {
        return Err(Unfit::Mode(name, mode));
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|err| unreadable(&err))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(&"it is longer than 64 KiB"));
    }
    let text = text::text_of(bytes).map_err(|err| unreadable(&err))?;
    for (at, line) in text.lines().enumerate() {
        let wrong = |why| Unfit::Line(name.clone(), at + 1, why);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (variable, value) = split(line).ok_or(wrong("it is not of the form NAME=VALUE"))?;
        if value.contains(is_unfit) {
            return Err(wrong("its value holds a line break or a NUL"));
        }
        if variables.iter().any(|(known, _)| known == variable) {
            return Err(wrong("this variable is set already"));
        }
        variables.push((variable.to_owned(), value.to_owned().into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use std::fs::{Permissions, write};
    use std::os::unix::fs::PermissionsExt;

    fn identity(user: Option<&str>, claims: &str) -> Identity {
        let parts = ["{}", claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        Identity {
            user: user.map(str::to_owned),
            token: Some(format!("{}.x", parts.join(".")).into()),
            ..Identity::default()
        }
    }

    fn expand(typed: &str, identity: &Identity) -> Result<String, Unfit> {
        typed.parse::<Variable>().unwrap().expand(identity, "s1")
    }

    #[test]
    fn values_are_filled_in() {
        let claims = r#"{"org":{"id":7,"a.b":"x y","on":true},"http://x/y":"z"}"#;
        let alice = identity(Some("alice"), claims);
        for (typed, value) in [
            ("A=", ""),
            ("A=b=c", "b=c"),
            ("A={user}-{user}", "alice-alice"),
            (
                "A={claim:/org/id},{claim:/org/a.b},{claim:/org/on}",
                "7,x y,true",
            ),
            ("A={claim:/http:~1~1x~1y}", "z"),
            ("A={session}", "s1"),
            ("A={{user}} {{{user}}}", "{user} {alice}"),
        ] {
            assert_eq!(expand(typed, &alice).as_deref(), Ok(value), "{typed}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error() {
        let claims =
            r#"{"nl":"a\nLD_PRELOAD=x","nul":"\u0000","list":["a"],"null":null,"object":{}}"#;
        let nobody = identity(None, claims);
        assert_eq!(expand("A={user}", &nobody), Err(Unfit::NoUser("{user}")));
        for claim in ["none", "list", "null", "object"] {
            let typed = format!("A={{claim:/{claim}}}");
            let err = expand(&typed, &nobody).unwrap_err();
            assert_eq!(err, Unfit::NoClaim(format!("/{claim}")));
        }
        for typed in ["A={claim:/nl}", "A=x{claim:/nul}"] {
            assert_eq!(expand(typed, &nobody), Err(Unfit::Value("A".to_owned())));
        }
        let crooked = identity(Some("a\rb"), "{}");
        assert_eq!(
            expand("A={user}", &crooked),
            Err(Unfit::Value("A".to_owned()))
        );
    }

    #[test]
    fn what_is_typed_wrong_is_named() {
        for (typed, says) in [
            ("A", "NAME=VALUE"),
            ("=b", "NAME=VALUE"),
            ("1A=b", "NAME=VALUE"),
            ("A B=c", "NAME=VALUE"),
            ("A-B=c", "NAME=VALUE"),
            ("A={", "stands alone"),
            ("A=}", "stands alone"),
            ("A={user", "stands alone"),
            ("A={}", "'{}' stands for nothing"),
            ("A={User}", "'{User}' stands for nothing"),
            ("A={claim:sub}", "'{claim:sub}' stands for nothing"),
            ("A=b\nC=d", "a line break"),
        ] {
            let err = typed.parse::<Variable>().unwrap_err();
            assert!(err.contains(says), "{typed}: {err}");
        }
    }

    #[test]
    fn a_user_is_no_path() {
        for good in [
            "alice",
            "alice@example.com",
            "a.b",
            "Zo\u{eb}",
            "auth0|1",
            "a b",
        ] {
            assert!(is_file_name(good), "{good}");
        }
        let long = "a".repeat(MAX_USER + 1);
        for bad in [
            "", ".", "..", ".alice", "a/b", "/etc/x", "../alice", "a\\b", "a\nb", "a\0b", "C:x",
            &long,
        ] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn files_are_read_strictly() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("alice.env");
        let environment = Environment {
            variables: vec!["SET=x".parse().unwrap()],
            folder: Some(folder.path().to_owned()),
        };
        let read = |text: &[u8], mode: u32| {
            write(&file, text).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let read = environment.of(&identity(Some("alice"), "{}"), "s1");
            let text = |(name, value): (String, Secret)| format!("{name}={}", value.expose());
            read.map(|read| read.into_iter().map(text).collect::<Vec<_>>().join(";"))
                .map_err(|err| err.to_string())
        };
        let good = b"\xef\xbb\xbf# of alice\n\nTOKEN= a=b \"c\" \r\nEMPTY=\n";
        let expected = "SET=x;TOKEN= a=b \"c\" ;EMPTY=";
        for mode in [0o600, 0o400] {
            assert_eq!(read(good, mode).as_deref(), Ok(expected));
        }
        for mode in [0o640, 0o604, 0o660, 0o620] {
            let err = read(good, mode).unwrap_err();
            assert!(err.contains(&format!("mode is {mode:o}")), "{err}");
        }
        for (text, says) in [
            (&b"A=s3cret\nB"[..], "line 2: it is not of the form"),
            (b"export A=s3cret", "line 1: it is not of the form"),
            (b"A=s3cret\nA=s3cret", "line 2: this variable is set"),
            (b"SET=s3cret", "line 1: this variable is set"),
            (b"A=s3\rcret", "line 1: its value holds"),
            (b"A=s3cret\0", "line 1: its value holds"),
            (b"A=s3cret\xff", "not UTF-8"),
            (&[b'#'; MAX_FILE as usize + 1], "longer than 64 KiB"),
        ] {
            let err = read(text, 0o600).unwrap_err();
            assert!(err.contains(says) && !err.contains("s3"), "{err}");
        }
        let of = |user| environment.of(&identity(user, "{}"), "s1").unwrap_err();
        assert!(matches!(of(Some("bob")), Unfit::Unreadable(..)));
        assert_eq!(of(Some("../alice")), Unfit::FileName);
        assert!(matches!(of(None), Unfit::NoUser(_)));
        std::fs::create_dir(folder.path().join("eve.env")).unwrap();
        assert!(of(Some("eve")).to_string().contains("no file"));
    }
}
