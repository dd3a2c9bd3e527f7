//! multus v3.9.3, thin: one process per CNI call with a client of its own. ADD reads the Pod and
//! the attachment, writes its cache file, runs the delegate, writes network-status; a failed
//! delegate gets a DEL. DEL works from the cache file, or from the Pod and attachment as they are
//! now; with neither it succeeds without calling anyone. The delegate is macvlan, and behind it the
//! plugin that the IPAM chains, if it has one: a configuration list, of which a DEL goes backwards.
//! Source: k8snetworkplumbingwg/multus-cni v3.9.3 `pkg/multus/multus.go:494-852`,
//! `pkg/k8sclient/k8sclient.go:118,250,414-418`.

use std::rc::Rc;
use std::time::Duration;

use crate::cni::{CniError, Verb};
use crate::objects::Pod;
use crate::observation::PodStage;
use crate::parameters::MultusParameters;
use crate::process::{CallError, NewProcess, PipeWriter};
use crate::request::{Answer, ApiError, ClientClass, ClientSpec, Consistency, Request};

use super::macvlan::Macvlan;
use super::{CniResult, Execution, IpamProgram, Plugin, Plugins, Program, failure};

/// A multus process.
pub(super) struct Multus(Plugin);

impl Multus {
    /// Executes the plugin.
    pub(super) fn execute(
        plugins: &Rc<Plugins>,
        execution: Execution,
        parent: PipeWriter<CniResult>,
    ) -> NewProcess {
        let plugins = plugins.clone();
        let parameters = &plugins.parameters.multus;
        let client = ClientSpec {
            node: plugins.desk.index,
            class: ClientClass::Multus,
            limiter: Some((parameters.qps.milli_per_s, parameters.burst)),
            timeout: Some(parameters.client_timeout),
            fresh_connection: true,
        };
        NewProcess {
            node: plugins.desk.index,
            call: None,
            client: Some(client),
            script: Box::new(|port| {
                let plugin = Plugin::start(plugins, port, Program::Multus, execution, parent);
                Box::pin(Self(plugin).run())
            }),
        }
    }

    async fn run(self) {
        let cpu_add = self.parameters().cpu_add;
        let result = match self.0.execution.verb {
            Verb::Add => self.add(cpu_add / 3 * 2).await,
            Verb::Del => self.del().await,
        };
        let spends = self.0.is_add() && result.is_ok();
        let rest = if spends { cpu_add / 3 } else { Duration::ZERO };
        self.work(rest).await;
        self.0.exit(result);
    }

    async fn add(&self, demand: Duration) -> CniResult {
        self.work(demand).await;
        self.pod_to_attach().await?;
        self.attachment().await?;
        let container = self.0.execution.container;
        self.0.plugins.cached.borrow_mut().insert(container);
        let addresses = match self.delegate_add().await {
            Ok(addresses) => addresses,
            Err(error) => {
                // Its own error is ignored; that of the ADD counts.
                let _ = self.delegate_del().await;
                return Err(error);
            }
        };
        self.write_status().await?;
        Ok(addresses)
    }

    async fn del(&self) -> CniResult {
        self.work(self.parameters().cpu_del).await;
        let container = self.0.execution.container;
        let read = self.pod().await;
        let known = matches!(&read, Ok(pod) if self.is_own(pod));
        let cached = self.0.plugins.cached.borrow().contains(&container);
        if cached {
            if known && self.netns_exists().await {
                let _ = self.pod().await;
            }
        } else if known {
            self.attachment().await?;
        } else {
            // Nobody knows the delegates anymore: success, and the IPAM is never called.
            return Ok(Vec::new());
        }
        let result = self.delegate_del().await;
        // The cache file goes even if the delegate failed.
        self.0.plugins.cached.borrow_mut().remove(&container);
        result
    }

    /// Reads the Pod; for a while again, when the apiserver is unavailable.
    async fn pod_to_attach(&self) -> Result<(), CniError> {
        let (port, parameters) = (&self.0.port, self.parameters());
        let mut until = None;
        loop {
            self.stage(PodStage::MultusApi);
            match self.pod().await {
                Ok(pod) if self.is_own(&pod) => return Ok(()),
                Err(CallError::Api(ApiError::Unavailable { .. })) => {}
                _ => return Err(failure("cannot get Pod")),
            }
            let until = *until.get_or_insert(port.now() + parameters.pod_poll_limit);
            if port.now() + parameters.pod_poll > until {
                return Err(failure("cannot get Pod"));
            }
            port.sleep(parameters.pod_poll).await;
        }
    }

