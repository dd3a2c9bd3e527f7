//! The store `disk`: a [`Ledger`](crate::core::disk::Ledger) in a file of the network's directory,
//! behind host-local's own lock file.
//!
//! Why this is not an embedded database: each plugin process opens the store, makes one change and
//! exits. A log needs one `read` and one `write` for that; a page store opens, repairs, commits in
//! several writes and closes. A change is one `write` of one line, so a killed process can only
//! leave a prefix of that line, and the tests try every prefix. And a log can be read with `cat`.
//!
//! No fsync. What was written survives the death of the process in the page cache. It does not
//! survive a power cut and need not: the file is named after the boot, and the namespaces of
//! another boot are gone. The file of another boot is removed unread, however torn.
//!
//! A full disk stops ADDs but no DEL: before an ADD, room for the DELs of all holders is allocated
//! to the file.

mod evidence;
mod place;
mod rule;
mod takeover;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

use super::clock::boot_time;
use crate::cni::disk::networks::{Grant, NodeRule};
use crate::cni::disk::{DiskAdd, DiskAsk, DiskPlace, DiskVerb, resolv_conf};
use crate::cni::result::{Answer, Dns};
use crate::core::disk::{AddCall, AddOutcome, Change, Ledger, encode};
use crate::core::exchange::{Allocation, Attachment, CheckRequest, DelRequest, Failure, GcRequest};
use crate::core::names;
use crate::core::time::BootTime;
use evidence::Look;
use place::{Links, Missing};
pub use rule::{AGENT_MARKER, LIST_PATH, NodeFiles};

const LOCK: &str = "lock";
const PREFIX: &str = "berth.";
const SUFFIX: &str = ".log";
const NEW_SUFFIX: &str = ".new";
/// Units: bytes. No node has that many holders; a longer file is not Berth's.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Units: bytes. Room is set aside in multiples of this.
const ROOM_STEP_BYTES: u64 = 16 << 10;
/// Units: bytes. A longer `resolv.conf` is refused.
const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// The name of this boot.
///
/// Errors: the kernel does not state it.
pub fn boot_id() -> Result<String, Failure> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    // One read returns all of it: a UUID and a line end.
    let mut bytes = [0; 64];
    let text = File::open(PATH)
        .and_then(|mut file| file.read(&mut bytes))
        .map(|count| String::from_utf8_lossy(&bytes[..count]).trim().to_owned())
        .map_err(|error| io_failure(Path::new(PATH), &error))?;
    if !names::is_id(&text) {
        let message = format!("{PATH}: {text:?} names no boot");
        return Err(Failure::new(Failure::IO, message));
    }
    Ok(text)
}

/// Answers one question, within what the node allows.
///
/// Errors: what to tell the caller.
pub fn serve(
    ask: &DiskAsk,
    rule: &NodeRule,
    boot: &str,
    deadline: BootTime,
) -> Result<Option<Answer>, Failure> {
    let Some(place) = &ask.place else {
        // A DEL of a network that no ADD can have had.
        return Ok(None);
    };
    if !is_possible(place, &ask.verb) {
        let message = "the store refuses the network's name, the container ID or the interface";
        return Err(Failure::new(Failure::INVALID_ENVIRONMENT, message));
    }
    let open = |grant: &Grant, missing| -> Result<Option<Store>, Failure> {
        let Some(directory) = find(place, grant, missing)? else {
            return Ok(None);
        };
        Store::open(&directory, boot, deadline).map(Some)
    };
    let section = match &ask.verb {
        DiskVerb::Add(add) => Some(&add.section),
        DiskVerb::Status(section) => Some(&**section),
        DiskVerb::Del(_) | DiskVerb::Check(_) | DiskVerb::Gc(_) => None,
    };
    match (&ask.verb, rule.admit(place, section)) {
        (DiskVerb::Add(add), grant) => {
            let grant = grant?;
            // Read before the lock is taken, so that no other call waits for whatever the path
            // leads to.
            let file = add.section.resolv_conf.as_deref();
            let dns = file.map(|file| read_resolv_conf(file, links(&grant)));
            let dns = dns.transpose()?.unwrap_or_default();
            let mut store = open(&grant, Missing::Make)?.expect("what is missing was made");
            store.add(add, dns).map(Some)
        }
        // A runtime would retry forever. Whatever an earlier rule let it take is freed when its
        // namespace ends, like any address that no DEL returned.
        (DiskVerb::Del(_), Err(_)) => Ok(None),
        (DiskVerb::Del(del), Ok(grant)) => match open(&grant, Missing::Fail)? {
            Some(mut store) => store.del(del),
            None => Ok(None),
        },
        (DiskVerb::Check(check), grant) => match open(&grant?, Missing::Fail)? {
            Some(store) => store.check(check),
            None => held_as_told(&Ledger::default(), check),
        },
        (DiskVerb::Gc(gc), grant) => match open(&grant?, Missing::Fail)? {
            Some(mut store) => store.gc(gc),
            None => Ok(None),
        },
        (DiskVerb::Status(_), grant) => match grant.and_then(|grant| open(&grant, Missing::Make)) {
            Ok(_) => Ok(None),
            Err(failure) => Err(Failure::new(Failure::NOT_AVAILABLE, failure.message)),
        },
    }
}

