//! Notices of the kernel that something in a directory changed (inotify). A directory that is not
//! there yet is looked for again.

use core::mem::MaybeUninit;
use core::time::Duration;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// How often a missing directory is looked for.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Watched directories.
pub struct Notices {
    inotify: AsyncFd<OwnedFd>,
    flags: WatchFlags,
    directories: Vec<PathBuf>,
    watched: Mutex<Vec<bool>>,
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
            watched: Mutex::new(vec![false; directories.len()]),
            directories,
        };
        notices.look();
        Ok(notices)
    }

    /// Watches what is not watched yet: whether any directory is new, and whether all are there.
    fn look(&self) -> (bool, bool) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = false;
        for (directory, watched) in self.directories.iter().zip(watched.iter_mut()) {
            if !*watched && add_watch(&self.inotify, directory, self.flags).is_ok() {
                *watched = true;
                new = true;
            }
        }
        (new, watched.iter().all(|watched| *watched))
    }

    /// Completes when something changed since the last call.
    pub async fn changed(&self) {
        loop {
            let (new, all) = self.look();
            if new {
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
            let any = if all {
                readable.await
            } else {
                tokio::time::timeout(LOOK_PAUSE, readable)
                    .await
                    .unwrap_or(false)
            };
            if any {
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
                Ok(event) => {
                    any = true;
                    if event.events().contains(ReadFlags::IGNORED) {
                        // A directory is gone: which one is found out by watching all anew.
                        let mut watched =
                            self.watched.lock().unwrap_or_else(PoisonError::into_inner);
                        watched.fill(false);
                    }
                }
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
}
