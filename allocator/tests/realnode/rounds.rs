//! A round: Deployments are created, all their Pods run, everything is deleted. And what must be
//! true then.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::core::time::BootTime;
use futures::TryStreamExt as _;
use http::{Method, Request};
use kube::core::WatchEvent;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::{Cluster, Ipam, pool};
use crate::figures::Curve;
use crate::node::{IMAGE, await_that};
use crate::recorder::Origin;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const POD_COUNT: usize = 100;
/// How many Deployments have the Pods, each as many.
const DEPLOYMENT_COUNT: usize = 10;
/// All Pods run, or are gone, by then, however busy the machine.
const LIMIT: Duration = Duration::from_mins(5);
/// What was freed is free for everybody by then.
const CONVERGENCE: Duration = Duration::from_mins(2);

/// When the API showed a Pod, after the first request that asked for Pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub created: Duration,
    pub running: Option<Duration>,
}

/// What the API showed in a round.
#[derive(Clone, Debug)]
pub(crate) struct Sightings {
    pub origin: Origin,
    /// By name.
    pub pods: BTreeMap<String, Sighting>,
}

impl Sightings {
    pub(crate) fn new() -> Self {
        Self {
            origin: Origin::now(),
            pods: BTreeMap::new(),
        }
    }
}

fn deployment(number: usize, replicas: usize) -> Value {
    let name = format!("real-{number:03}");
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "pause", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                }]},
            },
        },
    })
}

impl Cluster {
    /// One round with this IPAM, nothing left behind; when each Pod ran.
    pub(crate) fn round(&mut self, ipam: Ipam) -> Curve {
        self.switch_to(ipam);
        let curve = self.create();
        self.assert_all_addresses_in_use();
        self.delete();
        self.assert_nothing_left();
        curve
    }

    fn create_deployments(&self, count: usize) {
        for number in 0..count {
            let deployment = deployment(number, POD_COUNT / count);
            self.must(Method::POST, DEPLOYMENTS, Some(&deployment));
        }
    }

    /// Creates all and waits until all run.
    pub(crate) fn create(&self) -> Curve {
        self.node.await_phase();
        self.create_now(DEPLOYMENT_COUNT, &mut Sightings::new())
    }

    /// The same, in so many Deployments, at whatever phase of the kubelet; tells what the API
    /// showed of each Pod when.
    pub(crate) fn create_now(&self, deployments: usize, seen: &mut Sightings) -> Curve {
        let before = self.get(PODS).unwrap();
        let version = before["metadata"]["resourceVersion"].as_str().unwrap();
        let path = format!("{PODS}?watch=true&resourceVersion={version}");
        let spent = self.place.processor_time();
        let begin = boot_time();
        seen.origin = Origin::now();
        self.create_deployments(deployments);
        let watched = self.watch_running(&path, begin, seen);
        let ended = self
            .runtime
            .block_on(async { timeout(LIMIT, watched).await });
        let times: Vec<_> = seen.pods.values().filter_map(|seen| seen.running).collect();
        assert!(ended.is_ok(), "{}", self.diagnosis(times.len()));
        let spent = self.place.processor_time().saturating_sub(spent);
        Curve::new(times).with_spent(spent)
    }

    async fn watch_running(&self, path: &str, begin: BootTime, seen: &mut Sightings) {
        let request = Request::get(path).body(Vec::new()).unwrap();
        let stream = self.plane.client().request_events::<Value>(request);
        let mut stream = std::pin::pin!(stream.await.unwrap());
        let mut running = 0;
        while running < POD_COUNT {
            let event = stream.try_next().await.unwrap();
            let event = event.expect("the apiserver does not end a watch so soon");
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else {
                continue;
            };
            let at = boot_time().since(begin);
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let seen = seen.pods.entry(name).or_insert(Sighting {
                created: at,
                running: None,
            });
            if pod["status"]["phase"] == json!("Running") && seen.running.is_none() {
                seen.running = Some(at);
                running += 1;
            }
        }
    }

