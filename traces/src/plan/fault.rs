//! One fault: what, to whom, when, how long; and for each kind which of these fit.

use serde::{Deserialize, Serialize};

use super::{PlanError, TIME_NS_MAX, World, in_range};

/// Control-plane instances that a world can have.
const APISERVERS_MAX: u64 = 3;
/// The largest count that a trigger may wait for.
const COUNT_MAX: u64 = 1_000_000;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// To whom.
    pub target: Target,
    /// When.
    pub at: Trigger,
    /// How long; none where the kind has no duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ns: Option<u64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The agent dies and starts again after the duration.
    AgentKill,
    /// A write of the agent commits, its answer is lost.
    ResponseLost,
    /// A write of the agent stays in flight for the duration and commits after the agent gave up.
    WriteDelayed,
    /// The node cannot reach any apiserver for the duration.
    NodePartition,
    /// One apiserver is away for the duration.
    ApiserverRestart,
    /// A Pod is deleted with its grace period.
    PodDelete,
    /// A Pod is deleted from the API at once, while its sandbox lives.
    PodForceDelete,
    /// A CNI DEL fails after its IPAM DEL was done; the runtime tries again after the duration.
    LinkDeleteFails,
    /// A Pod is deleted from the API at once while the runtime begins its ADD, and the next write
    /// of the node's agent, which gives its address back, stays in flight for the duration.
    UnknownRelease,
    /// Another machine joins under the node's name while the old one lives, cut off, for the
    /// duration.
    MachineReplaced,
    /// The machine reboots and is back after the duration.
    NodeReboot,
    /// The kubelet is away for the duration.
    KubeletRestart,
    /// The machine is switched off, and buried by command after the duration.
    PowerOffAndBury,
    /// The agent dies and its journal is deleted; it starts again after the duration.
    JournalLost,
    /// The agent dies and bytes in the middle of its journal change: one, or a run of zeros; it
    /// starts again after the duration.
    JournalDamaged,
    /// The agent dies in its next append, of which a part is written; it starts again after the
    /// duration.
    JournalTorn,
    /// The agent dies and an earlier copy of its journal is put back; it starts again after the
    /// duration.
    JournalOldCopy,
    /// Appends to the journal fail for the duration; some leave a part of their entry.
    JournalFull,
    /// Neither an append nor a new journal can be written for the duration.
    JournalReadOnly,
    /// Each write of the journal takes seconds for the duration.
    JournalSlow,
    /// Looks of the agent at paths of namespaces, some or all, show nothing for the duration.
    PathUnknown,
    /// The agent's mark in the directory of namespaces is gone for the duration; then it is made
    /// anew.
    CanaryGone,
    /// For the duration the directory of namespaces is another, empty one in the agent's view.
    PathsVanished,
    /// The spool cannot be listed for the duration.
    SpoolUnreadable,
    /// For the duration no notice tells of a change in the spool, and a list of it takes seconds.
    SpoolLate,
    /// What lies in the spool becomes garbage, and garbage is added.
    SpoolGarbage,
    /// The container runtime is away for the duration; plugins that run become orphans.
    RuntimeRestart,
    /// The runtime answers its kubelet, and not the agent, for the duration: its list fails or
    /// hangs.
    RuntimeUnaskable,
    /// A sandbox ends without a DEL: processes, namespace and record are gone at once.
    SandboxLost,
    /// The next teardown of a sandbox on the node asks no plugin, then or later.
    DelLost,
    /// An administrator damages a stored object of the allocator, and repairs it after the
    /// duration.
    ObjectPoisoned,
    /// An administrator creates an object that cannot be read, and never repairs it.
    ObjectMistyped,
    /// A newer release writes fields, or a schema, that this one does not know, for the duration.
    ObjectNewer,
    /// For the duration the apiserver refuses what one kind of object needs: its writes, its lists,
    /// or its watches.
    CrdChanged,
    /// A tenant runs a Pod on the node for the duration that names a pool which is not for it, or
    /// names none that can be read.
    TenantAnnotates,
    /// For the duration the node has Pods that never ask the allocator: another CNI sets up their
    /// network, or nobody.
    ForeignPods,
    /// As an unknown release, but the Pod is deleted with its grace period: it is still in the API,
    /// on its way out, when the agent is asked for it.
    LeavingRelease,
}

