//! Questions that an agent has out, and what each was for: an answer finds its errand by the number
//! that went with the question. What is done with the answer is in the rooms that asked.

use super::Agent;
use super::boundary::Output;
use super::memory::{BlockKey, PoolId};
use crate::core::api::{ApiError, ApiReply, ApiRequest, CallId};
use crate::core::exchange::{Attachment, Probe, ProbeId, RequestId};
use crate::core::objects::{BerthNode, Kind, Uid};
use crate::core::time::BootTime;

/// What a request to the apiserver was for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Startup(StartStep),
    Epoch {
        sent: BootTime,
        planned: Option<Box<BerthNode>>,
    },
    BlockRead(BlockKey),
    BlockWrite(BlockKey),
    PoolCheck(PoolId),
    Search(PoolId),
    PodOfAdd(RequestId),
    Namespace(String),
    NodeLabels,
    Relist(Watched),
    RemovePod(Uid),
    Survey,
}

/// What a look at a path was for.
#[derive(Clone, Debug)]
pub(super) enum ProbePurpose {
    BeforeReply(RequestId),
    Release(Attachment),
    Sweep(Attachment),
    Order(Attachment),
}

/// What must be known before the blocks are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StartStep {
    Node,
    Pools,
    Reservations,
    BerthNodes,
    Pods,
    Epoch,
    Spool,
}

impl StartStep {
    pub(super) const ALL: [Self; 7] = [
        Self::Node,
        Self::Pools,
        Self::Reservations,
        Self::BerthNodes,
        Self::Pods,
        Self::Epoch,
        Self::Spool,
    ];
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watched {
    Pools,
    Reservations,
    BerthNodes,
    Pods,
    /// Blocks of a pool that may have room: only while claims wait in an exhausted pool.
    Room(PoolId),
}

impl Watched {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Pools => Kind::AddressPool,
            Self::Reservations => Kind::AddressReservation,
            Self::BerthNodes => Kind::BerthNode,
            Self::Pods => Kind::Pod,
            Self::Room(_) => Kind::AddressBlock,
        }
    }
}

impl Agent {
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn call(&mut self, purpose: Purpose, request: ApiRequest) {
        let call = CallId(self.next_id());
        self.calls.insert(call, purpose);
        self.out.push(Output::Call { call, request });
    }

    pub(super) fn probe(&mut self, purpose: ProbePurpose, path: &str) {
        let probe = ProbeId(self.next_id());
        self.probes.insert(probe, purpose);
        self.out.push(Output::Probe {
            probe,
            path: path.to_owned(),
        });
    }

    pub(super) fn api_answered(&mut self, call: CallId, result: Result<ApiReply, ApiError>) {
        #[cfg(feature = "mutants")]
        let result = match result {
            Ok(reply)
                if self.is_mutant(crate::core::Mutant::AllOrNothingDecode)
                    && reply.shows_set_aside() =>
            {
                Err(crate::core::set_aside::whole_answer_unreadable())
            }
            result => result,
        };
        let Some(purpose) = self.calls.remove(&call) else {
            return;
        };
        match purpose {
            Purpose::Startup(step) => self.startup_answered(step, result),
            Purpose::Epoch { sent, planned } => self.epoch_answered(sent, planned, result),
            Purpose::BlockRead(block) => self.block_read(block, result),
            Purpose::BlockWrite(block) => self.block_written(block, result),
            Purpose::PoolCheck(pool) => self.pool_checked(pool, &result),
            Purpose::Search(pool) => self.search_answered(pool, result),
            Purpose::PodOfAdd(request) => self.pod_of_add_read(request, result),
            Purpose::Namespace(name) => self.namespace_read(&name, result),
            Purpose::NodeLabels => self.node_read(result),
            Purpose::Relist(watched) => self.relisted(watched, result),
            Purpose::RemovePod(uid) => self.pod_removed(&uid, result),
            Purpose::Survey => self.surveyed(result),
        }
    }

    pub(super) fn probed(&mut self, probe: ProbeId, result: Probe) {
        match self.probes.remove(&probe) {
            Some(ProbePurpose::BeforeReply(id)) => self.probed_before_reply(id, result),
            Some(ProbePurpose::Release(attachment)) => self.release_probed(&attachment, result),
            Some(ProbePurpose::Sweep(attachment)) => self.sweep_probed(&attachment, result),
            Some(ProbePurpose::Order(attachment)) => self.order_probed(&attachment, result),
            None => {}
        }
    }
}
