//! Newtypes for everything that is counted in the world; no behavior beyond printing.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
        impl $name {
            /// Position in the table that this identity indexes.
            pub const fn index(self) -> usize { self.0 as usize }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{}", self.0) }
        }
    };
}

index! {
    /// One machine, and the kubelet and runtime on it. A machine that replaces another under the
    /// same node name has an index of its own.
    NodeIndex(u32)
}
index! {
    /// One Pod object, numbered by creation: a re-created Pod of the same name has a new one.
    /// It is the Pod's UID in the world; [`PodUid::text`] is the form that clients see.
    PodUid(u32)
}
index! {
    /// One sandbox (container ID in the runtime): unique over the cluster, and a function of its
    /// node and the sandboxes before it there alone, so that other nodes do not change it.
    ContainerId(u32)
}
index! {
    /// One network namespace (the file under /run/netns), unique over the cluster like
    /// [`ContainerId`].
    NetnsId(u32)
}
index! {
    /// One API call in flight, from the client's limiter to its answer.
    CallId(u32)
}
index! {
    /// One API client: a process's clientset with its own limiter and connection.
    ClientId(u32)
}
index! {
    /// One watch, from start to close.
    WatchId(u32)
}
index! {
    /// One execution of the IPAM plugin (a verb on one container and interface), unique over the
    /// cluster like [`ContainerId`].
    IpamCallId(u32)
}

impl PodUid {
    /// The UID as Kubernetes prints one; injective, so that logs can be read back.
    pub fn text(self) -> String {
        format!("00000000-0000-4000-8000-{:012x}", self.0)
    }

    /// The Pod that [`PodUid::text`] names.
    pub fn from_text(text: &str) -> Option<PodUid> {
        let digits = text.strip_prefix("00000000-0000-4000-8000-")?;
        u32::from_str_radix(digits, 16).ok().map(PodUid)
    }
}

impl ContainerId {
    /// The container ID as a runtime prints one: 64 hexadecimal digits.
    pub fn text(self) -> String {
        format!("{:064x}", self.0)
    }

    /// The sandbox that [`ContainerId::text`] names.
    pub fn from_text(text: &str) -> Option<ContainerId> {
        let is_id = text.len() == 64;
        let number = u32::from_str_radix(text, 16).ok();
        number.filter(|_| is_id).map(ContainerId)
    }
}

impl NetnsId {
    /// The path of the namespace's file, as CNI_NETNS carries it.
    pub fn path(self) -> String {
        format!("/run/netns/cni-{:08x}", self.0)
    }

    /// The namespace that [`NetnsId::path`] names.
    pub fn from_path(path: &str) -> Option<NetnsId> {
        u32::from_str_radix(path.strip_prefix("/run/netns/cni-")?, 16)
            .ok()
            .map(NetnsId)
    }
}
