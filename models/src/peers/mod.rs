//! The modeled IPAMs, each built from its mechanism, and the pool of addresses that they share.

pub mod calico;
pub mod cilium;
#[cfg(test)]
mod harness;
pub mod instant;
pub mod kube_ovn;
pub mod spiderpool;
pub mod whereabouts;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::parameters::{ParameterError, Table};

/// Checks that every peer finds its own constants in a table, whichever peer will run.
/// Errors: a constant that is missing, of a wrong unit, or unreadable.
pub fn check_constants(table: &Table) -> Result<(), ParameterError> {
    calico::Calico::check_constants(table)?;
    cilium::Cilium::check_constants(table)?;
    kube_ovn::KubeOvn::check_constants(table)?;
    spiderpool::Spiderpool::check_constants(table)?;
    whereabouts::Whereabouts::check_constants(table)
}

/// Addresses to give out, in order: ordinal `n` is the `n`-th address of each family, so that a
/// dual-stack Pod gets a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    families: Vec<Vec<(IpAddr, IpAddr)>>,
}

/// Why ranges do not make a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The ends of a range are of two families, or in the wrong order.
    #[error("{0}-{1} is not a range: first and last are of one family and in order")]
    Range(IpAddr, IpAddr),
    /// A family mixes IPv4 and IPv6.
    #[error("one family holds both {0} and {1}")]
    Mixed(IpAddr, IpAddr),
    /// No address at all.
    #[error("the pool has no usable address")]
    Empty,
}

impl Pool {
    /// A pool of closed ranges, by family.
    /// Errors: see [`PoolError`].
    pub fn new(families: Vec<Vec<(IpAddr, IpAddr)>>) -> Result<Self, PoolError> {
        for family in &families {
            for &(first, last) in family {
                if first.is_ipv4() != last.is_ipv4() || first > last {
                    return Err(PoolError::Range(first, last));
                }
                if first.is_ipv4() != family[0].0.is_ipv4() {
                    return Err(PoolError::Mixed(family[0].0, first));
                }
            }
        }
        let pool = Self { families };
        if pool.size() == 0 {
            Err(PoolError::Empty)
        } else {
            Ok(pool)
        }
    }

    /// Ordinals: the size of the smallest family.
    pub fn size(&self) -> u64 {
        let sizes = self.families.iter().map(|family| {
            family
                .iter()
                .fold(0_u64, |sum, &range| sum.saturating_add(range_size(range)))
        });
        sizes.min().unwrap_or(0)
    }

    /// Every address of each family, in order, as many as there are ordinals.
    pub fn families(&self) -> Vec<Vec<IpAddr>> {
        let size = usize::try_from(self.size()).unwrap_or(usize::MAX);
        let family = |ranges: &Vec<(IpAddr, IpAddr)>| {
            let addresses = ranges
                .iter()
                .flat_map(|&range| (0..range_size(range)).map(move |nth| plus(range.0, nth)));
            addresses.take(size).collect()
        };
        self.families.iter().map(family).collect()
    }

    /// Every address of each family, in order, at most `count_max` of each.
    pub fn all(&self, count_max: u64) -> Vec<Vec<IpAddr>> {
        let family = |ranges: &Vec<(IpAddr, IpAddr)>| {
            let each = ranges.iter().flat_map(|&range| {
                (0..range_size(range).min(count_max)).map(move |offset| plus(range.0, offset))
            });
            each.take(count_max as usize).collect()
        };
        self.families.iter().map(family).collect()
    }

    /// The addresses of an ordinal, one per family.
    ///
    /// Panics: when there is no such ordinal.
    pub fn addresses(&self, ordinal: u64) -> Vec<IpAddr> {
        assert!(
            ordinal < self.size(),
            "ordinal {ordinal} is not in the pool"
        );
        let family = |ranges: &Vec<(IpAddr, IpAddr)>| {
            let mut left = ordinal;
            for &range in ranges {
                if left < range_size(range) {
                    return plus(range.0, left);
                }
                left -= range_size(range);
            }
            unreachable!("an ordinal below the size lies in a range")
        };
        self.families.iter().map(family).collect()
    }
}

/// Addresses of a closed range, at most 2^64 - 1.
fn range_size((first, last): (IpAddr, IpAddr)) -> u64 {
    let distance = number(last) - number(first);
    u64::try_from(distance).map_or(u64::MAX, |distance| distance.saturating_add(1))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn plus(address: IpAddr, offset: u64) -> IpAddr {
    match address {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() + offset as u32)),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() + u128::from(offset))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pool, PoolError};

    #[test]
    fn ordinals_run_through_the_ranges_of_each_family() {
        let ip = |text: &str| text.parse().unwrap();
        let pool = Pool::new(vec![
            vec![
                (ip("10.0.0.254"), ip("10.0.1.1")),
                (ip("10.0.9.1"), ip("10.0.9.9")),
            ],
            vec![(ip("fd00::1"), ip("fd00::5"))],
        ])
        .unwrap();
        assert_eq!(pool.size(), 5);
        assert_eq!(pool.addresses(2), [ip("10.0.1.0"), ip("fd00::3")]);
        assert_eq!(pool.addresses(4), [ip("10.0.9.1"), ip("fd00::5")]);
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let ip = |text: &str| text.parse().unwrap();
        let backwards = Pool::new(vec![vec![(ip("10.0.0.2"), ip("10.0.0.1"))]]);
        assert!(matches!(backwards, Err(PoolError::Range(..))));
        assert_eq!(Pool::new(vec![vec![]]), Err(PoolError::Empty));
    }
}
