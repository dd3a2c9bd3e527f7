//! What host-local left in the network's directory: a file per address, with the container and its
//! interface. A new store begins with it, so that containers that run keep their addresses when a
//! configuration changes from host-local to Berth. host-local's file goes with the release; what its
//! containers left behind without a DEL stays held, as it did with host-local, until GC.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use crate::cni::names;
use crate::core::disk::{Binding, Change, Ledger};
use crate::core::exchange::Attachment;

const LAST_PREFIX: &str = "last_reserved_ip.";
/// Units: bytes. A container ID and an interface are shorter.
const FILE_BYTES_MAX: u64 = 1024;

/// A ledger with the addresses that host-local handed out.
pub(super) fn from_host_local(directory: &Path) -> io::Result<Ledger> {
    let mut last = BTreeMap::new();
    let mut held: BTreeMap<Attachment, Vec<IpAddr>> = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|_| entry.path().is_file()) else {
            continue;
        };
        let set = name.strip_prefix(LAST_PREFIX).map(str::parse::<usize>);
        let address = name.parse::<IpAddr>();
        if set.is_none() && address.is_err() {
            continue;
        }
        let mut text = String::new();
        fs::File::open(entry.path())?
            .take(FILE_BYTES_MAX)
            .read_to_string(&mut text)?;
        let mut lines = text.lines().map(str::trim);
        let first = lines.next().unwrap_or("");
        match (set, address) {
            (Some(Ok(set)), _) => {
                if let Ok(ip) = first.parse::<IpAddr>() {
                    last.insert(set, ip);
                }
            }
            (None, Ok(address)) => {
                let interface = lines.next().filter(|name| names::is_interface(name));
                let holder = Attachment {
                    container: first.to_owned(),
                    interface: interface.unwrap_or("").to_owned(),
                };
                held.entry(holder).or_default().push(address);
            }
            _ => {}
        }
    }
    let mut ledger = Ledger::default();
    let binds = held.into_iter().map(|(attachment, addresses)| {
        let binding = Binding {
            addresses,
            netns: String::new(),
            namespace: None,
            pod: String::new(),
        };
        Change::Bind {
            attachment,
            binding,
        }
    });
    for change in binds.chain([Change::Last(last)]) {
        ledger
            .apply(&change)
            .map_err(|_| io::Error::other("host-local's files contradict one another"))?;
    }
    Ok(ledger)
}

/// Removes host-local's files of these addresses.
pub(super) fn forget(directory: &Path, addresses: &[IpAddr]) {
    for address in addresses {
        // One that stays is taken over again after the next boot, and GC finds it then.
        let _ = fs::remove_file(directory.join(address.to_string()));
    }
}
