//! DEL inside an agent: the Pod and its endpoint are read afresh, then what the endpoint lists goes
//! back to its pools, and the endpoint loses its finalizer. The deadline is the Pod's grace period.
//! Source: spiderpool v0.8.0 `pkg/ipam/release.go`.

use std::time::Duration;

use crate::cni::IpamCall;
use crate::objects::Pod;
use crate::process::Port;
use crate::request::{Answer, Consistency, CustomKind, Request, Shape};

use super::endpoint::{ENDPOINTS, Endpoint, endpoint_name};
use super::env::Env;
use super::job::{Job, Outcome, give, is_alive};
use super::process::Bucket;

/// StatefulSets, as far as they are only looked at.
const STATEFUL_SETS: CustomKind = CustomKind {
    resource: "statefulsets",
    shape: Shape::Flat,
};

/// A release. There is nothing to release of a Pod that lives.
/// Errors: texts for nobody: the plugin says that all is well.
pub(super) async fn release(job: &mut Job, port: &Port, call: &IpamCall) -> Outcome {
    let request = Request::GetPod {
        namespace: call.pod_namespace.clone(),
        name: call.pod_name.clone(),
        consistency: Consistency::Quorum,
    };
    match job.ask(port, Bucket::PodRead, request).await {
        Ok(Answer::Pod(pod)) if is_alive(&pod) => return Ok(Vec::new()),
        Ok(Answer::Pod(pod)) => {
            job.is_for(&pod);
            job.end_at(port, port.now() + time_limit(job.env(), &pod));
        }
        Err(error) if error.is_not_found() => {}
        other => return Err(format!("GET Pod: {:?}", other.err())),
    }
    let pod = job.customer.subject.pod;
    job.life().failures.borrow_mut().remove(&pod);
    let name = endpoint_name(&call.pod_namespace, &call.pod_name);
    let get = |kind| Request::Get {
        kind,
        name: name.clone(),
        consistency: Consistency::Quorum,
    };
    let read = job.ask(port, Bucket::EndpointRead, get(ENDPOINTS)).await;
    let object = match read {
        Ok(Answer::Custom(object)) => object,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        other => return Err(format!("GET endpoint: {:?}", other.err())),
    };
    let endpoint = Endpoint::decode(&object);
    if endpoint.fixed {
        // A StatefulSet that stands keeps the address; the world has none that shrinks.
        return match job.ask(port, Bucket::OwnerRead, get(STATEFUL_SETS)).await {
            Err(error) if !error.is_not_found() => Err(format!("GET StatefulSet: {error:?}")),
            _ => Ok(Vec::new()),
        };
    }
    if endpoint.pod != pod {
        return Ok(Vec::new());
    }
    job.queue(port, give(&endpoint.addresses)).await?;
    job.clear(port, &object).await?;
    Ok(Vec::new())
}

/// What the Pod's grace period leaves for its release.
fn time_limit(env: &Env, pod: &Pod) -> Duration {
    let least = env.parameters.del_default;
    let grace = pod.deletion.map_or(Duration::ZERO, |(_, grace)| grace);
    let left = grace.saturating_sub(least);
    if left.is_zero() { least } else { left }
}
