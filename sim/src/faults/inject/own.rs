//! Strikes what Berth relies on beside an apiserver that answers: its journal, the paths of
//! namespaces, the spool, the runtime, DELs, what others write into objects and Pods, and that a
//! Pod which leaves does not ask. What the trouble does is the adapter's.

use drydock_engine::Streams;
use drydock_models::cluster::{Action, Injected};
use drydock_models::ids::NodeIndex;
use drydock_models::ipam::{IpamFault, Trouble};
use drydock_traces::plan::{Fault, FaultKind};

use super::{Hands, Hindrance, Injector, State, duration};

/// Whether the agent dies as the fault strikes.
pub(super) fn kills(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::AgentKill
            | FaultKind::JournalLost
            | FaultKind::JournalDamaged
            | FaultKind::JournalOldCopy
    )
}

/// Who cannot act while it lasts.
pub(super) fn whom(kind: FaultKind, node: NodeIndex) -> Hindrance {
    match kind {
        // What is in an object that cannot be read, or written, is everybody's.
        FaultKind::ApiserverRestart
        | FaultKind::ObjectPoisoned
        | FaultKind::ObjectNewer
        | FaultKind::CrdChanged => Hindrance::All,
        // Others do with their Pods what they like, and nothing stops for it.
        FaultKind::TenantAnnotates | FaultKind::ForeignPods => Hindrance::Nobody,
        _ => Hindrance::Node(node),
    }
}

/// What is out of order, where it is something of the agent's own.
fn trouble(fault: &Fault) -> Option<Trouble> {
    Some(match fault.kind {
        FaultKind::JournalLost => Trouble::JournalLost,
        FaultKind::JournalDamaged => Trouble::JournalDamaged,
        FaultKind::JournalTorn => Trouble::JournalTorn {
            restart_after: duration(fault),
        },
        FaultKind::JournalOldCopy => Trouble::JournalOldCopy,
        FaultKind::JournalFull => Trouble::JournalFull,
        FaultKind::JournalReadOnly => Trouble::JournalReadOnly,
        FaultKind::JournalSlow => Trouble::JournalSlow,
        FaultKind::PathUnknown => Trouble::PathUnknown,
        FaultKind::CanaryGone => Trouble::CanaryGone,
        FaultKind::PathsVanished => Trouble::PathsVanished,
        FaultKind::SpoolUnreadable => Trouble::SpoolUnreadable,
        FaultKind::SpoolLate => Trouble::SpoolLate,
        FaultKind::SpoolGarbage => Trouble::SpoolGarbage,
        FaultKind::RuntimeUnaskable => Trouble::RuntimeUnaskable,
        FaultKind::ObjectPoisoned => Trouble::ObjectPoisoned,
        FaultKind::ObjectMistyped => Trouble::ObjectMistyped,
        FaultKind::ObjectNewer => Trouble::ObjectNewer,
        FaultKind::CrdChanged => Trouble::CrdChanged,
        FaultKind::TenantAnnotates => Trouble::TenantAnnotates,
        FaultKind::ForeignPods => Trouble::ForeignPods,
        _ => return None,
    })
}

impl Injector {
    /// Strikes a kind that knows Berth's own things, if there are such. Returns whether it did.
    pub(super) fn strike_own(&mut self, index: usize, hands: &mut Hands<'_>) -> bool {
        let fault = self.plan.faults[index];
        let node = self.target_machine(index);
        if !self.roles.own_things || !hands.is_up(node) {
            return self.void(index);
        }
        let hinders = whom(fault.kind, node);
        match fault.kind {
            FaultKind::RuntimeRestart => {
                let down = duration(&fault);
                if hands.tell(&Action::StopContainerd { node, down }) == Injected::Nothing {
                    return self.void(index);
                }
                self.begins(index, hinders, hands);
            }
            FaultKind::SandboxLost => {
                let pick = self.draw_of(index);
                if hands.tell(&Action::LoseSandbox { node, pick }) == Injected::Nothing {
                    return self.void(index);
                }
                self.states[index] = State::Fired;
            }
            FaultKind::LeavingRelease => return self.release(index, None, hands),
            FaultKind::DelLost => {
                hands.act(&Action::SkipDel(node));
                self.states[index] = State::Fired;
            }
            FaultKind::SpoolGarbage | FaultKind::ObjectMistyped => {
                self.begin_trouble(index, hands);
                self.states[index] = State::Fired;
            }
            FaultKind::JournalTorn => {
                // It fires at the append in which the agent dies.
                self.begin_trouble(index, hands);
                self.armed_appends.insert(index);
            }
            kind => {
                if kills(kind) && !hands.cluster.ipam().is_down(node) {
                    hands.ipam(IpamFault::KillAgent {
                        node,
                        restart_after: duration(&fault),
                    });
                }
                self.begin_trouble(index, hands);
                self.begins(index, hinders, hands);
            }
        }
        true
    }

    /// Lets the trouble of a fault begin, where it has one.
    pub(super) fn begin_trouble(&self, index: usize, hands: &mut Hands<'_>) {
        if let Some(trouble) = trouble(&self.plan.faults[index]) {
            hands.ipam(IpamFault::Trouble {
                node: self.target_machine(index),
                trouble,
                fault: index as u32,
                draw: self.draw_of(index),
            });
        }
    }

    /// Ends the trouble of a fault, where it has one.
    pub(super) fn end_trouble(&self, index: usize, hands: &mut Hands<'_>) {
        if trouble(&self.plan.faults[index]).is_some() {
            hands.ipam(IpamFault::Relief {
                node: self.struck_machine(index),
                fault: index as u32,
            });
        }
    }

    /// What decides of a fault that its plan does not say; another fault more or less in the plan
    /// behind it changes nothing.
    fn draw_of(&self, index: usize) -> u64 {
        let streams = Streams::new(self.plan.seed.0);
        streams.stream("storm", index as u64, "trouble").u64()
    }
}
