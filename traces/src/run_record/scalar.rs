//! Single values of a record that JSON writes in a form of their own: seconds, hashes, and what is
//! null instead of missing.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads a value or `null`; a missing field stays an error, unlike with a plain `Option`.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}

/// A simulated time in integer nanoseconds that people read in seconds: a JSON number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds {
    /// The time in nanoseconds; exact in JSON below 2^53 (104 days).
    pub ns: u64,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.ns as f64 / 1e9)
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        if !(0.0..1e9).contains(&seconds) {
            return Err(serde::de::Error::custom(
                "a time lies between 0 and 1e9 seconds",
            ));
        }
        Ok(Self {
            ns: (seconds * 1e9).round() as u64,
        })
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.ns.saturating_add(500_000) / 1_000_000;
        write!(formatter, "{}.{:03} s", ms / 1000, ms % 1000)
    }
}

/// A 128-bit hash, written as 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub u128);

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let clean = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(&text, 16)
            .ok()
            .filter(|_| clean)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not a hash: 32 hex digits are"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}
