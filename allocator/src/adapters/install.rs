//! Puts the plugin's binary and the network configuration on a host: each by temporary file, fsync
//! and rename, so that a runtime that executes or reads it meanwhile sees the old file or the new
//! one. The previous file is kept. What Berth did not put there is left alone unless `force` is
//! set.
//!
//! Beside each file is a receipt with the length and hash of what was installed: that, not the
//! name, says whose the file is. The names of kept files and receipts begin with a dot and have no
//! extension that a runtime would load.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::AGENT_MARKER;
use crate::core::hash::fnv1a;

/// One file to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The new file.
    pub source: PathBuf,
    /// Where it goes; the directory must exist.
    pub directory: PathBuf,
    /// Its name there.
    pub name: String,
    /// Permission bits.
    pub mode: u32,
}

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing of that name was there.
    Installed,
    /// An earlier one is kept beside it.
    Replaced,
    /// The same bytes were there.
    Unchanged,
    /// It is gone.
    Removed,
    /// It is gone, and the file that was overwritten by force is back.
    Restored,
    /// There was none.
    Absent,
}

/// Why an item was not installed or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The operating system refused.
    #[error("{}: {step}", path.display())]
    Io {
        /// At what.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The file that is there is not Berth's.
    #[error("{}: was not put there by berthd, or changed since; it is left alone without --force",
            path.display())]
    NotOwned {
        /// Which.
        path: PathBuf,
    },
}

/// Length and hash of a file.
#[derive(Serialize, Deserialize)]
struct Fingerprint {
    bytes: u64,
    fnv1a: String,
}

/// What Berth put there.
#[derive(Serialize, Deserialize)]
struct Receipt {
    version: u32,
    /// The file and the previous one: a crash may leave either.
    files: Vec<Fingerprint>,
    /// The file kept beside it is not Berth's: uninstalling puts it back.
    over_foreign: bool,
}

impl Receipt {
    fn of(files: &[&[u8]], over_foreign: bool) -> Self {
        let fingerprint = |bytes: &&[u8]| Fingerprint {
            bytes: bytes.len() as u64,
            fnv1a: format!("{:016x}", fnv1a(bytes)),
        };
        Self {
            version: 1,
            files: files.iter().map(fingerprint).collect(),
            over_foreign,
        }
    }

    fn is_of(&self, bytes: &[u8]) -> bool {
        let hash = format!("{:016x}", fnv1a(bytes));
        self.files
            .iter()
            .any(|file| file.bytes == bytes.len() as u64 && file.fnv1a == hash)
    }
}

fn failed(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::Io { path, step, source }
}

/// The file's content; `None` where there is no such file. A link is not followed: the write would
/// go elsewhere.
fn read(path: &Path) -> Result<Option<Vec<u8>>, InstallError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => {
            let source = io::Error::other("it is no regular file");
            return Err(failed(path, "look at what is there")(source));
        }
        Ok(_) | Err(_) => {}
    }
    fs::read(path).map(Some).map_err(failed(path, "read it"))
}

impl Item {
    fn target(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.directory.join(format!(".{}.berth-{what}", self.name))
    }

