//! ReplicaSets: a number of Pods, forever; a Pod that is being deleted or has ended does not count
//! and is replaced at once. The mechanism is that of [`super::replicas`].
//!
//! Source: kubernetes v1.26.5 pkg/controller/replicaset/replica_set.go,
//! pkg/controller/controller_utils.go (`FilterActivePods`).

use drydock_engine::stream::Streams;

use super::replicas::Wanted;
use super::{NAME_CHARACTERS, PodTemplate};

/// What a ReplicaSet wants.
pub(super) fn wanted(replicas: u32) -> Wanted {
    Wanted::Replicas(replicas)
}

/// The `pod-template-hash` in the name of a Deployment's ReplicaSet: stable for a template.
pub(super) fn template_hash(template: &PodTemplate) -> String {
    let mut hash = Streams::entity(&format!("{}/{}", template.namespace, template.name));
    (0..9)
        .map(|_| {
            let character = NAME_CHARACTERS[(hash % 27) as usize];
            hash /= 27;
            char::from(character)
        })
        .collect()
}
