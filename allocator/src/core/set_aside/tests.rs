//! Of every kind: what is read, what is set aside and what is said of it.

use serde_json::json;

use super::*;

const ALL: [Kind; 8] = [
    Kind::AddressPool,
    Kind::AddressBlock,
    Kind::AddressReservation,
    Kind::BerthNode,
    Kind::DomainApproval,
    Kind::Lease,
    Kind::Node,
    Kind::Pod,
];

const OWN: [Kind; 5] = [
    Kind::AddressPool,
    Kind::AddressBlock,
    Kind::AddressReservation,
    Kind::BerthNode,
    Kind::DomainApproval,
];

fn set_aside(kind: Kind, value: &Value) -> SetAside {
    match decode(kind, value) {
        Ok(Object::SetAside(object)) => *object,
        other => panic!("{kind:?} {value}: {other:?}"),
    }
}

#[test]
fn one_field_that_cannot_be_read_is_named_with_what_stands_there_and_what_may() {
    for (kind, spec, field, said) in [
        (
            Kind::AddressReservation,
            json!({"address": "10.0.0.300", "pool": "p"}),
            "spec.address",
            "one IP address",
        ),
        (
            Kind::AddressPool,
            json!({"families": [{"ranges": ["10.0.0.0/24"], "gateway": "10.0.0.1/24"}]}),
            "spec.families[0].gateway",
            "\"10.0.0.1/24\"",
        ),
        (
            Kind::AddressPool,
            json!({"families": [{"ranges": ["10.0.0.0/24"], "subnet": "10.0.0.0"}]}),
            "spec.families[0].subnet",
            "as 10.0.0.0/24",
        ),
        (
            Kind::AddressPool,
            json!({"routes": [{"gw": "10.0.0.1"}]}),
            "spec.routes[0]",
            "missing field `dst`",
        ),
        (
            Kind::AddressPool,
            json!({"blockSize": 70000}),
            "spec.blockSize",
            "70000",
        ),
        (
            Kind::AddressBlock,
            json!({"first": ["10.0.0.0", "x"]}),
            "spec.first[1]",
            "one IP address",
        ),
        (
            Kind::BerthNode,
            json!({"state": "live"}),
            "spec.state",
            "Live, Dying and Dead",
        ),
        (
            Kind::BerthNode,
            json!({"former": [{"epoch": -1, "state": "Dead"}]}),
            "spec.former[0].epoch",
            "-1",
        ),
        (
            Kind::DomainApproval,
            json!({"pools": [{"ranges": "10.0.0.0/24"}]}),
            "spec.pools[0].ranges",
            "10.0.0.0/24",
        ),
        (Kind::Node, json!({"taints": 3}), "spec.taints", "3"),
        (
            Kind::Pod,
            json!({"hostNetwork": "yes"}),
            "spec.hostNetwork",
            "yes",
        ),
    ] {
        let object = set_aside(kind, &json!({"metadata": {"name": "x"}, "spec": spec}));
        assert_eq!(object.field, field, "{kind:?}");
        assert!(object.reason.contains(field), "{}", object.reason);
        assert!(object.reason.contains(said), "{}", object.reason);
        assert!(object.remedy().contains('x'), "{}", object.remedy());
    }
}

#[test]
fn what_can_be_read_of_metadata_is_kept() {
    for kind in ALL {
        let value = json!({
            "metadata": {
                "name": "x", "namespace": "n", "uid": "u", "resourceVersion": "7",
                "labels": {"good": "1", "bad": 1}, "annotations": 5,
                "finalizers": ["f"], "deletionTimestamp": 12,
            },
            "spec": {"pool": "p", "index": 3},
        });
        let object = set_aside(kind, &value);
        let metadata = &object.metadata;
        assert_eq!(
            (metadata.uid.as_str(), metadata.resource_version.as_str()),
            ("u", "7")
        );
        assert_eq!(
            metadata.labels,
            [("good".to_owned(), "1".to_owned())].into()
        );
        assert_eq!(metadata.finalizers, ["f"]);
        assert!(metadata.deletion_timestamp.is_some());
        assert_eq!(
            (object.hint("pool"), object.hint("index")),
            (Some("p"), Some("3"))
        );
        assert_eq!(Object::from(object).key().kind, kind);
    }
}

#[test]
fn nothing_with_a_name_is_an_error_and_all_else_is() {
    for kind in ALL {
        for value in [
            json!({}),
            json!(7),
            json!({"metadata": {"name": ""}}),
            json!([]),
        ] {
            assert_eq!(decode(kind, &value), Err(Unnamed), "{kind:?} {value}");
            let text = value.to_string();
            assert_eq!(decode_text(kind, text.as_bytes()), Err(Unnamed));
        }
        assert_eq!(decode_text(kind, b"{"), Err(Unnamed));
        for spec in [json!(7), json!("x"), json!([[]]), json!({"schema": -1})] {
            let value = json!({"metadata": {"name": "x"}, "spec": spec});
            let object = decode(kind, &value).unwrap();
            assert_eq!(object.metadata().name, "x");
            let text = value.to_string();
            assert_eq!(decode_text(kind, text.as_bytes()), Ok(object));
        }
    }
}

