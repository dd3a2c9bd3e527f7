//! The two processes of a CNI verb: `calico`, which containerd executes and kills, and its child
//! `calico-ipam`, which outlives it. Both are made afresh for every verb, keep no cache, and open a
//! connection of their own.
//! Source: cni-plugin/pkg/plugin/plugin.go:227-265, 623-634; pkg/k8s/k8s.go:197-573;
//! pkg/ipamplugin/ipam_plugin.go:171-450; pkg/dataplane/linux/dataplane_linux.go:54-318, 526-572.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use crate::cni::{Assigned, CniError, IpamAnswer, IpamCall, IpamStage, Verb};
use crate::ids::ContainerId;
use crate::objects::Pod;
use crate::process::{CallError, NewProcess, Port, ProcessId};
use crate::request::{Answer, ApiError, ClientClass, ClientSpec, Consistency, Request};

use super::assign::{self, Failure};
use super::datastore::Datastore;
use super::object::{CLUSTER_INFORMATIONS, IP_POOLS, NAMESPACES};
use super::{Env, Host};

/// The network's name in the configuration, with which every handle begins.
const NETWORK: &str = "k8s-pod-network";
/// CNI error code of a plugin's own failure.
const PLUGIN_ERROR: u32 = 999;
/// Annotations that name a Pod's sandbox and addresses.
const CONTAINER: &str = "cni.projectcalico.org/containerID";
pub(super) const POD_IP: &str = "cni.projectcalico.org/podIP";
const POD_IPS: &str = "cni.projectcalico.org/podIPs";

/// What a child leaves for its parent.
type Outcome = Rc<RefCell<Option<Result<Vec<IpAddr>, String>>>>;

/// What every process of a call knows.
#[derive(Clone)]
struct Execution {
    env: Rc<Env>,
    host: Rc<Host>,
    call: Rc<IpamCall>,
}

/// The sandbox that a handle names; the node's own addresses have other handles.
pub(super) fn container_of(handle: &str) -> Option<ContainerId> {
    let id = handle.strip_prefix(NETWORK)?.strip_prefix('.')?;
    ContainerId::from_text(id)
}

/// The `calico` process of a call.
pub(super) fn calico(env: &Rc<Env>, host: &Rc<Host>, call: IpamCall) -> NewProcess {
    let execution = Execution {
        env: env.clone(),
        host: host.clone(),
        call: Rc::new(call),
    };
    NewProcess {
        node: execution.call.node,
        call: Some(execution.call.clone()),
        client: Some(execution.client()),
        script: Box::new(move |port| Box::pin(execution.run(port))),
    }
}

impl Execution {
    fn client(&self) -> ClientSpec {
        ClientSpec {
            node: self.call.node,
            class: ClientClass::IpamNode,
            limiter: Some((
                self.env.parameters.qps.milli_per_s,
                self.env.parameters.burst,
            )),
            timeout: None,
            fresh_connection: true,
        }
    }

    fn datastore(&self, port: &Port) -> Datastore {
        Datastore {
            port: port.clone(),
            env: self.env.clone(),
            locked: false,
        }
    }

    /// `k8s-pod-network.<container>`: of the sandbox, not of the Pod.
    fn handle(&self) -> Rc<str> {
        format!("{NETWORK}.{}", self.call.container.text()).into()
    }

    async fn run(self, port: Port) {
        port.stage(IpamStage::Cpu);
        port.cpu(self.env.exec_cpu).await;
        let answer = match self.call.verb {
            Verb::Add => self.add(&port).await,
            Verb::Del => self.del(&port).await.map(|()| Vec::new()),
        };
        if answer.is_ok() || self.call.verb == Verb::Del {
            port.stage(IpamStage::DataPlane);
            port.cpu(self.env.parameters.cpu_chained).await;
        }
        let answer: IpamAnswer =
            answer
                .map(|addresses| Assigned { addresses })
                .map_err(|message| CniError {
                    code: PLUGIN_ERROR,
                    message,
                });
        port.exit(self.call.id, answer);
    }

    async fn pod(&self, datastore: &Datastore) -> Result<Rc<Pod>, CallError> {
        let request = Request::GetPod {
            namespace: self.call.pod_namespace.clone(),
            name: self.call.pod_name.clone(),
            consistency: Consistency::Quorum,
        };
        match datastore.call(request).await? {
            Answer::Pod(pod) => Ok(pod),
            _ => Err(CallError::Api(ApiError::NotFound)),
        }
    }

    async fn add(&self, port: &Port) -> Result<Vec<IpAddr>, String> {
        let datastore = self.datastore(port);
        let name = "default".into();
        let ready = datastore.get_plain(CLUSTER_INFORMATIONS, &name).await;
        ready.map_err(|error| failed("datastore", error))?;
        match self.pod(&datastore).await {
            Err(error) if !error.is_not_found() => return Err(failed("endpoints", error)),
            _ => {}
        }
        let namespace = datastore.get_plain(NAMESPACES, &self.call.pod_namespace);
        namespace
            .await
            .map_err(|error| failed("namespace", error))?;
        let pod = self
            .pod(&datastore)
            .await
            .map_err(|error| failed("Pod", error))?;
        // Its failure is returned as it is: nothing is given back, the DEL that follows does that.
        let addresses = self.ipam(port, Verb::Add).await?;
        port.stage(IpamStage::DataPlane);
        port.cpu(self.env.parameters.cpu_netlink).await;
        if addresses.iter().any(IpAddr::is_ipv6) {
            port.sleep(self.env.parameters.link_local_wait).await;
        }
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let annotations = [
            (CONTAINER, self.call.container.text()),
            (POD_IP, texts[0].clone()),
            (POD_IPS, texts.join(",")),
        ];
        let patch = Request::AnnotatePod {
            pod: pod.uid,
            annotations: annotations
                .map(|(key, value)| (key.into(), value.into()))
                .to_vec(),
            resource_version: None,
        };
        if let Err(error) = datastore.call(patch).await {
            // From here on a failure gives the address back.
            let _ = self.ipam(port, Verb::Del).await;
            return Err(failed("endpoint", error));
        }
        Ok(addresses)
    }

