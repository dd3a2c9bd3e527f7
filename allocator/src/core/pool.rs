//! A pool as the cores use it: parsed, with its geometry. The controller approves pools.

use core::net::IpAddr;

use ipnet::IpNet;

use super::exchange::{AllocatedAddress, Allocation};
use super::hash::fnv1a;
use super::objects::{AddressPool, AddressPoolSpec, FamilySpec, Route, Uid};
use super::ordinal::{AddressRange, OrdinalRanges, RangeError};

/// Why a pool cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// A range cannot be read.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// No family, two of the same kind, or one with ranges of the other kind.
    #[error("a pool has one IPv4 family, one IPv6 family, or one of each")]
    Families,
    /// A subnet or gateway of another family than its ranges: no address could be stated.
    #[error("a subnet or gateway is of another family than the ranges beside it")]
    Subnet,
    /// No address at all.
    #[error("the pool has no address")]
    Empty,
    /// Two ordinals would be one address.
    #[error("ranges of the pool overlap")]
    Overlap,
    /// Block size outside [`BLOCK_SIZES`].
    #[error("a block has between 2 and 64 ordinals")]
    BlockSize,
    /// The name cannot be the value of a label, which each of the pool's blocks carries.
    #[error("the name of a pool has at most {POOL_NAME_MAX} characters")]
    Name,
    /// An exclude of another family than its ranges: it would mask nothing.
    #[error("an exclude is of another family than the ranges beside it")]
    Exclude,
    /// A range that leaves the subnet: its Pods would reach neither gateway nor neighbors.
    #[error("range {0:?} is not inside the subnet")]
    Outside(String),
    /// A gateway that no Pod reaches.
    #[error("the gateway is not inside the subnet")]
    Gateway,
    /// A next hop of another family than the destination: no kernel accepts the route.
    #[error("a route's gateway is of another family than its destination")]
    Route,
}

/// Units: ordinals. How many a block may have.
pub const BLOCK_SIZES: core::ops::RangeInclusive<u16> = 2..=64;

/// Units: characters. A block is labeled with its pool's name, and no label's value is longer. With
/// it a block's name, which adds a minus and up to 19 digits, stays far below the bound of 253.
pub const POOL_NAME_MAX: usize = 63;

/// The largest count that a status states: the apiserver's largest integer, in 64 bits with a sign.
/// kubectl prints it exactly. A client that keeps numbers as doubles (a browser, older jq) rounds
/// everything above 2^53; that does no harm, because nothing is decided by these numbers and only
/// the controller writes them.
pub const STATUS_COUNT_MAX: u64 = i64::MAX as u64;

/// A count as a status states it. A larger count becomes the bound.
pub fn status_count(count: u64) -> u64 {
    count.min(STATUS_COUNT_MAX)
}

/// One family of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Family {
    ranges: OrdinalRanges,
    exclude: Vec<AddressRange>,
    gateway: Option<IpAddr>,
    prefix_length: u8,
}

/// Where a pool's ordinals lie and what they are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Name of the object.
    pub name: String,
    /// Its UID: a recreated pool is another pool.
    pub uid: Uid,
    /// Ordinals per block.
    pub block_size: u16,
    /// Units: ordinals; that of the shorter family.
    pub capacity: u64,
    /// The spec it was read from.
    pub spec: AddressPoolSpec,
    families: Vec<Family>,
}

/// Why an ordinal is never handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Excluded by the operator.
    Excluded,
    /// A gateway.
    Gateway,
}

/// The block size of a pool that states none: 32, or smaller so that a pool has at least twenty
/// blocks, which gives ten nodes two each. In the compact form a record costs the apiserver next to
/// nothing, so the size trades fewer writes in a burst against fewer nodes per block.
pub fn default_block_size(capacity: u64) -> u16 {
    match capacity {
        0..160 => 4,
        160..320 => 8,
        320..640 => 16,
        _ => 32,
    }
}

