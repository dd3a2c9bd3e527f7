//! What survives an agent's process on its machine: its journal and its spool, with what is out of
//! order about them, and the count of its port calls.

use std::time::Duration;

use berth::core::exchange::{SpoolEntry, SpoolId};
use berth::core::journal::{Seal, Stored};
use berth::core::report::LocalError;
use drydock_engine::Streams;
use drydock_models::ipam::Trouble;
use drydock_traces::plan::Edge;

use super::journal::JournalFile;
use super::troubles::{Appended, Troubles, slow};

/// A trigger on a port call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmedCall {
    /// 1-based count of the process's port calls, over all its lives.
    pub call: u64,
    /// Before or after it.
    pub edge: Edge,
    /// Position in the plan.
    pub fault: u32,
    /// It kills the process.
    pub kills: bool,
}

/// What survives the process on its machine, and what counts its calls.
#[derive(Debug, Default)]
pub struct Disk {
    /// The journal.
    pub journal: JournalFile,
    /// Its seal, which is not on the same disk: it does not outlive the boot.
    pub seal: Option<Seal>,
    /// Spooled DELs by file name.
    pub spool: Vec<SpoolEntry>,
    /// Port calls made so far.
    pub calls: u64,
    /// Triggers not yet fired.
    pub armed: Vec<ArmedCall>,
    /// What is out of order.
    pub troubles: Troubles,
}

impl Disk {
    /// A trouble begins, or happens.
    pub fn trouble(&mut self, fault: u32, trouble: Trouble, draw: u64) {
        let mut draws = Streams::new(draw).stream("trouble", 0, "draws");
        match trouble {
            Trouble::JournalLost => self.journal.lose(),
            Trouble::JournalDamaged => self.journal.damage(&mut draws),
            Trouble::JournalOldCopy => self.journal.restore(&mut draws),
            Trouble::SpoolGarbage => {
                for entry in &mut self.spool {
                    entry.request = None;
                }
                self.spool.push(SpoolEntry {
                    id: SpoolId(format!("garbage-{fault}")),
                    request: None,
                });
                self.spool.sort_by(|one, other| one.id.cmp(&other.id));
            }
            lasting => self.troubles.begin(fault, lasting, draw),
        }
    }

    /// Reads the journal.
    /// Errors: it cannot be opened for writing.
    pub fn open_journal(&mut self) -> Result<Stored, LocalError> {
        if self.is_read_only() {
            return Err(LocalError::new("Read-only file system"));
        }
        Ok(Stored {
            bytes: self.journal.bytes().to_vec(),
            seal: self.seal,
        })
    }

    /// Appends to the journal.
    pub fn append(&mut self, bytes: &[u8], seal: Option<Seal>) -> Appended {
        self.seal = self.seal.filter(|_| seal.is_some());
        let torn = |trouble| matches!(trouble, Trouble::JournalTorn { .. });
        if let Some(active) = self.troubles.find(torn) {
            let fault = active.fault;
            self.journal.append_torn(bytes, &mut active.draws);
            self.troubles.end(fault);
            return Appended::Torn(fault);
        }
        if self.is_read_only() {
            return Appended::Failed;
        }
        if let Some(active) = self
            .troubles
            .find(|trouble| trouble == Trouble::JournalFull)
        {
            // Mostly the file is cut back to what it was; sometimes that fails, too.
            if active.draws.chance(1, 4) {
                self.journal.append_torn(bytes, &mut active.draws);
            }
            return Appended::Failed;
        }
        self.journal.append(bytes);
        self.seal = seal;
        Appended::After(self.slowness())
    }

    /// Replaces the journal.
    pub fn compact(&mut self, bytes: Vec<u8>, seal: Option<Seal>) -> Appended {
        self.seal = self.seal.filter(|_| seal.is_some());
        if self.is_read_only() {
            return Appended::Failed;
        }
        self.journal.replace(bytes);
        self.seal = seal;
        Appended::After(self.slowness())
    }

