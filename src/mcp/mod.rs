//! The catalogue of MCP: every method and notification of the revisions 2024-11-05 to 2026-07-28,
//! one row each. Whatever the program knows of a single method, it reads here. No I/O, no JSON.

mod field;
mod revision;

pub use field::Field;
pub(crate) use field::{FIELDS, IN_NOTIFICATIONS, IN_REF};
pub use revision::Revision;

use Field::{
    Capabilities, ClientInfo, Level, Name, Notifications, ProgressToken, ProtocolVersion, Ref,
    RequestId, Task, TaskId, Uri,
};
use ItemKind::{Prompt, Resource, Tool};
use Revision::{V2024_11_05, V2025_06_18, V2025_11_25, V2026_07_28};
use Sender::{Both, Client, Server};
use std::fmt;

/// What rules may name, besides methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A tool, by its name.
    Tool,
    /// A prompt, by its name.
    Prompt,
    /// A resource, by its URI.
    Resource,
}

impl ItemKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tool, Self::Prompt, Self::Resource];

    /// The word for several.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Tool => "tools",
            Self::Prompt => "prompts",
            Self::Resource => "resources",
        }
    }
}

impl fmt::Display for ItemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
        })
    }
}

/// Which end sends a message of this method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The MCP client: our peer.
    Client,
    /// The MCP server: our child.
    Server,
    /// Either.
    Both,
}

/// Where a method names the items that it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// It uses none.
    Nothing,
    /// One, in this member of `params`.
    Item(ItemKind, Field),
    /// All of a kind: its result lists them.
    List(List),
    /// A prompt or a resource, in the `ref` of `params`.
    Reference,
    /// Resources, in the `notifications` of `params`.
    Subscriptions,
}

impl Names {
    /// The kinds of items that a method with these names uses.
    #[must_use]
    pub const fn kinds(self) -> &'static [ItemKind] {
        match self {
            Self::Nothing => &[],
            Self::Item(Tool, _) | Self::List(List { kind: Tool, .. }) => &[Tool],
            Self::Item(Prompt, _) | Self::List(List { kind: Prompt, .. }) => &[Prompt],
            Self::Item(Resource, _) | Self::List(List { kind: Resource, .. }) => &[Resource],
            Self::Reference => &[Prompt, Resource],
            Self::Subscriptions => &[Resource],
        }
    }
}

/// The shape of a list result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// What it lists.
    pub kind: ItemKind,
    /// The member of `result` that holds the list.
    pub member: &'static str,
    /// The member of each element that rules are about.
    pub key: &'static str,
}

/// A row of the catalogue.
struct Row {
    name: &'static str,
    notification: bool,
    sender: Sender,
    first: Revision,
    last: Revision,
    /// Members of `params`, besides `_meta`, that policy or router read.
    reads: &'static [Field],
    names: Names,
    /// Every client may send it, whatever the policy says.
    needs_no_permission: bool,
}

impl Row {
    const fn new(notification: bool, sender: Sender, first: Revision, last: Revision) -> Self {
        Self {
            name: "",
            notification,
            sender,
            first,
            last,
            reads: &[],
            names: Names::Nothing,
            needs_no_permission: false,
        }
    }

    /// Of all revisions.
    const fn request(sender: Sender) -> Self {
        Self::new(false, sender, V2024_11_05, V2026_07_28)
    }

    /// Of the revisions with a handshake.
    const fn legacy_request(sender: Sender) -> Self {
        Self::new(false, sender, V2024_11_05, V2025_11_25)
    }

    const fn modern_request(sender: Sender) -> Self {
        Self::new(false, sender, V2026_07_28, V2026_07_28)
    }

    const fn notification(sender: Sender) -> Self {
        Self::new(true, sender, V2024_11_05, V2026_07_28)
    }

    const fn legacy_notification(sender: Sender) -> Self {
        Self::new(true, sender, V2024_11_05, V2025_11_25)
    }

    const fn modern_notification(sender: Sender) -> Self {
        Self::new(true, sender, V2026_07_28, V2026_07_28)
    }

    const fn within(self, first: Revision, last: Revision) -> Self {
        Self {
            first,
            last,
            ..self
        }
    }

    const fn reads(self, reads: &'static [Field]) -> Self {
        Self { reads, ..self }
    }

    const fn item(self, kind: ItemKind, reads: &'static [Field]) -> Self {
        let names = Names::Item(kind, reads[0]);
        Self {
            reads,
            names,
            ..self
        }
    }

