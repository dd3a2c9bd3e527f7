//! Claims about processes of Whereabouts against the apiserver model, without kubelets. How long
//! its Lease stays idle is in another file.

mod lease_times;

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::client_go::leader_election::{LEASE, holder_of};
use crate::cni::Verb;
use crate::ids::{NetnsId, PodUid};
use crate::peers::harness::World;

use super::*;

/// Two workers and a master, and nobody but Whereabouts on them.
struct Bench(World<Whereabouts>);

impl std::ops::Deref for Bench {
    type Target = World<Whereabouts>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

fn v4(count: u32) -> Vec<(IpAddr, IpAddr)> {
    let last = std::net::Ipv4Addr::from_bits(0x0a00_0000 + count);
    vec![("10.0.0.1".parse().unwrap(), IpAddr::V4(last))]
}

fn v6(count: u128) -> Vec<(IpAddr, IpAddr)> {
    let last = std::net::Ipv6Addr::from_bits((0xfd00 << 112) + count);
    vec![("fd00::1".parse().unwrap(), IpAddr::V6(last))]
}

impl Bench {
    fn new(families: Vec<Vec<(IpAddr, IpAddr)>>, settings: &[&str]) -> Bench {
        let pool = Pool::new(families).unwrap();
        let mut bench = Bench(World::new("measured", settings, 2, 11, |table| {
            Whereabouts::new(&pool, table).unwrap()
        }));
        bench.pass(Duration::from_secs(5));
        bench.log.clear();
        bench
    }

    /// Executes the plugin for a Pod and container.
    fn exec(&mut self, verb: Verb, pod: &str, container: u32, node: u32) -> IpamCallId {
        let id = self.next_call();
        let call = IpamCall {
            id,
            node: NodeIndex(node),
            verb,
            container: ContainerId(container),
            netns: Some(NetnsId(container)),
            pod_namespace: "default".into(),
            pod_name: pod.into(),
            pod: PodUid(container),
            deadline: SimInstant::MAX,
        };
        self.act(|ipam, context| ipam.call(call, context));
        id
    }

    /// Executes the plugin and waits for its end; how long it took and what it answered.
    fn ask(&mut self, verb: Verb, pod: &str, container: u32) -> (Duration, crate::cni::IpamAnswer) {
        let begin = self.queue.now();
        let id = self.exec(verb, pod, container, 0);
        while !self.parts.exits.contains_key(&id) {
            self.step();
        }
        let (at, answer) = self.parts.exits[&id].clone();
        (at - begin, answer)
    }

    fn entries(&self) -> usize {
        let pools = self.kernel.api.customs(POOL);
        pools
            .iter()
            .map(|pool| pool_object::read(&pool.body).len())
            .sum()
    }

    fn lease_is_held(&self) -> bool {
        let lease = self.kernel.api.custom(LEASE, "kube-system/whereabouts");
        lease.is_some_and(|lease| !holder_of(lease).is_empty())
    }

