//! The plan of a write as a function: what it may never do, whatever is held and asked.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::core::agent::memory::PoolId;
use crate::core::exchange::Attachment;
use crate::core::time::BootTime;

const SIZE: u16 = 8;
const KEY: BlockKey = BlockKey {
    pool: PoolId(1),
    index: 3,
};
const NOW: BootTime = BootTime::from_nanos(1_000);

#[derive(Clone, Debug)]
struct Ask {
    wanted: Option<Wanted>,
    is_admitted: bool,
}

/// A block, what is held in it and who waits.
#[derive(Clone, Debug)]
struct Case {
    usable: u16,
    records: Vec<Option<Record>>,
    held: Vec<Option<(Holding, bool)>>,
    asks: Vec<Ask>,
    kept: (BTreeSet<u16>, BTreeSet<u16>),
    /// Held by the word of a journal in doubt alone.
    hearsay: BTreeSet<u16>,
    flags: [bool; 5],
}

fn own() -> EpochId {
    EpochId::new("machine", 7)
}

fn uid(index: u8) -> Uid {
    Uid::new(&format!("pod-{index}"))
}

fn reservation() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), Just("r0".into()), Just("r1".into())]
}

fn holder() -> impl Strategy<Value = Record> {
    let epoch = prop_oneof![
        3 => Just(own()),
        1 => Just(EpochId::new("machine", 6)),
        2 => Just(EpochId::new("another", 7)),
    ];
    (epoch, 0..4_u8, reservation()).prop_map(|(epoch, pod, reservation)| {
        Record::Pod(Holder {
            epoch,
            pod_uid: uid(pod),
            state: HolderState::Bound,
            pod_name: "ns/pod".into(),
            container: "c".into(),
            reservation,
        })
    })
}

fn record() -> impl Strategy<Value = Option<Record>> {
    prop_oneof![
        3 => Just(None),
        1 => (0..3_u32).prop_map(|stamp| Some(Record::Cooling(stamp))),
        1 => Just(Some(Record::Excluded)),
        1 => Just(Some(Record::Gateway)),
        2 => reservation().prop_map(|name| Some(Record::Reserved(name))),
        5 => holder().prop_map(Some),
    ]
}

fn holding() -> impl Strategy<Value = (Holding, bool)> {
    let state = prop_oneof![
        Just(Hold::Unbound),
        Just(Hold::Lost),
        Just(Hold::Attached(Attachment {
            container: "c".into(),
            interface: "eth0".into(),
        })),
    ];
    (0..4_u8, state, reservation(), any::<bool>()).prop_map(
        |(pod, state, reservation, is_releasing)| {
            let holding = Holding {
                pod: uid(pod),
                pod_name: "ns/pod".into(),
                state,
                reservation,
            };
            (holding, is_releasing)
        },
    )
}

fn ask() -> impl Strategy<Value = Ask> {
    let wanted = (0..4_u8, 0..SIZE + 1, reservation()).prop_map(|(block, ordinal, reservation)| {
        let index = if block == 0 { 4 } else { KEY.index };
        Wanted {
            block: BlockKey { index, ..KEY },
            ordinal,
            reservation,
        }
    });
    (prop::option::of(wanted), prop::bool::weighted(0.8)).prop_map(|(wanted, is_admitted)| Ask {
        wanted,
        is_admitted,
    })
}

fn case() -> impl Strategy<Value = Case> {
    let some = || prop::collection::btree_set(0..SIZE, 0..3);
    let size = usize::from(SIZE);
    (
        1..=SIZE,
        prop::collection::vec(record(), size),
        prop::collection::vec(prop::option::weighted(0.4, holding()), size),
        prop::collection::vec(ask(), 0..5),
        (some(), some(), some()),
        any::<[bool; 5]>(),
    )
        .prop_map(|(usable, mut records, held, asks, sets, flags)| {
            // Only what has an address is ever reserved.
            for record in &mut records[usize::from(usable)..] {
                record.take_if(|record| match record {
                    Record::Reserved(_) => true,
                    Record::Pod(holder) => !holder.reservation.is_empty(),
                    _ => false,
                });
            }
            Case {
                usable,
                records,
                held,
                asks,
                kept: (sets.0, sets.1),
                hearsay: sets.2,
                flags,
            }
        })
}

impl Case {
    fn block(&self) -> BlockState {
        let mut base = Block::read_records("", SIZE, self.usable).unwrap();
        for (ordinal, record) in (0_u16..).zip(&self.records) {
            base.set(ordinal, record.clone());
        }
        let mut block = BlockState::new(base);
        block.trusted = self.flags[0];
        block.withheld.clone_from(&self.kept.0);
        block.reserved.clone_from(&self.kept.1);
        block.hearsay.clone_from(&self.hearsay);
        // Of every other rest it is known that it began long ago.
        for (ordinal, record) in (0_u16..).zip(&self.records) {
            if let Some(Record::Cooling(stamp)) = record
                && ordinal % 2 == 0
            {
                block.resting.insert(ordinal, (*stamp, BootTime::ZERO));
            }
        }
        block
    }