/// The fingerprint of the part of a spec that decides which address an ordinal is. Approval covers
/// this part; a changed route needs no approval.
pub fn fingerprint(uid: &Uid, spec: &AddressPoolSpec) -> String {
    let mut text = format!("{uid}\n{}\n", spec.domain);
    for family in &spec.families {
        text.push_str(&family.ranges.join(","));
        text.push('\n');
    }
    format!("{:016x}", fnv1a(text.as_bytes()))
}

/// The value of `status.approved` for a pool with this fingerprint and block size.
pub fn approval(fingerprint: &str, block_size: u16) -> String {
    format!("{fingerprint}/{block_size}")
}

/// The block size in a `status.approved` that approves exactly this object, if it does.
pub fn approved_block_size(object: &AddressPool) -> Option<u16> {
    let (approved, size) = object.status.approved.rsplit_once('/')?;
    (approved == fingerprint(&object.metadata.uid, &object.spec)).then(|| size.parse().ok())?
}

impl Family {
    fn parse(spec: &FamilySpec) -> Result<Self, PoolError> {
        let parse = |texts: &[String]| {
            texts
                .iter()
                .map(|text| AddressRange::parse(text))
                .collect::<Result<Vec<_>, _>>()
        };
        let ranges = parse(&spec.ranges)?;
        let Some(first) = ranges.first() else {
            return Err(PoolError::Empty);
        };
        let v6 = first.is_v6();
        if ranges.iter().any(|range| range.is_v6() != v6) {
            return Err(PoolError::Families);
        }
        let of_other = |ip: IpAddr| ip.is_ipv6() != v6;
        if spec.subnet.is_some_and(|net| of_other(net.addr())) || spec.gateway.is_some_and(of_other)
        {
            return Err(PoolError::Subnet);
        }
        for (index, range) in ranges.iter().enumerate() {
            if ranges[..index]
                .iter()
                .any(|earlier| earlier.overlaps(range))
            {
                return Err(PoolError::Overlap);
            }
        }
        let of_first = spec.ranges[0].parse::<IpNet>().ok();
        let prefix_length = spec
            .subnet
            .or(of_first)
            .map_or(if v6 { 128 } else { 32 }, |net| net.prefix_len());
        Ok(Self {
            exclude: parse(&spec.exclude)?,
            gateway: spec.gateway,
            prefix_length,
            ranges: OrdinalRanges::new(ranges),
        })
    }

    fn is_v6(&self) -> bool {
        self.ranges.ranges()[0].is_v6()
    }
}

fn check_family(family: &FamilySpec) -> Result<(), PoolError> {
    let read = |text: &String| Some((text.clone(), AddressRange::parse(text).ok()?));
    let ranges: Vec<_> = family.ranges.iter().filter_map(read).collect();
    let v6 = ranges.first().is_some_and(|(_, range)| range.is_v6());
    let mut exclude = family.exclude.iter().filter_map(read);
    if exclude.any(|(_, range)| range.is_v6() != v6) {
        return Err(PoolError::Exclude);
    }
    let Some(subnet) = family.subnet else {
        return Ok(());
    };
    for (text, range) in ranges {
        if !subnet.contains(&range.first()) || !subnet.contains(&range.last()) {
            return Err(PoolError::Outside(text));
        }
    }
    match family.gateway {
        Some(gateway) if !subnet.contains(&gateway) => Err(PoolError::Gateway),
        _ => Ok(()),
    }
}

impl Pool {
    /// Reads a pool.
    ///
    /// Errors: what a controller must refuse to approve.
    pub fn parse(object: &AddressPool, block_size: Option<u16>) -> Result<Self, PoolError> {
        let families = object
            .spec
            .families
            .iter()
            .map(Family::parse)
            .collect::<Result<Vec<_>, _>>()?;
        match families.as_slice() {
            [_] => {}
            [first, second] if first.is_v6() != second.is_v6() => {}
            _ => return Err(PoolError::Families),
        }
        let capacity = families
            .iter()
            .map(|family| family.ranges.len())
            .min()
            .unwrap_or(0);
        let block_size = block_size
            .or(object.spec.block_size)
            .unwrap_or_else(|| default_block_size(capacity));
        if !BLOCK_SIZES.contains(&block_size) {
            return Err(PoolError::BlockSize);
        }
        Ok(Self {
            name: object.metadata.name.clone(),
            uid: object.metadata.uid.clone(),
            block_size,
            capacity,
            spec: object.spec.clone(),
            families,
        })
    }

