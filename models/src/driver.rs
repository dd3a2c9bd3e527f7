//! The workload driver: what a user does. It creates the objects of a workload one after another,
//! and deletes Pods when it is told to.
//!
//! Not modeled: kubectl's own calls beside the POST (discovery, OpenAPI), `kubectl wait`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;
use drydock_traces::workload::{
    Controller, ImagePullPolicy, PodManagement, PodTemplate as Template, Workload,
    WorkloadObject as Document,
};

use crate::context::Context;
use crate::controllers::{Controllers, PodTemplate};
use crate::event::Event;
use crate::ids::{ClientId, NodeIndex, PodUid};
use crate::objects::{PodSpec, WorkloadObject};
use crate::request::{
    ApiError, ClientClass, ClientSpec, NewPod, ReplyTo, Request, Response, WorkloadWrite,
};

/// How often the driver looks whether the IPAM is ready.
const READY_POLL: Duration = Duration::from_millis(10);
/// Pause before a POST that failed is repeated: a user's script, not a constant of Kubernetes.
const RETRY: Duration = Duration::from_secs(1);

fn warm_up(context: &Context<'_>) -> Duration {
    context.core.parameters.driver.warm_up
}

/// Meaning of the driver's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look,
    Create,
    Deleted,
}

impl Step {
    const ALL: [Step; 3] = [Step::Look, Step::Create, Step::Deleted];

    fn token(self) -> u64 {
        self as u64
    }

    fn of(token: u64) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.token() == token)
    }
}

#[derive(Debug)]
enum Creation {
    Object(WorkloadObject),
    Pod(Rc<NewPod>),
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Driver {
    creations: Vec<Creation>,
    next: usize,
    started: bool,
    client: Option<ClientId>,
    /// Pods that are still to be deleted, one request after another, as `kubectl delete` does.
    doomed: VecDeque<PodUid>,
    /// The Pod whose deletion is on its way.
    deleting: Option<PodUid>,
}

impl Driver {
    /// Prepares a workload: every object gets its place in its controller's table.
    pub(crate) fn new(
        workload: &Workload,
        controllers: &mut Controllers,
        context: &mut Context<'_>,
    ) -> Self {
        let creations = workload
            .objects
            .iter()
            .map(|document| creation(document, controllers, context))
            .collect();
        Self {
            creations,
            next: 0,
            started: false,
            client: None,
            doomed: VecDeque::new(),
            deleting: None,
        }
    }

    /// Starts to look whether the IPAM is ready.
    pub(crate) fn start(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        self.client = Some(context.client(ClientSpec {
            node,
            class: ClientClass::User,
            limiter: None,
            timeout: None,
            fresh_connection: false,
        }));
        context.core.queue.soon(Event::Driver {
            token: Step::Look.token(),
        });
    }

    /// Whether everything was created, and every doomed Pod deleted.
    pub(crate) fn done(&self) -> bool {
        self.started && self.next >= self.creations.len() && self.deleting.is_none()
    }

    /// An event of the driver.
    pub(crate) fn handle(&mut self, token: u64, ipam_ready: bool, context: &mut Context<'_>) {
        match Step::of(token) {
            Some(Step::Look) if self.started => {}
            Some(Step::Look) if context.now() < SimInstant::ZERO + warm_up(context) => {
                let left = warm_up(context)
                    .saturating_sub(context.now().saturating_since(SimInstant::ZERO));
                context.core.after(
                    left,
                    Event::Driver {
                        token: Step::Look.token(),
                    },
                );
            }
            Some(Step::Look) if ipam_ready => {
                self.started = true;
                if context.core.parameters.driver.preload_pods {
                    self.preload(context);
                }
                self.create(context);
            }
            Some(Step::Look) => {
                context.core.after(
                    READY_POLL,
                    Event::Driver {
                        token: Step::Look.token(),
                    },
                );
            }
            Some(Step::Create) => self.create(context),
            Some(Step::Deleted) | None => {}
        }
    }

    fn preload(&mut self, context: &mut Context<'_>) {
        for creation in &self.creations {
            if let Creation::Pod(pod) = creation {
                // A name that is taken already is the user's mistake, and has no effect, as in
                // life.
                let _ = context
                    .api
                    .install(&Request::CreatePod(pod.clone()), &mut context.core);
            }
        }
        self.creations
            .retain(|creation| !matches!(creation, Creation::Pod(_)));
    }