    /// Reads the net-attach-def.
    async fn attachment(&self) -> Result<(), CniError> {
        let read = self.0.port.call(Request::GetNetworkAttachment).await;
        read.map_err(|_| failure("cannot get net-attach-def"))?;
        Ok(())
    }

    /// The delegate's plugins in order.
    async fn delegate_add(&self) -> CniResult {
        let made = self.macvlan(Verb::Add).await;
        if made.is_err() {
            self.stage(PodStage::Cleanup);
        } else if self.0.plugins.network.ipam_is_chained {
            self.0.execute(IpamProgram::Chained, Verb::Add).await?;
        } else {
            self.stage(PodStage::MultusApi);
        }
        made
    }

    /// The delegate's plugins in reverse; the first that fails ends it.
    async fn delegate_del(&self) -> CniResult {
        if self.0.plugins.network.ipam_is_chained {
            self.0.execute(IpamProgram::Chained, Verb::Del).await?;
        }
        self.macvlan(Verb::Del).await
    }

    /// Executes macvlan and waits for its exit.
    async fn macvlan(&self, verb: Verb) -> CniResult {
        let execution = Execution {
            verb,
            ..self.0.execution.clone()
        };
        let (result, exit) = self.0.port.pipe();
        let macvlan = Macvlan::execute(&self.0.plugins, execution, exit);
        self.0.port.spawn(macvlan);
        result.read().await
    }

    /// Writes the network-status: reads the Pod, then reads and writes it until there is no
    /// conflict.
    async fn write_status(&self) -> Result<(), CniError> {
        let unreadable = || failure("cannot get Pod for its status");
        let parameters = self.parameters();
        self.pod().await.map_err(|_| unreadable())?;
        let mut writes = 0;
        loop {
            let read = self.pod().await.ok();
            let pod = read.filter(|pod| self.is_own(pod)).ok_or_else(unreadable)?;
            writes += 1;
            let status = Request::PutNetworkStatus {
                pod: pod.uid,
                resource_version: pod.resource_version,
            };
            match self.0.port.call(status).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() && writes < parameters.conflict_tries => {
                    let own = &self.0.execution.pod;
                    let delay = self.0.plugins.desk.draw(own, parameters.conflict_wait);
                    self.0.port.sleep(delay).await;
                }
                Err(_) => return Err(failure("cannot set network status")),
            }
        }
    }

    async fn pod(&self) -> Result<Rc<Pod>, CallError> {
        let pod = &self.0.execution.pod;
        let request = Request::GetPod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            consistency: Consistency::Quorum,
        };
        match self.0.port.call(request).await? {
            Answer::Pod(pod) => Ok(pod),
            other => unreachable!("a Pod is read as a Pod: {other:?}"),
        }
    }

    /// The Pod of that name is the one that it was executed for.
    fn is_own(&self, pod: &Pod) -> bool {
        pod.uid == self.0.execution.pod.uid
    }

    async fn netns_exists(&self) -> bool {
        let node = self.0.plugins.desk.index;
        let Some(netns) = self.0.execution.netns else {
            return false;
        };
        let exists = self.0.port.with(move |context| {
            let namespaces = &context.core.machine(node).namespaces;
            namespaces.contains_key(&netns)
        });
        exists.await
    }

    /// Uses CPU of its own.
    async fn work(&self, demand: Duration) {
        let work_ns = demand.as_nanos() as u64;
        self.stage(PodStage::Multus { work_ns });
        self.0.port.cpu(demand).await;
    }

    /// The start of a Pod waits for a step of this process, if anybody still waits for it.
    fn stage(&self, stage: PodStage) {
        if !self.0.parent.is_broken() {
            self.0.stage(stage);
        }
    }

    fn parameters(&self) -> &MultusParameters {
        &self.0.plugins.parameters.multus
    }
}
