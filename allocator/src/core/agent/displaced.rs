//! A live binding whose ordinal another machine holds. It takes a burial of a machine that was
//! alive (or a restored backup) to get here, and then the interface that is the later comer's in
//! the records must go: the agent says so and, where it is certain that its own incarnation was
//! buried, deletes its own Pod. The kubelet then ends the sandbox, and the Pod's owner makes
//! another.

use super::Agent;
use super::errands::Purpose;
use super::memory::Place;
use super::timers::Timer;
use crate::core::api::{ApiError, ApiReply, ApiRequest, Preconditions};
use crate::core::objects::{Kind, ObjectKey, Uid};

impl Agent {
    /// The last version of the block says that the place is another machine's, while an attachment
    /// of this node stands on it.
    pub(super) fn address_taken(&mut self, place: Place) {
        let holding = self.holdings.get(&place).expect("it stands on a hold");
        let (uid, name) = (holding.pod.clone(), holding.pod_name.clone());
        let is_known = self.pods.get(&uid).is_some_and(|pod| pod.is_displaced);
        if is_known {
            return;
        }
        if let Some(pod) = self.pods.get_mut(&uid) {
            pod.is_displaced = true;
        }
        let addresses = self.allocation_of(place).map_or_else(String::new, |a| {
            let texts = a.addresses.iter().map(|a| a.address.addr().to_string());
            texts.collect::<Vec<_>>().join(", ")
        });
        let text = format!("{addresses} of this Pod was given to a Pod of another machine");
        self.pod_event(&uid, "AddressTaken", text);
        self.note_displaced(&name);
        self.count("berth_displaced_total");
        self.remove_pod(&uid);
    }

    /// Deletes a displaced Pod, by its UID: a Pod recreated under its name is left alone.
    pub(super) fn remove_pod(&mut self, uid: &Uid) {
        let Some(pod) = self.pods.get(uid) else {
            return;
        };
        // A restored backup also shows others' old records; only a burial is certain.
        let may = self.epoch.is_revived() && self.config.removes_displaced_pods;
        if !may || !pod.is_displaced || pod.seen.is_none() {
            return;
        }
        let Some((namespace, name)) = pod.name.split_once('/') else {
            return;
        };
        let key = ObjectKey {
            kind: Kind::Pod,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let preconditions = Preconditions {
            uid: uid.clone(),
            // Any version: the kubelet writes the status at any time.
            resource_version: String::new(),
        };
        self.call(
            Purpose::RemovePod(uid.clone()),
            ApiRequest::Delete(key, preconditions),
        );
    }

    pub(super) fn pod_removed(&mut self, uid: &Uid, result: Result<ApiReply, ApiError>) {
        match result {
            // Asked for, gone, or another Pod of that name.
            Ok(_) | Err(ApiError::NotFound | ApiError::Conflict) => {
                self.count("berth_pods_removed_total");
            }
            Err(error) => {
                if let ApiError::Invalid { message } = &error {
                    let text = format!("it cannot be deleted: {message}");
                    self.pod_event(uid, "RemovalRefused", text);
                }
                let entropy = self.draw();
                let at = self.now + self.config.policy.api_retry.pause(8, entropy);
                self.arm(Timer::RemovePod(uid.clone()), at);
            }
        }
    }
}
