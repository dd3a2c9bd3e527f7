//! The spool: a directory on the host where a plugin leaves a DEL that met no agent, one file per
//! container ID and interface.
//!
//! An entry is written aside and linked to its name, so that a reader sees all of it or nothing,
//! and a plugin that is killed leaves nothing under a name that counts. No fsync: a boot that ended
//! took its containers with it.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::exchange::{Attachment, DelRequest, SpoolEntry, SpoolId};
use crate::core::report::LocalError;

/// Where plugins leave DELs.
pub const SPOOL_PATH: &str = "/var/lib/berth/spool";

const ENTRY_SUFFIX: &str = ".del";
const ASIDE_SUFFIX: &str = ".unreadable";
const TEMPORARY_PREFIX: &str = ".";
/// Units: bytes. No entry is longer: a path has at most 4096 bytes, which JSON may escape.
const ENTRY_BYTES_MAX: u64 = 64 * 1024;
/// No plugin takes this long to write an entry.
const STALE_NANOS: u128 = 60_000_000_000;
/// The form that this code writes.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    del: DelRequest,
}

/// The directory.
#[derive(Clone, Debug)]
pub struct SpoolDirectory {
    path: PathBuf,
}

impl SpoolDirectory {
    /// The spool in that directory, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory, for root alone, where it is missing.
    pub fn create(&self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
    }

    /// Leaves a DEL. One that is there for the same attachment already is as good, unless only the
    /// new one states a namespace.
    pub fn leave(&self, del: &DelRequest) -> Result<(), LocalError> {
        self.try_leave(del)
            .map_err(|error| LocalError::new(format_args!("{}: {error}", self.path.display())))
    }

    fn try_leave(&self, del: &DelRequest) -> io::Result<()> {
        self.create()?;
        let name = entry_name(&del.attachment);
        let process = rustix::process::getpid().as_raw_nonzero();
        let instant = super::clock::boot_time().since_boot().as_nanos();
        let temporary = self
            .path
            .join(format!("{TEMPORARY_PREFIX}{process}.{instant}"));
        let target = self.path.join(&name);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        let entry = Entry {
            version: VERSION,
            del: del.clone(),
        };
        let written =
            file.write_all(&serde_json::to_vec(&entry)?).and_then(|()| {
                match fs::hard_link(&temporary, &target) {
                    Err(error)
                        if error.kind() == ErrorKind::AlreadyExists
                            && !self.is_covered(&name, del) =>
                    {
                        fs::rename(&temporary, &target)
                    }
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
                    linked => linked,
                }
            });
        let _ = fs::remove_file(&temporary);
        written
    }

    /// Whether the entry of that name says at least as much.
    fn is_covered(&self, name: &str, del: &DelRequest) -> bool {
        self.read(name)
            .is_some_and(|there| !there.netns.is_empty() || del.netns.is_empty())
    }

