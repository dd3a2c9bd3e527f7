//! Where a network's files are, and how a file there is opened. The plugin runs as root and a path
//! may name anything, so that each step of it is looked at: a directory that others than root may
//! write to leads nowhere, nor does a link of theirs, and what is no regular file is not opened for
//! reading.
//!
//! Paths are looked at from `/` down and then used as paths, without descriptors in between: who is
//! not root can rename nothing in any of the directories that passed. `openat2` would refuse links,
//! but says nothing of owners, and older kernels have it not.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Links on one path. The kernel follows as many.
const LINKS_MAX: usize = 40;
/// Who owns what a user namespace cannot name.
const OVERFLOW_UID: u32 = 65_534;

/// What to do with a step that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make a directory.
    Make,
    /// Stop.
    Fail,
}

/// Whether links lead on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// Those of root.
    Follow,
    /// None.
    Refuse,
}

/// The directory that an absolute path names, free of links.
///
/// Errors: [`ErrorKind::NotFound`] when it is missing, and that others than root, or than this
/// process's user, could make the path lead elsewhere.
pub(super) fn directory(path: &Path, links: Links, missing: Missing) -> io::Result<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let mut here = PathBuf::from("/");
    let mut ahead: Vec<OsString> = steps(path);
    let mut links_left = LINKS_MAX;
    while let Some(step) = ahead.pop() {
        if step == ".." {
            // Only a link's target has these, and `here` has no links.
            here.pop();
            continue;
        }
        here.push(step);
        let found = look(&here, missing)?;
        let refuse = |what: &str| Err(other(&here, what));
        if !is_trusted(&found, own) {
            return refuse("must belong to root or to this process's user");
        }
        if found.is_symlink() {
            if links == Links::Refuse {
                return refuse("is a link, which is not followed");
            }
            links_left -= 1;
            if links_left == 0 {
                return refuse("leads through too many links");
            }
            let target = fs::read_link(&here)?;
            here.pop();
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            ahead.extend(steps(&target));
            continue;
        }
        if !found.is_dir() {
            let message = format!("{} is no directory", here.display());
            return Err(io::Error::new(ErrorKind::NotADirectory, message));
        }
        let of_others = found.mode() & 0o002 != 0 || found.mode() & 0o020 != 0 && found.gid() != 0;
        // In a sticky directory, as /tmp, nobody can replace what belongs to another.
        if of_others && found.mode() & 0o1000 == 0 {
            return refuse("must be a directory that its owner alone may write to");
        }
    }
    Ok(here)
}

/// The network's own directory in `root`, which passed [`directory`].
pub(super) fn network(root: &Path, network: &str, missing: Missing) -> io::Result<PathBuf> {
    let path = root.join(network);
    let found = look(&path, missing)?;
    let is_closed = found.is_dir() && found.mode() & 0o022 == 0;
    if !is_closed || found.uid() != rustix::process::geteuid().as_raw() {
        let what = "must be a directory that its owner alone may write to, and the owner this \
                    process's user";
        return Err(other(&path, what));
    }
    Ok(path)
}

/// Opens a regular file, or what `options` make. A link is not followed, a FIFO not waited for.
///
/// Errors: also that it is not a regular file.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<(File, Metadata)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = options.custom_flags(flags.bits() as i32).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        // Words for what the kernel calls too many links.
        Some(Errno::LOOP) => io::Error::other("a link, which is not followed"),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok((file, metadata))
}

fn steps(path: &Path) -> Vec<OsString> {
    let named = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    let mut steps: Vec<OsString> = path.components().filter_map(named).collect();
    steps.reverse();
    steps
}

fn look(path: &Path, missing: Missing) -> io::Result<Metadata> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && missing == Missing::Make => {
            // Not everybody's business, but host-local's directories can be listed, and tools list
            // them.
            match fs::DirBuilder::new().mode(0o755).create(path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => fs::symlink_metadata(path),
            }
        }
        found => found,
    }
}

/// Whether root, or who this process works for, made it.
fn is_trusted(found: &Metadata, own: u32) -> bool {
    let owner = found.uid();
    owner == 0 || owner == own || owner == OVERFLOW_UID && is_in_user_namespace()
}

