//! Whatever pools, Pods, Namespaces and plugins say: an answered address is of a pool that admits
//! the Pod by the rules that stand when it is claimed, and of one that was chosen, if one was.

use berth::core::exchange::Response;
use berth::core::labels::{LabelSelector, Labels, Operator, Requirement};
use berth::core::objects::{ANNOTATION_POOL, ANNOTATION_POOLS, AddressPoolSpec, Namespace};
use berth::core::selection::{Candidate, admits};
use berth::testing::NETWORK;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::{add_on, change_pod, change_pool, cluster, pod, seconds};

const POOLS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
struct Rules {
    is_default: bool,
    disabled: bool,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
    networks: Vec<String>,
    pod_selector: Labels,
    pod_expressions: Vec<Requirement>,
    node_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug)]
struct Ask {
    network: String,
    interface: String,
    pools: Vec<String>,
    ip: Option<String>,
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map("[tz]", "[ab]", 0..2)
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let operator = prop_oneof![
        Just(Operator::In),
        Just(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist)
    ];
    ("[tz]", operator, vec("[ab]", 0..2)).prop_map(|(key, operator, values)| Requirement {
        key,
        operator,
        values,
    })
}

fn rarely<T: core::fmt::Debug>(
    strategy: impl Strategy<Value = Vec<T>>,
) -> impl Strategy<Value = Vec<T>> {
    option::weighted(0.25, strategy).prop_map(Option::unwrap_or_default)
}

fn rules() -> impl Strategy<Value = Rules> {
    let selector =
        (labels(), vec(requirement(), 0..2)).prop_map(|(labels, expressions)| LabelSelector {
            match_labels: labels,
            match_expressions: expressions,
        });
    (
        any::<bool>(),
        prop::bool::weighted(0.1),
        rarely(vec("ns|bank", 1..2)),
        option::weighted(0.3, selector),
        rarely(vec(
            prop_oneof![Just("storage".to_owned()), Just(NETWORK.to_owned())],
            1..2,
        )),
        option::weighted(0.25, labels()).prop_map(Option::unwrap_or_default),
        rarely(vec(requirement(), 1..2)),
        rarely(vec(requirement(), 1..2)),
    )
        .prop_map(
            |(is_default, disabled, namespaces, selector, networks, pod, of_pod, of_node)| Rules {
                is_default,
                disabled,
                namespaces,
                namespace_selector: selector,
                networks,
                pod_selector: pod,
                pod_expressions: of_pod,
                node_expressions: of_node,
            },
        )
}

fn ask() -> impl Strategy<Value = Ask> {
    let network = prop_oneof![
        Just((NETWORK, "eth0")),
        Just(("storage", "net1")),
        Just(("x", "net2"))
    ];
    (
        network,
        rarely(vec("[a-d]", 1..3)),
        option::weighted(0.3, "10\\.[1-3]\\.0\\.[0-9]"),
    )
        .prop_map(|((network, interface), pools, ip)| Ask {
            network: network.to_owned(),
            interface: interface.to_owned(),
            pools,
            ip,
        })
}

fn set(spec: &mut AddressPoolSpec, rules: &Rules) {
    spec.is_default = rules.is_default;
    spec.disabled = rules.disabled;
    spec.namespaces.clone_from(&rules.namespaces);
    spec.namespace_selector
        .clone_from(&rules.namespace_selector);
    spec.networks.clone_from(&rules.networks);
    spec.pod_selector.clone_from(&rules.pod_selector);
    spec.pod_match_expressions
        .clone_from(&rules.pod_expressions);
    spec.node_match_expressions
        .clone_from(&rules.node_expressions);
}

fn annotations() -> impl Strategy<Value = Vec<(String, String)>> {
    let default = option::weighted(0.5, "[a-d]|A!").prop_map(|name| (ANNOTATION_POOL, name));
    let map = prop_oneof![
        Just(r#"{"storage": "b"}"#.to_owned()),
        Just(r#"{"storage/net1": "c", "x": "a"}"#.to_owned()),
        Just("storage=b".to_owned()),
    ];
    let pools = option::weighted(0.3, map).prop_map(|map| (ANNOTATION_POOLS, map));
    (default, pools).prop_map(|(one, two)| {
        let both = [one, two].into_iter();
        both.filter_map(|(key, value)| Some((key.to_owned(), value?)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn an_answered_address_is_of_a_pool_that_admits_the_pod_when_it_is_claimed(
        before in vec(rules(), 3),
        after in vec(rules(), 3),
        (pod_labels, namespace_labels) in (labels(), labels()),
        (named, named_after, by_namespace) in
            (annotations(), annotations(), option::weighted(0.3, "[a-c]")),
        (first, second) in (ask(), ask()),
    ) {
        let mut world = cluster(&POOLS);
        let mut namespace = Namespace::default();
        namespace.metadata.name = "ns".into();
        namespace.metadata.labels.clone_from(&namespace_labels);
        if let Some(pool) = by_namespace {
            namespace.metadata.annotations.insert(ANNOTATION_POOL.into(), pool);
        }
        world.with_store(|store| store.create(namespace.into()).unwrap());
        for (name, rules) in POOLS.iter().zip(&before) {
            change_pool(&mut world, name, |spec| set(spec, rules));
        }
        seconds(&mut world, 1);
        pod(&mut world, "x", |pod| {
            pod.metadata.labels.clone_from(&pod_labels);
            pod.metadata.annotations = named.iter().cloned().collect();
        });
        let mut standing = (before, named);
        for (round, ask) in [first, second].into_iter().enumerate() {
            if round == 1 {
                for (name, rules) in POOLS.iter().zip(&after) {
                    change_pool(&mut world, name, |spec| set(spec, rules));
                }
                change_pod(&mut world, "x", |pod| {
                    pod.metadata.annotations = named_after.iter().cloned().collect();
                });
                standing = (after.clone(), named_after.clone());
            }
            seconds(&mut world, 1);
            let mut request = add_on("x", &ask.network, &ask.interface);
            // Another container each time: nothing of the first round is bound to it.
            request.attachment.container = format!("c{round}");
            request.netns = format!("/run/netns/c{round}");
            request.pools.clone_from(&ask.pools);
            request.ips = ask.ip.iter().map(|ip| ip.parse().unwrap()).collect();
            let id = world.ask("n0", request);
            seconds(&mut world, 21);
            let Some(Response::Added(answer)) = world.answer("n0", id) else {
                continue;
            };
            let (rules, named) = &standing;
            let index = POOLS.iter().position(|name| **name == answer.pool).unwrap();
            let mut spec = AddressPoolSpec::default();
            set(&mut spec, &rules[index]);
            let candidate = Candidate {
                node_labels: &Labels::new(),
                namespace: "ns",
                namespace_labels: Some(&namespace_labels),
                pod_labels: Some(&pod_labels),
                network: &ask.network,
            };
            prop_assert_eq!(admits(&spec, &candidate), Ok(()), "round {}: {}", round, answer.pool);
            if !ask.pools.is_empty() {
                prop_assert!(ask.pools.contains(&answer.pool));
            } else if ask.interface == "eth0" {
                let of_pod = named.iter().find(|(key, _)| key == ANNOTATION_POOL);
                prop_assert!(of_pod.is_none_or(|(_, pool)| *pool == answer.pool));
            }
            if let Some(ip) = &ask.ip {
                let given = answer.addresses[0].address.addr().to_string();
                prop_assert_eq!(ip, &given);
            }
        }
    }
}
