//! Tests of plans: text in and out, and refusals.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn sample() -> Plan {
    Plan {
        schema: SCHEMA.to_owned(),
        seed: Seed(u64::MAX),
        allocator: "berth".to_owned(),
        set: BTreeMap::from([("berth.valid".to_owned(), "30 s".to_owned())]),
        world: World {
            nodes: 3,
            pods: 8,
            addresses: 8,
            stack: Stack::Dual,
            churn: Some(Churn {
                rounds: 2,
                pods_per_round: 3,
                every_ns: 20_000_000_000,
            }),
        },
        faults: vec![
            Fault {
                kind: FaultKind::AgentKill,
                target: Target::Agent(2),
                at: Trigger::PortCall {
                    agent: 2,
                    call: 12,
                    edge: Edge::Before,
                },
                duration_ns: Some(1_500_000_000),
            },
            Fault {
                kind: FaultKind::ResponseLost,
                target: Target::Agent(0),
                at: Trigger::Write { agent: 0, write: 4 },
                duration_ns: None,
            },
            Fault {
                kind: FaultKind::LinkDeleteFails,
                target: Target::Node(1),
                at: Trigger::Cni {
                    node: 1,
                    verb: CniVerb::Del,
                    call: 1,
                    edge: Edge::After,
                },
                duration_ns: Some(250_000_000),
            },
            Fault {
                kind: FaultKind::NodePartition,
                target: Target::Node(1),
                at: Trigger::TimeNs(7_000_000_001),
                duration_ns: Some(30_000_000_000),
            },
        ],
    }
}

#[test]
fn a_plan_is_toml_that_people_can_edit() {
    expect![[r#"
        schema = "drydock.dev/plan/v1"
        seed = "0xffffffffffffffff"
        allocator = "berth"

        [set]
        "berth.valid" = "30 s"

        [world]
        nodes = 3
        pods = 8
        addresses = 8
        stack = "dual"

        [world.churn]
        rounds = 2
        pods-per-round = 3
        every-ns = 20000000000

        [[fault]]
        kind = "agent-kill"
        duration-ns = 1500000000

        [fault.target]
        agent = 2

        [fault.at.port-call]
        agent = 2
        call = 12
        edge = "before"
    "#]]
    .assert_eq(
        &Plan {
            faults: sample().faults[..1].to_vec(),
            ..sample()
        }
        .to_toml()
        .unwrap(),
    );
}

#[test]
fn a_plan_prints_as_a_numbered_list() {
    expect![[r#"
        seed 0xffffffffffffffff, berth: 3 nodes, 8 Pods, 8 addresses, dual, 2 rounds of 3 deleted Pods, one every 20 s
           berth.valid = 30 s
         1. before port call 12 of agent 2: agent-kill agent 2, 1.500 s until the agent starts again
         2. at write 4 of agent 0: response-lost agent 0
         3. after CNI DEL 1 on node 1: link-delete-fails node 1, 250 ms until the next try
         4. at 7000000001 ns: node-partition node 1, 30 s of the partition"#]]
    .assert_eq(&sample().to_string());
}

#[test]
fn a_wrong_value_names_its_key_and_what_is_allowed() {
    let text = sample().to_toml().unwrap();
    for (from, to, message) in [
        (
            "nodes = 3",
            "nodes = 0",
            "world.nodes: 0 is not allowed: a number from 1 to 100",
        ),
        (
            "pods-per-round = 3",
            "pods-per-round = 9",
            "world.churn.pods-per-round: 9",
        ),
        (
            "call = 12",
            "call = 0",
            "fault 1: at.port-call.call: 0 is not allowed",
        ),
        (
            "agent = 2",
            "agent = 3",
            "fault 1: target.agent: 3 is not allowed: a number from 0 to 2",
        ),
        ("agent = 2", "node = 2", "a agent-kill has the target agent"),
        ("write = 4", "write = 0", "fault 2: at.write.write: 0"),
        (
            "verb = \"del\"",
            "verb = \"add\"",
            "fault 3: at.cni.verb: add",
        ),
        (
            "node = 1\nverb",
            "node = 2\nverb",
            "fault 3: at: node 2 is not allowed",
        ),
        (
            "duration-ns = 1500000000",
            "",
            "fault 1: duration-ns: nothing is not allowed",
        ),
        (
            "duration-ns = 1500000000",
            "duration-ns = 864000000000001",
            "864000000000001",
        ),
        (
            "kind = \"response-lost\"",
            "kind = \"respons-lost\"",
            "unknown variant",
        ),
        (
            "nodes = 3",
            "nodes = 3\nmasters = 1",
            "unknown field `masters`",
        ),
        ("seed = \"0x", "seed = \"0y", "not a seed"),
        (
            "plan/v1",
            "plan/v2",
            "this program reads `drydock.dev/plan/v1`",
        ),
        ("stack = \"dual\"", "", "missing field `stack`"),
        ("nodes = 3", "nodes = \"three\"", "line 9"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Plan::from_toml(&text.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{message}\n{error}");
    }
}

#[test]
fn every_kind_states_its_own_name() {
    for kind in FaultKind::ALL {
        let name = serde_json::to_value(kind).unwrap();
        assert_eq!(name, kind.as_str());
    }
}

#[test]
fn an_override_file_has_only_set() {
    let file = OverrideFile::from_toml("[set]\n\"node.cpu\" = \"310 ms\"\n").unwrap();
    assert_eq!(OverrideFile::from_toml(&file.to_toml()), Ok(file));
    let error = OverrideFile::from_toml("[sets]\n").unwrap_err().to_string();
    assert!(error.contains("unknown field `sets`"), "{error}");
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let kinds = proptest::sample::select(FaultKind::ALL.to_vec());
    let edge = prop_oneof![Just(Edge::Before), Just(Edge::After)];
    (
        kinds,
        0..3u32,
        0..4u8,
        1..=COUNT_MAX_IN_TEST,
        edge,
        0..=TIME_NS_MAX,
    )
        .prop_map(|(kind, index, trigger, count, edge, time_ns)| {
            let shape = kind.shape();
            let target = match shape.target {
                "agent" => Target::Agent(index),
                "node" => Target::Node(index),
                "apiserver" => Target::Apiserver(index),
                _ => Target::Pod(index),
            };
            let write = Trigger::Write {
                agent: index,
                write: count,
            };
            let verb = match kind {
                FaultKind::UnknownRelease | FaultKind::LeavingRelease => CniVerb::Add,
                _ => CniVerb::Del,
            };
            let cni = Trigger::Cni {
                node: index,
                verb,
                call: count,
                edge,
            };
            let at = match (shape.trigger, trigger) {
                (Some("write"), _) | (None, 0) => write,
                (Some(_), _) | (None, 1) => cni,
                (None, 2) => Trigger::PortCall {
                    agent: index,
                    call: count,
                    edge,
                },
                (None, _) => Trigger::TimeNs(time_ns),
            };
            let lasts = matches!(shape.duration, DurationRule::Required(_));
            Fault {
                kind,
                target,
                at,
                duration_ns: lasts.then_some(time_ns),
            }
        })
}

const COUNT_MAX_IN_TEST: u64 = 1_000_000;

proptest! {
    #[test]
    fn a_written_plan_reads_back_equal(
        seed in any::<u64>(),
        faults in proptest::collection::vec(any_fault(), 0..12),
    ) {
        let plan = Plan { seed: Seed(seed), faults, ..sample() };
        let text = plan.to_toml().unwrap();
        prop_assert_eq!(Plan::from_toml(&text).unwrap(), plan);
    }
}
