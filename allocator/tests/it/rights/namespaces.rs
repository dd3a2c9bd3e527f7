//! Namespaces: their labels, and the pool that one names for its Pods.

use berth::core::exchange::Failure;
use berth::core::labels::{LabelSelector, Operator, Requirement};
use berth::core::objects::{ANNOTATION_POOL, Kind, Namespace, Object, ObjectKey};
use berth::testing::World;

use super::{
    add, add_on, annotated, asked, assert_refused, change, change_pool, cluster, is_held, pod,
    pool_of, seconds,
};

fn make_namespace(world: &mut World, labels: &[(&str, &str)], pool: Option<&str>) {
    let mut namespace = Namespace::default();
    namespace.metadata.name = "ns".into();
    for (key, value) in labels {
        let labels = &mut namespace.metadata.labels;
        labels.insert((*key).into(), (*value).into());
    }
    if let Some(pool) = pool {
        let annotations = &mut namespace.metadata.annotations;
        annotations.insert(ANNOTATION_POOL.into(), pool.into());
    }
    world.with_store(|store| store.create(namespace.into()).unwrap());
}

fn change_namespace(world: &mut World, edit: impl FnOnce(&mut Namespace)) {
    let key = ObjectKey::cluster(Kind::Namespace, "ns");
    change(world, &key, |object| match object {
        Object::Namespace(namespace) => edit(namespace),
        _ => panic!("a Namespace"),
    });
}

fn team(value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: [("team".to_owned(), value.to_owned())].into(),
        match_expressions: Vec::new(),
    }
}

/// How often Namespaces were asked for.
fn namespaces_are_read(world: &World) -> bool {
    let asked = world.asked("n0");
    asked.iter().any(|asked| asked.kind == Kind::Namespace)
}

#[test]
fn a_pool_is_for_the_namespaces_with_its_labels_named_or_not() {
    for (labels, admitted) in [
        (&[("team", "a")][..], true),
        (&[("team", "b")], false),
        (&[], false),
    ] {
        for named in [false, true] {
            let mut world = cluster(&["bank"]);
            change_pool(&mut world, "bank", |spec| {
                spec.is_default = false;
                spec.namespace_selector = Some(team("a"));
            });
            make_namespace(&mut world, labels, None);
            seconds(&mut world, 1);
            pod(&mut world, "x", |pod| {
                if named {
                    annotated(ANNOTATION_POOL, "bank")(pod);
                }
            });
            let result = asked(&mut world, add("x"));
            if admitted {
                assert_eq!(pool_of(result), Ok("bank".into()));
            } else {
                assert_refused(&world, result, &["\"bank\"", "spec.namespaceSelector"]);
            }
        }
    }
}

#[test]
fn a_namespace_that_is_not_known_is_waited_for_and_never_assumed() {
    let mut world = cluster(&["bank", "open"]);
    change_pool(&mut world, "bank", |spec| {
        spec.namespace_selector = Some(LabelSelector {
            match_labels: [].into(),
            match_expressions: vec![Requirement {
                key: "team".into(),
                operator: Operator::DoesNotExist,
                values: Vec::new(),
            }],
        });
    });
    seconds(&mut world, 1);
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "bank"));
    let failure = asked(&mut world, add("x")).unwrap_err();
    assert_eq!(failure.code, Failure::TRY_AGAIN);
    assert!(failure.message.contains("Namespace"), "{failure:?}");
    assert!(!is_held(&world, "x"));
    let id = world.ask("n0", add("x"));
    seconds(&mut world, 2);
    assert_eq!(world.answer("n0", id), None, "it waits");
    make_namespace(&mut world, &[], None);
    seconds(&mut world, 8);
    let told = format!("{:?}", world.answer("n0", id));
    assert!(told.contains("\"bank\""), "known now: {told}");
}