    fn receipt(&self) -> Result<Option<Receipt>, InstallError> {
        // One that cannot be parsed proves nothing.
        Ok(read(&self.beside("receipt"))?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Installs the item. `force` overwrites what is not Berth's and keeps a copy.
    pub fn install(&self, force: bool) -> Result<Outcome, InstallError> {
        let new = fs::read(&self.source).map_err(failed(&self.source, "read the source"))?;
        let target = self.target();
        let there = read(&target)?;
        let receipt = self.receipt()?;
        let owned = |bytes: &Vec<u8>| {
            *bytes == new || receipt.as_ref().is_some_and(|receipt| receipt.is_of(bytes))
        };
        let foreign = there.as_ref().is_some_and(|bytes| !owned(bytes));
        if foreign && !force {
            return Err(InstallError::NotOwned { path: target });
        }
        let before = receipt.is_some_and(|receipt| receipt.over_foreign);
        let outcome = match &there {
            Some(bytes) if *bytes == new => Outcome::Unchanged,
            Some(bytes) => {
                // The first foreign file is the one to put back, whatever came after it.
                if foreign || !before {
                    self.put(&self.beside("previous"), bytes, self.mode)?;
                }
                Outcome::Replaced
            }
            None => Outcome::Installed,
        };
        // The receipt first: a file without one would count as another's after a crash.
        let over_foreign = foreign || (before && there.is_some());
        let own: Vec<&[u8]> = [Some(new.as_slice()), there.as_deref().filter(|_| !foreign)]
            .into_iter()
            .flatten()
            .collect();
        self.put_receipt(&Receipt::of(&own, over_foreign))?;
        if outcome == Outcome::Unchanged {
            let permissions = Permissions::from_mode(self.mode);
            fs::set_permissions(&target, permissions).map_err(failed(&target, "set its mode"))?;
        } else {
            self.put(&target, &new, self.mode)?;
        }
        Ok(outcome)
    }

    /// Removes the item, with what is kept beside it.
    pub fn uninstall(&self, force: bool) -> Result<Outcome, InstallError> {
        let target = self.target();
        let there = read(&target)?;
        let receipt = self.receipt()?;
        let owned = there
            .as_ref()
            .is_none_or(|bytes| receipt.as_ref().is_some_and(|receipt| receipt.is_of(bytes)));
        if !owned && !force {
            return Err(InstallError::NotOwned { path: target });
        }
        let previous = self.beside("previous");
        let restores =
            receipt.is_some_and(|receipt| receipt.over_foreign) && read(&previous)?.is_some();
        let outcome = if restores {
            fs::rename(&previous, &target).map_err(failed(&target, "put the earlier one back"))?;
            Outcome::Restored
        } else if there.is_some() {
            remove(&target)?;
            Outcome::Removed
        } else {
            Outcome::Absent
        };
        remove(&previous)?;
        remove(&self.beside("receipt"))?;
        sync(&self.directory)?;
        Ok(outcome)
    }

    /// Leaves beside the plugin, or removes, the marker that this host has an agent: with it, the
    /// plugin's store `disk` serves only what the administrator's list names.
    pub fn mark_agent(&self, has_agent: bool) -> Result<(), InstallError> {
        const TEXT: &[u8] = b"This host has an agent of Berth.\n";
        // The plugin looks for it under one name, whatever its own.
        let marker = self.directory.join(AGENT_MARKER);
        if has_agent {
            return self.put(&marker, TEXT, 0o644);
        }
        remove(&marker)?;
        sync(&self.directory)
    }

    /// Keeps the item installed: what is missing is put back and reported once. A file that is
    /// there but is another's is left alone.
    ///
    /// Errors: what is wrong, or was.
    pub fn keep(&self) -> Result<(), String> {
        let target = self.target();
        let at = |why: &str| format!("{}: {why}", target.display());
        let there = read(&target).map_err(|error| at(&words(&error)))?;
        let Some(bytes) = there else {
            // The marker of an agent first: the plugin must not run without it.
            let signed = if self.mode & 0o111 == 0 {
                Ok(())
            } else {
                self.mark_agent(true)
            };
            return Err(match signed.and_then(|()| self.install(false)) {
                Ok(_) => at("it was removed; it is put back"),
                Err(error) => at(&format!("it was removed: {}", words(&error))),
            });
        };
        let receipt = self.receipt().map_err(|error| at(&words(&error)))?;
        if !receipt.is_some_and(|receipt| receipt.is_of(&bytes)) {
            return Err(at("it is not what berthd put there"));
        }
        if self.mode & 0o111 != 0 && !self.directory.join(AGENT_MARKER).is_file() {
            return Err(match self.mark_agent(true) {
                Ok(()) => at("the sign of an agent beside it was removed; it is put back"),
                Err(error) => at(&words(&error)),
            });
        }
        let found = fs::metadata(&target).map_err(|error| at(&error.to_string()))?;
        if found.permissions().mode() & 0o7777 != self.mode {
            return Err(at("its permissions were changed"));
        }
        Ok(())
    }

    fn put_receipt(&self, receipt: &Receipt) -> Result<(), InstallError> {
        let bytes = serde_json::to_vec(receipt).expect("a receipt has only string keys");
        self.put(&self.beside("receipt"), &bytes, 0o600)
    }

    /// Writes `bytes` to `path`, whole or not at all.
    fn put(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), InstallError> {
        let aside = self.beside("new");
        // Left by a process that died halfway.
        remove(&aside)?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(bytes)?;
            // The process's umask must not decide.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        let written = write().map_err(failed(path, "write it"));
        if written.is_err() {
            // The error that matters is the first.
            let _ = fs::remove_file(&aside);
        }
        written?;
        sync(&self.directory)
    }
}

/// What was tried, and the operating system's error.
fn words(error: &InstallError) -> String {
    match error {
        InstallError::Io { step, source, .. } => format!("{step}: {source}"),
        InstallError::NotOwned { .. } => "it is another's".to_owned(),
    }
}

fn remove(path: &Path) -> Result<(), InstallError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, "remove it")(error)),
        _ => Ok(()),
    }
}