    fn is_read_only(&mut self) -> bool {
        let read_only = |trouble| trouble == Trouble::JournalReadOnly;
        self.troubles.find(read_only).is_some()
    }

    fn slowness(&mut self) -> Duration {
        self.troubles
            .find(|trouble| trouble == Trouble::JournalSlow)
            .map_or(Duration::ZERO, slow)
    }

    /// The spool, and how long a list of it takes.
    /// Errors: it cannot be listed.
    pub fn list_spool(&mut self) -> Result<(Duration, Vec<SpoolEntry>), LocalError> {
        let unreadable = |trouble| trouble == Trouble::SpoolUnreadable;
        if self.troubles.find(unreadable).is_some() {
            return Err(LocalError::new("Input/output error"));
        }
        let late = self.troubles.find(|trouble| trouble == Trouble::SpoolLate);
        let takes = late.map_or(Duration::ZERO, slow);
        Ok((takes, self.spool.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::troubles::SLOW_MAX;
    use super::*;

    fn disk() -> Disk {
        let mut disk = Disk::default();
        disk.journal.append(b"whole");
        disk
    }

    #[test]
    fn an_append_is_torn_once_and_names_its_fault() {
        let mut disk = disk();
        let before = disk.journal.bytes().to_vec();
        disk.trouble(
            3,
            Trouble::JournalTorn {
                restart_after: Duration::ZERO,
            },
            9,
        );
        assert_eq!(disk.append(b"0123456789", None), Appended::Torn(3));
        let torn = disk.journal.bytes().len() - before.len();
        assert!(torn < 10 && disk.journal.bytes().starts_with(&before));
        assert_eq!(disk.append(b"ab", None), Appended::After(Duration::ZERO));
        assert!(disk.journal.bytes().ends_with(b"ab"));
    }

    #[test]
    fn a_full_disk_refuses_appends_and_a_read_only_one_everything_until_the_end() {
        let mut disk = disk();
        disk.trouble(0, Trouble::JournalFull, 1);
        assert_eq!(disk.append(b"a", None), Appended::Failed);
        assert_eq!(
            disk.compact(b"b".to_vec(), None),
            Appended::After(Duration::ZERO)
        );
        disk.trouble(1, Trouble::JournalReadOnly, 1);
        assert_eq!(disk.compact(b"c".to_vec(), None), Appended::Failed);
        disk.troubles.end(0);
        assert_eq!(disk.append(b"d", None), Appended::Failed);
        assert!(disk.open_journal().is_err());
        disk.troubles.end(1);
        assert_eq!(disk.append(b"e", None), Appended::After(Duration::ZERO));
        assert_eq!(disk.open_journal().unwrap().bytes, b"be");
    }

    #[test]
    fn a_slow_journal_takes_seconds_and_a_late_spool_too() {
        let mut disk = disk();
        disk.trouble(0, Trouble::JournalSlow, 1);
        disk.trouble(1, Trouble::SpoolLate, 1);
        let seconds = Duration::from_secs(1)..=SLOW_MAX;
        let Appended::After(took) = disk.append(b"a", None) else {
            panic!("it is done")
        };
        assert!(seconds.contains(&took));
        assert!(seconds.contains(&disk.list_spool().unwrap().0));
        assert!(!disk.troubles.spool_is_watched());
        assert_eq!(disk.troubles.end(1), Some(Trouble::SpoolLate));
        assert!(disk.troubles.spool_is_watched());
    }

    #[test]
    fn garbage_in_the_spool_is_an_entry_that_cannot_be_read() {
        let mut disk = disk();
        disk.trouble(0, Trouble::SpoolGarbage, 1);
        let (_, entries) = disk.list_spool().unwrap();
        assert!(entries.len() == 1 && entries[0].request.is_none());
        disk.trouble(1, Trouble::SpoolUnreadable, 1);
        assert!(disk.list_spool().is_err());
    }
}
