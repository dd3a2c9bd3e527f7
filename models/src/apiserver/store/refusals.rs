//! What a write is refused for, and whether it would change anything: looked at before etcd is
//! asked, and once more when it commits. Nothing is changed here.

use std::rc::Rc;

use super::pods::merged;
use super::{Store, Stored};
use crate::ids::PodUid;
use crate::objects::Pod;
use crate::request::{ApiError, Custom, Part, Request, WorkloadWrite};

fn refuse(refused: bool, error: ApiError) -> Result<(), ApiError> {
    if refused { Err(error) } else { Ok(()) }
}

impl Store {
    /// Whether a write would be refused at this moment.
    /// Errors: as the write itself.
    pub fn check(&self, request: &Request) -> Result<(), ApiError> {
        match request {
            Request::CreatePod(new) => {
                let name = (new.namespace.clone(), new.name.clone());
                refuse(self.names.contains_key(&name), ApiError::AlreadyExists)
            }
            Request::BindPod { pod, .. } => {
                let pod = self.known_pod(*pod, ApiError::Conflict)?;
                let is_late = pod.node_name.is_some() || pod.deletion.is_some();
                refuse(is_late, ApiError::Conflict)
            }
            Request::PatchPodStatus { pod, .. } => {
                self.known_pod(*pod, ApiError::Invalid).map(|_| ())
            }
            Request::PutNetworkStatus {
                pod,
                resource_version,
            } => {
                let pod = self.known_pod(*pod, ApiError::Conflict)?;
                let is_stale = pod.resource_version != *resource_version;
                refuse(is_stale, ApiError::Conflict)
            }
            Request::PatchPodAnnotations {
                namespace, name, ..
            } => self.named_pod(namespace, name).map(|_| ()),
            Request::AnnotatePod {
                pod,
                resource_version,
                ..
            } => {
                let stored = self.known_pod(*pod, ApiError::Invalid)?;
                let is_stale = resource_version.is_some_and(|of| of != stored.resource_version);
                refuse(is_stale, ApiError::Conflict)
            }
            Request::DeletePod { pod, .. } => self.known_pod(*pod, ApiError::Conflict).map(|_| ()),
            Request::WriteWorkload { object, write } => match write {
                WorkloadWrite::Create => {
                    refuse(self.workloads.contains(object), ApiError::AlreadyExists)
                }
                WorkloadWrite::StaleStatus => Err(ApiError::Conflict),
                WorkloadWrite::Status => Ok(()),
            },
            _ => self.check_custom(request),
        }
    }

    fn check_custom(&self, request: &Request) -> Result<(), ApiError> {
        match request {
            Request::Create(object) => {
                self.check_size(object)?;
                let is_taken = self.custom(object.kind, &object.name).is_some();
                refuse(is_taken, ApiError::AlreadyExists)
            }
            Request::Replace { object, part } => self.check_replace(object, *part),
            Request::MergePatch { object } => {
                self.check_size(object)?;
                self.named_custom(object).map(|_| ())
            }
            // Source: apiserver/pkg/endpoints/handlers/patch.go:389-391.
            Request::JsonPatch { object } => {
                self.check_size(object)?;
                let stored = self.named_custom(object)?;
                let is_stale = stored.resource_version != object.resource_version;
                refuse(is_stale, ApiError::Invalid)
            }
            Request::Delete {
                kind,
                name,
                uid,
                resource_version,
            } => {
                let stored = self.custom(*kind, name).ok_or(ApiError::NotFound)?;
                let is_another = uid.is_some_and(|of| of != stored.uid)
                    || resource_version.is_some_and(|of| of != stored.resource_version);
                refuse(is_another, ApiError::Conflict)
            }
            _ => Ok(()),
        }
    }

    fn check_replace(&self, object: &Custom, part: Part) -> Result<(), ApiError> {
        self.check_size(object)?;
        let stored = self.named_custom(object)?;
        refuse(
            part == Part::Status && stored.status.is_none(),
            ApiError::NotFound,
        )?;
        refuse(object.resource_version == 0, ApiError::Invalid)?;
        let is_stale = object.resource_version != stored.resource_version
            || (object.uid != 0 && stored.uid != object.uid);
        refuse(is_stale, ApiError::Conflict)?;
        let is_new = |finalizer| !stored.finalizers.contains(finalizer);
        let adds_finalizer = part == Part::Main && object.finalizers.iter().any(is_new);
        refuse(stored.deleting && adds_finalizer, ApiError::Invalid)
    }

    fn named_custom(&self, object: &Custom) -> Result<&Rc<Custom>, ApiError> {
        self.custom(object.kind, &object.name)
            .ok_or(ApiError::NotFound)
    }

    /// The apiserver passes etcd's refusal on as a 500, which proves nothing to the client.
    fn check_size(&self, object: &Custom) -> Result<(), ApiError> {
        let is_too_large = object.body.len() > self.limits.body_bytes_max;
        refuse(is_too_large, ApiError::Unavailable { unknown: true })
    }

    /// The Pod of a UID; 404 when its name is free, `other` when the name has a new owner.
    fn known_pod(&self, pod: PodUid, other: ApiError) -> Result<&Rc<Pod>, ApiError> {
        if let Some(found) = self.pod(pod) {
            return Ok(found);
        }
        let renamed = self
            .former_name(pod)
            .is_some_and(|name| self.names.contains_key(&name));
        Err(if renamed { other } else { ApiError::NotFound })
    }

    /// The Pod that has a name now.
    pub(super) fn named_pod(
        &self,
        namespace: &Rc<str>,
        name: &Rc<str>,
    ) -> Result<&Rc<Pod>, ApiError> {
        self.names
            .get(&(namespace.clone(), name.clone()))
            .and_then(|uid| self.pod(*uid))
            .ok_or(ApiError::NotFound)
    }

    /// Whether a write that is not refused would leave everything as it is: the apiserver compares
    /// before it asks etcd for a transaction (apiserver/pkg/storage/etcd3/store.go:461-491).
    pub fn is_idle(&self, request: &Request) -> bool {
        match request {
            Request::Replace { object, .. } => {
                self.custom(object.kind, &object.name)
                    .is_some_and(|stored| {
                        let same = stored.labels == object.labels
                            && stored.finalizers == object.finalizers
                            && stored.body == object.body
                            && stored.record_count == object.record_count;
                        same && !(stored.deleting && stored.finalizers.is_empty())
                    })
            }
            Request::PatchPodAnnotations {
                namespace,
                name,
                annotations,
            } => self
                .named_pod(namespace, name)
                .is_ok_and(|pod| merged(&pod.annotations, annotations).is_none()),
            _ => false,
        }
    }

    fn former_name(&self, pod: PodUid) -> Option<(Rc<str>, Rc<str>)> {
        self.graves
            .iter()
            .find_map(|((resource, namespace, name), revision)| {
                let removed = self
                    .entry(*revision)
                    .and_then(|entry| entry.before.as_ref());
                match removed {
                    Some(Stored::Pod(old)) if *resource == "pods" && old.uid == pod => {
                        Some((namespace.clone(), name.clone()))
                    }
                    _ => None,
                }
            })
    }
}
