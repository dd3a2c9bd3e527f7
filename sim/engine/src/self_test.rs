//! Proof, before a run, that the sources of time and randomness in this process are simulated.
//!
//! Each probe runs in fresh runtimes in fresh threads: with one seed twice, where it must agree,
//! and with another seed, where it must differ. That a source is seeded shows in the second half:
//! a constant would agree as well. This crate links no `select!` with a random order; a caller
//! that does hands in a probe of its own. What no linked code uses is left to the dependency test.

use std::{
    fmt,
    hash::BuildHasher,
    hint::black_box,
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{runtime::run, stream::Streams};

/// A source of time or randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The keys of std's hash maps.
    HashKeys,
    /// `std::time::Instant`.
    Instant,
    /// `std::time::SystemTime`.
    SystemTime,
    /// The streams of the engine.
    Streams,
    /// A source that the caller links and probes itself.
    Linked(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::HashKeys => "std::hash::RandomState",
            Self::Instant => "std::time::Instant",
            Self::SystemTime => "std::time::SystemTime",
            Self::Streams => "drydock_engine::Streams",
            Self::Linked(name) => name,
        })
    }
}

/// A source that is not the simulator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Leak {
    /// Two runs of one seed differ.
    #[error("{0} differs between two runs of one seed: it is not intercepted")]
    Differs(Source),
    /// Runs of two seeds agree.
    #[error("{0} is the same for two seeds: it is not seeded")]
    Ignores(Source),
    /// A clock moved while only the wall clock did.
    #[error("{0} follows the wall clock: it is not intercepted")]
    Follows(Source),
}

/// Wall time that passes inside the clock probe; a clock that follows it moves by as much.
const WALL_PAUSE: Duration = Duration::from_millis(2);

/// A source outside this crate, such as the random order of a `select!` that linked code uses: its
/// name and a draw from it, which must agree between two runs of one seed.
pub type LinkedSource = (&'static str, fn() -> u64);

/// What one run sees.
struct Probe {
    hash_keys: u64,
    system_nanos: u128,
    instant_moved: Duration,
    system_moved: Duration,
    stream: u64,
    linked: Vec<u64>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "reads the clocks to prove that they are simulated"
)]
#[expect(
    clippy::disallowed_types,
    reason = "draws hash keys to prove that they are seeded"
)]
fn probe(seed: u64, linked: &[LinkedSource]) -> Probe {
    run(seed, async |runtime| {
        let (instant, system) = (Instant::now(), SystemTime::now());
        spin_for_wall_time();
        Probe {
            hash_keys: std::hash::RandomState::new().hash_one(0_u64),
            system_nanos: system
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |past| past.as_nanos()),
            instant_moved: Instant::now().saturating_duration_since(instant),
            system_moved: SystemTime::now()
                .duration_since(system)
                .unwrap_or(WALL_PAUSE),
            stream: Streams::new(runtime.seed())
                .stream("self-test", 0, "probe")
                .u64(),
            linked: linked.iter().map(|(_, draw)| draw()).collect(),
        }
    })
}

/// Lets the wall clock advance. A sleep is the one pause that needs no clock: madsim does not
/// intercept it, and here nothing else waits.
#[expect(
    clippy::disallowed_methods,
    reason = "lets wall time pass to see who follows it"
)]
fn spin_for_wall_time() {
    thread::sleep(black_box(WALL_PAUSE));
}

/// Checks every source.
///
/// # Errors
///
/// The first [`Leak`], by the order of [`Source`].
pub fn self_test(linked: &[LinkedSource]) -> Result<(), Leak> {
    let (first, second) = (probe(1, linked), probe(1, linked));
    compare(&first, &second, &probe(2, linked))?;
    for (index, (name, _)) in linked.iter().enumerate() {
        if first.linked[index] != second.linked[index] {
            return Err(Leak::Differs(Source::Linked(name)));
        }
    }
    Ok(())
}

fn compare(first: &Probe, second: &Probe, other: &Probe) -> Result<(), Leak> {
    let seeded = |source, values: [u128; 3]| {
        if values[0] != values[1] {
            Err(Leak::Differs(source))
        } else if values[0] == values[2] {
            Err(Leak::Ignores(source))
        } else {
            Ok(())
        }
    };
    seeded(
        Source::HashKeys,
        [first.hash_keys, second.hash_keys, other.hash_keys].map(u128::from),
    )?;
    for run in [first, second, other] {
        if run.instant_moved >= WALL_PAUSE {
            return Err(Leak::Follows(Source::Instant));
        }
        if run.system_moved >= WALL_PAUSE {
            return Err(Leak::Follows(Source::SystemTime));
        }
    }
    seeded(
        Source::SystemTime,
        [first.system_nanos, second.system_nanos, other.system_nanos],
    )?;
    seeded(
        Source::Streams,
        [first.stream, second.stream, other.stream].map(u128::from),
    )
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use super::{Leak, LinkedSource, Probe, Source, WALL_PAUSE, compare, self_test};

    fn sound(salt: u64) -> Probe {
        Probe {
            hash_keys: salt,
            system_nanos: u128::from(salt),
            instant_moved: Duration::ZERO,
            system_moved: Duration::ZERO,
            stream: salt,
            linked: Vec::new(),
        }
    }

    #[test]
    fn every_source_of_this_process_is_intercepted() {
        assert_eq!(self_test(&[]), Ok(()));
    }

    #[test]
    fn a_linked_source_that_differs_is_named() {
        static DRAWS: AtomicU64 = AtomicU64::new(0);
        let leaky: LinkedSource = ("counter", || DRAWS.fetch_add(1, Ordering::Relaxed));
        let sound: LinkedSource = ("constant", || 4);
        let leak = Leak::Differs(Source::Linked("counter"));
        assert_eq!(self_test(&[sound, leaky]), Err(leak));
        assert_eq!(self_test(&[sound]), Ok(()));
    }

    #[test]
    fn a_leak_names_its_source() {
        let verdict = |change: fn(&mut Probe)| {
            let mut second = sound(1);
            change(&mut second);
            compare(&sound(1), &second, &sound(2))
        };
        assert_eq!(verdict(|_| ()), Ok(()));
        assert_eq!(
            verdict(|probe| probe.hash_keys = 9),
            Err(Leak::Differs(Source::HashKeys))
        );
        assert_eq!(
            verdict(|probe| probe.stream = 9),
            Err(Leak::Differs(Source::Streams))
        );
        assert_eq!(
            verdict(|probe| probe.system_nanos = 9),
            Err(Leak::Differs(Source::SystemTime))
        );
        assert_eq!(
            verdict(|probe| probe.instant_moved = WALL_PAUSE),
            Err(Leak::Follows(Source::Instant))
        );
        assert_eq!(
            verdict(|probe| probe.system_moved = WALL_PAUSE),
            Err(Leak::Follows(Source::SystemTime))
        );
        assert_eq!(
            compare(&sound(1), &sound(1), &sound(1)),
            Err(Leak::Ignores(Source::HashKeys))
        );
    }

    #[test]
    fn clocks_outside_a_run_would_be_caught() {
        // The probe itself, without a runtime around it, sees the real clock move.
        #[expect(
            clippy::disallowed_methods,
            reason = "the real clock is the point here"
        )]
        let begin = std::time::Instant::now();
        super::spin_for_wall_time();
        assert!(begin.elapsed() >= WALL_PAUSE);
    }
}
