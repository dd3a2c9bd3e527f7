//! What processes of one owner queue for: a lock with an order of wake-up, and a weighted
//! semaphore. Held by guards: a process that ends or is killed gives back what it held and leaves
//! the queue.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use drydock_engine::stream::Stream;
use drydock_engine::time::SimInstant;

use super::{Port, ProcessId};

/// One process in the queue.
struct Claim {
    process: ProcessId,
    units: u64,
    granted: Rc<Cell<bool>>,
}

/// golang.org/x/sync/semaphore.Weighted: first come, first served; a large request at the head
/// holds back small ones behind it. With one unit it is a mutex.
#[derive(Clone)]
pub(crate) struct Semaphore(Rc<RefCell<Units>>);

struct Units {
    size: u64,
    taken: u64,
    waiting: VecDeque<Claim>,
    /// Draws who is next, where the kernel wakes all and the first to run wins.
    unfair: Option<Stream>,
}

impl Semaphore {
    /// Nothing is taken.
    pub(crate) fn new(size: u64) -> Self {
        Self(Rc::new(RefCell::new(Units {
            size,
            taken: 0,
            waiting: VecDeque::new(),
            unfair: None,
        })))
    }

    /// A lock whose next holder is drawn among those who wait.
    pub(crate) fn unfair_lock(stream: Stream) -> Self {
        let lock = Self::new(1);
        lock.0.borrow_mut().unfair = Some(stream);
        lock
    }

    /// Whether somebody holds or wants it.
    pub(crate) fn is_busy(&self) -> bool {
        let inner = self.0.borrow();
        inner.taken > 0 || !inner.waiting.is_empty()
    }

    /// Takes units, waiting as long as it takes.
    pub(crate) async fn acquire(&self, port: &Port, units: u64) -> Held {
        self.acquire_within(port, units, SimInstant::MAX)
            .await
            .expect("nothing but a limit ends the wait")
    }

    /// Takes units, or gives up at a limit.
    pub(crate) async fn acquire_within(
        &self,
        port: &Port,
        units: u64,
        limit: SimInstant,
    ) -> Option<Held> {
        let granted = Rc::new(Cell::new(false));
        {
            let mut inner = self.0.borrow_mut();
            inner.waiting.push_back(Claim {
                process: port.id,
                units,
                granted: granted.clone(),
            });
            if inner.waiting.len() == 1 && inner.taken + units <= inner.size {
                inner.waiting.clear();
                inner.taken += units;
                granted.set(true);
            }
        }
        let held = Held {
            units,
            semaphore: self.clone(),
            port: port.clone(),
            granted,
        };
        while !held.granted.get() {
            if limit == SimInstant::MAX {
                port.park().await;
            } else if !port.park_until(limit).await && !held.granted.get() {
                return None;
            }
        }
        Some(held)
    }
}

/// Units that a process holds, or waits for.
pub(crate) struct Held {
    units: u64,
    semaphore: Semaphore,
    port: Port,
    granted: Rc<Cell<bool>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.semaphore.0.borrow_mut();
        if self.granted.get() {
            inner.taken -= self.units;
        } else {
            let own = &self.granted;
            inner
                .waiting
                .retain(|claim| !Rc::ptr_eq(&claim.granted, own));
        }
        inner.grant(&self.port);
    }
}

impl Units {
    /// Serves those at the head while there is room.
    fn grant(&mut self, port: &Port) {
        loop {
            let count = self.waiting.len() as u64;
            let next = match &mut self.unfair {
                Some(stream) if count > 1 && self.taken < self.size => stream.below(count) as usize,
                _ => 0,
            };
            let Some(claim) = self.waiting.get(next) else {
                return;
            };
            if self.taken + claim.units > self.size {
                return;
            }
            self.taken += claim.units;
            claim.granted.set(true);
            port.wake(claim.process);
            self.waiting.remove(next);
        }
    }
}
