//! Processes that belong together: a core that a group of them shares, and the list of those that
//! die with one another.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::ids::IpamCallId;
use crate::process::queueing::Semaphore;
use crate::process::{Port, ProcessId};

/// A CPU limit of one core: one job at a time, first come first served.
#[derive(Clone)]
pub(super) struct OneCore(Semaphore);

impl OneCore {
    /// Nothing runs.
    pub(super) fn new() -> Self {
        Self(Semaphore::new(1))
    }

    /// Uses CPU when its turn has come. The next job is on the core before this one's process
    /// goes on.
    pub(super) async fn run(&self, port: &Port, demand: Duration) {
        let turn = self.0.acquire(port, 1).await;
        assert!(self.0.is_busy(), "a job has the core while it runs");
        port.cpu(demand).await;
        drop(turn);
        port.give_way().await;
    }
}

/// Processes that are killed together: those that serve a CNI request in the order of the
/// requests, after all others.
#[derive(Clone, Default)]
pub(super) struct Group(Rc<RefCell<Members>>);

type Members = BTreeSet<(Option<IpamCallId>, ProcessId)>;

impl Group {
    /// A process belongs to the group for as long as it holds the guard.
    pub(super) fn join(&self, port: &Port, request: Option<IpamCallId>) -> Membership {
        let member = (request, port.id);
        let joined = self.0.borrow_mut().insert(member);
        assert!(joined, "a process joins its group once");
        Membership {
            group: self.clone(),
            member,
        }
    }

    /// Who lives, in the order in which they are killed.
    pub(super) fn members(&self) -> Vec<ProcessId> {
        self.0
            .borrow()
            .iter()
            .map(|(_, process)| *process)
            .collect()
    }
}

/// Being in a group.
pub(super) struct Membership {
    group: Group,
    member: (Option<IpamCallId>, ProcessId),
}

impl Drop for Membership {
    fn drop(&mut self) {
        let left = self.group.0.borrow_mut().remove(&self.member);
        assert!(left, "a member is in the group until it leaves");
    }
}