/// To whom something happens. Numbers are 0-based indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The agent of a node.
    Agent(u32),
    /// A node.
    Node(u32),
    /// An apiserver.
    Apiserver(u32),
    /// A Pod, in order of first creation.
    Pod(u32),
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trigger {
    /// At a simulated time since the start.
    TimeNs(u64),
    /// At a call of an agent to any of its ports.
    PortCall {
        /// Node of the agent.
        agent: u32,
        /// 1-based count of its calls.
        call: u64,
        /// Before the call goes out or after its answer came.
        edge: Edge,
    },
    /// At a write of an agent to the apiserver.
    Write {
        /// Node of the agent.
        agent: u32,
        /// 1-based count of its writes.
        write: u64,
    },
    /// At a CNI call on a node.
    Cni {
        /// The node.
        node: u32,
        /// Which calls count.
        verb: CniVerb,
        /// 1-based count of them.
        call: u64,
        /// Before the plugin starts or after it ended.
        edge: Edge,
    },
}

/// Which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// Before it.
    Before,
    /// After it.
    After,
}

/// A verb of CNI that triggers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CniVerb {
    /// ADD.
    Add,
    /// DEL.
    Del,
}

/// Whether a kind has a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationRule {
    /// It must have one; the text says of what.
    Required(&'static str),
    /// It must not have one.
    None,
}

/// What fits a kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultShape {
    /// Name of the only target that fits: `agent`, `node`, `apiserver` or `pod`.
    pub target: &'static str,
    /// Name of the only trigger that fits (`write`, `cni`); none where any does.
    pub trigger: Option<&'static str>,
    /// Whether it has a duration.
    pub duration: DurationRule,
}

