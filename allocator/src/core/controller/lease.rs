//! Leadership, as client-go does it: a lease counts as free when it did not change for its whole
//! duration on the observer's own clock.

use super::{Controller, Purpose};
use crate::core::api::{ApiError, ApiReply, ApiRequest, Consistency, Part};
use crate::core::objects::{Kind, Lease, LeaseSpec, Metadata, Object, ObjectKey};
use crate::core::time::BootTime;

/// The leadership state of this process.
#[derive(Default)]
pub(super) struct Leadership {
    stored: Option<Lease>,
    /// When the lease was last seen to change.
    changed_at: BootTime,
    /// This process leads until then.
    leads_until: BootTime,
    in_flight: bool,
    answered_at: BootTime,
    sent: BootTime,
    due: BootTime,
}

impl Leadership {
    pub(super) fn leads(&self, now: BootTime) -> bool {
        now < self.leads_until
    }

    /// When the apiserver last gave a useful answer about the Lease.
    pub(super) fn answered_at(&self) -> BootTime {
        self.answered_at
    }

    /// Whether a request about the Lease is in flight.
    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    pub(super) fn next_due(&self) -> BootTime {
        self.due
    }
}

impl Controller {
    pub(super) fn lease_key(&self) -> ObjectKey {
        ObjectKey {
            kind: Kind::Lease,
            namespace: self.config.lease_namespace.clone(),
            name: self.config.lease_name.clone(),
        }
    }

    /// Reads or renews the lease when that is due.
    pub(super) fn lease_due(&mut self) {
        if self.lease.in_flight || self.now < self.lease.due {
            return;
        }
        let own = self
            .lease
            .stored
            .as_ref()
            .is_some_and(|lease| lease.spec.holder_identity == self.config.identity);
        if own {
            self.write_lease();
        } else {
            self.read_lease();
        }
    }

    fn read_lease(&mut self) {
        assert!(
            !self.lease.in_flight,
            "one request about the Lease at a time"
        );
        self.lease.in_flight = true;
        let key = self.lease_key();
        self.call(
            Purpose::Lease { planned: None },
            ApiRequest::Get(key, Consistency::Quorum),
        );
    }

    fn write_lease(&mut self) {
        let before = self.lease.stored.clone().unwrap_or_else(|| Lease {
            metadata: Metadata {
                name: self.config.lease_name.clone(),
                namespace: self.config.lease_namespace.clone(),
                ..Metadata::default()
            },
            spec: LeaseSpec::default(),
        });
        let now = self.wall.rfc3339_micro();
        let same = before.spec.holder_identity == self.config.identity;
        let taken_over = u32::from(!same && !before.spec.holder_identity.is_empty());
        let planned = Lease {
            spec: LeaseSpec {
                holder_identity: self.config.identity.clone(),
                lease_duration_seconds: self.config.lease_duration.as_secs() as u32,
                acquire_time: if same {
                    before.spec.acquire_time
                } else {
                    now.clone()
                },
                renew_time: now,
                lease_transitions: before.spec.lease_transitions.saturating_add(taken_over),
                other: before.spec.other,
            },
            metadata: before.metadata,
        };
        let object = Object::from(planned.clone());
        let request = if planned.metadata.resource_version.is_empty() {
            ApiRequest::Create(object)
        } else {
            ApiRequest::Replace(object, Part::Main)
        };
        assert!(
            !self.lease.in_flight,
            "one request about the Lease at a time"
        );
        self.lease.in_flight = true;
        self.lease.sent = self.now;
        self.call(
            Purpose::Lease {
                planned: Some(Box::new(planned)),
            },
            request,
        );
    }

    pub(super) fn lease_answered(
        &mut self,
        planned: Option<Box<Lease>>,
        result: Result<ApiReply, ApiError>,
    ) {
        assert!(self.lease.in_flight, "what was answered was asked");
        self.lease.in_flight = false;
        if result.is_ok() {
            self.lease.answered_at = self.now;
        }
        self.lease.due = self.now + self.config.retry.pause(2, self.entropy);
        match (result, planned) {
            (Ok(ApiReply::Written(metadata)), Some(mut planned)) => {
                planned.metadata = metadata;
                self.lease.stored = Some(*planned);
                self.lease.changed_at = self.now;
                // It stops leading one renewal before others may take the Lease.
                let safe = self
                    .config
                    .lease_duration
                    .saturating_sub(self.config.lease_renewal);
                self.lease.leads_until = self.lease.sent + safe;
                self.lease.due = self.now + self.config.lease_renewal;
            }
            (Ok(ApiReply::Object(Object::Lease(lease))), None) => {
                let key = self.lease_key();
                self.unread.objects.remove(&key);
                self.lease_read(*lease);
            }
            (Ok(ApiReply::Object(Object::SetAside(lease))), None) => {
                // The holder may still hold it.
                let key = self.lease_key();
                self.unread.objects.insert(key, *lease);
            }
            (Err(ApiError::NotFound), None) => {
                let key = self.lease_key();
                self.unread.objects.remove(&key);
                self.lease.stored = None;
                self.write_lease();
            }
            // Read it, to see who has it now.
            (Err(_), Some(_)) => self.lease.stored = None,
            _ => {}
        }
    }

    fn lease_read(&mut self, lease: Lease) {
        let changed = self.lease.stored.as_ref().is_none_or(|stored| {
            stored.metadata.resource_version != lease.metadata.resource_version
        });
        if changed {
            self.lease.changed_at = self.now;
        }
        let own = lease.spec.holder_identity == self.config.identity;
        let free = lease.spec.holder_identity.is_empty()
            || self.now.since(self.lease.changed_at) >= self.config.lease_duration;
        self.lease.stored = Some(lease);
        if own || free {
            self.write_lease();
        } else {
            self.lease.due = self.now + self.config.lease_renewal;
        }
    }
}
