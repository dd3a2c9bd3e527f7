//! The ledger of a node without an agent: which attachment holds which addresses, as a value, and
//! the log that states it. The decisions of the store `disk`; files, locks and the look at network
//! namespaces are in `adapters::disk`.
//!
//! The log is lines of text: `<checksum> <JSON>`. The first line states the format and the boot;
//! each further line is one [`Change`] and is applied as a whole or not at all. A line without its
//! end is a write that its killed writer did not finish: it never happened. A complete line that is
//! wrong is damage, and then nothing is served: an address that looks free may be held.
//!
//! When a boot ends, its network namespaces and their addresses end with it. So the log of another
//! boot counts for nothing, and no line needs to survive a power cut.

pub mod ranges;

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exchange::{AllocatedAddress, Attachment, Failure};
use super::hash::fnv1a;
use ranges::{Held, RangeSet};

/// The format that this code writes.
pub const FORMAT: u32 = 1;

/// Units: bytes. A log shorter than this is not rewritten.
const REWRITE_BYTES_MIN: usize = 64 * 1024;
/// A log is rewritten when it is this many times as long as what it states.
const REWRITE_RATIO: usize = 4;

/// How the kernel identifies a network namespace while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamespaceId {
    /// The device that the namespace's file is on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// What one attachment holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// One address per range set, in the order of the sets.
    pub addresses: Vec<IpAddr>,
    /// `CNI_NETNS` of the ADD; empty when it was taken over from host-local.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub netns: String,
    /// The namespace at that path, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceId>,
    /// `namespace/name` of the Pod, or empty. For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Change {
    /// The attachment holds these addresses.
    Bind {
        /// Who.
        attachment: Attachment,
        /// What.
        binding: Binding,
    },
    /// The attachments hold nothing.
    Release(Vec<Attachment>),
    /// The address after which the search in a range set continues, by index of the set.
    Last(BTreeMap<usize, IpAddr>),
}

#[derive(Serialize, Deserialize)]
struct Header {
    berth: u32,
    boot: String,
}

/// Why a log is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Written by a later program.
    #[error("the store has format {0}; this program knows {FORMAT}")]
    Format(u32),
    /// Its name states this boot, its header another.
    #[error("the store states another boot than its name")]
    Boot,
    /// A line that is malformed or contradicts those before it.
    #[error("line {0} of the store is damaged")]
    Damaged(usize),
}

/// An ADD, as far as the ledger is concerned.
#[derive(Clone, Copy, Debug)]
pub struct AddCall<'a> {
    /// For which interface.
    pub attachment: &'a Attachment,
    /// `CNI_NETNS`.
    pub netns: &'a str,
    /// The namespace there.
    pub namespace: Option<NamespaceId>,
    /// `namespace/name`, or empty.
    pub pod: &'a str,
    /// Addresses that the caller asks for.
    pub ips: &'a [IpAddr],
    /// The ranges: one address of each set.
    pub sets: &'a [RangeSet],
}

/// What an ADD comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddOutcome {
    /// The attachment holds these already.
    Held(Vec<AllocatedAddress>),
    /// These are free, and are the attachment's once the change is written.
    Free(Vec<AllocatedAddress>, Change),
    /// This set has no free address; there may be holders whose namespaces are gone.
    Exhausted(Failure),
    /// Not served.
    Refused(Failure),
}

/// Who holds what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    bindings: BTreeMap<Attachment, Binding>,
    held: Held,
    last: BTreeMap<usize, IpAddr>,
}

