//! `AutoAssign`: one address of one family, under the host-wide lock. Own blocks in the order of
//! their names, then a block that nobody has, then (unless affinity is strict) an address of
//! somebody else's block. Correct without the lock: every write is a compare-and-swap.
//! Source: libcalico-go/lib/ipam/ipam.go:156-231, 250-595, 650-845, 1198-1213, 1678-1760;
//! ipam_block_reader_writer.go:112-277, 498-594.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::process::CallError;

use super::Host;
use super::datastore::Datastore;
use super::layout::Family;
use super::object::{
    Affinity, Allocation, Block, Body, Handle, IP_POOLS, IP_RESERVATIONS, IPAM_CONFIGS, NODES,
    Stored, parse,
};

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A call failed.
    Call(CallError),
    /// The node owns as many blocks as it may.
    BlockLimit,
    /// No block is left, and affinity is strict.
    Strict,
    /// Nothing is free in any block.
    Full,
    /// Others were faster a hundred times.
    Retries,
    /// The affinity was not this node's after all.
    ClaimConflict,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Failure::Call(error)
    }
}

/// For whom an address is.
pub(super) struct Request<'a> {
    pub(super) host: &'a Host,
    /// Index of the family.
    pub(super) family: usize,
    pub(super) handle: &'a Rc<str>,
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
}

impl Request<'_> {
    fn allocation(&self, sequence: u64) -> Allocation {
        Allocation {
            handle: self.handle.to_string(),
            namespace: self.namespace.to_owned(),
            pod: self.pod.to_owned(),
            node: self.host.name.to_string(),
            sequence,
        }
    }
}

impl Datastore {
    fn family(&self, request: &Request<'_>) -> &Family {
        &self.env.layout.families[request.family]
    }

    fn tries(&self) -> u64 {
        self.env.parameters.datastore_retries
    }

    /// One address.
    pub(super) async fn auto_assign(&self, request: &Request<'_>) -> Result<IpAddr, Failure> {
        self.list(IP_RESERVATIONS).await?;
        self.get_plain(NODES, &request.host.name).await?;
        self.list(IP_POOLS).await?;
        let own = self.own_blocks(request).await?;
        self.get_plain(IPAM_CONFIGS, &"default".into()).await?;
        for block in &own {
            let usable = self.usable_own_block(request, block).await?;
            if let Some(block) = usable
                && let Some(address) = self.take(request, block).await?
            {
                return Ok(address);
            }
        }
        if own.len() as u64 >= self.env.parameters.max_blocks {
            return Err(Failure::BlockLimit);
        }
        for _ in 0..self.tries() {
            match self.claim(request).await? {
                Some(block) => {
                    if let Some(address) = self.take(request, block).await? {
                        return Ok(address);
                    }
                }
                None if self.env.parameters.strict_affinity => return Err(Failure::Strict),
                None => return self.borrow(request).await,
            }
        }
        Err(Failure::Retries)
    }

    /// Blocks of the node in this family, by name. The list is of the whole cluster.
    async fn own_blocks(&self, request: &Request<'_>) -> Result<Vec<Rc<str>>, CallError> {
        let listed = self.list(Affinity::KIND).await?;
        let affinities = listed.iter().map(|object| parse::<Affinity>(object).body);
        Ok(affinities
            .filter(|affinity| affinity.host == *request.host.name && !affinity.deleted)
            .filter(|affinity| self.env.layout.family_of(&affinity.block) == Some(request.family))
            .map(|affinity| affinity.block.into())
            .collect())
    }

