//! The objects of a policy file: members in their order, none twice, none unknown.

use super::error::{PolicyError, Position};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// One member of an object.
pub(super) struct Member<'a> {
    pub name: String,
    pub value: &'a RawValue,
    position: Position,
}

/// The members of an object in their order; a duplicate name is an error, where a map would
/// silently keep one of them.
pub(super) struct Members<'a>(Vec<Member<'a>>);

impl<'a> Members<'a> {
    /// Reads `text`, which is a piece of `file` or all of it.
    pub(super) fn read(text: &'a str, file: &str, place: &str) -> Result<Self, PolicyError> {
        let Pairs(pairs) = serde_json::from_str(text).map_err(|err| {
            if err.is_data() {
                PolicyError::WrongType {
                    place: place.to_owned(),
                    expected: "an object",
                }
            } else {
                PolicyError::NotJson(err.to_string() + trailing_comma(&err, text))
            }
        })?;
        let mut members: Vec<Member<'a>> = Vec::new();
        for (key, value) in pairs {
            let name: String = serde_json::from_str(key.get())
                .map_err(|err| PolicyError::NotJson(err.to_string()))?;
            let position = Position::of(key.get(), file);
            if members.iter().any(|earlier| earlier.name == name) {
                return Err(PolicyError::Twice {
                    key: name,
                    place: place.to_owned(),
                    position,
                });
            }
            members.push(Member {
                name,
                value,
                position,
            });
        }
        Ok(Self(members))
    }

    pub(super) fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|member| member.name == key)?;
        Some(self.0.remove(at).value)
    }

    /// Refuses the first member that was not taken, which is unknown.
    pub(super) fn refuse_rest(
        self,
        place: &str,
        known: &[&'static str],
    ) -> Result<(), PolicyError> {
        match self.0.into_iter().next() {
            Some(member) => Err(PolicyError::UnknownKey {
                key: member.name,
                place: place.to_owned(),
                position: member.position,
                known: known.to_vec(),
            }),
            None => Ok(()),
        }
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = Member<'a>;
    type IntoIter = std::vec::IntoIter<Member<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Names and values as they are written.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// What to add to the error of serde_json, where a comma stands before the end of a list or an object.
fn trailing_comma(err: &serde_json::Error, text: &str) -> &'static str {
    let lines: usize = text
        .split_inclusive('\n')
        .take(err.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let read = text.get(..lines + err.column()).unwrap_or_default();
    let before = read.strip_suffix([']', '}']).unwrap_or_default().trim_end();
    match before.ends_with(',') {
        true => " (a comma too many?)",
        false => "",
    }
}
