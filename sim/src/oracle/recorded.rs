//! K. Claim: what ADD answered is recorded, under its Pod, as long as the interface lives.
//! Watches: an interface that comes up, a record that changes. Suspended: for allocators that
//! keep no records in the apiserver.

use drydock_models::observation::Observation;

use super::{Breach, Fact, Invariant, Truth};

/// Checks records against live interfaces.
pub fn check(truth: &Truth, fact: &Fact<'_>) -> Option<Breach> {
    if !truth.has_records {
        return None;
    }
    match fact {
        Fact::World(Observation::AddressUp { pod, addresses, .. }) => {
            let lost = addresses
                .iter()
                .find(|address| truth.records.get(address).is_none_or(|h| h.pod != *pod))?;
            let text = match truth.records.get(lost) {
                Some(holder) => {
                    format!(
                        "{lost} came up for Pod {pod}, but is recorded for Pod {}",
                        holder.pod
                    )
                }
                None => format!("{lost} came up for Pod {pod}, but is recorded as free"),
            };
            Some((Invariant::K, lost.to_string(), text))
        }
        Fact::Record {
            addresses,
            before,
            after,
        } => addresses.iter().find_map(|address| {
            let users = truth.by_address.get(address)?;
            let user = users
                .iter()
                .map(|key| &truth.interfaces[key])
                .find(|user| after.is_none_or(|holder| holder.pod != user.pod))?;
            let was = before.map_or("free".to_owned(), |h| format!("Pod {}", h.pod));
            let now = after.map_or("free".to_owned(), |h| format!("Pod {}", h.pod));
            let text = format!(
                "the record of {address} went from {was} to {now} while the interface of Pod {} \
                 on node {} has it",
                user.pod, user.node
            );
            Some((Invariant::K, address.to_string(), text))
        }),
        _ => None,
    }
}
