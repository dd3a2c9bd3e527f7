//! Every path to an address against every rule of a pool. Namespaces' labels are elsewhere.

use core::time::Duration;

use berth::core::agent::AgentConfig;
use berth::core::exchange::Failure;
use berth::core::labels::{Operator, Requirement};
use berth::core::objects::{
    ANNOTATION_MIRROR, ANNOTATION_POOL, ANNOTATION_POOLS, AddressReservation, Kind, ObjectKey,
};
use berth::testing::{PodPlan, World};

use super::{
    SHUT, add, add_on, annotated, asked, assert_refused, change, change_pod, change_pool, cluster,
    cluster_with, is_held, pod, pool_of, seconds, with_pool,
};

/// A Pod that a kubelet starts, half a second after it was bound, with that annotation.
fn kubelets_pod(world: &mut World, name: &str, pool: &str) {
    world.create_pod(PodPlan {
        node: "n0",
        name,
        sandbox_after: Duration::from_millis(500),
    });
    change_pod(world, name, annotated(ANNOTATION_POOL, pool));
}

fn thief_gets(configure: fn(&mut AgentConfig), shut: usize) -> bool {
    let mut world = cluster_with(&["bank"], configure);
    change_pool(&mut world, "bank", |spec| {
        spec.is_default = false;
        SHUT[shut].0(spec);
    });
    seconds(&mut world, 1);
    kubelets_pod(&mut world, "thief", "bank");
    seconds(&mut world, 15);
    !world.addresses_of("thief").is_empty() || is_held(&world, "thief")
}

#[test]
fn an_annotation_opens_no_pool_past_any_of_its_rules() {
    for (shut, (_, words)) in SHUT.iter().enumerate() {
        assert!(!thief_gets(|_| {}, shut), "{words}");
        let mut world = with_pool(&["bank"], "bank", SHUT[shut].0);
        pod(&mut world, "thief", annotated(ANNOTATION_POOL, "bank"));
        let result = asked(&mut world, add("thief"));
        assert_refused(&world, result, &["\"bank\"", words]);
    }
}

#[cfg(feature = "mutants")]
#[test]
fn each_of_them_catches_the_mutant_that_asks_rules_only_where_nobody_names_a_pool() {
    for (shut, (_, words)) in SHUT.iter().enumerate() {
        let falls = thief_gets(
            |config| config.mutant = Some(berth::core::Mutant::RightsOnlyOnOrdinaryPath),
            shut,
        );
        assert!(falls, "{words}");
    }
}

#[test]
fn an_annotation_chooses_among_the_pools_that_admit_the_pod() {
    let mut world = cluster(&["a", "b"]);
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "b"));
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("b".into()));
    pod(&mut world, "y", annotated(ANNOTATION_POOL, "nowhere"));
    let result = asked(&mut world, add("y"));
    assert_refused(&world, result, &["there is no pool \"nowhere\""]);
}

#[test]
fn the_configurations_list_opens_no_pool_either_and_its_others_are_used() {
    for (edit, words) in SHUT {
        let mut world = with_pool(&["bank", "open"], "bank", edit);
        let mut request = add("x");
        pod(&mut world, "x", |_| {});
        request.pools = vec!["bank".into()];
        let result = asked(&mut world, request.clone());
        assert_refused(&world, result, &["configuration", "\"bank\"", words]);
        request.pools = vec!["bank".into(), "open".into()];
        let result = asked(&mut world, request);
        assert_eq!(pool_of(result), Ok("open".into()), "{words}");
    }
}

#[test]
fn a_requested_address_opens_no_pool() {
    for (edit, words) in SHUT {
        let mut world = with_pool(&["bank", "open"], "bank", edit);
        pod(&mut world, "x", |_| {});
        let mut request = add("x");
        request.ips = vec!["10.1.0.7".parse().unwrap()];
        let failure = asked(&mut world, request.clone()).unwrap_err();
        assert_eq!(failure.code, Failure::ADDRESS_INADMISSIBLE);
        assert!(failure.message.contains("\"bank\""), "{failure:?}");
        assert!(failure.message.contains(words), "{words}: {failure:?}");
        request.ips = vec!["10.2.0.7".parse().unwrap()];
        let (pool, address) = asked(&mut world, request).unwrap();
        assert_eq!(
            (pool.as_str(), address.to_string().as_str()),
            ("open", "10.2.0.7")
        );
    }
}

