//! What runs a world: the API, the machines, and all that a context shows of them; and the way of
//! what concerns nobody in particular: CPU that was served, answers and watches of the API. The
//! components belong to whoever owns the kernel: the cluster, or a test.

use std::collections::BTreeMap;

use drydock_engine::queue::Queue;
use drydock_engine::stream::Streams;

use crate::apiserver::{ApiServers, Delivery};
use crate::cni::IpamAnswer;
use crate::context::Context;
use crate::core::Core;
use crate::event::{ApiEvent, CpuToken, Event};
use crate::ids::{IpamCallId, NodeIndex, WatchId};
use crate::machine::Machine;
use crate::observation::Observation;
use crate::parameters::Parameters;
use crate::request::{Change, ReplyTo, Response, WatchOwner};

/// Those to whom a kernel hands events.
pub(crate) trait Components {
    /// An event of the components' own.
    fn event(&mut self, event: Event, context: &mut Context<'_>);
    /// CPU that a component asked for was served. Never the API's.
    fn cpu_done(&mut self, node: NodeIndex, token: CpuToken, context: &mut Context<'_>);
    /// A call ended.
    fn respond(&mut self, reply: ReplyTo, response: Response, context: &mut Context<'_>);
    /// A watch brought a change.
    fn notify(
        &mut self,
        owner: WatchOwner,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    );
}

/// All of a world but its components and its queue.
pub(crate) struct Kernel {
    pub(crate) api: ApiServers,
    /// By [`NodeIndex`], dead and replaced ones included.
    pub(crate) machines: Vec<Machine>,
    pub(crate) parameters: Parameters,
    pub(crate) streams: Streams,
    /// Facts that nobody has taken yet, in order.
    pub(crate) observed: Vec<Observation>,
    ipam_answers: BTreeMap<IpamCallId, IpamAnswer>,
    /// Scratch space.
    cpu_done: Vec<CpuToken>,
}

impl Kernel {
    /// A world of these machines, with an apiserver on each of the given ones.
    pub(crate) fn new(
        machines: Vec<Machine>,
        masters: &[NodeIndex],
        parameters: Parameters,
        streams: Streams,
    ) -> Self {
        let mut api = ApiServers::new(masters, &parameters, &streams);
        for (index, machine) in machines.iter().enumerate() {
            api.set_node(machine.node_name.clone(), NodeIndex(index as u32));
        }
        Self {
            api,
            machines,
            parameters,
            streams,
            observed: Vec::new(),
            ipam_answers: BTreeMap::new(),
            cpu_done: Vec::new(),
        }
    }

    /// Runs a closure with a context at the present instant.
    pub(crate) fn enter<R>(
        &mut self,
        queue: &mut Queue<Event>,
        run: impl FnOnce(&mut Context<'_>) -> R,
    ) -> R {
        let core = Core {
            now: queue.now(),
            queue,
            streams: &self.streams,
            parameters: &self.parameters,
            machines: &mut self.machines,
            observed: &mut self.observed,
            ipam_answers: &mut self.ipam_answers,
        };
        run(&mut Context {
            core,
            api: &mut self.api,
        })
    }

    /// Hands an event to whom it concerns.
    pub(crate) fn handle(
        &mut self,
        event: Event,
        queue: &mut Queue<Event>,
        components: &mut impl Components,
    ) {
        match event {
            Event::Cpu { node, generation } => {
                let mut done = std::mem::take(&mut self.cpu_done);
                self.enter(queue, |context| {
                    wake_core(node, generation, &mut done, context);
                    for token in done.drain(..) {
                        match token {
                            CpuToken::Api(call) => context.api.cpu_done(call, &mut context.core),
                            CpuToken::Nobody => {}
                            token => components.cpu_done(node, token, context),
                        }
                    }
                });
                self.cpu_done = done;
            }
            Event::Api(event) => self.enter(queue, |context| deliver(event, components, context)),
            event => self.enter(queue, |context| components.event(event, context)),
        }
    }
}

/// The cores of a machine reach their next completion.
fn wake_core(
    node: NodeIndex,
    generation: u64,
    done: &mut Vec<CpuToken>,
    context: &mut Context<'_>,
) {
    let now = context.now();
    let cpu = &mut context.core.machine(node).cpu;
    if let Some(wake) = cpu.wake(now, generation, done) {
        let event = Event::Cpu {
            node,
            generation: wake.generation,
        };
        context.core.queue.at(wake.at, event);
    }
}

fn deliver(event: ApiEvent, components: &mut impl Components, context: &mut Context<'_>) {
    match context.api.handle(event, &mut context.core) {
        Delivery::Nothing => {}
        Delivery::Response(reply, response) => components.respond(reply, response, context),
        Delivery::Changes(owner, watch, changes) => {
            for change in changes {
                components.notify(owner, watch, change, context);
            }
        }
    }
}
