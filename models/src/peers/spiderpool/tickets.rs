//! Tickets as guards: a request waits in the queue of its process until it holds its pools, and
//! gives them back when it is over or killed. A request that is killed before its turn keeps its
//! place in the queue all the same (SP-1375): at its turn nobody is there, and the next one runs.

use std::cell::Cell;
use std::rc::Rc;

use crate::cni::IpamStage;
use crate::process::Port;

use super::limiter::{Claim, Turn};
use super::pools::PoolId;
use super::process::Life;

/// The tickets of one request, or its place in the queue.
pub(super) struct Tickets {
    claim: Rc<Claim>,
    life: Rc<Life>,
    port: Port,
}

impl Tickets {
    /// Waits for its turn, as long as it takes; `None` when the queue is full.
    pub(super) async fn take(life: &Rc<Life>, port: &Port, pools: Vec<PoolId>) -> Option<Tickets> {
        let claim = Rc::new(Claim {
            process: port.id,
            pools: pools.clone(),
            turn: Cell::new(Turn::Waits),
        });
        let length_max = life.env.parameters.queue_max;
        let queued = life
            .queue
            .borrow_mut()
            .enqueue(claim.clone(), pools, length_max);
        if !queued {
            life.env.count(|totals| totals.queue_full += 1);
            return None;
        }
        let tickets = Tickets {
            claim,
            life: life.clone(),
            port: port.clone(),
        };
        port.stage(IpamStage::Queue);
        grant(life, port);
        while tickets.claim.turn.get() == Turn::Waits {
            port.park().await;
        }
        assert_eq!(tickets.claim.turn.get(), Turn::Holds, "its turn has come");
        debug_assert!(life.queue.borrow().holds(&tickets.claim.pools));
        Some(tickets)
    }

    /// They go back without a look at who waits: those get their turn with the next request.
    pub(super) fn give_back_silently(claim: &Claim, life: &Life) {
        if claim.turn.replace(Turn::Over) == Turn::Holds {
            life.queue.borrow_mut().release(&claim.pools);
        }
    }

    pub(super) fn claim(&self) -> Rc<Claim> {
        self.claim.clone()
    }
}

impl Drop for Tickets {
    fn drop(&mut self) {
        // With its process the queue ends as well.
        if self.life.has_ended() {
            return;
        }
        match self.claim.turn.get() {
            Turn::Waits => self.claim.turn.set(Turn::Gone),
            Turn::Holds => {
                self.claim.turn.set(Turn::Over);
                self.life.queue.borrow_mut().release(&self.claim.pools);
                grant(&self.life, &self.port);
            }
            Turn::Over => {}
            Turn::Gone => panic!("a request goes once"),
        }
    }
}

/// Lets everybody run who may run now.
fn grant(life: &Life, port: &Port) {
    let granted = life.queue.borrow_mut().granted();
    for claim in granted {
        match claim.turn.get() {
            Turn::Waits => {
                claim.turn.set(Turn::Holds);
                if claim.process != port.id {
                    port.wake(claim.process);
                }
            }
            // Its client is long gone: its turn ends at the first look at its context.
            Turn::Gone => {
                life.env.count(|totals| totals.granted_dead += 1);
                life.queue.borrow_mut().release(&claim.pools);
                grant(life, port);
            }
            turn => panic!("a request in the queue {turn:?}"),
        }
    }
}
