//! The short list of members that policy and router read, and how a name is recognised.
//!
//! Children read names loosely: Go folds case (U+017F and U+212A included), Go's second JSON
//! package also skips `_` and `-`, Python's SDK takes `request_id` for `requestId` and `meta` for
//! `_meta`, and for readers in C a name ends at a NUL. A member that some child would take for one of ours, but that we would not, is a way
//! past the gate, so such a name is recognised as a look-alike and spoils the message.

use super::scan::{self, Span};

macro_rules! fields {
    ($($variant:ident $exact:literal $folded:literal,)*) => {
        /// A member that policy or router may read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $(#[doc = concat!("`", $exact, "`")] $variant,)* }

        /// Exact name and its folded form, in the order of [`Field`].
        const NAMES: &[(Field, &str, &str)] = &[$((Field::$variant, $exact, $folded),)*];
    };
}

fields! {
    Meta "_meta" "meta",
    Name "name" "name",
    Uri "uri" "uri",
    Ref "ref" "ref",
    RequestId "requestId" "requestid",
    ProgressToken "progressToken" "progresstoken",
    TaskId "taskId" "taskid",
    Level "level" "level",
    ProtocolVersion "protocolVersion" "protocolversion",
    Capabilities "capabilities" "capabilities",
    ClientInfo "clientInfo" "clientinfo",
    Task "task" "task",
    Tasks "tasks" "tasks",
    Notifications "notifications" "notifications",
}

const COUNT: usize = NAMES.len();

/// The longest name worth folding; every name that policy or router read is shorter.
const MAX_FOLDED: usize = 24;

/// Members found in one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    slots: [Slot; COUNT],
}

#[derive(Clone, Copy, Debug, Default)]
enum Slot {
    #[default]
    Absent,
    Here(Span),
    /// Twice, or under a look-alike name: some reader would see another value than we do.
    Spoiled,
}

impl Fields {
    /// Which field `key` (quotes included) is or looks like; `None` for a name nobody confuses.
    pub(crate) fn recognise(key: &[u8]) -> Option<(Field, bool)> {
        let inner = key.get(1..key.len().saturating_sub(1))?;
        let escaped = memchr::memchr(b'\\', inner).is_some();
        if !escaped
            && let Some((field, ..)) = NAMES.iter().find(|(_, exact, _)| exact.as_bytes() == inner)
        {
            return Some((*field, true));
        }
        let text = scan::unescape(key)?;
        let mut buffer = [0; MAX_FOLDED];
        let folded = fold_loosely(&text, &mut buffer)?;
        let (field, exact, _) = NAMES.iter().find(|(.., name)| name.as_bytes() == folded)?;
        Some((*field, *exact == text))
    }

    /// Notes that `field` stands at `span`, under its exact name or not.
    pub(crate) fn note(&mut self, field: Field, exact: bool, span: Span) {
        let slot = &mut self.slots[field as usize];
        *slot = match slot {
            Slot::Absent if exact => Slot::Here(span),
            _ => Slot::Spoiled,
        };
    }

    pub(crate) fn get(&self, field: Field) -> Option<Span> {
        match self.slots[field as usize] {
            Slot::Here(span) => Some(span),
            Slot::Absent | Slot::Spoiled => None,
        }
    }

    pub(crate) fn is_spoiled(&self, field: Field) -> bool {
        matches!(self.slots[field as usize], Slot::Spoiled)
    }
}

/// What policy and router read in the `params` of `method`, besides [`Field::Meta`].
pub(crate) fn read_by(method: &str) -> &'static [Field] {
    match method {
        "initialize" => &[
            Field::ProtocolVersion,
            Field::Capabilities,
            Field::ClientInfo,
        ],
        "tools/call" | "prompts/get" => &[Field::Name],
        "resources/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "notifications/resources/updated" => &[Field::Uri],
        "completion/complete" => &[Field::Ref],
        "subscriptions/listen" => &[Field::Notifications],
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            &[Field::Task]
        }
        "logging/setLevel" | "notifications/message" => &[Field::Level],
        "notifications/cancelled" => &[Field::RequestId],
        "notifications/progress" => &[Field::ProgressToken],
        _ if method.starts_with("tasks/") || method.starts_with("notifications/tasks") => {
            &[Field::TaskId]
        }
        _ => &[],
    }
}

/// What policy reads inside the `ref` of `completion/complete`.
pub(crate) const IN_REF: [&str; 3] = ["type", "name", "uri"];

/// What policy reads inside the `notifications` of `subscriptions/listen`.
pub(crate) const IN_NOTIFICATIONS: [&str; 1] = ["resourceSubscriptions"];

/// Lower-cases `name` as Go's `encoding/json` folds it.
fn fold_character(character: char) -> Option<u8> {
    match character {
        '\u{17f}' => Some(b's'),
        '\u{212a}' => Some(b'k'),
        _ => character
            .is_ascii()
            .then(|| (character as u8).to_ascii_lowercase()),
    }
}

fn fold_loosely<'b>(name: &str, buffer: &'b mut [u8; MAX_FOLDED]) -> Option<&'b [u8]> {
    let mut length = 0;
    let read = name.chars().take_while(|c| *c != '\0');
    for character in read.filter(|c| !matches!(c, '_' | '-')) {
        *buffer.get_mut(length)? = fold_character(character)?;
        length += 1;
    }
    Some(&buffer[..length])
}

/// A name as the loosest reader sees it, to be compared with others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loose {
    folded: [u8; MAX_FOLDED],
    length: usize,
}

impl Loose {
    /// `None` for a name that none of ours is confused with.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let mut folded = [0; MAX_FOLDED];
        let length = fold_loosely(name, &mut folded)?.len();
        Some(Self { folded, length })
    }
}

/// True when `name` equals `exact` (ASCII, lower case) once case is folded as Go does.
pub(crate) fn folds_to(name: &str, exact: &str) -> bool {
    name.chars().map(fold_character).eq(exact.bytes().map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_are_recognised() {
        let of = |key: &str| Fields::recognise(key.as_bytes());
        assert_eq!(of("\"name\""), Some((Field::Name, true)));
        assert_eq!(of("\"n\\u0061me\""), Some((Field::Name, true)));
        assert_eq!(of("\"Name\""), Some((Field::Name, false)));
        assert_eq!(of("\"ta\u{17f}\u{212a}Id\""), Some((Field::TaskId, false)));
        assert_eq!(of("\"request_id\""), Some((Field::RequestId, false)));
        assert_eq!(of("\"meta\""), Some((Field::Meta, false)));
        assert_eq!(of("\"_meta\""), Some((Field::Meta, true)));
        assert_eq!(of("\"name\\u0000x\""), Some((Field::Name, false)));
        assert_eq!(of("\"names\""), None);
        assert_eq!(of("\"\""), None);
        assert_eq!(of("\"námé\""), None);
    }

    #[test]
    fn a_field_seen_twice_is_spoiled() {
        let span = Span { start: 0, end: 1 };
        let mut fields = Fields::default();
        fields.note(Field::Uri, true, span);
        assert_eq!(fields.get(Field::Uri), Some(span));
        fields.note(Field::Uri, true, span);
        assert!(fields.is_spoiled(Field::Uri));
        fields.note(Field::Name, false, span);
        assert!(fields.is_spoiled(Field::Name) && fields.get(Field::Name).is_none());
    }
}