#[test]
fn a_namespace_that_is_relabeled_is_admitted_no_more_after_half_a_minute() {
    let mut world = cluster(&["bank"]);
    change_pool(&mut world, "bank", |spec| {
        spec.is_default = false;
        spec.namespace_selector = Some(team("a"));
    });
    make_namespace(&mut world, &[("team", "a")], None);
    seconds(&mut world, 1);
    for name in ["bound", "reserved"] {
        pod(&mut world, name, |_| {});
    }
    let before = asked(&mut world, add("bound")).unwrap();
    assert!(is_held(&world, "reserved"));
    change_namespace(&mut world, |namespace| namespace.metadata.labels.clear());
    seconds(&mut world, 31);
    let result = asked(&mut world, add("reserved"));
    assert_refused(&world, result, &["\"bank\"", "spec.namespaceSelector"]);
    seconds(&mut world, 10);
    assert!(!is_held(&world, "reserved"), "given back");
    assert_eq!(
        asked(&mut world, add("bound")),
        Ok(before),
        "bound stays bound"
    );
    change_namespace(&mut world, |namespace| {
        namespace.metadata.labels.insert("team".into(), "a".into());
    });
    seconds(&mut world, 31);
    assert_eq!(
        pool_of(asked(&mut world, add("reserved"))),
        Ok("bank".into())
    );
}

#[test]
fn a_namespaces_pool_is_the_default_of_its_pods_and_a_pods_own_word_comes_first() {
    let mut world = cluster(&["a", "b", "team"]);
    for name in ["b", "team"] {
        change_pool(&mut world, name, |spec| {
            spec.is_default = false;
            spec.namespace_selector = Some(LabelSelector::default());
        });
    }
    make_namespace(&mut world, &[], Some("team"));
    seconds(&mut world, 1);
    pod(&mut world, "x", |_| {});
    pod(&mut world, "y", annotated(ANNOTATION_POOL, "b"));
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("team".into()));
    assert_eq!(pool_of(asked(&mut world, add("y"))), Ok("b".into()));
    let second = asked(&mut world, add_on("x", "storage", "net1"));
    assert_eq!(
        pool_of(second),
        Ok("a".into()),
        "of the default network alone"
    );
    let mut listed = add_on("x", "storage", "net2");
    listed.pools = vec!["b".into()];
    assert_eq!(pool_of(asked(&mut world, listed)), Ok("b".into()));
}

#[test]
fn a_namespace_names_no_pool_past_its_rules_and_none_that_lets_no_namespace_name_it() {
    let mut world = cluster(&["a", "bank", "other"]);
    change_pool(&mut world, "other", |spec| {
        spec.namespace_selector = Some(LabelSelector::default());
    });
    make_namespace(&mut world, &[], Some("bank"));
    seconds(&mut world, 1);
    pod(&mut world, "x", |_| {});
    let result = asked(&mut world, add("x"));
    assert_refused(
        &world,
        result,
        &["Namespace's annotation", "\"bank\"", "namespaceSelector"],
    );
    change_pool(&mut world, "bank", |spec| {
        spec.namespace_selector = Some(LabelSelector::default());
        spec.disabled = true;
    });
    seconds(&mut world, 1);
    let result = asked(&mut world, add("x"));
    assert_refused(&world, result, &["\"bank\"", "spec.disabled"]);
    change_namespace(&mut world, |namespace| {
        let annotations = &mut namespace.metadata.annotations;
        annotations.insert(ANNOTATION_POOL.into(), "B/A/D".into());
    });
    seconds(&mut world, 31);
    let result = asked(&mut world, add("x"));
    assert_refused(&world, result, &[ANNOTATION_POOL, "B/A/D"]);
}

#[test]
fn nobody_reads_namespaces_while_no_pool_asks_for_them() {
    let mut world = cluster(&["a"]);
    make_namespace(&mut world, &[], Some("a"));
    for index in 0..10 {
        let name = format!("p{index}");
        pod(&mut world, &name, |_| {});
        seconds(&mut world, 1);
    }
    asked(&mut world, add("p0")).unwrap();
    assert!(!namespaces_are_read(&world));
}

#[test]
fn a_namespace_is_read_at_most_twice_a_minute_however_many_pods_come() {
    let mut world = cluster(&["a"]);
    change_pool(&mut world, "a", |spec| {
        spec.namespace_selector = Some(LabelSelector::default());
    });
    make_namespace(&mut world, &[], None);
    seconds(&mut world, 1);
    world.take_costs();
    for index in 0..12 {
        let name = format!("p{index}");
        pod(&mut world, &name, |_| {});
        world.ask("n0", add(&name));
        seconds(&mut world, 4);
    }
    assert!(namespaces_are_read(&world));
    let costs = world.take_costs();
    // 48 s: two reads of the Namespace, three of the epoch, and of blocks.
    assert!(costs.gets <= 12, "{costs:?}");
}
