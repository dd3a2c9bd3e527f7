//! The node: an image, a veth pair, CNI configuration, containerd and kubelet. Inside the
//! enclosure.

use core::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::core::time::BootTime;
use berth::testing::control_plane::{Assets, ControlPlane, Server};
use serde_json::{Value, json};

use crate::cluster::Ipam;
use crate::enclosure::Place;
use crate::recorder::{logs, witness};

/// Where a distribution puts CNI plugins.
pub(crate) const PLUGINS: &str = "/usr/lib/cni";
pub(crate) const IMAGE: &str = "drydock.test/pause:1";
pub(crate) const NODE: &str = "real-node";
const ADDRESS: &str = "10.99.0.1";

/// How fast a kubelet may ask the apiserver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Requests per second.
    pub qps: u32,
    /// Requests at once.
    pub burst: u32,
}

impl Rate {
    /// The default since 1.27.
    pub(crate) const DEFAULT: Self = Self {
        qps: 50,
        burst: 100,
    };
    /// The default before.
    pub(crate) const SLOW: Self = Self { qps: 5, burst: 10 };
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kubelet {}/{}", self.qps, self.burst)
    }
}

pub(crate) struct Node {
    // Dropped in this order: who asks before who is asked.
    pub kubelet: Server,
    pub containerd: Server,
    kubelet_began: BootTime,
    directory: PathBuf,
}

