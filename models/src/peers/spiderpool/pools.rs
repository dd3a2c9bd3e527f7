//! Pools and what is recorded in them: the SpiderIPPool with all its allocations in one string.
//! The text of a body here is shorter than the real JSON, which nobody but Spiderpool reads; its
//! real size is what the parameters say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::ids::PodUid;
use crate::objects::{OwnerKind, Pod, ResourceVersion};
use crate::peers::Pool;
use crate::request::{Custom, CustomKind, Shape};

use super::parameters::SpiderpoolParameters;

/// SpiderIPPool.
pub(super) const POOLS: CustomKind = CustomKind {
    resource: "spiderippools",
    shape: Shape::OneString,
};

/// A pool, by its place in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolId(pub(super) u32);

/// `spec` of a pool, which nobody changes here.
#[derive(Clone, Debug)]
pub(super) struct PoolSpec {
    pub(super) name: Rc<str>,
    pub(super) ipv6: bool,
    pub(super) addresses: Vec<IpAddr>,
}

/// `status` of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// `allocatedIPCount`, which is counted up and down and never recounted.
    pub(super) allocated: u64,
    /// Position of the address in the pool, and whose it is; by position.
    records: Vec<(u32, PodUid)>,
}

impl Status {
    pub(super) fn records(&self) -> &[(u32, PodUid)] {
        &self.records
    }

    pub(super) fn owner(&self, position: u32) -> Option<PodUid> {
        let found = self
            .records
            .binary_search_by_key(&position, |(known, _)| *known);
        found.ok().map(|index| self.records[index].1)
    }

    pub(super) fn of_pod(&self, pod: PodUid) -> Option<u32> {
        let found = self.records.iter().find(|(_, owner)| *owner == pod);
        found.map(|(position, _)| *position)
    }

    /// The n-th position, counted from zero, that nobody has.
    pub(super) fn nth_free(&self, n: u32) -> u32 {
        let mut position = n;
        for (taken, _) in &self.records {
            if *taken > position {
                break;
            }
            position += 1;
        }
        position
    }

    pub(super) fn set(&mut self, position: u32, pod: PodUid) {
        match self
            .records
            .binary_search_by_key(&position, |(known, _)| *known)
        {
            Ok(index) => self.records[index].1 = pod,
            Err(index) => self.records.insert(index, (position, pod)),
        }
    }

    pub(super) fn remove(&mut self, position: u32) {
        self.records.retain(|(known, _)| *known != position);
    }

    fn is_sorted(&self) -> bool {
        self.records.is_sorted_by(|(one, _), (next, _)| one < next)
    }

    pub(super) fn encode(&self) -> String {
        debug_assert!(self.is_sorted(), "each position once, in order");
        let mut text = String::with_capacity(16 + self.records.len() * 12);
        push_number(&mut text, self.allocated, '|');
        for (position, pod) in &self.records {
            push_number(&mut text, u64::from(*position), ':');
            push_number(&mut text, u64::from(pod.0), ',');
        }
        text
    }

    /// Every write of a pool is read by somebody: one walk over the text, digit by digit.
    pub(super) fn decode(text: &str) -> Status {
        let mut status = Status::default();
        let (mut number, mut position) = (0, 0);
        for c in text.chars() {
            match c {
                '|' => status.allocated = std::mem::take(&mut number),
                ':' => position = std::mem::take(&mut number) as u32,
                ',' => {
                    let pod = PodUid(std::mem::take(&mut number) as u32);
                    status.records.push((position, pod));
                }
                digit => {
                    let digit = digit.to_digit(16).expect("its own text is hexadecimal");
                    number = number << 4 | u64::from(digit);
                }
            }
        }
        assert_eq!(number, 0, "a number of its own text has an end");
        debug_assert!(status.is_sorted(), "as it was written");
        status
    }
}

/// Appends a number in hexadecimal and what ends it. Pools are written by the thousand with a
/// thousand records each: `write!` takes four times as long.
fn push_number(text: &mut String, number: u64, end: char) {
    let digit_count = (u64::BITS - (number | 1).leading_zeros()).div_ceil(4);
    for place in (0..digit_count).rev() {
        let digit = (number >> (4 * place)) as usize & 0xf;
        text.push(char::from(b"0123456789abcdef"[digit]));
    }
    text.push(end);
}

/// Every pool that the administrator made.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pools: Vec<PoolSpec>,
    /// Pools of a Deployment (`namespace/name`), one per family; the empty name is the default.
    groups: BTreeMap<Rc<str>, Vec<PoolId>>,
    /// The latest status read from each pool.
    read: RefCell<BTreeMap<PoolId, (ResourceVersion, Rc<Status>)>>,
}

/// A workload object that may get pools of its own: `namespace/name` and Pods.
pub type Group = (String, u64);

