//! A place that a test can fill with daemons, mounts and interfaces and that goes with it: the test
//! runs itself again in mount, process and network namespaces of its own. What the kernel does not
//! take away with those (control groups, one directory) is removed here, at the start too, in case
//! the last run was killed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::testing::control_plane::Assets;

use crate::node::{await_that, wait};
use crate::recorder::kernel;

/// Every trace of a run on the host has this name and the process ID of the test.
pub(crate) const PREFIX: &str = "drydock-realnode-";
const CGROUPS: &str = "/sys/fs/cgroup";
const PLUGINS: [&str; 3] = ["macvlan", "host-local", "loopback"];
const PROGRAMS: [&str; 10] = [
    "cc",
    "containerd",
    "ctr",
    "ip",
    "mount",
    "nsenter",
    "runc",
    "setpriv",
    "tar",
    "unshare",
];
/// Longer than any test here takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(30);

/// What runs as the first process inside: it hides what daemons write to by fixed names, lets them
/// believe that they set kernel parameters of the host, runs the test, and reaps orphans.
const INSIDE: &str = r#"
set -e
mount -t tmpfs tmpfs /run
for name in lib log; do
  mkdir -p "$REALNODE_PLACE/$name" "$REALNODE_PLACE/$name.work"
  mount -t overlay overlay -o "lowerdir=/var/$name,upperdir=$REALNODE_PLACE/$name,workdir=$REALNODE_PLACE/$name.work" "/var/$name"
done
for name in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  copy="$REALNODE_PLACE/sysctl-${name//\//-}"
  cat "/proc/sys/$name" > "$copy"
  mount --bind "$copy" "/proc/sys/$name"
done
ip link set lo up
# All that runs inside is counted together, where a hierarchy does nothing else.
if [ -e "/sys/fs/cgroup/cpuacct$REALNODE_CGROUP/cpuacct.usage" ] && [ ! /sys/fs/cgroup/cpuacct -ef /sys/fs/cgroup/cpu ]; then
  echo $$ > "/sys/fs/cgroup/cpuacct$REALNODE_CGROUP/cgroup.procs"
fi
# Others get little of the processors meanwhile, and how those inside share them stays as it is: the
# daemons are tasks beside the group of all Pods, as on a machine of their own.
if [ -e "/sys/fs/cgroup/cpu$REALNODE_CGROUP/cpu.shares" ]; then
  echo 16384 > "/sys/fs/cgroup/cpu$REALNODE_CGROUP/cpu.shares"
  echo $$ > "/sys/fs/cgroup/cpu$REALNODE_CGROUP/cgroup.procs"
fi
set +e
"$@"
exit $?
"#;

/// Where a test runs, inside.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Everything that is written, is written here.
    pub directory: PathBuf,
    /// The control group, below the root, that Pods get.
    pub cgroup: String,
    /// How many rounds of each kind a comparison has.
    pub pairs: usize,
    /// Every phase of every Pod is recorded: daemons say more, programs are called by a witness.
    pub is_recorded: bool,
}

