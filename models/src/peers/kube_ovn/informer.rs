//! Names as numbers, the copy of the Pods that a process keeps by list and watch, and what a watch
//! delivers until its reader comes for it. It asks the API for nothing; its process does.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::ids::{NodeIndex, WatchId};
use crate::objects::Pod;
use crate::process::{Port, ProcessId};
use crate::request::Change;

/// `namespace/name` of Pods as numbers, for all processes alike.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: BTreeMap<(Rc<str>, Rc<str>), u32>,
    names: Vec<(Rc<str>, Rc<str>)>,
}

impl Names {
    /// The number of a name.
    pub(super) fn number(&mut self, namespace: &Rc<str>, name: &Rc<str>) -> u32 {
        let full = (namespace.clone(), name.clone());
        if let Some(number) = self.numbers.get(&full) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(full.clone());
        self.numbers.insert(full, number);
        number
    }

    /// Namespace and name of a number.
    pub(super) fn full(&self, number: u32) -> (Rc<str>, Rc<str>) {
        self.names[number as usize].clone()
    }
}

/// What became of a Pod.
#[derive(Clone, Debug)]
pub(super) enum Delta {
    /// It is new, or another than before.
    Changed {
        name: u32,
        added: bool,
        pod: Rc<Pod>,
    },
    /// It is gone.
    Gone(Rc<Pod>),
}

/// The Pods of the cluster, or of one node.
#[derive(Debug, Default)]
pub(super) struct Pods {
    pub(super) view: BTreeMap<u32, Rc<Pod>>,
    /// It has listed once.
    pub(super) synced: bool,
}

impl Pods {
    /// A list replaces the copy; what differs, in the order of names.
    pub(super) fn listed(&mut self, pods: Vec<Rc<Pod>>, names: &mut Names) -> Vec<Delta> {
        let mut next = BTreeMap::new();
        for pod in pods {
            next.insert(names.number(&pod.namespace, &pod.name), pod);
        }
        let before = std::mem::take(&mut self.view);
        let mut deltas = Vec::new();
        for (name, pod) in before {
            match next.get(&name) {
                Some(new) if new.uid == pod.uid => {
                    self.view.insert(name, pod);
                }
                _ => deltas.push(Delta::Gone(pod)),
            }
        }
        for (name, pod) in next {
            deltas.extend(self.put(name, pod));
        }
        self.synced = true;
        deltas
    }

    fn put(&mut self, name: u32, pod: Rc<Pod>) -> Option<Delta> {
        let before = self.view.insert(name, pod.clone());
        if before
            .as_ref()
            .is_some_and(|before| before.resource_version == pod.resource_version)
        {
            return None;
        }
        let added = before.is_none_or(|before| before.uid != pod.uid);
        Some(Delta::Changed { name, added, pod })
    }

    /// A watch event.
    pub(super) fn changed(&mut self, change: Change, names: &mut Names) -> Option<Delta> {
        match change {
            Change::Pod(pod) => {
                let name = names.number(&pod.namespace, &pod.name);
                self.put(name, pod)
            }
            Change::PodGone(pod) => {
                let name = names.number(&pod.namespace, &pod.name);
                if self.view.get(&name).is_some_and(|seen| seen.uid == pod.uid) {
                    self.view.remove(&name);
                }
                Some(Delta::Gone(pod))
            }
            _ => None,
        }
    }
}

/// What a watch is about; the node of a daemon stands above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    ControllerPods,
    ControllerIps,
    DaemonPods(NodeIndex),
    DaemonSubnets(NodeIndex),
}

impl Watched {
    pub(super) fn token(self) -> u64 {
        match self {
            Watched::ControllerPods => 0,
            Watched::ControllerIps => 1,
            Watched::DaemonPods(node) => 2 | u64::from(node.0) << 2,
            Watched::DaemonSubnets(node) => 3 | u64::from(node.0) << 2,
        }
    }

    pub(super) fn of(token: u64) -> Watched {
        let node = NodeIndex((token >> 2) as u32);
        match token & 3 {
            0 => Watched::ControllerPods,
            1 => Watched::ControllerIps,
            2 => Watched::DaemonPods(node),
            _ => Watched::DaemonSubnets(node),
        }
    }
}

/// What a watch has delivered and its reader has not read.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    open: Cell<Option<(WatchId, ProcessId)>>,
    changes: RefCell<VecDeque<Change>>,
}

impl Inbox {
    /// A process reads a watch that it has just opened.
    pub(super) fn open(&self, watch: WatchId, port: &Port) {
        assert!(self.open.get().is_none(), "one watch at a time");
        assert!(self.changes.borrow().is_empty(), "the last one is read");
        self.open.set(Some((watch, port.id)));
    }

    /// Takes what a watch delivers; who is to be woken for it. A watch that was replaced is
    /// nobody's.
    pub(super) fn deliver(&self, watch: WatchId, change: Change) -> Option<ProcessId> {
        let (open, reader) = self.open.get()?;
        if open != watch {
            return None;
        }
        if let Change::Closed(_) = change {
            self.open.set(None);
        }
        self.changes.borrow_mut().push_back(change);
        Some(reader)
    }

    /// The next change; `None` when the watch was closed.
    pub(super) async fn next(&self, port: &Port) -> Option<Change> {
        loop {
            let next = self.changes.borrow_mut().pop_front();
            match next {
                Some(Change::Closed(_)) => return None,
                Some(change) => return Some(change),
                None => port.park().await,
            }
        }
    }
}