impl Ledger {
    /// Reads the log of this boot: the ledger, and how many bytes of the log count.
    ///
    /// Errors: the log must not be served.
    pub fn replay(boot: &str, log: &[u8]) -> Result<(Self, usize), LedgerError> {
        let mut ledger = Self::default();
        let mut counted_bytes = 0;
        for (index, line) in log.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let damaged = LedgerError::Damaged(index + 1);
            let Some(line) = line.strip_suffix(b"\n") else {
                break;
            };
            let json = checked(line).ok_or(damaged.clone())?;
            if index == 0 {
                let header: Header = serde_json::from_slice(json).map_err(|_| damaged)?;
                if header.berth != FORMAT {
                    return Err(LedgerError::Format(header.berth));
                }
                if header.boot != boot {
                    return Err(LedgerError::Boot);
                }
            } else {
                let change: Change = serde_json::from_slice(json).map_err(|_| damaged.clone())?;
                ledger.apply(&change).map_err(|Contradiction| damaged)?;
            }
            counted_bytes += line.len() + 1;
        }
        // A file gets its name only after its header is written.
        if counted_bytes == 0 {
            return Err(LedgerError::Damaged(1));
        }
        Ok((ledger, counted_bytes))
    }

    /// The shortest log that states this ledger.
    pub fn log(&self, boot: &str) -> Vec<u8> {
        let mut log = line(&Header {
            berth: FORMAT,
            boot: boot.to_owned(),
        });
        for (attachment, binding) in &self.bindings {
            log.extend(encode(&Change::Bind {
                attachment: attachment.clone(),
                binding: binding.clone(),
            }));
        }
        // After the bindings, each of which moves it.
        if !self.last.is_empty() {
            log.extend(encode(&Change::Last(self.last.clone())));
        }
        log
    }

    /// Whether a log of this length states so little that it should be rewritten.
    pub fn is_log_too_long(&self, log_bytes: usize) -> bool {
        // A binding's line has about 200 bytes.
        log_bytes > REWRITE_BYTES_MIN && log_bytes / REWRITE_RATIO > self.bindings.len() * 200
    }

    /// Units: bytes. How much the log would grow if all holders were released one by one. This room
    /// is set aside before an ADD, so that a full disk stops ADDs and never a DEL.
    pub fn release_bytes(&self) -> usize {
        const FIXED: usize = 64;
        self.bindings
            .keys()
            .map(|a| FIXED + a.container.len() + a.interface.len() * 6)
            .sum()
    }

    /// Applies a change.
    ///
    /// Errors: it would give away what is held.
    pub fn apply(&mut self, change: &Change) -> Result<(), Contradiction> {
        match change {
            Change::Bind {
                attachment,
                binding,
            } => {
                if self.bindings.contains_key(attachment)
                    || binding.addresses.iter().any(|a| self.held.contains_key(a))
                {
                    return Err(Contradiction);
                }
                for (index, address) in binding.addresses.iter().enumerate() {
                    if self.held.insert(*address, attachment.clone()).is_some() {
                        return Err(Contradiction);
                    }
                    if !binding.netns.is_empty() {
                        self.last.insert(index, *address);
                    }
                }
                self.bindings.insert(attachment.clone(), binding.clone());
            }
            Change::Release(attachments) => {
                for attachment in attachments {
                    if let Some(binding) = self.bindings.remove(attachment) {
                        for address in &binding.addresses {
                            self.held.remove(address);
                        }
                    }
                }
            }
            Change::Last(last) => self.last.extend(last.iter().map(|(k, v)| (*k, *v))),
        }
        Ok(())
    }

    /// All holders.
    pub fn bindings(&self) -> impl Iterator<Item = (&Attachment, &Binding)> {
        self.bindings.iter()
    }

    /// What an attachment holds. Old versions of host-local wrote no interface: such an entry
    /// matches any interface of its container.
    pub fn of(&self, attachment: &Attachment) -> Option<(&Attachment, &Binding)> {
        let any = || Attachment {
            container: attachment.container.clone(),
            interface: String::new(),
        };
        self.bindings
            .get_key_value(attachment)
            .or_else(|| self.bindings.get_key_value(&any()))
    }

    /// Decides an ADD; changes nothing.
    pub fn add(&self, call: &AddCall<'_>) -> AddOutcome {
        // Exactly this one: another interface of its container wants addresses of its own.
        match self.bindings.get(call.attachment) {
            Some(binding) => match repeated(binding, call) {
                Ok(addresses) => AddOutcome::Held(addresses),
                Err(failure) => AddOutcome::Refused(failure),
            },
            None => self.claim(call),
        }
    }

    fn claim(&self, call: &AddCall<'_>) -> AddOutcome {
        let mut wanted = call.ips.to_vec();
        let mut found: Vec<AllocatedAddress> = Vec::with_capacity(call.sets.len());
        for (index, set) in call.sets.iter().enumerate() {
            let asked = wanted.iter().position(|ip| set.contains(*ip));
            let claimed = match asked.map(|at| wanted.remove(at)) {
                Some(ip) => set.claim(ip, &self.held).map_err(AddOutcome::Refused),
                None => set
                    .claim_next(self.last.get(&index).copied(), &self.held)
                    .ok_or_else(|| {
                        let message = format!("no address of {set} is free");
                        AddOutcome::Exhausted(Failure::new(Failure::TRY_AGAIN, message))
                    }),
            };
            match claimed {
                Ok(address) => found.push(address),
                Err(outcome) => return outcome,
            }
        }
        if let Some(ip) = wanted.first() {
            let message =
                format!("the address {ip} was asked for and is in no range set that is left");
            let failure = Failure::new(Failure::ADDRESS_INADMISSIBLE, message);
            return AddOutcome::Refused(failure);
        }
        let change = Change::Bind {
            attachment: call.attachment.clone(),
            binding: Binding {
                addresses: found.iter().map(|f| f.address.addr()).collect(),
                netns: call.netns.to_owned(),
                namespace: call.namespace,
                pod: call.pod.to_owned(),
            },
        };
        AddOutcome::Free(found, change)
    }

    /// The difference that CHECK finds, if there is one.
    pub fn check(&self, attachment: &Attachment, previous: &[IpAddr]) -> Result<(), Failure> {
        let fail = |message: String| Err(Failure::new(Failure::CHECK_FAILED, message));
        let Some((_, binding)) = self.of(attachment) else {
            return fail(format!("{attachment} holds no address"));
        };
        match binding.addresses.iter().find(|ip| !previous.contains(ip)) {
            Some(ip) => fail(format!(
                "{attachment} holds {ip}, which the previous result has not"
            )),
            None => Ok(()),
        }
    }
}

