//! Kube-OVN's objects and annotations as text: what its processes read and write, and no more.
//! Source: pkg/util/const.go:61-87, pkg/controller/{node,pod}.go as cited in [`super`].

use std::net::IpAddr;
use std::rc::Rc;

use super::informer::Names;
use crate::objects::{OwnerKind, Pod};
use crate::request::{Custom, CustomKind, Request, Shape};

/// `IP`: one per Pod and interface.
pub(super) const IPS: CustomKind = flat("ips");
/// `Subnet`; its status holds a few ranges in strings.
pub(super) const SUBNETS: CustomKind = flat("subnets");
/// `IPPool`.
pub(super) const IP_POOLS: CustomKind = flat("ippools");
/// `Vpc`.
pub(super) const VPCS: CustomKind = flat("vpcs");
/// apps/v1 StatefulSet as an object to read.
pub(super) const STATEFUL_SETS: CustomKind = flat("statefulsets");

/// The default VPC.
pub(super) const VPC: &str = "ovn-cluster";
/// The subnet of all Pods.
pub(super) const SUBNET: &str = "ovn-default";

const NODE_LABEL: &str = "ovn.kubernetes.io/node-name";
const OWNER_LABEL: &str = "ovn.kubernetes.io/pod-type";

const fn flat(resource: &'static str) -> CustomKind {
    CustomKind {
        resource,
        shape: Shape::Flat,
    }
}

const ALLOCATED: &str = "ovn.kubernetes.io/allocated";
const ROUTED: &str = "ovn.kubernetes.io/routed";
const ADDRESS: &str = "ovn.kubernetes.io/ip_address";

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.annotations
        .iter()
        .find(|(name, _)| **name == *key)
        .map(|(_, value)| &**value)
}

/// `allocated=true`.
pub(super) fn is_allocated(pod: &Pod) -> bool {
    annotation(pod, ALLOCATED) == Some("true")
}

/// `routed=true`.
pub(super) fn is_routed(pod: &Pod) -> bool {
    annotation(pod, ROUTED) == Some("true")
}

/// Whether the controller has written anything on a Pod.
pub(super) fn is_annotated(pod: &Pod) -> bool {
    pod.annotations
        .iter()
        .any(|(key, _)| key.starts_with("ovn.kubernetes.io/"))
}

/// The addresses that a Pod was given.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let text = annotation(pod, ADDRESS).unwrap_or_default();
    text.split(',')
        .filter_map(|part| part.parse().ok())
        .collect()
}

fn patch(pod: (Rc<str>, Rc<str>), entries: &[(&str, Option<&str>)]) -> Request {
    let annotations = entries
        .iter()
        .map(|(key, value)| (Rc::from(*key), value.map(Rc::from)))
        .collect();
    Request::PatchPodAnnotations {
        namespace: pod.0,
        name: pod.1,
        annotations,
    }
}

/// Pass A's patch: eight annotations (ten on a VLAN).
pub(super) fn allocate_patch(
    pod: (Rc<str>, Rc<str>),
    addresses: &[IpAddr],
    underlay: bool,
) -> Request {
    let text: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let text = text.join(",");
    let mut entries = vec![
        (ALLOCATED, Some("true")),
        ("ovn.kubernetes.io/cidr", Some(SUBNET)),
        ("ovn.kubernetes.io/gateway", Some(SUBNET)),
        (ADDRESS, Some(&*text)),
        ("ovn.kubernetes.io/logical_router", Some(VPC)),
        ("ovn.kubernetes.io/logical_switch", Some(SUBNET)),
        ("ovn.kubernetes.io/mac_address", Some("00:00:00:00:00:00")),
        ("ovn.kubernetes.io/pod_nic_type", Some("veth-pair")),
    ];
    if underlay {
        entries.push(("ovn.kubernetes.io/provider_network", Some("provider")));
        entries.push(("ovn.kubernetes.io/vlan_id", Some("0")));
    }
    patch(pod, &entries)
}

/// Pass B's patch.
pub(super) fn route_patch(pod: (Rc<str>, Rc<str>)) -> Request {
    patch(pod, &[(ROUTED, Some("true"))])
}

/// The inspector's patch.
pub(super) fn strip_patch(pod: (Rc<str>, Rc<str>)) -> Request {
    patch(pod, &[(ALLOCATED, None), (ROUTED, None)])
}

/// Name of a Pod's IP object.
pub(super) fn ip_name(pod: &(Rc<str>, Rc<str>)) -> Rc<str> {
    format!("{}.{}", pod.1, pod.0).into()
}

/// A new object of a kind.
pub(super) fn object(kind: CustomKind, name: Rc<str>, body: String) -> Custom {
    Custom {
        kind,
        name,
        uid: 0,
        resource_version: 0,
        labels: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        annotations: Vec::new(),
        status: None,
        body: body.into(),
        record_count: 1,
    }
}

/// The IP object of a Pod.
pub(super) fn ip(pod: &Pod, addresses: &[IpAddr]) -> Custom {
    let node = pod.node_name.as_deref().unwrap_or_default();
    let sticky = is_stateful(pod);
    let body = format!(
        "{{\"podName\":\"{}\",\"namespace\":\"{}\",\"subnet\":\"{SUBNET}\",\"ips\":{addresses:?}}}",
        pod.name, pod.namespace
    );
    let mut ip = object(
        IPS,
        ip_name(&(pod.namespace.clone(), pod.name.clone())),
        body,
    );
    ip.labels.push((NODE_LABEL.to_owned(), node.to_owned()));
    if sticky {
        ip.labels
            .push((OWNER_LABEL.to_owned(), "StatefulSet".to_owned()));
    }
    ip
}

/// Whether an IP object says what another one says.
pub(super) fn same_ip(one: &Custom, other: &Custom) -> bool {
    one.labels == other.labels && one.body == other.body
}

/// The node that an IP object names.
pub(super) fn node_of(ip: &Custom) -> &str {
    ip.labels
        .iter()
        .find(|(key, _)| key == NODE_LABEL)
        .map_or("", |(_, value)| value)
}

/// An IP object with another node.
pub(super) fn moved(ip: &Custom, node: &str) -> Custom {
    let mut moved = ip.clone();
    for (key, value) in &mut moved.labels {
        if key == NODE_LABEL {
            node.clone_into(value);
        }
    }
    moved
}

/// A Pod whose address outlives it.
pub(super) fn is_stateful(pod: &Pod) -> bool {
    pod.owner
        .as_ref()
        .is_some_and(|owner| owner.kind == OwnerKind::StatefulSet)
}

/// Whether an `IP` object is of a Pod whose address outlives it.
pub(super) fn is_sticky(ip: &Custom) -> bool {
    ip.labels.iter().any(|(key, _)| key == OWNER_LABEL)
}

/// What a restart reads from the `IP` object of a StatefulSet's Pod: its name and first address.
pub(super) fn sticky_record(ip: &Custom, names: &mut Names) -> Option<(u32, IpAddr)> {
    if !is_sticky(ip) {
        return None;
    }
    let (pod, namespace) = ip.name.rsplit_once('.')?;
    let list = ip.body.split_once("\"ips\":[")?.1;
    let address = list.split([',', ']']).next()?.trim().parse().ok()?;
    Some((names.number(&namespace.into(), &pod.into()), address))
}
