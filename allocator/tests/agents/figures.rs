//! What a run cost, as printed.

use std::time::Duration;

use crate::node::Node;

/// The value below which `per_mille` of the times lie.
fn quantile(sorted: &[Duration], per_mille: usize) -> Duration {
    let rank = (sorted.len() * per_mille).div_ceil(1000).max(1) - 1;
    sorted.get(rank).copied().unwrap_or_default()
}

/// Requests of an agent to the apiserver since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requests {
    /// Creates and updates of blocks and of the incarnation.
    pub writes: u64,
    /// Of these, lost races.
    pub conflicts: u64,
    /// Reads and lists.
    pub reads: u64,
}

impl Requests {
    /// As the agents' pages state them.
    pub(crate) fn of<'n>(nodes: impl IntoIterator<Item = &'n Node>) -> Self {
        let mut sum = Self::default();
        for node in nodes {
            for line in node.page("/metrics").1.lines() {
                let Some(rest) = line.strip_prefix("berth_api_requests_total{") else {
                    continue;
                };
                let (labels, count) = rest.split_once("} ").unwrap();
                let count: u64 = count.parse().unwrap();
                if labels.contains(r#"verb="create""#) || labels.contains(r#"verb="update"#) {
                    sum.writes += count;
                    let lost = labels.contains("conflict") || labels.contains("already_exists");
                    sum.conflicts += if lost { count } else { 0 };
                } else {
                    sum.reads += count;
                }
            }
        }
        sum
    }
}

impl core::ops::Sub for Requests {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            writes: self.writes - before.writes,
            conflicts: self.conflicts - before.conflicts,
            reads: self.reads - before.reads,
        }
    }
}

/// One line: the times of the ADDs and what they cost.
pub(crate) fn print(what: &str, mut times: Vec<Duration>, requests: Requests) {
    times.sort_unstable();
    let count = times.len().max(1) as u64;
    let ms = |per_mille| quantile(&times, per_mille).as_millis();
    let per_add = |n: u64| format!("{}.{:02}", n / count, n * 100 / count % 100);
    println!(
        "{what}: {} ADDs, p50 {} ms, p99 {} ms, longest {} ms; per ADD {} writes, {} conflicts, \
         {} reads",
        times.len(),
        ms(500),
        ms(990),
        ms(1000),
        per_add(requests.writes),
        per_add(requests.conflicts),
        per_add(requests.reads),
    );
}

#[test]
fn quantiles_are_the_nearest_rank() {
    let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
    let ms = |per_mille| quantile(&times, per_mille).as_millis();
    assert_eq!((ms(500), ms(990), ms(1000)), (100, 198, 200));
}
