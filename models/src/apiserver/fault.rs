//! Faults on single calls: which call is meant, and what happens to it. Counted where requests
//! arrive at an apiserver, so that the k-th write of a client is the same one in each repetition.

use std::time::Duration;

use drydock_engine::time::SimInstant;
use serde::Serialize;

use crate::ids::{CallId, NodeIndex};
use crate::observation::ApiCallKind;
use crate::request::{ApiError, ClientClass};

/// Which calls count for a fault; every field that is set must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CallSelector {
    /// Class of the client.
    pub class: Option<ClientClass>,
    /// Machine of the client.
    pub node: Option<NodeIndex>,
    /// Verb, e.g. `PUT`.
    pub verb: Option<&'static str>,
    /// Resource, with the subresource after a slash.
    pub resource: Option<&'static str>,
    /// Only calls that can change the store.
    pub writes_only: bool,
}

impl CallSelector {
    /// Every write of a class, on a machine or on any.
    pub fn writes_of(class: ClientClass, node: Option<NodeIndex>) -> Self {
        Self {
            class: Some(class),
            node,
            verb: None,
            resource: None,
            writes_only: true,
        }
    }

    pub(super) fn matches(
        &self,
        class: ClientClass,
        node: NodeIndex,
        what: ApiCallKind,
        write: bool,
    ) -> bool {
        self.class.is_none_or(|wanted| wanted == class)
            && self.node.is_none_or(|wanted| wanted == node)
            && self.verb.is_none_or(|wanted| wanted == what.verb)
            && self.resource.is_none_or(|wanted| wanted == what.resource)
            && (write || !self.writes_only)
    }
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CallEffect {
    /// It never reaches the apiserver; the client waits until it gives up.
    LoseRequest,
    /// It is carried out; the answer is lost and the client waits until it gives up.
    LoseResponse,
    /// It is carried out; the connection breaks at once afterwards.
    ResetAfterCommit,
    /// The connection breaks before anything is done.
    ResetBefore,
    /// The write waits this long between apiserver and etcd and is then tried, whoever still waits
    /// for it.
    Hold(Duration),
    /// The apiserver answers with this error and does nothing.
    Answer(ApiError),
}

/// A fault on the `nth` matching call from now (1 = the next).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CallFault {
    /// Which calls count.
    pub selector: CallSelector,
    /// Which of them is hit.
    pub nth: u32,
    /// What happens to it.
    pub effect: CallEffect,
}

/// Number of an armed fault, by order of arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FaultId(pub u32);

/// A fault that found its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FiredFault {
    /// Which fault.
    pub fault: FaultId,
    /// Which call.
    pub call: CallId,
    /// When.
    pub at: SimInstant,
    /// The write was committed since (known once it happened).
    pub committed: bool,
    /// The client had given up, or been told of an error, when it was committed.
    pub committed_late: bool,
}

/// Faults that wait for their call.
#[derive(Debug, Default)]
pub(super) struct ArmedFaults {
    armed: Vec<(FaultId, CallFault, u32)>,
    next: u32,
    pub(super) fired: Vec<FiredFault>,
}

impl ArmedFaults {
    pub(super) fn arm(&mut self, fault: CallFault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.armed.push((id, fault, 0));
        id
    }

    pub(super) fn disarm(&mut self, fault: FaultId) -> bool {
        let before = self.armed.len();
        self.armed.retain(|(id, _, _)| *id != fault);
        self.armed.len() < before
    }

    /// Counts a call that arrived; the effect on it, if a fault was due.
    pub(super) fn arrived(
        &mut self,
        call: CallId,
        at: SimInstant,
        matches: impl Fn(&CallSelector) -> bool,
    ) -> Option<CallEffect> {
        let mut due = None;
        for (index, (_, fault, seen)) in self.armed.iter_mut().enumerate() {
            if matches(&fault.selector) {
                *seen += 1;
                if *seen >= fault.nth && due.is_none() {
                    due = Some(index);
                }
            }
        }
        let (fault, CallFault { effect, .. }, _) = self.armed.remove(due?);
        let fired = FiredFault {
            fault,
            call,
            at,
            committed: false,
            committed_late: false,
        };
        self.fired.push(fired);
        Some(effect)
    }

    pub(super) fn committed(&mut self, call: CallId, late: bool) {
        if let Some(fired) = self.fired.iter_mut().rev().find(|fired| fired.call == call) {
            fired.committed = true;
            fired.committed_late = late;
        }
    }
}
