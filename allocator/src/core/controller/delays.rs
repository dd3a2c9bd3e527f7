//! What waits and why: one object's failure delays that object, with back-off, and nothing else.
//! Also the objects that exist but cannot be read: no step is taken for them or relies on what they
//! do not say, and they are reported by name.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use super::Controller;
use crate::core::api::ApiError;
use crate::core::objects::{Kind, Metadata, Object, ObjectKey, SetAside};
use crate::core::set_aside::unknown_fields;
use crate::core::time::BootTime;
use crate::core::version_went_back;

/// A delay is forgotten this long after its end: its object was deleted meanwhile.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// An object that was written this often within [`CHURN_WINDOW`] does not stay as written: somebody
/// changes it back, or the apiserver drops a field. It waits for the window's end.
const CHURN_MAX: usize = 16;
const CHURN_WINDOW: Duration = Duration::from_secs(60);

/// What waits.
#[derive(Default)]
pub(super) struct Delays {
    of_objects: BTreeMap<ObjectKey, Delay>,
    /// When each object was written last, at most [`CHURN_MAX`] times.
    written: BTreeMap<ObjectKey, VecDeque<BootTime>>,
}

struct Delay {
    until: BootTime,
    /// Somebody changes the object back: another such change is not a reason to write again.
    outlasts_changes: bool,
    failure_count: u32,
    /// What the apiserver said last; empty when it waits for something else.
    refusal: String,
}

impl Delays {
    pub(super) fn next_due(&self, now: BootTime) -> Option<BootTime> {
        let due = self.of_objects.values().map(|delay| delay.until);
        due.filter(|until| *until > now).min()
    }

    fn is_delayed(&self, key: &ObjectKey, now: BootTime) -> bool {
        self.of_objects
            .get(key)
            .is_some_and(|delay| delay.until > now)
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.of_objects.remove(key);
    }

    fn forget_for_change(&mut self, key: &ObjectKey) {
        let delay = self.of_objects.get(key);
        if delay.is_some_and(|delay| !delay.outlasts_changes) {
            self.of_objects.remove(key);
        }
    }

    /// Units: objects whose last write was refused.
    pub(super) fn refused_count(&self) -> u64 {
        let refused = self
            .of_objects
            .values()
            .filter(|delay| !delay.refusal.is_empty());
        refused.count() as u64
    }
}

/// What cannot be read, and what was reported about it and about unknown fields.
#[derive(Default)]
pub(super) struct Unread {
    pub(super) objects: BTreeMap<ObjectKey, SetAside>,
    /// Names of fields of a newer release.
    ignored: BTreeMap<ObjectKey, String>,
    told: BTreeMap<ObjectKey, String>,
    /// Something may not be reported yet.
    is_news: bool,
}

impl Controller {
    /// Whether the object must wait now.
    pub(super) fn waits(&self, key: &ObjectKey) -> bool {
        self.delays.is_delayed(key, self.now) || self.is_set_aside(key)
    }

    pub(super) fn is_set_aside(&self, key: &ObjectKey) -> bool {
        self.unread.objects.contains_key(key)
    }

    /// The apiserver refused a write made for that object.
    pub(super) fn delay(&mut self, key: &ObjectKey, error: &ApiError) {
        let entropy = self.entropy;
        let delay = self.delays.of_objects.entry(key.clone()).or_insert(Delay {
            until: BootTime::ZERO,
            outlasts_changes: false,
            failure_count: 0,
            refusal: String::new(),
        });
        delay.until = self.now + self.config.retry.pause(delay.failure_count, entropy);
        delay.failure_count = delay.failure_count.saturating_add(1);
        let said = error.to_string();
        let is_news = delay.refusal != said && matches!(error, ApiError::Invalid { .. });
        delay.refusal = said;
        if is_news {
            self.event("WriteRefused", format!("{key}: {error}"));
        }
    }

    /// Blocks are not watched: a survey of them counts until the next one.
    pub(super) fn blocks_surveyed(&mut self, unread: &BTreeMap<String, SetAside>) {
        let objects = &mut self.unread.objects;
        objects.retain(|key, _| key.kind != Kind::AddressBlock || unread.contains_key(&key.name));
        for (name, object) in unread {
            let key = ObjectKey::cluster(Kind::AddressBlock, name.clone());
            objects.insert(key, object.clone());
            self.unread.is_news = true;
        }
    }

    /// The object waits for something that no event reports.
    pub(super) fn look_later(&mut self, key: ObjectKey) {
        let until = self.now + self.config.retry.longest;
        self.wait_until(key, until, false);
    }

    fn wait_until(&mut self, key: ObjectKey, until: BootTime, outlasts_changes: bool) {
        let delay = Delay {
            until,
            outlasts_changes,
            failure_count: 0,
            refusal: String::new(),
        };
        self.delays.of_objects.insert(key, delay);
    }

