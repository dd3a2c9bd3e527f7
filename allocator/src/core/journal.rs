//! What an agent writes to its own disk, and in which form. A port stores the bytes.
//!
//! A journal is one frame per entry. The first is the header: length, CRC-32, JSON, as in version
//! 1, so that a program of any release finds the version and refuses a newer one. All others:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | a mark that no JSON contains: after damage it locates the next frame |
//! | 4 | the frame's number in this file, from 1: it shows what is missing, doubled or moved |
//! | 4 | length of the JSON |
//! | 4 | CRC-32 of those twelve bytes: a damaged length does not look like a torn end |
//! | 4 | CRC-32 of those twelve bytes and the JSON |
//!
//! So three states can be told apart. *Whole*. *Torn*: the file ends within its last frame, because
//! its process was killed while appending; nothing acknowledged is missing. *Damaged*: anything
//! else. The file itself cannot show that its end was cut off between two frames, or that an old
//! copy took its place. A [`Seal`] shows that. Without one, the lack of an entry about an address
//! does not prove that nobody has it (see `agent::lost`).

mod seal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exchange::{Allocation, Attachment, MountId};
use super::hash::{crc32, crc32_of};
use super::objects::Uid;
use super::time::BootTime;

pub use self::seal::Seal;

/// The form that this code writes. It reads version 1, too.
pub const VERSION: u32 = 2;

/// Begins every frame but the header's. Neither end of it can be part of UTF-8.
const MARK: [u8; 4] = [0xff, b'B', b'J', 0xfe];
/// Units: bytes. Mark, number and length.
const CHECKED_BYTES: usize = 12;
/// Units: bytes. Those and the two checksums.
const HEAD_BYTES: usize = CHECKED_BYTES + 8;

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
    /// The attachment's namespace ended; its ordinal is its Pod's reservation again.
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
    /// The whole answer: a repeated ADD gets the same one.
    pub answer: Allocation,
    /// When.
    pub at: BootTime,
}

/// What an earlier process left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The journal.
    pub bytes: Vec<u8>,
    /// Its seal, if there is one.
    pub seal: Option<Seal>,
}

/// The journal is of a later version: do not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal has version {0}, which this program does not know")]
pub struct UnknownVersion(pub u32);

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Every intact entry, in the order in which they were written, those behind damage included.
    pub entries: Vec<Entry>,
    /// What is wrong with it.
    pub state: State,
}

/// Whether everything that was written can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// As far as the bytes can tell.
    #[default]
    Whole,
    /// The last frame is incomplete.
    Torn,
    /// Something else: entries are missing, and nobody knows which.
    Damaged(Damage),
}

/// The first thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Damage {
    /// Units: bytes from the beginning of the file.
    pub at: usize,
    /// What is there.
    pub what: &'static str,
}

/// The entry at that position of its journal (0: the header, which has its own form) as bytes to
/// append.
pub fn encode(number: usize, entry: &Entry) -> Vec<u8> {
    let json = serde_json::to_vec(entry).expect("an entry has only string keys");
    let length = (json.len() as u32).to_le_bytes();
    let mut bytes = Vec::with_capacity(json.len() + HEAD_BYTES);
    if number == 0 {
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&crc32(&json).to_le_bytes());
    } else {
        bytes.extend_from_slice(&MARK);
        bytes.extend_from_slice(&(number as u32).to_le_bytes());
        bytes.extend_from_slice(&length);
        let head = crc32(&bytes);
        let whole = crc32_of(&[&bytes, &json]);
        bytes.extend_from_slice(&head.to_le_bytes());
        bytes.extend_from_slice(&whole.to_le_bytes());
    }
    bytes.extend_from_slice(&json);
    bytes
}

/// All entries as the bytes of a whole journal; the first is the header.
pub fn encode_all(entries: &[Entry]) -> Vec<u8> {
    let frames = entries.iter().enumerate();
    frames.flat_map(|(n, entry)| encode(n, entry)).collect()
}

/// What the bytes hold, and what is wrong with them. Empty input is a journal without entries.
///
/// Errors: the header names an unknown version, or an intact entry cannot be understood.
pub fn decode(bytes: &[u8]) -> Result<Replay, UnknownVersion> {
    if bytes.is_empty() {
        return Ok(Replay::default());
    }
    let header = match plain_frame(bytes) {
        Some((json, length)) => Some((parse(json)?, length)),
        None => None,
    };
    match header {
        Some((header @ Entry::Header { version: 1, .. }, length)) => {
            decode_plain(bytes, length, header)
        }
        Some((Entry::Header { version, .. }, _)) if version != VERSION => {
            Err(UnknownVersion(version))
        }
        Some((header @ Entry::Header { .. }, length)) => {
            decode_numbered(bytes, length, Some(header))
        }
        // Without its header a journal may be from another boot: the caller must not take it for
        // one of this boot.
        Some(_) | None => decode_numbered(bytes, 0, None),
    }
}

