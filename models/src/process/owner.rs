//! Whose processes they are: what a wait of theirs comes back to, as an event of the queue.

use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::{CpuToken, Event, NodeEvent, NodeToken};
use crate::ids::NodeIndex;
use crate::request::{ReplyTo, WatchOwner};

/// Who owns and polls processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The IPAM under test.
    Ipam,
    /// The node that they run on.
    Node,
}

impl Owner {
    /// Whose the CPU is.
    pub(super) fn cpu(self, token: u64) -> CpuToken {
        match self {
            Owner::Ipam => CpuToken::Ipam(token),
            Owner::Node => CpuToken::Node(NodeToken::Process(token)),
        }
    }

    /// Who gets the answer of a call.
    pub(super) fn reply(self, node: NodeIndex, token: u64) -> ReplyTo {
        match self {
            Owner::Ipam => ReplyTo::Ipam { token },
            Owner::Node => ReplyTo::Node {
                node,
                token: NodeToken::Process(token),
            },
        }
    }

    /// Sets a timer of a process on a machine.
    pub(super) fn timer(
        self,
        node: NodeIndex,
        at: SimInstant,
        token: u64,
        context: &mut Context<'_>,
    ) {
        let event = match self {
            Owner::Ipam => return context.ipam_timer(node, at, token),
            Owner::Node => NodeEvent::Wake(NodeToken::Process(token)),
        };
        context.core.queue.at(at, Event::Node { node, event });
    }

    /// Who gets what a watch brings.
    pub(super) fn watch(self, token: u64) -> WatchOwner {
        assert_eq!(self, Owner::Ipam, "no process of a node watches");
        WatchOwner::Ipam { token }
    }
}
