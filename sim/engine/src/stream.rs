//! Random streams split by (seed, component, entity, purpose): `rand` over ChaCha8, integers only.
//!
//! Each stream has its own key, so adding an entity, a purpose or a draw in one stream leaves all
//! draws of the others unchanged. Runs of two allocators on one seed are therefore paired.
//!
//! `rand` defines what a draw means, and its values may change from one release to the next. So the
//! tests pin one of each kind, and the version is locked.

use std::{
    convert::Infallible,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{
    Rng as _, RngExt as _, SeedableRng as _, TryRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::{hash::fnv64, time::nanos};

/// What a stream is for: the three parts of its name that follow the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey {
    /// The component, such as `kubelet`.
    pub component: &'static str,
    /// The entity within it, an index or [`Streams::entity`] of a name.
    pub entity: u64,
    /// What the draws decide.
    pub purpose: &'static str,
}

/// One draw, as a [`Ledger`] holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Draw {
    /// The stream.
    pub key: StreamKey,
    /// The position of the draw in its stream, from 0.
    pub index: u64,
    /// The 64 bits drawn.
    pub value: u64,
}

/// A record of every draw of a run, for tests of pairing.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Vec<Draw>>>);

impl Ledger {
    /// All draws so far, sorted by stream and position.
    pub fn draws(&self) -> Vec<Draw> {
        let mut draws = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        draws.sort_unstable();
        draws
    }

    fn record(&self, draw: Draw) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(draw);
    }
}

/// The source of all streams of a run.
#[derive(Clone, Debug)]
pub struct Streams {
    seed: u64,
    ledger: Option<Ledger>,
}

impl Streams {
    /// The streams of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, ledger: None }
    }

    /// The streams of a seed, with every draw written down.
    pub fn with_ledger(seed: u64) -> (Self, Ledger) {
        let ledger = Ledger::default();
        (
            Self {
                seed,
                ledger: Some(ledger.clone()),
            },
            ledger,
        )
    }

    /// The seed of the run.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The stream of that name, from its start.
    ///
    /// Two calls with one name give the same draws: call once and keep the stream.
    pub fn stream(&self, component: &'static str, entity: u64, purpose: &'static str) -> Stream {
        let mut key = [0; 32];
        let parts = [
            self.seed,
            fnv64(component.as_bytes()),
            entity,
            fnv64(purpose.as_bytes()),
        ];
        for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        Stream {
            rng: ChaCha8Rng::from_seed(key),
            key: StreamKey {
                component,
                entity,
                purpose,
            },
            drawn: 0,
            ledger: self.ledger.clone(),
        }
    }

    /// A stable entity number for a name.
    pub fn entity(name: &str) -> u64 {
        fnv64(name.as_bytes())
    }
}

/// One random stream.
#[derive(Clone, Debug)]
pub struct Stream {
    rng: ChaCha8Rng,
    key: StreamKey,
    drawn: u64,
    ledger: Option<Ledger>,
}

impl Stream {
    /// 64 uniform bits.
    pub fn u64(&mut self) -> u64 {
        let value = self.rng.next_u64();
        if let Some(ledger) = &self.ledger {
            ledger.record(Draw {
                key: self.key,
                index: self.drawn,
                value,
            });
        }
        self.drawn += 1;
        value
    }

    /// A uniform integer in `0..n`.
    ///
    /// Panics: when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a draw needs at least one outcome");
        self.random_range(0..n)
    }

    /// A uniform integer of a closed range.
    ///
    /// Panics: when the range is empty.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        assert!(!range.is_empty(), "the range {range:?} is empty");
        self.random_range(range)
    }

    /// A uniform duration of a closed range, in whole nanoseconds.
    pub fn duration(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (low, high) = range.into_inner();
        Duration::from_nanos(self.between(nanos(low)..=nanos(high)))
    }

    /// Whether an event of probability `num/den` happens.
    ///
    /// Panics: when the ratio is above one or `den` is 0.
    pub fn chance(&mut self, num: u64, den: u64) -> bool {
        assert!(num <= den, "the probability {num}/{den} is above one");
        self.below(den) < num
    }

    /// A uniform element.
    ///
    /// Panics: when `items` is empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        items
            .choose(self)
            .expect("a draw needs at least one outcome")
    }

    /// Permutes uniformly.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(self);
    }

    /// A value of the distribution that the table describes.
    pub fn quantile(&mut self, table: &QuantileTable) -> u64 {
        table.value_at(self.below(QuantileTable::WHOLE))
    }

    /// Draws taken so far.
    pub fn drawn(&self) -> u64 {
        self.drawn
    }
}

/// One draw of 64 bits each, whatever is asked for: a stream's position is its number of draws.
impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.u64().to_le_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        Ok(())
    }
}

/// A distribution as integer quantiles, linear between the points.
///
/// Shape: points of (parts per billion, value), both non-decreasing, the first at 0 and the last at
/// one billion. Units: those of the values, which the owner names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>")]
pub struct QuantileTable {
    points: Vec<(u64, u64)>,
}

/// Why a quantile table was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantileError {
    /// The ends are not at 0 and at one billion parts.
    #[error("a quantile table runs from 0 to 1000000000 parts per billion")]
    Ends,
    /// A point lies below its predecessor.
    #[error("point {index} of the quantile table lies below its predecessor")]
    Decreasing {
        /// The index of the offending point, from 0.
        index: usize,
    },
}

impl QuantileTable {
    /// One, in parts per billion.
    pub const WHOLE: u64 = 1_000_000_000;

    /// Checks and keeps the points.
    ///
    /// # Errors
    ///
    /// See [`QuantileError`].
    pub fn new(points: Vec<(u64, u64)>) -> Result<Self, QuantileError> {
        let ends = (
            points.first().map(|point| point.0),
            points.last().map(|point| point.0),
        );
        if points.len() < 2 || ends != (Some(0), Some(Self::WHOLE)) {
            return Err(QuantileError::Ends);
        }
        for (index, pair) in points.windows(2).enumerate() {
            if pair[1].0 <= pair[0].0 || pair[1].1 < pair[0].1 {
                return Err(QuantileError::Decreasing { index: index + 1 });
            }
        }
        Ok(Self { points })
    }

    /// The value at a position of `0..=WHOLE` parts per billion, rounded down.
    pub fn value_at(&self, parts: u64) -> u64 {
        let after = self.points.partition_point(|point| point.0 <= parts);
        let Some(&(right_parts, right)) = self.points.get(after) else {
            return self.points[self.points.len() - 1].1;
        };
        let (left_parts, left) = self.points[after - 1];
        let rise = u128::from(right - left) * u128::from(parts - left_parts);
        left + (rise / u128::from(right_parts - left_parts)) as u64
    }
}

impl TryFrom<Vec<(u64, u64)>> for QuantileTable {
    type Error = QuantileError;

    fn try_from(points: Vec<(u64, u64)>) -> Result<Self, QuantileError> {
        Self::new(points)
    }
}

#[cfg(test)]
mod tests;