/// Whether these values may become file names and log lines. The caller has checked already; the
/// store trusts no caller.
fn is_possible(place: &DiskPlace, verb: &DiskVerb) -> bool {
    let attachment = match verb {
        DiskVerb::Add(add) => Some(&add.attachment),
        DiskVerb::Del(del) => Some(&del.attachment),
        DiskVerb::Check(check) => Some(&check.attachment),
        DiskVerb::Gc(_) | DiskVerb::Status(_) => None,
    };
    names::is_id(&place.network)
        && attachment
            .is_none_or(|a| names::is_id(&a.container) && names::is_interface(&a.interface))
}

fn held_as_told(ledger: &Ledger, check: &CheckRequest) -> Result<Option<Answer>, Failure> {
    ledger.check(&check.attachment, &check.addresses)?;
    Ok(None)
}

fn links(grant: &Grant) -> Links {
    if grant.follows_links {
        Links::Follow
    } else {
        Links::Refuse
    }
}

/// The network's directory; `None` if it is missing and must not be created.
fn find(place: &DiskPlace, grant: &Grant, missing: Missing) -> Result<Option<PathBuf>, Failure> {
    let found = place::directory(&grant.root, links(grant), missing)
        .and_then(|root| place::network(&root, &place.network, missing));
    match found {
        Ok(directory) => Ok(Some(directory)),
        Err(error)
            if missing == Missing::Fail
                && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(io_failure(&grant.root.join(&place.network), &error)),
    }
}

/// The store of one network, locked.
struct Store {
    directory: PathBuf,
    boot: String,
    ledger: Ledger,
    /// The log as it was found, if there is one, and how many of its bytes count.
    file: Option<(File, Metadata, u64)>,
    _lock: File,
}

impl Store {
    fn open(directory: &Path, boot: &str, deadline: BootTime) -> Result<Self, Failure> {
        let failed = |error: io::Error| io_failure(directory, &error);
        let lock = lock(&directory.join(LOCK), deadline)?;
        let path = directory.join(format!("{PREFIX}{boot}{SUFFIX}"));
        let mut store = Self {
            directory: directory.to_owned(),
            boot: boot.to_owned(),
            ledger: Ledger::default(),
            file: None,
            _lock: lock,
        };
        match place::open(&path, OpenOptions::new().read(true).write(true)) {
            Ok((mut file, metadata)) => {
                // One read, and one that finds the end.
                let expected = metadata.len().min(LOG_BYTES_MAX);
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
                store.file = Some((file, metadata, counted as u64));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                store.ledger = takeover::from_host_local(directory).map_err(failed)?;
            }
            Err(error) => return Err(io_failure(&path, &error)),
        }
        Ok(store)
    }

    fn add(&mut self, add: &DiskAdd, dns: Dns) -> Result<Answer, Failure> {
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
        held_as_told(&self.ledger, check)
    }

    /// Releases what the runtime does not name, unless its namespace lives. Entries taken over from
    /// host-local have no known namespace: for them the runtime's list decides.
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