fn reserve(world: &mut World, name: &str, pool: &str, address: &str, pod: &str) {
    let mut kept = AddressReservation::default();
    kept.metadata.name = name.into();
    kept.spec.pool = pool.into();
    kept.spec.address = address.parse().ok();
    (kept.spec.pod_namespace, kept.spec.pod_name) = ("ns".into(), pod.into());
    world.with_store(|store| store.create(kept.into()).unwrap());
    seconds(world, 1);
}

#[test]
fn a_requested_address_that_is_kept_for_another_pod_is_refused_marked_or_not() {
    for with_controller in [false, true] {
        let mut world = cluster(&["a"]);
        reserve(&mut world, "static", "a", "10.1.0.9", "owner");
        if with_controller {
            world.start_controller("c");
            seconds(&mut world, 20);
        }
        for name in ["thief", "owner"] {
            pod(&mut world, name, |_| {});
        }
        seconds(&mut world, 1);
        let mut request = add("thief");
        request.ips = vec!["10.1.0.9".parse().unwrap()];
        let failure = asked(&mut world, request).unwrap_err();
        assert_eq!(failure.code, Failure::ADDRESS_TAKEN, "{failure:?}");
        assert!(failure.message.contains("\"static\""), "{failure:?}");
        let mut own = add("owner");
        own.ips = vec!["10.1.0.9".parse().unwrap()];
        let (_, address) = asked(&mut world, own).unwrap();
        assert_eq!(address.to_string(), "10.1.0.9", "its own it may name");
    }
}

#[test]
fn a_requested_address_that_is_masked_is_refused_by_its_reason() {
    let mut world = cluster(&["a"]);
    change_pool(&mut world, "a", |spec| {
        spec.families[0].exclude = vec!["10.1.0.9".into()];
    });
    seconds(&mut world, 1);
    pod(&mut world, "x", |_| {});
    let mut request = add("x");
    request.ips = vec!["10.1.0.9".parse().unwrap()];
    let failure = asked(&mut world, request).unwrap_err();
    assert_eq!(failure.code, Failure::ADDRESS_INADMISSIBLE, "{failure:?}");
}

#[test]
fn a_reservation_in_a_pool_that_does_not_admit_its_pod_is_told_and_not_replaced() {
    let mut world = with_pool(&["vault", "open"], "vault", |spec| {
        spec.namespaces = vec!["bank".into()];
    });
    reserve(&mut world, "static", "vault", "10.1.0.9", "x");
    pod(&mut world, "x", |_| {});
    let result = asked(&mut world, add("x"));
    assert_refused(
        &world,
        result,
        &["\"static\"", "\"vault\"", "spec.namespaces"],
    );
    assert!(!is_held(&world, "x"));
    // A pool of another network keeps it for another interface.
    change_pool(&mut world, "vault", |spec| {
        spec.namespaces.clear();
        spec.networks = vec!["storage".into()];
    });
    seconds(&mut world, 1);
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("open".into()));
    let (_, address) = asked(&mut world, add_on("x", "storage", "net1")).unwrap();
    assert_eq!(address.to_string(), "10.1.0.9");
}

#[test]
fn a_reservation_is_for_one_interface_and_the_next_gets_another_address() {
    let mut world = cluster(&["a"]);
    reserve(&mut world, "static", "a", "10.1.0.9", "x");
    pod(&mut world, "x", |_| {});
    let (_, first) = asked(&mut world, add("x")).unwrap();
    let (_, second) = asked(&mut world, add_on("x", "storage", "net1")).unwrap();
    assert_eq!(first.to_string(), "10.1.0.9");
    assert_ne!(first, second);
}

#[test]
fn a_rule_that_tightens_between_reservation_and_add_takes_the_reservation_back() {
    for (edit, words) in SHUT {
        let mut world = cluster(&["bank", "open"]);
        pod(&mut world, "x", annotated(ANNOTATION_POOL, "bank"));
        seconds(&mut world, 2);
        assert!(is_held(&world, "x"), "reserved ahead");
        change_pool(&mut world, "bank", edit);
        seconds(&mut world, 10);
        let result = asked(&mut world, add("x"));
        assert_refused(&world, result, &["\"bank\"", words]);
        seconds(&mut world, 10);
        assert!(!is_held(&world, "x"), "{words}: given back");
    }
}

