//! Who calls: a distribution's `macvlan` and `bridge`, and a user who must not.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Host;
use crate::namespaces::{Namespaces, has, ip, reaches};
use crate::plugin::Run;

const PLUGINS: &str = "/usr/lib/cni";
const BERTH: &str = env!("CARGO_BIN_EXE_berth");

fn args(pod: &str, uid: &str) -> String {
    format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={pod};K8S_POD_UID={uid}")
}

/// A main plugin as the runtime calls it, in the namespace that plays the host.
fn call(
    host: &Host,
    namespaces: &Namespaces,
    verb: &str,
    (container, uid): (&str, &str),
    config: &Value,
) -> Run {
    let own = Path::new(BERTH).parent().unwrap();
    let main = format!("{PLUGINS}/{}", config["type"].as_str().unwrap());
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", namespaces.host(), &main])
        .env("CNI_PATH", format!("{PLUGINS}:{}", own.display()))
        .env("CNI_NETNS", host.path("netns").join(container));
    let stdin = config.to_string();
    host.execute(
        command,
        verb,
        container,
        &args(container, uid),
        stdin.as_bytes(),
    )
}

fn round(kind: &str, prepare: impl Fn(&Namespaces), config: &Value) {
    if !has(&["macvlan", "bridge", "ip", "ping"]) {
        return;
    }
    let namespaces = Namespaces::new(kind);
    prepare(&namespaces);
    let mut host = Host::new();
    host.start_agent();
    let containers = namespaces.containers();
    let uids = containers.map(|container| host.api.add_pod(container));
    for container in containers {
        let seen = host.path("netns").join(container);
        std::os::unix::fs::symlink(format!("/run/netns/{container}"), seen).unwrap();
    }
    let pods = [0, 1].map(|i| (containers[i], uids[i].as_str()));
    let ips = pods.map(|pod| {
        let added = call(&host, &namespaces, "ADD", pod, config);
        assert_eq!(added.code, 0, "{}", added.stdout);
        added.addresses().map_ips()
    });
    assert!(ips.iter().all(|ips| ips.len() == 2), "{ips:?}");
    for (from, to) in [(containers[0], &ips[1]), (containers[1], &ips[0])] {
        for ip in to {
            assert!(reaches(from, ip), "{from} does not reach {ip}");
        }
    }
    for pod in pods {
        let del = call(&host, &namespaces, "DEL", pod, config);
        assert_eq!((del.code, del.stdout.as_str()), (0, ""));
        std::fs::remove_file(host.path("netns").join(pod.0)).unwrap();
        host.api.remove_pod(pod.0);
        host.await_release(pod.1);
    }
    host.stop_agent();
}

trait MapIps {
    fn map_ips(self) -> Vec<String>;
}

impl MapIps for Vec<String> {
    fn map_ips(self) -> Vec<String> {
        let ip = |text: String| text.split('/').next().unwrap().to_owned();
        self.into_iter().map(ip).collect()
    }
}

#[test]
fn macvlan_gets_the_agents_addresses_and_containers_reach_each_other() {
    let prepare = |namespaces: &Namespaces| {
        let host = namespaces.host();
        ip(&[
            "-n", host, "link", "add", "m0", "type", "veth", "peer", "name", "m1",
        ]);
        for link in ["m0", "m1"] {
            ip(&["-n", host, "link", "set", link, "up"]);
        }
    };
    let config = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "macvlan", "master": "m0", "mode": "bridge",
        "ipam": {"type": "berth", "timeoutMilliseconds": 20_000},
    });
    round("amv", prepare, &config);
}

#[test]
fn bridge_gets_the_agents_addresses_and_containers_reach_each_other() {
    let config = json!({
        "cniVersion": "0.3.1", "name": "net", "type": "bridge", "bridge": "cni-berth",
        "ipam": {"type": "berth", "timeoutMilliseconds": 20_000},
    });
    round("abr", |_| {}, &config);
}

/// The file modes are the first door and the peer credentials the second: here the first one is
/// opened wide, so that only the second stands.
#[test]
fn another_user_of_the_host_is_refused_by_the_agent() {
    if !has(&["setpriv"]) {
        return;
    }
    let mut host = Host::new();
    host.start_agent();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let plugin = host.path("plugin");
    std::fs::copy(BERTH, &plugin).unwrap();
    open(&plugin, 0o755);
    open(&host.path(""), 0o755);
    let config = json!({"cniVersion": "1.1.0", "name": "net", "ipam": {"type": "berth"}});
    let stdin = config.to_string();
    let status = |user: &str| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", user, "--regid", user, "--clear-groups"])
            .arg(&plugin);
        host.execute(command, "STATUS", "c1", "", stdin.as_bytes())
    };
    let nobody = "65534";
    for _ in 0..2 {
        let refused = status(nobody);
        assert_eq!((refused.code, &refused.document()["code"]), (1, &json!(50)));
        assert_eq!(status("0").code, 0, "root is served");
        open(&host.path("run"), 0o755);
        open(&host.path("run/agent.sock"), 0o666);
    }
    host.stop_agent();
}
