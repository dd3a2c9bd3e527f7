//! Tests of the event queue.

use std::time::Duration;

use proptest::prelude::*;
use serde::Serialize;

use super::{Event, Lane, Queue, TieBreak};
use crate::time::SimInstant;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Numbered {
    lane: u64,
    number: usize,
}

impl Event for Numbered {
    fn lane(&self) -> Lane {
        Lane::new("test", self.lane)
    }
}

fn at(nanos: u64) -> SimInstant {
    SimInstant::from_nanos(nanos)
}

fn drain(queue: &mut Queue<Numbered>) -> Vec<(u64, Numbered)> {
    std::iter::from_fn(|| queue.pop())
        .map(|(at, event)| (at.as_nanos(), event))
        .collect()
}

fn order_of(lanes: &[u64], tie_break: TieBreak) -> Vec<Numbered> {
    let mut queue = Queue::new(tie_break);
    for (number, &lane) in lanes.iter().enumerate() {
        queue.at(at(9), Numbered { lane, number });
    }
    drain(&mut queue)
        .into_iter()
        .map(|(_, event)| event)
        .collect()
}

proptest! {
    #[test]
    fn events_leave_by_time_then_by_sequence(times in prop::collection::vec(0_u64..20, 0..200)) {
        let mut queue = Queue::new(TieBreak::Fifo);
        for (number, &time) in times.iter().enumerate() {
            queue.at(at(time), Numbered { lane: 0, number });
        }
        let mut expected: Vec<_> = times
            .iter()
            .enumerate()
            .map(|(number, &time)| (time, Numbered { lane: 0, number }))
            .collect();
        expected.sort_by_key(|(time, event)| (*time, event.number));
        prop_assert_eq!(drain(&mut queue), expected);
    }

    #[test]
    fn interleaved_pushes_and_pops_agree_with_a_sorted_list(
        steps in prop::collection::vec((0_u64..1000, 0_usize..4), 1..300),
    ) {
        let mut queue = Queue::new(TieBreak::Fifo);
        let mut model: Vec<(u64, usize)> = Vec::new();
        for (number, (delay, pops)) in steps.into_iter().enumerate() {
            queue.after(Duration::from_nanos(delay), Numbered { lane: 0, number });
            model.push((queue.now().as_nanos() + delay, number));
            for _ in 0..pops {
                model.sort_unstable();
                let expected = if model.is_empty() { None } else { Some(model.remove(0)) };
                let taken = queue.pop().map(|(at, event)| (at.as_nanos(), event.number));
                prop_assert_eq!(taken, expected);
            }
            prop_assert_eq!(queue.len(), model.len());
        }
    }

    #[test]
    fn keyed_ties_keep_each_lane_in_order(lanes in prop::collection::vec(0_u64..6, 0..60), seed: u64) {
        let order = order_of(&lanes, TieBreak::Keyed { seed });
        for lane in 0..6 {
            let numbers: Vec<_> =
                order.iter().filter(|event| event.lane == lane).map(|event| event.number).collect();
            prop_assert!(numbers.is_sorted());
        }
    }
}

#[test]
fn keyed_ties_differ_by_seed_and_repeat_with_it() {
    let lanes: Vec<u64> = (0..16).collect();
    let order = |seed| order_of(&lanes, TieBreak::Keyed { seed });
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn a_new_lane_leaves_the_order_of_the_others() {
    let lanes: Vec<u64> = (0..16).collect();
    let more: Vec<u64> = (0..17).collect();
    let lane_order = |lanes: &[u64]| -> Vec<u64> {
        order_of(lanes, TieBreak::Keyed { seed: 7 })
            .iter()
            .map(|event| event.lane)
            .collect()
    };
    let mut with_guest = lane_order(&more);
    with_guest.retain(|lane| *lane != 16);
    assert_eq!(with_guest, lane_order(&lanes));
}

#[test]
fn slots_are_reused() {
    let mut queue = Queue::new(TieBreak::Fifo);
    for number in 0..1000 {
        queue.soon(Numbered { lane: 0, number });
        queue.soon(Numbered { lane: 1, number });
        queue.pop();
        queue.pop();
    }
    assert_eq!(
        (queue.events.len(), queue.peak(), queue.popped()),
        (2, 2, 2000)
    );
}

#[test]
fn an_event_in_the_past_is_refused() {
    let mut queue = Queue::new(TieBreak::Fifo);
    queue.at(at(5), Numbered { lane: 0, number: 0 });
    queue.pop();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        queue.at(at(4), Numbered { lane: 0, number: 1 });
    }));
    assert!(refused.is_err());
}
