//! How an agent stands, for metrics and health. Nothing is decided by it.

use std::collections::BTreeMap;

use super::Agent;
use super::host::PartState;
use super::memory::Hold;
use super::startup::Phase;
use crate::core::identity::EpochId;
use crate::core::objects::{Kind, ObjectKey};
use crate::core::time::BootTime;

/// How an agent stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentState {
    /// Open for ADDs.
    pub is_serving: bool,
    /// The journal is open and took the last entry.
    pub is_journal_ok: bool,
    /// The number of the incarnation; 0: the object states none yet.
    pub epoch: u64,
    /// When the last request that showed the incarnation live was sent; zero: never.
    pub epoch_shown_at: BootTime,
    /// Units: ADDs that wait for their answer.
    pub adds_waiting: u64,
    /// Units: claims for an ordinal that are not settled.
    pub claims_waiting: u64,
    /// Units: ordinals reserved for Pods without an answered ADD.
    pub ordinals_unbound: u64,
    /// Units: ordinals of answered ADDs.
    pub ordinals_bound: u64,
    /// Units: ordinals whose DEL was seen.
    pub ordinals_releasing: u64,
    /// Units: ordinals whose attachment a lost journal knew.
    pub ordinals_lost: u64,
    /// Units: blocks in memory whose content is not to be believed before the next write.
    pub blocks_distrusted: u64,
    /// Units: pools where claims wait and nothing is free.
    pub pools_exhausted: u64,
    /// Units: tombstones.
    pub tombstones: u64,
    /// Units: requests to the apiserver without an answer.
    pub calls_in_flight: u64,
    /// Units: objects that are there and cannot be read.
    pub set_aside: BTreeMap<Kind, u64>,
    /// What keeps the agent from serving or from being sure of itself, for people.
    pub waits_for: Vec<String>,
    /// What was looked at outside the process, ascending by part.
    pub parts: Vec<PartState>,
    /// The journal of this boot was lost, and not every record is explained yet.
    pub is_journal_lost: bool,
    /// Units: attachments whose DEL is long past and that wait for the runtime's answer.
    pub releases_overdue: u64,
}

impl Agent {
    fn waits_for(&self) -> Vec<String> {
        let own = ObjectKey::cluster(Kind::BerthNode, self.identity());
        let steps = self.startup_errors.iter();
        steps
            .map(|(step, error)| format!("{step:?}: {error}"))
            .chain(self.set_aside.get(&own).map(ToString::to_string))
            .collect()
    }

    /// How the agent stands.
    pub fn state(&self) -> AgentState {
        let mut state = AgentState {
            is_serving: self.phase == Phase::Serving,
            is_journal_ok: self.journal_ok && self.is_loaded(),
            epoch: self.epoch.id().map_or(0, EpochId::number),
            epoch_shown_at: self.epoch.shown_live_at(self.config.policy.epoch_valid),
            adds_waiting: self.adds.len() as u64,
            claims_waiting: self.claims.len() as u64,
            tombstones: self.tombstones.len() as u64,
            calls_in_flight: self.calls.len() as u64,
            parts: self.parts.states().to_vec(),
            is_journal_lost: self.lost.is_marked(),
            releases_overdue: self.sweep.overdue_count() as u64,
            ..AgentState::default()
        };
        for holding in self.holdings.values() {
            *match &holding.state {
                Hold::Unbound => &mut state.ordinals_unbound,
                Hold::Lost => &mut state.ordinals_lost,
                Hold::Attached(attachment) if self.is_releasing(attachment) => {
                    &mut state.ordinals_releasing
                }
                Hold::Attached(_) => &mut state.ordinals_bound,
            } += 1;
        }
        state.set_aside = self.set_aside_counts();
        state.waits_for = self.waits_for();
        state.blocks_distrusted = self.blocks.values().filter(|b| !b.trusted).count() as u64;
        let pools = self.pools.values();
        state.pools_exhausted = pools.filter(|p| p.search.is_exhausted()).count() as u64;
        state
    }
}
