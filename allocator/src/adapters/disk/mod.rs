//! The store `disk`: a [`Ledger`](crate::core::disk::Ledger) in a file of the network's directory,
//! behind host-local's own lock file.
//!
//! Not an embedded database, and why. Each plugin process opens the store, makes one change and
//! exits. A log needs for that one `read` and one `write`; a page store opens, repairs, commits in
//! several writes and closes. A change is one `write` of one line, so the states in which a killed
//! process can leave the file are the prefixes of that line, and all of them are tried in tests.
//! And a log can be read with `cat`.
//!
//! No fsync. What was written survives the death of the process in the page cache; it does not
//! survive a power cut, and need not: the file is named after the boot, and the namespaces of
//! another boot are gone. Such a file is removed unread, however torn.
//!
//! A full disk stops ADDs and no DEL: before an ADD the file is given room for the DELs of all
//! holders.

mod evidence;
mod takeover;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};

use super::clock::boot_time;
use crate::cni::disk::{DiskAdd, DiskAsk, DiskVerb, resolv_conf};
use crate::cni::result::{Answer, Dns};
use crate::core::disk::{AddCall, AddOutcome, Change, Ledger, encode};
use crate::core::exchange::{Allocation, Attachment, CheckRequest, DelRequest, Failure, GcRequest};
use crate::core::time::BootTime;
use evidence::Look;

const LOCK: &str = "lock";
const PREFIX: &str = "berth.";
const SUFFIX: &str = ".log";
const NEW_SUFFIX: &str = ".new";
/// Units: bytes. No node has so many holders; what is longer is not Berth's.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Units: bytes. Room is set aside in steps of this.
const ROOM_STEP_BYTES: u64 = 16 << 10;
/// Units: bytes. More of a `resolv.conf` is not read.
const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// The name of this boot.
///
/// Errors: the kernel does not tell it.
pub fn boot_id() -> Result<String, Failure> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH).map_err(|error| io_failure(Path::new(PATH), &error))?;
    Ok(text.trim().to_owned())
}

/// Answers one question.
///
/// Errors: as the caller is to be told.
pub fn serve(ask: &DiskAsk, boot: &str, deadline: BootTime) -> Result<Option<Answer>, Failure> {
    let Some(directory) = &ask.directory else {
        // A DEL of a network that no ADD can have had.
        return Ok(None);
    };
    match &ask.verb {
        DiskVerb::Add(add) => Store::open(directory, boot, deadline)?.add(add).map(Some),
        DiskVerb::Del(_) | DiskVerb::Gc(_) if !directory.exists() => Ok(None),
        DiskVerb::Del(del) => Store::open(directory, boot, deadline)?.del(del),
        DiskVerb::Check(check) => Store::open(directory, boot, deadline)?.check(check),
        DiskVerb::Gc(gc) => Store::open(directory, boot, deadline)?.gc(gc),
        DiskVerb::Status => match Store::open(directory, boot, deadline) {
            Ok(_) => Ok(None),
            Err(failure) => Err(Failure::new(Failure::NOT_AVAILABLE, failure.message)),
        },
    }
}

/// The store of one network, locked.
struct Store {
    directory: PathBuf,
    boot: String,
    ledger: Ledger,
    /// The log, where there is one, and how many of its bytes count.
    file: Option<(File, u64)>,
    _lock: File,
}

impl Store {
    fn open(directory: &Path, boot: &str, deadline: BootTime) -> Result<Self, Failure> {
        let failed = |error: io::Error| io_failure(directory, &error);
        prepare(directory).map_err(failed)?;
        let lock = lock(&directory.join(LOCK), deadline)?;
        let path = directory.join(format!("{PREFIX}{boot}{SUFFIX}"));
        let mut store = Self {
            directory: directory.to_owned(),
            boot: boot.to_owned(),
            ledger: Ledger::default(),
            file: None,
            _lock: lock,
        };
        match open_own(&path) {
            Ok(mut file) => {
                // One read, and one that finds the end.
                let expected = file.metadata().map_err(failed)?.len().min(LOG_BYTES_MAX);
                let mut log = Vec::with_capacity(expected as usize + 1);
                let mut limited = (&mut file).take(LOG_BYTES_MAX + 1);
                limited.read_to_end(&mut log).map_err(failed)?;
                if log.len() as u64 > LOG_BYTES_MAX {
                    return Err(failed(io::Error::other(
                        "the store is too long to be Berth's",
                    )));
                }
                let (ledger, counted) = Ledger::replay(boot, &log).map_err(|error| {
                    Failure::new(Failure::IO, format!("{}: {error}", path.display()))
                })?;
                store.ledger = ledger;
                store.file = Some((file, counted as u64));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                store.ledger = takeover::from_host_local(directory).map_err(failed)?;
            }
            Err(error) => return Err(io_failure(&path, &error)),
        }
        Ok(store)
    }

