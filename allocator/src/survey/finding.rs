//! A finding: what is wrong, of what, why it is thought so, and what ends it.

use serde::Serialize;

/// What kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FindingKind {
    /// A live agent holds for a Pod that is gone.
    PodGone,
    /// A live agent holds for a Pod that runs on another node.
    PodElsewhere,
    /// The incarnation is being buried: its records wait.
    BeingBuried,
    /// No machine answers for the record.
    NobodyAnswers,
    /// One Pod holds several ordinals of one pool.
    HeldTwice,
    /// A block cannot be read.
    BlockUnreadable,
    /// Agents do not use the pool as it stands.
    PoolNotApproved,
    /// A machine's Node object is gone.
    NodeGone,
    /// A reservation names no address of its pool.
    ReservationWithoutPlace,
    /// An object is there and cannot be read.
    ObjectUnreadable,
    /// An object has fields that this release does not know.
    FieldsIgnored,
    /// An agent lost something that it depends on.
    PartLost,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// Which object or address.
    pub subject: String,
    /// Why it is reported.
    pub why: String,
    /// What ends it.
    pub remedy: String,
}
