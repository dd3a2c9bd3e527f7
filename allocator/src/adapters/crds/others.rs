//! What the schemas of the kinds beside the pool ask for: blocks, reservations, machines,
//! approvals. All but the reservation are written by programs alone, so their rules are about what
//! makes them readable, and about what no version of a program may change.

use serde_json::{Value, json};

use super::tables::{
    EXACT_MAX, LABEL, SUBDOMAIN, Table, address, all, conditions, count, list, must_have, rule,
    shaped, table, text, whole,
};
use crate::core::pool::BLOCK_SIZES;

/// Units: bytes. More than etcd stores (1.5 MiB): what is too large is refused there, whatever the
/// object's other parts take.
const RECORDS_MAX: u32 = 1 << 22;
/// Units: characters. A UID is 36 long; a static Pod's manifest may set another.
const UID_MAX: u32 = 128;
/// Units: characters. What programs call themselves in a write.
const WRITER_MAX: u32 = 1024;

fn block_size() -> Value {
    whole((*BLOCK_SIZES.start()).into(), (*BLOCK_SIZES.end()).into())
}

/// The records themselves are not looked at: a pattern over them would cost an apiserver a good
/// part of the whole write, for each of the writes that Pods wait for, and only programs write
/// them.
pub(super) fn block_rows() -> Table {
    table([
        ("", json!({"required": ["spec"]})),
        (
            "spec",
            all([
                json!({"required": ["pool", "poolUid", "index", "size", "first"]}),
                rule(
                    "self.pool == oldSelf.pool && self.poolUid == oldSelf.poolUid && \
                     self.index == oldSelf.index && self.size == oldSelf.size && \
                     self.first == oldSelf.first",
                    "what a block covers is immutable",
                ),
            ]),
        ),
        ("spec.schema", whole(0, crate::core::block::SCHEMA.into())),
        ("spec.pool", text(253)),
        ("spec.poolUid", text(UID_MAX)),
        ("spec.index", count()),
        ("spec.size", block_size()),
        ("spec.first", all([json!({"minItems": 1}), list(2)])),
        ("spec.first[]", address()),
        ("spec.writer", text(WRITER_MAX)),
        ("spec.records", text(RECORDS_MAX)),
    ])
}

pub(super) fn reservation_rows() -> Table {
    table([
        ("", all([json!({"required": ["spec"]})])),
        (
            "spec",
            all(["pool", "address", "podNamespace", "podName"].map(must_have)),
        ),
        ("spec.schema", whole(0, super::SCHEMA.into())),
        ("spec.pool", shaped(253, SUBDOMAIN)),
        ("spec.address", all([address(), json!({"nullable": true})])),
        ("spec.podNamespace", shaped(63, LABEL)),
        ("spec.podName", shaped(253, SUBDOMAIN)),
        ("spec.ownerUid", text(UID_MAX)),
        ("spec.ownerName", text(253)),
    ])
}

pub(super) fn node_rows() -> Table {
    let mut rows = table([
        ("", json!({"required": ["spec"]})),
        (
            "spec",
            all([
                json!({"required": ["epoch", "state"]}),
                rule("self.epoch >= oldSelf.epoch", "an epoch only rises"),
                rule(
                    "self.epoch > oldSelf.epoch || oldSelf.state != 'Dead' || self.state == 'Dead'",
                    "a dead epoch stays dead",
                ),
            ]),
        ),
        ("spec.schema", whole(0, super::SCHEMA.into())),
        ("spec.nodeName", text(253)),
        ("spec.nodeUid", text(UID_MAX)),
        ("spec.bootId", text(UID_MAX)),
        ("spec.epoch", whole(0, EXACT_MAX)),
        ("spec.former", list(1024)),
        ("spec.former[]", all(["epoch", "state"].map(must_have))),
        ("spec.former[].epoch", whole(0, EXACT_MAX)),
        ("spec.blocks", list(1 << 16)),
        ("spec.blocks[]", text(253)),
        ("spec.writer", text(WRITER_MAX)),
    ]);
    rows.extend(conditions("spec.conditions"));
    rows
}

pub(super) fn domain_rows() -> Table {
    table([
        ("spec.schema", whole(0, super::SCHEMA.into())),
        (
            "spec.pools",
            json!({
                "maxItems": 1 << 14,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            }),
        ),
        ("spec.pools[]", json!({"required": ["name"]})),
        ("spec.pools[].name", text(253)),
        ("spec.pools[].uid", text(UID_MAX)),
        (
            "spec.pools[].blockSize",
            whole(0, (*BLOCK_SIZES.end()).into()),
        ),
        ("spec.pools[].ranges", list(2)),
        ("spec.pools[].ranges[]", list(256)),
        ("spec.pools[].ranges[][]", text(91)),
    ])
}
