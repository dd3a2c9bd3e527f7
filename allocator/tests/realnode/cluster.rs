//! The control plane around the node: controller-manager, scheduler, Berth's controller and agent.

use core::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use berth::core::holder::decode_records;
use berth::testing::control_plane::{Assets, ControlPlane, Options, Server};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::enclosure::Place;
use crate::node::{NODE, Node, Rate, await_that};
use crate::recorder::audit;

const BERTH: &str = "/apis/berth.dev/v1alpha1";
const SUBNET: &str = "10.77.0.0/24";
/// Exactly as many as Pods.
const FIRST: u8 = 10;
const LAST: u8 = 109;
/// On a busy machine.
const START: Duration = Duration::from_mins(3);

/// Who decides the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ipam {
    Berth,
    HostLocal,
}

impl Ipam {
    /// The network's name in CNI configuration.
    pub(crate) fn network(self) -> &'static str {
        match self {
            Self::Berth => "berth-net",
            Self::HostLocal => "host-local-net",
        }
    }
}

impl fmt::Display for Ipam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Berth => "Berth",
            Self::HostLocal => "host-local",
        })
    }
}

/// Every address of the pool.
pub(crate) fn pool() -> Vec<String> {
    (FIRST..=LAST)
        .map(|last| format!("10.77.0.{last}"))
        .collect()
}

pub(crate) struct Cluster {
    // Dropped in this order: who asks before who is asked.
    pub agent: Server,
    pub controller: Server,
    pub node: Node,
    pub scheduler: Server,
    pub controllers: Server,
    pub plane: ControlPlane,
    pub runtime: Runtime,
    pub place: Place,
    pub ipam: Ipam,
}

impl Cluster {
    /// A cluster with a node that is ready, and Berth's pool; host-local is the IPAM.
    pub(crate) fn start(place: &Place, assets: &Assets, rate: Rate) -> Self {
        let runtime = Runtime::new().unwrap();
        let plane = runtime.block_on(async {
            let mut options = Options::whole_cluster();
            if place.is_recorded {
                options.apiserver_flags.extend(audit::flags(place));
            }
            let plane = ControlPlane::start(assets, &options).await.unwrap();
            plane.install_crds().await.unwrap();
            plane
        });
        let [mut controllers, mut scheduler] = managers(assets, &plane);
        controllers.start().unwrap();
        scheduler.start().unwrap();
        let node = Node::start(place, assets, &plane, rate);
        let [agent, controller] = daemons(&plane, &node);
        let mut cluster = Self {
            agent,
            controller,
            node,
            scheduler,
            controllers,
            plane,
            runtime,
            place: place.clone(),
            ipam: Ipam::HostLocal,
        };
        cluster.controller.start().unwrap();
        cluster.create_pool();
        cluster.configure(Ipam::HostLocal);
        cluster.await_node();
        cluster
    }

    /// A request that must succeed.
    pub(crate) fn must(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let sent = self.runtime.block_on(self.plane.must(method, path, body));
        sent.unwrap()
    }

