//! Giving addresses back: by handle at DEL, and by slot when the collector found a leak.
//! Source: libcalico-go/lib/ipam/ipam.go:955-1172, 1584-1666, 1943-1990; ipam_block.go:283-326.

use std::rc::Rc;

use crate::process::CallError;

use super::assign::Failure;
use super::datastore::Datastore;
use super::object::{Allocation, Block, Handle, IP_POOLS, NODES, Stored};

impl Datastore {
    /// Everything that a handle holds. A missing handle is success.
    pub(super) async fn release_handle(
        &self,
        handle: &Rc<str>,
        host: &Rc<str>,
    ) -> Result<(), Failure> {
        let held = match self.get::<Handle>(handle).await {
            Ok(held) => held.body,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for block in held.blocks.into_keys() {
            self.release_in_block(handle, &block.into(), host).await?;
        }
        Ok(())
    }

    async fn release_in_block(
        &self,
        handle: &Rc<str>,
        name: &Rc<str>,
        host: &Rc<str>,
    ) -> Result<(), Failure> {
        for _ in 0..self.env.parameters.datastore_retries {
            let block = match self.get::<Block>(name).await {
                Ok(block) => block,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let (next, count) = block.body.without(handle);
            if count == 0 {
                return Ok(());
            }
            match self.write_released(&block, &next).await {
                Ok(()) => {}
                Err(error) if error.is_conflict() => {
                    self.env.count(|counters| counters.write_conflicts += 1);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            self.decrement_handle(handle, name, count as u32).await?;
            return self.ensure_affinity(host).await.map_err(Failure::from);
        }
        Err(Failure::Retries)
    }

    /// PUT, or the deletion of a block that is empty and nobody's.
    async fn write_released(&self, block: &Stored<Block>, next: &Block) -> Result<(), CallError> {
        if next.slots.is_empty() && next.host.is_empty() {
            return self.delete(block).await;
        }
        self.update(block, next).await.map(|_| ())
    }

    /// `ensureConsistentAffinity`: the node and the pools are looked at again.
    async fn ensure_affinity(&self, host: &Rc<str>) -> Result<(), CallError> {
        match self.get_plain(NODES, host).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        self.list(IP_POOLS).await.map(|_| ())
    }

    /// One slot, if it still is what was seen: another sequence number is a conflict.
    pub(super) async fn release_slot(
        &self,
        name: &Rc<str>,
        slot: usize,
        seen: &Allocation,
    ) -> Result<(), Failure> {
        self.list(IP_POOLS).await?;
        self.list(IP_POOLS).await?;
        let block = self.get::<Block>(name).await?;
        if block.body.slots.get(&slot) != Some(seen) {
            return Ok(());
        }
        let mut next = block.body.clone();
        next.slots.remove(&slot);
        next.unallocated.push(slot);
        next.sequence += 1;
        self.write_released(&block, &next).await?;
        let handle: Rc<str> = seen.handle.as_str().into();
        self.decrement_handle(&handle, name, 1).await?;
        self.ensure_affinity(&seen.node.as_str().into()).await?;
        Ok(())
    }
}
