//! Requests to the apiserver as values: what the cores put out and get back.

use super::objects::{Metadata, Object, ObjectKey};
use crate::ports::{Consistency, ListPage, ListQuery, Part, Preconditions};

/// Names one request between core and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names one watch between core and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// Names one look at a path between core and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// A request to the apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRequest {
    /// Read one object.
    Get(ObjectKey, Consistency),
    /// List objects.
    List(ListQuery),
    /// Create an object.
    Create(Object),
    /// Replace an object of the version in its metadata.
    Replace(Object, Part),
    /// Delete an object.
    Delete(ObjectKey, Preconditions),
}

/// An answer of the apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiReply {
    /// To a read.
    Object(Object),
    /// To a list.
    Page(ListPage),
    /// To a create or replace: the metadata as stored.
    Written(Metadata),
    /// To a delete.
    Deleted,
}

#[cfg(feature = "mutants")]
impl ApiReply {
    /// Whether something in it cannot be read.
    pub(crate) fn shows_set_aside(&self) -> bool {
        match self {
            Self::Object(object) => object.set_aside().is_some(),
            Self::Page(page) => page.items.iter().any(|item| item.set_aside().is_some()),
            Self::Written(_) | Self::Deleted => false,
        }
    }
}