impl FaultKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 37] = [
        Self::AgentKill,
        Self::ResponseLost,
        Self::WriteDelayed,
        Self::NodePartition,
        Self::ApiserverRestart,
        Self::PodDelete,
        Self::PodForceDelete,
        Self::LinkDeleteFails,
        Self::UnknownRelease,
        Self::MachineReplaced,
        Self::NodeReboot,
        Self::KubeletRestart,
        Self::PowerOffAndBury,
        Self::JournalLost,
        Self::JournalDamaged,
        Self::JournalTorn,
        Self::JournalOldCopy,
        Self::JournalFull,
        Self::JournalReadOnly,
        Self::JournalSlow,
        Self::PathUnknown,
        Self::CanaryGone,
        Self::PathsVanished,
        Self::SpoolUnreadable,
        Self::SpoolLate,
        Self::SpoolGarbage,
        Self::RuntimeRestart,
        Self::RuntimeUnaskable,
        Self::SandboxLost,
        Self::DelLost,
        Self::ObjectPoisoned,
        Self::ObjectMistyped,
        Self::ObjectNewer,
        Self::CrdChanged,
        Self::TenantAnnotates,
        Self::ForeignPods,
        Self::LeavingRelease,
    ];

    /// The name in plans and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentKill => "agent-kill",
            Self::ResponseLost => "response-lost",
            Self::WriteDelayed => "write-delayed",
            Self::NodePartition => "node-partition",
            Self::ApiserverRestart => "apiserver-restart",
            Self::PodDelete => "pod-delete",
            Self::PodForceDelete => "pod-force-delete",
            Self::LinkDeleteFails => "link-delete-fails",
            Self::UnknownRelease => "unknown-release",
            Self::MachineReplaced => "machine-replaced",
            Self::NodeReboot => "node-reboot",
            Self::KubeletRestart => "kubelet-restart",
            Self::PowerOffAndBury => "power-off-and-bury",
            Self::JournalLost => "journal-lost",
            Self::JournalDamaged => "journal-damaged",
            Self::JournalTorn => "journal-torn",
            Self::JournalOldCopy => "journal-old-copy",
            Self::JournalFull => "journal-full",
            Self::JournalReadOnly => "journal-read-only",
            Self::JournalSlow => "journal-slow",
            Self::PathUnknown => "path-unknown",
            Self::CanaryGone => "canary-gone",
            Self::PathsVanished => "paths-vanished",
            Self::SpoolUnreadable => "spool-unreadable",
            Self::SpoolLate => "spool-late",
            Self::SpoolGarbage => "spool-garbage",
            Self::RuntimeRestart => "runtime-restart",
            Self::RuntimeUnaskable => "runtime-unaskable",
            Self::SandboxLost => "sandbox-lost",
            Self::DelLost => "del-lost",
            Self::ObjectPoisoned => "object-poisoned",
            Self::ObjectMistyped => "object-mistyped",
            Self::ObjectNewer => "object-newer",
            Self::CrdChanged => "crd-changed",
            Self::TenantAnnotates => "tenant-annotates",
            Self::ForeignPods => "foreign-pods",
            Self::LeavingRelease => "leaving-release",
        }
    }

    /// What fits this kind.
    pub fn shape(self) -> FaultShape {
        let shape = |target, trigger, duration| FaultShape {
            target,
            trigger,
            duration,
        };
        let lasts = DurationRule::Required;
        match self {
            Self::AgentKill => shape("agent", None, lasts("until the agent starts again")),
            Self::ResponseLost => shape("agent", Some("write"), DurationRule::None),
            Self::WriteDelayed => shape("agent", Some("write"), lasts("of the write's flight")),
            Self::NodePartition => shape("node", None, lasts("of the partition")),
            Self::ApiserverRestart => shape("apiserver", None, lasts("until it serves again")),
            Self::PodDelete | Self::PodForceDelete => shape("pod", None, DurationRule::None),
            Self::LinkDeleteFails => shape("node", Some("cni"), lasts("until the next try")),
            Self::UnknownRelease | Self::LeavingRelease => {
                shape("node", Some("cni"), lasts("of the write's flight"))
            }
            Self::MachineReplaced => shape("node", None, lasts("that the old machine lives")),
            Self::NodeReboot => shape("node", None, lasts("until the machine is back")),
            Self::KubeletRestart => shape("node", None, lasts("until the kubelet is back")),
            Self::PowerOffAndBury => shape("node", None, lasts("from power-off to burial")),
            Self::JournalLost | Self::JournalDamaged | Self::JournalTorn | Self::JournalOldCopy => {
                shape("agent", None, lasts("until the agent starts again"))
            }
            Self::JournalFull | Self::JournalReadOnly => shape(
                "agent",
                None,
                lasts("until the journal can be written again"),
            ),
            Self::JournalSlow => shape("agent", None, lasts("of slow writes")),
            Self::PathUnknown => shape("agent", None, lasts("of such looks")),
            Self::CanaryGone => shape("agent", None, lasts("until there is another mark")),
            Self::PathsVanished => shape("agent", None, lasts("until the directory is back")),
            Self::SpoolUnreadable => shape("agent", None, lasts("until it can be listed")),
            Self::SpoolLate => shape("agent", None, lasts("until a notice comes")),
            Self::SpoolGarbage => shape("agent", None, DurationRule::None),
            Self::RuntimeRestart => shape("node", None, lasts("until the runtime is back")),
            Self::RuntimeUnaskable => shape("agent", None, lasts("until it answers the agent")),
            Self::SandboxLost | Self::DelLost => shape("node", None, DurationRule::None),
            Self::ObjectPoisoned => shape("apiserver", None, lasts("until it is mended")),
            Self::ObjectMistyped => shape("apiserver", None, DurationRule::None),
            Self::ObjectNewer => shape("apiserver", None, lasts("of the newer release")),
            Self::CrdChanged => shape("apiserver", None, lasts("until it is as before")),
            Self::TenantAnnotates => shape("node", None, lasts("until the Pod is deleted")),
            Self::ForeignPods => shape("node", None, lasts("until they are deleted")),
        }
    }
}

impl Target {
    /// The key in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Node(_) => "node",
            Self::Apiserver(_) => "apiserver",
            Self::Pod(_) => "pod",
        }
    }

    /// The 0-based index in it.
    pub fn index(self) -> u32 {
        match self {
            Self::Agent(index) | Self::Node(index) | Self::Apiserver(index) | Self::Pod(index) => {
                index
            }
        }
    }
}

impl Trigger {
    /// The key in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::TimeNs(_) => "time-ns",
            Self::PortCall { .. } => "port-call",
            Self::Write { .. } => "write",
            Self::Cni { .. } => "cni",
        }
    }

    /// The node whose calls it counts; none for a time.
    pub fn node(self) -> Option<u32> {
        match self {
            Self::TimeNs(_) => None,
            Self::PortCall { agent, .. } | Self::Write { agent, .. } => Some(agent),
            Self::Cni { node, .. } => Some(node),
        }
    }
}

