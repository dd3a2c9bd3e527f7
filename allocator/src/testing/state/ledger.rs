//! Who really has which address: every double use is noted. It asks no agent.

use core::net::IpAddr;
use std::collections::BTreeMap;

use super::Inner;
use crate::core::time::BootTime;

/// Two live interfaces of different Pods with one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: BootTime,
    /// Which address.
    pub address: IpAddr,
    /// Whose.
    pub pods: [String; 2],
}

impl Inner {
    pub(in crate::testing) fn check_uniqueness(&mut self, uid: &str) {
        let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
        for node in self.nodes.values() {
            for sandbox in node.namespaces.values() {
                for address in &sandbox.addresses {
                    let before = owners.insert(*address, sandbox.pod.clone());
                    if let Some(before) = before.filter(|before| *before != sandbox.pod)
                        && (before == uid || sandbox.pod == uid)
                    {
                        self.violations.push(Violation {
                            at: self.now,
                            address: *address,
                            pods: [before, sandbox.pod.clone()],
                        });
                    }
                }
            }
        }
    }
}
