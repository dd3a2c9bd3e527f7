//! Faults that others commit: administrators who spoil objects, a newer release, a CRD that
//! changes, tenants, other CNIs. Each kind strikes where a plan says so, the world heals, and Berth
//! goes on.

use drydock::adapters::BERTH;
use drydock::runner::{RunOptions, run};
use drydock::scenario::Scenario;
use drydock::subject::Subject;
use drydock_traces::plan::{
    Churn, CniVerb, DurationRule, Edge, Fault, FaultKind, Plan, SCHEMA, Target, Trigger, World,
};
use drydock_traces::run_record::{EndReason, Invariant, RunRecord};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

/// The kinds, with how long each lasts here. Units: s.
const KINDS: [(FaultKind, u64); 6] = [
    (FaultKind::ObjectPoisoned, 40),
    (FaultKind::ObjectMistyped, 0),
    (FaultKind::ObjectNewer, 40),
    (FaultKind::CrdChanged, 30),
    (FaultKind::TenantAnnotates, 40),
    (FaultKind::ForeignPods, 150),
];

/// A world in which Pods come and go all the time, and one fault. The seed also decides what a kind
/// leaves open: which object, which field, which annotation.
fn plan(seed: u64, kind: FaultKind, seconds: u64, at: Trigger) -> Plan {
    let shape = kind.shape();
    let target = match shape.target {
        "apiserver" => Target::Apiserver(0),
        _ => Target::Node(0),
    };
    let lasts = matches!(shape.duration, DurationRule::Required(_));
    Plan {
        schema: SCHEMA.to_owned(),
        seed: Seed(seed),
        allocator: "berth".to_owned(),
        set: std::collections::BTreeMap::new(),
        world: World {
            nodes: 3,
            pods: 18,
            addresses: 22,
            stack: Stack::Ipv4,
            churn: Some(Churn {
                rounds: 8,
                pods_per_round: 4,
                every_ns: 6_000_000_000,
            }),
        },
        faults: vec![Fault {
            kind,
            target,
            at,
            duration_ns: lasts.then_some(seconds * 1_000_000_000),
        }],
    }
}

fn ran(plan: &Plan, mutant: Option<&str>) -> RunRecord {
    let text = plan.to_toml().unwrap();
    let read = Plan::from_toml(&text).unwrap();
    assert_eq!(&read, plan);
    let subject = Subject {
        allocator: BERTH,
        mutant: mutant.map(ToOwned::to_owned),
    };
    let scenario = Scenario::from_plan(&read, &subject).unwrap();
    run(scenario, RunOptions::default(), |_| ()).unwrap()
}

const IN_THE_MIDDLE: Trigger = Trigger::TimeNs(13_000_000_000);

#[test]
fn each_kind_strikes_at_a_time_and_berth_survives_it_whatever_it_hits() {
    for (kind, seconds) in KINDS {
        for seed in 0..12 {
            let record = ran(&plan(seed, kind, seconds, IN_THE_MIDDLE), None);
            let name = format!("{} {seed}", kind.as_str());
            assert_eq!(record.violations, [], "{name}");
            let count = record.faults[kind.as_str()];
            assert_eq!((count.drawn, count.fired), (1, 1), "{name}");
            let ended = record.outcome.reason;
            assert_eq!(ended, EndReason::Healed, "{name}: {:?}", record.outcome);
        }
    }
}

#[test]
fn each_kind_strikes_at_a_port_call_and_inside_an_add() {
    let port_call = Trigger::PortCall {
        agent: 0,
        call: 60,
        edge: Edge::Before,
    };
    let add = Trigger::Cni {
        node: 0,
        verb: CniVerb::Add,
        call: 5,
        edge: Edge::Before,
    };
    for (kind, seconds) in KINDS {
        for at in [port_call, add] {
            let record = ran(&plan(7, kind, seconds, at), None);
            let name = kind.as_str();
            assert_eq!(record.violations, [], "{name} {at}");
            assert_eq!(record.faults[name].fired, 1, "{name} {at}");
        }
    }
}

/// What a plan does not say (which object, which field) is drawn by seed and place in the plan.
#[test]
fn the_same_plan_gives_the_same_run() {
    for (kind, seconds) in KINDS {
        let plan = plan(3, kind, seconds, IN_THE_MIDDLE);
        let (one, other) = (ran(&plan, None), ran(&plan, None));
        assert_eq!(one.comparable_json(), other.comparable_json());
    }
}

/// The mutant with which a kind of fault shows a breach in some of these worlds, and of what.
#[test]
fn each_mistake_about_others_is_seen_in_a_world_with_them() {
    for (mutant, kind, seconds, breach) in [
        (
            "rights-only-on-ordinary-path",
            FaultKind::TenantAnnotates,
            40,
            Invariant::B,
        ),
        (
            "claims-for-foreign-pods",
            FaultKind::ForeignPods,
            150,
            Invariant::H,
        ),
    ] {
        let mut found = (0..12).filter_map(|seed| {
            let record = ran(&plan(seed, kind, seconds, IN_THE_MIDDLE), Some(mutant));
            record.violations.first().map(|first| first.invariant)
        });
        assert_eq!(found.next(), Some(breach), "{mutant}");
    }
}
