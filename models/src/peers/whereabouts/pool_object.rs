//! The objects of Whereabouts as they are stored: IPPool (a map of offsets tracked per key),
//! OverlappingRangeIPReservation, NodeSlicePool. The body of an IPPool is one line per allocation,
//! `offset container podref`, in the order of offsets; that it is no JSON is of no consequence.
//!
//! Source: pkg/api/whereabouts.cni.cncf.io/v1alpha1/ippool_types.go:10-38,
//! pkg/storage/kubernetes/ipam.go:130-148,228-251.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

use crate::ids::ContainerId;
use crate::objects::ResourceVersion;
use crate::request::{Custom, CustomKind, Request, Shape};

/// ippools.whereabouts.cni.cncf.io.
pub(super) const POOL: CustomKind = CustomKind {
    resource: "ippools",
    shape: Shape::GranularMap,
};

/// overlappingrangeipreservations.whereabouts.cni.cncf.io.
pub(super) const RESERVATION: CustomKind = CustomKind {
    resource: "overlappingrangeipreservations",
    shape: Shape::Flat,
};

/// nodeslicepools.whereabouts.cni.cncf.io (v0.9.0).
pub(super) const SLICES: CustomKind = CustomKind {
    resource: "nodeslicepools",
    shape: Shape::Flat,
};

/// One allocation of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation<'a> {
    /// Position in the range.
    pub offset: u32,
    /// Container that it was made for.
    pub container: ContainerId,
    /// `namespace/name` of its Pod.
    pub pod: &'a str,
}

/// The allocations in the body of a pool. Shape: by offset.
pub(super) fn read(body: &str) -> Vec<Allocation<'_>> {
    body.lines()
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let mut next = || parts.next().unwrap_or_default();
            let offset = next().parse().expect("this module wrote the offset");
            let container = next().parse().expect("this module wrote the container");
            Allocation {
                offset,
                container: ContainerId(container),
                pod: next(),
            }
        })
        .collect()
}

/// The body of a pool.
pub(super) fn body(allocations: &[Allocation<'_>]) -> Rc<str> {
    let mut text = String::with_capacity(allocations.len() * 40);
    for allocation in allocations {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} {} {}",
            allocation.offset, allocation.container.0, allocation.pod
        );
    }
    Rc::from(text)
}

/// An object of a kind.
pub(super) fn object(
    kind: CustomKind,
    name: &Rc<str>,
    body: Rc<str>,
    record_count: u32,
) -> Rc<Custom> {
    Rc::new(Custom {
        kind,
        name: name.clone(),
        uid: 0,
        resource_version: 0,
        labels: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        annotations: Vec::new(),
        status: None,
        body,
        record_count,
    })
}

/// The PATCH that gives a pool other allocations, as of the version that was read.
pub(super) fn patch(pool: &Custom, allocations: &[Allocation<'_>]) -> Request {
    let mut next = Custom::clone(pool);
    next.body = body(allocations);
    next.record_count = allocations.len() as u32;
    Request::JsonPatch {
        object: Rc::new(next),
    }
}

/// Name of the reservation of an address.
pub(super) fn reservation_name(address: IpAddr) -> Rc<str> {
    let text = address.to_string().replace(':', "-");
    Rc::from(format!("kube-system/{text}"))
}

/// The address of a reservation, and the container in whose name it was made.
pub(super) fn read_reservation(reservation: &Custom) -> Option<(IpAddr, ContainerId)> {
    let name = reservation.name.strip_prefix("kube-system/")?;
    let address = (name.parse())
        .or_else(|_| name.replace('-', ":").parse())
        .ok()?;
    let container = reservation.body.split_once(' ')?.0.parse().ok()?;
    Some((address, ContainerId(container)))
}

/// The lowest offset below `size` that no allocation has and that `skipped` does not hold.
pub(super) fn lowest_free(
    allocations: &[Allocation<'_>],
    skipped: &[u32],
    size: u32,
) -> Option<u32> {
    let mut taken = allocations.iter().map(|taken| taken.offset).peekable();
    (0..size).find(|offset| {
        while taken.next_if(|used| used < offset).is_some() {}
        taken.peek() != Some(offset) && !skipped.contains(offset)
    })
}

/// A pool as somebody last saw it.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// Version.
    pub version: ResourceVersion,
    /// Body.
    pub body: Rc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32) -> Allocation<'static> {
        Allocation {
            offset,
            container: ContainerId(offset + 7),
            pod: "default/web-1",
        }
    }

    #[test]
    fn a_pool_reads_as_it_was_written() {
        let allocations = [at(0), at(3)];
        let text = body(&allocations);
        assert_eq!(read(&text), allocations);
        assert_eq!(read(""), []);
    }

    #[test]
    fn a_reservation_names_its_address_and_its_container() {
        for text in ["10.0.0.7", "fd00::7", "fd00:64::1:0"] {
            let address: IpAddr = text.parse().unwrap();
            let name = reservation_name(address);
            let made = object(RESERVATION, &name, "12 default/web-1".into(), 1);
            assert_eq!(read_reservation(&made), Some((address, ContainerId(12))));
        }
    }

    #[test]
    fn the_lowest_free_offset_leaves_out_taken_and_skipped_ones() {
        let allocations = [at(0), at(1), at(3)];
        assert_eq!(lowest_free(&allocations, &[], 9), Some(2));
        assert_eq!(lowest_free(&allocations, &[2, 4], 9), Some(5));
        assert_eq!(lowest_free(&allocations, &[2], 4), None);
        assert_eq!(lowest_free(&[], &[], 0), None);
    }
}