#[test]
fn an_annotation_that_changes_after_the_reservation_is_followed_at_add() {
    let mut world = cluster(&["a", "b"]);
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "a"));
    seconds(&mut world, 2);
    change_pod(&mut world, "x", annotated(ANNOTATION_POOL, "b"));
    seconds(&mut world, 1);
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("b".into()));
    seconds(&mut world, 10);
    assert_eq!(world.held_by(), ["pod-x"], "the first went back");
}

#[test]
fn a_label_that_a_pod_loses_after_the_reservation_shuts_the_pool() {
    let mut world = with_pool(&["bank", "open"], "bank", |spec| {
        spec.pod_selector.insert("app".into(), "vault".into());
    });
    pod(&mut world, "x", |pod| {
        pod.metadata.labels.insert("app".into(), "vault".into());
    });
    seconds(&mut world, 2);
    assert!(is_held(&world, "x"));
    change_pod(&mut world, "x", |pod| pod.metadata.labels.clear());
    seconds(&mut world, 1);
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("open".into()));
}

#[test]
fn what_is_bound_stays_bound_whatever_tightens() {
    for (edit, words) in SHUT {
        let mut world = cluster(&["bank"]);
        pod(&mut world, "x", annotated(ANNOTATION_POOL, "bank"));
        let before = asked(&mut world, add("x")).unwrap();
        change_pool(&mut world, "bank", edit);
        change_pod(&mut world, "x", annotated(ANNOTATION_POOL, "elsewhere"));
        seconds(&mut world, 120);
        assert!(is_held(&world, "x"), "{words}");
        let again = asked(&mut world, add("x"));
        assert_eq!(again, Ok(before.clone()), "{words}: the same ADD again");
        world.kill_agent("n0");
        world.start_agent("n0");
        seconds(&mut world, 10);
        assert_eq!(
            asked(&mut world, add("x")),
            Ok(before),
            "{words}: restarted"
        );
    }
}

#[test]
fn a_reservation_that_an_earlier_process_made_follows_the_rule_of_now() {
    for (edit, words) in SHUT {
        let mut world = cluster(&["bank", "open"]);
        pod(&mut world, "x", annotated(ANNOTATION_POOL, "bank"));
        seconds(&mut world, 2);
        assert!(is_held(&world, "x"));
        world.kill_agent("n0");
        change_pool(&mut world, "bank", edit);
        world.start_agent("n0");
        seconds(&mut world, 5);
        let result = asked(&mut world, add("x"));
        assert_refused(&world, result, &["\"bank\"", words]);
    }
}

#[test]
fn a_claim_that_waits_in_a_full_pool_is_not_written_when_the_pool_shuts_meanwhile() {
    let mut world = cluster(&["small", "next"]);
    for index in 0..16 {
        let name = format!("p{index}");
        pod(&mut world, &name, annotated(ANNOTATION_POOL, "small"));
        world.ask("n0", add(&name));
    }
    seconds(&mut world, 5);
    assert_eq!(world.held_by().len(), 16);
    pod(&mut world, "late", |_| {});
    let mut request = add("late");
    request.pools = vec!["small".into(), "next".into()];
    change_pool(&mut world, "next", |spec| spec.disabled = true);
    seconds(&mut world, 1);
    let id = world.ask("n0", request);
    seconds(&mut world, 2);
    assert_eq!(world.answer("n0", id), None, "it waits for room");
    change_pool(&mut world, "small", |spec| {
        spec.namespaces = vec!["bank".into()];
    });
    world.delete_pod("p0", Duration::from_millis(1), true);
    seconds(&mut world, 20);
    let told = format!("{:?}", world.answer("n0", id).unwrap());
    assert!(
        told.contains("spec.namespaces") && told.contains("spec.disabled"),
        "{told}"
    );
    assert!(!is_held(&world, "late"));
}

#[test]
fn an_annotation_for_the_default_network_redirects_no_other() {
    // Whichever asks first: the reservation made ahead is the default network's.
    for default_first in [true, false] {
        let mut world = cluster(&["a", "b"]);
        pod(&mut world, "x", annotated(ANNOTATION_POOL, "b"));
        seconds(&mut world, 2);
        let (default, other) = (add("x"), add_on("x", "storage", "net1"));
        let (first, second) = if default_first {
            (
                pool_of(asked(&mut world, default)),
                pool_of(asked(&mut world, other)),
            )
        } else {
            let other = pool_of(asked(&mut world, other));
            (pool_of(asked(&mut world, default)), other)
        };
        assert_eq!((first, second), (Ok("b".into()), Ok("a".into())));
    }
}

