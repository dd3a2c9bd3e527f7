//! The journal as a file: locked for the life of the process, appended to without fsync, replaced
//! by a new file that is renamed; and its seal, a file in a directory that a boot empties. The core
//! knows what the bytes mean.
//!
//! The lock is on a separate file: a rename gives the journal a new inode, and a lock on the old
//! one would exclude nobody.

use core::time::Duration;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::core::journal::{Seal, Stored};
use crate::core::report::LocalError;
use crate::ports::Journal;

/// The pause between attempts to take a lock that another process has.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// How many damaged journals are kept for people: the first ones, which show how it began, and the
/// last.
const ASIDE_COUNT_MAX: usize = 4;

/// Units: bytes. Longer than any seal.
const SEAL_READ_BYTES: u64 = 64;

struct Opened {
    lock: File,
    file: File,
    /// Units: bytes. The end of the last whole append.
    length: u64,
    seal: Option<File>,
}

/// The file.
pub struct JournalFile {
    path: PathBuf,
    /// Where the seal is; none: the journal is never sealed.
    seal: Option<PathBuf>,
    /// Taken, but not read yet.
    locked: Mutex<Option<File>>,
    opened: Mutex<Option<Opened>>,
}

impl JournalFile {
    /// The journal at that path; `open` creates it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            seal: None,
            locked: Mutex::new(None),
            opened: Mutex::new(None),
        }
    }

    /// With a seal at that path, in a directory that exists when the journal is opened.
    #[must_use]
    pub fn sealed_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.seal = Some(path.into());
        self
    }

    fn locked(&self) -> MutexGuard<'_, Option<File>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other process has the journal; calls `told` once if one has it.
    pub async fn lock(&self, told: impl FnOnce() + Send) -> Result<(), LocalError> {
        let mut told = Some(told);
        loop {
            if let Some(lock) = self.try_lock().map_err(|error| self.failed(error))? {
                *self.locked() = Some(lock);
                return Ok(());
            }
            if let Some(told) = told.take() {
                told();
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Whether something can be written beside the journal, so that a full or read-only disk is
    /// noticed before an ADD hits it.
    ///
    /// Errors: what the operating system said.
    pub fn try_writing(&self) -> Result<(), LocalError> {
        let probe = self.beside(".probe");
        let write = || {
            let mut file = private(&probe)?;
            file.write_all(&[0; 512])?;
            match fs::remove_file(&probe) {
                // Another check ran at the same time.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        };
        write().map_err(|error| LocalError::new(format_args!("{}: {error}", probe.display())))
    }

    /// Whether entries can be written to where the next process will look for them.
    ///
    /// Errors: what is wrong; a compaction puts back a journal that is not in its place.
    pub fn check(&self) -> Result<(), LocalError> {
        let guard = self.opened();
        if let Some(opened) = guard.as_ref() {
            for (file, path) in [
                (&opened.file, self.path.clone()),
                (&opened.lock, self.beside(".lock")),
            ] {
                if !is_at(file, &path) {
                    let text = "it was removed or replaced; it is written anew";
                    return Err(LocalError::new(format_args!("{}: {text}", path.display())));
                }
            }
        }
        drop(guard);
        self.try_writing()
    }

    fn opened(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn failed(&self, error: impl core::fmt::Display) -> LocalError {
        LocalError::new(format_args!("{}: {error}", self.path.display()))
    }

    /// Tries to take the lock; `None` while another process has it.
    fn try_lock(&self) -> io::Result<Option<File>> {
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        let lock = private(&self.beside(".lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, lock: File) -> io::Result<(Stored, Opened)> {
        let mut file = private(&self.path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let length = bytes.len() as u64;
        let (seal, seal_file) = self.read_seal();
        let opened = Opened {
            lock,
            file,
            length,
            seal: seal_file,
        };
        Ok((Stored { bytes, seal }, opened))
    }

    /// Without a file for it there is no seal, and the journal counts as unsealed.
    fn read_seal(&self) -> (Option<Seal>, Option<File>) {
        let Some(path) = &self.seal else {
            return (None, None);
        };
        match open_seal(path) {
            Ok((seal, file)) => (seal, Some(file)),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the journal has no seal: each start asks the runtime");
                (None, None)
            }
        }
    }

    fn write(&self, bytes: &[u8], seal: Option<Seal>) -> io::Result<()> {
        let mut guard = self.opened();
        let opened = guard.as_mut().ok_or_else(not_open)?;
        opened.unseal_before(seal)?;
        if let Err(error) = opened.file.write_all(bytes) {
            // What comes after a torn entry would not be read.
            let _ = opened.file.set_len(opened.length);
            return Err(error);
        }
        opened.length += bytes.len() as u64;
        opened.seal_after(seal)
    }

    fn replace(&self, bytes: &[u8], seal: Option<Seal>) -> io::Result<()> {
        let mut guard = self.opened();
        let opened = guard.as_mut().ok_or_else(not_open)?;
        opened.unseal_before(seal)?;
        if !is_at(&opened.lock, &self.beside(".lock")) {
            // Somebody removed the directory: a lock on a file that nobody else can open excludes
            // nobody.
            let taken = self.try_lock()?;
            opened.lock = taken.ok_or_else(|| io::Error::other("another agent has the journal"))?;
        }
        let aside = self.beside(".new");
        // Left by a process that died halfway.
        let _ = fs::remove_file(&aside);
        let mut file = private(&aside)?;
        if let Err(error) = file.write_all(bytes) {
            // On a full disk it would take the room that is left.
            let _ = fs::remove_file(&aside);
            return Err(error);
        }
        fs::rename(&aside, &self.path)?;
        opened.file = file;
        opened.length = bytes.len() as u64;
        opened.seal_after(seal)
    }

    /// A second name for the file: the next replacement removes only the first.
    fn link_aside(&self) -> io::Result<()> {
        let name = |number: usize| self.beside(&format!(".damaged-{number}"));
        for number in 1..=ASIDE_COUNT_MAX {
            let name = name(number);
            if number == ASIDE_COUNT_MAX {
                let _ = fs::remove_file(&name);
            }
            match fs::hard_link(&self.path, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => return linked,
            }
        }
        Ok(())
    }
}

impl Opened {
    /// Removes the seal before bytes are written that must have none.
    fn unseal_before(&self, seal: Option<Seal>) -> io::Result<()> {
        match (&self.seal, seal) {
            (Some(file), None) => file.set_len(0),
            _ => Ok(()),
        }
    }

    /// Seals what was written. A seal that cannot be written is removed.
    fn seal_after(&self, seal: Option<Seal>) -> io::Result<()> {
        let (Some(file), Some(seal)) = (&self.seal, seal) else {
            return Ok(());
        };
        let written = file.write_all_at(&seal.to_bytes(), 0);
        written.or_else(|_| file.set_len(0))
    }
}

/// Whether the open file is the one at the path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let open = file.metadata().map(identity).ok();
    open.is_some() && open == fs::symlink_metadata(path).map(identity).ok()
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// The seal in a file, and the file. Content that is no seal, for instance a longer one of a later
/// release, is removed: a seal written over it could not be read again.
fn open_seal(path: &Path) -> io::Result<(Option<Seal>, File)> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    (&file).take(SEAL_READ_BYTES).read_to_end(&mut bytes)?;
    let seal = Seal::from_bytes(&bytes);
    if seal.is_none() {
        file.set_len(0)?;
    }
    Ok((seal, file))
}

fn not_open() -> io::Error {
    io::Error::other("the journal is not open")
}

impl Journal for JournalFile {
    async fn open(&self) -> Result<Stored, LocalError> {
        let before = self.locked().take();
        let lock = if let Some(lock) = before {
            lock
        } else {
            let path = self.path.display().to_string();
            self.lock(|| tracing::info!(path, "another agent has the journal"))
                .await?;
            let lock = self.locked().take();
            lock.ok_or_else(|| self.failed("it was opened twice"))?
        };
        let (stored, opened) = self.read(lock).map_err(|error| self.failed(error))?;
        *self.opened() = Some(opened);
        Ok(stored)
    }

    async fn append(&self, bytes: Vec<u8>, seal: Option<Seal>) -> Result<(), LocalError> {
        let written = self.write(&bytes, seal);
        written.map_err(|error| self.failed(error))
    }

    async fn compact(&self, bytes: Vec<u8>, seal: Option<Seal>) -> Result<(), LocalError> {
        let replaced = self.replace(&bytes, seal);
        replaced.map_err(|error| self.failed(error))
    }

    async fn set_aside(&self) -> Result<(), LocalError> {
        self.link_aside().map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/journal");
        (directory, path)
    }

    #[tokio::test]
    async fn the_next_process_reads_what_was_appended_and_compacted() {
        let (_directory, path) = place();
        for (before, appended) in [("", "one"), ("one", "two"), ("onetwo", "")] {
            let journal = JournalFile::new(&path);
            assert_eq!(journal.open().await.unwrap().bytes, before.as_bytes());
            journal.append(appended.into(), None).await.unwrap();
        }
        {
            let journal = JournalFile::new(&path);
            journal.open().await.unwrap();
            journal.compact(b"all".into(), None).await.unwrap();
            journal.append(b"+".into(), None).await.unwrap();
        }
        let journal = JournalFile::new(&path);
        assert_eq!(journal.open().await.unwrap().bytes, b"all+");
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 2, "journal and lock");
    }

    #[tokio::test]
    async fn one_process_at_a_time_has_it_even_after_a_compaction() {
        let (_directory, path) = place();
        let first = JournalFile::new(&path);
        first.open().await.unwrap();
        first.compact(b"x".into(), None).await.unwrap();
        let second = JournalFile::new(&path);
        assert!(second.try_lock().unwrap().is_none());
        drop(first);
        assert_eq!(second.open().await.unwrap().bytes, b"x");
    }

    #[tokio::test]
    async fn a_successor_waits_for_the_lock_and_says_so() {
        let (_directory, path) = place();
        let first = JournalFile::new(&path);
        first.open().await.unwrap();
        first.append(b"x".into(), None).await.unwrap();
        let second = JournalFile::new(&path);
        let (sender, told) = tokio::sync::oneshot::channel();
        let successor = async {
            second
                .lock(|| sender.send(()).expect("it is awaited"))
                .await
                .unwrap();
            second.open().await.unwrap().bytes
        };
        let predecessor = async {
            told.await.unwrap();
            first.append(b"y".into(), None).await.unwrap();
            drop(first);
        };
        let (read, ()) = tokio::join!(successor, predecessor);
        assert_eq!(read, b"xy");
    }

    #[tokio::test]
    async fn a_trial_write_leaves_nothing_and_tells_of_a_missing_directory() {
        let (_directory, path) = place();
        let journal = JournalFile::new(&path);
        assert!(journal.try_writing().is_err());
        journal.open().await.unwrap();
        journal.try_writing().unwrap();
        let files = fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(files, 2, "journal and lock");
    }

    #[tokio::test]
    async fn a_directory_that_was_removed_is_noticed_and_made_anew_with_journal_and_lock() {
        let (_directory, path) = place();
        let journal = JournalFile::new(&path);
        journal.open().await.unwrap();
        journal.check().unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        journal.check().unwrap_err();
        journal.compact(b"all".into(), None).await.unwrap();
        journal.check().unwrap();
        let second = JournalFile::new(&path);
        assert!(second.try_lock().unwrap().is_none(), "the lock is held");
        // A successor that came in between is not overwritten.
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        second.open().await.unwrap();
        assert!(journal.compact(b"old".into(), None).await.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[tokio::test]
    async fn a_damaged_journal_is_kept_a_bounded_number_of_times_and_never_changed() {
        let (_directory, path) = place();
        let journal = JournalFile::new(&path);
        journal.open().await.unwrap();
        for content in 0..8 {
            journal.compact(vec![content], None).await.unwrap();
            journal.set_aside().await.unwrap();
        }
        journal.compact(b"sound".into(), None).await.unwrap();
        let mut kept = Vec::new();
        for number in 1..=8 {
            let name = journal.beside(&format!(".damaged-{number}"));
            kept.extend(fs::read(name).unwrap_or_default());
        }
        assert_eq!(kept, [0, 1, 2, 7], "the first ones and the last");
        assert_eq!(fs::read(&path).unwrap(), b"sound");
    }

    #[tokio::test]
    async fn a_replacement_that_fails_leaves_the_journal_and_no_half_of_another() {
        let (_directory, path) = place();
        let journal = JournalFile::new(&path);
        journal.open().await.unwrap();
        journal.append(b"x".into(), None).await.unwrap();
        // Nothing can be written in the place of a directory.
        fs::create_dir(journal.beside(".new")).unwrap();
        assert!(journal.compact(b"y".into(), None).await.is_err());
        fs::remove_dir(journal.beside(".new")).unwrap();
        journal.append(b"z".into(), None).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"xz");
        journal.compact(b"all".into(), None).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all", "it comes back by itself");
    }

    #[tokio::test]
    async fn a_seal_is_of_what_was_written_last_and_gone_where_there_is_none() {
        let (directory, path) = place();
        let at = directory.path().join("journal.seal");
        let journal = || JournalFile::new(&path).sealed_at(&at);
        let seal = |text: &str| Some(Seal::of(text.as_bytes()));
        let first = journal();
        assert_eq!(first.open().await.unwrap(), Stored::default());
        first.append(b"one".into(), seal("one")).await.unwrap();
        first.compact(b"all".into(), seal("all")).await.unwrap();
        first.append(b"+".into(), seal("all+")).await.unwrap();
        // What could not be written is not sealed.
        fs::create_dir(first.beside(".new")).unwrap();
        assert!(first.compact(b"not".into(), seal("not")).await.is_err());
        fs::remove_dir(first.beside(".new")).unwrap();
        drop(first);
        let second = journal();
        let stored = second.open().await.unwrap();
        assert_eq!(
            (&stored.bytes[..], stored.seal),
            (&b"all+"[..], seal("all+"))
        );
        assert_eq!(fs::metadata(&at).unwrap().mode() & 0o777, 0o600);
        second.append(b"?".into(), None).await.unwrap();
        drop(second);
        assert_eq!(journal().open().await.unwrap().seal, None);
        // Anything that is no seal is removed, whether half of one or a later release's.
        let mut written = "all+?".to_owned();
        for other in [b"half".to_vec(), vec![b'x'; 100]] {
            fs::write(&at, other).unwrap();
            let journal = journal();
            assert_eq!(journal.open().await.unwrap().seal, None);
            written.push('.');
            journal.append(b".".into(), seal(&written)).await.unwrap();
        }
        assert_eq!(journal().open().await.unwrap().seal, seal(&written));
        // A file without an end is not read, and nothing is written through a link.
        fs::remove_file(&at).unwrap();
        let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &at, kind, mode, 0).unwrap();
        assert_eq!(journal().open().await.unwrap().seal, None);
        fs::remove_file(&at).unwrap();
        std::os::unix::fs::symlink(directory.path().join("else"), &at).unwrap();
        let third = journal();
        third.open().await.unwrap();
        third.append(b"!".into(), seal("all+?!")).await.unwrap();
        assert!(!directory.path().join("else").exists());
    }

    #[tokio::test]
    async fn nothing_is_written_before_the_lock() {
        let (_directory, path) = place();
        let journal = JournalFile::new(&path);
        assert!(journal.append(b"x".into(), None).await.is_err());
        assert!(journal.compact(b"x".into(), None).await.is_err());
        assert!(!path.exists());
    }
}