/// In a user namespace of its own (rootless containers) a process sees the host's root, too, as
/// nobody.
fn is_in_user_namespace() -> bool {
    let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !whole(map))
}

fn other(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{} {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    const NOBODY: u32 = 65_534;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(directory.path()).unwrap();
        (directory, path)
    }

    fn is_root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            eprintln!("skipped in part: owners are set by root");
        }
        is_root
    }

    #[test]
    fn missing_steps_are_made_where_that_is_wanted_and_only_there() {
        let (_directory, base) = place();
        let deep = base.join("a/b/c");
        let missing = directory(&deep, Links::Refuse, Missing::Fail).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert!(!base.join("a").exists());
        let made = directory(&deep, Links::Refuse, Missing::Make).unwrap();
        assert_eq!(made, deep);
        assert_eq!(
            directory(&deep, Links::Refuse, Missing::Fail).unwrap(),
            deep
        );
        fs::write(base.join("file"), b"").unwrap();
        let through = directory(&base.join("file/x"), Links::Refuse, Missing::Make).unwrap_err();
        assert_eq!(through.kind(), ErrorKind::NotADirectory);
    }

    #[test]
    fn roots_links_lead_on_where_they_may_and_nowhere_else() {
        let (_directory, base) = place();
        fs::create_dir_all(base.join("real/deep")).unwrap();
        symlink("real/deep", base.join("relative")).unwrap();
        symlink(base.join("relative"), base.join("absolute")).unwrap();
        symlink("../relative/..", base.join("real/up")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        let follow = |name: &str| directory(&base.join(name), Links::Follow, Missing::Fail);
        assert_eq!(follow("absolute").unwrap(), base.join("real/deep"));
        assert_eq!(follow("real/up").unwrap(), base.join("real"));
        assert!(follow("loop").unwrap_err().to_string().contains("links"));
        for name in ["relative", "absolute", "real/up", "relative/x"] {
            let refused = directory(&base.join(name), Links::Refuse, Missing::Make).unwrap_err();
            assert!(refused.to_string().contains("is a link"), "{refused}");
        }
        assert!(!base.join("real/deep/x").exists());
    }

    #[test]
    fn a_path_that_others_could_turn_leads_nowhere() {
        let (_directory, base) = place();
        let open = |name: &str, mode| {
            fs::set_permissions(base.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        let try_it = |name: &str| directory(&base.join(name), Links::Follow, Missing::Make);
        fs::create_dir_all(base.join("shared/own")).unwrap();
        open("shared", 0o777);
        assert!(
            try_it("shared/own").is_err(),
            "who may rename it may replace it"
        );
        open("shared", 0o1777);
        assert!(try_it("shared/own").is_ok());
        if !is_root() {
            return;
        }
        open("shared", 0o755);
        chown(base.join("shared"), Some(NOBODY), None).unwrap();
        assert!(try_it("shared/own").is_err());
        fs::create_dir(base.join("target")).unwrap();
        symlink(base.join("target"), base.join("theirs")).unwrap();
        std::os::unix::fs::lchown(base.join("theirs"), Some(NOBODY), None).unwrap();
        assert!(try_it("theirs").is_err(), "a link of somebody else");
        fs::create_dir(base.join("group")).unwrap();
        open("group", 0o775);
        assert!(try_it("group").is_ok(), "root's group");
        chown(base.join("group"), None, Some(NOBODY)).unwrap();
        assert!(try_it("group").is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        let (_directory, base) = place();
        fs::write(base.join("file"), b"x").unwrap();
        symlink("file", base.join("link")).unwrap();
        fs::create_dir(base.join("directory")).unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, base.join("fifo"), fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(base.join("socket")).unwrap();
        let reads = |name: &str| open(&base.join(name), OpenOptions::new().read(true)).is_ok();
        let writes = |name: &str| {
            let mut options = OpenOptions::new();
            open(
                &base.join(name),
                options.read(true).write(true).create(true),
            )
            .is_ok()
        };
        assert!(reads("file") && writes("file") && writes("new"));
        let link = open(&base.join("link"), OpenOptions::new().read(true)).unwrap_err();
        assert_eq!(link.to_string(), "a link, which is not followed");
        for name in ["link", "directory", "fifo", "socket", "/dev/null"] {
            assert!(!reads(name) && !writes(name), "{name}");
        }
    }
}