    /// What is to be known about Pods that do not run.
    fn diagnosis(&self, running: usize) -> String {
        let events = self.get("/api/v1/namespaces/default/events?limit=500");
        let mut messages: Vec<String> = Vec::new();
        for event in events.unwrap_or_default()["items"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if event["type"] == json!("Warning") {
                messages.push(event["message"].to_string());
            }
        }
        let tail = messages[messages.len().saturating_sub(5)..].join("\n");
        format!("{running} of {POD_COUNT} run\n{tail}\n{}", self.node.logs())
    }

    /// How many Pods run now.
    fn running_count(&self) -> Result<usize, String> {
        let pods = self.get(PODS)?;
        let pods = pods["items"].as_array().into_iter().flatten();
        Ok(pods
            .filter(|pod| pod["status"]["phase"] == json!("Running"))
            .count())
    }

    /// Waits until so many run; how many do then.
    fn await_running(&self, count: usize) -> usize {
        let mut reached = 0;
        await_that(LIMIT, "Pods run", || match self.running_count() {
            Ok(running) if running >= count => {
                reached = running;
                Ok(())
            }
            Ok(running) => Err(self.diagnosis(running)),
            Err(error) => Err(error),
        });
        reached
    }

    /// Creates all; kills agent, kubelet and apiserver meanwhile; says at how many Running each,
    /// and how long until all ran.
    pub(crate) fn create_while_everything_is_killed(&mut self) -> ([usize; 3], Duration) {
        let begin = boot_time();
        self.create_deployments(DEPLOYMENT_COUNT);
        let first = self.await_running(POD_COUNT / 4);
        self.agent.kill();
        self.agent.start().unwrap();
        let second = self.await_running(POD_COUNT / 2);
        self.node.kubelet.kill();
        self.node.kubelet.start().unwrap();
        let third = self.await_running(POD_COUNT * 3 / 4);
        self.plane.apiserver().kill();
        let Self { plane, runtime, .. } = self;
        runtime.block_on(plane.start_apiserver()).unwrap();
        self.await_running(POD_COUNT);
        let killed_at = [first, second, third];
        assert!(third < POD_COUNT, "killed too late: {killed_at:?}");
        (killed_at, boot_time().since(begin))
    }

    /// Every Pod has an address of its own in its namespace, of the pool, and the API says the
    /// same; whoever is asked has given exactly these.
    pub(crate) fn assert_all_addresses_in_use(&self) {
        let mut addresses = self.node.addresses();
        addresses.sort_unstable();
        let mut expected = pool();
        expected.sort_unstable();
        assert_eq!(addresses, expected, "in the network namespaces");
        let pods = self.get(PODS).unwrap();
        let mut stated: Vec<_> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned())
            .collect();
        stated.sort_unstable();
        assert_eq!(stated, expected, "in the Pods' status");
        let given = match self.ipam {
            Ipam::Berth => self.held_count().unwrap(),
            Ipam::HostLocal => self.host_local_files(),
        };
        assert_eq!(given, POD_COUNT, "given by {}", self.ipam);
    }

    /// Deletes all and waits until no Pod and no network namespace is there.
    pub(crate) fn delete(&self) {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        });
        self.must(Method::DELETE, DEPLOYMENTS, Some(&options));
        await_that(LIMIT, "all Pods are gone", || {
            let pods = self.get(PODS)?;
            let left = pods["items"].as_array().map_or(0, Vec::len);
            let namespaces = self.node.pod_namespaces().len();
            match left + namespaces {
                0 => Ok(()),
                _ => Err(format!(
                    "{left} Pods, {namespaces} namespaces\n{}",
                    self.node.logs()
                )),
            }
        });
    }

    /// All addresses are free, and no file of the runtime's CNI library is left.
    pub(crate) fn assert_nothing_left(&self) {
        await_that(CONVERGENCE, "every address is free", || {
            // A DEL that comes while the agent stops stays in its spool until it starts again.
            let spool = fs::read_dir(self.node.path("state/spool"));
            let held = match self.ipam {
                Ipam::Berth => self.held_count()? + spool.map_or(0, Iterator::count),
                Ipam::HostLocal => self.host_local_files(),
            };
            match held {
                0 => Ok(()),
                _ => Err(format!(
                    "{held} are held, or their DELs wait\n{}",
                    self.node.logs()
                )),
            }
        });
        let files = fs::read_dir("/var/lib/cni/results").map_or(0, Iterator::count);
        assert_eq!(files, 0, "files in /var/lib/cni/results");
    }
}
