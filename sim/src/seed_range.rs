//! Ranges of seeds as people write them: `A..B` excludes B.

use std::str::FromStr;

use drydock_traces::seed::{Seed, SeedError};

/// A half-open range of seeds, `A..B` (B excluded); a single seed is a range of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedRange {
    /// First seed.
    pub first: u64,
    /// One past the last seed.
    pub end: u64,
}

impl SeedRange {
    /// Number of seeds.
    pub fn count(self) -> u64 {
        self.end - self.first
    }
}

/// A text that is not a range of seeds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedRangeError {
    /// One of the two ends is not a seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The range is empty.
    #[error("`{given}` is empty: write A..B with A < B (B is excluded), for example 0..1000")]
    Empty {
        /// What was given.
        given: String,
    },
}

impl FromStr for SeedRange {
    type Err = SeedRangeError;

    fn from_str(text: &str) -> Result<Self, SeedRangeError> {
        let (first, end) = if let Some((first, end)) = text.split_once("..") {
            (first.parse::<Seed>()?.0, end.parse::<Seed>()?.0)
        } else {
            let Seed(seed) = text.parse()?;
            (seed, seed.saturating_add(1))
        };
        if first < end {
            Ok(SeedRange { first, end })
        } else {
            Err(SeedRangeError::Empty {
                given: text.to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_excludes_its_end_and_is_never_empty() {
        assert_eq!("3..5".parse::<SeedRange>().map(SeedRange::count), Ok(2));
        assert_eq!("7".parse::<SeedRange>().map(SeedRange::count), Ok(1));
        assert!("5..5".parse::<SeedRange>().is_err());
        assert!("5..x".parse::<SeedRange>().is_err());
    }
}