    /// An own block with room; trouble with one block leads to the next.
    async fn usable_own_block(
        &self,
        request: &Request<'_>,
        block: &Rc<str>,
    ) -> Result<Option<Stored<Block>>, CallError> {
        let name = Affinity::name(&request.host.name, block);
        for _ in 0..self.tries() {
            let affinity = match self.get::<Affinity>(&name).await {
                Ok(affinity) => affinity,
                Err(CallError::Deadline) => return Err(CallError::Deadline),
                Err(_) => return Ok(None),
            };
            match self.block_of(request, affinity).await {
                Ok(block) => {
                    let room = self
                        .family(request)
                        .next_free(&block.object.name, &block.body);
                    return Ok(room.map(|_| block));
                }
                Err(Failure::Call(CallError::Deadline)) => return Err(CallError::Deadline),
                Err(Failure::Call(error)) if error.is_conflict() => {}
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The block of an affinity: found, finished or made.
    async fn block_of(
        &self,
        request: &Request<'_>,
        affinity: Stored<Affinity>,
    ) -> Result<Stored<Block>, Failure> {
        let name: Rc<str> = affinity.body.block.as_str().into();
        let block = match self.get::<Block>(&name).await {
            Ok(block) => block,
            Err(error) if error.is_not_found() => {
                return self.make_block(request, affinity, &name).await;
            }
            Err(error) => return Err(error.into()),
        };
        if block.body.host != *request.host.name {
            self.delete(&affinity).await?;
            return Err(Failure::ClaimConflict);
        }
        if affinity.body.confirmed {
            return Ok(block);
        }
        let pending = self.update(&affinity, &affinity.body).await?;
        let mut touched = block.body.clone();
        touched.sequence += 1;
        let block = self.update(&block, &touched).await?;
        self.confirm(&pending).await?;
        Ok(block)
    }

    async fn confirm(&self, pending: &Stored<Affinity>) -> Result<(), CallError> {
        let confirmed = Affinity {
            confirmed: true,
            ..pending.body.clone()
        };
        self.update(pending, &confirmed).await.map(|_| ())
    }

    /// Second phase of a claim: the affinity is pending, the block is made, the affinity is
    /// confirmed. Who finds the block made by another node gives up its affinity.
    async fn make_block(
        &self,
        request: &Request<'_>,
        affinity: Stored<Affinity>,
        name: &Rc<str>,
    ) -> Result<Stored<Block>, Failure> {
        let pending = Affinity {
            confirmed: false,
            ..affinity.body.clone()
        };
        let pending = self.update(&affinity, &pending).await?;
        self.get_plain(IPAM_CONFIGS, &"default".into()).await?;
        let block = Block::new(&request.host.name, self.family(request).block_slots());
        let block = match self.create(name, &block).await {
            Ok(block) => block,
            Err(CallError::Api(crate::request::ApiError::AlreadyExists)) => {
                let block = self.get::<Block>(name).await?;
                if block.body.host != *request.host.name {
                    self.env.count(|counters| counters.claim_conflicts += 1);
                    self.delete(&pending).await?;
                    return Err(Failure::ClaimConflict);
                }
                block
            }
            Err(error) => return Err(error.into()),
        };
        self.confirm(&pending).await?;
        Ok(block)
    }

    /// A new block with room; `None` when every block exists and is somebody's, or full.
    async fn claim(&self, request: &Request<'_>) -> Result<Option<Stored<Block>>, Failure> {
        for _ in 0..self.tries() {
            self.get_plain(IPAM_CONFIGS, &"default".into()).await?;
            let listed = self.list(Block::KIND).await?;
            let exists: BTreeMap<Rc<str>, Block> = (listed.iter())
                .map(|object| (object.name.clone(), parse::<Block>(object).body))
                .collect();
            let family = self.family(request);
            let usable = |name: &Rc<str>| match exists.get(name) {
                None => true,
                Some(block) => {
                    let own = block.host == *request.host.name && !block.deleted;
                    own && family.next_free(name, block).is_some()
                }
            };
            let start = request.host.first_blocks[request.family];
            let Some(block) = family.walk(start).find(|name| usable(name)).cloned() else {
                return Ok(None);
            };
            let affinity = self.pending_affinity(request, &block).await?;
            match self.block_of(request, affinity).await {
                Ok(block) => {
                    self.env.count(|counters| counters.blocks_claimed += 1);
                    return Ok(Some(block));
                }
                Err(Failure::ClaimConflict) => {}
                Err(Failure::Call(error)) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        Err(Failure::Retries)
    }

    /// First phase of a claim.
    async fn pending_affinity(
        &self,
        request: &Request<'_>,
        block: &Rc<str>,
    ) -> Result<Stored<Affinity>, CallError> {
        let name = Affinity::name(&request.host.name, block);
        let affinity = Affinity {
            host: request.host.name.to_string(),
            block: block.to_string(),
            confirmed: false,
            deleted: false,
        };
        match self.create(&name, &affinity).await {
            Err(CallError::Api(crate::request::ApiError::AlreadyExists)) => {
                let old = self.get::<Affinity>(&name).await?;
                self.update(&old, &affinity).await
            }
            other => other,
        }
    }

    /// Takes the next free slot of a block; `None` when none is left. A lost compare-and-swap
    /// undoes the handle, reads the block again and tries again, without a pause.
    async fn take(
        &self,
        request: &Request<'_>,
        mut block: Stored<Block>,
    ) -> Result<Option<IpAddr>, Failure> {
        let name = block.object.name.clone();
        for _ in 0..self.tries() {
            let Some(slot) = self.family(request).next_free(&name, &block.body) else {
                return Ok(None);
            };
            self.increment_handle(request.handle, &name).await?;
            let next = block
                .body
                .with(slot, request.allocation(block.body.sequence));
            match self.update(&block, &next).await {
                Ok(_) => return Ok(Some(self.family(request).address(&name, slot))),
                Err(error) => {
                    self.decrement_handle(request.handle, &name, 1).await?;
                    if !error.is_conflict() {
                        return Err(error.into());
                    }
                    self.env.count(|counters| counters.write_conflicts += 1);
                    block = self.get::<Block>(&name).await?;
                }
            }
        }
        Err(Failure::Retries)
    }

    /// An address of somebody else's block: all blocks of the pool in the node's order, one GET
    /// each, until one has room.
    async fn borrow(&self, request: &Request<'_>) -> Result<IpAddr, Failure> {
        let start = request.host.first_blocks[request.family];
        let names: Vec<Rc<str>> = self.family(request).walk(start).cloned().collect();
        for name in names {
            let block = match self.get::<Block>(&name).await {
                Ok(block) => block,
                Err(CallError::Deadline) => return Err(CallError::Deadline.into()),
                Err(_) => continue,
            };
            if let Some(address) = self.take(request, block).await? {
                self.env.count(|counters| counters.borrowed += 1);
                return Ok(address);
            }
        }
        Err(Failure::Full)
    }

    /// Counts one more address of a handle in a block: GET, then POST or PUT.
    async fn increment_handle(&self, handle: &Rc<str>, block: &Rc<str>) -> Result<(), Failure> {
        for _ in 0..self.tries() {
            let written = match self.get::<Handle>(handle).await {
                Err(error) if error.is_not_found() => {
                    let new = Handle {
                        blocks: BTreeMap::from([(block.to_string(), 1)]),
                        deleted: false,
                    };
                    self.create(handle, &new).await
                }
                Err(error) => return Err(error.into()),
                Ok(old) => {
                    let mut more = old.body.clone();
                    *more.blocks.entry(block.to_string()).or_insert(0) += 1;
                    self.update(&old, &more).await
                }
            };
            match written {
                Ok(_) => return Ok(()),
                Err(CallError::Api(crate::request::ApiError::AlreadyExists)) => {}
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Retries)
    }

    /// Counts fewer addresses of a handle in a block; the last one deletes the handle.
    pub(super) async fn decrement_handle(
        &self,
        handle: &Rc<str>,
        block: &Rc<str>,
        count: u32,
    ) -> Result<(), Failure> {
        for _ in 0..self.tries() {
            let old = match self.get::<Handle>(handle).await {
                Ok(old) => old,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let mut less = old.body.clone();
            let left = less
                .blocks
                .get(&**block)
                .map_or(0, |had| had.saturating_sub(count));
            if left == 0 {
                less.blocks.remove(&**block);
            } else {
                less.blocks.insert(block.to_string(), left);
            }
            let written = if less.blocks.is_empty() {
                self.delete(&old).await
            } else {
                self.update(&old, &less).await.map(|_| ())
            };
            match written {
                Ok(()) => return Ok(()),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Retries)
    }
}
