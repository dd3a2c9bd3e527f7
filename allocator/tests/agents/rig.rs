//! A control plane with Berth's kinds, a controller that approves pools, and nodes.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use berth::core::holder::decode_records;
use berth::testing::control_plane::{Assets, ControlPlane, NAMESPACE, Options};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::node::{Node, await_that};

const BERTH: &str = "/apis/berth.dev/v1alpha1";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A Pod of the test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub name: String,
    pub uid: String,
}

/// The cluster.
pub(crate) struct Rig {
    // Dropped in this order: our processes before the servers that they talk to.
    controller: Child,
    pub plane: ControlPlane,
    pub runtime: Runtime,
    directory: tempfile::TempDir,
}

impl Rig {
    /// A cluster with one pool; `None` where the programs are missing and may be.
    pub(crate) fn start(range: &str, block_size: u16) -> Option<Self> {
        let assets = Assets::find(&["etcd", "kube-apiserver"])?;
        assert!(
            rustix::process::geteuid().is_root(),
            "the agent serves root only: run as root"
        );
        let runtime = Runtime::new().unwrap();
        let plane = runtime.block_on(async {
            let plane = ControlPlane::start(&assets, &Options::apiserver_only())
                .await
                .unwrap();
            plane.install_crds().await.unwrap();
            plane.install_roles().await.unwrap();
            plane.install_policies().await.unwrap();
            plane
        });
        let user = runtime.block_on(plane.token_of_nobody("berth-controller"));
        let kubeconfig = plane
            .token_kubeconfig("controller", &user.unwrap())
            .unwrap();
        // Short: a socket's path has at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("b").tempdir().unwrap();
        let controller = Command::new(env!("CARGO_BIN_EXE_berthd"))
            .args(["controller", "--identity", "c"])
            .args(["--lease-namespace", NAMESPACE])
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("controller")).unwrap())
            .spawn()
            .unwrap();
        let rig = Self {
            controller,
            plane,
            runtime,
            directory,
        };
        rig.create_pool(range, block_size);
        Some(rig)
    }

    fn create_pool(&self, range: &str, block_size: u16) {
        let pool = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "AddressPool",
            "metadata": {"name": "pool"},
            "spec": {
                "families": [{"ranges": [range]}], "blockSize": block_size, "default": true,
            },
        });
        let pools = format!("{BERTH}/addresspools");
        self.must(Method::POST, &pools, Some(&pool));
        let log = self.directory.path().join("controller");
        await_that(Duration::from_secs(60), "the pool is approved", || {
            let pool = self.must(Method::GET, &format!("{pools}/pool"), None);
            match pool["status"]["approved"].as_str() {
                Some(text) if !text.is_empty() => Ok(()),
                _ => Err(std::fs::read_to_string(&log).unwrap()),
            }
        });
    }

    /// The controller's process.
    pub(crate) fn controller_pid(&self) -> u32 {
        self.controller.id()
    }

    /// What the controller said.
    pub(crate) fn controller_log(&self) -> String {
        let log = self.directory.path().join("controller");
        std::fs::read_to_string(log).unwrap()
    }

    /// A request that must succeed.
    pub(crate) fn must(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        self.runtime
            .block_on(self.plane.must(method, path, body))
            .unwrap()
    }

    /// A node with a Node object and no agent yet. Its agent has the token that its Pod would have,
    /// under the deployment's roles and policies.
    pub(crate) fn node(&self, name: &str) -> Node {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        self.must(Method::POST, "/api/v1/nodes", Some(&object));
        let user = self
            .runtime
            .block_on(self.plane.token_on("berth-agent", name))
            .unwrap();
        let kubeconfig = self.plane.token_kubeconfig(name, &user).unwrap();
        Node::new(name, self.directory.path().join(name), &kubeconfig)
    }

    /// A Pod bound to the node.
    pub(crate) fn pod(&self, node: &Node, name: &str) -> Pod {
        self.pod_on(&node.name, name)
    }

    /// The same, by the node's name.
    pub(crate) fn pod_on(&self, node: &str, name: &str) -> Pod {
        let object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {
                "nodeName": node, "automountServiceAccountToken": false,
                "containers": [{"name": "c", "image": "none"}],
            },
        });
        let made = self.must(Method::POST, PODS, Some(&object));
        Pod {
            name: name.to_owned(),
            uid: made["metadata"]["uid"].as_str().unwrap().to_owned(),
        }
    }

    /// The Pod's object goes at once, as after its kubelet is done with it.
    pub(crate) fn remove(&self, pod: &Pod) {
        let now = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod.uid},
        });
        let path = format!("{PODS}/{}", pod.name);
        let send = self.plane.send(Method::DELETE, &path, Some(&now));
        let (status, answer) = self.runtime.block_on(send).unwrap();
        let gone = status == StatusCode::NOT_FOUND;
        assert!(status.is_success() || gone, "{status} {answer}");
    }

    /// How many ordinals each Pod UID holds, by the blocks' records.
    pub(crate) fn held(&self) -> BTreeMap<String, usize> {
        let blocks = self.must(Method::GET, &format!("{BERTH}/addressblocks"), None);
        let mut held = BTreeMap::new();
        for block in blocks["items"].as_array().unwrap() {
            let records = block["spec"]["records"].as_str().unwrap_or_default();
            for entry in decode_records(records) {
                if let Some(holder) = entry.unwrap().1.holder() {
                    *held.entry(holder.pod_uid.to_string()).or_default() += 1;
                }
            }
        }
        held
    }

    /// Waits until exactly these Pods hold one ordinal each: no leak, no second one.
    pub(crate) fn await_holders(&self, pods: &[Pod], within: Duration) {
        let expected: BTreeMap<_, _> = pods.iter().map(|pod| (pod.uid.clone(), 1)).collect();
        await_that(within, "no leak after convergence", || {
            let held = self.held();
            if held == expected {
                return Ok(());
            }
            let extra: Vec<_> = held
                .iter()
                .filter(|(uid, count)| expected.get(*uid) != Some(count))
                .collect();
            Err(format!(
                "{} hold, {} are to; in excess or twice: {extra:?}",
                held.len(),
                expected.len()
            ))
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}

/// That no two of them are the same.
pub(crate) fn assert_distinct<'a>(addresses: impl IntoIterator<Item = &'a String>) {
    let mut seen = std::collections::BTreeSet::new();
    for address in addresses {
        assert!(seen.insert(address), "{address} twice");
    }
}