    fn plan(&self, block: &BlockState, pods: &[Uid]) -> Plan {
        let [_, cools, is_exhausted, leave_next_freed, rests] = self.flags;
        let held = (0_u16..).zip(&self.held).filter_map(|(ordinal, held)| {
            let (holding, is_releasing) = held.as_ref()?;
            Some(Held {
                ordinal,
                holding,
                is_releasing: *is_releasing,
                is_misnamed: false,
            })
        });
        let waiting = (0_u64..).zip(self.asks.iter().zip(pods));
        let waiting = waiting.map(|(id, (ask, pod))| Asking {
            id: ClaimId(id),
            pod,
            pod_name: "ns/asks",
            wanted: ask.wanted.as_ref(),
            is_admitted: ask.is_admitted,
        });
        let situation = Situation {
            key: KEY,
            own: &own(),
            block,
            held: held.collect(),
            waiting: waiting.collect(),
            rest: if rests {
                Rest::SinceBefore(NOW)
            } else {
                Rest::None
            },
            stamp: 77,
            cools,
            is_exhausted,
            leave_next_freed,
        };
        situation.plan()
    }

    fn pods(&self) -> Vec<Uid> {
        let count = self.asks.len() as u8;
        (0..count).map(|index| uid(100 + index)).collect()
    }

    fn is_held(&self, ordinal: u16) -> bool {
        self.held[usize::from(ordinal)].is_some()
    }

    /// A record of the own epoch that nothing in memory stands for.
    fn is_to_free(&self, ordinal: u16) -> bool {
        let record = self.records[usize::from(ordinal)].as_ref();
        let holder = record.and_then(Record::holder);
        holder.is_some_and(|holder| holder.epoch == own()) && !self.is_held(ordinal)
    }

