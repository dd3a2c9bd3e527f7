//! The apiserver's store: versions, guards, finalizers, selections and a history to watch.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::core::api::{
    ApiError, Applied, ListPage, ListQuery, Part, Preconditions, Selection, WatchEvent, WatchQuery,
};
use crate::core::objects::{AddressPoolStatus, Kind, Metadata, Object, ObjectKey, Uid};
use crate::core::set_aside::decode;

/// One change.
#[derive(Clone, Debug)]
struct Change {
    version: u64,
    before: Option<Object>,
    after: Option<Object>,
}

/// Objects by key, and every change that led to them.
#[derive(Clone, Debug, Default)]
pub struct Store {
    objects: BTreeMap<ObjectKey, Object>,
    history: Vec<Change>,
    version: u64,
    uids: u64,
    /// What is answered to writes of these objects.
    refusals: BTreeMap<(ObjectKey, Part), ApiError>,
    /// Nothing before this version is known.
    compacted: u64,
    watches_expire: bool,
}

fn refused(message: &str) -> ApiError {
    ApiError::Invalid {
        message: message.to_owned(),
    }
}

/// Units: bytes. What etcd takes.
const OBJECT_BYTES_MAX: usize = 3 << 19;

/// Blocks alone grow large; the apiserver answers etcd's refusal with a 500.
fn check_size(object: &Object) -> Result<(), ApiError> {
    match object {
        Object::AddressBlock(block) if block.spec.records.len() > OBJECT_BYTES_MAX => {
            Err(ApiError::Unavailable(Applied::Unknown))
        }
        _ => Ok(()),
    }
}

fn matches(selection: &Selection, object: &Object) -> bool {
    let metadata = object.metadata();
    object.kind() == selection.kind
        && selection
            .labels
            .iter()
            .all(|(key, value)| metadata.labels.get(key) == Some(value))
        && selection
            .node_name
            .as_ref()
            .is_none_or(|name| match object {
                Object::Pod(pod) => pod.spec.node_name == *name,
                Object::SetAside(pod) => pod.hint("nodeName").is_none_or(|on| on == name),
                _ => true,
            })
}

