//! What the survey says of small clusters.

use super::*;
use crate::core::holder::{Holder, HolderState, Record};
use crate::core::labels::{LabelSelector, Operator, Requirement};
use crate::core::objects::{
    ANNOTATION_POOL, ANNOTATION_POOLS, ANNOTATION_RELEASE, Condition, FamilySpec, FormerEpoch,
    Metadata, Uid,
};
use crate::core::pool::{approval, fingerprint};

fn metadata(name: &str, uid: &str) -> Metadata {
    Metadata {
        name: name.into(),
        uid: Uid::new(uid),
        resource_version: "7".into(),
        ..Metadata::default()
    }
}

fn pool(name: &str, change: impl FnOnce(&mut AddressPool)) -> AddressPool {
    let mut pool = AddressPool {
        metadata: metadata(name, name),
        ..AddressPool::default()
    };
    pool.spec.families = vec![FamilySpec {
        ranges: vec!["10.0.0.0/28".into()],
        gateway: Some("10.0.0.1".parse().unwrap()),
        ..FamilySpec::default()
    }];
    change(&mut pool);
    pool.status.approved = approval(&fingerprint(&pool.metadata.uid, &pool.spec), 16);
    pool
}

fn machine(name: &str, epoch: u64, state: EpochState) -> BerthNode {
    let mut machine = BerthNode {
        metadata: metadata(name, name),
        ..BerthNode::default()
    };
    machine.spec.node_name = format!("node-{name}");
    machine.spec.node_uid = Uid::new(name);
    (machine.spec.epoch, machine.spec.state) = (epoch, state);
    machine
}

fn node(name: &str) -> Node {
    Node {
        metadata: metadata(&format!("node-{name}"), name),
        ..Node::default()
    }
}

fn pod(name: &str, on: &str) -> Pod {
    let mut pod = Pod {
        metadata: metadata(name, name),
        ..Pod::default()
    };
    pod.metadata.namespace = "shop".into();
    pod.spec.node_name = format!("node-{on}");
    pod
}

fn held(pod: &str, machine: &str, epoch: u64, state: HolderState) -> Record {
    Record::Pod(Holder {
        epoch: EpochId::new(machine, epoch),
        pod_uid: Uid::new(pod),
        state,
        pod_name: format!("shop/{pod}"),
        container: String::new(),
        reservation: String::new(),
    })
}

/// A cluster with one pool of 16 ordinals, a live machine `a`, and these records.
fn cluster(records: &[(u16, Record)]) -> Snapshot {
    let pool_object = pool("p", |pool| pool.spec.is_default = true);
    let geometry = Pool::parse(&pool_object, Some(16)).unwrap();
    let mut block = Block::empty(&geometry, 0);
    for (ordinal, record) in records {
        block.set(*ordinal, Some(record.clone()));
    }
    Snapshot {
        blocks: vec![block.write(&geometry, 0, Metadata::default(), "w".into())],
        pools: vec![pool_object],
        machines: vec![machine("a", 3, EpochState::Live)],
        nodes: vec![node("a")],
        ..Snapshot::default()
    }
}

#[test]
fn a_pool_is_counted_by_what_its_records_say() {
    let snapshot = cluster(&[
        (2, held("x", "a", 3, HolderState::Bound)),
        (3, held("y", "a", 3, HolderState::Unbound)),
        (4, held("z", "a", 3, HolderState::Releasing)),
        (5, Record::Cooling(0)),
        (6, Record::Reserved("static".into())),
    ]);
    let row = &pools(&snapshot)[0];
    assert_eq!(
        (row.bound, row.reserved, row.releasing, row.masked, row.free),
        (1, 1, 1, 2, 11)
    );
    assert_eq!(row.capacity, 16);
}

#[test]
fn a_holder_is_found_by_address_name_and_uid() {
    let snapshot = cluster(&[(2, held("x", "a", 3, HolderState::Bound))]);
    let rows = holders(&snapshot);
    for word in ["10.0.0.2", "shop/x", "x"] {
        assert!(rows[0].matches(word), "{word}");
    }
    assert!(!rows[0].matches("10.0.0.3"));
    assert_eq!((rows[0].node.as_str(), rows[0].state), ("node-a", "Bound"));
}

