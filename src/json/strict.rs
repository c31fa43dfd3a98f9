//! Parts of a payload that policy reads only if it has rules for them, as strictly as the gate reads the
//! rest.

use super::names::{fold, looks_like};
use super::scan::{Fault, MAX_DEPTH, Scanner};
use super::span::{Quoted, Span};

/// The positions of the members `names` of one object, within its text. `None` when `text` is not an object,
/// or when one of them is duplicated or has a look-alike: some reader would see another value than we do.
pub(crate) fn members<const N: usize>(text: &[u8], names: [&str; N]) -> Option<[Option<Span>; N]> {
    read_members(text, names, |_| false, looks_like)
}

/// The same, but also `None` when readers disagree on any name in the object.
pub(crate) fn members_of_clear_names<const N: usize>(
    text: &[u8],
    names: [&str; N],
) -> Option<[Option<Span>; N]> {
    read_members(text, names, is_unclear(text), looks_like)
}

/// The same for one name of any characters: the others accept only ASCII names.
pub(crate) fn member_of_any_name(text: &[u8], name: &str) -> Option<Option<Span>> {
    let folded = fold(name);
    let is_alike = |key: &[u8], _: &str| {
        let key = std::str::from_utf8(key);
        key.is_err() || key.is_ok_and(|key| fold(key) == folded)
    };
    let [found] = read_members(text, [name], is_unclear(text), is_alike)?;
    Some(found)
}

fn is_unclear(text: &[u8]) -> impl Fn(Quoted) -> bool {
    move |key| key.is_ambiguous(&key.text(text))
}

fn read_members<const N: usize>(
    text: &[u8],
    names: [&str; N],
    is_refused: impl Fn(Quoted) -> bool,
    is_alike: impl Fn(&[u8], &str) -> bool,
) -> Option<[Option<Span>; N]> {
    let mut found = [None; N];
    let mut spoiled = false;
    let mut scanner = Scanner::new(text, MAX_DEPTH);
    let read = scanner.object(|scanner, key| {
        let span = scanner.value()?;
        spoiled |= is_refused(key);
        let key = key.text(text);
        match names.iter().position(|name| name.as_bytes() == &*key) {
            Some(at) => spoiled |= found[at].replace(span).is_some(),
            None => spoiled |= names.iter().any(|name| is_alike(&key, name)),
        }
        Ok::<(), Fault>(())
    });
    (read.is_ok() && !spoiled).then_some(found)
}

/// Calls `read` before the value of the member `name` of an object; it must consume exactly that value, and
/// gets the whole text. False if there is no such member, if [`members_of_clear_names`] would not find it, or
/// if `read` fails.
pub(crate) fn member(
    text: &[u8],
    name: &str,
    mut read: impl FnMut(&mut Scanner<'_>) -> Result<(), Fault>,
) -> bool {
    let mut found = false;
    let mut scanner = Scanner::new(text, MAX_DEPTH);
    let whole = scanner.object(|scanner, key| {
        let quoted = key;
        let key = quoted.text(text);
        if *key != *name.as_bytes() {
            return match quoted.is_ambiguous(&key) || looks_like(&key, name) {
                true => Err(Fault::Syntax),
                false => scanner.value().map(drop),
            };
        }
        if std::mem::replace(&mut found, true) {
            return Err(Fault::Syntax);
        }
        read(scanner)
    });
    whole.is_ok() && found
}

/// Calls `element` with the position of each element of an array, within its text. `None` when `text`
/// is not an array.
pub(crate) fn elements(text: &[u8], mut element: impl FnMut(Span)) -> Option<()> {
    let mut scanner = Scanner::new(text, MAX_DEPTH);
    let read = scanner.array(|scanner| {
        element(scanner.value()?);
        Ok::<(), Fault>(())
    });
    read.ok()
}

/// A JSON array with only those elements for which `keep` is true, their text unchanged. Anything
/// else becomes an empty array.
pub(crate) fn filter_array(list: &[u8], mut keep: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = b"[".to_vec();
    let mut scanner = Scanner::new(list, MAX_DEPTH);
    let read = scanner.array(|scanner| {
        let element = scanner.value()?.of(list);
        if keep(element) {
            if kept.len() > 1 {
                kept.push(b',');
            }
            kept.extend_from_slice(element);
        }
        Ok::<(), Fault>(())
    });
    if read.is_err() {
        kept.truncate(1);
    }
    kept.push(b']');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_or_the_object_is_not_read() {
        let read = |text: &'static str| {
            members(text.as_bytes(), ["name", "uri"])
                .map(|found| found.map(|span| span.map(|span| span.of(text.as_bytes()))))
        };
        assert_eq!(read("{}"), Some([None, None]));
        assert_eq!(
            read(r#"{"uri":[1], "x":{"name":2},"na\u006de" : "a"}"#),
            Some([Some(&br#""a""#[..]), Some(b"[1]")])
        );
        for spoiled in [
            r#"{"name":1,"name":1}"#,
            r#"{"name":1,"n\u0061me":1}"#,
            r#"{"Name":1}"#,
            r#"{"name":1,"_URI":1}"#,
            r#"{"name":1,"name\u0000":1}"#,
            r#"["name"]"#,
            "null",
        ] {
            assert_eq!(read(spoiled), None, "{spoiled}");
        }
    }

    #[test]
    fn one_member_is_read_in_place_where_members_finds_it() {
        for text in [
            "{}",
            r#"{"x":{"name":2},"na\u006de" : [1]}"#,
            r#"{"name":{"a":"b"},"x":1}"#,
            r#"{"name":1,"name":1}"#,
            r#"{"name":1,"Name":1}"#,
            r#"{"name":1,"name\ud800":1}"#,
            r#"{"name":1,"":1}"#,
            r#"{"name":1,"x":}"#,
            r#"["name"]"#,
            "null",
        ] {
            let mut span = None;
            let found = member(text.as_bytes(), "name", |scanner| {
                span = Some(scanner.value()?);
                Ok(())
            });
            let expected = members_of_clear_names(text.as_bytes(), ["name"]);
            let expected = expected.and_then(|[name]| name);
            assert_eq!(span.filter(|_| found), expected, "{text}");
            let failing = |_: &mut Scanner<'_>| Err(Fault::Syntax);
            assert!(!member(text.as_bytes(), "name", failing), "{text}");
        }
    }

    #[test]
    fn elements_are_those_of_the_array_itself() {
        let read = |text: &'static str| {
            let mut found = Vec::new();
            elements(text.as_bytes(), |span| found.push(span.of(text.as_bytes()))).map(|()| found)
        };
        assert_eq!(read("[ ]"), Some(vec![]));
        assert_eq!(
            read(r#"[ 1 ,[2,3], {"a":[4]}]"#),
            Some(vec![&b"1"[..], b"[2,3]", br#"{"a":[4]}"#])
        );
        assert_eq!(read("{}"), None);
    }
}
