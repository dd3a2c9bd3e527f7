//! Why what is asked for by its name is there: the invariants behind each look-up that cannot fail,
//! as they are told if one does.

pub(super) const POOL: &str = "a pool keeps its number for as long as the process lives";
pub(super) const GEOMETRY: &str = "a block is in memory only of a pool that was approved";
pub(super) const BLOCK: &str = "a block once known stays in memory";
pub(super) const CLAIM: &str = "whoever names a claim drops the name with the claim";
pub(super) const POD: &str = "a Pod is known while anything here is its";
pub(super) const ADD: &str = "an ADD is known until it is answered";
