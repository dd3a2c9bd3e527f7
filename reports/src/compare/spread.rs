//! Median and percentiles of a few values, of which some may be forever.

use serde::Serialize;

/// Median, 5th and 95th percentile by nearest rank; none is forever, and larger than any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Values.
    pub count: usize,
    /// Values that are forever.
    pub never: usize,
    /// 5 % of them are not larger.
    pub p5: Option<u64>,
    /// Half of them are not larger; of an even number the mean of the two in the middle.
    pub median: Option<u64>,
    /// 95 % of them are not larger.
    pub p95: Option<u64>,
}

impl Spread {
    /// The spread of some values, in any order.
    pub fn of(values: impl IntoIterator<Item = Option<u64>>) -> Self {
        let mut sorted: Vec<u64> = values
            .into_iter()
            .map(|value| value.unwrap_or(u64::MAX))
            .collect();
        sorted.sort_unstable();
        let count = sorted.len();
        if count == 0 {
            return Self::default();
        }
        let finite = |value: u64| (value < u64::MAX).then_some(value);
        let rank = |percent: usize| {
            let rank = (count * percent).div_ceil(100).max(1);
            finite(sorted[rank - 1])
        };
        let (low, high) = (sorted[(count - 1) / 2], sorted[count / 2]);
        let median = finite(high).map(|high| low.midpoint(high));
        let (p5, p95) = (rank(5), rank(95));
        let in_order = [p5, median, p95].map(|value| value.unwrap_or(u64::MAX));
        assert!(in_order.is_sorted(), "for ever is larger than any number");
        Self {
            count,
            never: sorted.iter().filter(|value| **value == u64::MAX).count(),
            p5,
            median,
            p95,
        }
    }

    /// The spread of numbers.
    pub fn of_numbers(values: impl IntoIterator<Item = u64>) -> Self {
        Self::of(values.into_iter().map(Some))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank_and_for_ever_is_last() {
        let all = Spread::of_numbers((1..=100).rev());
        assert_eq!((all.p5, all.median, all.p95), (Some(5), Some(50), Some(95)));
        let few = Spread::of([None, Some(3), Some(1), Some(9)]);
        assert_eq!((few.p5, few.median, few.p95), (Some(1), Some(6), None));
        assert_eq!((few.count, few.never), (4, 1));
        let never = Spread::of([None, None, Some(3)]);
        assert_eq!((never.p5, never.median), (Some(3), None));
        assert_eq!(Spread::of([]).median, None);
    }
}
