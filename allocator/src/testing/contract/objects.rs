//! Objects for the suite: complete enough for a real apiserver to take them.

use crate::core::objects::{
    AddressBlock, AddressPool, Condition, FamilySpec, LABEL_POOL, Lease, LeaseSpec, Metadata,
    Object, Route, Uid,
};

use super::named;

/// A block with a label that names the suite's case.
pub(super) fn block(name: &str, case: &str) -> AddressBlock {
    let mut block = AddressBlock {
        metadata: named(name),
        ..AddressBlock::default()
    };
    block
        .metadata
        .labels
        .insert(LABEL_POOL.to_owned(), case.to_owned());
    block.spec.schema = 1;
    block.spec.pool = case.into();
    block.spec.pool_uid = Uid::new("00000000-0000-4000-8000-000000000001");
    block.spec.size = 16;
    block.spec.first = vec![[10, 0, 0, 0].into()];
    block.spec.writer = "w1".into();
    block
}

/// A pool with every field of its spec set.
pub(super) fn pool(name: &str) -> AddressPool {
    let mut pool = AddressPool {
        metadata: named(name),
        ..AddressPool::default()
    };
    pool.metadata.annotations = [("a".to_owned(), "b".to_owned())].into();
    let spec = &mut pool.spec;
    spec.families = vec![
        FamilySpec {
            ranges: vec!["10.0.0.0/24".to_owned()],
            exclude: vec!["10.0.0.9".to_owned()],
            gateway: Some([10, 0, 0, 1].into()),
            subnet: "10.0.0.0/16".parse().ok(),
            ..FamilySpec::default()
        },
        FamilySpec {
            ranges: vec!["fd00::/120".to_owned()],
            ..FamilySpec::default()
        },
    ];
    spec.block_size = Some(32);
    spec.domain = "d".into();
    spec.is_default = true;
    spec.disabled = true;
    spec.cool_down_seconds = 60;
    spec.node_selector = [("zone".to_owned(), "a".to_owned())].into();
    spec.namespaces = vec!["default".to_owned()];
    spec.pod_selector = [("app".to_owned(), "x".to_owned())].into();
    spec.networks = vec!["net".to_owned()];
    spec.routes = vec![Route {
        dst: "192.168.0.0/16".parse().unwrap(),
        gw: Some([10, 0, 0, 2].into()),
        other: crate::core::objects::Fields::new(),
    }];
    spec.dns = vec![[10, 0, 0, 3].into()];
    pool
}

/// A condition of a status.
pub(super) fn condition(kind: &str) -> Condition {
    Condition {
        observed_generation: Some(1),
        last_transition_time: Some("2026-01-02T03:04:05Z".to_owned()),
        ..Condition::new(kind, "True", "Reason", "a sentence".to_owned())
    }
}

/// A lease in the namespace `default`.
pub(super) fn lease(name: &str) -> Lease {
    Lease {
        metadata: Metadata {
            namespace: "default".to_owned(),
            ..named(name)
        },
        spec: LeaseSpec {
            holder_identity: "me".to_owned(),
            lease_duration_seconds: 15,
            acquire_time: "2024-01-01T00:00:00.000000Z".to_owned(),
            renew_time: "2024-01-01T00:00:01.000000Z".to_owned(),
            lease_transitions: 1,
            ..LeaseSpec::default()
        },
    }
}

/// The object with the metadata that the apiserver answered.
pub(super) fn with(object: impl Into<Object>, metadata: Metadata) -> Object {
    let mut object = object.into();
    *object.metadata_mut() = metadata;
    object
}
