//! A process as one straight-line `async` function: the compiler makes the state machine that other
//! models write by hand. It knows no peer. Its owner polls it, only from events of the queue: there
//! is no executor, no task, no waker and no clock here.
//!
//! A process waits for CPU, an API call, a watch, a time or another process; what it changes in
//! passing (its stage, its exit, a child) takes effect in order, before that wait begins. Dropping
//! a process kills it where it is: what it holds ([`queueing`]) is released, and its requests to
//! the apiserver continue there unless a guard cancels them ([`guards`]). [`Port::within`] does the
//! same to a part of a process: what that part waits for is given up, and a call is canceled.

mod guards;
mod owner;
mod pipe;
mod port;
pub(crate) mod queueing;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::cni::{IpamAnswer, IpamCall, IpamStage, Verb};
use crate::context::Context;
use crate::event::Event;
use crate::ids::{CallId, ClientId, IpamCallId, NetnsId, NodeIndex, WatchId};
use crate::objects::ResourceVersion;
use crate::observation::Observation;
use crate::request::{ApiError, Change, ClientSpec, ReplyTo, Request, Response, WatchTarget};

pub(crate) use self::owner::Owner;
pub(crate) use self::pipe::{PipeReader, PipeWriter};
pub(crate) use self::port::Port;

/// One process (or one request inside an agent), never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcessId(u32);

/// A process as a value.
pub(crate) type Script = Pin<Box<dyn Future<Output = ()>>>;

/// Why a call returned nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The apiserver, or the way to it.
    Api(ApiError),
    /// The process's own deadline passed; the call may have been carried out.
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
enum Wait {
    Cpu(Duration),
    Call(ClientId, Request),
    /// Over as soon as the call is made.
    Send(ClientId, Request),
    /// The answer of what was sent.
    Answer,
    Until(SimInstant),
    /// Its turn under the kernel's lock around namespaces and links, held for this long.
    NetworkLock(Duration),
    /// Its turn at the one writer of the runtime's store, busy for this long.
    Disk(Duration),
    /// Over at once.
    With(Act),
    /// Answered at once.
    Watch(ClientId, WatchTarget, ResourceVersion, Reader),
    Park(Option<SimInstant>),
}

/// Who gets the changes of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The process that opens it, by [`Port::change`].
    Itself,
    /// The owner of all processes, with a token of its choice.
    Owner(u64),
}

/// What ended a wait.
#[derive(Debug)]
enum Reply {
    Go,
    Sent(CallId, SimInstant),
    Api(Response),
    Opened(WatchId),
    Deadline,
    TimedOut,
}

