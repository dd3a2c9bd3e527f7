//! An AddressPool as its manifest states it, with the checks that need no cluster: ranges parse,
//! have one family, run forwards, do not overlap, and leave at least one usable address. How
//! ordinals become blocks is up to the allocator.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DocumentRef, Stack};

/// A pool of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressPool {
    /// Where it stands.
    pub document: DocumentRef,
    /// Name.
    pub name: String,
    /// IPv4 addresses.
    pub ipv4: Option<FamilyPool>,
    /// IPv6 addresses.
    pub ipv6: Option<FamilyPool>,
    /// Routes of each Pod.
    pub routes: Vec<Route>,
    /// Ordinals per block; none leaves it to the allocator.
    pub block_size: Option<u32>,
    /// The whole spec as written in the manifest, for the allocator that defines it.
    pub spec: serde_json::Value,
}

impl AddressPool {
    /// The families that the pool holds; none for a pool without any.
    pub fn stack(&self) -> Option<Stack> {
        match (&self.ipv4, &self.ipv6) {
            (Some(_), Some(_)) => Some(Stack::Dual),
            (Some(_), None) => Some(Stack::Ipv4),
            (None, Some(_)) => Some(Stack::Ipv6),
            (None, None) => None,
        }
    }

    /// Ordinals that a Pod can have: usable in every family that the pool holds.
    ///
    /// Ordinals count raw ranges; an excluded address or a gateway masks its ordinal in both
    /// families. Counted up to `limit`, because an IPv6 range has more than anybody counts.
    pub fn usable_ordinal_count(&self, limit: u64) -> u64 {
        let families: Vec<&FamilyPool> = self.ipv4.iter().chain(&self.ipv6).collect();
        let Some(raw) = families.iter().map(|family| family.raw_count()).min() else {
            return 0;
        };
        // Walk over the masked ordinals, not over the addresses.
        let mut masked: Vec<(u128, u128)> = families
            .iter()
            .flat_map(|family| family.masked_ordinals())
            .collect();
        masked.sort_unstable();
        let mut usable = raw;
        let mut next_free: u128 = 0;
        for (first, last) in masked {
            let first = first.max(next_free);
            let last = last.min(raw.saturating_sub(1));
            if first <= last && raw > 0 {
                usable -= last - first + 1;
                next_free = last.saturating_add(1);
            }
        }
        u64::try_from(usable).unwrap_or(u64::MAX).min(limit)
    }
}

/// The addresses of one family in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilyPool {
    /// Ranges. Shape: at least one, in the order of their ordinals, without overlap.
    pub ranges: Vec<AddressRange>,
    /// Addresses that nobody gets.
    pub exclude: Vec<AddressRange>,
    /// The gateway: nobody gets it.
    pub gateway: Option<IpAddr>,
    /// The network whose prefix length an interface gets; none means that of the first range.
    pub subnet: Option<ipnet::IpNet>,
}

impl FamilyPool {
    /// Whether its addresses are IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.ranges.first().is_some_and(AddressRange::is_ipv4)
    }

    /// Addresses in the ranges, masked ones included.
    pub fn raw_count(&self) -> u128 {
        self.ranges
            .iter()
            .fold(0, |sum: u128, range| sum.saturating_add(range.count()))
    }

    /// The ordinals of excluded addresses and of the gateway. Shape: pairs (first, last), unsorted,
    /// may overlap.
    fn masked_ordinals(&self) -> Vec<(u128, u128)> {
        let gateway = self.gateway.map(|address| AddressRange {
            first: address,
            last: address,
        });
        let mut masked = Vec::new();
        let mut before: u128 = 0;
        for range in &self.ranges {
            for mask in self.exclude.iter().chain(&gateway) {
                let first = mask.first.max(range.first);
                let last = mask.last.min(range.last);
                if first.is_ipv4() == range.is_ipv4() && first <= last {
                    let offset = |address| number(address) - number(range.first);
                    masked.push((
                        before.saturating_add(offset(first)),
                        before.saturating_add(offset(last)),
                    ));
                }
            }
            before = before.saturating_add(range.count());
        }
        masked
    }
}

/// A route that each Pod of a pool gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination.
    pub dst: ipnet::IpNet,
    /// Next hop; none means the gateway.
    pub gw: Option<IpAddr>,
}

/// Consecutive addresses of one family, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Neither an address nor a network nor two addresses.
    #[error("`{0}` is not a range: allowed are a CIDR, an address, or first-last")]
    Syntax(String),
    /// The ends have different families.
    #[error("`{0}` mixes IPv4 and IPv6")]
    Family(String),
    /// The first address is above the last.
    #[error("`{0}` runs backwards: the first address must not be above the last")]
    Backwards(String),
    /// A CIDR with bits set behind its prefix.
    #[error("`{text}` has bits set behind its prefix: write {network}")]
    HostBits {
        /// What the file says.
        text: String,
        /// The network that it lies in.
        network: ipnet::IpNet,
    },
}