impl Store {
    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// An object as it is.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    /// All objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects
            .values()
            .filter(move |object| object.kind() == kind)
    }

    fn commit(&mut self, key: &ObjectKey, after: Option<Object>) -> Metadata {
        self.version += 1;
        let before = self.objects.remove(key);
        let mut metadata = Metadata::default();
        let after = after.map(|mut object| {
            object.metadata_mut().resource_version = self.version.to_string();
            metadata = object.metadata().clone();
            self.objects.insert(key.clone(), object.clone());
            object
        });
        self.history.push(Change {
            version: self.version,
            before,
            after,
        });
        metadata
    }

    /// Reads.
    pub fn get(&self, key: &ObjectKey) -> Result<Object, ApiError> {
        self.objects.get(key).cloned().ok_or(ApiError::NotFound)
    }

    /// The objects as they were at a version that is not compacted.
    fn at(&self, version: u64) -> BTreeMap<ObjectKey, Object> {
        let mut objects = self.objects.clone();
        for change in self.history.iter().rev() {
            if change.version <= version {
                break;
            }
            match (&change.before, &change.after) {
                (Some(before), _) => {
                    objects.insert(before.key(), before.clone());
                }
                (None, Some(after)) => {
                    objects.remove(&after.key());
                }
                (None, None) => {}
            }
        }
        objects
    }

    /// Lists, all pages' worth per `limit`. Pages show the state at the first of them.
    ///
    /// Errors: the token is of no list, or of one that is forgotten.
    pub fn list(&self, query: &ListQuery) -> Result<ListPage, ApiError> {
        let (version, after) = if query.continue_token.is_empty() {
            (self.version, "")
        } else {
            let token = query.continue_token.split_once(' ');
            token
                .and_then(|(version, after)| Some((version.parse().ok()?, after)))
                .ok_or_else(|| refused("the continue token is of no list"))?
        };
        if version < self.compacted {
            return Err(ApiError::Gone);
        }
        // A key has the namespace first: what is after it in the order is after it in the list.
        let place = |object: &Object| {
            let metadata = object.metadata();
            format!("{}/{}", metadata.namespace, metadata.name)
        };
        let mut rest: Vec<Object> = self
            .at(version)
            .into_values()
            .filter(|object| object.kind() == query.selection.kind)
            .filter(|object| after.is_empty() || *place(object) > *after)
            .collect();
        rest.sort_by_key(place);
        let mut items = Vec::new();
        let mut continue_token = String::new();
        let mut rest = rest.into_iter().peekable();
        while let Some(object) = rest.next() {
            if !matches(&query.selection, &object) {
                continue;
            }
            // Whether anything in the rest is selected, the server does not look.
            if items.len() + 1 == query.limit as usize && rest.peek().is_some() {
                continue_token = format!("{version} {}", place(&object));
                items.push(object);
                break;
            }
            items.push(object);
        }
        Ok(ListPage {
            items,
            resource_version: version.to_string(),
            continue_token,
        })
    }

    /// Forgets every version before the present one.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
    }

    /// Whether every watch is told that its version is too old, however new it is. Lists go on.
    pub fn expire_watches(&mut self, expire: bool) {
        self.watches_expire = expire;
    }

    /// Somebody stores JSON that no program of Berth would: creates the object, or takes its place
    /// with its UID, finalizers and mark of deletion. Whether it can be read is the readers'
    /// affair.
    ///
    /// # Panics
    /// It has no name.
    pub fn put_raw(&mut self, kind: Kind, mut value: Value) -> Metadata {
        let mut object = decode(kind, &value).expect("it has a name");
        let key = object.key();
        self.uids += 1;
        let uid = match self.objects.get(&key) {
            Some(before) => {
                let before = before.metadata();
                value["metadata"]["finalizers"] = before.finalizers.clone().into();
                value["metadata"]["deletionTimestamp"] = before.deletion_timestamp.clone().into();
                object = decode(kind, &value).expect("it has a name");
                before.uid.clone()
            }
            None => Uid::new(&format!("uid-{}", self.uids)),
        };
        object.metadata_mut().uid = uid;
        self.commit(&key, Some(object))
    }

    /// Writes of the object are answered with this from now on, or carried out again.
    pub fn refuse_writes(&mut self, key: ObjectKey, part: Part, error: Option<ApiError>) {
        match error {
            Some(error) => drop(self.refusals.insert((key, part), error)),
            None => drop(self.refusals.remove(&(key, part))),
        }
    }

    fn refusal(&self, key: &ObjectKey, part: Part) -> Result<(), ApiError> {
        let refusal = self.refusals.get(&(key.clone(), part));
        refusal.cloned().map_or(Ok(()), Err)
    }

    /// Creates.
    pub fn create(&mut self, mut object: Object) -> Result<Metadata, ApiError> {
        assert!(object.set_aside().is_none(), "never written: {object:?}");
        check_size(&object)?;
        let key = object.key();
        self.refusal(&key, Part::Main)?;
        if self.objects.contains_key(&key) {
            return Err(ApiError::AlreadyExists);
        }
        if let Object::AddressPool(pool) = &mut object {
            pool.status = AddressPoolStatus::default();
        }
        self.uids += 1;
        if object.metadata().uid.as_str().is_empty() {
            object.metadata_mut().uid = Uid::new(&format!("uid-{}", self.uids));
        }
        Ok(self.commit(&key, Some(object)))
    }

    /// Replaces. A replacement that changes nothing leaves the version.
    pub fn replace(&mut self, mut object: Object, part: Part) -> Result<Metadata, ApiError> {
        assert!(object.set_aside().is_none(), "never written: {object:?}");
        check_size(&object)?;
        let key = object.key();
        self.refusal(&key, part)?;
        let has_status = matches!(key.kind, Kind::AddressPool | Kind::Node | Kind::Pod);
        let before = self.objects.get(&key);
        let Some(before) = before.filter(|_| part == Part::Main || has_status) else {
            return Err(ApiError::NotFound);
        };
        let new = object.metadata();
        if new.resource_version.is_empty() && key.kind != Kind::Pod && key.kind != Kind::Node {
            return Err(refused(
                "metadata.resourceVersion: must be specified for an update",
            ));
        }
        let other = |guard: &str, stored: &str| !guard.is_empty() && guard != stored;
        if other(&new.resource_version, &before.metadata().resource_version)
            || other(new.uid.as_str(), before.metadata().uid.as_str())
        {
            return Err(ApiError::Conflict);
        }
        if let (Object::AddressPool(new), Object::AddressPool(old)) = (&mut object, before) {
            match part {
                Part::Main => new.status = old.status.clone(),
                Part::Status => {
                    new.spec = old.spec.clone();
                    new.metadata = old.metadata.clone();
                }
            }
        }
        let known = &before.metadata().finalizers;
        let mut finalizers = object.metadata().finalizers.iter();
        if before.metadata().deletion_timestamp.is_some()
            && !finalizers.all(|finalizer| known.contains(finalizer))
        {
            return Err(refused(
                "no new finalizers can be added if the object is being deleted",
            ));
        }
        object
            .metadata_mut()
            .resource_version
            .clone_from(&before.metadata().resource_version);
        object.metadata_mut().uid = before.metadata().uid.clone();
        object
            .metadata_mut()
            .deletion_timestamp
            .clone_from(&before.metadata().deletion_timestamp);
        if object == *before {
            return Ok(before.metadata().clone());
        }
        if object.metadata().deletion_timestamp.is_some() && object.metadata().finalizers.is_empty()
        {
            let metadata = object.metadata().clone();
            self.commit(&key, None);
            return Ok(metadata);
        }
        Ok(self.commit(&key, Some(object)))
    }

    /// Deletes, or marks as deleted where finalizers stand.
    pub fn delete(
        &mut self,
        key: &ObjectKey,
        preconditions: Option<&Preconditions>,
    ) -> Result<(), ApiError> {
        let Some(before) = self.objects.get(key) else {
            return Err(ApiError::NotFound);
        };
        let metadata = before.metadata();
        if preconditions.is_some_and(|wanted| {
            let other_version = !wanted.resource_version.is_empty()
                && wanted.resource_version != metadata.resource_version;
            wanted.uid != metadata.uid || other_version
        }) {
            return Err(ApiError::Conflict);
        }
        if metadata.finalizers.is_empty() {
            self.commit(key, None);
        } else if metadata.deletion_timestamp.is_none() {
            let mut marked = before.clone();
            marked.metadata_mut().deletion_timestamp = Some("1970-01-01T00:00:00Z".to_owned());
            self.commit(key, Some(marked));
        }
        Ok(())
    }

    /// Sets the deletion timestamp: the kubelet will remove the object.
    pub fn mark_deleted(&mut self, key: &ObjectKey) {
        if let Some(before) = self.objects.get(key) {
            let mut marked = before.clone();
            marked.metadata_mut().deletion_timestamp = Some("1970-01-01T00:00:00Z".to_owned());
            self.commit(key, Some(marked));
        }
    }

    /// The events of a watch after a version, with the version of each.
    pub fn events_after(&self, query: &WatchQuery, version: u64) -> Vec<(u64, WatchEvent)> {
        let from = self
            .history
            .partition_point(|change| change.version <= version);
        let select = |object: &Option<Object>| {
            object
                .as_ref()
                .filter(|object| matches(&query.selection, object))
                .cloned()
        };
        if version < self.compacted || self.watches_expire {
            return vec![(self.version, WatchEvent::Expired)];
        }
        self.history[from..]
            .iter()
            .filter_map(|change| {
                let event = match (select(&change.before), select(&change.after)) {
                    (None, Some(after)) => WatchEvent::Added(after),
                    (Some(_), Some(after)) => WatchEvent::Modified(after),
                    // Its last state in the selection, under the version that took it out.
                    (Some(mut before), None) => {
                        before.metadata_mut().resource_version = change.version.to_string();
                        WatchEvent::Deleted(before)
                    }
                    (None, None) => return None,
                };
                Some((change.version, event))
            })
            .collect()
    }
}
