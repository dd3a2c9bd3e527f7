//! Workers of the controller's queues: each takes an item, holds its name's bucket of the hashed
//! lock through all its remote calls, pays its scan on the controller's one core, and gives it back
//! or has it come again later.
//! Source: pkg/controller/controller.go:307-418, pod.go:349-410,549-578,1126.

use std::rc::Rc;

use crate::process::Port;

use super::leader::{Deletion, Leader};

impl Leader {
    /// A worker that makes Pods right, forever.
    pub(super) async fn sync_worker(self: Rc<Self>, port: Port) {
        loop {
            let next = self.queue.borrow_mut().work.take();
            let Some(name) = next else {
                self.syncing.wait(&port).await;
                continue;
            };
            self.env().count("sync_items");
            let lock = self.lock(&port, name).await;
            let pod = self.scan(&port, name).await;
            let synced = self.sync(&port, name, pod).await;
            drop(lock);
            self.queue.borrow_mut().work.done(name);
            if synced.is_ok() {
                self.queue.borrow_mut().work.forget(name);
            } else {
                self.env().count("item_retries");
                self.sync_again(&port, name);
            }
            // Who waits for the lock goes before who takes a new item.
            port.give_way().await;
            self.wake_workers(&port);
        }
    }

    fn sync_again(self: &Rc<Self>, port: &Port, name: u32) {
        let parameters = &self.env().parameters;
        let at = (self.queue.borrow_mut()).retry_at(name, port.now(), parameters);
        assert!(at >= port.now(), "a retry is not in the past");
        self.spawn(port, async move |leader: Rc<Self>, port: Port| {
            port.sleep_until(at).await;
            leader.queue.borrow_mut().work.add(name);
            leader.wake_workers(&port);
        });
    }

    /// A worker that releases Pods, forever.
    pub(super) async fn deletion_worker(self: Rc<Self>, port: Port) {
        loop {
            let next = self.deletions.borrow_mut().pop_front();
            let Some(deletion) = next else {
                self.deleting.wait(&port).await;
                continue;
            };
            let pod = &deletion.pod;
            let name = self.env().names().number(&pod.namespace, &pod.name);
            let lock = self.lock(&port, name).await;
            let seen = self.scan(&port, name).await;
            let released = self.release(&port, name, pod, seen).await;
            drop(lock);
            if released.is_err() {
                self.env().count("item_retries");
                self.delete_again(&port, deletion);
            }
            port.give_way().await;
            self.wake_workers(&port);
        }
    }

    fn delete_again(self: &Rc<Self>, port: &Port, mut deletion: Deletion) {
        let parameters = &self.env().parameters;
        let doubled = 1u32 << deletion.failures.min(17);
        let own = (parameters.retry_base * doubled).min(parameters.retry_max);
        let turn = self.deletion_bucket.borrow_mut().reserve(port.now());
        let at = turn.max(port.now() + own);
        assert!(at >= port.now(), "a retry is not in the past");
        deletion.failures += 1;
        self.spawn(port, move |leader, port| {
            leader.delete_at(port, at, deletion)
        });
    }

    /// A deletion waits for its time.
    pub(super) async fn delete_at(
        self: Rc<Self>,
        port: Port,
        at: drydock_engine::time::SimInstant,
        deletion: Deletion,
    ) {
        port.sleep_until(at).await;
        self.deletions.borrow_mut().push_back(deletion);
        self.wake_workers(&port);
    }
}
