//! The controller's informers, and how Pod events become queue items: every change of a live Pod
//! enqueues its name; a Pod that is gone, terminal, or past its grace period twice over becomes a
//! deletion of its own, which never merges with another.
//! Source: pkg/controller/pod.go:157-347, pkg/controller/controller.go:307-418,1015-1066.

use std::rc::Rc;

use crate::objects::Pod;
use crate::process::{Port, Reader};
use crate::request::{Answer, Change, Consistency, Custom, Request, WatchTarget};

use super::informer::Delta;
use super::leader::{Deletion, Leader};
use super::objects;

impl Leader {
    /// The informer of `IP` objects, forever. That of Pods follows its first list.
    pub(super) async fn watch_ips(self: Rc<Self>, port: Port) {
        loop {
            let (ips, revision) = self.list_ips(&port).await;
            *self.ips.borrow_mut() = ips.into_iter().map(|ip| (ip.name.clone(), ip)).collect();
            let target = WatchTarget::Customs {
                kind: objects::IPS,
                selectors: Vec::new(),
                name: None,
            };
            port.watch(self.client, target, revision, Reader::Itself)
                .await;
            if self.pods.borrow().synced {
                self.status.changed(&port);
            } else if !self.watches_pods.replace(true) {
                self.spawn(&port, Self::watch_pods);
            }
            while let Some(change) = port.change().await {
                self.ip_event(change, &port);
            }
            port.sleep(self.env().list_again).await;
        }
    }

    async fn list_ips(&self, port: &Port) -> (Vec<Rc<Custom>>, u64) {
        loop {
            let list = Request::List {
                kind: objects::IPS,
                selectors: Vec::new(),
                consistency: Consistency::Cache,
                limit: 0,
                after: None,
            };
            if let Ok(Answer::Customs(ips, revision, _)) = port.call_as(self.client, list).await {
                return (ips, revision);
            }
            port.sleep(self.env().list_again).await;
        }
    }

    fn ip_event(&self, change: Change, port: &Port) {
        match change {
            Change::Custom(ip) => {
                let known = self.ips.borrow_mut().insert(ip.name.clone(), ip).is_some();
                if !known {
                    self.status.changed(port);
                }
            }
            Change::CustomGone(ip) => {
                self.ips.borrow_mut().remove(&ip.name);
                self.status.changed(port);
            }
            Change::Pod(_) | Change::PodGone(_) | Change::Bookmark(_) | Change::Closed(_) => {}
        }
    }

    /// The informer of Pods, forever.
    async fn watch_pods(self: Rc<Self>, port: Port) {
        loop {
            let (pods, revision) = self.list_pods(&port).await;
            let takes_over = self.inherits && !self.pods.borrow().synced;
            if takes_over {
                self.rebuild(&pods);
            }
            let target = WatchTarget::Pods { node_name: None };
            port.watch(self.client, target, revision, Reader::Itself)
                .await;
            let deltas = (self.pods.borrow_mut()).listed(pods, &mut self.env().names());
            if takes_over {
                // Two passes at the start of leadership, one after the other.
                self.collect_ports(&port);
                self.collect_ports(&port);
            }
            for delta in deltas {
                self.pod_event(delta, &port);
            }
            self.wake_workers(&port);
            while let Some(change) = port.change().await {
                let delta = (self.pods.borrow_mut()).changed(change, &mut self.env().names());
                if let Some(delta) = delta {
                    self.pod_event(delta, &port);
                    self.wake_workers(&port);
                }
            }
            port.sleep(self.env().list_again).await;
        }
    }

    async fn list_pods(&self, port: &Port) -> (Vec<Rc<Pod>>, u64) {
        loop {
            let list = Request::ListPods {
                node_name: None,
                consistency: Consistency::Cache,
            };
            if let Ok(Answer::Pods(pods, revision)) = port.call_as(self.client, list).await {
                return (pods, revision);
            }
            port.sleep(self.env().list_again).await;
        }
    }

    /// A restart rebuilds the allocator from the annotations of live Pods, and from the `IP`
    /// objects of StatefulSets. The first leader has led for long when the run begins.
    /// Source: pkg/controller/init.go:278-430.
    fn rebuild(&self, pods: &[Rc<Pod>]) {
        let mut names = self.env().names();
        let mut records = Vec::new();
        for ip in self.ips.borrow().values() {
            records.extend(objects::sticky_record(ip, &mut names));
        }
        for pod in pods {
            if objects::is_allocated(pod)
                && !pod.is_terminal()
                && let Some(address) = objects::addresses(pod).first()
            {
                records.push((names.number(&pod.namespace, &pod.name), *address));
            }
        }
        let mut subnet = self.estate.subnet.borrow_mut();
        subnet.forget();
        subnet.adopt(&records);
        assert!(
            subnet.held_count() <= records.len() as u64,
            "nothing is held that no record names"
        );
    }

    fn pod_event(self: &Rc<Self>, delta: Delta, port: &Port) {
        let (name, added, pod) = match delta {
            Delta::Gone(pod) => {
                if !pod.spec.host_network {
                    self.delete_pod(pod);
                }
                return;
            }
            Delta::Changed { name, added, pod } => (name, added, pod),
        };
        if pod.spec.host_network {
            return;
        }
        for pod in self.estate.previous.take() {
            self.delete_pod(pod);
        }
        if pod.is_terminal() {
            if !added {
                self.delete_pod(pod);
            }
            return;
        }
        if let Some((since, grace)) = pod.deletion.filter(|_| !added) {
            // deletionTimestamp is at the end of the grace period; one more passes.
            let at = since + grace + grace;
            let deletion = Deletion { pod, failures: 0 };
            self.spawn(port, move |leader, port| {
                leader.delete_at(port, at, deletion)
            });
            return;
        }
        if !added || !objects::is_routed(&pod) {
            self.queue.borrow_mut().work.add(name);
        }
    }
}
