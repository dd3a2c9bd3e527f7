//! Claims about blocks, by example and by random walks.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;
use crate::core::holder::{Holder, HolderState};
use crate::core::identity::EpochId;
use crate::core::objects::{AddressPool, FamilySpec, Uid};

fn pool(ranges: &[&str], exclude: &[&str]) -> Pool {
    let mut object = AddressPool::default();
    object.metadata.name = "p".into();
    object.spec.families = vec![FamilySpec {
        ranges: ranges.iter().map(ToString::to_string).collect(),
        exclude: exclude.iter().map(ToString::to_string).collect(),
        ..FamilySpec::default()
    }];
    Pool::parse(&object, Some(8)).unwrap()
}

fn holder(pod: &str) -> Record {
    Record::Pod(Holder {
        epoch: EpochId::new("machine", 3),
        pod_uid: Uid::new(pod),
        state: HolderState::Unbound,
        pod_name: "ns/name".into(),
        container: String::new(),
        reservation: String::new(),
    })
}

#[test]
fn a_taken_ordinal_is_not_claimed_again() {
    let mut block = Block::empty(&pool(&["10.0.0.0/29"], &[]), 0);
    block.claim(2, holder("a")).unwrap();
    assert_eq!(block.claim(2, holder("b")), Err(Taken(2)));
}

#[test]
fn a_tail_block_says_that_it_may_have_room_and_finds_appended_ranges() {
    let short = pool(&["10.0.0.0-10.0.0.9"], &[]);
    let mut block = Block::empty(&short, 1);
    block.claim(0, holder("a")).unwrap();
    block.claim(1, holder("b")).unwrap();
    assert_eq!(block.available_count(), 0);
    assert!(block.may_have_room());
    let object = block.write(&short, 1, Metadata::default(), "w".into());
    let long = pool(&["10.0.0.0-10.0.0.9", "10.0.1.0/29"], &[]);
    assert_eq!(Block::read(&object, &long).unwrap().available_count(), 6);
}

#[test]
fn an_excluded_ordinal_is_room_for_the_label_but_not_for_claims() {
    let masked = pool(&["10.0.0.0/29"], &["10.0.0.1"]);
    let mut block = Block::empty(&masked, 0);
    assert_eq!(block.claim(1, holder("a")), Err(Taken(1)));
    for ordinal in block.available().collect::<Vec<_>>() {
        block.claim(ordinal, holder("a")).unwrap();
    }
    assert!(block.may_have_room());
}

#[test]
fn cooling_ordinals_are_taken_last() {
    let mut block = Block::empty(&pool(&["10.0.0.0/29"], &[]), 0);
    block.set(0, Some(Record::Cooling(7)));
    assert_eq!(block.available().next(), Some(1));
    assert_eq!(block.available().last(), Some(0));
}

#[test]
fn a_block_of_a_pool_made_anew_is_refused() {
    let first = pool(&["10.0.0.0/29"], &[]);
    let object = Block::empty(&first, 0).write(&first, 0, Metadata::default(), "w".into());
    let mut second = first.clone();
    second.uid = Uid::new("another");
    assert_eq!(Block::read(&object, &second), Err(BlockError::Geometry));
    let widened = pool(&["10.0.0.8/29"], &[]);
    assert_eq!(Block::read(&object, &widened), Err(BlockError::Geometry));
}

