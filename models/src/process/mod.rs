//! A process as one straight-line `async` function: the compiler makes the state machine that other
//! models write by hand. It knows no peer. Its owner polls it, from events of the queue alone:
//! there is no executor, no task, no waker and no clock in here.
//!
//! A process waits for CPU, an API call, a time or another process; what it changes in passing
//! (its stage, its exit, a child) takes effect in order, before that wait begins. Dropping a
//! process kills it where it stands: what it holds ([`queueing`]) is given back, what it asked of
//! the apiserver goes on there.

pub(crate) mod queueing;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::cni::{IpamAnswer, IpamCall, IpamStage, Verb};
use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{ClientId, IpamCallId, NetnsId, NodeIndex, WatchId};
use crate::objects::ResourceVersion;
use crate::request::{
    Answer, ApiError, ClientSpec, ReplyTo, Request, Response, WatchOwner, WatchTarget,
};

/// One process (or one request inside an agent), never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(u32);

/// A process as a value.
pub(crate) type Script = Pin<Box<dyn Future<Output = ()>>>;

/// Why a call brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The apiserver, or the way to it.
    Api(ApiError),
    /// The process' own deadline passed; the call may have been carried out.
    Deadline,
}

impl CallError {
    /// The object is not there.
    pub(crate) fn is_not_found(self) -> bool {
        self == CallError::Api(ApiError::NotFound)
    }

    /// A compare-and-swap was lost.
    pub(crate) fn is_conflict(self) -> bool {
        self == CallError::Api(ApiError::Conflict)
    }
}

/// What a process waits for.
#[derive(Debug)]
enum Wait {
    Cpu(Duration),
    Call(ClientId, Request),
    Until(SimInstant),
    /// Its turn under the kernel's lock around namespaces and links, held for so long.
    NetworkLock(Duration),
    /// Answered at once.
    Watch(ClientId, WatchTarget, u64, u64),
    Park(Option<SimInstant>),
}

/// What ended a wait.
#[derive(Debug)]
enum Reply {
    Go,
    Api(Response),
    Opened(WatchId),
    Deadline,
    TimedOut,
}

/// What takes effect before the next wait.
enum Effect {
    Stage(IpamStage),
    StageOf(Rc<IpamCall>, IpamStage),
    Post(ClientId, Request),
    Exit(IpamCallId, IpamAnswer),
    Deadline(SimInstant),
    Spawn(ProcessId, NewProcess),
    LinkDown(NetnsId),
    Watch(NewWatch),
}

/// A watch to open.
struct NewWatch {
    client: ClientId,
    target: WatchTarget,
    from: ResourceVersion,
    owner: WatchOwner,
    opened: Rc<Cell<Option<WatchId>>>,
}

/// A process to start.
pub(crate) struct NewProcess {
    pub(crate) node: NodeIndex,
    /// The execution that it serves, for stages.
    pub(crate) call: Option<Rc<IpamCall>>,
    /// A client of its own, which ends with it.
    pub(crate) client: Option<ClientSpec>,
    /// What it does.
    pub(crate) script: Box<dyn FnOnce(Port) -> Script>,
}

/// What all processes of one owner share.
#[derive(Clone)]
struct Shared {
    now: Rc<Cell<SimInstant>>,
    next: Rc<Cell<u32>>,
    wakes: Rc<RefCell<VecDeque<ProcessId>>>,
    kills: Rc<RefCell<VecDeque<ProcessId>>>,
}

impl Shared {
    fn next_id(&self) -> ProcessId {
        self.next.set(self.next.get() + 1);
        ProcessId(self.next.get())
    }
}

#[derive(Default)]
struct State {
    wait: Option<Wait>,
    reply: Option<Reply>,
    effects: VecDeque<Effect>,
    late: bool,
}

/// The process' side: how it acts and waits.
#[derive(Clone)]
pub(crate) struct Port {
    /// Itself.
    pub(crate) id: ProcessId,
    client: Option<ClientId>,
    shared: Shared,
    state: Rc<RefCell<State>>,
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
    /// Errors: the apiserver's, or the process' deadline.
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

    /// Its own client, for the processes and watches that share it.
    pub(crate) fn client(&self) -> ClientId {
        self.client.expect("a process that calls has a client")
    }

    /// Makes an API call whose answer nobody reads.
    pub(crate) fn post(&self, client: ClientId, request: Request) {
        self.effect(Effect::Post(client, request));
    }

    /// Opens a watch from a revision; what it delivers goes to the owner, with the token.
    pub(crate) async fn open_watch(
        &self,
        client: ClientId,
        target: WatchTarget,
        from: u64,
        token: u64,
    ) -> WatchId {
        match self.wait(Wait::Watch(client, target, from, token)).await {
            Reply::Opened(watch) => watch,
            reply => unreachable!("a watch is opened at once: {reply:?}"),
        }
    }

    /// From an instant on, its calls fail: a context with a deadline.
    pub(crate) fn set_deadline(&self, at: SimInstant) {
        self.effect(Effect::Deadline(at));
    }

