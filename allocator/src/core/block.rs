//! A block of a pool: ordinals with their records, as a value. One compare-and-swap replaces it;
//! the agent decides when.

use std::sync::Arc;

use super::holder::{Record, RecordError, decode_records, encode_record};
use super::objects::{
    AddressBlock, AddressBlockSpec, FINALIZER, Fields, LABEL_POOL, LABEL_ROOM, Metadata,
};
use super::pool::{Mask, Pool, block_name};

/// The layout of records that this code writes.
pub const SCHEMA: u32 = 1;

/// Why a block must be left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A later layout: read only.
    #[error("the block has schema {0}, which is newer than this program")]
    NewerSchema(u32),
    /// Another pool of the same name, another size, or other addresses.
    #[error("the block belongs to another pool or geometry")]
    Geometry,
    /// Records that cannot be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Two records at one ordinal, or one outside the block.
    #[error("ordinal {0} is stated twice or outside the block")]
    Ordinal(u16),
}

/// The slot is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ordinal {0} is not free")]
pub struct Taken(pub u16);

/// The records of one block, by ordinal within it. At most one record per ordinal, by construction.
/// A copy shares them, because a write changes few of the previous version's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    slots: Vec<Option<Arc<Record>>>,
    usable: u16,
    /// Fields of a newer release, of the object and of its spec: written back as they were read.
    other: Option<Box<(Fields, Fields)>>,
}

impl Block {
    /// Block `index` of the pool when nobody holds anything: only masks.
    pub fn empty(pool: &Pool, index: u64) -> Self {
        let mut block = Self {
            slots: vec![None; usize::from(pool.block_size)],
            usable: pool.ordinals_in(index),
            other: None,
        };
        let begin = index.saturating_mul(u64::from(pool.block_size));
        for ordinal in 0..block.usable {
            block.slots[usize::from(ordinal)] =
                pool.mask(begin + u64::from(ordinal))
                    .map(|mask| match mask {
                        Mask::Excluded => Arc::new(Record::Excluded),
                        Mask::Gateway => Arc::new(Record::Gateway),
                    });
        }
        block
    }

    /// Reads the block from its object.
    ///
    /// Errors: when it must be left alone.
    pub fn read(object: &AddressBlock, pool: &Pool) -> Result<Self, BlockError> {
        let spec = &object.spec;
        if spec.schema > SCHEMA {
            return Err(BlockError::NewerSchema(spec.schema));
        }
        // Beyond the capacity there is no first address: such a block has no valid ordinals.
        if spec.pool_uid != pool.uid
            || spec.size != pool.block_size
            || spec.first.is_empty()
            || spec.first != pool.first_addresses(spec.index)
            || object.metadata.name != block_name(&pool.name, spec.index)
        {
            return Err(BlockError::Geometry);
        }
        let mut block = Self::read_records(&spec.records, spec.size, pool.ordinals_in(spec.index))?;
        if !object.other.is_empty() || !spec.other.is_empty() {
            block.other = Some(Box::new((object.other.clone(), spec.other.clone())));
        }
        Ok(block)
    }

    /// Reads the records of a block of `size` ordinals of which `usable` may be handed out.
    pub fn read_records(records: &str, size: u16, usable: u16) -> Result<Self, BlockError> {
        let mut slots = vec![None; usize::from(size)];
        for entry in decode_records(records) {
            let (ordinal, record) = entry?;
            match slots.get_mut(usize::from(ordinal)) {
                Some(slot @ None) => *slot = Some(Arc::new(record)),
                _ => return Err(BlockError::Ordinal(ordinal)),
            }
        }
        Ok(Self {
            slots,
            usable,
            other: None,
        })
    }

    /// The records in their compact form.
    pub fn records(&self) -> String {
        let mut text = String::with_capacity(self.slots.len() * 128);
        for (ordinal, record) in self.iter() {
            encode_record(&mut text, ordinal, record);
        }
        text
    }

    /// The object that states this block. `metadata` is that of the version it replaces, or fresh.
    pub fn write(
        &self,
        pool: &Pool,
        index: u64,
        mut metadata: Metadata,
        writer: String,
    ) -> AddressBlock {
        metadata.name = block_name(&pool.name, index);
        metadata
            .labels
            .insert(LABEL_POOL.to_owned(), pool.name.clone());
        if self.may_have_room() {
            metadata
                .labels
                .insert(LABEL_ROOM.to_owned(), "true".to_owned());
        } else {
            metadata.labels.remove(LABEL_ROOM);
        }
        metadata
            .finalizers
            .retain(|finalizer| finalizer != FINALIZER);
        if self.iter().any(|(_, record)| record.holder().is_some()) {
            metadata.finalizers.push(FINALIZER.to_owned());
        }
        let (other, spec_other) = self.other.as_deref().cloned().unwrap_or_default();
        AddressBlock {
            metadata,
            other,
            spec: AddressBlockSpec {
                schema: SCHEMA,
                pool: pool.name.clone(),
                pool_uid: pool.uid.clone(),
                index,
                size: pool.block_size,
                first: pool.first_addresses(index),
                writer,
                records: self.records(),
                other: spec_other,
            },
        }
    }

    /// The records, ascending by ordinal.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Record)> {
        (0_u16..)
            .zip(&self.slots)
            .filter_map(|(ordinal, slot)| Some((ordinal, slot.as_deref()?)))
    }

    /// The record at an ordinal.
    pub fn get(&self, ordinal: u16) -> Option<&Record> {
        self.slots.get(usize::from(ordinal))?.as_deref()
    }

    /// Whether a claim could take the ordinal: within the capacity, and free or cooling.
    pub fn is_available(&self, ordinal: u16) -> bool {
        ordinal < self.usable && matches!(self.get(ordinal), None | Some(Record::Cooling(_)))
    }

    /// The ordinals that a claim could take: free ones first, then cooling ones, each ascending.
    pub fn available(&self) -> impl Iterator<Item = u16> {
        let free = (0..self.usable).filter(|ordinal| self.get(*ordinal).is_none());
        let cooling = (0..self.usable).filter(|o| matches!(self.get(*o), Some(Record::Cooling(_))));
        free.chain(cooling)
    }

    /// How many ordinals a claim could take.
    pub fn available_count(&self) -> usize {
        (0..self.usable)
            .filter(|ordinal| self.is_available(*ordinal))
            .count()
    }

    /// The value of the label: some ordinal is held by nobody. Wider than [`Self::available`], so
    /// that a lifted mask or an appended range is found.
    pub fn may_have_room(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| !matches!(slot.as_deref(), Some(Record::Pod(_) | Record::Reserved(_))))
    }

    /// Puts a record at an available ordinal.
    pub fn claim(&mut self, ordinal: u16, record: Record) -> Result<(), Taken> {
        if !self.is_available(ordinal) {
            return Err(Taken(ordinal));
        }
        self.slots[usize::from(ordinal)] = Some(Arc::new(record));
        Ok(())
    }

    /// Replaces the record at an ordinal of the block.
    ///
    /// Panics: the block has no such ordinal.
    pub fn set(&mut self, ordinal: u16, record: Option<Record>) {
        let slot = self.slots.get_mut(usize::from(ordinal));
        *slot.expect("an ordinal of the block") = record.map(Arc::new);
    }
}

#[cfg(test)]
mod tests;