#[test]
fn a_named_default_network_is_told_from_others_by_its_name() {
    let mut world = cluster_with(&["a", "b"], |config| config.default_network = "pods".into());
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "b"));
    let storage = add_on("x", "storage", "eth0");
    assert_eq!(pool_of(asked(&mut world, storage)), Ok("a".into()));
    let pods = add_on("x", "pods", "net7");
    assert_eq!(pool_of(asked(&mut world, pods)), Ok("b".into()));
}

#[test]
fn without_a_named_default_network_the_annotation_is_for_eth0() {
    let mut world = cluster_with(&["a", "b"], |config| config.default_network.clear());
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "b"));
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("b".into()));
    let second = add_on("x", "storage", "net1");
    assert_eq!(pool_of(asked(&mut world, second)), Ok("a".into()));
}

#[test]
fn each_interface_follows_its_own_entry_and_no_entry_opens_a_pool() {
    let mut world = cluster(&["a", "b", "c", "bank"]);
    change_pool(&mut world, "bank", |spec| {
        spec.namespaces = vec!["bank".into()];
    });
    let map = r#"{"storage": "b", "storage/net2": "c", "backup": "bank"}"#;
    pod(&mut world, "x", annotated(ANNOTATION_POOLS, map));
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("a".into()));
    let mut on = |network, interface| asked(&mut world, add_on("x", network, interface));
    assert_eq!(pool_of(on("storage", "net1")), Ok("b".into()));
    assert_eq!(pool_of(on("storage", "net2")), Ok("c".into()));
    assert_eq!(pool_of(on("other", "net4")), Ok("a".into()));
    let result = on("backup", "net3");
    assert_refused(
        &world,
        result,
        &[ANNOTATION_POOLS, "\"bank\"", "spec.namespaces"],
    );
}

#[test]
fn a_malformed_annotation_refuses_its_network_and_is_told_on_the_pod() {
    let mut world = cluster(&["a"]);
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "Not A Pool"));
    let result = asked(&mut world, add("x"));
    assert_refused(&world, result, &[ANNOTATION_POOL, "Not A Pool"]);
    let other = asked(&mut world, add_on("x", "storage", "net1"));
    assert_eq!(
        pool_of(other),
        Ok("a".into()),
        "another network is not meant"
    );
    pod(&mut world, "y", annotated(ANNOTATION_POOLS, "storage=a"));
    for request in [add("y"), add_on("y", "storage", "net1")] {
        let result = asked(&mut world, request);
        assert_refused(&world, result, &[ANNOTATION_POOLS]);
    }
    pod(
        &mut world,
        "z",
        annotated(ANNOTATION_POOLS, r#"{"storage": 7}"#),
    );
    let result = asked(&mut world, add_on("z", "storage", "net1"));
    assert_refused(&world, result, &[ANNOTATION_POOLS, "7"]);
    assert_eq!(pool_of(asked(&mut world, add("z"))), Ok("a".into()));
}

#[test]
fn match_expressions_admit_as_kubernetes_does_by_annotation_too() {
    let requirement = |operator, values: &[&str]| Requirement {
        key: "tier".into(),
        operator,
        values: values.iter().map(ToString::to_string).collect(),
    };
    for (operator, values, of_front, of_none) in [
        (Operator::In, &["front", "edge"][..], true, false),
        (Operator::In, &["back"], false, false),
        (Operator::NotIn, &["front"], false, true),
        (Operator::NotIn, &["back"], true, true),
        (Operator::Exists, &[], true, false),
        (Operator::DoesNotExist, &[], false, true),
    ] {
        for of_node in [false, true] {
            let mut world = cluster(&["p"]);
            let rule = requirement(operator, values);
            change_pool(&mut world, "p", |spec| {
                spec.is_default = false;
                if of_node {
                    // The Node of this world has no label.
                    spec.node_match_expressions = vec![rule.clone()];
                } else {
                    spec.pod_match_expressions = vec![rule.clone()];
                }
            });
            seconds(&mut world, 1);
            for (name, has, named) in [
                ("front", true, false),
                ("front-named", true, true),
                ("none", false, false),
                ("none-named", false, true),
            ] {
                pod(&mut world, name, |pod| {
                    if has {
                        pod.metadata.labels.insert("tier".into(), "front".into());
                    }
                    if named {
                        annotated(ANNOTATION_POOL, "p")(pod);
                    }
                });
                let expected = if has && !of_node { of_front } else { of_none };
                let result = asked(&mut world, add(name));
                assert_eq!(
                    result.is_ok(),
                    expected,
                    "{rule} {name} {of_node}: {result:?}"
                );
            }
        }
    }
}