    /// Says what the ADD that it serves waits for.
    pub(crate) fn stage(&self, stage: IpamStage) {
        self.effect(Effect::Stage(stage));
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
        self.shared.kills.borrow_mut().push_back(process);
    }

    /// Deletes the interface in a namespace of its machine.
    pub(crate) fn link_down(&self, netns: NetnsId) {
        self.effect(Effect::LinkDown(netns));
    }

    /// Opens a watch with a client; which one it is will stand in `opened` before the wait begins.
    pub(crate) fn watch(
        &self,
        client: ClientId,
        target: WatchTarget,
        from: ResourceVersion,
        owner: WatchOwner,
        opened: &Rc<Cell<Option<WatchId>>>,
    ) {
        self.effect(Effect::Watch(NewWatch {
            client,
            target,
            from,
            owner,
            opened: opened.clone(),
        }));
    }

    fn effect(&self, effect: Effect) {
        self.state.borrow_mut().effects.push_back(effect);
    }

    async fn wait(&self, wait: Wait) -> Reply {
        self.state.borrow_mut().wait = Some(wait);
        std::future::poll_fn(|_| match self.state.borrow_mut().reply.take() {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        })
        .await
    }
}

/// What the owner keeps of a process.
struct Process {
    node: NodeIndex,
    call: Option<Rc<IpamCall>>,
    client: Option<ClientId>,
    state: Rc<RefCell<State>>,
    script: Script,
    ticket: u32,
    waits: Waits,
}

/// The kind of wait that a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Call,
    Park,
    Other,
}

/// All processes of a peer.
pub(crate) struct Processes {
    shared: Shared,
    table: BTreeMap<ProcessId, Process>,
    by_call: BTreeMap<IpamCallId, ProcessId>,
    ready: VecDeque<(ProcessId, Reply)>,
}

/// Ticket of a process' deadline.
const DEADLINE: u32 = u32::MAX;

impl Processes {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            shared: Shared {
                now: Rc::new(Cell::new(SimInstant::ZERO)),
                next: Rc::new(Cell::new(0)),
                wakes: Rc::default(),
                kills: Rc::default(),
            },
            table: BTreeMap::new(),
            by_call: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// Starts a process and runs it to its first wait.
    pub(crate) fn start(&mut self, new: NewProcess, context: &mut Context<'_>) -> ProcessId {
        let id = self.shared.next_id();
        self.begin(id, new, context);
        self.settle(context);
        id
    }

    /// Starts the process that was executed for a call, so that [`Processes::killed`] finds it.
    pub(crate) fn execute(&mut self, new: NewProcess, context: &mut Context<'_>) {
        let id = self.shared.next_id();
        let call = new.call.as_ref().map(|call| call.id);
        self.by_call
            .insert(call.expect("an execution has its call"), id);
        self.begin(id, new, context);
        self.settle(context);
    }

    /// The process of a call is killed.
    pub(crate) fn killed(&mut self, call: IpamCallId, context: &mut Context<'_>) {
        if let Some(id) = self.by_call.remove(&call) {
            self.end(id, context);
            self.settle(context);
        }
    }

    /// Every process on a machine is dead.
    pub(crate) fn kill_node(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let dead: Vec<ProcessId> = (self.table.iter())
            .filter(|(_, process)| process.node == node)
            .map(|(id, _)| *id)
            .collect();
        self.kill_all(dead, context);
    }

    /// Some processes are killed, in this order.
    pub(crate) fn kill_all(
        &mut self,
        dead: impl IntoIterator<Item = ProcessId>,
        context: &mut Context<'_>,
    ) {
        for id in dead {
            self.end(id, context);
        }
        self.settle(context);
    }

    /// A timer of a process fired, or CPU was served to it.
    pub(crate) fn resume(&mut self, token: u64, context: &mut Context<'_>) {
        let (id, ticket) = (ProcessId((token >> 32) as u32), token as u32);
        let Some(process) = self.table.get_mut(&id) else {
            return;
        };
        if ticket == DEADLINE {
            process.state.borrow_mut().late = true;
            if process.waits == Waits::Call {
                self.reply(id, Reply::Deadline, context);
            }
        } else if ticket == process.ticket {
            let reply = if process.waits == Waits::Park {
                Reply::TimedOut
            } else {
                Reply::Go
            };
            self.reply(id, reply, context);
        }
    }

    /// A call of a process ended.
    pub(crate) fn response(&mut self, token: u64, response: Response, context: &mut Context<'_>) {
        let (id, ticket) = (ProcessId((token >> 32) as u32), token as u32);
        let current = self
            .table
            .get(&id)
            .is_some_and(|process| process.ticket == ticket && process.waits == Waits::Call);
        if current {
            self.reply(id, Reply::Api(response), context);
        }
    }

    /// Lets the processes run that were woken from outside.
    pub(crate) fn settle(&mut self, context: &mut Context<'_>) {
        self.shared.now.set(context.now());
        loop {
            let killed = self.shared.kills.borrow_mut().pop_front();
            if let Some(id) = killed {
                self.end(id, context);
                continue;
            }
            let woken = self.shared.wakes.borrow_mut().pop_front();
            if let Some(id) = woken {
                let parked = self.table.get_mut(&id).filter(|p| p.waits == Waits::Park);
                if let Some(process) = parked {
                    process.waits = Waits::Nothing;
                    process.ticket += 1;
                    self.ready.push_back((id, Reply::Go));
                }
            } else if let Some((id, reply)) = self.ready.pop_front() {
                self.run(id, Some(reply), context);
            } else {
                return;
            }
        }
    }