    /// A write made for that object was carried out.
    pub(super) fn note_written(&mut self, key: &ObjectKey) {
        self.delays.forget(key);
        // An approval is written once for each of its pools.
        if matches!(key.kind, Kind::DomainApproval | Kind::AddressBlock) {
            return;
        }
        let now = self.now;
        let times = self.delays.written.entry(key.clone()).or_default();
        times.push_back(now);
        if times.len() > CHURN_MAX {
            times.pop_front();
        }
        let first = times.front().copied().unwrap_or(now);
        if times.len() == CHURN_MAX && now.since(first) < CHURN_WINDOW {
            let text = format!("{key} was written {CHURN_MAX} times and is not as it was written");
            self.wait_until(key.clone(), first + CHURN_WINDOW, true);
            self.tell(key.clone(), "NotAsWritten", text);
        }
    }

    /// Forgets what is long over.
    pub(super) fn sweep_delays(&mut self) {
        let now = self.now;
        let is_live = |at: BootTime| now.since(at) < FORGOTTEN_AFTER;
        self.delays
            .of_objects
            .retain(|_, delay| is_live(delay.until));
        let written = &mut self.delays.written;
        written.retain(|_, times| times.back().is_some_and(|at| is_live(*at)));
    }

    /// A version of an object that cannot be read. Its last readable version is kept for what it
    /// says of geometry, unless it was another object.
    pub(super) fn set_aside(&mut self, object: SetAside) {
        let key = ObjectKey {
            kind: object.kind,
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone(),
        };
        if key.kind == Kind::AddressBlock {
            if let Some(survey) = &mut self.survey {
                survey.blocks.remove(&key.name);
                survey.unread.insert(key.name, object);
            }
            return;
        }
        let known = self.metadata_of(&key);
        let is_older = known.is_some_and(|known| {
            version_went_back(&known.resource_version, &object.metadata.resource_version)
        });
        if is_older {
            return;
        }
        if known.is_some_and(|known| known.uid != object.metadata.uid) {
            self.forget(&key);
        }
        self.unread.objects.insert(key, object);
        self.unread.is_news = true;
    }

    pub(super) fn known_version(&self, key: &ObjectKey) -> Option<&str> {
        self.metadata_of(key)
            .map(|known| known.resource_version.as_str())
    }

    fn metadata_of(&self, key: &ObjectKey) -> Option<&Metadata> {
        let name = &key.name;
        match key.kind {
            Kind::AddressPool => self.pools.get(name).map(|object| &object.metadata),
            Kind::AddressReservation => self.reservations.get(name).map(|object| &object.metadata),
            Kind::BerthNode => self.machines.get(name).map(|object| &object.metadata),
            Kind::DomainApproval => self.domains.get(name).map(|object| &object.metadata),
            Kind::Node => self.nodes.get(name).map(|object| &object.metadata),
            Kind::AddressBlock | Kind::Lease | Kind::Pod | Kind::Namespace => None,
        }
    }

    /// A readable version of an object: whatever kept it waiting is checked again.
    pub(super) fn note_read(&mut self, object: &Object) {
        let key = object.key();
        self.unread.objects.remove(&key);
        let is_new = self
            .metadata_of(&key)
            .is_none_or(|known| known.resource_version != object.metadata().resource_version);
        if is_new {
            self.delays.forget_for_change(&key);
        }
        let unknown = unknown_fields(object);
        if unknown.is_empty() {
            self.unread.ignored.remove(&key);
        } else {
            self.unread.ignored.insert(key, unknown.join(", "));
            self.unread.is_news = true;
        }
    }

    pub(super) fn note_gone(&mut self, key: &ObjectKey) {
        self.unread.objects.remove(key);
        self.unread.ignored.remove(key);
        self.unread.told.remove(key);
        self.delays.forget(key);
    }

    /// Reports unreadable objects and unknown fields, once each.
    pub(super) fn tell_unread(&mut self) {
        if !std::mem::take(&mut self.unread.is_news) {
            return;
        }
        let set_aside: Vec<_> = self
            .unread
            .objects
            .iter()
            .filter(|(key, object)| self.unread.told.get(*key) != Some(&object.reason))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        for (key, object) in set_aside {
            let text = format!("{object}; {}", object.remedy());
            self.event("ObjectSetAside", text);
            self.unread.told.insert(key, object.reason);
        }
        let ignored: Vec<_> = self
            .unread
            .ignored
            .iter()
            .filter(|(key, text)| self.unread.told.get(*key) != Some(text))
            .map(|(key, text)| (key.clone(), text.clone()))
            .collect();
        for (key, text) in ignored {
            let said = format!("{key} has fields that this release does not know: {text}");
            self.event("FieldsIgnored", said);
            self.unread.told.insert(key, text);
        }
    }

    /// Reports something about an object, once.
    fn tell(&mut self, key: ObjectKey, reason: &'static str, text: String) {
        if self.unread.told.get(&key) != Some(&text) {
            self.event(reason, text.clone());
            self.unread.told.insert(key, text);
        }
    }
}