/// What is done to the world at once, in its turn.
type Act = Box<dyn FnOnce(&mut Context<'_>)>;

/// What takes effect before the next wait.
enum Effect {
    Stage(IpamStage),
    StageOf(Rc<IpamCall>, IpamStage),
    Observe(Observation),
    Soon(Event),
    Post(ClientId, Request),
    Exit(IpamCallId, IpamAnswer),
    Deadline(SimInstant),
    Alarm(SimInstant, u32),
    Spawn(ProcessId, NewProcess),
    LinkDown(NetnsId),
}

/// What a guard releases when it is dropped.
#[derive(Clone, Copy, Debug)]
enum Released {
    Process(ProcessId),
    Call(ProcessId, CallId),
    Client(ClientId),
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
#[derive(Default)]
struct Shared {
    now: Cell<SimInstant>,
    next: Cell<u32>,
    wakes: RefCell<VecDeque<ProcessId>>,
    released: RefCell<VecDeque<Released>>,
}

impl Shared {
    fn next_id(&self) -> ProcessId {
        self.next.set(self.next.get() + 1);
        ProcessId(self.next.get())
    }

    fn release(&self, released: Released) {
        self.released.borrow_mut().push_back(released);
    }
}

#[derive(Default)]
struct State {
    wait: Option<Wait>,
    reply: Option<Reply>,
    effects: VecDeque<Effect>,
    late: bool,
    /// Alarms that are set, and whether they rang.
    alarms: Vec<(u32, bool)>,
    alarms_set: u32,
    /// Changes of its watch that it has not read.
    changes: VecDeque<Change>,
    /// Whether etcd has the write that it waits for, as of this event.
    committing: bool,
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
    flight: Option<Flight>,
    /// The answer to what was sent, before anybody waits for it.
    early: Option<Response>,
    watch: Option<WatchId>,
}

/// A call under way, and the ticket of its answer.
#[derive(Clone, Copy)]
struct Flight {
    call: CallId,
    ticket: u32,
}

/// The kind of wait that a process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Call,
    Answer,
    Park,
    Other,
}

/// All processes of an owner.
pub(crate) struct Processes {
    owner: Owner,
    shared: Rc<Shared>,
    table: Table,
    by_call: BTreeMap<IpamCallId, ProcessId>,
    ready: VecDeque<(ProcessId, Option<Reply>)>,
}

/// Live processes by number. Numbers start at one and are never reused.
#[derive(Default)]
struct Table(Vec<Option<Box<Process>>>);

impl Table {
    fn get(&self, id: ProcessId) -> Option<&Process> {
        self.0.get(id.0 as usize)?.as_deref()
    }

    fn get_mut(&mut self, id: ProcessId) -> Option<&mut Process> {
        self.0.get_mut(id.0 as usize)?.as_deref_mut()
    }

    fn insert(&mut self, id: ProcessId, process: Process) {
        let place = id.0 as usize;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, || None);
        }
        let before = self.0[place].replace(Box::new(process));
        assert!(before.is_none(), "a process begins once");
    }

    fn remove(&mut self, id: ProcessId) -> Option<Box<Process>> {
        self.0.get_mut(id.0 as usize)?.take()
    }

    /// The processes on a machine, in the order in which they started.
    fn on(&self, node: NodeIndex) -> Vec<ProcessId> {
        let all = self.0.iter().zip(0..);
        let there = all.filter(|(process, _)| process.as_ref().is_some_and(|p| p.node == node));
        there.map(|(_, number)| ProcessId(number)).collect()
    }
}

/// Ticket of a process's deadline.
const DEADLINE: u32 = u32::MAX;
/// Marks the ticket of an alarm.
const ALARM: u32 = 1 << 31;

impl Processes {
    /// None yet.
    pub(crate) fn new(owner: Owner) -> Self {
        Self {
            owner,
            shared: Rc::default(),
            table: Table::default(),
            by_call: BTreeMap::new(),
            ready: VecDeque::new(),
        }
    }

