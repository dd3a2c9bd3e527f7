//! What host-local left in the network's directory: a file per address, with the container and its
//! interface. A new store begins with it, so that containers that run keep their addresses when a
//! configuration changes from host-local to Berth. host-local's file goes with the release; what
//! its containers left behind without a DEL stays held, as it did with host-local, until GC.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

use super::place;
use crate::core::disk::{Binding, Change, Ledger};
use crate::core::exchange::Attachment;
use crate::core::names;

const LAST_PREFIX: &str = "last_reserved_ip.";
/// Units: bytes. A container ID and an interface are shorter.
const FILE_BYTES_MAX: u64 = 1024;

/// A ledger with the addresses that host-local handed out.
pub(super) fn from_host_local(directory: &Path) -> io::Result<Ledger> {
    let mut last = BTreeMap::new();
    let mut held: BTreeMap<Attachment, Vec<IpAddr>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            continue;
        };
        if let Some(set) = name.strip_prefix(LAST_PREFIX) {
            // What cannot be read only has the search begin elsewhere.
            if let (Ok(set), Ok(text)) = (set.parse::<usize>(), read(&entry.path()))
                && let Ok(ip) = text.trim().parse::<IpAddr>()
            {
                last.insert(set, ip);
            }
        } else if let Ok(address) = name.parse::<IpAddr>()
            && seen.insert(address)
        {
            // host-local gives no address whose file is there, whatever it is. One that tells
            // nothing has a holder without a name, which no DEL has.
            let text = read(&entry.path()).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            let container = lines.next().unwrap_or("");
            let interface = lines.next().filter(|name| names::is_interface(name));
            let holder = Attachment {
                container: container.to_owned(),
                interface: interface.unwrap_or("").to_owned(),
            };
            held.entry(holder).or_default().push(address);
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

fn read(path: &Path) -> io::Result<String> {
    let (file, _) = place::open(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Removes host-local's files of these addresses.
pub(super) fn forget(directory: &Path, addresses: &[IpAddr]) {
    for address in addresses {
        // One that stays is taken over again after the next boot, and GC finds it then.
        let _ = fs::remove_file(directory.join(address.to_string()));
    }
}
