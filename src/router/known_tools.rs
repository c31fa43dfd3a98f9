//! The tools of one process, for calls of pinned ones. The router requests the whole list itself, so that a call of a
//! tool that has changed is refused even if no peer has listed the tools.

use super::openings::write_meta;
use super::{Output, ProcessId, SessionId, own_answer};
use crate::json::write_string;
use crate::jsonrpc::{Message, RequestId};
use crate::permissions::{Permit, PinnedCall, Pins};
use crate::utils::chunks::Chunks;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An older list is requested again; calls are judged by it meanwhile.
const FRESH: Duration = Duration::from_secs(60);

/// The most pages of a list.
const MAX_PAGES: usize = 1000;

/// The longest cursor, in bytes.
const MAX_CURSOR: usize = 64 * 1024;

/// How often in a row a list is requested again because of `list_changed`: some servers send that with every
/// answer.
const MAX_REREADS: usize = 4;

/// Whether the tools of a process are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolsKnown {
    /// They are.
    Yes,
    /// The list has been requested.
    Asked {
        /// How many requests of this process have failed; never decreases.
        failures: u64,
    },
    /// The process is not ready for requests.
    NotReady,
}

/// The tools of one process, as far as they are known.
#[derive(Default)]
pub(super) struct KnownTools {
    known: Option<Known>,
    asked: Option<Asked>,
    failures: u64,
    /// A call waits until the process is ready for requests.
    awaited: bool,
}

struct Known {
    pins: Arc<Pins>,
    /// Pinned tools that are not as they were accepted.
    changed: BTreeSet<String>,
    at: Instant,
}

struct Asked {
    id: RequestId,
    pins: Arc<Pins>,
    is_modern: bool,
    pages: usize,
    changed: BTreeSet<String>,
    /// The list has changed since the first page was requested.
    outdated: bool,
    rereads: usize,
}

impl KnownTools {
    /// True if the list should be requested for this call.
    pub(super) fn is_due(&self, call: &PinnedCall, now: Instant) -> bool {
        let is_fresh = |known: &Known| now.saturating_duration_since(known.at) < FRESH;
        self.asked.is_none()
            && !(self.known.as_ref())
                .is_some_and(|known| Arc::ptr_eq(&known.pins, &call.pins) && is_fresh(known))
    }

    /// Requests the list under this id.
    pub(super) fn ask(
        &mut self,
        id: RequestId,
        call: &PinnedCall,
        is_modern: bool,
        out: &mut Chunks,
    ) {
        write_list(&id, is_modern, None, out);
        self.asked = Some(Asked {
            id,
            pins: Arc::clone(&call.pins),
            is_modern,
            pages: 1,
            changed: BTreeSet::new(),
            outdated: false,
            rereads: 0,
        });
    }

    /// The id under which the list has been requested.
    pub(super) fn asked(&self) -> Option<&RequestId> {
        self.asked.as_ref().map(|asked| &asked.id)
    }

    /// Takes a page of the list; `next` is the id of the request for the next one.
    pub(super) fn answered(
        &mut self,
        answer: &Message,
        now: Instant,
        next: impl FnOnce() -> RequestId,
        process: ProcessId,
        out: &mut Output,
    ) {
        let Some(mut asked) = self.asked.take() else {
            return;
        };
        let page = answer.result().map(|page| {
            let next = asked.pins.look(page, &mut asked.changed);
            next.map(|cursor| cursor.filter(|_| asked.pages <= MAX_PAGES))
        });
        let cursor = match page {
            Some(Ok(None)) if asked.pages <= MAX_PAGES && !asked.is_to_be_reread() => {
                self.known = Some(Known {
                    pins: asked.pins,
                    changed: asked.changed,
                    at: now,
                });
                out.learned = true;
                return;
            }
            Some(Ok(None)) if asked.pages <= MAX_PAGES => {
                asked.begin_again();
                None
            }
            Some(Ok(Some(cursor))) if cursor.len() <= MAX_CURSOR => {
                asked.pages += 1;
                Some(cursor)
            }
            _ => {
                tracing::warn!(
                    "the MCP server does not say what its tools are, so no pinned tool can be called (--pin-tools)"
                );
                self.known = None;
                self.failures += 1;
                out.learned = true;
                return;
            }
        };
        asked.id = next();
        let lines = out.lines(process);
        write_list(&asked.id, asked.is_modern, cursor.as_deref(), lines);
        self.asked = Some(asked);
    }

    /// Notes that the list has changed.
    pub(super) fn outdate(&mut self) {
        self.known = None;
        if let Some(asked) = &mut self.asked {
            asked.outdated = true;
        }
    }

    /// Gives up a request that has not been answered in time, so that the next call sends another.
    pub(super) fn give_up(&mut self, out: &mut Output) {
        self.asked = None;
        out.learned = true;
    }

    /// Notes that a call waits until the process is ready for requests.
    pub(super) fn wait(&mut self) -> ToolsKnown {
        self.awaited = true;
        ToolsKnown::NotReady
    }

    /// Wakes the calls that wait until the process is ready for requests.
    pub(super) fn tell_ready(&mut self, out: &mut Output) {
        out.learned |= std::mem::take(&mut self.awaited);
    }

    /// Whether this call can be judged.
    pub(super) fn state(&self, call: &PinnedCall) -> ToolsKnown {
        match self.judge(call) {
            Some(_) => ToolsKnown::Yes,
            None => ToolsKnown::Asked {
                failures: self.failures,
            },
        }
    }

    /// True if the process may get this call; false if its tool has changed since the tools were accepted. `None` if
    /// that is not known.
    pub(super) fn judge(&self, call: &PinnedCall) -> Option<bool> {
        let known = self.known.as_ref()?;
        Arc::ptr_eq(&known.pins, &call.pins).then(|| !known.changed.contains(&call.name))
    }

    /// True if the process may get this request of a peer. Otherwise it is answered, or `out.withheld` is set.
    pub(super) fn admit(
        &self,
        permit: &Permit,
        (from, id): (SessionId, &RequestId),
        out: &mut Output,
    ) -> bool {
        let Some(call) = permit.pinned() else {
            return true;
        };
        let judged = self.judge(call);
        out.withheld = judged == Some(false);
        if judged.is_none() {
            out.tell(from, own_answer::tools_unknown(id));
        }
        judged == Some(true)
    }
}

impl Asked {
    fn is_to_be_reread(&self) -> bool {
        self.outdated && self.rereads < MAX_REREADS
    }

    fn begin_again(&mut self) {
        self.changed.clear();
        self.outdated = false;
        self.pages = 1;
        self.rereads += 1;
    }
}

fn write_list(id: &RequestId, is_modern: bool, cursor: Option<&str>, out: &mut Chunks) {
    let out = out.small();
    out.extend(b"{\"jsonrpc\":\"2.0\",\"id\":");
    id.write(out);
    out.extend(b",\"method\":\"tools/list\",\"params\":{");
    if is_modern {
        write_meta(out);
    }
    if let Some(cursor) = cursor {
        let comma: &[u8] = if is_modern { b"," } else { b"" };
        out.extend(comma);
        out.extend(b"\"cursor\":");
        write_string(cursor, out);
    }
    out.extend(b"}}\n");
}
