//! Claims about controllers, scheduler and driver, on a cluster without kubelets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use std::net::IpAddr;

use drydock_traces::workload::{Controller, PodManagement, WorkloadObject};

use crate::cluster::{Action, ClusterSpec, End};
use crate::ids::{NodeIndex, PodUid};
use crate::observation::Observation;
use crate::parameters::Parameters;
use crate::peers::Pool;
use crate::peers::instant::Instant;
use crate::testing::{ControlPlane, ControlPlaneSpec, TestCluster, deployments, object, table};

fn bench(objects: Vec<WorkloadObject>, set: &'static [&'static str]) -> ControlPlane {
    let run_after = Some(Duration::from_secs(1));
    ControlPlane::new(ControlPlaneSpec {
        nodes: 10,
        run_after,
        objects,
        set,
        profile: "measured",
    })
}

fn created(bench: &ControlPlane) -> Vec<Duration> {
    bench.since_start(|o| matches!(o, Observation::PodCreated { .. }))
}

fn calls(bench: &ControlPlane, verb: &str, resource: &str) -> usize {
    bench
        .since_start(|o| {
            matches!(o, Observation::ApiCall { what, .. }
                if what.verb == verb && what.resource == resource)
        })
        .len()
}

fn pod_names(bench: &ControlPlane) -> BTreeSet<String> {
    bench
        .cluster
        .api()
        .pods()
        .map(|pod| pod.name.to_string())
        .collect()
}

fn uid(bench: &ControlPlane, name: &str) -> PodUid {
    let found = bench
        .cluster
        .api()
        .pods()
        .find(|pod| &*pod.name == name)
        .map(|pod| pod.uid);
    found.unwrap_or_else(|| panic!("no Pod {name} among {:?}", pod_names(bench)))
}

#[test]
fn the_last_of_a_thousand_pods_is_created_when_the_limiter_says() {
    for profile in ["measured", "event-model-check"] {
        let mut bench = ControlPlane::new(ControlPlaneSpec {
            nodes: 10,
            run_after: Some(Duration::from_secs(1)),
            objects: deployments(100, 10),
            set: &[],
            profile,
        });
        bench.run_to_end(300);
        assert_eq!(bench.cluster.end(), Some(End::AllRunning), "{profile}");
        let created = created(&bench);
        assert_eq!(created.len(), 1000);
        // (1000 POST + ~200 PUT + ~45 events - 30) / 20 per second.
        let last = created[999].as_secs_f64();
        assert!(
            (60.7 * 0.97..=60.7 * 1.03).contains(&last),
            "{profile}: {last:.1} s"
        );
        assert_eq!(calls(&bench, "POST", "pods"), 1000);
        assert_eq!(calls(&bench, "POST", "pods/binding"), 1000);
        assert_eq!(calls(&bench, "POST", "replicasets"), 100);
    }
}

#[test]
fn every_node_gets_a_hundred_of_a_thousand_pods_give_or_take_three() {
    let mut bench = bench(deployments(100, 10), &["kcm.qps=2000", "kcm.burst=2000"]);
    bench.run_to_end(300);
    for (name, pods) in bench.cluster.scheduler().assigned() {
        assert!((97..=103).contains(&pods), "{name} has {pods}");
    }
}

#[test]
fn each_replica_set_is_spread_over_the_nodes() {
    let mut bench = bench(deployments(20, 10), &["kcm.qps=2000", "kcm.burst=2000"]);
    bench.run_to_end(300);
    let mut per_node: BTreeMap<(u32, String), u32> = BTreeMap::new();
    for pod in bench.cluster.api().pods() {
        let owner = pod.owner.as_ref().expect("a ReplicaSet owns it").index;
        let node = pod.node_name.as_ref().expect("it is bound").to_string();
        *per_node.entry((owner, node)).or_insert(0) += 1;
    }
    assert!(per_node.values().all(|count| *count <= 2), "{per_node:?}");
}

#[test]
fn a_replica_set_starts_slowly_and_doubles() {
    let mut bench = bench(
        deployments(1, 10),
        &[
            "kcm.qps=1000",
            "kcm.burst=1000",
            "etcd.fsync=50..50",
            "etcd.peer_round_trip=0",
        ],
    );
    bench.run_to_end(60);
    // With a disk of 50 ms, each batch of POSTs commits together or nearly so.
    let mut batches: Vec<usize> = Vec::new();
    let mut last = Duration::ZERO;
    for at in created(&bench) {
        if at.saturating_sub(last) > Duration::from_millis(2) {
            batches.push(0);
        }
        *batches.last_mut().expect("the first Pod opens a batch") += 1;
        last = at;
    }
    let mut sum = 0;
    let sums: BTreeSet<usize> = batches
        .iter()
        .map(|batch| {
            sum += batch;
            sum
        })
        .collect();
    assert!(
        [1, 3, 7, 10].iter().all(|boundary| sums.contains(boundary)),
        "{batches:?}"
    );
}

