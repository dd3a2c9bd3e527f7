//! The boundary between the cluster and an IPAM: what its processes are asked and told, what its
//! records say, what faults strike it. Implemented by the peers and, outside this crate, by the
//! adapter of the allocator under test. What a CNI plugin is asked is in [`crate::cni`].

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::apiserver::ApiServers;
use crate::cni::{Assigned, IpamCall, NodeChange};
use crate::context::Context;
use crate::ids::{ContainerId, IpamCallId, NodeIndex, PodUid, WatchId};
use crate::request::{Change, Response};

/// An IPAM: its plugin executions, node processes and controllers. One value serves the whole
/// cluster; every call names the machine it concerns.
///
/// Time passes only through the context: CPU ([`Context::cpu`]), API calls ([`Context::call`]),
/// timers ([`Context::ipam_timer`]). Each [`IpamCall`] must be answered by exactly one
/// [`Context::ipam_exit`], unless the process was killed before ([`Ipam::killed`]).
pub trait Ipam {
    /// Name as on the command line.
    fn name(&self) -> &'static str;
    /// Whether it is the cluster's network plugin itself: the runtime executes it directly, with
    /// no multus and no macvlan, a call is the whole plugin, and a deadline kills that process.
    /// Otherwise it is the IPAM of macvlan behind multus, and outlives their death as an orphan.
    fn is_network_plugin(&self) -> bool {
        false
    }
    /// Whether a further plugin of it is chained behind macvlan ([`Ipam::chained`]).
    fn is_chained(&self) -> bool {
        false
    }
    /// Before the workload: install objects, start processes. Runs at time zero.
    fn start(&mut self, context: &mut Context<'_>);
    /// The workload starts once this is true (pools approved, agents serving).
    fn ready(&self) -> bool;
    /// The plugin was executed on a node; its exec is not yet paid for.
    fn call(&mut self, call: IpamCall, context: &mut Context<'_>);
    /// Its chained plugin was executed: after macvlan's ADD, before macvlan's DEL. It ends with
    /// [`Context::ipam_exit`] like the other one; its addresses are ignored.
    fn chained(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let addresses = Vec::new();
        context.ipam_exit(call.node, call.id, Ok(Assigned { addresses }));
    }
    /// A plugin process was killed by its parent's deadline; it answers no more. What it asked
    /// of others (an agent, the apiserver) goes on.
    fn killed(&mut self, node: NodeIndex, call: IpamCallId, context: &mut Context<'_>);
    /// An API call made with `ReplyTo::Ipam` ended.
    fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>);
    /// A watch opened with `WatchOwner::Ipam` delivered.
    fn watch(&mut self, token: u64, watch: WatchId, change: Change, context: &mut Context<'_>);
    /// A timer fired.
    fn timer(&mut self, node: NodeIndex, token: u64, context: &mut Context<'_>);
    /// CPU asked for with `CpuToken::Ipam` was served.
    fn cpu_done(&mut self, node: NodeIndex, token: u64, context: &mut Context<'_>);
    /// The machine's truth changed (a namespace appeared or went, a sandbox came or went, the
    /// machine stopped or booted): an IPAM that watches directories is woken here.
    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, context: &mut Context<'_>);
    /// A fault strikes the IPAM's own processes. An IPAM without such processes has none.
    fn inject(&mut self, fault: IpamFault, context: &mut Context<'_>) {
        let _ = (fault, context);
    }
    /// Every address that its records hold now, the node's own (routers, tunnels, health checks)
    /// left out: read from where its own processes would look first, the store or their memory.
    /// For the outside only.
    fn allocated(&self, api: &ApiServers) -> Vec<Allocated>;
    /// Totals that only it knows, by name; they end in the run record.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
    /// Positions in the fault plan of the triggers that fired since the last look.
    fn triggered(&mut self) -> Vec<u32> {
        Vec::new()
    }
    /// Processes of the IPAM on a machine that are not running now.
    fn is_down(&self, node: NodeIndex) -> bool {
        let _ = node;
        false
    }
    /// After asynchronous code ran: turn what it asked for into events. Models have nothing here.
    fn after_tasks(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }
}

/// An address that an allocator's own records hold: what it would not give to anybody else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allocated {
    /// The address.
    pub address: IpAddr,
    /// For whom it is held.
    pub holder: AllocatedTo,
}

/// For whom an allocator's record holds an address: by what the record itself is found again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllocatedTo {
    /// A sandbox: the next sandbox of the same Pod gets another address.
    Sandbox(ContainerId),
    /// A Pod: its next sandbox gets the same address.
    Pod(PodUid),
    /// A Pod, to its end: which of its sandboxes has the address, or whether one has, is not known
    /// anymore.
    PodToItsEnd(PodUid),
    /// Whatever Pod has this namespace and name, from its creation on.
    PodName(Rc<str>, Rc<str>),
    /// A workload object, which keeps it for its next Pod.
    Workload,
    /// Nobody of this run: it was there before.
    Former,
}

/// A fault of an IPAM's own processes, by machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum IpamFault {
    /// The node agent dies and starts again after a while.
    KillAgent {
        /// Machine.
        node: NodeIndex,
        /// Until it starts again.
        restart_after: Duration,
    },
    /// Tell ([`Ipam::triggered`]) when the node agent makes its n-th port call.
    ArmPortCall {
        /// Machine.
        node: NodeIndex,
        /// 1-based count of its port calls.
        call: u64,
        /// Before the call, or after it.
        before: bool,
        /// Position in the plan.
        fault: u32,
        /// Kill the agent there, until it starts again after this long.
        kill: Option<Duration>,
    },
    /// No port call is waited for anymore.
    DisarmPortCalls,
    /// The operator states that the machine is off.
    Bury {
        /// Machine.
        node: NodeIndex,
    },
    /// Something on the machine that the node agent relies on is out of order from now on; what
    /// only happens (a file that is gone) has no end.
    Trouble {
        /// Machine.
        node: NodeIndex,
        /// What.
        trouble: Trouble,
        /// Position in the fault plan.
        fault: u32,
        /// Decides what a plan does not say: which byte, which looks.
        draw: u64,
    },
    /// The end of a trouble.
    Relief {
        /// Machine.
        node: NodeIndex,
        /// Position of the trouble in the fault plan.
        fault: u32,
    },
}

/// What can be out of order beside a node agent, or in the objects that it reads. Its journal is
/// the file in which it writes down what it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Trouble {
    /// The journal's file is gone.
    JournalLost,
    /// Bytes in the middle of the journal are others.
    JournalDamaged,
    /// The next append writes a part of its entry, and the agent dies in it.
    JournalTorn {
        /// Until it starts again.
        restart_after: Duration,
    },
    /// An earlier copy of the journal stands in its place.
    JournalOldCopy,
    /// Appends fail: the disk is full.
    JournalFull,
    /// Nothing can be written.
    JournalReadOnly,
    /// A write takes seconds.
    JournalSlow,
    /// Looks at paths of namespaces, some or all, show nothing.
    PathUnknown,
    /// The agent's mark in the directory of namespaces is gone, and cannot be recreated.
    CanaryGone,
    /// The directory of namespaces is an empty one in the agent's view.
    PathsVanished,
    /// The spool cannot be listed.
    SpoolUnreadable,
    /// No notice tells of a change in the spool, and a list of it takes seconds.
    SpoolLate,
    /// What lies in the spool is garbage.
    SpoolGarbage,
    /// The runtime's list fails or hangs, while it serves its kubelet.
    RuntimeUnaskable,
    /// A stored object of the IPAM's cannot be read.
    ObjectPoisoned,
    /// There is one more object, and it cannot be read.
    ObjectMistyped,
    /// Stored objects have fields or a schema of a newer release.
    ObjectNewer,
    /// Writes, lists or watches of one kind of object are refused.
    CrdChanged,
    /// A Pod of the machine names a pool that is not for it.
    TenantAnnotates,
    /// Pods of the machine never ask the IPAM.
    ForeignPods,
}
