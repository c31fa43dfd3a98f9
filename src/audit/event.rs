//! The lines of the audit log. No I/O, no clock.

use crate::account::Address;
use crate::auth::Identity;
use crate::jsonrpc::{Kind, Message, Refusal, RequestId};
use crate::mcp::{ItemKind, Method, Names};
use crate::permissions::Denial;
use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;
use std::time::SystemTime;

/// The longest foreign text that is written, in bytes before escaping; a longer one is cut and ends
/// in `…`.
const MAX_TEXT: usize = 256;

/// The most roles of one token that are written.
const MAX_ROLES: usize = 32;

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
        let (name, verdict) = match self {
            Self::Connect => ("connect", None),
            Self::Authenticate => ("authenticate", Some("accepted")),
            Self::Refuse { .. } | Self::RefuseMore { .. } => ("refuse", Some("refused")),
            Self::Allow { .. } => ("allow", Some("allowed")),
            Self::Block { .. } | Self::BlockMore { .. } => ("block", Some("blocked")),
            Self::Disconnect { .. } => ("disconnect", None),
            Self::Reload { broken: [] } => ("reload", Some("complete")),
            Self::Reload { .. } => ("reload", Some("incomplete")),
            Self::Withhold { .. } => ("withhold", Some("blocked")),
            Self::Lost { .. } => ("lost", None),
        };
        out.extend(b"{\"time\":\"");
        show(humantime::format_rfc3339_millis(time), out);
        out.extend(b"\",\"event\":\"");
        out.extend(name.as_bytes());
        out.push(b'"');
        out.extend(&who.members);
        match self {
            Self::Connect | Self::Authenticate => {}
            Self::Refuse { reason, about } => {
                if let Some(about) = about {
                    about.write(out);
                }
                text("reason", reason, out);
            }
            Self::Allow { about, rule } | Self::Block { about, rule } => {
                about.write(out);
                text("rule", rule, out);
            }
            Self::RefuseMore { reason, count } => {
                number("count", count, out);
                text("reason", reason, out);
            }
            Self::BlockMore { count } | Self::Lost { count } => number("count", count, out),
            Self::Withhold { tool, reason } => {
                text("tool", tool, out);
                text("reason", reason, out);
            }
            Self::Disconnect { reason } => text("reason", reason, out),
            Self::Reload { broken: [] } => {}
            Self::Reload { broken } => list("broken", broken.iter().copied(), out),
        }
        if let Some(verdict) = verdict {
            text("verdict", verdict, out);
        }
        out.extend(b"}\n");
    }
}

/// The connection: the members that all its lines have, as far as they are known.
#[derive(Clone, Default)]
pub(super) struct Who {
    members: Vec<u8>,
}

impl Who {
    pub(super) fn new(connection: u64, peer: Address) -> Self {
        let mut members = Vec::new();
        number("connection", connection, &mut members);
        text("peer", &peer.to_string(), &mut members);
        Self { members }
    }

    pub(super) fn add_client(&mut self, client: Address) {
        text("client", &client.to_string(), &mut self.members);
    }

    pub(super) fn add_certificate(&mut self, subject: &str) {
        text("certificate", subject, &mut self.members);
    }

    pub(super) fn add_identity(&mut self, identity: &Identity) {
        if let Some(user) = &identity.user {
            text("user", user, &mut self.members);
        }
        let roles = identity.roles.iter().map(String::as_str);
        list("roles", roles, &mut self.members);
        if let Some(id) = &identity.id {
            text("jti", id, &mut self.members);
        }
    }

    pub(super) fn add_session(&mut self, key: &str) {
        text("session", key, &mut self.members);
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

    fn write(&self, out: &mut Vec<u8>) {
        if let Some(kind) = self.kind {
            text("kind", kind, out);
        }
        if !self.method.is_empty() {
            text("method", self.method, out);
        }
        match &self.item {
            Some((ItemKind::Tool, name)) => text("tool", name, out),
            Some((ItemKind::Prompt, name)) => text("prompt", name, out),
            Some((ItemKind::Resource, uri)) => text("resource", &without_credentials(uri), out),
            None => {}
        }
        match self.id {
            Some(RequestId::Number(id)) => number("id", id, out),
            Some(RequestId::OtherNumber(id)) => number("id", id, out),
            Some(RequestId::String(id)) => text("id", id, out),
            None => {}
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

fn name(name: &str, out: &mut Vec<u8>) {
    out.extend(b",\"");
    out.extend(name.as_bytes());
    out.extend(b"\":");
}

fn number(key: &str, number: impl Display, out: &mut Vec<u8>) {
    name(key, out);
    show(number, out);
}

fn text(key: &str, text: &str, out: &mut Vec<u8>) {
    name(key, out);
    string(text, out);
}

fn list<'a>(key: &str, texts: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    name(key, out);
    let mut lead = b'[';
    for (at, text) in texts.enumerate() {
        out.push(lead);
        lead = b',';
        if at == MAX_ROLES {
            string("…", out);
            break;
        }
        string(text, out);
    }
    if lead == b'[' {
        out.push(lead);
    }
    out.push(b']');
}

/// Appends a JSON string of bounded length. Beyond what JSON demands, everything is escaped that
/// would make a terminal or an editor show another line than there is: control characters, and
/// those that change direction or take no room.
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut written = 0;
    for character in text.chars() {
        written += character.len_utf8();
        if written > MAX_TEXT {
            out.extend("…".as_bytes());
            break;
        }
        match character {
            '"' | '\\' => out.extend([b'\\', character as u8]),
            ' '..='~' => out.push(character as u8),
            '\0'..='\u{9f}'
            | '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => show(format_args!("\\u{:04x}", u32::from(character)), out),
            _ => out.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

fn show(what: impl Display, out: &mut Vec<u8>) {
    // A Vec takes everything.
    let _never_fails = write!(out, "{what}");
}

#[cfg(test)]
mod tests;