impl AddressRange {
    /// The first address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Addresses in it; the whole of IPv6 counts one less than it has.
    pub fn count(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Whether two ranges share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// The address that many steps after the first, if it is in the range.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        let value = number(self.first).checked_add(offset)?;
        if value > number(self.last) {
            return None;
        }
        Some(match self.first {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(value).ok()?)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(value)),
        })
    }
}

impl FromStr for AddressRange {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let syntax = || PoolError::Syntax(text.to_owned());
        let (first, last): (IpAddr, IpAddr) = if text.contains('/') {
            let network: ipnet::IpNet = text.parse().map_err(|_| syntax())?;
            if network.trunc() != network {
                return Err(PoolError::HostBits {
                    text: text.to_owned(),
                    network: network.trunc(),
                });
            }
            (network.network(), network.broadcast())
        } else if let Some((first, last)) = text.split_once('-') {
            let parse = |end: &str| end.trim().parse().map_err(|_| syntax());
            (parse(first)?, parse(last)?)
        } else {
            let address = text.parse().map_err(|_| syntax())?;
            (address, address)
        };
        if first.is_ipv4() != last.is_ipv4() {
            return Err(PoolError::Family(text.to_owned()));
        }
        if first > last {
            return Err(PoolError::Backwards(text.to_owned()));
        }
        Ok(Self { first, last })
    }
}

impl TryFrom<String> for AddressRange {
    type Error = PoolError;

    fn try_from(text: String) -> Result<Self, PoolError> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(ranges: &[&str], exclude: &[&str], gateway: Option<&str>) -> FamilyPool {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        FamilyPool {
            ranges: parse(ranges),
            exclude: parse(exclude),
            gateway: gateway.map(|text| text.parse().unwrap()),
            subnet: None,
        }
    }

    fn pool(ipv4: Option<FamilyPool>, ipv6: Option<FamilyPool>) -> AddressPool {
        let document = DocumentRef {
            file: "pool.yaml".into(),
            document: 1,
            line: 1,
        };
        AddressPool {
            document,
            name: "pool".into(),
            ipv4,
            ipv6,
            block_size: None,
            routes: Vec::new(),
            spec: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_range_is_a_network_an_address_or_two_ends() {
        for (text, count) in [
            ("10.0.0.0/24", 256),
            ("10.0.0.7", 1),
            ("10.0.0.250-10.0.1.3", 10),
            ("fd00::/64", 1 << 64),
            ("0.0.0.0/0", 1 << 32),
            ("::/0", u128::MAX),
        ] {
            assert_eq!(
                text.parse::<AddressRange>().unwrap().count(),
                count,
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_range_says_what_is_allowed() {
        for (text, part) in [
            ("", "allowed are"),
            ("10.0.0.0/33", "allowed are"),
            ("10.0.0.5-10.0.0.4", "backwards"),
            ("10.0.0.5-fd00::1", "mixes"),
            ("10.0.0.5/24", "write 10.0.0.0/24"),
        ] {
            let error = text.parse::<AddressRange>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn masks_take_their_ordinals_once_in_both_families() {
        let ipv4 = family(
            &["10.0.0.0/28", "10.0.1.0/28"],
            &["10.0.0.0-10.0.0.3"],
            Some("10.0.0.3"),
        );
        let ipv6 = family(&["fd00::/64"], &["fd00::2-fd00::4"], Some("fd00::1f"));
        assert_eq!(
            pool(Some(ipv4.clone()), None).usable_ordinal_count(u64::MAX),
            28
        );
        assert_eq!(
            pool(Some(ipv4), Some(ipv6.clone())).usable_ordinal_count(u64::MAX),
            26
        );
        assert_eq!(pool(None, Some(ipv6)).usable_ordinal_count(5000), 5000);
        assert_eq!(pool(None, None).usable_ordinal_count(1), 0);
    }

    #[test]
    fn the_whole_of_ipv6_is_counted_without_overflow() {
        let whole = family(&["::/0"], &["8000::/1", "::/0"], None);
        assert_eq!(pool(None, Some(whole)).usable_ordinal_count(u64::MAX), 0);
    }

    #[test]
    fn the_nth_address_stays_in_its_range() {
        let range: AddressRange = "10.0.0.254-10.0.1.1".parse().unwrap();
        assert_eq!(range.nth(2).unwrap().to_string(), "10.0.1.0");
        assert_eq!(range.nth(4), None);
    }
}