    /// Answered with a list, not with a task that would make one.
    const fn list(self, kind: ItemKind, member: &'static str, key: &'static str) -> Self {
        let names = Names::List(List { kind, member, key });
        Self {
            reads: &[Task],
            names,
            ..self
        }
    }

    const fn names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    const fn needs_no_permission(self) -> Self {
        Self {
            needs_no_permission: true,
            ..self
        }
    }
}

macro_rules! catalogue {
    ($($method:ident $name:literal = $row:expr;)*) => {
        /// A method or notification of MCP.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method { $(#[doc = concat!("`", $name, "`")] $method,)* }

        const ROWS: &[Row] = &[$(Row { name: $name, ..$row },)*];

        impl Method {
            /// All of them, in the order of the catalogue.
            pub const ALL: &[Self] = &[$(Self::$method,)*];

            /// Which one `name` is.
            #[inline(always)]
            pub(crate) fn parse(name: &[u8]) -> Option<Self> {
                $(if name == $name.as_bytes() {
                    return Some(Self::$method);
                })*
                None
            }
        }
    };
}

// Schema of each revision: the unions ClientRequest, ClientNotification, ServerRequest and
// ServerNotification; tasks of 2026-07-28: the extension `io.modelcontextprotocol/tasks`.
catalogue! {
    Initialize "initialize" = Row::legacy_request(Client).reads(&[ProtocolVersion, Capabilities, ClientInfo]);
    Discover "server/discover" = Row::modern_request(Client);
    Ping "ping" = Row::legacy_request(Both);
    ListTools "tools/list" = Row::request(Client).list(Tool, "tools", "name");
    CallTool "tools/call" = Row::request(Client).item(Tool, &[Name]);
    ListPrompts "prompts/list" = Row::request(Client).list(Prompt, "prompts", "name");
    GetPrompt "prompts/get" = Row::request(Client).item(Prompt, &[Name]);
    ListResources "resources/list" = Row::request(Client).list(Resource, "resources", "uri");
    ListTemplates "resources/templates/list" = Row::request(Client).list(Resource, "resourceTemplates", "uriTemplate");
    ReadResource "resources/read" = Row::request(Client).item(Resource, &[Uri]);
    Subscribe "resources/subscribe" = Row::legacy_request(Client).item(Resource, &[Uri]);
    Unsubscribe "resources/unsubscribe" = Row::legacy_request(Client).item(Resource, &[Uri]);
    Listen "subscriptions/listen" = Row::modern_request(Client).reads(&[Notifications]).names(Names::Subscriptions);
    Complete "completion/complete" = Row::request(Client).reads(&[Ref]).names(Names::Reference);
    SetLevel "logging/setLevel" = Row::legacy_request(Client).reads(&[Level]);
    GetTask "tasks/get" = Row::request(Both).reads(&[TaskId]).within(V2025_11_25, V2026_07_28);
    ListTasks "tasks/list" = Row::request(Both).reads(&[TaskId]).within(V2025_11_25, V2025_11_25);
    TaskResult "tasks/result" = Row::request(Both).reads(&[TaskId]).within(V2025_11_25, V2025_11_25);
    UpdateTask "tasks/update" = Row::modern_request(Client).reads(&[TaskId]);
    CancelTask "tasks/cancel" = Row::request(Both).reads(&[TaskId]).within(V2025_11_25, V2026_07_28);
    ListRoots "roots/list" = Row::legacy_request(Server);
    CreateMessage "sampling/createMessage" = Row::legacy_request(Server);
    Elicit "elicitation/create" = Row::legacy_request(Server).within(V2025_06_18, V2025_11_25);
    Initialized "notifications/initialized" = Row::legacy_notification(Client).needs_no_permission();
    Cancelled "notifications/cancelled" = Row::notification(Both).reads(&[RequestId]).needs_no_permission();
    Progress "notifications/progress" = Row::notification(Both).reads(&[ProgressToken]);
    RootsChanged "notifications/roots/list_changed" = Row::legacy_notification(Client);
    TaskStatus "notifications/tasks/status" = Row::notification(Both).reads(&[TaskId]).within(V2025_11_25, V2025_11_25);
    LogMessage "notifications/message" = Row::notification(Server).reads(&[Level]);
    ResourceUpdated "notifications/resources/updated" = Row::notification(Server).reads(&[Uri]);
    ResourcesChanged "notifications/resources/list_changed" = Row::notification(Server);
    ToolsChanged "notifications/tools/list_changed" = Row::notification(Server);
    PromptsChanged "notifications/prompts/list_changed" = Row::notification(Server);
    ElicitationComplete "notifications/elicitation/complete" = Row::notification(Server).within(V2025_11_25, V2025_11_25);
    SubscriptionAcknowledged "notifications/subscriptions/acknowledged" = Row::modern_notification(Server);
    TaskChanged "notifications/tasks" = Row::modern_notification(Server).reads(&[TaskId]);
}

