//! Ordinals and the addresses behind them. Ordinals count the raw ranges, so that no mask and no
//! appended range ever renumbers one.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A run of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: u128,
    last: u128,
    v6: bool,
}

/// Why a range cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of addresses: give a prefix, first-last, or one address")]
pub struct RangeError {
    text: String,
}

fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), false),
        IpAddr::V6(v6) => (u128::from(v6), true),
    }
}

fn address(number: u128, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from(number))
    } else {
        IpAddr::V4(Ipv4Addr::from(number as u32))
    }
}

/// Whether an IPv4 address in the clothes of an IPv6 one (`::ffff:10.0.0.1`): of which family it is
/// depends on who reads it, so it is neither.
fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

impl AddressRange {
    /// Reads `10.0.0.0/24`, `10.0.0.1-10.0.0.9` or `10.0.0.1`.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let error = || RangeError {
            text: text.to_owned(),
        };
        if let Ok(net) = text.parse::<IpNet>() {
            if is_mapped(net.addr()) {
                return Err(error());
            }
            let ((first, v6), (last, _)) = (number(net.network()), number(net.broadcast()));
            return Ok(Self { first, last, v6 });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let read = |text: &str| match text.trim().parse() {
            Ok(ip) if !is_mapped(ip) => Ok(number(ip)),
            _ => Err(error()),
        };
        let (first, last) = (read(first)?, read(last)?);
        if first.1 != last.1 || first.0 > last.0 {
            return Err(error());
        }
        Ok(Self {
            first: first.0,
            last: last.0,
            v6: first.1,
        })
    }

    /// Whether of the IPv6 family.
    pub fn is_v6(&self) -> bool {
        self.v6
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (number, v6) = number(address);
        v6 == self.v6 && (self.first..=self.last).contains(&number)
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.last && other.first <= self.last
    }

    /// Units: addresses; saturates at `u64::MAX`.
    pub fn len(&self) -> u64 {
        u64::try_from(self.last - self.first)
            .unwrap_or(u64::MAX)
            .saturating_add(1)
    }

    /// Never true: a range has at least one address.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        address(self.first, self.v6)
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        address(self.last, self.v6)
    }
}

/// The ranges of one family, in the order of their ordinals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrdinalRanges(Vec<AddressRange>);

impl OrdinalRanges {
    /// These ranges, in this order.
    pub fn new(ranges: Vec<AddressRange>) -> Self {
        Self(ranges)
    }

    /// The ranges.
    pub fn ranges(&self) -> &[AddressRange] {
        &self.0
    }

    /// Units: addresses; saturates.
    pub fn len(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.len()))
    }

    /// Whether there is no address.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address with this ordinal.
    pub fn address(&self, ordinal: u64) -> Option<IpAddr> {
        let mut left = ordinal;
        for range in &self.0 {
            if left < range.len() {
                return Some(address(range.first + u128::from(left), range.v6));
            }
            left -= range.len();
        }
        None
    }

    /// The runs of ordinals, first and last, whose addresses lie in `range`.
    pub fn ordinals_within(&self, range: &AddressRange) -> Vec<(u64, u64)> {
        let mut before = 0_u64;
        let mut runs = Vec::new();
        for own in &self.0 {
            if own.overlaps(range) {
                let run = |number: u128| {
                    let offset = u64::try_from(number - own.first).unwrap_or(u64::MAX);
                    before.saturating_add(offset)
                };
                let (first, last) = (own.first.max(range.first), own.last.min(range.last));
                runs.push((run(first), run(last)));
            }
            before = before.saturating_add(own.len());
        }
        runs
    }

    /// The ordinal of this address.
    pub fn ordinal(&self, address: IpAddr) -> Option<u64> {
        let mut before = 0_u64;
        for range in &self.0 {
            if range.contains(address) {
                let offset = u64::try_from(number(address).0 - range.first).ok()?;
                return before.checked_add(offset);
            }
            before = before.saturating_add(range.len());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> OrdinalRanges {
        OrdinalRanges::new(
            texts
                .iter()
                .map(|text| AddressRange::parse(text).unwrap())
                .collect(),
        )
    }

    #[test]
    fn an_ordinal_keeps_its_address_when_ranges_are_appended() {
        let before = ranges(&["10.0.0.4-10.0.0.6"]);
        let after = ranges(&["10.0.0.4-10.0.0.6", "10.0.1.0/30"]);
        for ordinal in 0..3 {
            assert_eq!(before.address(ordinal), after.address(ordinal));
        }
        assert_eq!(before.address(3), None);
        assert_eq!(after.address(3), Some("10.0.1.0".parse().unwrap()));
    }

    #[test]
    fn ordinal_and_address_are_inverse() {
        let six = ranges(&["fd00::ff-fd00::101", "fd00:1::/120"]);
        for ordinal in [0, 1, 2, 3, 258] {
            let address = six.address(ordinal).unwrap();
            assert_eq!(six.ordinal(address), Some(ordinal));
        }
    }

    #[test]
    fn nonsense_is_no_range() {
        for text in [
            "",
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-fd00::1",
            "10.0.0.0/33",
            "x",
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.0/120",
            "10.0.0.1-10.0.0.2-10.0.0.3",
        ] {
            assert!(AddressRange::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_whole_v6_network_saturates() {
        assert_eq!(ranges(&["fd00::/8"]).len(), u64::MAX);
    }
}
