//! ADD inside an agent: what the caches say, then the queue, the pools and the endpoint. What a try
//! got and could not record is remembered for the Pod's next one, as long as the agent lives.
//! Source: spiderpool v0.8.0 `pkg/ipam/allocate.go`,
//! `pkg/workloadendpointmanager/workloadendpoint_manager.go`.

use std::cell::Cell;
use std::rc::Rc;

use crate::cni::IpamCall;
use crate::ids::PodUid;
use crate::process::{CallError, Port};
use crate::request::{Custom, Part as ObjectPart, Request};

use super::endpoint::{Endpoint, endpoint_name};
use super::job::{CANCELED, Job, Outcome, is_alive, is_fixed};
use super::part::{Part, PartGoal};
use super::process::{Bucket, Life};

/// An allocation, once the agent's informers are there.
/// Errors: what the plugin is told.
pub(super) async fn allocate(job: &mut Job, port: &Port, call: &IpamCall) -> Outcome {
    let (namespace, name) = (&call.pod_namespace, &call.pod_name);
    let life = job.life().clone();
    let known = life.known.borrow().pods.named(namespace, name).cloned();
    let Some(pod) = known else {
        job.env().count(|totals| totals.pod_unknown += 1);
        return Err(format!("failed to get Pod {namespace}/{name}"));
    };
    if !is_alive(&pod) {
        return Err(format!("dead Pod {namespace}/{name}"));
    }
    let fixed = is_fixed(&pod);
    job.is_for(&pod);
    let key = endpoint_name(namespace, name);
    let stored = life.known.borrow().endpoints.get(&key).cloned();
    let parts: Vec<Part> = match stored.as_deref().map(Endpoint::decode) {
        Some(endpoint) if endpoint.pod == pod.uid => {
            job.env().count(|totals| totals.idempotent += 1);
            return Ok(endpoint.addresses);
        }
        Some(endpoint) if fixed => {
            let addresses = endpoint.addresses.into_iter();
            let retag = |(pool, position)| Part::new(pool, PartGoal::Retag(position));
            addresses.map(retag).collect()
        }
        Some(_) => {
            job.env().count(|totals| totals.endpoint_of_another += 1);
            return Err(format!(
                "the endpoint of {namespace}/{name} is of another Pod"
            ));
        }
        None => {
            let failures = life.failures.borrow();
            let had = failures.get(&pod.uid);
            let candidates = job.env().catalog.candidates(&pod).iter();
            let part = |pool| match had.and_then(|had| had.get(pool)) {
                Some(position) => Part::had(*pool, *position),
                None => Part::new(*pool, PartGoal::Take),
            };
            candidates.map(part).collect()
        }
    };
    job.queue(port, parts).await?;
    let half_done = HalfDone::new(&life, pod.uid, job.parts());
    job.work(port).await?;
    half_done.all_parts_are_done();
    job.give_tickets_back();
    let endpoint = Endpoint {
        pod: pod.uid,
        fixed,
        addresses: job.addresses(),
    };
    let request = record(&endpoint, key, stored.as_deref());
    match job.ask(port, Bucket::EndpointWrite, request).await {
        Ok(_) => {
            half_done.is_recorded();
            Ok(endpoint.addresses)
        }
        Err(CallError::Api(error)) => {
            job.env().count(|totals| totals.endpoint_refused += 1);
            Err(format!("failed to create endpoint: {error:?}"))
        }
        Err(CallError::Deadline) => Err(CANCELED.to_owned()),
    }
}

/// The write of the endpoint.
fn record(endpoint: &Endpoint, name: Rc<str>, stored: Option<&Custom>) -> Request {
    match stored {
        Some(stored) => Request::Replace {
            object: Rc::new(endpoint.replacing(stored)),
            part: ObjectPart::Main,
        },
        None => Request::Create(Rc::new(endpoint.object(name))),
    }
}

/// How far an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Works,
    Records,
    Recorded,
}

/// An allocation under way. What it has when it fails or is killed, the agent remembers.
struct HalfDone {
    life: Rc<Life>,
    pod: PodUid,
    parts: Rc<[Part]>,
    progress: Cell<Progress>,
}

impl HalfDone {
    fn new(life: &Rc<Life>, pod: PodUid, parts: Rc<[Part]>) -> Self {
        Self {
            life: life.clone(),
            pod,
            parts,
            progress: Cell::new(Progress::Works),
        }
    }

    fn all_parts_are_done(&self) {
        assert!(self.parts.iter().all(|part| part.address().is_some()));
        let before = self.progress.replace(Progress::Records);
        assert_eq!(before, Progress::Works);
    }

    fn is_recorded(&self) {
        let before = self.progress.replace(Progress::Recorded);
        assert_eq!(before, Progress::Records);
        self.life.failures.borrow_mut().remove(&self.pod);
    }
}

impl Drop for HalfDone {
    fn drop(&mut self) {
        let progress = self.progress.get();
        if progress == Progress::Recorded || self.life.has_ended() {
            return;
        }
        let mut taken = self.parts.iter().filter_map(Part::address).peekable();
        if progress == Progress::Works {
            if taken.peek().is_none() {
                return;
            }
            self.life.env.count(|totals| totals.partial += 1);
        }
        let mut failures = self.life.failures.borrow_mut();
        failures.entry(self.pod).or_default().extend(taken);
    }
}
