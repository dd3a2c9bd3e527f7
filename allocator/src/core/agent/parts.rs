//! What an agent depends on outside itself, as parts that are there or lost. Adapters look, here it
//! is decided what a change means: who is told, what waits, what is tried again. A part that is
//! lost is said once, when it is lost; it comes back by itself. Nothing is ever freed because a
//! part is lost: what cannot be asked has not said "no".

use super::Agent;
use super::boundary::Output;
use super::host::{Finding, HostPart, PartState};
use crate::core::condition::state_condition;
use crate::core::exchange::Sandbox;
use crate::core::objects::{BerthNode, Condition};
use crate::core::report::LocalError;
use crate::core::time::{BootTime, WallTime};

/// Condition of a `BerthNode`: something that its agent depends on is lost.
pub(super) const CONDITION_LOST: &str = "PartLost";

/// The parts that were looked at, ascending, and since when a list of sandboxes is awaited.
#[derive(Default)]
pub(super) struct Parts {
    known: Vec<PartState>,
    asked_at: Option<BootTime>,
}

impl Parts {
    pub(super) fn states(&self) -> &[PartState] {
        &self.known
    }

    fn lost(&self) -> impl Iterator<Item = (HostPart, &str)> {
        self.known
            .iter()
            .filter_map(|state| Some((state.part, state.lost.as_deref()?)))
    }

    /// Why the part is lost, if it is.
    pub(super) fn why_lost(&self, part: HostPart) -> Option<&str> {
        self.lost()
            .find(|(lost, _)| *lost == part)
            .map(|(_, why)| why)
    }

    /// Takes a finding in; whether the part was lost or came back by it. One that was there from
    /// the first look on did not come back.
    fn note(&mut self, part: HostPart, lost: Option<String>, now: BootTime) -> bool {
        match self.known.binary_search_by_key(&part, |state| state.part) {
            Ok(at) => {
                let state = &mut self.known[at];
                let changed = state.lost.is_some() != lost.is_some();
                if changed {
                    state.since = now;
                }
                state.lost = lost;
                changed
            }
            Err(at) => {
                let changed = lost.is_some();
                let since = now;
                self.known.insert(at, PartState { part, lost, since });
                changed
            }
        }
    }

    fn condition(&self) -> Option<Condition> {
        let (first, _) = self.lost().next()?;
        let count = self.lost().count();
        let texts: Vec<String> = self
            .lost()
            .map(|(part, why)| format!("{}: {why} ({})", part.name(), part.consequence()))
            .collect();
        let reason = match (first, count) {
            (HostPart::Runtime, 1) => "RuntimeLost",
            (HostPart::Namespaces, 1) => "NamespacesLost",
            (HostPart::Spool, 1) => "SpoolLost",
            (HostPart::Journal, 1) => "JournalUnwritable",
            (HostPart::MachineId, 1) => "MachineIdShared",
            (HostPart::Socket, 1) => "SocketLost",
            (HostPart::Plugin, 1) => "PluginLost",
            _ => "PartsLost",
        };
        let message = texts.join("; ");
        Some(Condition::new(CONDITION_LOST, "True", reason, message))
    }

    /// Whether the object says something else than is known now. The words may differ: they change
    /// with each try.
    pub(super) fn differs_from(&self, object: &BerthNode) -> bool {
        let stated = object
            .spec
            .conditions
            .iter()
            .find(|condition| condition.kind == CONDITION_LOST);
        let own = self.condition();
        match (&own, stated) {
            (Some(own), Some(stated)) => own.reason != stated.reason,
            // Nothing was looked at yet: an earlier process may be right.
            (None, Some(_)) => !self.known.is_empty(),
            (own, None) => own.is_some(),
        }
    }

    /// States in an object that is about to be written what is lost.
    pub(super) fn state_in(&self, object: &mut BerthNode, wall: WallTime) {
        let conditions = &mut object.spec.conditions;
        match self.condition() {
            Some(condition) => {
                let condition = condition.observed(object.metadata.generation);
                state_condition(conditions, condition, wall);
            }
            None => conditions.retain(|condition| condition.kind != CONDITION_LOST),
        }
    }
}

impl Agent {
    /// What a look at the parts of the host found. The runtime is asked on the occasion: one that
    /// nobody needs now may be needed next, and then it is late to learn that it is lost.
    pub(super) fn parts_looked_at(&mut self, findings: Vec<Finding>) {
        for (part, found) in findings {
            self.part_found(part, found.err());
        }
        if self.is_loaded() {
            self.mend_journal();
            self.list_sandboxes();
        }
        self.state_parts();
    }

    /// A part is there (`None`) or lost; said when it changes.
    pub(super) fn part_found(&mut self, part: HostPart, lost: Option<String>) {
        let text = match &lost {
            Some(why) => format!("{}: {why}: {}", part.name(), part.consequence()),
            None => format!("{} is back", part.name()),
        };
        let reason = if lost.is_some() {
            "PartLost"
        } else {
            "PartBack"
        };
        if self.parts.note(part, lost, self.now) {
            self.event(reason, text);
            self.state_parts();
        }
    }

    /// Has the object say what is lost: its next read becomes a write.
    fn state_parts(&mut self) {
        if self.stored_node_differs() {
            self.epoch_block_added();
        }
    }

    /// Asks the runtime, unless its answer is awaited already: however many wait for it, and
    /// however long it hangs, one question is under way.
    pub(super) fn list_sandboxes(&mut self) {
        let patience = self.config.policy.runtime_patience;
        let is_asked = self
            .parts
            .asked_at
            .is_some_and(|at| self.now < at + patience);
        if !is_asked {
            self.parts.asked_at = Some(self.now);
            self.out.push(Output::ListSandboxes);
        }
    }

    /// The runtime's sandboxes, or that it cannot be asked, which is not that it has none.
    pub(super) fn runtime_answered(&mut self, list: Result<Vec<Sandbox>, LocalError>) {
        self.parts.asked_at = None;
        let failure = list.as_ref().err().map(ToString::to_string);
        self.part_found(HostPart::Runtime, failure);
        #[cfg(feature = "mutants")]
        let list = if self.is_mutant(crate::core::Mutant::LostRuntimeTakenForEmpty) {
            Ok(list.unwrap_or_default())
        } else {
            list
        };
        self.carry_orders_out(&list);
        self.sandboxes_listed(list);
    }
}
