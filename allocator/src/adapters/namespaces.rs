//! The host's network namespaces as files in known directories. What cannot be known from outside
//! is said to be unknown: another directory, `/proc`, an error, a directory that is not there.
//!
//! In each directory the agent leaves one small file, its canary: who wipes the directory wipes the
//! canary too, and then an absent path proves nothing. A canary that vanished is recreated with
//! another number in it, and that number is part of what identifies the mount: a path that was seen
//! present under one canary is never taken for gone under another, nor under another device. No
//! directory is ever made here.

use core::future::Future;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::WatchFlags;

use super::entropy::KernelEntropy;
use super::notices::Notices;
use crate::core::exchange::{MountId, PathState, Probe};
use crate::core::hash::mix;
use crate::core::report::LocalError;
use crate::ports::{Entropy as _, Namespaces};

/// The canary's name; no runtime makes such a one.
pub const CANARY: &str = "berth-canary";

/// The directories.
pub struct NamespaceDirectories {
    directories: Vec<PathBuf>,
    notices: Notices,
}

impl NamespaceDirectories {
    /// Looks at paths in these directories. Within a tokio runtime.
    pub fn new(directories: &[PathBuf]) -> io::Result<Self> {
        for directory in directories {
            if let Err(error) = make_canary(directory) {
                tracing::warn!(directory = %directory.display(), %error,
                    "no canary: absent namespaces will count as unknown");
            }
        }
        let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
        Ok(Self {
            notices: Notices::new(directories.to_vec(), flags)?,
            directories: directories.to_vec(),
        })
    }

    /// Whether ends of namespaces can be seen now, in each directory. A canary that vanished is
    /// recreated, and reported this once.
    ///
    /// Errors: what is wrong, by directory.
    pub fn check(&self) -> Result<(), LocalError> {
        let wrong: Vec<String> = self
            .directories
            .iter()
            .filter_map(|directory| {
                let why = check_directory(directory).err()?;
                Some(format!("{}: {why}", directory.display()))
            })
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        Err(LocalError::new(wrong.join("; ")))
    }

    /// Whether it is one of the directories, which may be links, or come later than the agent.
    fn is_known(&self, real: &Path) -> bool {
        let mut known = self.directories.iter();
        known.any(|known| fs::canonicalize(known).is_ok_and(|known| known == real))
    }

    fn look(&self, path: &Path) -> Option<Probe> {
        let name = path.file_name()?;
        let directory = resolve(path.parent()?, |path| fs::canonicalize(path).ok())?;
        if !self.is_known(&directory) {
            return None;
        }
        let mount = || {
            let device = fs::metadata(&directory).ok()?.dev();
            let canary = read_canary(&directory);
            // A canary without a number is one of an earlier version.
            let number = canary.unwrap_or_default();
            let id = if number == 0 {
                device
            } else {
                mix(device, number)
            };
            Some((MountId(id), canary.is_some()))
        };
        let (before, has_canary) = mount()?;
        let state = match fs::symlink_metadata(directory.join(name)) {
            Ok(_) => PathState::Present { mount: before },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                PathState::Gone { mount: before }
            }
            Err(_) => PathState::Unknown,
        };
        // Something was mounted or unmounted meanwhile, or the canary came or went.
        let is_same = mount()? == (before, has_canary);
        if !has_canary {
            match make_canary(&directory) {
                Ok(()) => tracing::warn!(directory = %directory.display(),
                    "the canary had vanished; what was present before is no evidence any more"),
                Err(error) => tracing::debug!(%error, "no canary"),
            }
        }
        is_same.then_some(Probe {
            state,
            canary: has_canary,
        })
    }
}

/// The directory as the agent sees it. `/var/run` is a link to `/run` on hosts, runtimes name paths
/// by it, and an image that holds nothing but this program has no such link.
fn resolve(directory: &Path, real: impl Fn(&Path) -> Option<PathBuf>) -> Option<PathBuf> {
    real(directory).or_else(|| {
        let below = directory.strip_prefix("/var/run").ok()?;
        real(&Path::new("/run").join(below))
    })
}