#[test]
fn a_block_beyond_the_capacity_is_refused() {
    let pool = pool(&["10.0.0.0/29"], &[]);
    let mut object = Block::empty(&pool, 0).write(&pool, 0, Metadata::default(), "w".into());
    for index in [1_000, u64::from(u32::MAX), u64::MAX] {
        object.spec.index = index;
        object.spec.first = Vec::new();
        object.metadata.name = block_name(&pool.name, index);
        assert_eq!(Block::read(&object, &pool), Err(BlockError::Geometry));
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let pool = pool(&["10.0.0.0/29"], &[]);
    let mut object = Block::empty(&pool, 0).write(&pool, 0, Metadata::default(), "w".into());
    object.spec.schema = SCHEMA + 1;
    assert_eq!(
        Block::read(&object, &pool),
        Err(BlockError::NewerSchema(SCHEMA + 1))
    );
}

#[test]
fn broken_records_are_refused() {
    for text in [
        "x",
        "9 c",
        "1 c;1 c",
        "1 q",
        "1 u m",
        "1 s %zz",
        "1 u m 1 u n c r extra",
    ] {
        assert!(Block::read_records(text, 8, 8).is_err(), "{text}");
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let state = prop_oneof![
        Just(HolderState::Unbound),
        Just(HolderState::Bound),
        Just(HolderState::Releasing)
    ];
    prop_oneof![
        any::<u32>().prop_map(Record::Cooling),
        Just(Record::Excluded),
        Just(Record::Gateway),
        any::<String>().prop_map(Record::Reserved),
        (
            any::<(String, u64, String, String, String, String)>(),
            state
        )
            .prop_map(
                |((machine, number, uid, pod_name, container, reservation), state)| {
                    Record::Pod(Holder {
                        epoch: EpochId::new(&machine, number),
                        pod_uid: Uid::new(&uid),
                        state,
                        pod_name,
                        container,
                        reservation,
                    })
                }
            ),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in proptest::collection::vec(
        proptest::option::of(any_record().prop_map(std::sync::Arc::new)), 0..64))
    {
        let block = Block { usable: records.len() as u16, slots: records, other: None };
        let size = block.slots.len() as u16;
        prop_assert_eq!(Block::read_records(&block.records(), size, size).unwrap(), block);
    }

    #[test]
    fn reading_nonsense_does_not_panic(text in any::<String>(), size in 0_u16..70) {
        let _ = Block::read_records(&text, size, size);
    }
}

/// The model: ordinal to Pod, nothing else.
#[derive(Clone, Debug)]
struct Model {
    holders: std::collections::BTreeMap<u16, u8>,
    masked: std::collections::BTreeSet<u16>,
}

#[derive(Clone, Debug)]
enum Step {
    Claim(u8),
    Free(u8),
    Mask(u16),
    Unmask(u16),
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            holders: std::collections::BTreeMap::default(),
            masked: std::collections::BTreeSet::default(),
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        prop_oneof![
            4 => any::<u8>().prop_map(Step::Claim),
            2 => any::<u8>().prop_map(Step::Free),
            1 => (0_u16..8).prop_map(Step::Mask),
            1 => (0_u16..8).prop_map(Step::Unmask),
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step {
            Step::Claim(pod) => {
                let free = (0..8_u16)
                    .find(|o| !state.holders.contains_key(o) && !state.masked.contains(o));
                if let Some(ordinal) = free {
                    state.holders.insert(ordinal, *pod);
                }
            }
            Step::Free(pod) => state.holders.retain(|_, holder| holder != pod),
            Step::Mask(ordinal) => {
                if !state.holders.contains_key(ordinal) {
                    state.masked.insert(*ordinal);
                }
            }
            Step::Unmask(ordinal) => {
                state.masked.remove(ordinal);
            }
        }
        state
    }
}

struct RealBlock;

impl StateMachineTest for RealBlock {
    type SystemUnderTest = Block;
    type Reference = Model;

    fn init_test(_: &Model) -> Block {
        Block::empty(&pool(&["10.0.0.0/29"], &[]), 0)
    }

    fn apply(mut block: Block, _: &Model, step: Step) -> Block {
        match step {
            Step::Claim(pod) => {
                let free = block.available().next();
                if let Some(ordinal) = free {
                    block.claim(ordinal, holder(&pod.to_string())).unwrap();
                }
            }
            Step::Free(pod) => {
                let uid = Uid::new(&pod.to_string());
                let held: Vec<u16> = block
                    .iter()
                    .filter(|(_, record)| record.holder().is_some_and(|h| h.pod_uid == uid))
                    .map(|(ordinal, _)| ordinal)
                    .collect();
                for ordinal in held {
                    block.set(ordinal, None);
                }
            }
            Step::Mask(ordinal) => {
                if block.is_available(ordinal) {
                    block.set(ordinal, Some(Record::Excluded));
                }
            }
            Step::Unmask(ordinal) => {
                if block.get(ordinal) == Some(&Record::Excluded) {
                    block.set(ordinal, None);
                }
            }
        }
        block
    }

    fn check_invariants(block: &Block, model: &Model) {
        for ordinal in 0..8 {
            let real = block
                .get(ordinal)
                .and_then(Record::holder)
                .map(|h| h.pod_uid.to_string());
            assert_eq!(real, model.holders.get(&ordinal).map(ToString::to_string));
            let masked = block.get(ordinal) == Some(&Record::Excluded);
            assert_eq!(masked, model.masked.contains(&ordinal));
        }
        assert_eq!(
            block.available_count(),
            8 - model.holders.len() - model.masked.len()
        );
        assert_eq!(&Block::read_records(&block.records(), 8, 8).unwrap(), block);
    }
}

prop_state_machine! {
    #[test]
    fn a_block_behaves_like_a_map_of_ordinals(sequential 1..60 => RealBlock);
}
