//! What a component may touch while it handles an event: time, queue, streams, parameters, the
//! machines' truth, the API. Components never hold references to one another.

use std::time::Duration;

use drydock_engine::queue::Queue;
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::apiserver::ApiServers;
use crate::cni::{IpamAnswer, IpamCall, IpamStage, Verb};
use crate::event::{CpuToken, Event};
use crate::ids::{CallId, ClientId, IpamCallId, NodeIndex, WatchId};
use crate::machine::Machine;
use crate::observation::Observation;
use crate::parameters::Parameters;
use crate::request::{ClientSpec, ReplyTo, Request, WatchOwner, WatchTarget};

/// Everything but the API: what the apiservers themselves may touch.
pub struct Core<'a> {
    /// Time of the event being handled.
    pub now: SimInstant,
    /// The queue.
    pub queue: &'a mut Queue<Event>,
    /// Keyed random streams.
    pub streams: &'a Streams,
    /// Constants.
    pub parameters: &'a Parameters,
    /// Machines by [`NodeIndex`].
    pub machines: &'a mut Vec<Machine>,
    /// Facts observed while handling this event, in order.
    pub observed: &'a mut Vec<Observation>,
    /// Answers of IPAM processes on their way to exit.
    pub ipam_answers: &'a mut std::collections::BTreeMap<IpamCallId, IpamAnswer>,
}

/// What every component but the apiservers gets.
pub struct Context<'a> {
    /// Time, queue, streams, parameters, machines, observations.
    pub core: Core<'a>,
    /// The API.
    pub api: &'a mut ApiServers,
}

impl Core<'_> {
    /// Schedules an event after a delay.
    pub fn after(&mut self, delay: Duration, event: Event) {
        self.queue.after(delay, event);
    }

    /// Records a fact.
    pub fn observe(&mut self, observation: Observation) {
        self.observed.push(observation);
    }

    /// Asks a machine's cores for CPU time; `token` is served when it was used.
    /// Units: `demand` is CPU time on one core. A demand of zero is served at once, as an event.
    pub fn cpu(&mut self, node: NodeIndex, demand: Duration, token: CpuToken) {
        let wake = self.machines[node.index()]
            .cpu
            .submit(self.now, demand, token);
        if let Some(wake) = wake {
            self.queue.at(
                wake.at,
                Event::Cpu {
                    node,
                    generation: wake.generation,
                },
            );
        }
    }

    /// The machine at an index.
    pub fn machine(&mut self, node: NodeIndex) -> &mut Machine {
        &mut self.machines[node.index()]
    }
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

    /// Registers an API client (a process' clientset).
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

    /// Closes a watch; nothing of it is delivered any more.
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