    fn create(&mut self, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        let Some(creation) = self.creations.get(self.next) else {
            return;
        };
        let request = match creation {
            Creation::Object(object) => Request::WriteWorkload {
                object: *object,
                write: WorkloadWrite::Create,
            },
            Creation::Pod(pod) => Request::CreatePod(pod.clone()),
        };
        context.call(
            client,
            request,
            ReplyTo::Driver {
                token: Step::Create.token(),
            },
        );
    }

    /// A call of the driver ended.
    pub(crate) fn response(&mut self, token: u64, response: &Response, context: &mut Context<'_>) {
        match Step::of(token) {
            Some(Step::Create) => {}
            Some(Step::Deleted) if self.deleting.is_some() => {
                let missing = *response == Err(ApiError::NotFound);
                if response.is_err() && !missing {
                    self.doomed.extend(self.deleting);
                }
                return self.delete_next(context);
            }
            _ => return,
        }
        let done = response.is_ok() || *response == Err(ApiError::AlreadyExists);
        let mut wait = RETRY;
        if done {
            if let Some(Creation::Object(object)) = self.creations.get(self.next) {
                Controllers::object_created(*object, context);
            }
            self.next += 1;
            wait = context.core.parameters.driver.create_gap;
        }
        context.core.after(
            wait,
            Event::Driver {
                token: Step::Create.token(),
            },
        );
    }

    /// A user deletes a Pod. With a grace of zero this is `kubectl delete --force`.
    pub(crate) fn delete_pod(
        &mut self,
        pod: PodUid,
        grace: Option<Duration>,
        context: &mut Context<'_>,
    ) {
        let Some(client) = self.client else { return };
        let reply = ReplyTo::Driver {
            token: Step::Deleted.token(),
        };
        context.call(client, Request::DeletePod { pod, grace }, reply);
    }

    /// A user deletes every Pod there is, one after another, with each Pod's own grace.
    pub(crate) fn delete_all(&mut self, context: &mut Context<'_>) {
        let pods = context.api.pods().filter(|pod| pod.deletion.is_none());
        self.doomed = pods.map(|pod| pod.uid).collect();
        self.delete_next(context);
    }

    fn delete_next(&mut self, context: &mut Context<'_>) {
        self.deleting = self.doomed.pop_front();
        if let Some(pod) = self.deleting {
            self.delete_pod(pod, None, context);
        }
    }
}

fn creation(
    document: &Document,
    controllers: &mut Controllers,
    context: &mut Context<'_>,
) -> Creation {
    let run = match document.controller {
        Controller::Job {
            run_seconds: Some(seconds),
            ..
        } => Some(Duration::from_secs(u64::from(seconds))),
        _ => None,
    };
    let template = template(document, run);
    Creation::Object(match document.controller {
        Controller::Deployment { replicas } => {
            controllers.add_deployment(replicas, template, context)
        }
        Controller::ReplicaSet { replicas } => {
            controllers.add_replica_set(replicas, template, context)
        }
        Controller::StatefulSet {
            replicas,
            pod_management,
        } => {
            let parallel = pod_management == PodManagement::Parallel;
            controllers.add_stateful_set(replicas, parallel, template)
        }
        Controller::Job {
            parallelism,
            completions,
            ..
        } => controllers.add_job(parallelism, completions, template, context),
        Controller::Pod => {
            let name = template.name.clone();
            return Creation::Pod(Rc::new(template.pod(name, 0, None)));
        }
    })
}

fn template(document: &Document, run: Option<Duration>) -> PodTemplate {
    let shared = |map: &std::collections::BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| (Rc::from(&**key), Rc::from(&**value)))
            .collect::<Vec<_>>()
    };
    let pod: &Template = &document.template;
    PodTemplate {
        namespace: Rc::from(&*document.namespace),
        name: Rc::from(&*document.name),
        labels: shared(&pod.labels).into(),
        annotations: shared(&pod.annotations).into(),
        spec: Rc::new(PodSpec {
            host_network: pod.host_network,
            node_name: pod.node_name.as_deref().map(Rc::from),
            node_selector: shared(&pod.node_selector),
            grace: Duration::from_secs(u64::from(pod.termination_grace_period_seconds)),
            pull_always: pod
                .containers
                .iter()
                .any(|container| container.image_pull_policy == ImagePullPolicy::Always),
            run,
        }),
    }
}
