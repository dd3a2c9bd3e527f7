//! Whom a storm's faults strike. Storms are drawn for Berth, whose agent does everything on its
//! node; another allocator has other processes in that role, which its adapter names. It draws
//! nothing and fits nothing.

use drydock_traces::plan::FaultKind;

/// What dies when an agent is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// The node agent; it starts again after the fault's duration.
    Process,
    /// The plugins that run on the node at that moment: there is no agent on the way of an
    /// address, or its restart alone is not modeled.
    Plugins,
}

/// Whose writes are lost or delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Those of the node that the fault names.
    Node,
    /// The controller's, wherever it runs: it alone writes addresses.
    Controller,
}

/// The processes of an allocator, as storms know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// What `agent-kill` strikes.
    pub agent: Agent,
    /// What `response-lost`, `write-delayed` and `unknown-release` strike.
    pub writer: Writer,
    /// It has a journal, a spool and looks at namespaces, which faults of those strike.
    pub own_things: bool,
}

/// Whether a kind strikes whatever allocator there is; the others strike what Berth's agent relies
/// on or what its rules are about, and the storms of others have none of them.
pub fn strikes_every_allocator(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::AgentKill
            | FaultKind::ResponseLost
            | FaultKind::WriteDelayed
            | FaultKind::NodePartition
            | FaultKind::ApiserverRestart
            | FaultKind::PodDelete
            | FaultKind::PodForceDelete
            | FaultKind::LinkDeleteFails
            | FaultKind::UnknownRelease
            | FaultKind::MachineReplaced
            | FaultKind::NodeReboot
            | FaultKind::KubeletRestart
            | FaultKind::PowerOffAndBury
    )
}