#[test]
fn a_node_that_is_relabeled_follows_within_a_minute_and_what_is_bound_stays() {
    let mut world = with_pool(&["bank"], "bank", |spec| {
        spec.node_selector.insert("zone".into(), "b".into());
    });
    let label = |world: &mut World, zone: Option<&str>| {
        let key = ObjectKey::cluster(Kind::Node, "n0");
        change(world, &key, |node| {
            let labels = &mut node.metadata_mut().labels;
            labels.clear();
            labels.extend(zone.map(|zone| ("zone".to_owned(), zone.to_owned())));
        });
        seconds(world, 62);
    };
    for name in ["x", "y"] {
        pod(&mut world, name, |_| {});
    }
    let result = asked(&mut world, add("x"));
    assert_refused(&world, result, &["\"bank\"", "spec.nodeSelector"]);
    label(&mut world, Some("b"));
    let bound = asked(&mut world, add("x")).unwrap();
    label(&mut world, None);
    let result = asked(&mut world, add("y"));
    assert_refused(&world, result, &["\"bank\"", "spec.nodeSelector"]);
    assert_eq!(asked(&mut world, add("x")), Ok(bound));
}

#[test]
fn a_requirement_that_says_nothing_shuts_the_pool() {
    let mut world = cluster(&["p"]);
    change_pool(&mut world, "p", |spec| {
        spec.pod_match_expressions = vec![Requirement {
            key: "tier".into(),
            operator: Operator::NotIn,
            values: Vec::new(),
        }];
    });
    pod(&mut world, "x", |_| {});
    let result = asked(&mut world, add("x"));
    assert_refused(
        &world,
        result,
        &["says nothing", "spec.podMatchExpressions"],
    );
}

#[test]
fn an_add_before_the_watch_shows_its_pod_follows_the_annotation_all_the_same() {
    let mut world = cluster(&["a", "b"]);
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "b"));
    // No time for the watch.
    assert_eq!(pool_of(asked(&mut world, add("x"))), Ok("b".into()));
}

#[test]
fn a_static_pod_is_judged_by_its_mirror_and_a_pod_that_is_gone_gets_nothing() {
    let mut world = cluster(&["a", "b"]);
    pod(&mut world, "static", |pod| {
        pod.metadata
            .annotations
            .insert(ANNOTATION_MIRROR.into(), "by-hash".into());
        annotated(ANNOTATION_POOL, "b")(pod);
    });
    let mut request = add("static");
    request.pod.uid = Some(berth::core::objects::Uid::new("by-hash"));
    assert_eq!(pool_of(asked(&mut world, request.clone())), Ok("b".into()));
    request.pod.uid = Some(berth::core::objects::Uid::new("earlier"));
    request.attachment.container = "other".into();
    let failure = asked(&mut world, request).unwrap_err();
    assert_eq!(failure.code, Failure::TRY_AGAIN, "{failure:?}");
    let failure = asked(&mut world, add("nobody")).unwrap_err();
    assert_eq!(failure.code, Failure::TRY_AGAIN, "{failure:?}");
    assert!(!is_held(&world, "nobody"));
}

#[test]
fn a_pool_that_is_not_approved_any_more_still_follows_its_rules() {
    let mut world = cluster(&["bank"]);
    pod(&mut world, "x", annotated(ANNOTATION_POOL, "bank"));
    seconds(&mut world, 2);
    // Grown, so not approved; and for others only.
    change_pool(&mut world, "bank", |spec| {
        spec.families[0].ranges.push("10.99.0.0/28".into());
        spec.namespaces = vec!["bank".into()];
    });
    seconds(&mut world, 1);
    let result = asked(&mut world, add("x"));
    assert_refused(&world, result, &["\"bank\"", "spec.namespaces"]);
    let key = ObjectKey::cluster(Kind::AddressPool, "bank");
    assert!(world.with_store(|store| store.get(&key)).is_ok());
}