    /// Releases the holders whose namespaces are gone, and returns whether there were any.
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
            Some((file, found, counted)) => {
                let too_long = self.ledger.is_log_too_long(counted as usize + line.len());
                // If there is no room for a new file, the old one may still have some.
                if too_long && self.replace().is_ok() {
                    return Ok(());
                }
                let is_add = matches!(change, Change::Bind { .. });
                self.append(&file, (&found, counted), &line, is_add)
            }
            None => self.replace(),
        };
        written.map_err(|error| io_failure(&directory, &error))
    }

    /// `found` is the file as this process, which has the lock, found it.
    fn append(
        &self,
        file: &File,
        (found, counted): (&Metadata, u64),
        line: &[u8],
        is_add: bool,
    ) -> io::Result<()> {
        if found.len() != counted {
            // A partial line, whose writer was killed.
            file.set_len(counted)?;
        }
        if is_add {
            let end = counted + line.len() as u64;
            self.set_room_aside(file, found, end)?;
        }
        file.write_all_at(line, counted).inspect_err(|_| {
            // If this fails, the next writer truncates the file.
            let _ = file.set_len(counted);
        })
    }

    /// Makes sure that the file can grow by the DELs of all holders.
    fn set_room_aside(&self, file: &File, metadata: &Metadata, end: u64) -> io::Result<()> {
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

    /// Writes a new log under another name, then renames it.
    fn replace(&self) -> io::Result<()> {
        let path = |suffix: &str| {
            let name = format!("{PREFIX}{}{SUFFIX}{suffix}", self.boot);
            self.directory.join(name)
        };
        let (new, log) = (path(NEW_SUFFIX), self.ledger.log(&self.boot));
        let written = create(&new)
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

    /// Removes the files of earlier boots. A file that stays does no harm.
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

/// A new file of that name, replacing what a killed writer left.
fn create(path: &Path) -> io::Result<File> {
    let create = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(path)
    };
    match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            create()
        }
        created => created,
    }
}

/// The lock that host-local takes too.
fn lock(path: &Path, deadline: BootTime) -> Result<File, Failure> {
    let failed = |error: io::Error| io_failure(path, &error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let (file, _) = place::open(path, options.mode(0o600)).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => return Ok(file),
        Err(rustix::io::Errno::AGAIN) => {}
        Err(error) => return Err(failed(error.into())),
    }
    // The kernel's lock has no timeout: another thread waits for the lock, and this one for that
    // thread.
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
        // After the deadline nobody receives the file: it is closed, which drops the lock.
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

/// Reads a file for the result, which a Pod's owner may see: only a regular file that everybody on
/// this host may read. `/etc/resolv.conf` is a link on many hosts; where `links` are refused, the
/// configuration names the target instead.
fn read_resolv_conf(path: &Path, links: Links) -> Result<Dns, Failure> {
    let failed = |error: io::Error| io_failure(path, &error);
    let target = match (links, fs::canonicalize(path).map_err(failed)?) {
        (Links::Refuse, target) if target != path => {
            let what = "a link leads there; the file itself must be named";
            return Err(failed(io::Error::other(what)));
        }
        (_, target) => target,
    };
    // For some devices, opening alone has effects.
    if !fs::symlink_metadata(&target).map_err(failed)?.is_file() {
        return Err(failed(io::Error::other("not a regular file")));
    }
    let mut options = OpenOptions::new();
    let (file, metadata) = place::open(&target, options.read(true)).map_err(failed)?;
    if metadata.mode() & 0o004 == 0 {
        let what = "not everybody on this host may read it, so it gets into no answer";
        return Err(failed(io::Error::other(what)));
    }
    let mut bytes = Vec::new();
    file.take(RESOLV_CONF_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > RESOLV_CONF_BYTES_MAX {
        let what = format!("has more than {RESOLV_CONF_BYTES_MAX} bytes");
        return Err(failed(io::Error::other(what)));
    }
    Ok(resolv_conf(&String::from_utf8_lossy(&bytes)))
}

fn io_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Failure::IO, format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
