//! Notices of the kernel that something in a directory changed (inotify). The kernel follows the
//! directory and not its path: one that is not there yet, or that another took the place of, is
//! looked for again.

use core::mem::MaybeUninit;
use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{
    CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch,
};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// How often the paths are checked.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Watched directories.
pub struct Notices {
    inotify: AsyncFd<OwnedFd>,
    flags: WatchFlags,
    directories: Vec<PathBuf>,
    watched: Mutex<Vec<Option<Watched>>>,
}

/// A directory that is watched: the kernel's number for the watch, device and inode.
#[derive(Clone, Copy)]
struct Watched {
    number: i32,
    identity: (u64, u64),
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

impl Notices {
    /// Watches the directories for those events. Within a tokio runtime.
    pub fn new(directories: Vec<PathBuf>, flags: WatchFlags) -> io::Result<Self> {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "the replacement is an unsafe fn; what it asks of callers, that the descriptor \
                      stays open and the same, holds for an OwnedFd that nobody else has"
        )]
        let inotify = AsyncFd::new(inotify)?;
        let notices = Self {
            inotify,
            flags,
            watched: Mutex::new(vec![None; directories.len()]),
            directories,
        };
        notices.look();
        Ok(notices)
    }

    /// Watches what is not watched yet, and no more what is not at its path; whether any directory
    /// is new.
    fn look(&self) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = false;
        for (directory, watched) in self.directories.iter().zip(watched.iter_mut()) {
            let there = identity(directory);
            if let Some(old) = watched.take_if(|old| Some(old.identity) != there) {
                // The kernel may have ended it already.
                let _ = remove_watch(&self.inotify, old.number);
            }
            if watched.is_none()
                && let Some(identity) = there
                && let Ok(number) = add_watch(&self.inotify, directory, self.flags)
            {
                *watched = Some(Watched { number, identity });
                new = true;
            }
        }
        new
    }

    /// Completes when something changed since the last call.
    pub async fn changed(&self) {
        loop {
            if self.look() {
                // It may have been filled before it was watched.
                return;
            }
            let readable = async {
                match self.inotify.readable().await {
                    Ok(mut ready) => {
                        let any = self.drain();
                        ready.clear_ready();
                        any
                    }
                    // The runtime ends.
                    Err(_) => core::future::pending().await,
                }
            };
            if tokio::time::timeout(LOOK_PAUSE, readable)
                .await
                .unwrap_or(false)
            {
                return;
            }
        }
    }

    /// Takes all notices; whether there was any.
    fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut any = false;
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::IGNORED) => {
                    // That directory is gone, or was let go here.
                    let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                    for entry in watched.iter_mut() {
                        any |= entry.take_if(|w| w.number == event.wd()).is_some();
                    }
                }
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => return any,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_removed_file_is_noticed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        std::fs::write(&file, b"").unwrap();
        let notices = Notices::new(vec![directory.path().to_owned()], WatchFlags::DELETE).unwrap();
        std::fs::write(directory.path().join("b"), b"").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(30), notices.changed());
        assert!(quiet.await.is_err());
        std::fs::remove_file(&file).unwrap();
        let removal = tokio::time::timeout(Duration::from_secs(20), notices.changed());
        assert!(removal.await.is_ok());
    }

    #[tokio::test]
    async fn a_directory_that_another_took_the_place_of_is_watched_in_its_stead() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("spool");
        let notices = Notices::new(vec![path.clone()], WatchFlags::CREATE).unwrap();
        let noticed = async || {
            let change = tokio::time::timeout(Duration::from_secs(20), notices.changed());
            assert!(change.await.is_ok());
        };
        std::fs::create_dir(&path).unwrap();
        noticed().await;
        std::fs::rename(&path, parent.path().join("aside")).unwrap();
        std::fs::create_dir(&path).unwrap();
        noticed().await;
        std::fs::write(path.join("entry"), b"").unwrap();
        noticed().await;
        std::fs::write(parent.path().join("aside/other"), b"").unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(30), notices.changed());
        assert!(quiet.await.is_err(), "what was set aside is nobody's");
    }
}