    /// What else must hold before a pool is approved, or approved again with more ranges. The
    /// schema refuses the same; an apiserver with an older schema does not. A pool in use that
    /// breaks these rules goes on: [`Self::parse`] decides which address an ordinal is, not whether
    /// the address is of any use.
    ///
    /// Errors: the first rule that it breaks; a pool that cannot be read breaks none of these.
    pub fn check(object: &AddressPool) -> Result<(), PoolError> {
        if object.metadata.name.chars().count() > POOL_NAME_MAX {
            return Err(PoolError::Name);
        }
        for family in &object.spec.families {
            check_family(family)?;
        }
        let mismatched = |route: &Route| {
            let v6 = route.dst.addr().is_ipv6();
            route.gw.is_some_and(|gateway| gateway.is_ipv6() != v6)
        };
        if object.spec.routes.iter().any(mismatched) {
            return Err(PoolError::Route);
        }
        Ok(())
    }

    /// How many blocks cover the capacity.
    pub fn block_count(&self) -> u64 {
        self.capacity.div_ceil(u64::from(self.block_size))
    }

    /// How many ordinals of block `index` lie within the capacity.
    pub fn ordinals_in(&self, index: u64) -> u16 {
        let begin = index.saturating_mul(u64::from(self.block_size));
        self.capacity
            .saturating_sub(begin)
            .min(u64::from(self.block_size)) as u16
    }

    /// The literal first address of each family in block `index`.
    pub fn first_addresses(&self, index: u64) -> Vec<IpAddr> {
        self.addresses(index.saturating_mul(u64::from(self.block_size)))
    }

    /// The address of each family with this ordinal; empty beyond the shorter family.
    pub fn addresses(&self, ordinal: u64) -> Vec<IpAddr> {
        if ordinal >= self.capacity {
            return Vec::new();
        }
        self.families
            .iter()
            .filter_map(|family| family.ranges.address(ordinal))
            .collect()
    }

    /// The ordinal of an address of any family.
    pub fn ordinal_of(&self, address: IpAddr) -> Option<u64> {
        let found = self
            .families
            .iter()
            .find_map(|family| family.ranges.ordinal(address))?;
        (found < self.capacity).then_some(found)
    }

    /// Whether and why the spec withholds this ordinal. It is in force only once it is in the
    /// block.
    pub fn mask(&self, ordinal: u64) -> Option<Mask> {
        for family in &self.families {
            let address = family.ranges.address(ordinal)?;
            if family.gateway == Some(address) {
                return Some(Mask::Gateway);
            }
            if family.exclude.iter().any(|range| range.contains(address)) {
                return Some(Mask::Excluded);
            }
        }
        None
    }

    /// Units: ordinals that the spec withholds. Counts runs, not single ordinals: a mask may be as
    /// long as an IPv6 prefix.
    pub fn masked_count(&self) -> u64 {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for family in &self.families {
            for range in &family.exclude {
                runs.extend(family.ranges.ordinals_within(range));
            }
            let gateway = family.gateway.and_then(|g| family.ranges.ordinal(g));
            runs.extend(gateway.map(|ordinal| (ordinal, ordinal)));
        }
        runs.sort_unstable();
        let (mut masked, mut counted_to) = (0_u64, 0_u64);
        for (first, last) in runs {
            let first = first.max(counted_to);
            let end = last.saturating_add(1).min(self.capacity);
            if first < end {
                masked += end - first;
                counted_to = end;
            }
        }
        masked
    }

    /// What a Pod with this ordinal gets.
    pub fn allocation(&self, ordinal: u64) -> Option<Allocation> {
        let mut addresses = Vec::with_capacity(self.families.len());
        for family in &self.families {
            let address = family.ranges.address(ordinal)?;
            let address = IpNet::new(address, family.prefix_length).ok()?;
            addresses.push(AllocatedAddress {
                address,
                gateway: family.gateway,
            });
        }
        Some(Allocation {
            pool: self.name.clone(),
            addresses,
            routes: self.spec.routes.clone(),
            dns: self.spec.dns.clone(),
        })
    }

