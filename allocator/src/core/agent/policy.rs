//! The durations and bounds of an agent, each with the reason for its value.

use core::time::Duration;

use crate::core::retry::Backoff;

/// Durations and bounds. The standard ones belong together: see the assertion below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long after *sending* a quorum read that showed the own epoch live an ADD may be answered
    /// from memory.
    pub epoch_valid: Duration,
    /// The epoch is read again this long after the last read, while Pods wait or hold reservations.
    pub epoch_refresh: Duration,
    /// The same while nothing waits: only to notice a burial, well within its quarantine.
    pub epoch_refresh_idle: Duration,
    /// A read of a Namespace counts this long after *sending* it: removing a label closes a pool
    /// within this time.
    pub namespace_valid: Duration,
    /// A Pod that an ADD names and the watch does not show is read after this long: the watch is
    /// rarely later, and it never shows a static Pod.
    pub pod_unseen: Duration,
    /// No ADD lasts longer (multus gives up at 240 s).
    pub longest_add: Duration,
    /// A reservation that no ADD asks for within this time is given back; its Pod is claimed for at
    /// ADD. Longer than a node takes from binding 250 Pods to the last one's ADD, and than two of
    /// the longest ADDs.
    pub reservation_unasked: Duration,
    /// A releasing address is free this long after the last DEL with a namespace; longer than the
    /// kubelet's 10 to 16 s between two tries.
    pub release_after_del: Duration,
    /// Added if the ADD was answered less than `young_add` before.
    pub release_extra: Duration,
    /// See `release_extra`.
    pub young_add: Duration,
    /// Looks at a releasing path, if no notice of its end comes earlier.
    pub release_probe: Backoff,
    /// A second sandbox of the same Pod waits this long for the first one's end.
    pub second_sandbox_wait: Duration,
    /// How much later freed ordinals may be written while the pool is not tight.
    pub release_linger: Duration,
    /// A search for room begins this long after the last answer to a write of this node: by then
    /// the writes of other nodes in the same burst are answered too.
    pub search_settle: Duration,
    /// A block write that takes longer does not keep other claims waiting.
    pub write_hung: Duration,
    /// Pauses after a failed request.
    pub api_retry: Backoff,
    /// Pauses after lost races for a block.
    pub conflict_retry: Backoff,
    /// Pauses between searches of an exhausted pool, where no watch event comes earlier.
    pub search_retry: Backoff,
    /// If only resting ordinals are left, they count as rested for this long.
    pub rest_waived: Duration,
    /// While the pool is exhausted, the node's own claims leave a freed ordinal to others for this
    /// long.
    pub leave_to_others: Duration,
    /// An ADD is refused as late when less than this is left.
    pub reply_margin: Duration,
    /// Serving begins this long after start even if a block cannot be read.
    pub settle_grace: Duration,
    /// How often bindings are compared with the blocks.
    pub reassert: Duration,
    /// How often bound attachments of vanished Pods are looked at.
    pub sweep: Duration,
    /// After a runtime could not be asked for this long, other evidence decides where there is any,
    /// and it is asked again even if an answer is still awaited. Longer than any port waits for it.
    pub runtime_patience: Duration,
    /// Entries; see the tombstones.
    pub tombstone_count_max: usize,
    /// Entries: remembered finished attachments.
    pub ended_count_max: usize,
    /// ADDs that may wait.
    pub waiting_adds_max: usize,
    /// Blocks in one page of a list.
    pub list_page: u32,
}

impl Policy {
    /// The released values.
    pub const STANDARD: Self = Self {
        epoch_valid: Duration::from_secs(30),
        epoch_refresh: Duration::from_secs(20),
        epoch_refresh_idle: Duration::from_secs(60),
        namespace_valid: Duration::from_secs(30),
        pod_unseen: Duration::from_millis(150),
        longest_add: Duration::from_secs(240),
        reservation_unasked: Duration::from_mins(10),
        release_after_del: Duration::from_secs(20),
        release_extra: Duration::from_secs(10),
        young_add: Duration::from_secs(15),
        release_probe: Backoff {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(5),
        },
        second_sandbox_wait: Duration::from_secs(2),
        release_linger: Duration::from_secs(3),
        search_settle: Duration::from_millis(50),
        write_hung: Duration::from_secs(1),
        api_retry: Backoff {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(5),
        },
        conflict_retry: Backoff {
            first: Duration::from_millis(20),
            longest: Duration::from_secs(2),
        },
        search_retry: Backoff {
            first: Duration::from_secs(2),
            longest: Duration::from_secs(15),
        },
        rest_waived: Duration::from_secs(15),
        leave_to_others: Duration::from_millis(200),
        reply_margin: Duration::from_millis(100),
        settle_grace: Duration::from_secs(5),
        reassert: Duration::from_secs(3600),
        sweep: Duration::from_secs(10),
        runtime_patience: Duration::from_secs(40),
        tombstone_count_max: 1024,
        ended_count_max: 4096,
        waiting_adds_max: 1024,
        list_page: 500,
    };
}

const _: () = {
    let policy = Policy::STANDARD;
    assert!(policy.epoch_refresh.as_secs() < policy.epoch_valid.as_secs());
    assert!(policy.release_after_del.as_secs() > 16);
    assert!(policy.reservation_unasked.as_secs() > 2 * policy.longest_add.as_secs());
};