#[test]
fn a_deployment_costs_one_stale_write_that_conflicts() {
    let mut bench = bench(deployments(3, 2), &[]);
    bench.run_to_end(60);
    let conflicts = bench.since_start(|o| {
        matches!(o, Observation::ApiCall { what, result: Err(_), .. }
            if what.resource == "deployments/status")
    });
    assert_eq!(conflicts.len(), 3);
}

#[test]
fn a_deleted_pod_is_replaced_at_once_under_a_new_name() {
    let mut bench = bench(deployments(1, 3), &[]);
    bench.run_to_end(60);
    let before = pod_names(&bench);
    let victim = uid(&bench, before.first().expect("three Pods"));
    bench.inject(&Action::DeletePod {
        pod: victim,
        grace: None,
    });
    bench.pass(Duration::from_secs(5));
    let after = pod_names(&bench);
    assert_eq!((after.len(), before.intersection(&after).count()), (3, 2));
}

#[test]
fn stateful_pods_start_one_after_another_and_return_under_their_names() {
    let controller = Controller::StatefulSet {
        replicas: 3,
        pod_management: PodManagement::OrderedReady,
    };
    let mut bench = bench(vec![object("db", controller)], &[]);
    bench.run_to_end(60);
    let gaps: Vec<bool> = created(&bench)
        .windows(2)
        .map(|w| w[1].saturating_sub(w[0]) > Duration::from_secs(1))
        .collect();
    assert_eq!(
        gaps,
        [true, true],
        "each waits for the one before it to be Ready"
    );
    let old = uid(&bench, "db-1");
    bench.inject(&Action::DeletePod {
        pod: old,
        grace: None,
    });
    bench.pass(Duration::from_secs(10));
    assert_eq!(
        pod_names(&bench),
        BTreeSet::from(["db-0", "db-1", "db-2"].map(str::to_owned))
    );
    assert_ne!(uid(&bench, "db-1"), old);
    let gone = bench.since_start(|o| *o == Observation::PodGone { pod: old })[0];
    assert!(
        created(&bench)[3] > gone,
        "the name is used again when the old object is gone"
    );
}

#[test]
fn parallel_stateful_pods_start_together() {
    let controller = Controller::StatefulSet {
        replicas: 4,
        pod_management: PodManagement::Parallel,
    };
    let mut bench = bench(vec![object("db", controller)], &[]);
    bench.run_to_end(60);
    let created = created(&bench);
    assert_eq!(created.len(), 4);
    assert!(created[3].saturating_sub(created[0]) < Duration::from_millis(500));
}

#[test]
fn a_job_keeps_to_its_parallelism() {
    let job = Controller::Job {
        parallelism: 3,
        completions: Some(7),
        run_seconds: None,
    };
    let mut bench = bench(vec![object("job", job)], &[]);
    bench.run_to_end(60);
    assert_eq!(created(&bench).len(), 3);
    assert_eq!(bench.cluster.census().running(), 3);
}

#[test]
fn pods_with_a_node_name_skip_the_scheduler() {
    let mut pod = object("bare", Controller::Pod);
    pod.template.node_name = Some("worker7".to_owned());
    let mut bench = bench(vec![pod], &[]);
    bench.run_to_end(60);
    assert_eq!(calls(&bench, "POST", "pods/binding"), 0);
    assert_eq!(bench.cluster.end(), Some(End::AllRunning));
}

#[test]
fn a_pod_that_fits_nowhere_waits_with_a_reason_and_returns_when_there_is_room() {
    let mut bench = bench(
        deployments(1, 21),
        &["kubelet.max_pods=2", "kubelet.system_pods=0"],
    );
    bench.run_to_end(60);
    assert_eq!(bench.cluster.end(), Some(End::NoProgress));
    let waiting = bench.cluster.waiting();
    assert_eq!(waiting.len(), 1);
    assert!(
        waiting[0].reason.contains("10 too many pods"),
        "{}",
        waiting[0].reason
    );
    let running = bench
        .cluster
        .api()
        .pods()
        .find(|pod| pod.node_name.is_some())
        .map(|pod| pod.uid)
        .expect("the others run");
    bench.inject(&Action::DeletePod {
        pod: running,
        grace: Some(Duration::ZERO),
    });
    bench.pass(Duration::from_secs(30));
    assert!(
        bench
            .cluster
            .api()
            .pod(waiting[0].pod)
            .is_some_and(|pod| pod.node_name.is_some())
    );
}