impl Node {
    pub(crate) fn start(place: &Place, assets: &Assets, plane: &ControlPlane, rate: Rate) -> Self {
        // Short: a socket's path has at most 107 bytes.
        let directory = place.directory.join(format!("n{}", rate.qps));
        let path = |name: &str| directory.join(name);
        for name in ["bin", "net.d", "kubelet"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for plugin in ["macvlan", "host-local", "loopback"] {
            fs::copy(Path::new(PLUGINS).join(plugin), path("bin").join(plugin)).unwrap();
        }
        fs::copy(env!("CARGO_BIN_EXE_berth"), path("bin/berth")).unwrap();
        make_links();
        fs::write(path("containerd.toml"), containerd_config(&directory)).unwrap();
        let flags = vec!["--config".to_owned(), text(&path("containerd.toml"))];
        let program = Path::new("/usr/bin/containerd");
        let mut containerd = Server::new(program, flags, path("containerd.log"));
        for (name, value) in plugin_environment(&directory) {
            containerd.set_variable(name, &value);
        }
        if place.is_recorded {
            containerd.set_variable("PATH", &witness::install(&directory));
            containerd.set_variable("TZ", "UTC");
        }
        containerd.start().unwrap();
        import_image(&directory);
        let config = kubelet_config(place, plane, &directory, rate);
        fs::write(path("kubelet.json"), config.to_string()).unwrap();
        let kubeconfig = plane
            .kubeconfig(&format!("system:node:{NODE}"), "system:nodes")
            .unwrap();
        let mut flags = vec![
            format!("--config={}", text(&path("kubelet.json"))),
            format!("--kubeconfig={}", text(&kubeconfig)),
            format!("--root-dir={}", text(&path("kubelet"))),
            format!("--cert-dir={}", text(&path("kubelet/pki"))),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={ADDRESS}"),
        ];
        if place.is_recorded {
            flags.extend(logs::KUBELET_FLAGS.map(str::to_owned));
        }
        let mut kubelet = Server::new(&assets.program("kubelet"), flags, path("kubelet.log"));
        if place.is_recorded {
            kubelet.set_variable("TZ", "UTC");
            kubelet.set_variable("GODEBUG", logs::KUBELET_DEBUG);
        }
        kubelet.start().unwrap();
        Self {
            kubelet,
            containerd,
            kubelet_began: boot_time(),
            directory,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The network's IPAM from now on.
    pub(crate) fn configure(&self, ipam: Ipam, configuration: &Value) {
        let list = json!({
            "cniVersion": "1.0.0", "name": ipam.network(), "plugins": [{
                "type": "macvlan", "master": "v0", "mode": "bridge", "ipam": configuration,
            }],
        });
        // Aside, but in the same directory: containerd 1.6 looks again only after a write or when a
        // name in there goes, not when one comes.
        let aside = self.path("net.d/.aside");
        fs::write(&aside, list.to_string()).unwrap();
        fs::rename(aside, self.path("net.d/10-net.conflist")).unwrap();
    }

    /// Waits for the same moment between two ticks of the kubelet's status manager, which come each
    /// ten seconds from its start: the first Pods' status waits for one.
    pub(crate) fn await_phase(&self) {
        let period = Duration::from_secs(10);
        let since = boot_time().since(self.kubelet_began).as_millis();
        let into = Duration::from_millis((since % period.as_millis()) as u64);
        wait(period.saturating_sub(into));
    }

    /// Where containerd keeps network namespaces.
    pub(crate) fn namespaces(&self) -> PathBuf {
        self.path("s/io.containerd.grpc.v1.cri/netns")
    }

    /// The network namespaces of Pods. The agent keeps a file of its own beside them.
    pub(crate) fn pod_namespaces(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.namespaces()).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("cni-"))
            .map(|entry| entry.path())
            .collect()
    }

    /// The addresses of all Pods, as their network namespaces have them.
    pub(crate) fn addresses(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for namespace in self.pod_namespaces() {
            let mut enter = std::ffi::OsString::from("--net=");
            enter.push(namespace);
            let arguments = ["ip", "-j", "-4", "addr", "show", "dev", "eth0"];
            let output = Command::new("nsenter")
                .arg(enter)
                .args(arguments)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let links: Value = serde_json::from_slice(&output.stdout).unwrap();
            for address in links[0]["addr_info"].as_array().unwrap() {
                addresses.push(address["local"].as_str().unwrap().to_owned());
            }
        }
        addresses
    }

    /// The ends of the logs.
    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for name in ["kubelet.log", "containerd.log", "agent.log"] {
            let text = fs::read(self.path(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(15)..].join("\n");
            let _ = write!(logs, "--- {name}\n{tail}\n");
        }
        logs
    }
}

/// What Berth's plugin gets from the runtime's environment.
fn plugin_environment(directory: &Path) -> [(&'static str, String); 2] {
    [
        ("BERTH_SOCKET", text(&directory.join("run/s"))),
        ("BERTH_SPOOL", text(&directory.join("state/spool"))),
    ]
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Runs a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A veth pair with the node's address; the network of a former node of this test goes.
fn make_links() {
    let _ = Command::new("ip").args(["link", "del", "v0"]).output();
    run(
        "ip",
        &["link", "add", "v0", "type", "veth", "peer", "name", "v1"],
    );
    run(
        "ip",
        &["addr", "add", &format!("{ADDRESS}/24"), "dev", "v0"],
    );
    run("ip", &["link", "set", "v0", "up"]);
    run("ip", &["link", "set", "v1", "up"]);
}

fn containerd_config(directory: &Path) -> String {
    let directory = text(directory);
    format!(
        r#"
version = 2
root = "{directory}/r"
state = "{directory}/s"
[grpc]
  address = "{directory}/c.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{directory}/bin"
    conf_dir = "{directory}/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = false
"#
    )
}

fn kubelet_config(place: &Place, plane: &ControlPlane, directory: &Path, rate: Rate) -> Value {
    let Rate { qps, burst } = rate;
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": false},
            "x509": {"clientCAFile": plane.authority().certificate()},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": format!("unix://{}/c.sock", text(directory)),
        "cgroupDriver": "cgroupfs", "cgroupRoot": place.cgroup, "failCgroupV1": false,
        "enforceNodeAllocatable": [], "failSwapOn": false, "hairpinMode": "none",
        "localStorageCapacityIsolation": false,
        "evictionHard": {
            "memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            "imagefs.available": "0%", "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250, "kubeAPIQPS": qps, "kubeAPIBurst": burst,
        "eventRecordQPS": qps, "eventBurst": burst,
        "clusterDNS": ["10.96.0.10"], "clusterDomain": "cluster.local",
        "podLogsDir": directory.join("pods"),
        "volumePluginDir": directory.join("volumes"),
    })
}

/// Makes an image of one static program and gives it to containerd.
fn import_image(directory: &Path) {
    let image = directory.join("image");
    fs::create_dir_all(image.join("layer")).unwrap();
    let source = text(&image.join("pause.c"));
    fs::write(&source, include_str!("pause.c")).unwrap();
    let program = text(&image.join("layer/pause"));
    run("cc", &["-static", "-O2", "-o", &program, &source]);
    let layer = text(&image.join("layer.tar"));
    let content = text(&image.join("layer"));
    run(
        "tar",
        &[
            "-C",
            &content,
            "--owner=0",
            "--group=0",
            "-cf",
            &layer,
            "pause",
        ],
    );
    let digest = run("sha256sum", &[&layer]);
    let digest = digest.split_whitespace().next().unwrap();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(image.join("config.json"), config.to_string()).unwrap();
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]},
    ]);
    fs::write(image.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = text(&directory.join("image.tar"));
    let source = text(&image);
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(
        "tar",
        &[&["-C", &source, "-cf", &archive], files.as_slice()].concat(),
    );
    let socket = text(&directory.join("c.sock"));
    await_that(Duration::from_mins(1), "containerd takes the image", || {
        let output = Command::new("ctr")
            .args(["-a", &socket, "-n", "k8s.io", "images", "import", &archive])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{output:?}"))
        }
    });
}

/// So long, while other processes go on.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes are awaited, which no clock of ours moves"
)]
pub(crate) fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until it is so, at most `within`.
pub(crate) fn await_that(
    within: Duration,
    what: &str,
    mut is_so: impl FnMut() -> Result<(), String>,
) {
    let limit = boot_time() + within;
    loop {
        match is_so() {
            Ok(()) => return,
            Err(why) => assert!(boot_time() < limit, "{what}: {why}"),
        }
        wait(Duration::from_millis(100));
    }
}
