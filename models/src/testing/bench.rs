//! Some components on a kernel, without a control plane: one apiserver, machines, and what a test
//! puts on them. Nothing happens but what the test does.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::queue::{Queue, TieBreak};
use drydock_engine::stream::Streams;
use drydock_engine::time::SimInstant;

use crate::context::Context;
use crate::event::Event;
use crate::ids::{NodeIndex, PodUid};
use crate::kernel::{Components, Kernel};
use crate::machine::Machine;
use crate::objects::PodSpec;
use crate::observation::Observation;
use crate::parameters::Parameters;
use crate::request::{Answer, NewPod, Request};

/// A kernel, its queue, and components.
pub(crate) struct Bench<P> {
    /// The kernel.
    pub kernel: Kernel,
    /// Its queue.
    pub queue: Queue<Event>,
    /// The components.
    pub parts: P,
    /// What was observed, with its time.
    pub log: Vec<(SimInstant, Observation)>,
    /// Events of nodes and of their CPUs.
    pub node_event_count: u64,
}

impl<P: Components> Bench<P> {
    /// Workers `node-0` and so on, and a machine that carries the apiserver and nothing else.
    pub(crate) fn with_workers(workers: u32, parameters: Parameters, seed: u64, parts: P) -> Self {
        let machines = (0..=workers)
            .map(|index| {
                let name: Rc<str> = format!("node-{index}").into();
                Machine::new(Rc::clone(&name), name, index == workers, &parameters)
            })
            .collect();
        let streams = Streams::new(seed);
        Self {
            kernel: Kernel::new(machines, &[NodeIndex(workers)], parameters, streams),
            queue: Queue::new(TieBreak::Fifo),
            parts,
            log: Vec::new(),
            node_event_count: 0,
        }
    }

    /// Does something to the components.
    pub(crate) fn enter<T>(&mut self, body: impl FnOnce(&mut P, &mut Context<'_>) -> T) -> T {
        let parts = &mut self.parts;
        let result = (self.kernel).enter(&mut self.queue, |context| body(parts, context));
        self.take_notes();
        result
    }

    /// Runs one event.
    pub(crate) fn turn(&mut self) {
        let (_, event) = self.queue.pop().expect("something is queued");
        let is_of_node = matches!(event, Event::Node { .. } | Event::Cpu { .. });
        self.node_event_count += u64::from(is_of_node);
        self.kernel.handle(event, &mut self.queue, &mut self.parts);
        self.take_notes();
    }

    fn take_notes(&mut self) {
        let now = self.queue.now();
        let observed = self.kernel.observed.drain(..);
        self.log
            .extend(observed.map(|observation| (now, observation)));
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.queue.now() + time;
        // A marker moves the clock to the very end.
        self.queue.at(end, Event::Driver { token: 0 });
        while self.queue.peek_at().is_some_and(|at| at <= end) {
            self.turn();
        }
    }

    /// Writes into the store without a call.
    pub(crate) fn install(&mut self, request: &Request) -> Answer {
        self.enter(|_, context| context.api.install(request, &mut context.core))
            .unwrap()
    }

    /// Creates a Pod that is bound to a worker, with labels and a changed spec.
    pub(crate) fn create_bound(
        &mut self,
        name: &str,
        node: u32,
        labels: &[(&str, &str)],
        change: impl FnOnce(&mut PodSpec),
    ) -> PodUid {
        let mut spec = PodSpec {
            host_network: false,
            node_name: Some(format!("node-{node}").into()),
            node_selector: Vec::new(),
            grace: Duration::from_secs(30),
            pull_always: false,
            run: None,
        };
        change(&mut spec);
        let shared = |(key, value): &(&str, &str)| (Rc::from(*key), Rc::from(*value));
        let request = Request::CreatePod(Rc::new(NewPod {
            namespace: "default".into(),
            name: name.into(),
            entity: Streams::entity(name),
            labels: labels.iter().map(shared).collect(),
            annotations: Rc::new([]),
            owner: None,
            spec: Rc::new(spec),
        }));
        let Answer::Pod(pod) = self.install(&request) else {
            panic!("a created Pod is answered")
        };
        pod.uid
    }
}
