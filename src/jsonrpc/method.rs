//! The name of what is asked or told.

macro_rules! known {
    ($($name:literal)*) => {
        impl Known {
            /// Their names.
            pub(crate) const ALL: &[&'static str] = &[$($name),*];

            /// Which one `name` is.
            #[inline(always)]
            pub(super) fn of(name: &[u8]) -> Option<Self> {
                let mut place = 0;
                $(if name == $name.as_bytes() {
                    return Some(Self(place));
                }
                place += 1;)*
                let _none = place;
                None
            }
        }
    };
}

/// A method of MCP that is often seen, by its place in the list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known(usize);

known! {
    "tools/call" "tools/list" "ping" "initialize" "server/discover"
    "prompts/list" "prompts/get"
    "resources/list" "resources/templates/list" "resources/read"
    "resources/subscribe" "resources/unsubscribe" "subscriptions/listen"
    "completion/complete" "logging/setLevel"
    "tasks/get" "tasks/result" "tasks/list" "tasks/cancel" "tasks/update"
    "sampling/createMessage" "roots/list" "elicitation/create"
    "notifications/initialized" "notifications/cancelled" "notifications/progress"
    "notifications/message" "notifications/resources/updated"
}

impl Known {
    /// Its place in [`Known::ALL`].
    pub(crate) fn place(self) -> usize {
        self.0
    }
}

/// A method, escapes undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Known(Known),
    Other(Box<str>),
}

impl Default for Method {
    /// That of a response, which has none.
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl Method {
    #[inline(always)]
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Known(known) => Known::ALL[known.0],
            Self::Other(name) => name,
        }
    }
}
