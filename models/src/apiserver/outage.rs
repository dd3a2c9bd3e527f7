//! Outages: an apiserver that goes and comes back, a machine that is cut off, a cache that lags, a
//! disk that is slow. Each changes state and ends watches; what becomes of a call is in `call`.
//! None draws.

use std::time::Duration;

use crate::core::Core;
use crate::event::{ApiEvent, Event};
use crate::ids::NodeIndex;
use crate::request::ApiError;

use super::ApiServers;
use super::call::Stage;

impl ApiServers {
    /// An apiserver process ends: its connections break, watches close. Writes that etcd has go
    /// on. With `down`, it serves again after that time; else when it is started.
    pub fn stop_server(&mut self, server: usize, down: Option<Duration>, core: &mut Core<'_>) {
        let state = &mut self.servers[server];
        state.up = false;
        state.outage += 1;
        state.flow.reset();
        let outage = state.outage;
        let broken = |stage: Stage| matches!(stage, Stage::Queued | Stage::Cpu | Stage::Etcd);
        for call in self
            .calls
            .matching(|call| call.server == server && broken(call.stage))
        {
            self.reset(call, core);
        }
        for watch in self.watches.matching(|watcher| watcher.server == server) {
            self.end_watch(watch, ApiError::Unavailable { unknown: false }, core);
        }
        if let Some(down) = down {
            core.after(
                down,
                Event::Api(ApiEvent::Ready {
                    server: server as u32,
                    outage,
                }),
            );
        }
    }

    /// Starts an apiserver that is down; it serves after its start time.
    pub fn start_server(&mut self, server: usize, core: &mut Core<'_>) {
        let outage = self.servers[server].outage;
        let span = core.parameters.api.start_time;
        let time = core
            .streams
            .stream(
                "apiserver",
                (server as u64) << 32 | u64::from(outage),
                "start time",
            )
            .duration(span.min..=span.max);
        core.after(
            time,
            Event::Api(ApiEvent::Ready {
                server: server as u32,
                outage,
            }),
        );
    }

    pub(super) fn ready(&mut self, server: usize, outage: u32, core: &mut Core<'_>) {
        let revision = self.store.revision();
        let state = &mut self.servers[server];
        if state.outage != outage || state.up {
            return;
        }
        state.up = true;
        // The watch cache is filled anew: nothing before this revision can be watched from here.
        state.floor = revision;
        state.last_visible = core.now;
        state.frozen_until = core.now;
    }

    /// etcd forgets every state before the present one, and so do the watch caches.
    pub fn compact(&mut self) {
        self.store.compact();
        for server in &mut self.servers {
            server.floor = self.store.revision();
        }
    }

    /// Whether an apiserver serves.
    pub fn serves(&self, server: usize) -> bool {
        self.servers[server].up
    }

    /// An etcd member goes or comes back. Without a quorum, writes wait.
    pub fn set_member(&mut self, member: usize, up: bool, core: &mut Core<'_>) {
        self.etcd.set_member(member, up);
        if self.etcd.has_quorum()
            && let Some(generation) = self.etcd.stalled.take()
        {
            core.queue.soon(Event::Api(ApiEvent::Fsync { generation }));
        }
    }

    /// Cuts a machine off all apiservers: packets vanish in both directions.
    pub fn cut(&mut self, node: NodeIndex, core: &mut Core<'_>) {
        let link = self.links.of(node);
        if link.cut {
            return;
        }
        link.cut = true;
        link.cuts += 1;
        let cut = link.cuts;
        let dead = core.parameters.client.h2_dead;
        core.after(dead, Event::Api(ApiEvent::ConnectionsDead { node, cut }));
    }

    /// Ends a cut. Watches that were not yet found dead deliver what they missed.
    pub fn heal(&mut self, node: NodeIndex, core: &mut Core<'_>) {
        let now = core.now;
        let link = self.links.of(node);
        if !link.cut {
            return;
        }
        link.cut = false;
        link.healed_at = Some(now);
        for watch in self.watches.matching(|watcher| watcher.node == node) {
            self.arm_watch(watch, core);
        }
    }

    /// Whether a machine is cut off.
    pub fn cut_off(&self, node: NodeIndex) -> bool {
        self.links.is_cut(node)
    }

    pub(super) fn connections_dead(&mut self, node: NodeIndex, cut: u32, core: &mut Core<'_>) {
        let link = *self.links.of(node);
        if !link.cut || link.cuts != cut {
            return;
        }
        for watch in self.watches.matching(|watcher| watcher.node == node) {
            self.end_watch(watch, ApiError::Unavailable { unknown: false }, core);
        }
    }

    /// An apiserver's watch cache gets no news for a while: its cached reads and watches lag.
    pub fn freeze_cache(&mut self, server: usize, time: Duration, core: &mut Core<'_>) {
        let state = &mut self.servers[server];
        state.frozen_until = state.frozen_until.max(core.now + time);
    }

    /// Every sync of etcd's log takes longer for a while.
    pub fn slow_disk(&mut self, by: Duration, time: Duration, core: &mut Core<'_>) {
        self.etcd.slow(by, core.now + time);
    }
}