    fn read(&self, name: &str) -> Option<DelRequest> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(self.path.join(name))
            .ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        // Under another name it is not what a plugin wrote.
        (entry.version == VERSION && entry_name(&entry.del.attachment) == name).then_some(entry.del)
    }

    /// Removes what plugins that were killed halfway left behind: files that are no entries yet,
    /// begun a minute ago or under an earlier boot. A plugin needs milliseconds.
    pub fn sweep(&self) -> usize {
        let Ok(list) = fs::read_dir(&self.path) else {
            return 0;
        };
        let now = super::clock::boot_time().since_boot().as_nanos();
        let is_stale = |name: &str| {
            let begun = name
                .strip_prefix(TEMPORARY_PREFIX)
                .and_then(|rest| rest.split_once('.'))
                .filter(|(process, _)| process.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|(_, instant)| instant.parse::<u128>().ok());
            begun.is_some_and(|begun| begun > now || now - begun > STALE_NANOS)
        };
        list.filter_map(|item| item.ok()?.file_name().into_string().ok())
            .filter(|name| is_stale(name))
            .filter(|name| fs::remove_file(self.path.join(name)).is_ok())
            .count()
    }

    /// How many DELs lie here, readable or not.
    pub fn entry_count(&self) -> usize {
        fs::read_dir(&self.path).map_or(0, |list| {
            list.filter_map(|item| item.ok()?.file_name().into_string().ok())
                .filter(|name| is_entry(name))
                .count()
        })
    }

    /// All entries, ascending by name; none where the directory is missing.
    pub fn entries(&self) -> Result<Vec<SpoolEntry>, LocalError> {
        let list = match fs::read_dir(&self.path) {
            Ok(list) => list,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(LocalError::new(error)),
        };
        let mut names = Vec::new();
        for item in list {
            let name = item.map_err(LocalError::new)?.file_name();
            // What is no UTF-8 was not left by a plugin.
            if let Ok(name) = name.into_string()
                && is_entry(&name)
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names
            .into_iter()
            .map(|name| SpoolEntry {
                request: self.read(&name),
                id: SpoolId(name),
            })
            .collect())
    }

    /// Removes an entry; one that is gone is fine.
    pub fn remove(&self, id: &SpoolId) -> Result<(), LocalError> {
        match fs::remove_file(self.path.join(&id.0)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(LocalError::new(error)),
            _ => Ok(()),
        }
    }

    /// Moves an entry out of the list, for people to look at.
    pub fn set_aside(&self, id: &SpoolId) -> Result<(), LocalError> {
        let from = self.path.join(&id.0);
        let to = self.path.join(format!("{}{ASIDE_SUFFIX}", id.0));
        fs::rename(from, to).map_err(LocalError::new)
    }
}

/// The spool as a port, with notices of new entries.
#[cfg(feature = "agent")]
pub struct WatchedSpool {
    directory: SpoolDirectory,
    notices: super::notices::Notices,
}

#[cfg(feature = "agent")]
impl WatchedSpool {
    /// Makes the directory and watches it. Within a tokio runtime.
    pub fn new(directory: SpoolDirectory) -> io::Result<Self> {
        use rustix::fs::inotify::WatchFlags;
        directory.create()?;
        directory.sweep();
        // A link or a rename puts an entry under its name.
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let notices = super::notices::Notices::new(vec![directory.path.clone()], flags)?;
        Ok(Self { directory, notices })
    }
}

#[cfg(feature = "agent")]
impl WatchedSpool {
    /// Whether DELs can be left and read. A directory that is missing is made.
    ///
    /// Errors: what is wrong.
    pub fn check(&self) -> Result<(), LocalError> {
        let path = &self.directory.path;
        let found = self
            .directory
            .create()
            .and_then(|()| fs::read_dir(path))
            .map_err(|error| error.to_string())
            .and_then(|_| super::namespaces::is_in_place(path));
        found.map_err(|why| LocalError::new(format_args!("{}: {why}", path.display())))
    }
}

#[cfg(feature = "agent")]
impl crate::ports::Spool for WatchedSpool {
    async fn list(&self) -> Result<Vec<SpoolEntry>, LocalError> {
        self.directory.sweep();
        self.directory.entries()
    }

    async fn remove(&self, id: &SpoolId) -> Result<(), LocalError> {
        self.directory.remove(id)
    }

    async fn set_aside(&self, id: &SpoolId) -> Result<(), LocalError> {
        self.directory.set_aside(id)
    }

    async fn changed(&self) {
        self.notices.changed().await;
    }
}

fn is_entry(name: &str) -> bool {
    name.ends_with(ENTRY_SUFFIX) && !name.starts_with(TEMPORARY_PREFIX)
}

