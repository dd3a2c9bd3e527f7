//! Names as numbers, and the copy of the Pods that a process keeps by list and watch. It asks the
//! API for nothing; its process does.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::objects::Pod;
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
