//! A process's own side: how it acts and waits. What carries that out is its owner's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::cni::{IpamAnswer, IpamCall, IpamStage};
use crate::context::Context;
use crate::event::Event;
use crate::ids::{ClientId, IpamCallId, NetnsId, WatchId};
use crate::objects::ResourceVersion;
use crate::observation::Observation;
use crate::request::{Answer, Change, Request, WatchTarget};

use super::{
    CallError, Effect, NewProcess, ProcessId, Reader, Released, Reply, Shared, State, Wait,
};

/// The process's side: how it acts and waits.
#[derive(Clone)]
pub(crate) struct Port {
    /// Itself.
    pub(crate) id: ProcessId,
    pub(super) client: Option<ClientId>,
    pub(super) shared: Rc<Shared>,
    pub(super) state: Rc<RefCell<State>>,
}

impl Port {
    /// The time.
    pub(crate) fn now(&self) -> SimInstant {
        self.shared.now.get()
    }

    /// Uses CPU on its machine.
    pub(crate) async fn cpu(&self, demand: Duration) {
        if !demand.is_zero() {
            self.wait(Wait::Cpu(demand)).await;
        }
    }

    /// Takes its turn on a core, be the demand nothing.
    pub(crate) async fn turn(&self, demand: Duration) {
        self.wait(Wait::Cpu(demand)).await;
    }

    /// Sleeps.
    pub(crate) async fn sleep(&self, time: Duration) {
        if !time.is_zero() {
            self.wait(Wait::Until(self.now() + time)).await;
        }
    }

    /// Sleeps until an instant; one that has come is an event of its own, after those of now.
    pub(crate) async fn sleep_until(&self, at: SimInstant) {
        self.wait(Wait::Until(at.max(self.now()))).await;
    }

    /// Works under its machine's lock around namespaces and links, when its turn has come.
    pub(crate) async fn network_lock(&self, time: Duration) {
        self.wait(Wait::NetworkLock(time)).await;
    }

    /// Writes to the store of its machine's runtime, when its turn has come.
    pub(crate) async fn disk(&self, time: Duration) {
        self.wait(Wait::Disk(time)).await;
    }

    /// Lets those run first that were woken before.
    pub(crate) async fn give_way(&self) {
        self.wake(self.id);
        self.park().await;
    }

    /// Waits until another process wakes it; it may wake for nothing.
    pub(crate) async fn park(&self) {
        self.wait(Wait::Park(None)).await;
    }

    /// Like [`Port::park`], at most until an instant; false when that came first.
    pub(crate) async fn park_until(&self, limit: SimInstant) -> bool {
        if limit <= self.now() {
            return false;
        }
        !matches!(self.wait(Wait::Park(Some(limit))).await, Reply::TimedOut)
    }

    /// Wakes a process that is parked; nothing happens to any other.
    pub(crate) fn wake(&self, process: ProcessId) {
        self.shared.wakes.borrow_mut().push_back(process);
    }

    /// Makes an API call with its own client.
    /// Errors: the apiserver's, or the process's deadline.
    pub(crate) async fn call(&self, request: Request) -> Result<Answer, CallError> {
        self.call_as(self.client(), request).await
    }

    /// Makes an API call with a client that it shares with others.
    /// Errors: as [`Port::call`].
    pub(crate) async fn call_as(
        &self,
        client: ClientId,
        request: Request,
    ) -> Result<Answer, CallError> {
        if self.state.borrow().late {
            return Err(CallError::Deadline);
        }
        match self.wait(Wait::Call(client, request)).await {
            Reply::Api(response) => response.map_err(CallError::Api),
            _ => Err(CallError::Deadline),
        }
    }

    /// Does something to the world, or looks at it, at once and after what was asked for before.
    pub(crate) async fn with<T: 'static>(
        &self,
        act: impl FnOnce(&mut Context<'_>) -> T + 'static,
    ) -> T {
        let result = Rc::new(Cell::new(None));
        let into = result.clone();
        let act = Box::new(move |context: &mut Context<'_>| into.set(Some(act(context))));
        self.wait(Wait::With(act)).await;
        result.take().expect("what is done at once has its result")
    }

    /// Opens a watch from a revision (0 = from the current state), at once. One that the process
    /// reads itself stands in place of any that it had.
    pub(crate) async fn watch(
        &self,
        client: ClientId,
        target: WatchTarget,
        from: ResourceVersion,
        reader: Reader,
    ) -> WatchId {
        let opens = Wait::Watch(client, target, from, reader);
        match self.wait(opens).await {
            Reply::Opened(watch) => watch,
            reply => unreachable!("a watch is opened at once: {reply:?}"),
        }
    }

    /// The next change that its own watch brings; `None` when that was closed.
    pub(crate) async fn change(&self) -> Option<Change> {
        loop {
            let change = self.state.borrow_mut().changes.pop_front();
            match change {
                Some(Change::Closed(_)) => return None,
                Some(change) => return Some(change),
                None => self.park().await,
            }
        }
    }

    /// Its own client, for the processes and watches that share it.
    pub(crate) fn client(&self) -> ClientId {
        self.client.expect("a process that calls has a client")
    }

    /// Makes an API call whose answer nobody reads.
    pub(crate) fn post(&self, client: ClientId, request: Request) {
        self.effect(Effect::Post(client, request));
    }

    /// From an instant on, its calls fail: a context with a deadline.
    pub(crate) fn set_deadline(&self, at: SimInstant) {
        self.effect(Effect::Deadline(at));
    }

    /// Says what the ADD that it serves waits for.
    pub(crate) fn stage(&self, stage: IpamStage) {
        self.effect(Effect::Stage(stage));
    }

    /// Records a fact.
    pub(crate) fn observe(&self, observation: Observation) {
        self.effect(Effect::Observe(observation));
    }

    /// Queues an event of now, after those that are queued.
    pub(crate) fn soon(&self, event: Event) {
        self.effect(Effect::Soon(event));
    }

    /// Says what another process' ADD waits for.
    pub(crate) fn stage_of(&self, call: &Rc<IpamCall>, stage: IpamStage) {
        self.effect(Effect::StageOf(call.clone(), stage));
    }

    /// Ends an execution of the plugin with its answer.
    pub(crate) fn exit(&self, call: IpamCallId, answer: IpamAnswer) {
        self.effect(Effect::Exit(call, answer));
    }

    /// Starts another process.
    pub(crate) fn spawn(&self, new: NewProcess) -> ProcessId {
        let id = self.shared.next_id();
        self.effect(Effect::Spawn(id, new));
        id
    }

    /// Ends another process where it stands.
    pub(crate) fn kill(&self, process: ProcessId) {
        self.shared.release(Released::Process(process));
    }

    /// Deletes the interface in a namespace of its machine.
    pub(crate) fn link_down(&self, netns: NetnsId) {
        self.effect(Effect::LinkDown(netns));
    }

    pub(super) fn effect(&self, effect: Effect) {
        self.state.borrow_mut().effects.push_back(effect);
    }

    pub(super) async fn wait(&self, wait: Wait) -> Reply {
        self.state.borrow_mut().wait = Some(wait);
        std::future::poll_fn(|_| match self.state.borrow_mut().reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await
    }
}
