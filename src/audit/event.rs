//! The lines of the audit log. No I/O, no clock.

use crate::account::Address;
use crate::auth::Identity;
use crate::jsonrpc::{Kind, Message, Refusal, RequestId};
use crate::mcp::{ItemKind, Method, Names};
use crate::permissions::Denial;
use crate::utils::shorten::shorten;
use humantime::Rfc3339Timestamp;
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io;
use std::time::SystemTime;

/// The longest foreign text that is written, in bytes before escaping; a longer one is cut and ends
/// in `…`.
const MAX_TEXT: usize = 256;

/// The most texts of one list that are written.
const MAX_LISTED: usize = 32;

/// An event on record.
pub(super) enum Event<'a> {
    /// A peer has connected.
    Connect,
    /// A peer has shown a valid token.
    Authenticate,
    /// A peer is not admitted, or one of its messages is refused.
    Refuse {
        reason: &'a str,
        about: Option<About<'a>>,
    },
    /// The policy lets a message pass.
    Allow { about: About<'a>, rule: &'a str },
    /// The policy forbids a message.
    Block { about: About<'a>, rule: &'a str },
    /// This many further messages of a peer are refused.
    RefuseMore { reason: &'a str, count: u64 },
    /// The policy forbids this many further messages of a peer.
    BlockMore { count: u64 },
    /// A connection has ended.
    Disconnect { reason: &'a str },
    /// Files have been read again; these are broken, and stay as they were.
    Reload { broken: &'a [&'a str] },
    /// A tool is withheld from all peers, because it is not as accepted.
    Withhold { tool: &'a str, reason: &'a str },
    /// This many events are missing here.
    Lost { count: u64 },
}

impl Event<'_> {
    /// Appends this event as one line. `who` is the connection that it is about.
    pub(super) fn write(&self, time: SystemTime, who: &Who, out: &mut Vec<u8>) {
        let line = Line {
            time: humantime::format_rfc3339_millis(time),
            event: self,
            who,
        };
        let mut writer = Serializer::with_formatter(&mut *out, Visible);
        // A Vec takes everything, and all keys are strings.
        let _never_fails = line.serialize(&mut writer);
        out.push(b'\n');
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Authenticate => "authenticate",
            Self::Refuse { .. } | Self::RefuseMore { .. } => "refuse",
            Self::Allow { .. } => "allow",
            Self::Block { .. } | Self::BlockMore { .. } => "block",
            Self::Disconnect { .. } => "disconnect",
            Self::Reload { .. } => "reload",
            Self::Withhold { .. } => "withhold",
            Self::Lost { .. } => "lost",
        }
    }

    fn verdict(&self) -> Option<&'static str> {
        match self {
            Self::Connect | Self::Disconnect { .. } | Self::Lost { .. } => None,
            Self::Authenticate => Some("accepted"),
            Self::Refuse { .. } | Self::RefuseMore { .. } => Some("refused"),
            Self::Allow { .. } => Some("allowed"),
            Self::Block { .. } | Self::BlockMore { .. } | Self::Withhold { .. } => Some("blocked"),
            Self::Reload { broken: [] } => Some("complete"),
            Self::Reload { .. } => Some("incomplete"),
        }
    }

    /// The members of this event alone.
    fn add_to<M: SerializeMap>(&self, line: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Connect | Self::Authenticate | Self::Reload { broken: [] } => Ok(()),
            Self::Refuse { reason, about } => {
                if let Some(about) = about {
                    about.add_to(line)?;
                }
                line.serialize_entry("reason", &Text(reason))
            }
            Self::Allow { about, rule } | Self::Block { about, rule } => {
                about.add_to(line)?;
                line.serialize_entry("rule", &Text(rule))
            }
            Self::RefuseMore { reason, count } => {
                line.serialize_entry("count", count)?;
                line.serialize_entry("reason", &Text(reason))
            }
            Self::BlockMore { count } | Self::Lost { count } => {
                line.serialize_entry("count", count)
            }
            Self::Withhold { tool, reason } => {
                line.serialize_entry("tool", &Text(tool))?;
                line.serialize_entry("reason", &Text(reason))
            }
            Self::Disconnect { reason } => line.serialize_entry("reason", &Text(reason)),
            Self::Reload { broken } => line.serialize_entry("broken", &List(broken)),
        }
    }
}

/// One line of the log.
struct Line<'a> {
    time: Rfc3339Timestamp,
    event: &'a Event<'a>,
    who: &'a Who,
}

impl Serialize for Line<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("time", &format_args!("{}", self.time))?;
        line.serialize_entry("event", self.event.name())?;
        for (name, value) in &self.who.members {
            line.serialize_entry(name, value)?;
        }
        self.event.add_to(&mut line)?;
        if let Some(verdict) = self.event.verdict() {
            line.serialize_entry("verdict", verdict)?;
        }
        line.end()
    }
}

/// The connection: the members that all its lines have, as far as they are known.
#[derive(Clone, Default)]
pub(super) struct Who {
    members: Vec<(&'static str, Value)>,
}

impl Who {
    pub(super) fn new(connection: u64, peer: Address) -> Self {
        let mut who = Self::default();
        who.members.push(("connection", connection.into()));
        who.add_text("peer", &peer.to_string());
        who
    }

    pub(super) fn add_client(&mut self, client: Address) {
        self.add_text("client", &client.to_string());
    }

    pub(super) fn add_certificate(&mut self, subject: &str) {
        self.add_text("certificate", subject);
    }

