//! What an apiserver may touch while it handles an event: time, queue, streams, parameters, the
//! machines' truth. It does not hold the API itself; [`crate::context`] adds it for all others.

use std::collections::BTreeMap;
use std::time::Duration;

use drydock_engine::queue::Queue;
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::cni::IpamAnswer;
use crate::event::{CpuToken, Event};
use crate::ids::{IpamCallId, NodeIndex};
use crate::machine::{Change, Machine};
use crate::observation::Observation;
use crate::parameters::Parameters;

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
    pub ipam_answers: &'a mut BTreeMap<IpamCallId, IpamAnswer>,
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

    /// The machine at an index, to change what is true of it and to say so.
    pub fn change(&mut self, node: NodeIndex) -> Change<'_> {
        Change {
            node,
            now: self.now,
            machine: &mut self.machines[node.index()],
            observed: self.observed,
            queue: self.queue,
        }
    }

    /// The machine at an index.
    pub fn machine(&mut self, node: NodeIndex) -> &mut Machine {
        &mut self.machines[node.index()]
    }
}
