//! How the cores talk to the Kubernetes API: requests and answers as values, and what a watch
//! delivers. Transport is not here.

use core::time::Duration;

use super::objects::{Kind, Metadata, Object, ObjectKey, Uid};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Linearizable: shows every write that was acknowledged before it was sent.
    Quorum,
    /// `resourceVersion=0`: whatever some cache holds.
    Cache,
}

/// Which objects a list or watch is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selection {
    /// Kind.
    pub kind: Kind,
    /// Labels that must have these values.
    pub labels: Vec<(String, String)>,
    /// `spec.nodeName`, for Pods.
    pub node_name: Option<String>,
}

/// A list request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Which objects.
    pub selection: Selection,
    /// How fresh.
    pub consistency: Consistency,
    /// At most this many items; 0 for all.
    pub limit: u32,
    /// The previous page's token; empty for the first page.
    pub continue_token: String,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The objects, ascending by key.
    pub items: Vec<Object>,
    /// The version of the whole list, to watch from.
    pub resource_version: String,
    /// Empty on the last page.
    pub continue_token: String,
}

/// A watch request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchQuery {
    /// Which objects.
    pub selection: Selection,
    /// Events after this version.
    pub resource_version: String,
}

/// What a watch delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The object is new in the selection.
    Added(Object),
    /// The object changed.
    Modified(Object),
    /// The object left the selection; its last state.
    Deleted(Object),
    /// Nothing happened until this version.
    Bookmark(String),
    /// The version asked for is too old (410): list again.
    Expired,
    /// The stream ended; it may be opened again from the last version seen.
    Closed,
}

#[cfg(feature = "mutants")]
impl WatchEvent {
    /// Whether its object cannot be read.
    pub(crate) fn shows_set_aside(&self) -> bool {
        match self {
            Self::Added(object) | Self::Modified(object) | Self::Deleted(object) => {
                object.set_aside().is_some()
            }
            Self::Bookmark(_) | Self::Closed | Self::Expired => false,
        }
    }
}

/// Which part of an object a replace writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Metadata and spec.
    Main,
    /// The status subresource.
    Status,
}

/// What must hold for a delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preconditions {
    /// The object's UID.
    pub uid: Uid,
    /// The object's version; empty: any.
    pub resource_version: String,
}

/// Whether a request that got no proper answer was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Certainly not, now or later.
    Not,
    /// Unknown; it may even be carried out later.
    Unknown,
}

/// Why a request to the apiserver failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 409: the object's version is another.
    #[error("the object changed")]
    Conflict,
    /// 409 on create: an object of that name exists.
    #[error("the object exists")]
    AlreadyExists,
    /// 410: the version or continue token is too old.
    #[error("the version is too old")]
    Gone,
    /// 404.
    #[error("no such object")]
    NotFound,
    /// 429: not carried out.
    #[error("too many requests")]
    TooManyRequests {
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// 400, 403 or 422: refused for its content; not carried out.
    #[error("refused: {message}")]
    Invalid {
        /// The server's words.
        message: String,
    },
    /// No answer, or 5xx.
    #[error("unavailable")]
    Unavailable(
        /// Whether it was carried out.
        Applied,
    ),
}

/// Names one request between core and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Names one watch between core and shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub u64);

/// A request to the apiserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRequest {
    /// Read one object.
    Get(ObjectKey, Consistency),
    /// List objects.
    List(ListQuery),
    /// Create an object.
    Create(Object),
    /// Replace an object at the version in its metadata.
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
