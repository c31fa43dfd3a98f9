use super::super::super::access::Access;
use super::super::super::environment::Environment;
use super::super::super::isolated::ChildPer;
use super::super::super::places::Bounds;
use super::super::super::sharing::{Backend, Isolation, Party, Sharing};
use super::*;
use crate::account::Address;
use crate::audit;
use crate::auth::Identity;
use crate::backlog::Part;
use crate::child::CommandLine;
use crate::http::{Next, StreamBounds};
use crate::hub::{Deadlines, Limits};
use crate::jsonrpc::MAX_PEER_DEPTH;
use crate::metrics::Transport;
use crate::permissions::{Policy, Rights};
use crate::router::{Counted, LineLimits};
use crate::utils::tally::Tally;
use futures_util::FutureExt;
use tokio::sync::watch;

fn access(policy: &str) -> Arc<Access> {
    Arc::new(Access {
        tls: None,
        requirements: None,
        key_refresh: None,
        policy: Some(Arc::new(Policy::parse(policy).unwrap())),
        pins: None,
    })
}

/// An authorization that knows the present policy.
fn authorization(policy: &watch::Sender<Arc<Access>>, expires: u64) -> Authorization {
    let identity = Identity {
        roles: vec!["user".to_owned()],
        expires: Some(expires),
        ..Identity::default()
    };
    Authorization::new(policy.subscribe(), identity)
}

fn session(authorization: &Authorization) -> HttpSession {
    let minute = Duration::from_secs(60);
    let (sharing, _driver) = Sharing::new(Backend {
        isolation: Isolation::Never,
        command: CommandLine::of(vec!["true".into()]).unwrap(),
        environment: Environment::default(),
        per: ChildPer::Session,
        limits: Limits {
            child_message: 1000,
            lines: LineLimits::default(),
            outbox: 1000,
            deadlines: Deadlines {
                handshake: minute,
                start: minute,
                question: minute,
            },
            restarts: 0,
            in_flight: 1,
        },
        max_children: Bounds {
            total: 1,
            per_user: None,
        },
    });
    let placement = sharing.place(Party {
        authorization,
        address: Address::Unix,
        transport: Transport::Http,
        counted: Counted::default(),
    });
    let bounds = StreamBounds {
        waiting: 1000,
        kept: 1000,
        kept_of_all: 1000,
        window: minute,
    };
    let owner = sharing.owner(authorization.identity(), authorization.rights(), None);
    HttpSession::new(
        (owner, "id".into()),
        placement.unwrap(),
        Arc::new(Trail::new(&audit::Log::default(), 1, Address::Unix)),
        Streams::new(bounds, &Tally::default(), Part::default()),
        authorization.clone(),
    )
}

/// Bug: a policy that was read at the same moment was never applied to what waited for the MCP server.
#[tokio::test]
async fn a_new_token_brings_the_policy_that_it_knows() {
    const ALL: &str = r#"{"permissions":{"user":{"allowedMethods":["*"]}}}"#;
    const NONE: &str = r#"{"permissions":{"user":{"allowedMethods":[]}}}"#;
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#;
    let call = Message::read((&call[..]).into(), MAX_PEER_DEPTH).unwrap();
    // Either may be noticed first.
    for _ in 0..50 {
        let (policy, _read) = watch::channel(access(ALL));
        let session = session(&authorization(&policy, u64::MAX - 1));
        let reading = session.streams().open(&call, true).unwrap();
        let permit = Rights::everything().decide(call.clone()).unwrap();
        session.placement.session.send(&permit, None).unwrap();
        let mut life = std::pin::pin!(session_invalidated(&session, Duration::ZERO));
        assert!(life.as_mut().now_or_never().is_none());
        assert_eq!(session.streams().next(&reading), Next::Wait);
        policy.send_replace(access(NONE));
        session.note(&authorization(&policy, u64::MAX));
        assert!(life.as_mut().now_or_never().is_none());
        let Next::Event(denial) = session.streams().next(&reading) else {
            panic!("it still waits");
        };
        let denial = Message::read(denial.line.joined(), MAX_CHILD_DEPTH).unwrap();
        assert_eq!(denial.error_code(), Some(-32601));
    }
}