impl Fault {
    /// Checks the fault against its kind and the world.
    ///
    /// Errors: [`PlanError::Value`] with key paths that begin with `path`.
    pub fn check(&self, path: &str, world: &World) -> Result<(), PlanError> {
        let refuse = |key: &str, found: String, allowed: String| {
            Err(PlanError::Value {
                key: format!("{path}: {key}"),
                found,
                allowed,
            })
        };
        let (kind, shape) = (self.kind.as_str(), self.kind.shape());
        if self.target.name() != shape.target {
            let allowed = format!("a {kind} has the target {}", shape.target);
            return refuse("target", self.target.name().to_owned(), allowed);
        }
        let index_max = match self.target {
            Target::Agent(_) | Target::Node(_) => u64::from(world.nodes) - 1,
            Target::Apiserver(_) => u64::from(world.nodes).min(APISERVERS_MAX) - 1,
            Target::Pod(_) if world.pods == 0 => {
                return refuse(
                    "target.pod",
                    "a Pod".to_owned(),
                    "the world has none".to_owned(),
                );
            }
            Target::Pod(_) => u64::from(world.pods) - 1,
        };
        let target_key = format!("{path}: target.{}", shape.target);
        in_range(&target_key, self.target.index().into(), 0, index_max)?;
        if let Some(trigger) = shape.trigger.filter(|name| *name != self.at.name()) {
            let allowed = format!("a {kind} happens at a {trigger}");
            return refuse("at", self.at.name().to_owned(), allowed);
        }
        self.check_trigger(path, world)?;
        if shape.trigger.is_some() && self.at.node() != Some(self.target.index()) {
            let found = format!("node {}", self.at.node().unwrap_or_default());
            let allowed = format!(
                "a {kind} counts calls on its target, {}",
                self.target.index()
            );
            return refuse("at", found, allowed);
        }
        match (shape.duration, self.duration_ns) {
            (DurationRule::Required(what), None) => {
                let allowed = format!("a {kind} needs the time {what}");
                refuse("duration-ns", "nothing".to_owned(), allowed)
            }
            (DurationRule::None, Some(duration_ns)) => {
                let allowed = format!("a {kind} has no duration");
                refuse("duration-ns", duration_ns.to_string(), allowed)
            }
            (DurationRule::Required(_), Some(duration_ns)) => {
                in_range(&format!("{path}: duration-ns"), duration_ns, 0, TIME_NS_MAX)
            }
            (DurationRule::None, None) => Ok(()),
        }
    }

    fn check_trigger(&self, path: &str, world: &World) -> Result<(), PlanError> {
        let key = |key: &str| format!("{path}: at.{key}");
        let node_max = u64::from(world.nodes) - 1;
        match self.at {
            Trigger::TimeNs(time_ns) => in_range(&key("time-ns"), time_ns, 0, TIME_NS_MAX),
            Trigger::PortCall { agent, call, .. } => {
                in_range(&key("port-call.agent"), agent.into(), 0, node_max)?;
                in_range(&key("port-call.call"), call, 1, COUNT_MAX)
            }
            Trigger::Write { agent, write } => {
                in_range(&key("write.agent"), agent.into(), 0, node_max)?;
                in_range(&key("write.write"), write, 1, COUNT_MAX)
            }
            Trigger::Cni {
                node, call, verb, ..
            } => {
                in_range(&key("cni.node"), node.into(), 0, node_max)?;
                in_range(&key("cni.call"), call, 1, COUNT_MAX)?;
                if self.kind == FaultKind::LinkDeleteFails && verb != CniVerb::Del {
                    return Err(PlanError::Value {
                        key: key("cni.verb"),
                        found: "add".to_owned(),
                        allowed: "a link-delete-fails happens in a del".to_owned(),
                    });
                }
                let releases = [FaultKind::UnknownRelease, FaultKind::LeavingRelease];
                if releases.contains(&self.kind) && verb != CniVerb::Add {
                    return Err(PlanError::Value {
                        key: key("cni.verb"),
                        found: "del".to_owned(),
                        allowed: format!("a fault {} happens in an add", self.kind.as_str()),
                    });
                }
                Ok(())
            }
        }
    }
}