#[test]
fn a_node_selector_binds_to_the_nodes_that_match() {
    let mut pinned = object("pinned", Controller::Deployment { replicas: 6 });
    let key = "kubernetes.io/hostname".to_owned();
    pinned
        .template
        .node_selector
        .insert(key, "worker9".to_owned());
    let mut bench = bench(vec![pinned], &[]);
    bench.run_to_end(60);
    assert!(
        bench
            .cluster
            .api()
            .pods()
            .all(|pod| pod.node_name.as_deref() == Some("worker9"))
    );
}

#[test]
fn adding_a_deployment_leaves_the_names_and_draws_of_the_others() {
    let run = |objects| {
        let mut bench = bench(objects, &[]);
        bench.run_to_end(100);
        bench
    };
    let few = run(deployments(4, 5));
    let more = run(deployments(5, 5));
    let names = pod_names(&more);
    assert!(pod_names(&few).iter().all(|name| names.contains(name)));
    let later: BTreeMap<_, _> = more
        .draws
        .draws()
        .into_iter()
        .map(|draw| ((draw.key, draw.index), draw.value))
        .collect();
    for draw in few.draws.draws() {
        if let Some(value) = later.get(&(draw.key, draw.index)) {
            assert_eq!(*value, draw.value, "{:?}", draw.key);
        }
    }
    // Streams that belong to a workload object or its Pods are drawn from exactly as often.
    let own = |bench: &ControlPlane, names: &BTreeSet<(&str, u64)>| {
        let mut own = bench.draws.draws();
        own.retain(|draw| names.contains(&(draw.key.purpose, draw.key.entity)));
        own
    };
    let streams: Vec<_> = few.draws.draws();
    let keyed: BTreeSet<(&str, u64)> = streams
        .iter()
        .filter(|draw| ["pod names", "tie"].contains(&draw.key.purpose))
        .map(|draw| (draw.key.purpose, draw.key.entity))
        .collect();
    assert_eq!(
        keyed.len(),
        4 + 20,
        "one stream per ReplicaSet, one per Pod"
    );
    assert_eq!(own(&few, &keyed), own(&more, &keyed));
}

#[test]
fn the_same_seed_gives_the_same_log() {
    let digest = || {
        let mut bench = bench(deployments(10, 10), &[]);
        bench.run_to_end(100);
        bench.log.digest()
    };
    assert_eq!(digest(), digest());
}

#[test]
fn creation_goes_on_after_every_apiserver_restarted() {
    let mut bench = bench(deployments(20, 10), &[]);
    bench.pass(Duration::from_secs(5));
    for server in 0..3 {
        bench.inject(&Action::StopApiserver {
            server,
            down: Some(Duration::from_secs(5)),
        });
    }
    bench.pass(Duration::from_mins(2));
    // Creations with unknown outcome may have left more Pods; they are removed again.
    let census = bench.cluster.census();
    assert_eq!(census.waiting_count() + census.deleting(), 0);
    assert!(census.created() >= 200);
    assert_eq!(bench.cluster.api().pods().count(), 200);
}

#[test]
fn a_partitioned_leader_is_replaced_and_the_work_goes_on() {
    let mut bench = bench(deployments(20, 10), &[]);
    bench.pass(Duration::from_secs(3));
    for master in 0..2 {
        bench.inject(&Action::Cut(NodeIndex(master)));
    }
    bench.pass(Duration::from_secs(200));
    assert!(bench.cluster.census().created() >= 200);
    let bound = bench
        .cluster
        .api()
        .pods()
        .filter(|pod| pod.node_name.is_some())
        .count();
    assert_eq!(bound, 200);
}

#[test]
fn pods_of_a_silent_node_are_deleted_after_grace_and_toleration() {
    let mut bench = bench(deployments(2, 10), &[]);
    bench.run_to_end(60);
    let lost = NodeIndex(5);
    let victims: BTreeSet<PodUid> = bench
        .cluster
        .api()
        .pods()
        .filter(|pod| pod.node_name.as_deref() == Some("worker6"))
        .map(|pod| pod.uid)
        .collect();
    assert!(!victims.is_empty());
    let cut = bench.queue.now();
    bench.inject(&Action::Cut(lost));
    bench.pass(Duration::from_secs(400));
    let marked = bench
        .since_start(|o| matches!(o, Observation::PodDeleting { pod } if victims.contains(pod)));
    assert_eq!(marked.len(), victims.len());
    let since = cut.saturating_since(drydock_engine::time::SimInstant::ZERO);
    assert!(
        marked
            .iter()
            .all(|at| (340..=342).contains(&at.saturating_sub(since).as_secs())),
        "{marked:?}"
    );
}