    /// The same after the plan was written.
    fn after(&self, plan: &Plan, pods: &[Uid]) -> Self {
        let mut next = self.clone();
        for ordinal in 0..SIZE {
            next.records[usize::from(ordinal)] = plan.next.get(ordinal).cloned();
        }
        for (id, ordinal) in &plan.claims {
            let of = id.0 as usize;
            let wanted = self.asks[of].wanted.as_ref();
            let holding = Holding {
                pod: pods[of].clone(),
                pod_name: "ns/asks".into(),
                state: Hold::Unbound,
                reservation: wanted.map_or_else(String::new, |w| w.reservation.clone()),
            };
            next.held[usize::from(*ordinal)] = Some((holding, false));
        }
        next.asks.clear();
        next.flags[0] = true;
        next
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_plan_gives_no_ordinal_twice(case in case()) {
        let pods = case.pods();
        let plan = case.plan(&case.block(), &pods);
        let ordinals: BTreeSet<u16> = plan.claims.iter().map(|(_, ordinal)| *ordinal).collect();
        prop_assert_eq!(ordinals.len(), plan.claims.len());
        for (id, ordinal) in &plan.claims {
            prop_assert!(!case.is_held(*ordinal), "{} is held", ordinal);
            prop_assert!(*ordinal < case.usable, "{} has no address", ordinal);
            let wanted = case.asks[id.0 as usize].wanted.as_ref();
            let was_free = match &case.records[usize::from(*ordinal)] {
                None | Some(Record::Cooling(_)) => true,
                Some(Record::Reserved(name)) => wanted.is_some_and(|w| w.reservation == *name),
                Some(Record::Pod(_)) => case.is_to_free(*ordinal),
                Some(Record::Excluded | Record::Gateway) => false,
            };
            prop_assert!(was_free, "{} was not free", ordinal);
            let holder = plan.next.get(*ordinal).and_then(Record::holder).unwrap();
            prop_assert_eq!(&holder.pod_uid, &pods[id.0 as usize]);
            prop_assert_eq!(&holder.epoch, &own());
        }
    }

    #[test]
    fn a_plan_keeps_what_is_anothers(case in case()) {
        let plan = case.plan(&case.block(), &case.pods());
        for (ordinal, record) in (0_u16..).zip(&case.records) {
            let is_anothers = match record {
                Some(Record::Pod(holder)) => holder.epoch.machine() != own().machine(),
                Some(Record::Excluded | Record::Gateway) => true,
                _ => false,
            };
            if is_anothers {
                prop_assert_eq!(plan.next.get(ordinal), record.as_ref());
            }
        }
    }

    #[test]
    fn a_plan_calls_nothing_a_reservation_that_may_be_in_use(case in case()) {
        let plan = case.plan(&case.block(), &case.pods());
        for (ordinal, held) in (0_u16..).zip(&case.held) {
            let is_lost = held.as_ref().is_some_and(|(holding, _)| holding.state == Hold::Lost);
            let state = |record: Option<&Record>| {
                let holder = record.and_then(Record::holder);
                holder.filter(|holder| holder.epoch.machine() == own().machine()).map(|h| h.state)
            };
            let before = state(case.records[usize::from(ordinal)].as_ref());
            if is_lost && before == Some(HolderState::Unbound) {
                prop_assert!(plan.must_write);
                prop_assert_eq!(state(plan.next.get(ordinal)), Some(HolderState::Bound));
            }
        }
    }

    #[test]
    fn a_plan_takes_nothing_by_hearsay(case in case()) {
        let plan = case.plan(&case.block(), &case.pods());
        for ordinal in &case.hearsay {
            let record = case.records[usize::from(*ordinal)].as_ref();
            if case.is_held(*ordinal) && record.and_then(Record::holder).is_none() {
                prop_assert_eq!(plan.next.get(*ordinal), record);
            }
        }
    }

    #[test]
    fn a_plan_changes_only_what_is_held_freed_or_claimed(case in case()) {
        let plan = case.plan(&case.block(), &case.pods());
        for (ordinal, record) in (0_u16..).zip(&case.records) {
            let is_claimed = plan.claims.iter().any(|(_, claimed)| *claimed == ordinal);
            let differs = plan.next.get(ordinal) != record.as_ref();
            prop_assert!(
                !differs || is_claimed || case.is_held(ordinal) || case.is_to_free(ordinal)
            );
            if case.is_to_free(ordinal) {
                prop_assert!(differs && plan.frees);
            }
            if differs && !plan.must_write && !plan.frees {
                // Brought up to date with the next write that there is a reason for.
                let (holding, _) = case.held[usize::from(ordinal)].as_ref().unwrap();
                let holder = record.as_ref().and_then(Record::holder).unwrap();
                prop_assert_eq!(&holder.epoch, &own());
                prop_assert_eq!(&holder.pod_uid, &holding.pod);
            }
        }
    }

    #[test]
    fn a_plan_that_was_written_leaves_nothing_to_write(case in case()) {
        let pods = case.pods();
        let plan = case.plan(&case.block(), &pods);
        let after = case.after(&plan, &pods);
        let again = after.plan(&after.block(), &[]);
        prop_assert!(!again.must_write && !again.frees, "{:?}", again);
        prop_assert_eq!(again.next, plan.next);
    }

    #[test]
    fn a_plan_answers_every_claim_once_and_serves_whom_it_can(case in case()) {
        let block = case.block();
        let plan = case.plan(&block, &case.pods());
        let served = plan.claims.iter().map(|(id, _)| *id);
        let mut ids: Vec<_> = served.chain(plan.unserved.clone()).chain(plan.shut.clone()).collect();
        ids.sort();
        let all = (0..case.asks.len() as u64).map(ClaimId);
        prop_assert!(ids.into_iter().eq(all));
        for id in &plan.shut {
            prop_assert!(!case.asks[id.0 as usize].is_admitted);
        }
        let rest = if case.flags[4] { Rest::SinceBefore(NOW) } else { Rest::None };
        for (id, ordinal) in &plan.claims {
            let ask = &case.asks[id.0 as usize];
            prop_assert!(ask.is_admitted);
            if ask.wanted.is_none() {
                prop_assert!(!block.is_kept(*ordinal));
                prop_assert!(!block.rests(&block.base, *ordinal, rest));
            }
        }
        let has_room = plan.next.available().any(|ordinal| {
            !block.is_kept(ordinal) && !block.rests(&plan.next, ordinal, rest)
        });
        let any_unserved = plan.unserved.iter().any(|id| case.asks[id.0 as usize].wanted.is_none());
        prop_assert!(!any_unserved || !has_room || plan.left_free);
    }
}

/// After a restored backup a block may keep for a reservation what an interface here has.
#[test]
fn a_reservation_takes_no_ordinal_that_is_held() {
    let attached = Holding {
        pod: uid(0),
        pod_name: "ns/pod".into(),
        state: Hold::Attached(Attachment {
            container: "c".into(),
            interface: "eth0".into(),
        }),
        reservation: String::new(),
    };
    let mut case = Case {
        usable: SIZE,
        records: vec![None; usize::from(SIZE)],
        held: vec![None; usize::from(SIZE)],
        asks: vec![Ask {
            wanted: Some(Wanted {
                block: KEY,
                ordinal: 2,
                reservation: "r0".into(),
            }),
            is_admitted: true,
        }],
        kept: (BTreeSet::new(), BTreeSet::new()),
        hearsay: BTreeSet::new(),
        flags: [true, false, false, false, false],
    };
    case.records[2] = Some(Record::Reserved("r0".into()));
    let served = case.plan(&case.block(), &case.pods());
    assert_eq!(served.claims, [(ClaimId(0), 2)]);
    case.held[2] = Some((attached, false));
    let held = case.plan(&case.block(), &case.pods());
    assert_eq!(held.unserved, [ClaimId(0)]);
    assert_eq!(held.next.get(2), Some(&Record::Reserved("r0".into())));
}