impl Method {
    #[inline(always)]
    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Its name on the wire.
    #[must_use]
    #[inline(always)]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// True for a notification, false for a request.
    #[must_use]
    pub fn is_notification(self) -> bool {
        self.row().notification
    }

    /// Which end sends it.
    #[must_use]
    pub fn sender(self) -> Sender {
        self.row().sender
    }

    /// The first and the last revision that has it.
    #[must_use]
    pub fn revisions(self) -> (Revision, Revision) {
        (self.row().first, self.row().last)
    }

    /// The members of its `params`, besides `_meta`, that policy or router read.
    pub(crate) fn reads(self) -> &'static [Field] {
        self.row().reads
    }

    /// Where it names the items that it uses.
    #[must_use]
    pub const fn names(self) -> Names {
        self.row().names
    }

    /// True for the notifications that every client may send: the handshake's, and cancelling what
    /// is its own.
    #[must_use]
    pub fn needs_no_permission(self) -> bool {
        self.row().needs_no_permission
    }

    /// The requests that a server makes of its client, which answers them by asking its user or its
    /// host.
    pub fn asked_of_clients() -> impl Iterator<Item = Self> {
        let asked = |method: &Self| method.sender() == Server && !method.is_notification();
        Self::ALL.iter().copied().filter(asked)
    }
}

/// What policy or router read in the `params` of a method of this name, in the catalogue or not.
pub(crate) fn reads(name: &str) -> &'static [Field] {
    match Method::parse(name.as_bytes()) {
        Some(method) => method.reads(),
        // Tasks belong to their owner, whatever a later revision does with them.
        None if name.starts_with("tasks/") || name.starts_with("notifications/tasks") => &[TaskId],
        None => &[],
    }
}

/// True when `name` is of a family that only requests are of: all but `notifications`.
pub(crate) fn is_request_family(name: &str) -> bool {
    let family = |name: &'static str| name.split('/').next().unwrap_or(name);
    let mut requests = Method::ALL
        .iter()
        .filter(|method| !method.is_notification());
    requests.any(|method| is_of(name, family(method.name())))
}

/// True when `name` is a notification's.
pub(crate) fn is_notification_family(name: &str) -> bool {
    is_of(name, "notifications")
}

fn is_of(name: &str, family: &str) -> bool {
    let rest = name.strip_prefix(family);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_name() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.name().as_bytes()), Some(*method));
            let notification = is_notification_family(method.name());
            assert_eq!(method.is_notification(), notification, "{method:?}");
            assert_eq!(
                is_request_family(method.name()),
                !notification,
                "{method:?}"
            );
        }
        assert_eq!(Method::parse(b"tools"), None);
        assert!(is_request_family("tools/x") && !is_request_family("toolsx"));
    }

    #[test]
    fn an_item_is_named_by_a_member_that_is_read() {
        for method in Method::ALL {
            let expected: &[Field] = match method.names() {
                Names::Nothing => continue,
                Names::Item(_, field) => &[field],
                Names::List(_) => &[Task],
                Names::Reference => &[Ref],
                Names::Subscriptions => &[Notifications],
            };
            assert_eq!(method.reads(), expected, "{method:?}");
        }
    }

    #[test]
    fn tasks_have_owners_under_any_name() {
        assert_eq!(reads("tasks/get"), [TaskId]);
        assert_eq!(reads("tasks/sell"), [TaskId]);
        assert_eq!(reads("notifications/tasks/x"), [TaskId]);
        assert!(reads("task/get").is_empty());
    }

    #[test]
    fn methods_of_both_eras_and_of_one() {
        let is_modern = |method: Method| method.revisions().1 == V2026_07_28;
        let is_legacy = |method: Method| method.revisions().0 < V2026_07_28;
        assert!(is_modern(Method::CallTool) && is_legacy(Method::CallTool));
        assert!(is_modern(Method::Discover) && !is_legacy(Method::Discover));
        assert!(!is_modern(Method::Initialize) && is_legacy(Method::Initialize));
        let asked: Vec<_> = Method::asked_of_clients().collect();
        assert_eq!(
            asked,
            [Method::ListRoots, Method::CreateMessage, Method::Elicit]
        );
    }
}
