//! The durations and bounds of an agent, each with what it was chosen by.

use core::time::Duration;

use crate::core::retry::Backoff;

/// Durations and bounds. The standard ones belong together: see the assertion below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long after *sending* a quorum read that showed the own epoch live an ADD may be answered
    /// from memory.
    pub epoch_valid: Duration,
    /// The epoch is read again so long after the last read while Pods wait or hold reservations.
    pub epoch_refresh: Duration,
    /// The same while nothing waits: only to notice a burial, far within its quarantine.
    pub epoch_refresh_idle: Duration,
    /// What was read of a Namespace counts so long after *sending* the read: a label that is taken
    /// away closes a pool within this time.
    pub namespace_valid: Duration,
    /// A Pod that an ADD is about and that the watch does not show is read after so long: the watch
    /// is mostly that much late, and a static Pod never in it.
    pub pod_unseen: Duration,
    /// No ADD lasts longer (multus gives up at 240 s).
    pub longest_add: Duration,
    /// A reservation that no ADD asks for so long is given back; its Pod is claimed for at ADD.
    /// Longer than a node takes from binding 250 Pods to the last one's ADD, and than two of the
    /// longest ADDs.
    pub reservation_unasked: Duration,
    /// A releasing address is free so long after the last DEL with a namespace; longer than the
    /// kubelet's 10 to 16 s between two tries.
    pub release_after_del: Duration,
    /// More when the ADD was answered less than `young_add` before.
    pub release_extra: Duration,
    /// See `release_extra`.
    pub young_add: Duration,
    /// Looks at a releasing path, if no notice of its end comes earlier.
    pub release_probe: Backoff,
    /// A second sandbox of the same Pod waits so long for the first's end.
    pub second_sandbox_wait: Duration,
    /// Freed ordinals are written at most so much later while the pool is not tight.
    pub release_linger: Duration,
    /// A search for room begins so long after the last answer to a write of this node: by then the
    /// writes of other nodes in the same burst are answered too.
    pub search_settle: Duration,
    /// A block write that takes longer does not keep other claims waiting.
    pub write_hung: Duration,
    /// Pauses after a failed request.
    pub api_retry: Backoff,
    /// Pauses after lost races for a block.
    pub conflict_retry: Backoff,
    /// Pauses between searches of an exhausted pool, where no watch event comes earlier.
    pub search_retry: Backoff,
    /// Where nothing but resting ordinals is to be had, they count as rested for so long.
    pub rest_waived: Duration,
    /// The node's own claims leave a freed ordinal to others for so long while the pool is
    /// exhausted.
    pub leave_to_others: Duration,
    /// An ADD is refused as late when less than this is left.
    pub reply_margin: Duration,
    /// Serving begins so long after start even if a block cannot be read.
    pub settle_grace: Duration,
    /// Bindings are compared with the blocks so often.
    pub reassert: Duration,
    /// Bound attachments of vanished Pods are looked at so often.
    pub sweep: Duration,
    /// A runtime that cannot be asked for so long is done without where something else decides, and
    /// is asked again although its answer is awaited: longer than any port waits for it.
    pub runtime_patience: Duration,
    /// Entries; see the tombstones.
    pub tombstone_count_max: usize,
    /// Entries: finished attachments that are remembered.
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