    pub(super) fn add_identity(&mut self, identity: &Identity) {
        if let Some(user) = &identity.user {
            self.add_text("user", user);
        }
        let roles: Vec<&str> = identity.roles.iter().map(String::as_str).collect();
        self.add("roles", List(&roles));
        if let Some(id) = &identity.id {
            self.add_text("jti", id);
        }
    }

    pub(super) fn add_session(&mut self, key: &str) {
        self.add_text("session", key);
    }

    fn add_text(&mut self, name: &'static str, text: &str) {
        self.add(name, Text(text));
    }

    /// What is kept is no longer than what is written.
    fn add(&mut self, name: &'static str, value: impl Serialize) {
        if let Ok(value) = serde_json::to_value(value) {
            self.members.push((name, value));
        }
    }
}

/// The facts about a message: nothing of its content except the name that rules are about.
pub(super) struct About<'a> {
    kind: Option<&'static str>,
    method: &'a str,
    item: Option<(ItemKind, Cow<'a, str>)>,
    id: Option<&'a RequestId>,
}

impl<'a> About<'a> {
    pub(super) fn message(message: &'a Message) -> Self {
        let kind = match message.kind() {
            Kind::Request(_) => "request",
            Kind::Notification => "notification",
            Kind::Response(_) => "answer",
        };
        let item = match message.mcp_method().map(Method::names) {
            Some(Names::Item(kind, field)) => message.text(field).map(|name| (kind, name)),
            _ => None,
        };
        Self {
            kind: Some(kind),
            method: message.method(),
            item,
            id: message.id(),
        }
    }

    pub(super) fn denial(denial: &'a Denial) -> Self {
        let is_request = denial.id.is_some();
        let item = denial.item.as_ref();
        Self {
            kind: Some(if is_request {
                "request"
            } else {
                "notification"
            }),
            method: &denial.method,
            item: item.map(|item| (item.kind, Cow::Borrowed(&*item.name))),
            id: denial.id.as_ref(),
        }
    }

    /// An invalid message may still have an id.
    pub(super) fn refusal(refusal: &'a Refusal) -> Self {
        Self {
            kind: None,
            method: "",
            item: None,
            id: refusal.id(),
        }
    }

    /// The tool, prompt or resource that the message names.
    pub(super) fn item(&self) -> Option<(ItemKind, &str)> {
        self.item.as_ref().map(|(kind, name)| (*kind, &**name))
    }

    fn add_to<M: SerializeMap>(&self, line: &mut M) -> Result<(), M::Error> {
        if let Some(kind) = self.kind {
            line.serialize_entry("kind", kind)?;
        }
        if !self.method.is_empty() {
            line.serialize_entry("method", &Text(self.method))?;
        }
        match &self.item {
            Some((ItemKind::Tool, name)) => line.serialize_entry("tool", &Text(name))?,
            Some((ItemKind::Prompt, name)) => line.serialize_entry("prompt", &Text(name))?,
            Some((ItemKind::Resource, uri)) => {
                line.serialize_entry("resource", &Text(&without_credentials(uri)))?;
            }
            None => {}
        }
        match self.id {
            Some(RequestId::Number(id)) => line.serialize_entry("id", id),
            // As it was sent: it may have more digits than any number here.
            Some(RequestId::OtherNumber(id)) => match serde_json::from_str::<&RawValue>(id) {
                Ok(id) => line.serialize_entry("id", id),
                Err(_) => Ok(()),
            },
            Some(RequestId::String(id)) => line.serialize_entry("id", &Text(id)),
            None => Ok(()),
        }
    }
}

/// A URI without what may be secret: the user before an `@`, what follows `?` or `#`, and the
/// content of `data:`. Applies to spellings that no rule permits, too.
fn without_credentials(uri: &str) -> String {
    let end = uri.find(['?', '#']).unwrap_or(uri.len());
    let (plain, hidden) = uri.split_at(end);
    let (scheme, rest) = plain.split_once(':').unwrap_or(("", plain));
    if scheme.trim().eq_ignore_ascii_case("data") {
        return "data:…".to_owned();
    }
    let place = rest.trim_start_matches(['/', '\\']);
    let authority = place.split(['/', '\\']).next().unwrap_or_default();
    let tail = if hidden.is_empty() { "" } else { "…" };
    match authority.rfind('@') {
        Some(at) => {
            let begin = plain.len() - place.len();
            format!("{}…{}{tail}", &plain[..begin], &place[at..])
        }
        None => format!("{plain}{tail}"),
    }
}

/// A foreign text of bounded length.
struct Text<'a>(&'a str);

impl Serialize for Text<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = shorten(self.0, MAX_TEXT);
        if text.len() == self.0.len() {
            serializer.serialize_str(text)
        } else {
            serializer.collect_str(&format_args!("{text}…"))
        }
    }
}

/// A bounded list of foreign texts.
struct List<'a>(&'a [&'a str]);

impl Serialize for List<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let listed = self.0.iter().take(MAX_LISTED).map(|text| Text(text));
        let more = (self.0.len() > MAX_LISTED).then_some(Text("…"));
        serializer.collect_seq(listed.chain(more))
    }
}

/// Escapes, beyond what JSON demands, all that would make a terminal or an editor show another line
/// than there is: control characters, and those that change direction or take no room.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let mut rest = fragment;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(hidden))?;
            rest = &rest[at + hidden.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

fn is_hidden(character: char) -> bool {
    matches!(
        character,
        '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests;