fn check_directory(directory: &Path) -> Result<(), String> {
    is_in_place(directory)?;
    if read_canary(directory).is_some() {
        return Ok(());
    }
    match make_canary(directory) {
        Ok(()) => Err("the canary had vanished, what was seen before is no evidence".to_owned()),
        Err(error) => Err(format!("no canary can be left: {error}")),
    }
}

/// Whether the directory is one, and still in the host's tree: a container goes on to see the one
/// that was mounted when it began, even after the host has another at that path.
pub(super) fn is_in_place(directory: &Path) -> Result<(), String> {
    let found = fs::metadata(directory).map_err(|error| error.to_string())?;
    if !found.is_dir() {
        return Err("it is no directory".to_owned());
    }
    if found.nlink() == 0 {
        return Err(REMOVED.to_owned());
    }
    Ok(())
}

/// Said of a directory that only this container still sees.
pub(super) const REMOVED: &str =
    "it was removed on the host, and this container sees the removed one: start it anew";

/// The number in the directory's canary: 0 in an empty one, `None` where there is none.
fn read_canary(directory: &Path) -> Option<u64> {
    let path = directory.join(CANARY);
    if !fs::symlink_metadata(&path).ok()?.is_file() {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    Some(u64::from_str_radix(text.trim(), 16).unwrap_or(0))
}

/// Makes the canary where there is none. It appears with its number in it.
fn make_canary(directory: &Path) -> io::Result<()> {
    if read_canary(directory).is_some() {
        return Ok(());
    }
    let aside = directory.join(format!("{CANARY}.new"));
    fs::write(&aside, format!("{:016x}\n", KernelEntropy.draw() | 1))?;
    fs::rename(&aside, directory.join(CANARY))
}

impl Namespaces for NamespaceDirectories {
    fn probe(&self, path: &str) -> impl Future<Output = Probe> + Send {
        core::future::ready(self.look(Path::new(path)).unwrap_or(Probe::UNKNOWN))
    }

    async fn changed(&self) {
        self.notices.changed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn probe(namespaces: &NamespaceDirectories, path: &Path) -> Probe {
        namespaces.probe(path.to_str().unwrap()).await
    }

    #[tokio::test]
    async fn a_path_is_present_then_gone_through_the_same_mount() {
        let directory = tempfile::tempdir().unwrap();
        let namespaces = NamespaceDirectories::new(&[directory.path().to_owned()]).unwrap();
        let path = directory.path().join("cni-1");
        fs::write(&path, b"").unwrap();
        let present = probe(&namespaces, &path).await;
        let PathState::Present { mount } = present.state else {
            panic!("{present:?}")
        };
        fs::remove_file(&path).unwrap();
        let gone = probe(&namespaces, &path).await;
        assert_eq!((gone.state, gone.canary), (PathState::Gone { mount }, true));
    }

    #[tokio::test]
    async fn who_wipes_the_directory_wipes_the_evidence() {
        let directory = tempfile::tempdir().unwrap();
        let namespaces = NamespaceDirectories::new(&[directory.path().to_owned()]).unwrap();
        fs::remove_file(directory.path().join(CANARY)).unwrap();
        let wiped = probe(&namespaces, &directory.path().join("cni-1")).await;
        assert!(!wiped.canary);
    }

    #[tokio::test]
    async fn a_new_canary_vouches_only_for_what_was_seen_under_it() {
        let directory = tempfile::tempdir().unwrap();
        let namespaces = NamespaceDirectories::new(&[directory.path().to_owned()]).unwrap();
        let path = directory.path().join("cni-1");
        let seen = |probe: Probe| match probe.state {
            PathState::Present { mount } | PathState::Gone { mount } => (mount, probe.canary),
            PathState::Unknown => panic!("{probe:?}"),
        };
        fs::write(&path, b"").unwrap();
        let (old, _) = seen(probe(&namespaces, &path).await);
        // The whole directory is wiped, canary and all.
        fs::remove_file(&path).unwrap();
        fs::remove_file(directory.path().join(CANARY)).unwrap();
        assert!(!seen(probe(&namespaces, &path).await).1);
        let (new, canary) = seen(probe(&namespaces, &path).await);
        assert!(canary, "it is made anew");
        assert_ne!(new, old, "and does not vouch for what was there before");
        let again = NamespaceDirectories::new(&[directory.path().to_owned()]).unwrap();
        assert_eq!(
            seen(probe(&again, &path).await),
            (new, true),
            "it outlives the process"
        );
    }

    #[tokio::test]
    async fn what_cannot_be_known_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let namespaces =
            NamespaceDirectories::new(&[directory.path().to_owned(), missing.clone()]).unwrap();
        for path in [
            missing.join("cni-1"),
            PathBuf::from("/proc/1/ns/net"),
            PathBuf::from("/etc/passwd"),
            directory.path().join(".."),
            PathBuf::from("/"),
            PathBuf::new(),
        ] {
            assert_eq!(probe(&namespaces, &path).await, Probe::UNKNOWN, "{path:?}");
        }
        assert!(!missing.exists(), "no directory is made");
    }

    #[tokio::test]
    async fn a_link_to_the_directory_is_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let namespaces = NamespaceDirectories::new(std::slice::from_ref(&real)).unwrap();
        let gone = probe(&namespaces, &link.join("cni-1")).await;
        assert!(matches!(gone.state, PathState::Gone { .. }), "{gone:?}");
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_made_again_is_lost_and_then_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netns");
        let namespaces = NamespaceDirectories::new(std::slice::from_ref(&path)).unwrap();
        let missing = namespaces.check().unwrap_err().to_string();
        assert!(missing.contains("netns: No such file"), "{missing}");
        // It comes later than the agent, and through a link.
        fs::create_dir(directory.path().join("real")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("real"), &path).unwrap();
        assert!(namespaces.check().is_err(), "it was without a canary");
        namespaces.check().unwrap();
        fs::write(path.join("cni-1"), b"").unwrap();
        let seen = probe(&namespaces, &path.join("cni-1")).await;
        assert!(matches!(seen.state, PathState::Present { .. }), "{seen:?}");
        fs::remove_dir_all(directory.path().join("real")).unwrap();
        namespaces.check().unwrap_err();
        fs::create_dir(directory.path().join("real")).unwrap();
        namespaces.check().unwrap_err();
        namespaces.check().unwrap();
        let after = probe(&namespaces, &path.join("cni-1")).await;
        let (PathState::Present { mount: before }, PathState::Gone { mount }) =
            (seen.state, after.state)
        else {
            panic!("{seen:?} {after:?}")
        };
        assert_ne!(before, mount, "what went with the directory is no evidence");
    }

    #[test]
    fn a_path_by_var_run_is_found_where_there_is_no_such_link() {
        let image = |path: &Path| (path == Path::new("/run/netns")).then(|| path.to_owned());
        let found = |path: &str| resolve(Path::new(path), image);
        assert_eq!(found("/var/run/netns"), Some("/run/netns".into()));
        assert_eq!(found("/run/netns"), Some("/run/netns".into()));
        assert_eq!(found("/var/run/other"), None);
        assert_eq!(found("/var/lib/netns"), None);
    }

    #[tokio::test]
    async fn a_file_in_a_directorys_place_is_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("netns");
        fs::write(&path, b"").unwrap();
        let namespaces = NamespaceDirectories::new(std::slice::from_ref(&path)).unwrap();
        let error = namespaces.check().unwrap_err().to_string();
        assert!(error.ends_with("netns: it is no directory"), "{error}");
    }
}