    fn names(&self) -> Vec<String> {
        self.answered()
            .iter()
            .map(|(_, verb, resource, refused)| {
                let mark = if *refused { "!" } else { "" };
                format!("{verb} {resource}{mark}")
            })
            .collect()
    }
}

/// An uncontended bench whose pool and Lease exist.
fn used(families: Vec<Vec<(IpAddr, IpAddr)>>, settings: &[&str]) -> Bench {
    let mut bench = Bench::new(families, settings);
    assert!(bench.ask(Verb::Add, "first", 1).1.is_ok());
    bench.pass(Duration::from_secs(3));
    bench.log.clear();
    bench
}

#[test]
fn an_uncontended_add_makes_ten_requests_with_eight_in_its_path() {
    let mut bench = used(vec![v4(100)], &[]);
    let (took, answer) = bench.ask(Verb::Add, "web", 2);
    assert_eq!(
        answer.unwrap().addresses,
        ["10.0.0.2".parse::<IpAddr>().unwrap()]
    );
    let names = bench.names();
    let count = |resource: &str| names.iter().filter(|name| name.contains(resource)).count();
    assert_eq!((names.len(), count("leases")), (10, 5), "{names:?}");
    let pools: Vec<&String> = names
        .iter()
        .filter(|name| !name.contains("leases"))
        .collect();
    assert_eq!(
        pools,
        [
            "LIST ippools",
            "GET ippools",
            "GET overlappingrangeipreservations!",
            "PATCH ippools",
            "POST overlappingrangeipreservations"
        ]
    );
    assert!(!bench.lease_is_held());
    // 43 ms of its own, two connections, four reads and four writes on an idle server.
    let ms = took.as_millis();
    assert!((75..110).contains(&ms), "{ms} ms");
}

#[test]
fn each_further_range_adds_four_requests_under_the_same_lease() {
    let mut bench = used(vec![v4(100), v6(100)], &[]);
    let (_, answer) = bench.ask(Verb::Add, "web", 2);
    let wanted: Vec<IpAddr> = ["10.0.0.2", "fd00::2"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(answer.unwrap().addresses, wanted);
    assert_eq!(bench.names().len(), 14);
    assert_eq!(bench.entries(), 4);
    bench.ask(Verb::Del, "web", 2).1.unwrap();
    assert_eq!(bench.entries(), 2, "a DEL frees both");
}

#[test]
fn without_the_overlap_check_an_add_makes_two_requests_less() {
    let mut bench = used(vec![v4(100)], &["whereabouts.overlap_check=false"]);
    bench.ask(Verb::Add, "web", 2).1.unwrap();
    assert_eq!(bench.names().len(), 8);
}

#[test]
fn an_add_of_the_same_pod_takes_another_address_unless_it_is_idempotent() {
    for (setting, entries) in [("false", 3), ("true", 2)] {
        let setting = format!("whereabouts.idempotent_add={setting}");
        let mut bench = used(vec![v4(100)], &[&setting]);
        bench.ask(Verb::Add, "web", 2).1.unwrap();
        bench.ask(Verb::Add, "web", 3).1.unwrap();
        assert_eq!(bench.entries(), entries, "{setting}");
    }
}

#[test]
fn a_del_is_idempotent_and_frees_the_address_for_the_next() {
    let mut bench = used(vec![v4(100)], &[]);
    bench.ask(Verb::Add, "web", 2).1.unwrap();
    for _ in 0..2 {
        assert!(bench.ask(Verb::Del, "web", 2).1.is_ok());
    }
    assert_eq!(bench.parts.ipam.totals().dels_without_allocation, 1);
    bench.pass(Duration::from_secs(3));
    let again = bench.ask(Verb::Add, "other", 3).1.unwrap();
    assert_eq!(again.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_del_without_an_allocation_leaves_the_lease_held_for_its_whole_duration() {
    // Writes of 60 ms against reads of 2: the work is over while the first renewal is in its PUT.
    let slow = ["etcd.fsync=60..60", "etcd.peer_round_trip=0"];
    let mut bench = used(vec![v4(100)], &slow);
    bench.ask(Verb::Del, "nobody", 77).1.unwrap();
    assert!(bench.lease_is_held(), "{:?}", bench.parts.ipam.totals());
    assert_eq!(bench.parts.ipam.totals().leases_stalled, 1);
    // One waiter sees the record first when it starts, and then polls at 863, 1064, … ms.
    let (took, _) = bench.ask(Verb::Add, "web", 3);
    let seconds = took.as_secs_f64();
    assert!((1.5..2.8).contains(&seconds), "{seconds} s");
    assert_eq!(bench.parts.ipam.totals().leases_expired, 1);
}

#[test]
fn with_many_waiters_a_stalled_lease_is_taken_over_within_a_tenth_of_a_second() {
    let slow = [
        "etcd.fsync=60..60",
        "etcd.peer_round_trip=0",
        "node.cores=16",
    ];
    let mut bench = used(vec![v4(400)], &slow);
    bench.exec(Verb::Del, "nobody", 77, 0);
    for number in 0..200 {
        bench.exec(
            Verb::Add,
            &format!("web-{number}"),
            100 + number,
            number % 2,
        );
    }
    while bench.parts.ipam.totals().leases_expired == 0 {
        bench.step();
    }
    let expired = bench.queue.now();
    let stalled_puts: Vec<SimInstant> = bench
        .answered()
        .iter()
        .filter(|(_, verb, resource, refused)| {
            (*verb, *resource, *refused) == ("PUT", "leases", false)
        })
        .map(|(at, ..)| *at)
        .collect();
    // The last write before the takeover was answered when the lease changed last.
    let before = stalled_puts[stalled_puts.len() - 2];
    let stall = (expired - before).as_secs_f64();
    assert!((1.4..1.75).contains(&stall), "{stall} s");
}

#[test]
fn reading_before_the_release_does_not_help_while_the_renewal_is_at_the_disk() {
    // The canceled renewal commits between the read and the write of the release.
    let fixed = [
        "etcd.fsync=60..60",
        "etcd.peer_round_trip=0",
        "whereabouts.failed_get_keeps_lease=true",
        "whereabouts.release_reads_first=true",
    ];
    let mut bench = used(vec![v4(100)], &fixed);
    bench.ask(Verb::Del, "nobody", 77).1.unwrap();
    assert!(bench.lease_is_held());
    assert_eq!(bench.parts.ipam.totals().releases_refused, 1);
}

#[test]
fn with_many_waiters_the_lease_is_handed_over_within_milliseconds_and_a_write() {
    let slow = [
        "etcd.fsync=60..60",
        "etcd.peer_round_trip=0",
        "node.cores=16",
    ];
    let mut bench = used(vec![v4(400)], &slow);
    for number in 0..200 {
        // Processes that start together poll together: none of them seeds its jitter.
        bench.pass(Duration::from_millis(10));
        bench.exec(
            Verb::Add,
            &format!("web-{number}"),
            100 + number,
            number % 2,
        );
    }
    let (mut free_since, mut gaps) = (None, Vec::new());
    while gaps.len() < 50 {
        let won = bench.parts.ipam.totals().leases_won_by_adds;
        bench.step();
        if !bench.lease_is_held() {
            free_since.get_or_insert(bench.queue.now());
        }
        if bench.parts.ipam.totals().leases_won_by_adds > won
            && let Some(free) = free_since.take()
        {
            gaps.push(bench.queue.now() - free);
        }
    }
    // (0.8 s + r) / N to the next poll, half a read, and a write of 60 to 120 ms: it may have to
    // wait for the batch before it.
    let mean = gaps.iter().sum::<Duration>() / 50;
    let ms = mean.as_millis();
    assert!((60..135).contains(&ms), "{ms} ms");
}

#[test]
fn a_killed_leader_leaves_the_lease_held_until_it_expires() {
    let mut bench = used(vec![v4(100)], &["etcd.fsync=60..60"]);
    let id = bench.exec(Verb::Add, "web", 2, 0);
    while !bench.lease_is_held() {
        bench.step();
    }
    bench.pass(Duration::from_millis(70));
    bench.act(|ipam, context| ipam.killed(NodeIndex(0), id, context));
    assert_eq!(bench.parts.ipam.process_count(), 0);
    assert_eq!(bench.parts.ipam.totals().holders_killed, 1);
    // A process of the same Pod takes it at once; any other waits.
    let (other, _) = bench.ask(Verb::Add, "other", 3);
    assert!(other > Duration::from_millis(1500), "{other:?}");
    assert_eq!(bench.parts.ipam.totals().leases_expired, 1);
}

#[test]
fn a_full_pool_refuses_and_the_refusal_does_not_change_it() {
    let mut bench = used(vec![v4(2)], &[]);
    bench.ask(Verb::Add, "a", 2).1.unwrap();
    let refused = bench.ask(Verb::Add, "b", 3).1.unwrap_err();
    assert!(refused.message.contains("Could not allocate IP"));
    assert_eq!(
        (bench.entries(), bench.parts.ipam.totals().adds_exhausted),
        (2, 1)
    );
}

#[test]
fn an_add_and_a_del_end_at_their_limits_and_only_the_add_says_so() {
    // Somebody else holds a Lease that does not expire within the limits.
    let mut bench = used(vec![v4(100)], &["whereabouts.lease_duration=1000"]);
    let holder = bench.exec(Verb::Add, "holder", 9, 1);
    while !bench.lease_is_held() {
        bench.step();
    }
    bench.pass(Duration::from_millis(20));
    bench.act(|ipam, context| ipam.killed(NodeIndex(1), holder, context));
    let (add, answer) = bench.ask(Verb::Add, "web", 2);
    assert_eq!(answer.unwrap_err().message, plugin::TIME_LIMIT);
    assert!((120_000..120_200).contains(&add.as_millis()), "{add:?}");
    let (del, answer) = bench.ask(Verb::Del, "first", 1);
    assert!(answer.is_ok(), "a DEL never fails");
    assert!((60_000..60_200).contains(&del.as_millis()), "{del:?}");
    let totals = bench.parts.ipam.totals();
    assert_eq!((totals.adds_timed_out, totals.dels_timed_out), (1, 1));
    assert_eq!(totals.dels_swallowed, 1, "its address is still allocated");
}

#[test]
fn nodes_with_slices_do_not_wait_for_one_another() {
    let mut bench = Bench::new(vec![v4(100)], &["whereabouts.slice_addresses=30"]);
    let ids = [
        bench.exec(Verb::Add, "a", 1, 0),
        bench.exec(Verb::Add, "b", 2, 1),
    ];
    bench.pass(Duration::from_millis(400));
    let answers: Vec<IpAddr> = ids
        .iter()
        .map(|id| bench.parts.exits[id].1.clone().unwrap().addresses[0])
        .collect();
    let wanted: Vec<IpAddr> = ["10.0.0.1", "10.0.0.31"]
        .map(|ip| ip.parse().unwrap())
        .into();
    assert_eq!(answers, wanted);
    assert_eq!(bench.parts.ipam.totals().leases_expired, 0);
}

#[test]
fn the_control_loop_blocks_at_the_first_stale_allocation_unless_it_sees_none() {
    for (default_network, blocked) in [("true", 0), ("false", 1)] {
        let setting = format!("whereabouts.default_network={default_network}");
        let mut bench = used(vec![v4(100)], &[&setting]);
        for _ in 0..2 {
            let pod = bench.create_pod("first", 0, "web");
            let grace = Some(Duration::ZERO);
            let gone = Request::DeletePod { pod, grace };
            bench
                .act(|_, context| context.api.install(&gone, &mut context.core))
                .unwrap();
            bench.pass(Duration::from_secs(1));
        }
        assert_eq!(bench.parts.ipam.totals().loops_blocked, blocked);
    }
}

#[test]
fn the_reconciler_frees_what_belongs_to_no_pod() {
    let settings = ["whereabouts.reconcile_first=60"];
    let mut bench = used(vec![v4(100)], &settings);
    assert_eq!(bench.entries(), 1);
    bench.pass(Duration::from_secs(70));
    assert_eq!(bench.entries(), 0, "no Pod of that name exists");
    let totals = bench.parts.ipam.totals();
    assert_eq!(totals.reconciler_runs, 3, "one copy per node: {totals:?}");
    assert!(totals.reconciler_freed >= 1);
}
