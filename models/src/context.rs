//! What a component may touch while it handles an event: what an apiserver may ([`Core`]), and the
//! API. Components never hold references to one another.

use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::apiserver::ApiServers;
use crate::cni::{IpamAnswer, IpamCall, IpamStage, Verb};
use crate::core::Core;
use crate::event::{CpuToken, Event};
use crate::ids::{CallId, ClientId, IpamCallId, NodeIndex, WatchId};
use crate::observation::Observation;
use crate::request::{ClientSpec, ReplyTo, Request, WatchOwner, WatchTarget};

/// What every component but the apiservers gets.
pub struct Context<'a> {
    /// Time, queue, streams, parameters, machines, observations.
    pub core: Core<'a>,
    /// The API.
    pub api: &'a mut ApiServers,
}

impl Context<'_> {
    /// Time of the event being handled.
    pub fn now(&self) -> SimInstant {
        self.core.now
    }

    /// See [`Core::cpu`].
    pub fn cpu(&mut self, node: NodeIndex, demand: Duration, token: CpuToken) {
        self.core.cpu(node, demand, token);
    }

    /// Registers an API client (a process's clientset).
    pub fn client(&mut self, spec: ClientSpec) -> ClientId {
        self.api.client(spec, &mut self.core)
    }

    /// Forgets a client: its process ended or was killed. Calls in flight go on at the server;
    /// their answers reach nobody.
    pub fn drop_client(&mut self, client: ClientId) {
        self.api.drop_client(client, &mut self.core);
    }

    /// Makes an API call. The answer arrives as an event routed by `reply`.
    pub fn call(&mut self, client: ClientId, request: Request, reply: ReplyTo) -> CallId {
        self.api.call(client, request, reply, &mut self.core)
    }

    /// Cancels a call: its answer reaches nobody, and it is not carried out unless etcd has it.
    pub fn cancel(&mut self, call: CallId) {
        self.api.cancel(call, &mut self.core);
    }

    /// Opens a watch from a revision (that of a list just read; 0 = from the current state, with
    /// every object sent as added first).
    pub fn watch(
        &mut self,
        client: ClientId,
        target: WatchTarget,
        from: u64,
        owner: WatchOwner,
    ) -> WatchId {
        self.api.watch(client, target, from, owner, &mut self.core)
    }

    /// Closes a watch; nothing of it is delivered anymore.
    pub fn close_watch(&mut self, watch: WatchId) {
        self.api.close_watch(watch);
    }

    /// Sets a timer of the IPAM under test on a machine.
    pub fn ipam_timer(&mut self, node: NodeIndex, at: SimInstant, token: u64) {
        self.core.queue.at(at, Event::IpamTimer { node, token });
    }

    /// Says what an ADD waits for from now on; of a DEL nothing is recorded.
    pub fn ipam_stage(&mut self, call: &IpamCall, stage: IpamStage) {
        if call.verb == Verb::Add {
            self.core.observe(Observation::IpamStage {
                node: call.node,
                container: call.container,
                pod: call.pod,
                stage,
            });
        }
    }

    /// Ends an IPAM plugin process with its answer, as an event of its own.
    pub fn ipam_exit(&mut self, node: NodeIndex, call: IpamCallId, answer: IpamAnswer) {
        self.core.ipam_answers.insert(call, answer);
        self.core.queue.soon(Event::IpamExit { node, call });
    }
}
