//! Who is ready, who holds the baton and who is doomed. It wakes nobody itself: it returns wakers,
//! because a waker may lock this state again.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    mem,
    task::{Poll, Waker},
};

use madsim::runtime::NodeHandle;

use super::{Spin, kill_node};
use crate::{
    hash::keyed64,
    queue::{Lane, TieBreak},
    time::SimInstant,
};

/// What the holder of the baton must do with its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Poll,
    Drop,
}

struct Host {
    name: String,
    lane: Lane,
    incarnation: u32,
    /// `None` while the host is down.
    node: Option<NodeHandle>,
    /// Live tasks of the current incarnation, in the order in which they were spawned.
    tasks: Vec<u32>,
}

struct Task {
    host: u32,
    queued: bool,
    doomed: bool,
    turn: Option<Turn>,
    /// How to make madsim poll the gate; absent until madsim has polled it once.
    gate: Option<Waker>,
}

struct Slot {
    generation: u64,
    task: Option<Task>,
}

pub(super) struct State {
    order: TieBreak,
    now: SimInstant,
    hosts: Vec<Host>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// (key of the order, sequence, slot, its generation).
    ready: BinaryHeap<Reverse<(u64, u64, u32, u64)>>,
    doomed: VecDeque<u32>,
    dead_nodes: Vec<NodeHandle>,
    wakes: u64,
    budget: u64,
    left: u64,
    polls: u64,
    settling: bool,
    spin: Option<Spin>,
    driver: Option<Waker>,
}

impl State {
    pub(super) fn new(order: TieBreak, budget: u64) -> Self {
        Self {
            order,
            now: SimInstant::ZERO,
            hosts: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            ready: BinaryHeap::new(),
            doomed: VecDeque::new(),
            dead_nodes: Vec::new(),
            wakes: 0,
            budget,
            left: budget,
            polls: 0,
            settling: false,
            spin: None,
            driver: None,
        }
    }

    pub(super) fn add_host(&mut self, name: &str, lane: Lane, node: NodeHandle) -> u32 {
        let (name, node) = (name.to_owned(), Some(node));
        self.hosts.push(Host {
            name,
            lane,
            incarnation: 0,
            node,
            tasks: Vec::new(),
        });
        self.hosts.len() as u32 - 1
    }

    pub(super) fn host_name(&self, host: u32) -> &str {
        &self.hosts[host as usize].name
    }

    pub(super) fn now(&self) -> SimInstant {
        self.now
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls
    }