#[test]
fn a_newer_schema_is_set_aside_and_a_block_of_one_is_read_only() {
    for kind in OWN {
        let value = json!({"metadata": {"name": "x"}, "spec": {"schema": 2, "pool": "p"}});
        let text = value.to_string();
        let object = decode(kind, &value).unwrap();
        assert_eq!(decode_text(kind, text.as_bytes()), Ok(object.clone()));
        if kind == Kind::AddressBlock {
            // `Block::read` refuses it; its metadata serves.
            assert!(object.set_aside().is_none());
        } else {
            assert_eq!(object.set_aside().unwrap().field, "spec.schema", "{kind:?}");
        }
        let value = json!({"metadata": {"name": "x"}, "spec": {"schema": 1}});
        assert!(decode(kind, &value).unwrap().set_aside().is_none());
    }
    // The schema explains what else cannot be read.
    let value = json!({"metadata": {"name": "x-0"}, "spec": {"schema": 2, "records": {}}});
    assert_eq!(set_aside(Kind::AddressBlock, &value).field, "spec.schema");
}

#[test]
fn fields_of_a_newer_release_are_kept_and_reported() {
    let newer = |spec: Value| {
        let mut value = json!({"metadata": {"name": "x"}, "spec": spec, "extra": {"deep": [1]}});
        value["spec"]["color"] = json!({"of": "sky"});
        value
    };
    for kind in OWN {
        let spec = match kind {
            Kind::AddressPool => json!({
                "families": [{"ranges": ["10.0.0.0/24"], "vlan": 7}],
                "routes": [{"dst": "0.0.0.0/0", "metric": 5}],
            }),
            Kind::BerthNode => json!({"former": [{"epoch": 1, "state": "Dead", "why": "x"}]}),
            _ => json!({}),
        };
        let mut value = newer(spec);
        value["kind"] = format!("{kind:?}").into();
        value["apiVersion"] = "berth.dev/v1alpha1".into();
        let object = decode(kind, &value).unwrap();
        assert!(object.set_aside().is_none(), "{kind:?}");
        let unknown = unknown_fields(&object);
        assert!(unknown.contains(&"extra".to_owned()), "{unknown:?}");
        assert!(unknown.contains(&"spec.color".to_owned()), "{unknown:?}");
        assert!(!unknown.contains(&"apiVersion".to_owned()), "{unknown:?}");
        let written = serde_json::to_value(&object).unwrap();
        for path in [
            "/extra",
            "/spec/color",
            "/spec/families/0/vlan",
            "/spec/routes/0/metric",
            "/spec/former/0/why",
        ] {
            assert_eq!(
                written.pointer(path),
                value.pointer(path),
                "{kind:?} {path}"
            );
        }
    }
}

#[test]
fn a_block_keeps_fields_of_a_newer_release_through_a_write() {
    let mut pool = AddressPool::default();
    pool.metadata.name = "p".into();
    pool.spec.families = vec![crate::core::objects::FamilySpec {
        ranges: vec!["10.0.0.0/28".into()],
        ..Default::default()
    }];
    let pool = crate::core::pool::Pool::parse(&pool, None).unwrap();
    let first = block::Block::empty(&pool, 0).write(&pool, 0, Metadata::default(), "w".into());
    let mut value = serde_json::to_value(Object::from(first)).unwrap();
    value["spec"]["color"] = "blue".into();
    value["extra"] = 1.into();
    let Ok(Object::AddressBlock(read)) = decode(Kind::AddressBlock, &value) else {
        panic!("unknown fields are no failure")
    };
    let block = block::Block::read(&read, &pool).unwrap();
    let again = block.write(&pool, 0, read.metadata.clone(), "w".into());
    assert_eq!(again, *read);
    assert_eq!(again.spec.other["color"], "blue");
}

#[test]
fn a_block_that_cannot_be_read_has_its_place_by_its_name() {
    let at = |name: &str| {
        let value = json!({"metadata": {"name": name}, "spec": 1});
        let object = set_aside(Kind::AddressBlock, &value);
        object
            .block_place()
            .map(|(pool, index)| (pool.to_owned(), index))
    };
    assert_eq!(at("my-pool-12"), Some(("my-pool".to_owned(), 12)));
    assert_eq!(at("pool"), None);
    assert_eq!(at("pool-x"), None);
}