/// A change that gives away what is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

/// A repeated ADD gets the same answer.
fn repeated(binding: &Binding, call: &AddCall<'_>) -> Result<Vec<AllocatedAddress>, Failure> {
    let differs = |message: String| Failure::new(Failure::ADDRESS_INADMISSIBLE, message);
    let who = call.attachment;
    if let Some(ip) = call.ips.iter().find(|ip| !binding.addresses.contains(ip)) {
        let message = format!("{who} asks for {ip} and holds other addresses since its first ADD");
        return Err(differs(message));
    }
    let held: Option<Vec<_>> = call
        .sets
        .iter()
        .map(|set| binding.addresses.iter().find_map(|ip| set.allocated(*ip)))
        .collect();
    held.filter(|held| held.len() == binding.addresses.len())
        .ok_or_else(|| {
            let message = format!("{who} holds addresses that the ranges have no longer");
            differs(message)
        })
}

/// The line of a change.
pub fn encode(change: &Change) -> Vec<u8> {
    line(change)
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let json = serde_json::to_vec(value).expect("the ledger's types have a JSON form");
    let mut line = format!("{:016x} ", fnv1a(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    line
}

/// The JSON of a line whose checksum is right.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.split_at_checked(17)?;
    let stated = u64::from_str_radix(core::str::from_utf8(&sum[..16]).ok()?, 16).ok()?;
    (sum[16] == b' ' && stated == fnv1a(json)).then_some(json)
}

#[cfg(test)]
mod tests;