    fn add(&mut self, add: &DiskAdd) -> Result<Answer, Failure> {
        let dns = add.section.resolv_conf.as_deref().map(read_resolv_conf);
        let dns = dns.transpose()?.unwrap_or_default();
        let namespace = match evidence::look(&add.netns) {
            Look::Present(namespace) => Some(namespace),
            Look::Unknown => None,
            Look::Gone => {
                let message = "CNI_NETNS: the network namespace is gone";
                return Err(Failure::new(Failure::INVALID_ENVIRONMENT, message));
            }
        };
        let call = AddCall {
            attachment: &add.attachment,
            netns: &add.netns,
            namespace,
            pod: &add.pod,
            ips: &add.ips,
            sets: &add.section.sets,
        };
        let mut outcome = self.ledger.add(&call);
        if matches!(outcome, AddOutcome::Exhausted(_)) && self.sweep()? {
            outcome = self.ledger.add(&call);
        }
        let addresses = match outcome {
            AddOutcome::Held(addresses) => addresses,
            AddOutcome::Free(addresses, change) => {
                self.write(&change)?;
                addresses
            }
            AddOutcome::Exhausted(failure) | AddOutcome::Refused(failure) => return Err(failure),
        };
        let allocation = Allocation {
            pool: String::new(),
            addresses,
            routes: add.section.routes.clone(),
            dns: Vec::new(),
        };
        Ok(Answer { allocation, dns })
    }

    fn del(&mut self, del: &DelRequest) -> Result<Option<Answer>, Failure> {
        let holder = self.ledger.of(&del.attachment).map(|(holder, _)| holder);
        match holder.cloned() {
            Some(holder) => self.release(vec![holder]).map(|()| None),
            None => Ok(None),
        }
    }

    fn check(&self, check: &CheckRequest) -> Result<Option<Answer>, Failure> {
        self.ledger.check(&check.attachment, &check.addresses)?;
        Ok(None)
    }

    /// Releases what the runtime does not name, unless its namespace lives. Of what was taken over
    /// from host-local no namespace is known: there the runtime's word counts.
    fn gc(&mut self, gc: &GcRequest) -> Result<Option<Answer>, Failure> {
        let Some(valid) = &gc.valid else {
            let message = "GC without a list of valid attachments is refused: give \
                           \"cni.dev/valid-attachments\"";
            return Err(Failure::new(Failure::INVALID_CONFIGURATION, message));
        };
        let is_valid = |holder: &Attachment| {
            let same = |v: &Attachment| {
                let any = holder.interface.is_empty() || v.interface == holder.interface;
                v.container == holder.container && any
            };
            valid.iter().any(same)
        };
        let ended = evidence::ended(
            self.ledger
                .bindings()
                .filter(|(holder, binding)| !is_valid(holder) && !binding.netns.is_empty()),
        );
        let taken_over = self
            .ledger
            .bindings()
            .filter(|(holder, binding)| !is_valid(holder) && binding.netns.is_empty())
            .map(|(holder, _)| holder.clone());
        let released: Vec<Attachment> = taken_over.chain(ended).collect();
        if !released.is_empty() {
            self.release(released)?;
        }
        Ok(None)
    }

    /// Releases the holders whose namespaces are gone; whether there were any.
    fn sweep(&mut self) -> Result<bool, Failure> {
        let ended = evidence::ended(self.ledger.bindings());
        if ended.is_empty() {
            return Ok(false);
        }
        self.release(ended).map(|()| true)
    }

    fn release(&mut self, holders: Vec<Attachment>) -> Result<(), Failure> {
        let of_host_local: Vec<_> = holders
            .iter()
            .filter_map(|holder| self.ledger.of(holder))
            .filter(|(_, binding)| binding.netns.is_empty())
            .flat_map(|(_, binding)| binding.addresses.clone())
            .collect();
        self.write(&Change::Release(holders))?;
        takeover::forget(&self.directory, &of_host_local);
        Ok(())
    }

