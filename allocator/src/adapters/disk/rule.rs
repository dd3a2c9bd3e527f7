//! What this node lets the store serve: reads the administrator's list, and where there is none,
//! looks for the signs of an agent. What follows from them is decided in
//! [`NodeRule`](crate::cni::disk::networks::NodeRule).
//!
//! An agent that is down is still an agent, so that none of the signs is its answer: each is a file
//! that root left, where only root can take it away. What cannot be checked counts as present.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::place::{self, Links, Missing};
use crate::cni::disk::networks::{Networks, NodeRule, Serves};

/// Where the administrator's list is.
pub const LIST_PATH: &str = "/etc/berth/disk-networks.json";
/// The name of the file that `berthd install` leaves beside the plugin: this host has an agent.
pub const AGENT_MARKER: &str = ".berth.berth-agent";
/// What an agent makes when it starts: the directory of its socket and, on a disk, its journal.
const OF_AN_AGENT: [&str; 2] = ["/run/berth", "/var/lib/berth/journal"];
/// Units: bytes. A longer list is refused.
const LIST_BYTES_MAX: u64 = 256 << 10;

/// Where list and signs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFiles {
    list: PathBuf,
    /// The variable of the runtime that names an agent's place, if it has one.
    told: Option<&'static str>,
    /// Each shows by its presence that there is an agent.
    signs: Vec<PathBuf>,
}

impl NodeFiles {
    /// As the runtime's environment has them, which no network configuration changes. A runtime
    /// that is told where an agent is has one.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>, program: io::Result<PathBuf>) -> Self {
        let told = ["BERTH_SOCKET", "BERTH_SPOOL"];
        let told = told.into_iter().find(|name| variable(name).is_some());
        let list = variable("BERTH_DISK_NETWORKS").map_or_else(|| LIST_PATH.into(), PathBuf::from);
        // A program that does not know where it is has no sign to miss.
        let program = program.unwrap_or_else(|_| "/".into());
        let mut signs = vec![program.with_file_name(AGENT_MARKER)];
        signs.extend(OF_AN_AGENT.map(PathBuf::from));
        Self { list, told, signs }
    }

    /// What holds.
    pub fn rule(&self) -> NodeRule {
        let serves = match read_list(&self.list) {
            Ok(Some(bytes)) => match Networks::decode(&bytes) {
                Ok(networks) => Serves::Listed(networks),
                Err(why) => Serves::Unusable(why),
            },
            Ok(None) => match self.agent() {
                Some(agent) => Serves::Nothing { agent },
                None => Serves::Anything,
            },
            Err(error) => Serves::Unusable(format!("is unusable: {error}")),
        };
        NodeRule {
            list: self.list.clone(),
            serves,
        }
    }

    /// What shows that this node has an agent.
    fn agent(&self) -> Option<String> {
        if let Some(variable) = self.told {
            return Some(format!("the runtime sets {variable}"));
        }
        self.signs.iter().find_map(|sign| {
            let sign_text = sign.display();
            match rustix::fs::lstat(sign) {
                Ok(_) => Some(format!("{sign_text} is there")),
                Err(rustix::io::Errno::NOENT) => None,
                Err(error) => Some(format!("{sign_text} cannot be looked at: {error}")),
            }
        })
    }
}