fn parse(json: &[u8]) -> Result<Entry, UnknownVersion> {
    serde_json::from_slice(json).map_err(|_| UnknownVersion(0))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

/// The JSON of a frame of length, checksum and JSON, and the whole frame's length.
fn plain_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let length = (word(bytes, 0)? as usize).checked_add(8)?;
    // Zeros would be a valid empty frame.
    let json = bytes.get(8..length).filter(|json| !json.is_empty())?;
    (crc32(json) == word(bytes, 4)?).then_some((json, length))
}

/// The rest of a journal of version 1. In it a torn frame looks like a damaged length, so both are
/// damage, and no frame after it can be found.
fn decode_plain(bytes: &[u8], mut at: usize, header: Entry) -> Result<Replay, UnknownVersion> {
    let mut entries = vec![header];
    while at < bytes.len() {
        let Some((json, length)) = bytes.get(at..).and_then(plain_frame) else {
            let what = "an incomplete or damaged entry of version 1";
            let state = State::Damaged(Damage { at, what });
            return Ok(Replay { entries, state });
        };
        entries.push(parse(json)?);
        at += length;
    }
    let state = State::Whole;
    Ok(Replay { entries, state })
}

/// What is at the beginning of some bytes.
enum Frame<'b> {
    Intact {
        number: u32,
        json: &'b [u8],
    },
    /// The frame with the expected number, cut off.
    Torn,
    Bad,
}

fn numbered_frame(bytes: &[u8], expected: u32) -> Frame<'_> {
    let Some((head, _)) = bytes.split_at_checked(HEAD_BYTES) else {
        let mut begin = [0; 8];
        begin[..4].copy_from_slice(&MARK);
        begin[4..].copy_from_slice(&expected.to_le_bytes());
        let known = bytes.len().min(begin.len());
        return if bytes[..known] == begin[..known] {
            Frame::Torn
        } else {
            Frame::Bad
        };
    };
    let checked = &head[..CHECKED_BYTES];
    let (Some(number), Some(length)) = (word(head, 4), word(head, 8)) else {
        return Frame::Bad;
    };
    if checked[..4] != MARK || word(head, CHECKED_BYTES) != Some(crc32(checked)) {
        return Frame::Bad;
    }
    match bytes.get(HEAD_BYTES..HEAD_BYTES + length as usize) {
        Some(json) if word(head, CHECKED_BYTES + 4) == Some(crc32_of(&[checked, json])) => {
            Frame::Intact { number, json }
        }
        Some(_) => Frame::Bad,
        None if number == expected => Frame::Torn,
        None => Frame::Bad,
    }
}

/// The frames from `at` on. After damage it looks for the next mark, and the numbers give the order
/// in which the frames were written.
fn decode_numbered(
    bytes: &[u8],
    mut at: usize,
    header: Option<Entry>,
) -> Result<Replay, UnknownVersion> {
    let mut state = State::Whole;
    if header.is_none() {
        let what = "no header";
        state = State::Damaged(Damage { at, what });
    }
    let mut found: BTreeMap<u32, Entry> = BTreeMap::new();
    let mut expected = 1;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let wrong = match numbered_frame(rest, expected) {
            Frame::Intact { number, json } => {
                found.insert(number, parse(json)?);
                let here = at;
                at += HEAD_BYTES + json.len();
                let in_order = number == expected;
                expected = number.max(expected - 1).saturating_add(1);
                if in_order {
                    continue;
                }
                (here, "an entry out of order")
            }
            Frame::Torn if state == State::Whole => {
                state = State::Torn;
                break;
            }
            Frame::Torn | Frame::Bad => {
                let here = at;
                let next = rest[1..].windows(MARK.len()).position(|w| w == MARK);
                at = next.map_or(bytes.len(), |next| at + 1 + next);
                (here, "a damaged entry")
            }
        };
        if state == State::Whole {
            let (at, what) = wrong;
            state = State::Damaged(Damage { at, what });
        }
    }
    let entries = header.into_iter().chain(found.into_values()).collect();
    Ok(Replay { entries, state })
}

#[cfg(test)]
mod tests;