    pub(super) fn live(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn advance(&mut self, now: SimInstant) {
        self.now = now;
        self.left = self.budget;
    }

    pub(super) fn set_budget(&mut self, polls: u64) {
        self.budget = polls;
        self.left = polls;
    }

    pub(super) fn is_killed(&self, host: u32, incarnation: u32) -> bool {
        let host = &self.hosts[host as usize];
        host.incarnation != incarnation || host.node.is_none()
    }

    /// Makes room for a task, unless the incarnation is dead.
    pub(super) fn admit(&mut self, host: u32, incarnation: u32) -> Option<(u32, u64, NodeHandle)> {
        if self.is_killed(host, incarnation) {
            return None;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                task: None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.task = Some(Task {
            host,
            queued: false,
            doomed: false,
            turn: None,
            gate: None,
        });
        let host = &mut self.hosts[host as usize];
        host.tasks.push(index);
        Some((index, slot.generation, host.node.clone()?))
    }

    /// Queues a task that was woken. Returns whether it was queued: one that is done, doomed or
    /// queued already is not.
    pub(super) fn wake(&mut self, index: u32, generation: u64) -> bool {
        let slot = &mut self.slots[index as usize];
        if slot.generation != generation {
            return false;
        }
        let Some(task) = &mut slot.task else {
            return false;
        };
        if task.queued || task.doomed {
            return false;
        }
        task.queued = true;
        let key = match self.order {
            TieBreak::Fifo => 0,
            TieBreak::Keyed { seed } => keyed64(
                seed,
                self.now.as_nanos(),
                self.hosts[task.host as usize].lane.0,
            ),
        };
        self.ready
            .push(Reverse((key, self.wakes, index, generation)));
        self.wakes += 1;
        true
    }

    /// Dooms the tasks of an incarnation; returns whether it was alive.
    pub(super) fn kill(&mut self, host: u32, incarnation: u32) -> Option<()> {
        if self.is_killed(host, incarnation) {
            return None;
        }
        let host = &mut self.hosts[host as usize];
        self.dead_nodes.extend(host.node.take());
        for index in mem::take(&mut host.tasks) {
            let task = self.slots[index as usize].task.as_mut();
            task.expect("a host lists its live tasks").doomed = true;
            self.doomed.push_back(index);
        }
        Some(())
    }

    pub(super) fn restart(&mut self, host: u32, incarnation: u32, node: NodeHandle) -> u32 {
        let host = &mut self.hosts[host as usize];
        assert!(
            host.node.is_none(),
            "host {} is alive: kill it before a restart",
            host.name
        );
        assert!(
            host.incarnation == incarnation,
            "host {} was restarted already",
            host.name
        );
        host.incarnation += 1;
        host.node = Some(node);
        host.incarnation
    }

    pub(super) fn doom_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.kill(host as u32, self.hosts[host].incarnation);
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !(self.ready.is_empty() && self.doomed.is_empty() && self.dead_nodes.is_empty())
    }

    pub(super) fn begin_settle(&mut self, driver: Waker) {
        assert!(!self.settling, "one settling at a time");
        self.settling = true;
        self.spin = None;
        self.driver = Some(driver);
    }

    /// Pending while a task holds the baton.
    pub(super) fn settled(&mut self) -> Poll<Result<(), Spin>> {
        if self.settling {
            return Poll::Pending;
        }
        Poll::Ready(self.spin.take().map_or(Ok(()), Err))
    }

    /// Chooses the next holder of the baton; returns whom to wake.
    pub(super) fn next_turn(&mut self) -> Option<Waker> {
        if let Some(index) = self.doomed.pop_front() {
            return self.grant(index, Turn::Drop);
        }
        for node in self.dead_nodes.drain(..) {
            kill_node(&node);
        }
        while let Some(&Reverse((_, _, index, generation))) = self.ready.peek() {
            let slot = &mut self.slots[index as usize];
            let stale = slot.generation != generation;
            let Some(task) = slot.task.as_mut().filter(|task| !stale && !task.doomed) else {
                self.ready.pop();
                continue;
            };
            if self.left == 0 {
                let host = self.hosts[task.host as usize].name.clone();
                self.spin = Some(Spin {
                    host,
                    at: self.now,
                    polls: self.budget,
                });
                break;
            }
            task.queued = false;
            self.ready.pop();
            self.left -= 1;
            self.polls += 1;
            return self.grant(index, Turn::Poll);
        }
        self.settling = false;
        self.driver.take()
    }

    /// A gate that madsim has not polled yet is already in madsim's ready list and needs no waking.
    fn grant(&mut self, index: u32, turn: Turn) -> Option<Waker> {
        let task = self.slots[index as usize]
            .task
            .as_mut()
            .expect("the baton goes to a live task");
        task.turn = Some(turn);
        task.gate.clone()
    }

    /// Takes the baton, if it was handed to this task, and keeps madsim's waker for the next time.
    pub(super) fn take_turn(&mut self, index: u32, generation: u64, waker: &Waker) -> Option<Turn> {
        let slot = &mut self.slots[index as usize];
        if slot.generation != generation {
            return None;
        }
        let task = slot.task.as_mut()?;
        if !task.gate.as_ref().is_some_and(|gate| gate.will_wake(waker)) {
            task.gate = Some(waker.clone());
        }
        task.turn.take()
    }

    /// Forgets a task that is done or dropped; later wake-ups for it have no effect.
    pub(super) fn retire(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        let task = slot.task.take().expect("a task retires once");
        slot.generation += 1;
        self.free.push(index);
        self.hosts[task.host as usize]
            .tasks
            .retain(|other| *other != index);
    }
}