impl Place {
    /// The processor time of everything inside until now, the Pods' own included; zero where it is
    /// not counted.
    pub(crate) fn processor_time(&self) -> Duration {
        let file = format!("{CGROUPS}/cpuacct{}/cpuacct.usage", self.cgroup);
        let text = fs::read_to_string(file).unwrap_or_default();
        Duration::from_nanos(text.trim().parse().unwrap_or_default())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are configured by environment"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs `body` inside, as the test of this name. Nothing happens, after one line on stderr, unless
/// `REQUIRE_REALNODE` is 1.
///
/// Panics: it failed, or something that it needs is missing.
pub(crate) fn enclosed(name: &str, body: impl FnOnce(&Place, &Assets)) {
    // Two nodes at once would only slow each other.
    static ONE: Mutex<()> = Mutex::new(());
    let programs = [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
    ];
    if let Some(directory) = variable("REALNODE_PLACE") {
        let assets = Assets::find(&programs).unwrap();
        let pairs = variable("REALNODE_PAIRS").map_or(1, |text| text.parse().unwrap());
        let place = Place {
            directory: directory.into(),
            cgroup: variable("REALNODE_CGROUP").unwrap(),
            pairs,
            is_recorded: false,
        };
        body(&place, &assets);
        return;
    }
    let _one = ONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // Minutes of a whole node: not a thing to begin because its programs happen to be there.
    if variable("REQUIRE_REALNODE").is_none_or(|value| value != "1") {
        eprintln!("skipped: a real node takes minutes; REQUIRE_REALNODE=1 runs it");
        return;
    }
    if let Err(why) = is_possible(&programs) {
        panic!("REQUIRE_REALNODE=1, but {why}");
    }
    sweep();
    let status = Enclosure::new().run(name);
    assert_eq!(status, Some(0), "the test inside failed");
}

fn is_possible(programs: &[&str]) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("a real node needs root".to_owned());
    }
    let Some(assets) = variable("KUBEBUILDER_ASSETS") else {
        return Err("KUBEBUILDER_ASSETS is not set (tests/envtest/build --node)".to_owned());
    };
    let there = |directories: &[&str], name: &str| {
        directories
            .iter()
            .any(|directory| Path::new(directory).join(name).exists())
    };
    let path = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let missing: Vec<&str> = programs
        .iter()
        .filter(|name| !there(&[&assets], name))
        .chain(PROGRAMS.iter().filter(|name| !there(&path, name)))
        .chain(
            PLUGINS
                .iter()
                .filter(|name| !there(&[crate::node::PLUGINS], name)),
        )
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "a real node needs {missing:?} (tests/envtest/build --node; Debian: containerd runc \
         containernetworking-plugins iproute2)"
    ))
}

/// The namespaces of a run, and what stays behind them. Dropped, all is gone.
struct Enclosure {
    name: String,
    directory: PathBuf,
    child: Option<Child>,
}

impl Enclosure {
    fn new() -> Self {
        let name = format!("{PREFIX}{}", std::process::id());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory).unwrap();
        Self {
            name,
            directory,
            child: None,
        }
    }

    /// The exit code of the test inside; none when it took too long.
    fn run(mut self, test: &str) -> Option<i32> {
        for root in hierarchies() {
            let own = root.join(&self.name);
            fs::create_dir_all(&own).unwrap();
            // Only cpuset, of all, starts empty and unusable.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(text) = fs::read(root.join(file)) {
                    fs::write(own.join(file), text).unwrap();
                }
            }
        }
        let program: OsString = std::env::current_exe().unwrap().into();
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--mount",
                "--pid",
                "--net",
            ])
            .args([
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--propagation",
                "private",
            ])
            .args(["bash", "-c", INSIDE, "bash"])
            .arg(program)
            .args(["--exact", test, "--nocapture", "--include-ignored"])
            .env("REALNODE_PLACE", &self.directory)
            .env("REALNODE_CGROUP", format!("/{}", self.name))
            .env("TMPDIR", &self.directory)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let limit = boot_time() + LIMIT;
        while boot_time() < limit {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            wait(Duration::from_millis(50));
        }
        None
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The first process inside dies with it, and with that one everything inside.
            let _ = child.kill();
            let _ = child.wait();
        }
        if variable("REALNODE_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.directory);
        }
        remove_cgroups(&self.name);
        kernel::remove(&self.name);
    }
}

/// The roots of the control group hierarchies: several, or one for all.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        return vec![root];
    }
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists() && !path.is_symlink())
        .collect()
}

/// Removes a control group and all below it, as soon as its last process is gone.
fn remove_cgroups(name: &str) {
    for root in hierarchies() {
        let own = root.join(name);
        let limit = boot_time() + Duration::from_secs(20);
        while remove_tree(&own).is_err() && boot_time() < limit {
            wait(Duration::from_millis(50));
        }
    }
}

fn remove_tree(group: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// Removes what a killed run has left.
fn sweep() {
    let mut places = hierarchies();
    places.push(std::env::temp_dir());
    for place in places {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(process) = name.strip_prefix(PREFIX) else {
                continue;
            };
            if process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists() {
                remove_cgroups(&name);
                kernel::remove(&name);
                let _ = fs::remove_dir_all(std::env::temp_dir().join(&name));
            }
        }
    }
}

#[test]
fn a_group_with_groups_below_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let group = directory.path().join("group");
    fs::create_dir_all(group.join("one/two")).unwrap();
    fs::create_dir_all(group.join("three")).unwrap();
    await_that(Duration::from_secs(5), "it is gone", || {
        remove_tree(&group).map_err(|error| error.to_string())
    });
    assert!(!group.exists());
}
