//! Plots as self-contained SVG: Pods Running over time and ADD latency by percentile. They use a
//! small writer of our own, because a plotting crate computes its layout in floats and asks the
//! host for fonts, so two machines could give two files.

mod frame;
mod latency;
mod running;

pub use self::latency::add_latency;
pub use self::running::{Mark, RunningPlot};
use crate::quantity::seconds;
use drydock_traces::run_record::RunRecord;

/// What a legend says about a run: allocator, addresses, stack, seed, and what it took.
fn legend(record: &RunRecord) -> String {
    let (scenario, outcome) = (&record.scenario, &record.outcome);
    let end = match outcome.all_running_s {
        Some(all) => format!("all {} after {}", outcome.pods_total, seconds(all.ns)),
        None => format!("{} of {}", outcome.pods_running, outcome.pods_total),
    };
    format!(
        "{} · {} · {} · {} · seed {} · {end}",
        scenario.allocator, scenario.addresses, scenario.stack, scenario.profile, record.seed
    )
}

#[cfg(test)]
mod tests;