/// The file of an attachment. Interface names may hold nearly any byte; those outside the safe ones
/// are written `%XX`. `@` is in no container ID.
fn entry_name(attachment: &Attachment) -> String {
    let mut name = format!("{}@", attachment.container);
    for byte in attachment.interface.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            name.push(char::from(byte));
        } else {
            write!(name, "%{byte:02x}").expect("writing to a String succeeds");
        }
    }
    name.push_str(ENTRY_SUFFIX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::names::ID_BYTES_MAX;

    fn spool() -> (tempfile::TempDir, SpoolDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let spool = SpoolDirectory::new(directory.path().join("deep/spool"));
        (directory, spool)
    }

    fn del(container: &str, netns: &str) -> DelRequest {
        DelRequest {
            attachment: Attachment {
                container: container.into(),
                interface: "eth0".into(),
            },
            netns: netns.into(),
        }
    }

    fn listed(spool: &SpoolDirectory) -> Vec<Option<DelRequest>> {
        let entries = spool.entries().unwrap();
        entries.into_iter().map(|entry| entry.request).collect()
    }

    #[test]
    fn what_is_left_is_listed_until_it_is_removed() {
        let (_directory, spool) = spool();
        assert_eq!(listed(&spool), []);
        for container in ["c2", "c1"] {
            spool.leave(&del(container, "/n")).unwrap();
        }
        assert_eq!(
            listed(&spool),
            [Some(del("c1", "/n")), Some(del("c2", "/n"))]
        );
        let first = spool.entries().unwrap().remove(0).id;
        spool.remove(&first).unwrap();
        spool.remove(&first).unwrap();
        assert_eq!(listed(&spool), [Some(del("c2", "/n"))]);
        let left = fs::read_dir(spool.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but entries is left behind");
    }

    #[test]
    fn a_repeated_del_adds_the_namespace_and_never_takes_it_away() {
        let (_directory, spool) = spool();
        for (netns, expected) in [("", ""), ("/n", "/n"), ("", "/n"), ("/other", "/n")] {
            spool.leave(&del("c", netns)).unwrap();
            assert_eq!(
                listed(&spool),
                [Some(del("c", expected))],
                "after {netns:?}"
            );
        }
    }

    #[test]
    fn an_unreadable_entry_is_listed_as_such_and_can_be_replaced_or_set_aside() {
        let (_directory, spool) = spool();
        spool.create().unwrap();
        let names = ["c@eth0.del", "d@eth0.del", "x.del", "y.del"];
        fs::write(spool.path().join(names[0]), b"").unwrap();
        fs::write(spool.path().join(names[1]), b"{\"version\":1").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", spool.path().join(names[2])).unwrap();
        fs::create_dir(spool.path().join(names[3])).unwrap();
        assert_eq!(listed(&spool), [None, None, None, None]);
        spool.leave(&del("c", "/n")).unwrap();
        assert_eq!(listed(&spool)[0], Some(del("c", "/n")));
        for name in &names[1..] {
            spool.set_aside(&SpoolId((*name).into())).unwrap();
        }
        assert_eq!(listed(&spool), [Some(del("c", "/n"))]);
    }

    #[test]
    fn what_killed_plugins_left_half_written_is_swept_and_nothing_else() {
        let (_directory, spool) = spool();
        spool.leave(&del("c", "/n")).unwrap();
        let now = super::super::clock::boot_time().since_boot().as_nanos();
        let (stale, earlier_boot) = (format!(".7.{}", 1), format!(".7.{}", now + (1 << 50)));
        let kept = [format!(".7.{now}"), ".keep".into(), ".x.1".into()];
        for name in kept.iter().chain([&stale, &earlier_boot]) {
            fs::write(spool.path().join(name), b"{").unwrap();
        }
        assert_eq!(spool.sweep(), 2);
        assert!(kept.iter().all(|name| spool.path().join(name).exists()));
        assert_eq!((spool.sweep(), spool.entry_count()), (0, 1));
        assert_eq!(listed(&spool), [Some(del("c", "/n"))]);
    }

    #[test]
    fn an_entry_under_another_name_is_not_believed() {
        let (_directory, spool) = spool();
        spool.leave(&del("c", "/n")).unwrap();
        let from = spool.path().join("c@eth0.del");
        fs::rename(from, spool.path().join("d@eth0.del")).unwrap();
        assert_eq!(listed(&spool), [None]);
    }

    #[test]
    fn the_longest_names_make_a_file_name() {
        let (_directory, spool) = spool();
        let mut longest = del(&"c".repeat(ID_BYTES_MAX), "/n");
        longest.attachment.interface = "..%\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}".into();
        spool.leave(&longest).unwrap();
        assert_eq!(listed(&spool), [Some(longest)]);
    }

    #[test]
    fn directory_and_entries_are_for_root_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_directory, spool) = spool();
        spool.leave(&del("c", "/n")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(spool.path()), 0o700);
        assert_eq!(mode(&spool.path().join("c@eth0.del")), 0o600);
    }
}
