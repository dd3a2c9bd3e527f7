//! The seed of a run and how people write it. Not a generator: streams live in the engine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The number that everything drawn in a run derives from.
///
/// Written as hex in records and plans, because half of the numbers are larger than what JSON and
/// TOML readers keep exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Seed(pub u64);

/// A text that is not a seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a seed: {reason}")]
pub struct SeedError {
    text: String,
    reason: &'static str,
}

impl FromStr for Seed {
    type Err = SeedError;

    fn from_str(text: &str) -> Result<Self, SeedError> {
        let fail = |reason| SeedError {
            text: text.to_owned(),
            reason,
        };
        let digits = |digits: &str, radix| {
            let clean = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            u64::from_str_radix(digits, radix).ok().filter(|_| clean)
        };
        if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            return digits(hex, 16)
                .map(Self)
                .ok_or_else(|| fail("after 0x come one to sixteen hex digits"));
        }
        if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let seed = digits(&text[..16], 16).expect("sixteen hex digits fit 64 bits");
            return Ok(Self(seed));
        }
        digits(text, 10).map(Self).ok_or_else(|| {
            fail("allowed are a decimal number below 2^64, 0x and hex digits, or a 40-digit commit")
        })
    }
}

impl TryFrom<String> for Seed {
    type Error = SeedError;

    fn try_from(text: String) -> Result<Self, SeedError> {
        text.parse()
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        seed.to_string()
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_hex_and_commit_name_the_same_seed() {
        let commit = "00000000000000ff0123456789abcdef01234567";
        for text in ["255", "0xff", "0XFF", commit] {
            assert_eq!(text.parse(), Ok(Seed(255)), "{text}");
        }
        assert_eq!(Seed(255).to_string(), "0xff");
        assert_eq!("18446744073709551615".parse(), Ok(Seed(u64::MAX)));
    }

    #[test]
    fn anything_else_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "0x",
            "-1",
            "+1",
            "12z",
            "0x+1",
            "18446744073709551616",
            "ff",
        ] {
            let error = text.parse::<Seed>().unwrap_err().to_string();
            assert!(error.contains("hex digits"), "{error}");
        }
    }
}