    /// A request that may fail, while the apiserver is away for instance.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        let sent = self.plane.send(Method::GET, path, None);
        match self.runtime.block_on(sent) {
            Ok((StatusCode::OK, answer)) => Ok(answer),
            Ok((status, answer)) => Err(format!("{status} {answer}")),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn create_pool(&self) {
        let pool = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "pool"},
            "spec": {"default": true, "families": [{
                "ranges": [format!("10.77.0.{FIRST}-10.77.0.{LAST}")], "subnet": SUBNET,
            }]},
        });
        let pools = format!("{BERTH}/addresspools");
        self.must(Method::POST, &pools, Some(&pool));
        await_that(START, "the pool is approved", || {
            let pool = self.get(&format!("{pools}/pool"))?;
            match pool["status"]["approved"].as_str() {
                Some(text) if !text.is_empty() => Ok(()),
                _ => Err(self.controller.log_tail()),
            }
        });
    }

    fn configure(&mut self, ipam: Ipam) {
        let configuration = match ipam {
            Ipam::Berth => json!({"type": "berth"}),
            Ipam::HostLocal => json!({
                "type": "host-local", "dataDir": self.node.path("host-local"),
                "ranges": [[{
                    "subnet": SUBNET, "rangeStart": format!("10.77.0.{FIRST}"),
                    "rangeEnd": format!("10.77.0.{LAST}"),
                }]],
            }),
        };
        self.node.configure(ipam, &configuration);
        self.ipam = ipam;
    }

    /// The node's IPAM from now on. Berth's agent runs only while Berth is asked.
    pub(crate) fn switch_to(&mut self, ipam: Ipam) {
        if self.ipam == ipam {
            return;
        }
        self.configure(ipam);
        match ipam {
            Ipam::Berth => {
                self.agent.start().unwrap();
                let socket = self.node.path("run/s");
                await_that(START, "the agent listens", || {
                    if socket.exists() {
                        Ok(())
                    } else {
                        Err(self.agent.log_tail())
                    }
                });
            }
            Ipam::HostLocal => {
                let limit = Duration::from_secs(30);
                self.runtime.block_on(self.agent.stop(limit)).unwrap();
            }
        }
        self.await_node();
    }

    /// Waits until Pods can be scheduled to the node, with a service account.
    fn await_node(&self) {
        await_that(START, "the node is ready", || {
            let why = |what: &str| format!("{what}\n{}", self.node.logs());
            let node = self
                .get(&format!("/api/v1/nodes/{NODE}"))
                .map_err(|error| why(&error))?;
            let conditions = node["status"]["conditions"].as_array();
            let is_ready = conditions.into_iter().flatten().any(|condition| {
                condition["type"] == json!("Ready") && condition["status"] == json!("True")
            });
            if !is_ready || !node["spec"]["taints"].is_null() {
                return Err(why(&node["status"]["conditions"].to_string()));
            }
            self.get("/api/v1/namespaces/default/serviceaccounts/default")?;
            self.get("/api/v1/namespaces/default/configmaps/kube-root-ca.crt")?;
            Ok(())
        });
    }

    /// How many ordinals the blocks say are held.
    pub(crate) fn held_count(&self) -> Result<usize, String> {
        let blocks = self.get(&format!("{BERTH}/addressblocks"))?;
        let mut count = 0;
        for block in blocks["items"].as_array().into_iter().flatten() {
            let records = block["spec"]["records"].as_str().unwrap_or_default();
            count += decode_records(records)
                .filter(|entry| entry.as_ref().unwrap().1.holder().is_some())
                .count();
        }
        Ok(count)
    }

    /// The addresses that host-local has given.
    pub(crate) fn host_local_files(&self) -> usize {
        let directory = self.node.path("host-local/host-local-net");
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("10."))
            .count()
    }
}

fn managers(assets: &Assets, plane: &ControlPlane) -> [Server; 2] {
    let path = |name: &str| plane.directory().join(name);
    let user = |name: &str| {
        let kubeconfig = plane.kubeconfig(&format!("system:{name}"), "system:masters");
        format!("--kubeconfig={}", kubeconfig.unwrap().display())
    };
    let controllers = vec![
        user("kube-controller-manager"),
        "--leader-elect=false".to_owned(),
        format!(
            "--root-ca-file={}",
            plane.authority().certificate().display()
        ),
        format!(
            "--service-account-private-key-file={}",
            plane.service_account_key().display()
        ),
        format!("--cert-dir={}", path("controllers").display()),
    ];
    let scheduler = vec![user("kube-scheduler"), "--leader-elect=false".to_owned()];
    let server =
        |name: &str, flags| Server::new(&assets.program(name), flags, path(&format!("{name}.log")));
    [
        server("kube-controller-manager", controllers),
        server("kube-scheduler", scheduler),
    ]
}

/// The agent and the controller of Berth.
fn daemons(plane: &ControlPlane, node: &Node) -> [Server; 2] {
    let kubeconfig = plane.kubeconfig("berth", "system:masters").unwrap();
    fs::write(node.path("machine-id"), "machine-real-node\n").unwrap();
    let path = |name: &str| node.path(name).to_str().unwrap().to_owned();
    let namespaces = node.namespaces();
    let agent = [
        ["agent", "--node-name"],
        [NODE, "--default-network"],
        [Ipam::Berth.network(), "--machine-id-file"],
        [&path("machine-id"), "--socket"],
        [&path("run/s"), "--state-directory"],
        [&path("state"), "--netns-directory"],
        [namespaces.to_str().unwrap(), "--runtime-socket"],
    ];
    let mut agent: Vec<String> = agent.concat().into_iter().map(str::to_owned).collect();
    agent.push(path("c.sock"));
    let controller = [
        "controller",
        "--identity",
        "c",
        "--lease-namespace",
        "default",
    ];
    let controller = controller.map(str::to_owned).to_vec();
    [("agent.log", agent), ("controller.log", controller)].map(|(log, flags)| {
        let program = Path::new(env!("CARGO_BIN_EXE_berthd"));
        let mut server = Server::new(program, flags, node.path(log));
        server.set_variable("KUBECONFIG", kubeconfig.to_str().unwrap());
        server
    })
}
