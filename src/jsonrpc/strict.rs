//! Parts of a payload that policy reads only where it has rules, as strictly as the gate reads the
//! rest.

use super::field::{Fields, looks_like};
use super::scan::{Fault, MAX_DEPTH, Scanner, Span};
use super::window::Window;
use crate::mcp::{Field, IN_NOTIFICATIONS, IN_REF, Method, Names};

/// Where the members `names` of one object stand, within its text. `None` when `text` is no object,
/// or when one of them stands twice or under a look-alike name: some reader would see another
/// value than we do.
pub(crate) fn members<const N: usize>(text: &[u8], names: [&str; N]) -> Option<[Option<Span>; N]> {
    let mut found = [None; N];
    let mut spoiled = false;
    let mut window = Window::of(text);
    let mut scanner = Scanner::new(text, MAX_DEPTH, &mut window);
    let read = scanner.object(|scanner, key| {
        let span = scanner.value()?;
        let key = key.text(text);
        match names.iter().position(|name| name.as_bytes() == &*key) {
            Some(at) => spoiled |= found[at].replace(span).is_some(),
            None => spoiled |= names.iter().any(|name| looks_like(&key, name)),
        }
        Ok::<(), Fault>(())
    });
    (read.is_ok() && !spoiled).then_some(found)
}

/// Calls `element` with where each element of an array stands, within its text. `None` when `text`
/// is no array.
pub(crate) fn elements(text: &[u8], mut element: impl FnMut(Span)) -> Option<()> {
    let mut window = Window::of(text);
    let mut scanner = Scanner::new(text, MAX_DEPTH, &mut window);
    let read = scanner.array(|scanner| {
        element(scanner.value()?);
        Ok::<(), Fault>(())
    });
    read.ok()
}

/// True when a member that policy reads inside a member of `params` cannot be read.
pub(super) fn is_spoiled_within(method: Method, fields: &Fields, line: &[u8]) -> bool {
    let object = |field| {
        let text = fields.get(field)?.of(line);
        text.starts_with(b"{").then_some(text)
    };
    match method.names() {
        Names::Reference => object(Field::Ref).is_some_and(|text| members(text, IN_REF).is_none()),
        Names::Subscriptions => object(Field::Notifications)
            .is_some_and(|text| members(text, IN_NOTIFICATIONS).is_none()),
        _ => false,
    }
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