    /// Executions that have not answered.
    pub(crate) fn executions(&self) -> usize {
        self.by_call.len()
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
        let dead = self.table.on(node);
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
        let Some(process) = self.table.get_mut(id) else {
            return;
        };
        if ticket == DEADLINE {
            process.state.borrow_mut().late = true;
            if process.waits == Waits::Call {
                process.flight = None;
                self.reply(id, Reply::Deadline, context);
            }
        } else if ticket >= ALARM {
            let mut state = process.state.borrow_mut();
            let set = state.alarms.iter_mut().find(|(set, _)| *set == ticket);
            if let Some((_, rang)) = set {
                *rang = true;
                drop(state);
                self.ready.push_back((id, None));
                self.settle(context);
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
        let Some(process) = self.table.get_mut(id) else {
            return;
        };
        if process
            .flight
            .take_if(|flight| flight.ticket == ticket)
            .is_none()
        {
            return;
        }
        match process.waits {
            Waits::Call | Waits::Answer => self.reply(id, Reply::Api(response), context),
            _ => process.early = Some(response),
        }
    }

    /// The watch of a process delivered a change.
    pub(crate) fn told(
        &mut self,
        token: u64,
        watch: WatchId,
        change: Change,
        context: &mut Context<'_>,
    ) {
        let id = ProcessId((token >> 32) as u32);
        let current = self.table.get_mut(id).filter(|p| p.watch == Some(watch));
        if let Some(process) = current {
            process.state.borrow_mut().changes.push_back(change);
            self.wake(id);
            self.settle(context);
        }
    }

    /// Lets the processes run that were woken from outside.
    pub(crate) fn settle(&mut self, context: &mut Context<'_>) {
        self.shared.now.set(context.now());
        loop {
            self.give_back(context);
            let woken = self.shared.wakes.borrow_mut().pop_front();
            if let Some(id) = woken {
                let parked = self.table.get_mut(id).filter(|p| p.waits == Waits::Park);
                if let Some(process) = parked {
                    process.waits = Waits::Nothing;
                    process.ticket += 1;
                    self.ready.push_back((id, Some(Reply::Go)));
                }
            } else if let Some((id, reply)) = self.ready.pop_front() {
                self.run(id, reply, context);
            } else {
                return;
            }
        }
    }

    /// Wakes a parked process at the next [`Processes::settle`].
    pub(crate) fn wake(&mut self, id: ProcessId) {
        self.shared.wakes.borrow_mut().push_back(id);
    }

    /// Ends a process where it is, at the next [`Processes::settle`] and before any is woken.
    pub(crate) fn kill(&mut self, id: ProcessId) {
        self.shared.release(Released::Process(id));
    }

    fn reply(&mut self, id: ProcessId, reply: Reply, context: &mut Context<'_>) {
        if let Some(process) = self.table.get_mut(id) {
            process.waits = Waits::Nothing;
            process.ticket += 1;
            self.ready.push_back((id, Some(reply)));
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
            flight: None,
            early: None,
            watch: None,
        };
        self.table.insert(id, process);
        self.run(id, None, context);
    }

    /// Runs a process to its next wait, and carries out what it asks for.
    fn run(&mut self, id: ProcessId, mut reply: Option<Reply>, context: &mut Context<'_>) {
        loop {
            let Some(process) = self.table.get_mut(id) else {
                return;
            };
            process.look(context);
            process.state.borrow_mut().reply = reply.take();
            let mut task = std::task::Context::from_waker(Waker::noop());
            let over = process.script.as_mut().poll(&mut task).is_ready();
            self.carry_out(id, context);
            self.give_back(context);
            let Some(process) = self.table.get_mut(id) else {
                return;
            };
            if over {
                process.give_up(context);
                return self.end(id, context);
            }
            let wait = process.state.borrow_mut().wait.take();
            let Some(wait) = wait else {
                assert!(
                    process.waits != Waits::Nothing,
                    "a process that is not over waits for something"
                );
                return;
            };
            process.give_up(context);
            reply = process.begin(id, wait, self.owner, context);
            if reply.is_none() {
                return;
            }
        }
    }

    /// Takes what guards released, in order.
    fn give_back(&mut self, context: &mut Context<'_>) {
        loop {
            let released = self.shared.released.borrow_mut().pop_front();
            match released {
                None => return,
                Some(Released::Process(id)) => self.end(id, context),
                Some(Released::Client(client)) => context.drop_client(client),
                Some(Released::Call(id, call)) => {
                    if let Some(process) = self.table.get_mut(id) {
                        process.flight = None;
                        process.early = None;
                    }
                    context.cancel(call);
                }
            }
        }
    }

    fn carry_out(&mut self, id: ProcessId, context: &mut Context<'_>) {
        loop {
            let Some(process) = self.table.get(id) else {
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
                Effect::Observe(observation) => context.core.observe(observation),
                Effect::Soon(event) => context.core.queue.soon(event),
                Effect::Post(client, request) => {
                    context.call(client, request, ReplyTo::Nobody);
                }
                Effect::Exit(call, answer) => {
                    self.by_call.remove(&call);
                    context.ipam_exit(process.node, call, answer);
                }
                Effect::Deadline(at) => {
                    let token = u64::from(id.0) << 32 | u64::from(DEADLINE);
                    self.owner.timer(process.node, at, token, context);
                }
                Effect::Alarm(at, number) => {
                    let token = u64::from(id.0) << 32 | u64::from(number);
                    self.owner.timer(process.node, at, token, context);
                }
                Effect::Spawn(child, new) => self.begin(child, new, context),
                Effect::LinkDown(netns) => {
                    context.core.change(process.node).link_down(netns);
                }
            }
        }
    }

    /// A process is over: dropping its script releases what it holds, and what its guards end ends
    /// before its own client does.
    fn end(&mut self, id: ProcessId, context: &mut Context<'_>) {
        if let Some(process) = self.table.remove(id) {
            if let Some(call) = &process.call
                && self.by_call.get(&call.id) == Some(&id)
            {
                self.by_call.remove(&call.id);
            }
            let others = std::mem::take(&mut *self.shared.released.borrow_mut());
            process.look(context);
            drop(process.script);
            self.give_back(context);
            let left = self.shared.released.replace(others);
            assert!(left.is_empty(), "what a process gave back is taken");
            if let Some(client) = process.client {
                context.drop_client(client);
            }
        }
    }
}

impl Process {
    /// Checks whether etcd has the write that the process waits for, before the process learns
    /// anything else.
    fn look(&self, context: &mut Context<'_>) {
        let committing = self
            .flight
            .is_some_and(|flight| context.api.is_committing(flight.call));
        self.state.borrow_mut().committing = committing;
    }

    /// If a waiting part was dropped, what it waited for reaches nobody.
    fn give_up(&mut self, context: &mut Context<'_>) {
        if self.waits == Waits::Nothing {
            return;
        }
        self.ticket += 1;
        if self.waits == Waits::Call
            && let Some(flight) = self.flight.take()
        {
            context.cancel(flight.call);
        }
        self.waits = Waits::Nothing;
    }

    fn call(
        &mut self,
        client: ClientId,
        request: Request,
        reply: ReplyTo,
        context: &mut Context<'_>,
    ) -> CallId {
        assert!(self.flight.is_none(), "a process makes one call at a time");
        let call = context.call(client, request, reply);
        let ticket = self.ticket;
        self.flight = Some(Flight { call, ticket });
        call
    }

    /// Begins a wait; returns its reply if it is over at once.
    fn begin(
        &mut self,
        id: ProcessId,
        wait: Wait,
        owner: Owner,
        context: &mut Context<'_>,
    ) -> Option<Reply> {
        assert!(self.ticket < ALARM, "a process waits fewer than 2^31 times");
        let token = u64::from(id.0) << 32 | u64::from(self.ticket);
        self.waits = match wait {
            Wait::Cpu(demand) => {
                context.cpu(self.node, demand, owner.cpu(token));
                Waits::Other
            }
            Wait::Call(client, request) => {
                self.call(client, request, owner.reply(self.node, token), context);
                Waits::Call
            }
            Wait::Send(client, request) => {
                let call = self.call(client, request, owner.reply(self.node, token), context);
                self.ticket += 1;
                let departs = context.api.departure(call);
                return Some(Reply::Sent(call, departs.unwrap_or(context.now())));
            }
            Wait::Answer => {
                if let Some(response) = self.early.take() {
                    return Some(Reply::Api(response));
                }
                assert!(self.flight.is_some(), "an answer follows a call");
                Waits::Answer
            }
            Wait::Disk(time) => {
                let now = context.now();
                let done = context.core.machine(self.node).bbolt.submit(now, time);
                if done == now {
                    return Some(Reply::Go);
                }
                self.until(done, token, owner, context)
            }
            Wait::With(act) => {
                act(context);
                return Some(Reply::Go);
            }
            Wait::Watch(client, target, from, reader) => {
                let token = match reader {
                    Reader::Itself => token,
                    Reader::Owner(of_owner) => of_owner,
                };
                let watch = context.watch(client, target, from, owner.watch(token));
                if let Reader::Itself = reader {
                    self.reads(watch);
                }
                return Some(Reply::Opened(watch));
            }
            Wait::Until(at) => self.until(at, token, owner, context),
            Wait::NetworkLock(time) => {
                let now = context.now();
                let lock = &mut context.core.machine(self.node).network_lock;
                let done = lock.submit(now, time);
                self.until(done, token, owner, context)
            }
            Wait::Park(limit) => {
                if let Some(at) = limit {
                    owner.timer(self.node, at, token, context);
                }
                Waits::Park
            }
        };
        None
    }

    /// From now on the watch's changes are the process's own to read.
    fn reads(&mut self, watch: WatchId) {
        self.state.borrow_mut().changes.clear();
        self.watch = Some(watch);
    }

    fn until(&self, at: SimInstant, token: u64, owner: Owner, context: &mut Context<'_>) -> Waits {
        owner.timer(self.node, at, token, context);
        Waits::Other
    }
}
