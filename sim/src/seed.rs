//! Seeds and seed ranges as people write them: decimal, `0x` hexadecimal, or a 40-digit commit.

use std::fmt;
use std::str::FromStr;

/// A seed. Prints as `0x` hexadecimal with 16 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed(pub u64);

/// A text that is no seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{given}` is no seed: write a number from 0 to 18446744073709551615, the same in \
     hexadecimal (0x…), or 40 hexadecimal digits of a commit (the first 16 count)"
)]
pub struct SeedError {
    given: String,
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let is_hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
        let parsed = if let Some(digits) = text.strip_prefix("0x") {
            is_hex(digits).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
        } else if text.len() == 40 && is_hex(text) {
            u64::from_str_radix(&text[..16], 16).ok()
        } else if text.bytes().all(|b| b.is_ascii_digit()) {
            text.parse().ok()
        } else {
            None
        };
        parsed.map(Seed).ok_or_else(|| SeedError { given: text.to_owned() })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

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

/// A text that is no range of seeds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeedRangeError {
    /// One of the two ends is no seed.
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
        let (first, end) = match text.split_once("..") {
            Some((first, end)) => (first.parse::<Seed>()?.0, end.parse::<Seed>()?.0),
            None => {
                let Seed(seed) = text.parse()?;
                (seed, seed.saturating_add(1))
            }
        };
        if first < end {
            Ok(SeedRange { first, end })
        } else {
            Err(SeedRangeError::Empty { given: text.to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_decimal_hexadecimal_or_a_commit() {
        for (text, seed) in [
            ("0", 0),
            ("18446744073709551615", u64::MAX),
            ("0xff", 255),
            ("0123456789abcdef0123456789abcdef01234567", 0x0123_4567_89ab_cdef),
        ] {
            assert_eq!(text.parse(), Ok(Seed(seed)), "{text}");
        }
    }

    #[test]
    fn what_is_no_seed_is_named_with_what_is_allowed() {
        for text in ["", "-1", "abc", "0x", "0xg", "18446744073709551616", "1.5", "+1"] {
            let error = text.parse::<Seed>().expect_err(text).to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("0x"), "{error}");
        }
    }

    #[test]
    fn a_range_excludes_its_end_and_is_never_empty() {
        assert_eq!("3..5".parse::<SeedRange>().map(SeedRange::count), Ok(2));
        assert_eq!("7".parse::<SeedRange>().map(SeedRange::count), Ok(1));
        assert!("5..5".parse::<SeedRange>().is_err());
        assert!("5..x".parse::<SeedRange>().is_err());
    }

    #[test]
    fn a_printed_seed_reads_back() {
        let seed = Seed(0x00ab_cdef);
        assert_eq!(seed.to_string().parse(), Ok(seed));
    }
}
