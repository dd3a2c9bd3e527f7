//! `instant`: the IPAM that costs nothing, as the floor of every comparison. A bitmap in the
//! process of the simulator; no exec, no request, no CPU, no time. It is not a mechanism of
//! anybody. The parameters `check.*` (zero by default) let it wait, for the event model alone.

use std::collections::BTreeMap;

use drydock_engine::server::FifoServer;

use crate::apiserver::ApiServers;
use crate::cni::{Assigned, CniError, IpamAnswer, IpamCall, NodeChange, Verb};
use crate::context::Context;
use crate::ids::{ContainerId, IpamCallId, NodeIndex, WatchId};
use crate::ipam::{Allocated, AllocatedTo, Ipam};
use crate::request::{Change, Response};

use super::Pool;

/// CNI error code of an exhausted pool ("try again later").
const TRY_AGAIN: u32 = 11;

/// The allocator.
pub struct Instant {
    pool: Pool,
    /// One bit per ordinal, set while it is taken.
    taken: Vec<u64>,
    taken_count: u64,
    /// No ordinal below this one is free.
    free_from: u64,
    held: BTreeMap<ContainerId, u64>,
    /// The serial stage of the event model.
    stage: FifoServer,
    /// ADDs that wait in it.
    waiting: BTreeMap<IpamCallId, IpamCall>,
}

impl Instant {
    /// All addresses free.
    pub fn new(pool: Pool) -> Self {
        let words = pool.size().div_ceil(64) as usize;
        Self {
            pool,
            taken: vec![0; words],
            taken_count: 0,
            free_from: 0,
            held: BTreeMap::new(),
            stage: FifoServer::new(1),
            waiting: BTreeMap::new(),
        }
    }

    /// Ordinals in use.
    pub fn taken_count(&self) -> u64 {
        self.taken_count
    }

    /// The addresses of a container, new or as before.
    fn allocate(&mut self, container: ContainerId) -> IpamAnswer {
        let ordinal = match self.held.get(&container) {
            Some(ordinal) => *ordinal,
            None => self.take(container).ok_or_else(|| CniError {
                code: TRY_AGAIN,
                message: "no address is free".to_owned(),
            })?,
        };
        Ok(Assigned {
            addresses: self.pool.addresses(ordinal),
        })
    }

    fn take(&mut self, container: ContainerId) -> Option<u64> {
        let size = self.pool.size();
        let first_word = self.free_from / 64;
        let found = (first_word..self.taken.len() as u64).find_map(|word| {
            let free = !self.taken[word as usize];
            (free != 0).then(|| word * 64 + u64::from(free.trailing_zeros()))
        });
        let ordinal = found.filter(|ordinal| *ordinal < size)?;
        self.taken[(ordinal / 64) as usize] |= 1 << (ordinal % 64);
        self.taken_count += 1;
        self.free_from = ordinal + 1;
        self.held.insert(container, ordinal);
        Some(ordinal)
    }

    fn release(&mut self, container: ContainerId) {
        if let Some(ordinal) = self.held.remove(&container) {
            self.taken[(ordinal / 64) as usize] &= !(1 << (ordinal % 64));
            self.taken_count -= 1;
            self.free_from = self.free_from.min(ordinal);
        }
    }

    fn answer(&mut self, call: &IpamCall, context: &mut Context<'_>) {
        let answer = match call.verb {
            Verb::Add => self.allocate(call.container),
            Verb::Del => {
                self.release(call.container);
                Ok(Assigned {
                    addresses: Vec::new(),
                })
            }
        };
        context.ipam_exit(call.node, call.id, answer);
    }
}

impl Ipam for Instant {
    fn name(&self) -> &'static str {
        "instant"
    }

    fn start(&mut self, _context: &mut Context<'_>) {}

    fn ready(&self) -> bool {
        true
    }

    fn allocated(&self, _api: &ApiServers) -> Vec<Allocated> {
        let of = |(container, ordinal): (&ContainerId, &u64)| {
            let holder = AllocatedTo::Sandbox(*container);
            let addresses = self.pool.addresses(*ordinal).into_iter();
            addresses.map(move |address| Allocated {
                address,
                holder: holder.clone(),
            })
        };
        self.held.iter().flat_map(of).collect()
    }

    fn call(&mut self, call: IpamCall, context: &mut Context<'_>) {
        let check = &context.core.parameters.node_side.check;
        let now = context.now();
        let mut at = now + check.ipam_wait;
        if !check.ipam_serial.is_zero() && call.verb == Verb::Add {
            at = self.stage.submit(now, check.ipam_serial) + check.ipam_wait;
        }
        if at == now || call.verb == Verb::Del {
            return self.answer(&call, context);
        }
        context.ipam_timer(call.node, at, u64::from(call.id.0));
        self.waiting.insert(call.id, call);
    }

    fn killed(&mut self, _node: NodeIndex, call: IpamCallId, _context: &mut Context<'_>) {
        self.waiting.remove(&call);
    }

    fn response(&mut self, _token: u64, _response: Response, _context: &mut Context<'_>) {}

    fn watch(&mut self, _token: u64, _watch: WatchId, _change: Change, _context: &mut Context<'_>) {
    }

    fn timer(&mut self, _node: NodeIndex, token: u64, context: &mut Context<'_>) {
        let id = IpamCallId(u32::try_from(token).expect("its timers carry the number of a call"));
        if let Some(call) = self.waiting.remove(&id) {
            self.answer(&call, context);
        }
    }

    fn cpu_done(&mut self, _node: NodeIndex, _token: u64, _context: &mut Context<'_>) {}

    fn node_changed(&mut self, node: NodeIndex, change: NodeChange, _context: &mut Context<'_>) {
        if change == NodeChange::Down {
            self.waiting.retain(|_, call| call.node != node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Instant, TRY_AGAIN};
    use crate::ids::ContainerId;
    use crate::peers::Pool;

    fn allocator(last: &str) -> Instant {
        let ranges = vec![("10.0.0.1".parse().unwrap(), last.parse().unwrap())];
        Instant::new(Pool::new(vec![ranges]).unwrap())
    }

    #[test]
    fn the_same_container_gets_the_same_address_again() {
        let mut instant = allocator("10.0.0.9");
        let first = instant.allocate(ContainerId(1)).unwrap();
        let other = instant.allocate(ContainerId(2)).unwrap();
        assert_ne!(first, other);
        assert_eq!(instant.allocate(ContainerId(1)).unwrap(), first);
        assert_eq!(instant.taken_count(), 2);
    }

    #[test]
    fn a_full_pool_refuses_with_code_11_until_an_address_is_freed() {
        let mut instant = allocator("10.0.0.130");
        for container in 0..130 {
            assert!(instant.allocate(ContainerId(container)).is_ok());
        }
        assert_eq!(
            instant.allocate(ContainerId(130)).unwrap_err().code,
            TRY_AGAIN
        );
        let seventh = instant.allocate(ContainerId(7)).unwrap();
        instant.release(ContainerId(7));
        instant.release(ContainerId(7));
        assert_eq!(instant.taken_count(), 129);
        assert_eq!(instant.allocate(ContainerId(130)).unwrap(), seventh);
    }
}