#[test]
fn what_looks_lost_is_reported_with_its_reason() {
    let mut snapshot = cluster(&[
        (2, held("runs", "a", 3, HolderState::Bound)),
        (3, held("gone", "a", 3, HolderState::Bound)),
        (4, held("moved", "a", 3, HolderState::Bound)),
        (5, held("old", "a", 2, HolderState::Bound)),
        (6, held("nobody", "b", 1, HolderState::Bound)),
    ]);
    snapshot.machines[0].spec.former = vec![FormerEpoch {
        epoch: 2,
        state: EpochState::Dying,
        other: crate::core::objects::Fields::new(),
    }];
    snapshot.pods = vec![pod("runs", "a"), pod("moved", "c"), pod("old", "a")];
    let found: Vec<(FindingKind, String)> = findings(&snapshot)
        .into_iter()
        .map(|finding| (finding.kind, finding.subject))
        .collect();
    let expected = [
        (FindingKind::PodGone, "10.0.0.3 (p, Pod shop/gone)"),
        (FindingKind::PodElsewhere, "10.0.0.4 (p, Pod shop/moved)"),
        (FindingKind::BeingBuried, "10.0.0.5 (p, Pod shop/old)"),
        (FindingKind::NobodyAnswers, "10.0.0.6 (p, Pod shop/nobody)"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((kind, subject), (wanted, text)) in found.iter().zip(expected) {
        assert_eq!((*kind, subject.as_str()), (wanted, text));
    }
}

#[test]
fn what_an_agent_lost_is_reported_with_what_gives_it_back_and_changes_what_is_advised() {
    let mut snapshot = cluster(&[(3, held("gone", "a", 3, HolderState::Bound))]);
    let before = findings(&snapshot);
    assert_eq!(before.len(), 1);
    for (reason, message) in [
        (
            "RuntimeLost",
            "runtime: /run/c.sock: Connection refused (x)",
        ),
        ("NamespacesLost", "namespaces: /run/netns: No such file (x)"),
        ("SpoolLost", "spool: /s: full (x)"),
        ("JournalUnwritable", "journal: /s: full (x)"),
        ("MachineIdShared", "machine-id: node b has the same (x)"),
        ("SocketLost", "socket: /s: gone (x)"),
        ("PluginLost", "plugin: /p: gone (x)"),
        (
            "PartsLost",
            "runtime: /run/c.sock: gone (x); spool: /s: full (x)",
        ),
    ] {
        snapshot.machines[0].spec.conditions = vec![Condition {
            kind: "PartLost".into(),
            status: "True".into(),
            reason: reason.into(),
            message: message.into(),
            ..Condition::default()
        }];
        let found = findings(&snapshot);
        let lost = found.last().unwrap();
        assert_eq!(lost.kind, FindingKind::PartLost);
        let said = (lost.subject.as_str(), lost.why.as_str());
        assert_eq!(said, ("node-a", message));
        assert!(!lost.remedy.is_empty());
        let advice_changed = found[0].remedy != before[0].remedy;
        assert_eq!(advice_changed, message.contains("runtime: "), "{message}");
    }
    // Of a machine that is gone its last words say nothing.
    snapshot.machines[0].spec.state = EpochState::Dead;
    let kinds: Vec<_> = findings(&snapshot).iter().map(|f| f.kind).collect();
    assert!(!kinds.contains(&FindingKind::PartLost));
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    let mut snapshot = cluster(&[(2, held("runs", "a", 3, HolderState::Bound))]);
    snapshot.pods = vec![pod("runs", "a")];
    assert_eq!(findings(&snapshot), []);
}

#[test]
fn machines_pools_and_blocks_out_of_order_are_reported() {
    let mut snapshot = cluster(&[]);
    snapshot.nodes.clear();
    snapshot.pools.push(pool("q", |_| {}));
    snapshot.pools[1].status.approved.clear();
    snapshot.blocks[0].spec.schema = 99;
    let kinds: Vec<FindingKind> = findings(&snapshot).iter().map(|f| f.kind).collect();
    let wanted = [
        FindingKind::BlockUnreadable,
        FindingKind::PoolNotApproved,
        FindingKind::NodeGone,
    ];
    assert_eq!(kinds, wanted);
}

#[test]
fn a_reservation_outside_its_pool_is_reported() {
    for (pool, address, is_wrong) in [
        ("p", "10.0.0.9", false),
        ("p", "10.0.1.9", true),
        ("p", "fd00::9", true),
        ("nowhere", "10.0.0.9", true),
    ] {
        let mut snapshot = cluster(&[]);
        let mut reservation = AddressReservation {
            metadata: metadata("r", "r"),
            ..AddressReservation::default()
        };
        reservation.spec.pool = pool.into();
        reservation.spec.address = address.parse().ok();
        snapshot.reservations.push(reservation);
        let found = findings(&snapshot);
        let of_it = found.iter().filter(|f| f.subject == "r");
        let kinds: Vec<FindingKind> = of_it.map(|f| f.kind).collect();
        let wanted = [FindingKind::ReservationWithoutPlace];
        assert_eq!(kinds, wanted[..usize::from(is_wrong)], "{pool} {address}");
    }
}

#[test]
fn a_pod_learns_which_pools_are_for_it_in_order_and_why_others_are_not() {
    let mut snapshot = cluster(&[]);
    snapshot.pools.push(pool("shop", |pool| {
        pool.spec.namespaces = vec!["shop".into()];
    }));
    snapshot.pools.push(pool("bank", |pool| {
        pool.spec.namespaces = vec!["bank".into()];
    }));
    snapshot.pods = vec![pod("x", "a")];
    let said = explain(&snapshot, "shop", "x", Asked::default()).unwrap();
    let ranks: Vec<(&str, Option<u32>)> = said
        .pools
        .iter()
        .map(|judged| (judged.pool.as_str(), judged.rank))
        .collect();
    assert_eq!(ranks, [("shop", Some(1)), ("p", Some(2)), ("bank", None)]);
    assert!(said.pools[2].why.contains("spec.namespaces"));
    snapshot.pods[0]
        .metadata
        .annotations
        .insert(ANNOTATION_POOL.into(), "bank".into());
    let said = explain(&snapshot, "shop", "x", Asked::default()).unwrap();
    assert!(
        said.pools.iter().all(|judged| judged.rank.is_none()),
        "{said:?}"
    );
    let bank = said
        .pools
        .iter()
        .find(|judged| judged.pool == "bank")
        .unwrap();
    assert!(
        bank.why.contains("spec.namespaces"),
        "named, and not admitted: {bank:?}"
    );
    snapshot.pods[0]
        .metadata
        .annotations
        .insert(ANNOTATION_POOL.into(), "p".into());
    let said = explain(&snapshot, "shop", "x", Asked::default()).unwrap();
    assert_eq!(
        (said.pools[0].pool.as_str(), said.pools[0].rank),
        ("p", Some(1))
    );
    assert_eq!(said.pools[1].rank, None);
    assert_eq!(explain(&snapshot, "shop", "nobody", Asked::default()), None);
}

type Change<'a> = &'a dyn Fn(&mut AddressPool);

#[test]
fn each_refusal_is_explained_by_the_agents_own_rule() {
    let labels = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let requires = |operator, values: &[&str]| {
        vec![Requirement {
            key: "tier".into(),
            operator,
            values: values.iter().map(ToString::to_string).collect(),
        }]
    };
    let team = || LabelSelector {
        match_labels: labels("team", "a"),
        ..LabelSelector::default()
    };
    let cases: [(Change<'_>, &str); 9] = [
        (&|p| p.spec.disabled = true, "spec.disabled"),
        (
            &|p| p.spec.node_selector = labels("zone", "b"),
            "spec.nodeSelector",
        ),
        (
            &|p| p.spec.node_match_expressions = requires(Operator::Exists, &[]),
            "spec.nodeMatchExpressions",
        ),
        (
            &|p| p.spec.namespaces = vec!["bank".into()],
            "spec.namespaces",
        ),
        (
            &|p| p.spec.namespace_selector = Some(team()),
            "spec.namespaceSelector",
        ),
        (
            &|p| p.spec.networks = vec!["storage".into()],
            "spec.networks",
        ),
        (
            &|p| p.spec.pod_selector = labels("app", "vault"),
            "spec.podSelector",
        ),
        (
            &|p| p.spec.pod_match_expressions = requires(Operator::In, &["a"]),
            "spec.podMatchExpressions",
        ),
        (
            &|p| p.spec.pod_match_expressions = requires(Operator::NotIn, &[]),
            "says nothing",
        ),
    ];
    for named in [false, true] {
        for (change, words) in cases {
            let mut snapshot = cluster(&[]);
            snapshot.pools = vec![pool("q", change)];
            snapshot.namespaces = vec![Namespace {
                metadata: metadata("shop", "shop"),
            }];
            let mut asking = pod("x", "a");
            if named {
                let annotations = &mut asking.metadata.annotations;
                annotations.insert(ANNOTATION_POOL.into(), "q".into());
            }
            snapshot.pods = vec![asking];
            let said = explain(&snapshot, "shop", "x", Asked::default()).unwrap();
            let judged = &said.pools[0];
            assert_eq!(judged.rank, None, "{words}, named: {named}");
            assert!(judged.why.contains(words), "{words}: {}", judged.why);
        }
    }
}

#[test]
fn an_annotation_that_cannot_be_followed_and_a_reservation_past_a_rule_are_explained() {
    let mut snapshot = cluster(&[]);
    let mut asking = pod("x", "a");
    asking
        .metadata
        .annotations
        .insert(ANNOTATION_POOLS.into(), "storage=p".into());
    snapshot.pods = vec![asking, pod("y", "a")];
    let said = explain(&snapshot, "shop", "x", Asked::default()).unwrap();
    assert!(said.choice.contains(ANNOTATION_POOLS), "{said:?}");
    assert!(said.pools.iter().all(|judged| judged.rank.is_none()));
    let mut kept = AddressReservation {
        metadata: metadata("static", "static"),
        ..AddressReservation::default()
    };
    kept.spec.pool = "p".into();
    kept.spec.address = "10.0.0.5".parse().ok();
    (kept.spec.pod_namespace, kept.spec.pod_name) = ("shop".into(), "y".into());
    snapshot.reservations = vec![kept];
    let of = |snapshot: &Snapshot| {
        let said = explain(snapshot, "shop", "y", Asked::default()).unwrap();
        said.reservation.unwrap()
    };
    assert!(of(&snapshot).ends_with("for this interface"));
    snapshot.pools[0].spec.namespaces = vec!["bank".into()];
    assert!(of(&snapshot).contains("spec.namespaces"));
}

#[test]
fn a_live_agent_is_asked_and_never_overruled() {
    let snapshot = cluster(&[(3, held("gone", "a", 3, HolderState::Bound))]);
    let row = holders(&snapshot).remove(0);
    let plan = plan_release(&snapshot, &row, false, "w2").unwrap();
    let ReleasePlan::AskAgent(machine) = &plan else {
        panic!("{plan:?}");
    };
    assert_eq!(machine.metadata.annotations[ANNOTATION_RELEASE], "gone");
    assert_eq!(
        machine.metadata.resource_version, "7",
        "the write is guarded"
    );
    let refused = plan_release(&snapshot, &row, true, "w2").unwrap_err();
    assert_eq!(refused, ReleaseRefusal::AgentAnswers("node-a".into()));
}

#[test]
fn a_record_that_nobody_answers_for_goes_by_force_alone_and_alone() {
    let records = [
        (3, held("lost", "b", 1, HolderState::Bound)),
        (4, held("runs", "a", 3, HolderState::Bound)),
    ];
    let snapshot = cluster(&records);
    let row = holders(&snapshot).remove(0);
    assert!(matches!(
        plan_release(&snapshot, &row, false, "w2"),
        Err(ReleaseRefusal::NeedsForce(_))
    ));
    let Ok(ReleasePlan::TakeOut(block)) = plan_release(&snapshot, &row, true, "w2") else {
        panic!("it is taken out");
    };
    let geometry = Pool::parse(&snapshot.pools[0], Some(16)).unwrap();
    let after = Block::read(&block, &geometry).unwrap();
    assert_eq!((after.get(3), after.get(4)), (None, Some(&records[1].1)));
    assert_eq!(block.spec.writer, "w2", "the write differs from the last");
}

#[test]
fn a_burial_under_way_is_left_to_the_controller() {
    let mut snapshot = cluster(&[(3, held("x", "a", 3, HolderState::Bound))]);
    let row = |snapshot: &Snapshot| holders(snapshot).remove(0);
    snapshot.machines[0].spec.state = EpochState::Dying;
    let refused = plan_release(&snapshot, &row(&snapshot), true, "w").unwrap_err();
    assert_eq!(refused, ReleaseRefusal::BeingBuried);
    snapshot.machines[0].spec.state = EpochState::Dead;
    let plan = plan_release(&snapshot, &row(&snapshot), false, "w").unwrap();
    assert_eq!(plan, ReleasePlan::UnderWay);
}

#[test]
fn a_machine_is_buried_by_its_nodes_name_unless_two_serve_it() {
    let mut snapshot = cluster(&[(3, held("x", "a", 3, HolderState::Bound))]);
    let plan = plan_burial(&snapshot, "node-a", "w").unwrap();
    assert_eq!(plan.held, 1);
    assert_eq!(
        plan.machine.metadata.resource_version, "7",
        "the write is guarded"
    );
    assert!(matches!(
        plan_burial(&snapshot, "node-z", "w"),
        Err(BurialRefusal::Unknown(known)) if known == "node-a"
    ));
    let mut twin = machine("b", 1, EpochState::Live);
    twin.spec.node_name = "node-a".into();
    snapshot.machines.push(twin);
    assert!(matches!(
        plan_burial(&snapshot, "node-a", "w"),
        Err(BurialRefusal::Several(ids)) if ids == "a, b"
    ));
    assert!(plan_burial(&snapshot, "b", "w").is_ok());
}

fn unread(kind: Kind, name: &str, spec: &serde_json::Value) -> Object {
    let metadata = serde_json::json!({"name": name, "uid": name, "namespace": match kind {
        Kind::Pod => "shop",
        _ => "",
    }});
    let value = serde_json::json!({"metadata": metadata, "spec": spec});
    let object = crate::core::set_aside::decode(kind, &value).unwrap();
    assert!(object.set_aside().is_some(), "{object:?}");
    object
}

#[test]
fn what_cannot_be_read_is_reported_with_field_and_remedy_and_is_not_taken_for_gone() {
    let mut snapshot = Snapshot::default();
    let mut of_newer = pool("p", |_| {});
    of_newer.spec.other.insert("color".into(), 1.into());
    snapshot.add(vec![
        of_newer.into(),
        machine("m", 1, EpochState::Live).into(),
        unread(
            Kind::AddressPool,
            "typo",
            &serde_json::json!({"dns": ["x"]}),
        ),
        unread(
            Kind::AddressReservation,
            "r",
            &serde_json::json!({"address": "10.0.0.300"}),
        ),
        unread(
            Kind::BerthNode,
            "lost",
            &serde_json::json!({"nodeName": "off", "epoch": "1"}),
        ),
        unread(Kind::Node, "node-m", &serde_json::json!({"taints": 1})),
        unread(
            Kind::Pod,
            "web",
            &serde_json::json!({"nodeName": "node-m", "hostNetwork": 1}),
        ),
        unread(Kind::AddressBlock, "p-0", &serde_json::json!({"size": ""})),
    ]);
    let found = findings(&snapshot);
    let of = |kind| {
        found
            .iter()
            .filter(move |f| f.kind == kind)
            .collect::<Vec<_>>()
    };
    let unreadable = of(FindingKind::ObjectUnreadable);
    assert_eq!(unreadable.len(), 6, "{found:?}");
    for (finding, field) in unreadable.iter().zip([
        "spec.size",
        "spec.dns[0]",
        "spec.address",
        "spec.epoch",
        "spec.taints",
        "spec.hostNetwork",
    ]) {
        assert!(finding.remedy.contains("kubectl"), "{finding:?}");
        let named = unreadable.iter().filter(|f| f.why.contains(field));
        assert_eq!(named.count(), 1, "{field}");
    }
    assert_eq!(
        of(FindingKind::NodeGone),
        [] as [&Finding; 0],
        "its Node cannot be read"
    );
    assert!(of(FindingKind::FieldsIgnored)[0].why.contains("spec.color"));
    let row = pools(&snapshot).remove(0);
    assert_eq!((row.capacity, row.free), (16, 0), "its only block is full");
    assert!(matches!(
        plan_burial(&snapshot, "off", "w"),
        Err(BurialRefusal::Unreadable(name)) if name == "lost"
    ));
    let epoch = EpochId::new("lost", 1);
    assert_eq!(snapshot.incarnation(&epoch), Incarnation::Unreadable);
}