    async fn del(&self, port: &Port) -> Result<(), String> {
        let datastore = self.datastore(port);
        let name = "default".into();
        let ready = datastore.get_plain(CLUSTER_INFORMATIONS, &name).await;
        ready.map_err(|error| failed("datastore", error))?;
        for _ in 0..self.env.parameters.pod_write_tries {
            let pod = match self.pod(&datastore).await {
                Ok(pod) => pod,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(failed("endpoint", error)),
            };
            let container = self.call.container.text();
            let own = (pod.annotations.iter())
                .any(|(key, value)| &**key == CONTAINER && **value == *container);
            if !own {
                break;
            }
            let patch = Request::AnnotatePod {
                pod: pod.uid,
                annotations: [POD_IP, POD_IPS]
                    .map(|key| (key.into(), "".into()))
                    .to_vec(),
                resource_version: Some(pod.resource_version),
            };
            match datastore.call(patch).await {
                Err(error) if error.is_conflict() => {}
                Ok(_) => break,
                Err(CallError::Api(ApiError::NotFound | ApiError::Invalid)) => break,
                Err(error) => return Err(failed("endpoint", error)),
            }
        }
        port.stage(IpamStage::DataPlane);
        port.cpu(self.env.parameters.cpu_netlink).await;
        if let Some(netns) = self.call.netns {
            port.link_down(netns);
        }
        self.ipam(port, Verb::Del).await.map(|_| ())
    }

    /// Executes `calico-ipam` and waits for it.
    async fn ipam(&self, port: &Port, verb: Verb) -> Result<Vec<IpAddr>, String> {
        let outcome = Outcome::default();
        let (child, result, parent) = (self.clone(), outcome.clone(), port.id);
        port.spawn(NewProcess {
            node: self.call.node,
            call: Some(self.call.clone()),
            client: Some(self.client()),
            script: Box::new(move |port| Box::pin(child.ipam_run(port, verb, result, parent))),
        });
        loop {
            if let Some(result) = outcome.borrow_mut().take() {
                return result;
            }
            port.park().await;
        }
    }

    /// The `calico-ipam` process.
    async fn ipam_run(self, port: Port, verb: Verb, outcome: Outcome, parent: ProcessId) {
        port.stage(IpamStage::Cpu);
        port.cpu(self.env.exec_cpu).await;
        let result = match verb {
            Verb::Add => self.ipam_add(&port).await,
            Verb::Del => self.ipam_del(&port).await.map(|()| Vec::new()),
        };
        *outcome.borrow_mut() = Some(result.map_err(|failure| {
            if failure == Failure::Call(CallError::Deadline) {
                self.env.count(|counters| counters.deadlines += 1);
            }
            format!("{failure:?}")
        }));
        port.wake(parent);
    }

    /// The context's deadline: it runs before the lock is asked for, or from when it is held.
    fn arm(&self, port: &Port, before_lock: bool) {
        if self.env.parameters.clock_before_lock == before_lock {
            port.set_deadline(port.now() + self.env.parameters.context_timeout);
        }
    }

    async fn ipam_add(&self, port: &Port) -> Result<Vec<IpAddr>, Failure> {
        let mut datastore = self.datastore(port);
        self.arm(port, true);
        // Both families are resolved, whether they are wanted or not.
        datastore.list(IP_POOLS).await?;
        datastore.list(IP_POOLS).await?;
        port.stage(IpamStage::Lock);
        let held = self.host.lock.acquire(port, 1).await;
        self.arm(port, false);
        let since = port.now();
        datastore.locked = true;
        let handle = self.handle();
        let mut addresses = Vec::new();
        let mut outcome = Ok(());
        for family in 0..self.env.layout.families.len() {
            let request = assign::Request {
                host: &self.host,
                family,
                handle: &handle,
                namespace: &self.call.pod_namespace,
                pod: &self.call.pod_name,
            };
            match datastore.auto_assign(&request).await {
                Ok(address) => addresses.push(address),
                Err(failure) => {
                    outcome = Err(failure);
                    break;
                }
            }
        }
        self.host.held_since(since, port.now());
        drop(held);
        datastore.locked = false;
        if outcome.is_err() && !addresses.is_empty() {
            // Half a dual-stack answer is rolled back.
            let _ = datastore.release_handle(&handle, &self.host.name).await;
        }
        outcome.map(|()| addresses)
    }

    async fn ipam_del(&self, port: &Port) -> Result<(), Failure> {
        let mut datastore = self.datastore(port);
        self.arm(port, true);
        port.stage(IpamStage::Lock);
        let held = self.host.lock.acquire(port, 1).await;
        self.arm(port, false);
        let since = port.now();
        datastore.locked = true;
        let released = datastore
            .release_handle(&self.handle(), &self.host.name)
            .await;
        let released = match released {
            Ok(()) => {
                // The handle of releases before 3.0; normally there is none.
                let legacy = format!("{}.{}", self.call.pod_namespace, self.call.pod_name);
                datastore
                    .release_handle(&legacy.into(), &self.host.name)
                    .await
            }
            failed => failed,
        };
        self.host.held_since(since, port.now());
        drop(held);
        released
    }
}

fn failed(what: &str, error: CallError) -> String {
    format!("{what}: {error:?}")
}
