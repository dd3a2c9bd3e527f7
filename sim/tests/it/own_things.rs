//! Faults of what a node agent relies on beside the apiserver, one kind at a time: each strikes
//! where a plan says so, the world heals, and Berth gives nobody's address away.

use drydock::adapters::{BERTH, subject};
use drydock::faults::storm::storm;
use drydock::runner::{RunOptions, run};
use drydock::scenario::Scenario;
use drydock_traces::plan::{
    Churn, DurationRule, Edge, Fault, FaultKind, Plan, SCHEMA, Target, Trigger, World,
};
use drydock_traces::run_record::{EndReason, RunRecord};
use drydock_traces::seed::Seed;
use drydock_traces::workload::Stack;

/// The kinds, with how long each lasts here. Units: s.
const KINDS: [(FaultKind, u64); 17] = [
    (FaultKind::JournalLost, 2),
    (FaultKind::JournalDamaged, 2),
    (FaultKind::JournalTorn, 2),
    (FaultKind::JournalOldCopy, 2),
    (FaultKind::JournalFull, 20),
    (FaultKind::JournalReadOnly, 20),
    (FaultKind::JournalSlow, 20),
    (FaultKind::PathUnknown, 40),
    (FaultKind::CanaryGone, 20),
    (FaultKind::PathsVanished, 20),
    (FaultKind::SpoolUnreadable, 20),
    (FaultKind::SpoolLate, 20),
    (FaultKind::SpoolGarbage, 0),
    (FaultKind::RuntimeRestart, 10),
    (FaultKind::RuntimeUnaskable, 60),
    (FaultKind::SandboxLost, 0),
    (FaultKind::DelLost, 0),
];

/// A world in which Pods come and go all the time, and one fault on the first node.
fn plan(kind: FaultKind, seconds: u64, at: Trigger) -> Plan {
    let shape = kind.shape();
    let target = match shape.target {
        "agent" => Target::Agent(0),
        _ => Target::Node(0),
    };
    let lasts = matches!(shape.duration, DurationRule::Required(_));
    Plan {
        schema: SCHEMA.to_owned(),
        seed: Seed(7),
        allocator: "berth".to_owned(),
        set: std::collections::BTreeMap::new(),
        world: World {
            nodes: 3,
            pods: 18,
            addresses: 18,
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

fn survive(plan: &Plan) -> RunRecord {
    let text = plan.to_toml().unwrap();
    let read = Plan::from_toml(&text).unwrap();
    assert_eq!(&read, plan);
    let scenario = Scenario::from_plan(&read, &BERTH.into()).unwrap();
    run(scenario, RunOptions::default(), |_| ()).unwrap()
}

#[test]
fn each_kind_strikes_at_a_time_and_berth_survives_it() {
    let known = FaultKind::ALL
        .iter()
        .filter(|kind| **kind >= FaultKind::JournalLost);
    let named = known.filter(|kind| **kind <= FaultKind::DelLost).count();
    assert_eq!(named, KINDS.len());
    for (kind, seconds) in KINDS {
        let record = survive(&plan(kind, seconds, Trigger::TimeNs(13_000_000_000)));
        let name = kind.as_str();
        assert_eq!(record.violations, [], "{name}");
        let count = record.faults[name];
        assert_eq!((count.drawn, count.fired), (1, 1), "{name}");
        let ended = record.outcome.reason;
        assert_eq!(ended, EndReason::Healed, "{name}: {:?}", record.outcome);
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
        verb: drydock_traces::plan::CniVerb::Add,
        call: 5,
        edge: Edge::Before,
    };
    for (kind, seconds) in KINDS {
        for at in [port_call, add] {
            let record = survive(&plan(kind, seconds, at));
            let name = kind.as_str();
            assert_eq!(record.violations, [], "{name} {at}");
            assert_eq!(record.faults[name].fired, 1, "{name} {at}");
        }
    }
}

/// What a plan does not say (which byte, which looks) is drawn by seed and place in the plan.
#[test]
fn the_same_plan_gives_the_same_run() {
    for kind in [FaultKind::JournalDamaged, FaultKind::PathUnknown] {
        let plan = plan(kind, 30, Trigger::TimeNs(13_000_000_000));
        let (one, other) = (survive(&plan), survive(&plan));
        assert_eq!(one.comparable_json(), other.comparable_json());
    }
}

/// The storms of the modeled peers are what they were: they have no journal and no spool.
#[test]
fn a_peers_storm_strikes_nothing_of_berths_own() {
    for seed in 0..200 {
        let plan = storm(Seed(seed), &subject("calico").unwrap());
        let own = |fault: &Fault| fault.kind >= FaultKind::JournalLost;
        assert!(!plan.faults.iter().any(own), "{seed}");
    }
}
