//! The members of messages that policy and router read.

macro_rules! fields {
    ($($variant:ident $exact:literal $folded:literal,)*) => {
        /// A member that policy or router may read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $(#[doc = concat!("`", $exact, "`")] $variant,)* }

        /// Each field with the folded form of its name, in the order of [`Field`].
        pub(crate) const FIELDS: &[(Field, &str)] = &[$((Field::$variant, $folded),)*];

        impl Field {
            /// The field of exactly this name.
            #[inline(always)]
            pub(crate) fn parse(name: &[u8]) -> Option<Self> {
                $(if name == $exact.as_bytes() {
                    return Some(Field::$variant);
                })*
                None
            }
        }
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

/// What policy reads inside the `ref` of `completion/complete`.
pub(crate) const IN_REF: [&str; 3] = ["type", "name", "uri"];

/// What policy reads inside the `notifications` of `subscriptions/listen`.
pub(crate) const IN_NOTIFICATIONS: [&str; 1] = ["resourceSubscriptions"];
