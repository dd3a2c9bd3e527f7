//! The seal of a journal: how long it was and what was in it when it was written last, in a few
//! bytes. It is kept apart from the journal, where it survives the process but not the boot. An old
//! copy of a journal, or one whose end was cut off, does not match the seal. A seal shows that
//! nothing is missing; it does not protect against malice.

use crate::core::hash::{crc32, crc32_continued};

/// What a journal began with when it was written last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// Units: bytes.
    length: u64,
    /// CRC-32 of them.
    checksum: u32,
}

/// Units: bytes. Length, checksum, and the CRC-32 of both.
const SEAL_BYTES: usize = 16;

impl Seal {
    /// Of a whole journal.
    pub fn of(journal: &[u8]) -> Self {
        Self::default().continued(journal)
    }

    /// The seal after these bytes were appended.
    #[must_use]
    pub fn continued(self, appended: &[u8]) -> Self {
        Self {
            length: self.length + appended.len() as u64,
            checksum: crc32_continued(self.checksum, appended),
        }
    }

    /// Whether the journal begins with all that was sealed. The journal may be longer: a process
    /// that died may not have sealed its last write.
    pub fn holds(&self, journal: &[u8]) -> bool {
        let length = usize::try_from(self.length).ok();
        let begin = length.and_then(|length| journal.get(..length));
        begin.is_some_and(|begin| crc32(begin) == self.checksum)
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> [u8; SEAL_BYTES] {
        let mut bytes = [0; SEAL_BYTES];
        bytes[..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.checksum.to_le_bytes());
        let check = crc32(&bytes[..12]);
        bytes[12..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// The stored seal; `None`: the bytes are not a seal, for instance a half-written one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SEAL_BYTES] = bytes.try_into().ok()?;
        let (length, rest) = bytes.split_first_chunk()?;
        let (checksum, _) = rest.split_first_chunk()?;
        let seal = Self {
            length: u64::from_le_bytes(*length),
            checksum: u32::from_le_bytes(*checksum),
        };
        (seal.to_bytes() == *bytes).then_some(seal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_for_what_was_written_and_for_nothing_that_was_cut_or_changed(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            appended in proptest::collection::vec(any::<u8>(), 1..40),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let journal = [before.clone(), appended.clone()].concat();
            let seal = Seal::of(&before).continued(&appended);
            prop_assert_eq!(seal, Seal::of(&journal));
            prop_assert!(seal.holds(&journal));
            prop_assert!(seal.holds(&[journal.clone(), behind].concat()));
            prop_assert!(!seal.holds(&journal[..at.index(journal.len())]));
            let mut changed = journal.clone();
            changed[at.index(journal.len())] ^= 1_u8 << bit;
            prop_assert!(!seal.holds(&changed));
        }

        #[test]
        fn stored_it_is_the_same_and_half_of_it_is_none(
            journal in proptest::collection::vec(any::<u8>(), 0..40),
            at in 0..SEAL_BYTES,
        ) {
            let seal = Seal::of(&journal);
            let bytes = seal.to_bytes();
            prop_assert_eq!(Seal::from_bytes(&bytes), Some(seal));
            prop_assert_eq!(Seal::from_bytes(&bytes[..at]), None);
            let mut half = Seal::of(&[journal, vec![1]].concat()).to_bytes();
            half[..8].copy_from_slice(&bytes[..8]);
            prop_assert_eq!(Seal::from_bytes(&half), None);
        }
    }
}
