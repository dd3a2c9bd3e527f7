//! The file of an agent's journal on its machine's disk, and what may become of it. What its bytes
//! mean is Berth's: here are only the states that the file was in.

use drydock_engine::Stream;

/// The longest run of zeros in a damaged journal. Units: bytes; about two entries.
const ZEROS_MAX: u64 = 600;

/// A file that is appended to, and now and then replaced.
#[derive(Clone, Debug, Default)]
pub struct JournalFile {
    bytes: Vec<u8>,
    /// Its lengths since it was replaced last: then, and after each append.
    lengths: Vec<usize>,
    /// What it was before it was replaced last.
    before: Vec<u8>,
}

impl JournalFile {
    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends.
    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.lengths.push(self.bytes.len());
    }

    /// Appends the beginning of an entry: not a state that anybody would have copied.
    pub fn append_torn(&mut self, bytes: &[u8], draws: &mut Stream) {
        let written = draws.below(bytes.len().max(1) as u64) as usize;
        self.bytes.extend_from_slice(&bytes[..written]);
    }

    /// Replaces all of it.
    pub fn replace(&mut self, bytes: Vec<u8>) {
        self.lengths = vec![bytes.len()];
        self.before = std::mem::replace(&mut self.bytes, bytes);
    }

    /// Deletes it.
    pub fn lose(&mut self) {
        *self = Self::default();
    }

    /// Puts back one of its earlier states: what it was before it was replaced last, or before an
    /// append after that.
    pub fn restore(&mut self, draws: &mut Stream) {
        let states = self.lengths.len().max(1) as u64;
        match draws.below(states) as usize {
            0 => self.bytes = std::mem::take(&mut self.before),
            state => self.bytes.truncate(self.lengths[state - 1]),
        }
        self.lengths = vec![self.bytes.len()];
    }

    /// Changes one byte, or puts zeros over some, before what was appended last: an entry that was
    /// appended last may be torn for other reasons.
    pub fn damage(&mut self, draws: &mut Stream) {
        let end = match self.lengths.as_slice() {
            [.., before, _] => *before,
            _ => self.bytes.len(),
        };
        if end == 0 {
            return;
        }
        let at = draws.below(end as u64) as usize;
        if draws.chance(1, 2) {
            self.bytes[at] ^= draws.between(1..=255) as u8;
        } else {
            let length = draws.between(1..=ZEROS_MAX) as usize;
            self.bytes[at..(at + length).min(end)].fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use drydock_engine::Streams;

    use super::*;

    fn draws(seed: u64) -> Stream {
        Streams::new(seed).stream("trouble", 0, "draws")
    }

    /// A file with an entry of each letter, replaced once, and its states in order.
    fn file() -> (JournalFile, Vec<Vec<u8>>) {
        let mut file = JournalFile::default();
        file.append(&[b'o'; 50]);
        let mut states = vec![file.bytes().to_vec()];
        file.replace(vec![b'a'; 100]);
        states.push(file.bytes().to_vec());
        for letter in [b'b', b'c', b'd'] {
            file.append(&[letter; 100]);
            states.push(file.bytes().to_vec());
        }
        (file, states)
    }

    #[test]
    fn damage_lies_before_the_last_append_and_is_the_same_for_the_same_draw() {
        let (_, states) = file();
        let whole = &states[4];
        let mut zeros = 0;
        for seed in 0..200 {
            let ((mut one, _), (mut other, _)) = (file(), file());
            one.damage(&mut draws(seed));
            other.damage(&mut draws(seed));
            assert_eq!(one.bytes(), other.bytes());
            assert_ne!(one.bytes(), whole);
            assert_eq!(one.bytes()[300..], whole[300..], "seed {seed}");
            let changed = one.bytes().iter().zip(whole).filter(|(a, b)| a != b);
            zeros += usize::from(changed.count() > 1);
        }
        assert!((40..160).contains(&zeros), "{zeros} of 200");
    }

    #[test]
    fn an_old_copy_is_one_of_the_earlier_states() {
        let (_, states) = file();
        let found: BTreeSet<Vec<u8>> = (0..100)
            .map(|seed| {
                let (mut file, _) = file();
                file.restore(&mut draws(seed));
                file.bytes().to_vec()
            })
            .collect();
        assert_eq!(found, states[..4].iter().cloned().collect());
    }

    #[test]
    fn what_is_lost_or_empty_can_be_struck_again() {
        let (mut file, _) = file();
        file.lose();
        file.damage(&mut draws(1));
        file.restore(&mut draws(1));
        assert!(file.bytes().is_empty());
        file.append(b"a");
        file.append_torn(b"bcd", &mut draws(1));
        assert!(b"abcd".starts_with(file.bytes()) && file.bytes().len() < 4);
    }
}