/// Makes renames in the directory last.
fn sync(directory: &Path) -> Result<(), InstallError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed(directory, "sync the directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        _directory: tempfile::TempDir,
        item: Item,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("bin");
        fs::create_dir(&target).unwrap();
        let source = directory.path().join("new-plugin");
        fs::write(&source, b"one").unwrap();
        let item = Item {
            source,
            directory: target,
            name: "berth".into(),
            mode: 0o755,
        };
        Place {
            _directory: directory,
            item,
        }
    }

    impl Place {
        fn install(&self, new: &str) -> Result<Outcome, InstallError> {
            fs::write(&self.item.source, new).unwrap();
            self.item.install(false)
        }

        fn there(&self) -> String {
            fs::read_to_string(self.item.target()).unwrap()
        }

        fn files(&self) -> Vec<String> {
            let list = fs::read_dir(&self.item.directory).unwrap();
            let mut names: Vec<_> = list
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn installing_again_replaces_and_keeps_the_previous_one() {
        let place = place();
        assert_eq!(place.install("one").unwrap(), Outcome::Installed);
        assert_eq!(place.install("one").unwrap(), Outcome::Unchanged);
        assert_eq!(place.install("two").unwrap(), Outcome::Replaced);
        assert_eq!(place.there(), "two");
        let kept = fs::read_to_string(place.item.beside("previous")).unwrap();
        assert_eq!(kept, "one");
        let mode = fs::metadata(place.item.target()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o755);
        let names = [".berth.berth-previous", ".berth.berth-receipt", "berth"];
        assert_eq!(place.files(), names);
    }

    #[test]
    fn what_is_anothers_is_left_alone_unless_told_and_comes_back() {
        let place = place();
        fs::write(place.item.target(), "theirs").unwrap();
        let refused = place.install("one").unwrap_err();
        let target = place.item.target().display().to_string();
        assert!(refused.to_string().starts_with(&target), "{refused}");
        assert_eq!((place.there().as_str(), place.files().len()), ("theirs", 1));
        assert_eq!(place.item.install(true).unwrap(), Outcome::Replaced);
        assert_eq!(place.install("two").unwrap(), Outcome::Replaced);
        assert_eq!(place.there(), "two");
        assert_eq!(place.item.uninstall(false).unwrap(), Outcome::Restored);
        assert_eq!((place.there().as_str(), place.files().len()), ("theirs", 1));
    }

    #[test]
    fn a_file_that_was_edited_since_is_not_overwritten_or_removed() {
        let place = place();
        place.install("one").unwrap();
        fs::write(place.item.target(), "edited").unwrap();
        let refused = place.install("two");
        assert!(matches!(refused, Err(InstallError::NotOwned { .. })));
        let refused = place.item.uninstall(false);
        assert!(matches!(refused, Err(InstallError::NotOwned { .. })));
        assert_eq!(place.there(), "edited");
    }

    #[test]
    fn uninstalling_leaves_nothing_and_can_be_repeated() {
        let place = place();
        place.install("one").unwrap();
        place.install("two").unwrap();
        assert_eq!(place.item.uninstall(false).unwrap(), Outcome::Removed);
        assert_eq!(place.files(), [] as [String; 0]);
        assert_eq!(place.item.uninstall(false).unwrap(), Outcome::Absent);
    }

    #[test]
    fn the_sign_of_an_agent_is_left_and_taken_away_whatever_was_there() {
        let place = place();
        let marker = place.item.directory.join(AGENT_MARKER);
        place.item.mark_agent(false).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &marker).unwrap();
        for _ in 0..2 {
            place.item.mark_agent(true).unwrap();
            assert!(fs::symlink_metadata(&marker).unwrap().is_file());
        }
        assert_eq!(place.files(), [AGENT_MARKER]);
        place.item.mark_agent(false).unwrap();
        assert_eq!(place.files(), [] as [String; 0]);
    }

    #[test]
    fn what_is_kept_comes_back_when_it_is_removed_and_another_s_file_is_left_alone() {
        let place = place();
        place.install("one").unwrap();
        let said = place.item.keep().unwrap_err();
        assert!(said.contains("the sign of an agent"), "{said}");
        place.item.keep().unwrap();
        fs::remove_file(place.item.target()).unwrap();
        let said = place.item.keep().unwrap_err();
        assert!(
            said.ends_with("bin/berth: it was removed; it is put back"),
            "{said}"
        );
        place.item.keep().unwrap();
        // All of the directory's files went, the receipt with them.
        fs::remove_dir_all(&place.item.directory).unwrap();
        let said = place.item.keep().unwrap_err();
        assert!(said.contains("No such file"), "{said}");
        fs::create_dir(&place.item.directory).unwrap();
        place.item.keep().unwrap_err();
        assert!(place.item.directory.join(AGENT_MARKER).is_file());
        place.item.keep().unwrap();
        fs::set_permissions(place.item.target(), Permissions::from_mode(0o644)).unwrap();
        place.item.keep().unwrap_err();
        fs::write(place.item.target(), "theirs").unwrap();
        let said = place.item.keep().unwrap_err();
        assert!(said.ends_with("it is not what berthd put there"), "{said}");
        assert_eq!(place.there(), "theirs");
    }

    #[test]
    fn a_newer_plugin_that_was_installed_meanwhile_is_kept_too() {
        let place = place();
        place.install("new").unwrap();
        // The agent that looks is the old one, with the old binary.
        fs::write(&place.item.source, "old").unwrap();
        place.item.mark_agent(true).unwrap();
        place.item.keep().unwrap();
        assert_eq!(place.there(), "new");
    }

    #[test]
    fn a_program_that_runs_is_replaced_all_the_same() {
        let place = place();
        fs::copy("/bin/cat", &place.item.source).unwrap();
        place.item.install(false).unwrap();
        let mut running = std::process::Command::new(place.item.target())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(place.install("two").unwrap(), Outcome::Replaced);
        drop(running.stdin.take());
        assert!(running.wait().unwrap().success(), "the old one ran on");
    }

    #[test]
    fn a_crash_between_receipt_and_file_is_mended_by_the_next_try() {
        let place = place();
        place.install("one").unwrap();
        // The process died after the receipt of the next version, and in the middle of its file.
        let receipt = Receipt::of(&[b"two", b"one"], false);
        place.item.put_receipt(&receipt).unwrap();
        fs::write(place.item.beside("new"), "tw").unwrap();
        assert_eq!(place.install("two").unwrap(), Outcome::Replaced);
        assert_eq!((place.there().as_str(), place.files().len()), ("two", 3));
    }

    #[test]
    fn a_link_or_a_missing_directory_is_an_error_that_names_it() {
        let place = place();
        std::os::unix::fs::symlink("/etc/passwd", place.item.target()).unwrap();
        let error = place.item.install(true).unwrap_err().to_string();
        assert!(error.contains("bin/berth"), "{error}");
        let missing = Item {
            directory: place.item.directory.join("none"),
            ..place.item.clone()
        };
        let error = missing.install(false).unwrap_err().to_string();
        assert!(error.contains("bin/none"), "{error}");
    }
}
