//! What an agent depends on outside its process, part by part: names, what waits for each, and how
//! it stands. Who looks and what a change means is not here.

use crate::core::time::BootTime;

/// Something outside the process that it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPart {
    /// The container runtime behind its socket.
    Runtime,
    /// The directories with the network namespaces' paths, and the canaries in them.
    Namespaces,
    /// The directory where plugins leave DELs.
    Spool,
    /// The journal's file and its disk.
    Journal,
    /// The machine's ID, while no other node has the same.
    MachineId,
    /// The socket's file, at which plugins find the agent.
    Socket,
    /// The plugin's binary where the runtime looks for it.
    Plugin,
}

impl HostPart {
    /// Every part.
    pub const ALL: [Self; 7] = [
        Self::Runtime,
        Self::Namespaces,
        Self::Spool,
        Self::Journal,
        Self::MachineId,
        Self::Socket,
        Self::Plugin,
    ];

    /// As in metrics, conditions and `/readyz`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Namespaces => "namespaces",
            Self::Spool => "spool",
            Self::Journal => "journal",
            Self::MachineId => "machine-id",
            Self::Socket => "socket",
            Self::Plugin => "plugin",
        }
    }

    /// Whether without it no Pod of the node can get an address. Only then is the agent not ready:
    /// readiness gates rollouts and counts toward alarms, and while the runtime cannot be asked,
    /// for instance, every ADD and every DEL is served as ever.
    pub fn is_vital(self) -> bool {
        matches!(self, Self::Journal | Self::Socket | Self::Plugin)
    }

    /// What waits for it, for people.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Runtime => "ADD and DEL go on; what ended without a DEL is held until it answers",
            Self::Namespaces => {
                "ADD goes on; whether a namespace ended cannot be seen, and what was there is held \
                 until its DEL"
            }
            Self::Spool => "a DEL that meets no agent fails and is repeated by the runtime",
            Self::Journal => "no ADD is answered",
            Self::MachineId => {
                "each goes by its node's name, too; give the machine an ID of its own"
            }
            Self::Socket => "no plugin reaches the agent",
            Self::Plugin => "the runtime cannot execute the plugin",
        }
    }
}

/// How a part stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartState {
    /// Which.
    pub part: HostPart,
    /// Why it is lost; `None` while it is there.
    pub lost: Option<String>,
    /// Since when it stands so.
    pub since: BootTime,
}

/// What was found of a part: there, or why not.
pub type Finding = (HostPart, Result<(), String>);