#[test]
fn preloaded_pods_exist_before_any_call() {
    let pods = (0..50)
        .map(|n| {
            let mut pod = object(&format!("p{n:02}"), Controller::Pod);
            pod.template.node_name = Some("worker5".to_owned());
            pod
        })
        .collect();
    let mut bench = bench(pods, &["driver.preload_pods=true"]);
    bench.run_to_end(60);
    assert!(created(&bench).iter().all(Duration::is_zero));
    assert_eq!(calls(&bench, "POST", "pods"), 0);
    assert_eq!(bench.cluster.end(), Some(End::AllRunning));
}

#[test]
fn a_machine_that_replaces_another_takes_over_its_node_name() {
    let mut bench = bench(Vec::new(), &[]);
    let old = bench.cluster.node("worker4");
    let action = Action::ReplaceMachine {
        node_name: "worker4".to_owned(),
    };
    let joined = bench.inject(&action);
    assert_eq!(joined, crate::cluster::Injected::Joined(NodeIndex(10)));
    assert_eq!(
        (old, bench.cluster.node("worker4")),
        (Some(NodeIndex(3)), Some(NodeIndex(10)))
    );
    assert_eq!(
        bench.cluster.machines()[10].node_name,
        bench.cluster.machines()[3].node_name
    );
    assert_ne!(
        bench.cluster.machines()[10].machine_id,
        bench.cluster.machines()[3].machine_id
    );
}

#[test]
fn a_thousand_pods_on_real_kubelets_run_and_cost_few_events() {
    for (profile, first, last) in [("measured", 60, 110), ("event-model-check", 60, 110)] {
        let table = table(
            profile,
            &["node.base_control_plane=0.5", "driver.warm_up=0"],
        );
        let spec = ClusterSpec {
            ends_by_itself: true,
            ..ClusterSpec::small(10, &table, deployments(100, 10), 1)
        };
        let range = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 7, 255]));
        let pool = Pool::new(vec![vec![range]]).expect("one range");
        let mut whole = TestCluster::new(spec, Instant::new(pool));
        whole.run_to_end(600);
        let seconds = whole.queue.now().whole_seconds();
        assert_eq!(
            whole.cluster.end(),
            Some(End::AllRunning),
            "{profile}: {seconds} s"
        );
        assert!((first..=last).contains(&seconds), "{profile}: {seconds} s");
        let events = whole.queue.popped();
        let requests = whole.api_events / 2;
        assert!(
            events < 130_000,
            "{profile}: {events} events, {requests} requests"
        );
    }
}

#[test]
fn masters_that_take_no_pods_stay_empty_and_the_others_share_all() {
    let set = &["cluster.masters_take_pods=false"];
    let mut bench = bench(deployments(7, 10), set);
    bench.run_to(60);
    let mut per_node = BTreeMap::new();
    for pod in bench.cluster.api().pods() {
        let node = pod.node_name.as_deref().expect("every Pod is bound");
        *per_node.entry(node.to_owned()).or_insert(0) += 1;
    }
    let nodes: Vec<_> = per_node.keys().map(String::as_str).collect();
    let expected = [
        "worker10", "worker4", "worker5", "worker6", "worker7", "worker8", "worker9",
    ];
    assert_eq!(nodes, expected);
    assert!(per_node.values().all(|pods| *pods == 10), "{per_node:?}");
}

#[test]
fn a_cluster_has_as_many_masters_as_it_says_and_they_have_their_own_cores() {
    let of = |set: &[&str]| {
        let table = table("measured", set);
        let spec = ClusterSpec::small(4, &table, deployments(1, 1), 1);
        let masters = spec
            .node_names
            .iter()
            .filter(|name| name.starts_with("master"));
        let cores = [true, false].map(|master| spec.parameters.cores_of(master).0);
        (spec.masters, masters.count(), cores)
    };
    assert_eq!(of(&[]), (3, 3, [3000, 3000]));
    let one = ["cluster.masters=1", "cluster.master_extra_cores=1"];
    assert_eq!(of(&one), (1, 1, [4000, 3000]));
    for masters in ["cluster.masters=0", "cluster.masters=4"] {
        let table = table("measured", &[masters]);
        let error = Parameters::read(&table).unwrap_err().to_string();
        assert!(error.contains("1 to 3"), "{error}");
    }
}