impl Catalog {
    /// One pool per family; or, with groups, one per family and group, sized by its Pods.
    pub(super) fn new(pool: &Pool, groups: &[Group]) -> Self {
        let families = pool.families();
        let pods: u64 = groups.iter().map(|(_, pods)| *pods).sum();
        let mut catalog = Catalog::default();
        if pods == 0 {
            for addresses in families {
                catalog.add("", addresses);
            }
            return catalog;
        }
        for addresses in families {
            let (mut from, mut pods_before) = (0, 0);
            for (index, (name, count)) in groups.iter().enumerate() {
                pods_before += count;
                let to = (addresses.len() as u64 * pods_before / pods) as usize;
                catalog.add(name, addresses[from..to].to_vec());
                from = to;
                if index == 0 {
                    // A Pod outside every group takes the default pool: the first one.
                    let first = PoolId(catalog.pools.len() as u32 - 1);
                    catalog.groups.entry("".into()).or_default().push(first);
                }
            }
        }
        catalog
    }

    fn add(&mut self, group: &str, addresses: Vec<IpAddr>) {
        let id = PoolId(self.pools.len() as u32);
        let ipv6 = addresses.first().is_some_and(IpAddr::is_ipv6);
        let family = if ipv6 { "v6" } else { "v4" };
        let name = match group.split_once('/') {
            Some((_, name)) => format!("{name}-{family}"),
            None => format!("{family}-pool"),
        };
        self.pools.push(PoolSpec {
            name: name.into(),
            ipv6,
            addresses,
        });
        self.groups.entry(group.into()).or_default().push(id);
    }

    pub(super) fn spec(&self, pool: PoolId) -> &PoolSpec {
        &self.pools[pool.0 as usize]
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PoolId> + use<> {
        (0..self.pools.len() as u32).map(PoolId)
    }

    pub(super) fn id(&self, name: &str) -> Option<PoolId> {
        let found = self.pools.iter().position(|pool| *pool.name == *name);
        found.map(|index| PoolId(index as u32))
    }

    /// The candidates of a Pod: one pool per family.
    pub(super) fn candidates(&self, pod: &Pod) -> &[PoolId] {
        let owner = pod.owner.as_ref();
        let name = owner.map(|owner| match owner.kind {
            OwnerKind::ReplicaSet => owner
                .name
                .rsplit_once('-')
                .map_or(&*owner.name, |(deployment, _)| deployment),
            OwnerKind::StatefulSet | OwnerKind::Job => &*owner.name,
        });
        let group = name.and_then(|name| {
            let group: Rc<str> = format!("{}/{name}", pod.namespace).into();
            self.groups.get(&group)
        });
        group.or_else(|| self.groups.get("")).map_or(&[], |g| &**g)
    }

    /// What a pool as read records.
    pub(super) fn status(&self, pool: PoolId, object: &Custom) -> Rc<Status> {
        let mut latest = self.read.borrow_mut();
        match latest.get(&pool) {
            Some((version, status)) if *version == object.resource_version => Rc::clone(status),
            _ => {
                let status = Rc::new(Status::decode(&object.body));
                let read = (object.resource_version, Rc::clone(&status));
                latest.insert(pool, read);
                status
            }
        }
    }

    /// The object of a pool in which nothing is allocated.
    pub(super) fn empty_object(&self, pool: PoolId) -> Custom {
        Custom {
            kind: POOLS,
            name: self.spec(pool).name.clone(),
            uid: 0,
            resource_version: 0,
            labels: Vec::new(),
            finalizers: vec!["spiderpool.spidernet.io".to_owned()],
            deleting: false,
            annotations: Vec::new(),
            status: None,
            body: Status::default().encode().into(),
            record_count: 0,
        }
    }

    /// Size of a pool's records on the wire. Units: bytes.
    pub(super) fn record_bytes(&self, pool: PoolId, records: u64, p: &SpiderpoolParameters) -> u64 {
        let each = if self.spec(pool).ipv6 {
            p.record_bytes_v6
        } else {
            p.record_bytes_v4
        };
        records * each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(count: u8) -> Pool {
        let ip = |text: String| text.parse().unwrap();
        Pool::new(vec![
            vec![(ip("10.0.0.1".into()), ip(format!("10.0.0.{count}")))],
            vec![(ip("fd00::1".into()), ip(format!("fd00::{count:x}")))],
        ])
        .unwrap()
    }

    #[test]
    fn a_status_survives_its_text_and_finds_free_positions() {
        let mut status = Status {
            allocated: 3,
            records: Vec::new(),
        };
        for (position, pod) in [(0, 7), (2, 8), (5, 9)] {
            status.set(position, PodUid(pod));
        }
        assert_eq!(Status::decode(&status.encode()), status);
        let free: Vec<u32> = (0..4).map(|n| status.nth_free(n)).collect();
        assert_eq!(free, [1, 3, 4, 6]);
        assert_eq!(status.of_pod(PodUid(8)), Some(2));
        status.remove(2);
        assert_eq!((status.owner(2), status.owner(5)), (None, Some(PodUid(9))));
    }

    #[test]
    fn groups_share_the_addresses_by_their_pods() {
        let groups = [("default/a".to_owned(), 10), ("default/b".to_owned(), 30)];
        let catalog = Catalog::new(&pool(80), &groups);
        let sizes: Vec<usize> = catalog
            .ids()
            .map(|id| catalog.spec(id).addresses.len())
            .collect();
        assert_eq!(sizes, [20, 60, 20, 60]);
        assert_eq!(catalog.id("b-v6"), Some(PoolId(3)));
        assert_eq!(Catalog::new(&pool(80), &[]).ids().count(), 2);
    }
}
