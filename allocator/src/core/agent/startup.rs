//! From process start to service: the journal, what the API says, the fences; and the watches.

use super::Agent;
use super::boundary::Output;
use super::errands::{Purpose, StartStep, Watched};
use super::memory::BlockKey;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency, ListQuery, Selection};
use crate::core::objects::{Kind, Object, ObjectKey, block_of_name};

/// How far the agent has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The journal has not been read.
    Opening,
    /// The journal cannot be understood.
    Refused,
    /// The API is being read.
    Loading,
    /// Blocks of earlier processes are being read; no new claims yet.
    Settling,
    /// Every request is served.
    Serving,
}

impl Agent {
    pub(super) fn is_loaded(&self) -> bool {
        !matches!(self.phase, Phase::Opening | Phase::Refused)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub(super) fn refuse_early(&mut self) {
        for (request, probe) in std::mem::take(&mut self.early) {
            self.request(request, probe);
        }
    }

    pub(super) fn startup_step(&mut self, step: StartStep) {
        let node_name = self.config.node_name.clone();
        let list = |kind, consistency, node_name| {
            ApiRequest::List(ListQuery {
                selection: Selection {
                    kind,
                    labels: Vec::new(),
                    node_name,
                },
                consistency,
                limit: 0,
                continue_token: String::new(),
            })
        };
        let request = match step {
            StartStep::Node => ApiRequest::Get(
                ObjectKey::cluster(Kind::Node, node_name),
                Consistency::Quorum,
            ),
            StartStep::Pools => list(Kind::AddressPool, Consistency::Quorum, None),
            StartStep::Reservations => list(Kind::AddressReservation, Consistency::Quorum, None),
            StartStep::BerthNodes => list(Kind::BerthNode, Consistency::Cache, None),
            StartStep::Pods => list(Kind::Pod, Consistency::Cache, Some(node_name)),
            StartStep::Epoch => {
                // After the Node, whose UID it states.
                if !self.loading.contains(&StartStep::Node) {
                    self.read_epoch();
                }
                return;
            }
            StartStep::Spool => {
                self.out.push(Output::ListSpool);
                return;
            }
        };
        self.call(Purpose::Startup(step), request);
    }

    pub(super) fn startup_retry(&mut self, step: StartStep) {
        let entropy = self.draw();
        let pause = self.config.policy.api_retry.pause(2, entropy);
        let at = self.now + pause;
        self.arm(Timer::Startup(step), at);
    }

    pub(super) fn startup_answered(&mut self, step: StartStep, result: Result<ApiReply, ApiError>) {
        let watched = match step {
            StartStep::Pools => Some(Watched::Pools),
            StartStep::Reservations => Some(Watched::Reservations),
            StartStep::BerthNodes => Some(Watched::BerthNodes),
            StartStep::Pods => Some(Watched::Pods),
            StartStep::Node | StartStep::Epoch | StartStep::Spool => None,
        };
        match (result, watched) {
            (Ok(ApiReply::Object(Object::Node(node))), None) => {
                self.node_labels = node.metadata.labels;
                self.node_uid = node.metadata.uid;
            }
            // Nothing else of it is needed.
            (Ok(ApiReply::Object(Object::SetAside(node))), None) => {
                self.node_labels = node.metadata.labels;
                self.node_uid = node.metadata.uid;
            }
            (Err(ApiError::NotFound), None) => {}
            (Ok(ApiReply::Page(page)), Some(watched)) => {
                self.take_list(watched, page.items);
                self.subscribe(watched, page.resource_version);
            }
            (result, _) => {
                let why = result.map_or_else(|error| error.to_string(), |_| "another kind".into());
                self.startup_errors.insert(step, why);
                self.startup_retry(step);
                return;
            }
        }
        self.startup_errors.remove(&step);
        self.startup_done(step);
        if step == StartStep::Node && self.loading.contains(&StartStep::Epoch) {
            self.read_epoch();
        }
    }

    pub(super) fn startup_done(&mut self, step: StartStep) {
        if self.loading.remove(&step) && self.loading.is_empty() && self.phase == Phase::Loading {
            self.begin_settling();
        }
    }

    /// Everything except the blocks is known: restores holdings from the journal, then sets the
    /// fences.
    fn begin_settling(&mut self) {
        self.phase = Phase::Settling;
        self.decide_lost(self.epoch.known_before);
        self.replay();
        let listed = std::mem::take(&mut self.epoch.listed_blocks);
        let named = listed.iter().filter_map(|name| block_of_name(name));
        let named = named.map(|(pool, index)| (pool.to_owned(), index));
        self.inherited.extend(named);
        self.epoch.listed_blocks = listed;
        self.compact_journal();
        self.distrust_inherited();
        let spooled = std::mem::take(&mut self.early_spool);
        self.apply_spool(spooled);
        for (request, probe) in std::mem::take(&mut self.early) {
            self.serve(request, probe);
        }
        let now = self.now;
        self.settle_by = now + self.config.policy.settle_grace;
        self.arm(Timer::SettleGrace, self.settle_by);
        self.arm(Timer::Reassert, now + self.config.policy.reassert);
    }

    /// Fences blocks of earlier processes, those whose pool is known.
    pub(super) fn distrust_inherited(&mut self) {
        let known: Vec<_> = self
            .inherited
            .iter()
            .filter_map(|(pool, index)| {
                let id = *self.pool_ids.get(pool)?;
                self.pools.get(&id)?.pool.as_ref()?;
                Some((
                    (pool.clone(), *index),
                    BlockKey {
                        pool: id,
                        index: *index,
                    },
                ))
            })
            .collect();
        for (entry, key) in known {
            self.inherited.remove(&entry);
            self.distrust(key);
        }
    }

    /// Starts serving once every block of an earlier process was read, or could have been. Which
    /// blocks those are must be known: in an unnamed one, a claim could hit the record that a lost
    /// entry bound.
    pub(super) fn serve_when_settled(&mut self) {
        let mut blocks = self.blocks.values();
        let is_read = blocks.all(|block| block.trusted || !block.stale);
        if (is_read || self.now >= self.settle_by) && self.lost.is_surveyed() {
            self.begin_serving();
        }
    }

    fn begin_serving(&mut self) {
        assert_eq!(self.phase, Phase::Settling, "service begins once");
        self.phase = Phase::Serving;
        self.disarm(&Timer::SettleGrace);
        self.touched_pods.extend(self.pods.keys().cloned());
        self.touched_blocks.extend(self.blocks.keys().copied());
        self.settle();
    }
}