/// The list's bytes; `None` where there is none.
///
/// Errors: it cannot be read, or others than root may write it.
fn read_list(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let (file, metadata) = match place::open(path, OpenOptions::new().read(true)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let own = rustix::process::geteuid().as_raw();
    if metadata.mode() & 0o022 != 0 || metadata.uid() != 0 && metadata.uid() != own {
        let message = "it must belong to root, and nobody else may write to it";
        return Err(io::Error::other(message));
    }
    if let Some(parent) = path.parent() {
        place::directory(parent, Links::Refuse, Missing::Fail)?;
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(LIST_BYTES_MAX) as usize + 1);
    file.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIST_BYTES_MAX {
        let message = format!("it has more than {LIST_BYTES_MAX} bytes");
        return Err(io::Error::other(message));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::adapters::socket::SOCKET_PATH;
    use crate::adapters::spool::SPOOL_PATH;

    fn files(base: &Path) -> NodeFiles {
        NodeFiles {
            list: base.join("etc/list.json"),
            told: None,
            signs: ["marker", "run", "state/journal"]
                .map(|name| base.join(name))
                .into(),
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        for name in ["etc", "state"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        (directory, base)
    }

    #[test]
    fn each_sign_alone_shows_an_agent_and_none_shows_none() {
        let (_directory, base) = place();
        let files = files(&base);
        assert_eq!(files.rule().serves, Serves::Anything);
        for sign in &files.signs {
            fs::write(sign, b"").unwrap();
            let Serves::Nothing { agent } = files.rule().serves else {
                panic!("{sign:?}")
            };
            assert!(agent.contains(&sign.display().to_string()), "{agent}");
            fs::remove_file(sign).unwrap();
        }
        // Where it cannot be checked: `state` is not a directory.
        fs::remove_dir(base.join("state")).unwrap();
        fs::write(base.join("state"), b"").unwrap();
        let unseen = files.rule().serves;
        assert!(matches!(unseen, Serves::Nothing { .. }), "{unseen:?}");
    }

    #[test]
    fn the_runtimes_environment_tells_of_an_agent_and_names_the_list() {
        let of = |name: &'static str| {
            let variable = move |asked: &str| (asked == name).then(|| OsString::from("/x"));
            NodeFiles::of(variable, Ok("/opt/cni/bin/berth (deleted)".into()))
        };
        assert_eq!(of("").list, Path::new(LIST_PATH));
        assert_eq!(of("BERTH_DISK_NETWORKS").list, Path::new("/x"));
        assert_eq!(of("BERTH_SOCKET").told, Some("BERTH_SOCKET"));
        assert_eq!(of("BERTH_SPOOL").told, Some("BERTH_SPOOL"));
        assert_eq!(of("").told, None);
        let signs = [
            "/opt/cni/bin/.berth.berth-agent",
            "/run/berth",
            "/var/lib/berth/journal",
        ];
        assert_eq!(of("").signs, signs.map(PathBuf::from));
        let parent = |path: &'static str| Path::new(path).parent();
        assert_eq!(parent(SOCKET_PATH), Some(Path::new(signs[1])));
        assert_eq!(parent(SPOOL_PATH), parent(signs[2]), "the state directory");
    }

    #[test]
    fn a_list_that_others_could_have_written_is_not_read_and_not_taken_for_absent() {
        let (_directory, base) = place();
        let files = files(&base);
        let mode = |name: &str, mode| {
            fs::set_permissions(base.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        let unusable = |what: &str| {
            let Serves::Unusable(why) = files.rule().serves else {
                panic!("{what}")
            };
            why
        };
        fs::write(&files.list, b"{\"networks\": {}}").unwrap();
        assert!(matches!(files.rule().serves, Serves::Listed(_)));
        for open in [0o666, 0o664, 0o646] {
            mode("etc/list.json", open);
            unusable("others may write it");
        }
        mode("etc/list.json", 0o644);
        mode("etc", 0o777);
        assert!(unusable("others may replace it").contains("etc must be"));
        mode("etc", 0o755);
        fs::write(&files.list, vec![b' '; LIST_BYTES_MAX as usize + 1]).unwrap();
        assert!(unusable("long").contains("bytes"));
        fs::write(&files.list, b"{").unwrap();
        unusable("damaged");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&files.list, Some(65_534), None).unwrap();
            unusable("somebody's");
        }
        fs::remove_file(&files.list).unwrap();
        fs::create_dir(&files.list).unwrap();
        unusable("a directory");
        fs::remove_dir(&files.list).unwrap();
        fs::write(base.join("elsewhere"), b"{\"networks\": {}}").unwrap();
        symlink(base.join("elsewhere"), &files.list).unwrap();
        unusable("a link");
    }
}