    /// Whether the two pools have an address in common, whatever their domains.
    pub fn overlaps(&self, other: &Self) -> bool {
        let all = |pool: &Self| -> Vec<AddressRange> {
            pool.families
                .iter()
                .flat_map(|family| family.ranges.ranges().iter().copied())
                .collect()
        };
        let others = all(other);
        all(self)
            .iter()
            .any(|range| others.iter().any(|other| range.overlaps(other)))
    }
}

/// The name of block `index` of a pool.
pub fn block_name(pool: &str, index: u64) -> String {
    format!("{pool}-{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(families: &[(&[&str], &[&str], Option<&str>)]) -> Result<Pool, PoolError> {
        let mut object = AddressPool::default();
        object.metadata.name = "p".into();
        object.spec.families = families
            .iter()
            .map(|(ranges, exclude, gateway)| FamilySpec {
                ranges: ranges.iter().map(ToString::to_string).collect(),
                exclude: exclude.iter().map(ToString::to_string).collect(),
                gateway: gateway.map(|text| text.parse().unwrap()),
                subnet: None,
                ..FamilySpec::default()
            })
            .collect();
        Pool::parse(&object, None)
    }

    #[test]
    fn capacity_is_that_of_the_shorter_family() {
        let dual = pool(&[(&["10.0.0.0/28"], &[], None), (&["fd00::/64"], &[], None)]).unwrap();
        assert_eq!(dual.capacity, 16);
        assert_eq!(dual.addresses(15).len(), 2);
        assert!(dual.addresses(16).is_empty());
    }

    #[test]
    fn masks_never_renumber_and_mask_the_pair() {
        let plain = pool(&[(&["10.0.0.0/28"], &[], None), (&["fd00::/64"], &[], None)]).unwrap();
        let masked = pool(&[
            (&["10.0.0.0/28"], &["10.0.0.3"], None),
            (&["fd00::/64"], &[], Some("fd00::5")),
        ])
        .unwrap();
        for ordinal in 0..16 {
            assert_eq!(plain.addresses(ordinal), masked.addresses(ordinal));
        }
        assert_eq!(masked.mask(3), Some(Mask::Excluded));
        assert_eq!(masked.mask(5), Some(Mask::Gateway));
        assert_eq!(masked.mask(4), None);
    }

    #[test]
    fn masks_are_counted_once_and_within_the_capacity() {
        let masked = pool(&[
            (
                &["10.0.0.0/28", "10.0.1.0/28"],
                &["10.0.0.3", "10.0.0.2-10.0.0.5", "10.0.0.15-10.0.1.1"],
                Some("10.0.0.4"),
            ),
            (&["fd00::/64"], &["fd00::5-fd00::6", "fd00::1:0/112"], None),
        ])
        .unwrap();
        // 2..=6 and 15..=17 of 32.
        assert_eq!((masked.capacity, masked.masked_count()), (32, 8));
        let counted = (0..32).filter(|o| masked.mask(*o).is_some()).count();
        assert_eq!(counted, 8);
    }

    #[test]
    fn overlap_inside_one_pool_is_refused() {
        let error = pool(&[(&["10.0.0.0/24", "10.0.0.128/25"], &[], None)]).unwrap_err();
        assert_eq!(error, PoolError::Overlap);
    }

    #[test]
    fn a_pool_of_two_families_of_one_kind_is_refused() {
        let error = pool(&[(&["10.0.0.0/24"], &[], None), (&["10.1.0.0/24"], &[], None)]);
        assert_eq!(error.unwrap_err(), PoolError::Families);
    }

    #[test]
    fn a_gateway_of_the_other_family_is_refused() {
        let error = pool(&[(&["10.0.0.0/24"], &[], Some("fd00::1"))]);
        assert_eq!(error.unwrap_err(), PoolError::Subnet);
    }

    #[test]
    fn a_pool_whose_parts_do_not_fit_is_not_approved_but_can_be_read() {
        let check = |change: &dyn Fn(&mut AddressPool)| {
            let mut object = AddressPool::default();
            object.metadata.name = "p".into();
            object.spec.families = vec![FamilySpec {
                ranges: vec!["10.0.0.0/25".into(), "10.0.0.130-10.0.0.140".into()],
                exclude: vec!["10.0.0.9".into()],
                gateway: "10.0.0.129".parse().ok(),
                subnet: "10.0.0.0/24".parse().ok(),
                ..FamilySpec::default()
            }];
            change(&mut object);
            Pool::parse(&object, None).unwrap();
            Pool::check(&object)
        };
        let family = |change: &dyn Fn(&mut FamilySpec)| {
            check(&|object: &mut AddressPool| change(&mut object.spec.families[0]))
        };
        assert_eq!(check(&|_| {}), Ok(()));
        let name = |count| check(&|object| object.metadata.name = "n".repeat(count));
        assert_eq!(name(63), Ok(()));
        assert_eq!(name(64), Err(PoolError::Name));
        let exclude = family(&|family| family.exclude.push("fd00::1".into()));
        assert_eq!(exclude, Err(PoolError::Exclude));
        let gateway = family(&|family| family.gateway = "10.0.1.1".parse().ok());
        assert_eq!(gateway, Err(PoolError::Gateway));
        let unknown_link = family(&|family| {
            family.gateway = "169.254.1.1".parse().ok();
            family.subnet = None;
        });
        assert_eq!(unknown_link, Ok(()));
        for outside in ["10.0.0.250-10.0.1.2", "10.0.1.0/24", "10.0.1.7"] {
            let refused = family(&|family| family.ranges.push(outside.into()));
            assert_eq!(refused, Err(PoolError::Outside(outside.into())));
        }
        let route = |gw: &str| {
            check(&|object| {
                object.spec.routes = vec![Route {
                    dst: "0.0.0.0/0".parse().unwrap(),
                    gw: gw.parse().ok(),
                    other: crate::core::objects::Fields::new(),
                }];
            })
        };
        assert_eq!(route("10.0.0.1"), Ok(()));
        assert_eq!(route("fd00::1"), Err(PoolError::Route));
    }

    #[test]
    fn every_count_and_index_of_the_largest_pool_fits_its_status_and_its_blocks() {
        let mut object = AddressPool::default();
        object.spec.families = vec![FamilySpec {
            ranges: vec!["fd00::/8".into()],
            ..FamilySpec::default()
        }];
        object.spec.block_size = Some(*BLOCK_SIZES.start());
        let pool = Pool::parse(&object, None).unwrap();
        assert_eq!(status_count(pool.capacity), STATUS_COUNT_MAX);
        assert_eq!(status_count(7), 7);
        let last = pool.block_count() - 1;
        assert!(i64::try_from(last).is_ok(), "{last}");
        assert!(!pool.first_addresses(last).is_empty());
        assert!(pool.first_addresses(last + 1).is_empty());
    }

    #[test]
    fn approval_follows_geometry_and_nothing_else() {
        let mut object = AddressPool::default();
        object.spec.families = vec![FamilySpec {
            ranges: vec!["10.0.0.0/24".into()],
            ..FamilySpec::default()
        }];
        object.status.approved = approval(&fingerprint(&object.metadata.uid, &object.spec), 16);
        assert_eq!(approved_block_size(&object), Some(16));
        object.spec.dns = vec!["10.0.0.1".parse().unwrap()];
        object.spec.families[0].exclude = vec!["10.0.0.9".into()];
        assert_eq!(approved_block_size(&object), Some(16));
        object.spec.families[0].ranges.push("10.0.1.0/24".into());
        assert_eq!(approved_block_size(&object), None);
    }

    #[test]
    fn the_default_block_size_leaves_twenty_blocks_where_it_can() {
        for capacity in [80, 100, 200, 500, 1000, 2000] {
            assert!(
                capacity / u64::from(default_block_size(capacity)) >= 20,
                "{capacity}"
            );
        }
    }
}
