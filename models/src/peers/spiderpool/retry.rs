//! The waits between attempts on a pool after a conflict.
//! Source: spiderpool v0.8.0 `pkg/utils/retry/retry.go:14-45`,
//! `vendor/k8s.io/apimachinery/pkg/util/wait/backoff.go:477-502`.

use std::time::Duration;

use drydock_engine::stream::Stream;

use super::parameters::SpiderpoolParameters;

/// The wait after the n-th attempt (1-based): base × 1.5^(n-1), and up to a tenth of it on top.
pub(super) fn wait_after(
    attempt: u64,
    parameters: &SpiderpoolParameters,
    draws: &mut Stream,
) -> Duration {
    let mut wait = parameters.retry_base;
    for _ in 1..attempt {
        wait = wait * 3 / 2;
    }
    let percent = u32::try_from(parameters.retry_jitter_percent).unwrap_or(u32::MAX);
    draws.duration(wait..=wait + wait * percent / 100)
}

#[cfg(test)]
mod tests {
    use drydock_engine::stream::Streams;

    use super::*;
    use crate::parameters::Table;

    #[test]
    fn four_waits_sum_up_to_eighty_one_to_ninety_milliseconds() {
        let parameters = SpiderpoolParameters::read(&Table::released()).unwrap();
        let mut draws = Streams::new(1).stream("test", 0, "jitter");
        for _ in 0..100 {
            let waits: Vec<f64> = (1..=4)
                .map(|attempt| wait_after(attempt, &parameters, &mut draws).as_secs_f64() * 1e3)
                .collect();
            for (wait, low) in waits.iter().zip([10.0, 15.0, 22.5, 33.75]) {
                assert!((low..=low * 1.1 + 1e-6).contains(wait), "{waits:?}");
            }
            let sum: f64 = waits.iter().sum();
            assert!((81.25..=89.4).contains(&sum), "{sum}");
        }
    }
}
