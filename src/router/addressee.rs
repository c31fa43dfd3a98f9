//! The addressee of a server request, and the share of the pending ones that one client may take up.

use super::SessionId;
use super::tasks::Owner;
use std::sync::Arc;

/// A session, with the user that it counts against.
#[derive(Clone, Debug)]
pub(super) struct Addressee {
    pub session: SessionId,
    user: Arc<Owner>,
}

/// Bounds on a number of things.
pub(super) struct Bounds {
    /// Of one process.
    pub all: usize,
    /// Of all sessions of one user. Sessions without a user count each by itself.
    pub of_user: usize,
    pub of_session: usize,
}

/// Which of the bounds has been reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Session,
    User,
    All,
}

impl Addressee {
    pub(super) fn new(session: SessionId, user: &Arc<Owner>) -> Self {
        let user = Arc::clone(user);
        Self { session, user }
    }

    /// True if both belong to the same user.
    pub(super) fn shares_user_with(&self, other: &Self) -> bool {
        let same_user = self.user.is_some() && self.user == other.user;
        same_user || self.session == other.session
    }
}

impl Bounds {
    /// Why there is no room for one more for `addressee` beside these.
    pub(super) fn reached<'a>(
        &self,
        addressee: &Addressee,
        others: impl Iterator<Item = &'a Addressee>,
    ) -> Option<Full> {
        let (mut all, mut of_user, mut of_session) = (0, 0, 0);
        for other in others {
            all += 1;
            of_user += usize::from(addressee.shares_user_with(other));
            of_session += usize::from(addressee.session == other.session);
        }
        let reached = [
            (of_session >= self.of_session, Full::Session),
            (of_user >= self.of_user, Full::User),
            (all >= self.all, Full::All),
        ];
        let reached = reached.into_iter().find(|(reached, _)| *reached);
        reached.map(|(_, full)| full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addressee(session: u64, user: Option<&str>) -> Addressee {
        Addressee {
            session: SessionId(session),
            user: Arc::new(user.map(str::to_owned)),
        }
    }

    #[test]
    fn each_session_each_user_and_all_have_a_bound() {
        let bounds = Bounds {
            all: 4,
            of_user: 3,
            of_session: 2,
        };
        let (alice, again) = (addressee(1, Some("alice")), addressee(2, Some("alice")));
        let (bob, nobody, other) = (
            addressee(3, Some("bob")),
            addressee(4, None),
            addressee(5, None),
        );
        let table: [(&[&Addressee], &Addressee, Option<Full>); 8] = [
            (&[], &alice, None),
            (&[&alice], &alice, None),
            (&[&alice, &alice], &alice, Some(Full::Session)),
            (&[&alice, &alice], &again, None),
            (&[&alice, &alice, &again], &again, Some(Full::User)),
            (&[&alice, &alice, &again], &bob, None),
            (&[&alice, &alice, &again, &bob], &bob, Some(Full::All)),
            // Sessions without a user do not count as the same user.
            (&[&nobody, &nobody], &other, None),
        ];
        for (others, addressee, expected) in table {
            let reached = bounds.reached(addressee, others.iter().copied());
            assert_eq!(reached, expected, "{others:?} {addressee:?}");
        }
    }
}