    /// Wakes a parked process at the next [`Processes::settle`].
    pub(crate) fn wake(&mut self, id: ProcessId) {
        self.shared.wakes.borrow_mut().push_back(id);
    }

    /// Ends a process where it stands, at the next [`Processes::settle`] and before any is woken.
    pub(crate) fn kill(&mut self, id: ProcessId) {
        self.shared.kills.borrow_mut().push_back(id);
    }

    fn reply(&mut self, id: ProcessId, reply: Reply, context: &mut Context<'_>) {
        if let Some(process) = self.table.get_mut(&id) {
            process.waits = Waits::Nothing;
            process.ticket += 1;
            self.ready.push_back((id, reply));
            self.settle(context);
        }
    }

    fn begin(&mut self, id: ProcessId, new: NewProcess, context: &mut Context<'_>) {
        self.shared.now.set(context.now());
        let client = new.client.map(|spec| context.client(spec));
        let state = Rc::new(RefCell::new(State::default()));
        let port = Port {
            id,
            client,
            shared: self.shared.clone(),
            state: state.clone(),
        };
        let process = Process {
            node: new.node,
            call: new.call,
            client,
            state,
            script: (new.script)(port),
            ticket: 0,
            waits: Waits::Nothing,
        };
        self.table.insert(id, process);
        self.run(id, None, context);
    }

    /// Polls a process once, and carries out what it asks for.
    fn run(&mut self, id: ProcessId, reply: Option<Reply>, context: &mut Context<'_>) {
        let Some(process) = self.table.get_mut(&id) else {
            return;
        };
        process.state.borrow_mut().reply = reply;
        let mut task = std::task::Context::from_waker(Waker::noop());
        let over = process.script.as_mut().poll(&mut task).is_ready();
        self.carry_out(id, context);
        if over {
            return self.end(id, context);
        }
        let Some(process) = self.table.get_mut(&id) else {
            return;
        };
        let wait = process.state.borrow_mut().wait.take();
        let token = u64::from(id.0) << 32 | u64::from(process.ticket);
        let node = process.node;
        process.waits = match wait.expect("a process that is not over waits for something") {
            Wait::Cpu(demand) => {
                context.cpu(node, demand, CpuToken::Ipam(token));
                Waits::Other
            }
            Wait::Call(client, request) => {
                context.call(client, request, ReplyTo::Ipam { token });
                Waits::Call
            }
            Wait::Until(at) => {
                context.ipam_timer(node, at, token);
                Waits::Other
            }
            Wait::NetworkLock(time) => {
                let now = context.now();
                let done = context.core.machine(node).network_lock.submit(now, time);
                context.ipam_timer(node, done, token);
                Waits::Other
            }
            Wait::Watch(client, target, from, token) => {
                let watch = context.watch(client, target, from, WatchOwner::Ipam { token });
                return self.run(id, Some(Reply::Opened(watch)), context);
            }
            Wait::Park(limit) => {
                if let Some(at) = limit {
                    context.ipam_timer(node, at, token);
                }
                Waits::Park
            }
        };
    }

    fn carry_out(&mut self, id: ProcessId, context: &mut Context<'_>) {
        loop {
            let Some(process) = self.table.get(&id) else {
                return;
            };
            let Some(effect) = process.state.borrow_mut().effects.pop_front() else {
                return;
            };
            match effect {
                Effect::Stage(stage) => {
                    let add = process.call.as_ref().filter(|call| call.verb == Verb::Add);
                    if let Some(call) = add {
                        context.ipam_stage(call, stage);
                    }
                }
                Effect::StageOf(call, stage) => context.ipam_stage(&call, stage),
                Effect::Post(client, request) => {
                    context.call(client, request, ReplyTo::Nobody);
                }
                Effect::Exit(call, answer) => {
                    self.by_call.remove(&call);
                    context.ipam_exit(process.node, call, answer);
                }
                Effect::Deadline(at) => {
                    let token = u64::from(id.0) << 32 | u64::from(DEADLINE);
                    context.ipam_timer(process.node, at, token);
                }
                Effect::Spawn(child, new) => self.begin(child, new, context),
                Effect::LinkDown(netns) => {
                    context.core.change(process.node).link_down(netns);
                }
                Effect::Watch(new) => {
                    let watch = context.watch(new.client, new.target, new.from, new.owner);
                    new.opened.set(Some(watch));
                }
            }
        }
    }

    /// A process is over: what it holds is given back as its script is dropped.
    fn end(&mut self, id: ProcessId, context: &mut Context<'_>) {
        if let Some(process) = self.table.remove(&id) {
            self.by_call.retain(|_, other| *other != id);
            drop(process.script);
            if let Some(client) = process.client {
                context.drop_client(client);
            }
        }
    }
}