    /// Applies the change and makes it last.
    fn write(&mut self, change: &Change) -> Result<(), Failure> {
        self.ledger.apply(change).map_err(|_| {
            let message = "the store would give one address to two containers";
            Failure::new(Failure::IO, message)
        })?;
        let directory = self.directory.clone();
        let line = encode(change);
        let written = match self.file.take() {
            Some((file, counted)) => {
                let too_long = self.ledger.is_log_too_long(counted as usize + line.len());
                // Where the new file finds no room, the old one still may.
                if too_long && self.replace().is_ok() {
                    return Ok(());
                }
                let is_add = matches!(change, Change::Bind { .. });
                self.append(&file, counted, &line, is_add)
            }
            None => self.replace(),
        };
        written.map_err(|error| io_failure(&directory, &error))
    }

    fn append(&self, mut file: &File, counted: u64, line: &[u8], is_add: bool) -> io::Result<()> {
        let metadata = file.metadata()?;
        if metadata.len() != counted {
            // The end of a line whose writer was killed.
            file.set_len(counted)?;
        }
        if is_add {
            let end = counted + line.len() as u64;
            self.set_room_aside(file, &metadata, end)?;
        }
        file.seek(SeekFrom::Start(counted))?;
        file.write_all(line).inspect_err(|_| {
            // What is not cut off here is cut off by the next writer.
            let _ = file.set_len(counted);
        })
    }

    /// Sees to it that the file can grow by the DELs of all holders.
    fn set_room_aside(&self, file: &File, metadata: &fs::Metadata, end: u64) -> io::Result<()> {
        let needed = end + self.ledger.release_bytes() as u64;
        if metadata.blocks() * 512 >= needed {
            return Ok(());
        }
        let room = needed.next_multiple_of(ROOM_STEP_BYTES);
        match fallocate(file, FallocateFlags::KEEP_SIZE, 0, room) {
            // A file system that cannot set room aside.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the log anew, under another name, and then gives it its name.
    fn replace(&self) -> io::Result<()> {
        let path = |suffix: &str| {
            let name = format!("{PREFIX}{}{SUFFIX}{suffix}", self.boot);
            self.directory.join(name)
        };
        let (new, log) = (path(NEW_SUFFIX), self.ledger.log(&self.boot));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&new)
            .and_then(|mut file| {
                self.set_room_aside(&file, &file.metadata()?, log.len() as u64)?;
                file.write_all(&log)
            })
            .and_then(|()| fs::rename(&new, path("")));
        match written {
            Ok(()) => self.remove_other_boots(),
            Err(error) => {
                let _ = fs::remove_file(&new);
                return Err(error);
            }
        }
        Ok(())
    }

    /// The files of boots that ended. That they are there does no harm.
    fn remove_other_boots(&self) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let of = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let boot = of
                .map(|name| name.strip_suffix(NEW_SUFFIX).unwrap_or(name))
                .and_then(|name| name.strip_suffix(SUFFIX));
            if boot.is_some_and(|boot| boot != self.boot) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Makes the directory where it is missing.
///
/// Errors: others than its owner, who must be this user, may write to it.
fn prepare(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    // Not everybody's business, but host-local's directories can be listed, and tools list them.
    builder.recursive(true).mode(0o755).create(directory)?;
    let metadata = fs::symlink_metadata(directory)?;
    let others_write = metadata.mode() & 0o022 != 0;
    if !metadata.is_dir() || others_write || metadata.uid() != rustix::process::geteuid().as_raw() {
        let message = "must be a directory that its owner alone may write to, and the owner this \
                       process's user";
        return Err(io::Error::other(message));
    }
    Ok(())
}

fn open_own(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// The lock that host-local takes too.
fn lock(path: &Path, deadline: BootTime) -> Result<File, Failure> {
    let failed = |error: io::Error| io_failure(path, &error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(rustix::io::Errno::AGAIN) => {}
        Err(error) => return Err(failed(error.into())),
    }
    // Waiting has no timeout in the kernel: a thread waits for the lock, this one for the thread.
    let (sender, receiver) = mpsc::channel();
    #[expect(
        clippy::disallowed_methods,
        reason = "a process of its own, which really waits"
    )]
    std::thread::spawn(move || {
        let locked = loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result,
            }
        };
        // Nobody receives it after the deadline; then the file is closed, and the lock with it.
        let _ = sender.send(locked.map(|()| file));
    });
    match receiver.recv_timeout(deadline.since(boot_time())) {
        Ok(locked) => locked.map_err(|error| failed(error.into())),
        Err(_) => Err(Failure::new(
            Failure::TRY_AGAIN,
            format!("{}: another process holds the lock", path.display()),
        )),
    }
}

fn read_resolv_conf(path: &Path) -> Result<Dns, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| io_failure(path, &error))?;
    Ok(resolv_conf(&String::from_utf8_lossy(&bytes)))
}

fn io_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Failure::IO, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
