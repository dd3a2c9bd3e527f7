//! What an agent writes down on its own disk, and the form of it: one frame per entry, of length,
//! CRC-32 and JSON. Storing the bytes is a port's business.

use serde::{Deserialize, Serialize};

use super::exchange::{Allocation, Attachment, MountId};
use super::hash::crc32;
use super::objects::Uid;
use super::time::BootTime;

/// The form that this code writes.
pub const VERSION: u32 = 1;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The first entry of a journal.
    Header {
        /// Form of the entries that follow.
        version: u32,
        /// The machine's boot: with another one only block names count.
        boot_id: String,
    },
    /// A block that is about to be written for the first time.
    Block {
        /// Its pool.
        pool: String,
        /// Its index.
        index: u64,
    },
    /// An ADD that is about to be answered.
    Bound(Box<Binding>),
    /// A DEL of an answered ADD.
    Releasing {
        /// Of which attachment.
        attachment: Attachment,
        /// When.
        at: BootTime,
    },
    /// The attachment's namespace ended; its ordinal follows its Pod again.
    Ended {
        /// Of which attachment.
        attachment: Attachment,
    },
    /// An earlier journal of this boot was lost: records that no entry explains count as bound.
    Lost,
    /// A DEL that met no answered ADD.
    Tombstone {
        /// Of which attachment.
        attachment: Attachment,
        /// Its namespace path.
        netns: String,
    },
}

/// An answered ADD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// To which attachment.
    pub attachment: Attachment,
    /// Its namespace path.
    pub netns: String,
    /// The mount through which the path was seen present, if it was.
    pub mount: Option<MountId>,
    /// The Pod.
    pub pod_uid: Uid,
    /// `namespace/name`.
    pub pod_name: String,
    /// The block's pool.
    pub pool: String,
    /// The block's index.
    pub index: u64,
    /// The ordinal within the block.
    pub ordinal: u16,
    /// What was answered, whole: the same ADD gets the same answer.
    pub answer: Allocation,
    /// When.
    pub at: BootTime,
}

/// The journal is of a later version: do not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal has version {0}, which this program does not know")]
pub struct UnknownVersion(pub u32);

/// One entry as bytes to append.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let json = serde_json::to_vec(entry).expect("an entry has only string keys");
    let mut bytes = Vec::with_capacity(json.len() + 8);
    bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32(&json).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes
}

/// All entries up to the first frame that is cut off or damaged.
///
/// Errors: the header names an unknown version, or an intact entry cannot be understood.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Entry>, UnknownVersion> {
    let mut entries = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let Some((json, rest)) = rest.split_at_checked(word(0) as usize) else {
            break;
        };
        if crc32(json) != word(4) {
            break;
        }
        match serde_json::from_slice(json) {
            Ok(Entry::Header { version, .. }) if version != VERSION => {
                return Err(UnknownVersion(version));
            }
            Ok(entry) => entries.push(entry),
            Err(_) => return Err(UnknownVersion(0)),
        }
        bytes = rest;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let attachment = Attachment {
            container: "c".into(),
            interface: "eth0".into(),
        };
        vec![
            Entry::Header {
                version: VERSION,
                boot_id: "b".into(),
            },
            Entry::Block {
                pool: "p".into(),
                index: 7,
            },
            Entry::Releasing {
                attachment: attachment.clone(),
                at: BootTime::from_nanos(3),
            },
            Entry::Ended { attachment },
        ]
    }

    fn bytes() -> Vec<u8> {
        entries().iter().flat_map(encode).collect()
    }

    #[test]
    fn what_is_appended_is_replayed() {
        assert_eq!(decode(&bytes()).unwrap(), entries());
    }

    #[test]
    fn a_tail_cut_anywhere_loses_only_whole_entries() {
        let all = bytes();
        for length in 0..all.len() {
            let read = decode(&all[..length]).unwrap();
            assert_eq!(read, entries()[..read.len()], "cut at {length}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_replay_there() {
        let mut damaged = bytes();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        assert_eq!(decode(&damaged).unwrap().len(), entries().len() - 1);
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let newer = encode(&Entry::Header {
            version: VERSION + 1,
            boot_id: "b".into(),
        });
        assert_eq!(decode(&newer), Err(UnknownVersion(VERSION + 1)));
    }
}
