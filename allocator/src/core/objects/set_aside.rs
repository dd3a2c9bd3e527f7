//! An object that is there and cannot be read: what can be told of it. How one is found out is
//! [`core::set_aside`](crate::core::set_aside)'s.

use std::collections::BTreeMap;

use super::{GROUP, Kind, Metadata, Object};

/// The pool and the index that a block's name says (see `pool::block_name`); `None`: it is no name
/// of a block.
pub(in crate::core) fn block_of_name(name: &str) -> Option<(&str, u64)> {
    let (pool, index) = name.rsplit_once('-')?;
    Some((pool, index.parse().ok()?))
}

/// An object that is there and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Which kind.
    pub kind: Kind,
    /// What could be read of its metadata; the name always.
    pub metadata: Metadata,
    /// The path of the first field that cannot be read, `spec.address` for instance; may be empty.
    pub field: String,
    /// What was found there and what is allowed, in one line for people.
    pub reason: String,
    /// The texts directly in its spec, by field: what little may be believed of it.
    pub hints: BTreeMap<String, String>,
}

impl SetAside {
    /// A text of its spec.
    pub fn hint(&self, field: &str) -> Option<&str> {
        self.hints.get(field).map(String::as_str)
    }

    /// For a block: its pool and its index, by its name.
    pub fn block_place(&self) -> Option<(&str, u64)> {
        block_of_name(&self.metadata.name)
    }

    /// What ends it, in one line for people.
    pub fn remedy(&self) -> String {
        let plural = plural(self.kind);
        let name = &self.metadata.name;
        let explain = if self.field.is_empty() {
            format!("kubectl explain {plural}")
        } else {
            format!("kubectl explain {plural}.{}", without_indexes(&self.field))
        };
        match self.kind {
            Kind::AddressPool | Kind::AddressReservation | Kind::Node | Kind::Pod => {
                format!("kubectl edit {plural} {name}; what is allowed: {explain}")
            }
            _ => format!(
                "none if a newer Berth wrote it: update this one; else kubectl edit {plural} {name} \
                 ({explain})"
            ),
        }
    }
}

impl core::fmt::Display for SetAside {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let key = Object::from(self.clone()).key();
        write!(f, "{key} cannot be read: {}", self.reason)
    }
}

/// The path of a field without the numbers in it.
pub(in crate::core) fn without_indexes(field: &str) -> String {
    let mut inside = false;
    let mut text = field.to_owned();
    text.retain(|letter| {
        inside |= letter == '[';
        let kept = !inside;
        inside &= letter != ']';
        kept
    });
    text
}

fn plural(kind: Kind) -> String {
    let name = format!("{kind:?}s").to_lowercase();
    match kind {
        Kind::Lease | Kind::Node | Kind::Pod | Kind::Namespace => name,
        _ => format!("{name}.{GROUP}"),
    }
}
