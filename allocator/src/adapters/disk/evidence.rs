//! Whether a network namespace has ended. Without an agent nobody has watched it, so an absent path
//! alone proves nothing: its directory may have been wiped under a container that lives. A
//! namespace has ended when it is no longer at its path and no process of this host is in it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::core::disk::{Binding, NamespaceId};
use crate::core::exchange::Attachment;

/// What a path showed.
pub(super) enum Look {
    /// This namespace.
    Present(NamespaceId),
    /// Nothing.
    Gone,
    /// No telling.
    Unknown,
}

pub(super) fn look(path: &str) -> Look {
    match identity(Path::new(path)) {
        Ok(namespace) => Look::Present(namespace),
        Err(error) if error.kind() == ErrorKind::NotFound => Look::Gone,
        Err(_) => Look::Unknown,
    }
}

fn identity(path: &Path) -> std::io::Result<NamespaceId> {
    let metadata = fs::metadata(path)?;
    Ok(NamespaceId {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// Those of the holders whose namespaces have ended. One that was not told at ADD never has.
pub(super) fn ended<'l>(
    holders: impl Iterator<Item = (&'l Attachment, &'l Binding)>,
) -> Vec<Attachment> {
    let missing: Vec<(&Attachment, NamespaceId)> = holders
        .filter_map(|(holder, binding)| Some((holder, binding.namespace?, &binding.netns)))
        .filter(|(_, namespace, path)| match look(path) {
            Look::Present(there) => there != *namespace,
            Look::Gone => true,
            Look::Unknown => false,
        })
        .map(|(holder, namespace, _)| (holder, namespace))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let Some(inhabited) = inhabited() else {
        return Vec::new();
    };
    missing
        .into_iter()
        .filter(|(_, namespace)| !inhabited.contains(namespace))
        .map(|(holder, _)| holder.clone())
        .collect()
}

/// The namespaces that some thread of this host is in; `None` where that cannot be told.
fn inhabited() -> Option<BTreeSet<NamespaceId>> {
    let mut inhabited = BTreeSet::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // A process that ends meanwhile is in no namespace.
        let threads = match fs::read_dir(process.path().join("task")) {
            Ok(threads) => threads,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        for thread in threads.flatten() {
            match identity(&thread.path().join("ns/net")) {
                Ok(namespace) => {
                    inhabited.insert(namespace);
                }
                // The host's first process may have rights that this one has not. It is in no
                // container.
                Err(error) if error.kind() == ErrorKind::PermissionDenied && name != "1" => {
                    return None;
                }
                Err(_) => {}
            }
        }
    }
    // This process is in one: where not even that shows, `/proc` shows nothing.
    (!inhabited.is_empty()).then_some(inhabited)
}
