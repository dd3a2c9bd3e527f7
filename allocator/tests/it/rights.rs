//! A pool gives only to whom it admits, whoever named it: a Pod, its Namespace, a network's
//! configuration, a requested address, a reservation. What is bound stays bound.

mod door;
mod namespaces;
mod property;
mod storm;

use core::net::IpAddr;
use core::time::Duration;

use berth::core::agent::AgentConfig;
use berth::core::api::Part;
use berth::core::exchange::{AddRequest, Attachment, Failure, PodReference, Response};
use berth::core::objects::{AddressPoolSpec, Kind, Object, ObjectKey, Pod, Uid};
use berth::testing::{Faults, NETWORK, PodPlan, World};

pub(crate) fn seconds(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds));
}

pub(crate) fn change(world: &mut World, key: &ObjectKey, change: impl FnOnce(&mut Object)) {
    world.with_store(|store| {
        let mut object = store.get(key).unwrap();
        change(&mut object);
        store.replace(object, Part::Main).unwrap();
    });
}

pub(crate) fn change_pool(world: &mut World, name: &str, edit: impl FnOnce(&mut AddressPoolSpec)) {
    let key = ObjectKey::cluster(Kind::AddressPool, name);
    change(world, &key, |object| match object {
        Object::AddressPool(pool) => edit(&mut pool.spec),
        _ => panic!("a pool"),
    });
}

pub(crate) fn change_pod(world: &mut World, name: &str, edit: impl FnOnce(&mut Pod)) {
    let key = ObjectKey {
        kind: Kind::Pod,
        namespace: "ns".into(),
        name: name.into(),
    };
    change(world, &key, |object| match object {
        Object::Pod(pod) => edit(pod),
        _ => panic!("a Pod"),
    });
}

/// One node and these default pools of 16 addresses: the first is 10.1.0.0/28, and so on.
pub(crate) fn cluster(pools: &[&str]) -> World {
    cluster_with(pools, |_| {})
}

pub(crate) fn cluster_with(pools: &[&str], configure: fn(&mut AgentConfig)) -> World {
    let mut world = World::new(7, Faults::default());
    world.configure(configure);
    for (pool, number) in pools.iter().zip(1..) {
        world.add_pool(pool, &[&[&format!("10.{number}.0.0/28")]], Some(4));
    }
    world.add_node("n0");
    seconds(&mut world, 3);
    world
}

/// A Pod for which the test itself asks.
pub(crate) fn pod(world: &mut World, name: &str, edit: impl FnOnce(&mut Pod)) {
    world.create_pod(PodPlan {
        node: "n0",
        name,
        sandbox_after: Duration::from_secs(100_000),
    });
    change_pod(world, name, edit);
}

pub(crate) fn annotated(key: &'static str, value: &str) -> impl FnOnce(&mut Pod) + use<> {
    let value = value.to_owned();
    move |pod| drop(pod.metadata.annotations.insert(key.into(), value))
}

/// The ADD of a Pod's `eth0` on the default network.
pub(crate) fn add(pod: &str) -> AddRequest {
    AddRequest {
        attachment: Attachment {
            container: format!("c-{pod}"),
            interface: "eth0".into(),
        },
        netns: format!("/run/netns/c-{pod}"),
        pod: PodReference {
            namespace: "ns".into(),
            name: pod.into(),
            uid: Some(Uid::new(&format!("pod-{pod}"))),
        },
        network: NETWORK.to_owned(),
        pools: Vec::new(),
        ips: Vec::new(),
    }
}

/// The same for another network.
pub(crate) fn add_on(pod: &str, network: &str, interface: &str) -> AddRequest {
    let mut add = add(pod);
    add.network = network.into();
    add.attachment.interface = interface.into();
    add
}

/// What the plugin is told, within its deadline.
pub(crate) fn asked(world: &mut World, add: AddRequest) -> Result<(String, IpAddr), Failure> {
    let id = world.ask("n0", add);
    seconds(world, 21);
    match world.answer("n0", id) {
        Some(Response::Added(answer)) => {
            let address = answer.addresses[0].address.addr();
            Ok((answer.pool, address))
        }
        Some(Response::Failed(failure)) => Err(failure),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn pool_of(result: Result<(String, IpAddr), Failure>) -> Result<String, Failure> {
    result.map(|(pool, _)| pool)
}

/// That the refusal says which pool and which rule, to the plugin and on the Pod.
pub(crate) fn assert_refused(
    world: &World,
    result: Result<(String, IpAddr), Failure>,
    words: &[&str],
) {
    let failure = result.unwrap_err();
    assert_eq!(failure.code, Failure::NOT_ADMITTED, "{failure:?}");
    assert!(failure.message.len() < 1000, "bounded");
    for word in words {
        assert!(failure.message.contains(word), "{word}: {failure:?}");
    }
    let events = world.events("n0");
    let told = events
        .iter()
        .any(|(reason, text)| *reason == "PoolRefused" && *text == failure.message);
    assert!(told, "{events:?}");
}

/// How a test shuts a pool to the Pods of `ns`, and the words of the rule.
pub(crate) type Shut = (fn(&mut AddressPoolSpec), &'static str);

pub(crate) const SHUT: [Shut; 5] = [
    (
        |spec| spec.namespaces = vec!["bank".into()],
        "spec.namespaces",
    ),
    (
        |spec| drop(spec.node_selector.insert("zone".into(), "b".into())),
        "spec.nodeSelector",
    ),
    (
        |spec| drop(spec.pod_selector.insert("app".into(), "vault".into())),
        "spec.podSelector",
    ),
    (
        |spec| spec.networks = vec!["storage".into()],
        "spec.networks",
    ),
    (|spec| spec.disabled = true, "spec.disabled"),
];

/// An approved pool with that change is there from the start.
pub(crate) fn with_pool(pools: &[&str], name: &str, edit: fn(&mut AddressPoolSpec)) -> World {
    let mut world = cluster(pools);
    change_pool(&mut world, name, |spec| {
        spec.is_default = false;
        edit(spec);
    });
    seconds(&mut world, 1);
    world
}

pub(crate) fn is_held(world: &World, pod: &str) -> bool {
    world.held_by().contains(&format!("pod-{pod}"))
}
