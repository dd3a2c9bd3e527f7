//! Tests of the random streams.

use std::time::Duration;

use proptest::prelude::*;

use super::{QuantileError, QuantileTable, Streams};

/// Draws as a world of that many Pods would, each from streams of its own.
fn world(pods: u64) -> Vec<super::Draw> {
    let (streams, ledger) = Streams::with_ledger(42);
    for pod in 0..pods {
        let mut latency = streams.stream("pod", pod, "latency");
        let mut fate = streams.stream("pod", pod, "fate");
        for _ in 0..=pod {
            latency.below(100);
        }
        fate.chance(1, 3);
    }
    ledger.draws()
}

#[test]
fn another_entity_leaves_all_other_draws_as_they_were() {
    let mut larger = world(11);
    larger.retain(|draw| draw.key.entity != 10);
    assert_eq!(larger, world(10));
}

#[test]
fn another_draw_leaves_all_other_streams_as_they_were() {
    let streams = Streams::new(9);
    let expected = streams.stream("b", 0, "x").u64();
    streams.stream("a", 0, "x").u64();
    streams.stream("b", 0, "y").u64();
    assert_eq!(streams.stream("b", 0, "x").u64(), expected);
}

#[test]
fn each_part_of_the_name_changes_the_stream() {
    let streams = Streams::new(1);
    let first = |seed, component, entity, purpose| {
        Streams::new(seed).stream(component, entity, purpose).u64()
    };
    let base = streams.stream("a", 0, "x").u64();
    for other in [
        first(2, "a", 0, "x"),
        first(1, "b", 0, "x"),
        first(1, "a", 1, "x"),
        first(1, "a", 0, "y"),
    ] {
        assert_ne!(other, base);
    }
}

#[test]
fn the_generator_is_the_same_on_every_build() {
    let mut stream = Streams::new(0).stream("", 0, "");
    let drawn: Vec<String> = (0..3).map(|_| format!("{:016x}", stream.u64())).collect();
    expect_test::expect![[r#"
        [
            "a4ef6e4be0849eef",
            "a5a2cfabb24ba0b7",
            "d7630b101538a058",
        ]
    "#]]
    .assert_debug_eq(&drawn);
}

#[test]
fn each_kind_of_draw_is_the_same_on_every_build_and_release_of_rand() {
    let stream = |purpose| Streams::new(7).stream("pinned", 0, purpose);
    let below: Vec<u64> = (0..6)
        .map(|n| stream("below").below(10 << (8 * n)))
        .collect();
    let mut chances = stream("chance");
    let chances: String = (0..24)
        .map(|_| if chances.chance(1, 3) { '1' } else { '0' })
        .collect();
    let letters: Vec<char> = ('a'..='z').collect();
    let mut picks = stream("pick");
    let picks: String = (0..24).map(|_| picks.pick(&letters)).collect();
    let mut shuffled = letters.clone();
    stream("shuffle").shuffle(&mut shuffled);
    let shuffled: String = shuffled.into_iter().collect();
    let table = QuantileTable::new(vec![(0, 0), (900_000_000, 9), (1_000_000_000, 999)]).unwrap();
    let mut quantiles = stream("quantile");
    let quantiles: Vec<u64> = (0..12).map(|_| quantiles.quantile(&table)).collect();
    let text = format!("{below:?}\n{chances}\n{picks}\n{shuffled}\n{quantiles:?}\n");
    expect_test::expect![[r"
        [6, 1608, 411765, 105412024, 26985478335, 6908282453867]
        000000100101000100000011
        rlmddvvchvgtvbtolsqnfony
        dkogmzxyplutiajrbcnvwhesqf
        [3, 7, 7, 308, 2, 3, 5, 0, 6, 6, 6, 5]
    "]]
    .assert_eq(&text);
}

#[test]
fn one_question_is_one_draw() {
    let mut stream = Streams::new(7).stream("pinned", 0, "count");
    stream.pick(&[1, 2, 3]);
    stream.below(5);
    stream.chance(1, 2);
    stream.between(3..=9);
    assert_eq!(stream.drawn(), 4);
}

#[test]
fn closed_ranges_reach_both_ends() {
    let mut stream = Streams::new(3).stream("test", 0, "ends");
    let drawn: std::collections::BTreeSet<u64> = (0..100).map(|_| stream.between(4..=6)).collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [4, 5, 6]);
    stream.between(0..=u64::MAX);
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(stream.duration(nanosecond..=nanosecond), nanosecond);
}

#[test]
fn below_is_uniform() {
    let mut stream = Streams::new(3).stream("test", 0, "uniform");
    let mut counts = [0_u64; 6];
    for _ in 0..60_000 {
        counts[stream.below(6) as usize] += 1;
    }
    // Five standard deviations of a binomial of 60,000 at 1/6 are 457.
    assert!(
        counts.iter().all(|count| count.abs_diff(10_000) < 457),
        "{counts:?}"
    );
}

#[test]
fn a_shuffle_keeps_the_items() {
    let mut items: Vec<u64> = (0..50).collect();
    Streams::new(5)
        .stream("test", 0, "shuffle")
        .shuffle(&mut items);
    assert!(!items.is_sorted());
    items.sort_unstable();
    assert!(items.into_iter().eq(0..50));
}

#[test]
fn quantiles_interpolate_between_points() {
    let table = QuantileTable::new(vec![(0, 10), (500_000_000, 20), (1_000_000_000, 120)]).unwrap();
    let at = |parts| table.value_at(parts);
    assert_eq!(
        [at(0), at(250_000_000), at(500_000_000), at(750_000_000)],
        [10, 15, 20, 70]
    );
    assert_eq!(at(1_000_000_000), 120);
}

#[test]
fn quantile_tables_out_of_order_are_refused() {
    assert_eq!(QuantileTable::new(vec![(0, 1)]), Err(QuantileError::Ends));
    let falling = vec![(0, 5), (10, 4), (1_000_000_000, 6)];
    assert_eq!(
        QuantileTable::new(falling),
        Err(QuantileError::Decreasing { index: 1 })
    );
    let text = serde_json::from_str::<QuantileTable>("[[0,5],[1000000000,9]]").unwrap();
    assert_eq!(text.value_at(500_000_000), 7);
}

proptest! {
    #[test]
    fn draws_stay_in_their_range(seed: u64, low in 0_u64..1000, span in 0_u64..1000) {
        let mut stream = Streams::new(seed).stream("test", 0, "range");
        for _ in 0..20 {
            let value = stream.between(low..=low + span);
            prop_assert!((low..=low + span).contains(&value));
        }
    }
}
