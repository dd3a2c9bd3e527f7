//! What an agent depends on is lost and comes back: nothing is freed meanwhile that only it could
//! vouch for, nothing else waits, and it is said once.

use core::time::Duration;

use berth::core::agent::{Agent, AgentConfig, HostPart, Input, Output};
use berth::core::api::Part;
use berth::core::journal::Stored;
use berth::core::objects::{ANNOTATION_RELEASE, BerthNode, Kind, Object, ObjectKey};
use berth::core::report::LocalError;
use berth::core::time::BootTime;
use berth::testing::{Faults, PodPlan, World};

use crate::storms::HOSTILE;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pod(world: &mut World, node: &str, name: &str) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after: Duration::from_millis(100),
    });
}

fn world_with(configure: fn(&mut AgentConfig), pods: &[&str]) -> World {
    let mut world = World::new(7, Faults::default());
    world.configure(configure);
    world.add_pool("p", &[&["10.0.0.0/29"]], Some(4));
    world.start_controller("c");
    world.add_node("n0");
    world.run_for(seconds(1));
    for name in pods {
        pod(&mut world, "n0", name);
    }
    world.run_for(seconds(5));
    assert_eq!(world.running_count(), pods.len());
    world
}

fn world(pods: &[&str]) -> World {
    world_with(|_| {}, pods)
}

fn machines(world: &mut World) -> Vec<BerthNode> {
    world.with_store(|store| {
        let of_kind = store.of_kind(Kind::BerthNode);
        let machines = of_kind.filter_map(|object| match object {
            Object::BerthNode(machine) => Some((**machine).clone()),
            _ => None,
        });
        machines.collect()
    })
}

fn condition(world: &mut World) -> Option<(String, String)> {
    let machine = machines(world).remove(0);
    let mut conditions = machine.spec.conditions.into_iter();
    let lost = conditions.find(|condition| condition.kind == "PartLost")?;
    Some((lost.reason, lost.message))
}

fn order(world: &mut World, pod: &str) {
    let mut next = machines(world).remove(0);
    next.metadata
        .annotations
        .insert(ANNOTATION_RELEASE.into(), pod.into());
    next.spec.writer = "operator".into();
    world
        .with_store(|store| store.replace(next.into(), Part::Main))
        .unwrap();
}

fn said(world: &World, reason: &str) -> Vec<String> {
    let events = world.events("n0").into_iter();
    events
        .filter(|(said, _)| *said == reason)
        .map(|(_, text)| text)
        .collect()
}

fn holds(world: &World, uid: &str) -> bool {
    world.held_by().iter().any(|held| held == uid)
}

#[test]
fn a_runtime_that_goes_and_comes_back_is_said_once_each_and_stated_meanwhile() {
    let mut world = world(&["a", "b", "c"]);
    world.set_runtime_lost("n0", true);
    world.end_silently("a");
    world.run_for(seconds(100));
    assert_eq!(said(&world, "PartLost").len(), 1, "not once per try");
    let (reason, message) = condition(&mut world).unwrap();
    assert_eq!(reason, "RuntimeLost");
    assert!(message.contains("runtime: connection refused"), "{message}");
    pod(&mut world, "n0", "late");
    world.delete_pod("b", Duration::ZERO, false);
    world.run_for(seconds(40));
    assert_eq!(world.addresses_of("late").len(), 1, "an ADD is served");
    assert!(!holds(&world, "pod-b"), "and a DEL");
    assert!(
        !holds(&world, "pod-a"),
        "path and Pod are gone: that is enough"
    );

    world.set_runtime_lost("n0", false);
    world.end_silently("c");
    world.run_for(seconds(60));
    assert_eq!(said(&world, "PartBack"), ["runtime is back"]);
    assert_eq!(condition(&mut world), None);
    assert_eq!(world.held_by(), ["pod-late"]);
    assert_eq!(world.violations(), []);
}

#[test]
fn an_order_is_carried_out_without_a_runtime_where_the_path_is_gone() {
    let mut world = world(&["a", "b"]);
    // All that the agent can see vanished at once, and the runtime is away: 60 of 60 were stuck.
    world.set_runtime_lost("n0", true);
    world.end_all_silently("n0");
    world.run_for(seconds(60));
    order(&mut world, "pod-a");
    world.run_for(seconds(30));
    assert_eq!(world.held_by(), ["pod-b"], "{:?}", world.events("n0"));
    assert_eq!(said(&world, "ReleaseRefused"), [] as [String; 0]);
}

#[test]
fn an_order_stands_in_for_one_witness_and_says_what_would_work_for_two() {
    let mut world = world(&["a", "b"]);
    world.set_runtime_lost("n0", true);
    world.set_namespaces_lost("n0", true);
    world.end_silently("a");
    world.run_for(seconds(60));
    order(&mut world, "pod-a");
    world.run_for(seconds(30));
    let refusals = said(&world, "ReleaseRefused");
    assert!(
        refusals.len() == 1 && refusals[0].contains("connection refused), then order again"),
        "{refusals:?}"
    );
    assert_eq!(world.held_by(), ["pod-a", "pod-b"]);
    // What it said works.
    world.set_runtime_lost("n0", false);
    order(&mut world, "pod-a");
    world.run_for(seconds(30));
    assert_eq!(world.held_by(), ["pod-b"]);
}

#[test]
fn an_order_does_not_stand_against_a_sandbox_that_the_runtime_lists() {
    let mut world = world(&["a"]);
    world.set_namespaces_lost("n0", true);
    order(&mut world, "pod-a");
    world.run_for(seconds(30));
    assert_eq!(world.held_by(), ["pod-a"]);
    let refusals = said(&world, "ReleaseRefused");
    assert!(refusals[0].contains("crictl rmp"), "{refusals:?}");
}

#[test]
fn an_order_after_a_lost_journal_needs_the_runtime_and_says_so() {
    let mut world = world(&["a", "b"]);
    world.kill_agent("n0");
    world.lose_journal("n0");
    world.set_runtime_lost("n0", true);
    world.end_silently("a");
    world.start_agent("n0");
    world.run_for(seconds(60));
    order(&mut world, "pod-a");
    world.run_for(seconds(30));
    assert!(holds(&world, "pod-a"));
    let refusals = said(&world, "ReleaseRefused");
    assert!(refusals[0].contains("cannot be asked"), "{refusals:?}");
    world.set_runtime_lost("n0", false);
    order(&mut world, "pod-a");
    world.run_for(seconds(30));
    assert!(!holds(&world, "pod-a"));
}

/// A sandbox's namespace cannot be looked at, its link deletion hangs, and the runtime is away.
fn lost_journal_and_runtime(configure: fn(&mut AgentConfig)) -> World {
    let mut world = world_with(configure, &["a", "b"]);
    world.kill_agent("n0");
    world.lose_journal("n0");
    world.set_runtime_lost("n0", true);
    // The object goes at once, the sandbox lives on.
    world.delete_pod("a", seconds(200), true);
    world.start_agent("n0");
    world.run_for(seconds(90));
    world
}

#[test]
fn a_runtime_that_cannot_be_asked_is_not_one_without_sandboxes() {
    let world = lost_journal_and_runtime(|_| {});
    assert!(holds(&world, "pod-a"), "its interface is up");
}

#[cfg(feature = "mutants")]
#[test]
fn a_lost_runtime_taken_for_empty_frees_an_address_in_use() {
    use berth::core::Mutant;
    let world = lost_journal_and_runtime(|c| c.mutant = Some(Mutant::LostRuntimeTakenForEmpty));
    assert!(!holds(&world, "pod-a"));
    assert_eq!(world.running_count(), 2, "while a's interface is up");
}

#[test]
fn two_machines_with_one_id_share_no_incarnation_and_say_so() {
    let mut world = world(&["a", "b"]);
    world.add_clone("n1", "n0");
    for round in 0..4 {
        pod(&mut world, "n1", &format!("c{round}"));
        world.run_for(seconds(60));
    }
    for node in ["n0", "n1"] {
        world.kill_agent(node);
        world.start_agent(node);
    }
    world.run_for(seconds(1500));
    assert_eq!(world.violations(), []);
    assert_eq!(world.running_count(), 6, "all have an address");
    let machines = machines(&mut world);
    let own: Vec<_> = machines
        .iter()
        .map(|machine| (machine.spec.node_name.as_str(), machine.spec.epoch))
        .collect();
    assert_eq!(own, [("n0", 1), ("n1", 1)], "no incarnation was taken");
    for (machine, other) in [(0, "machine-n0.n1"), (1, "machine-n0")] {
        let stated = &machines[machine].spec.conditions[0];
        assert_eq!(stated.reason, "MachineIdShared", "{stated:?}");
        assert!(stated.message.contains(other), "{stated:?}");
    }
    // The copy is gone for good: it is said no more.
    world.kill_agent("n1");
    world.with_store(|store| {
        let key = ObjectKey::cluster(Kind::BerthNode, "machine-n0.n1");
        store.delete(&key, None).unwrap();
    });
    world.run_for(seconds(120));
    assert_eq!(condition(&mut world), None);
}

/// Runtimes come and go while Pods do, agents are killed, and sandboxes end without a DEL. On each
/// node one Pod stays: paths that vanish all together are another matter.
fn storm(seed: u64) -> Result<(), String> {
    let draw = |step: u64, purpose: u64, bound: u64| {
        use berth::core::hash::mix;
        mix(mix(mix(0x9a47, seed), step), purpose) % bound
    };
    let mut world = World::new(seed, HOSTILE);
    world.add_pool("p", &[&["10.0.0.0/28"]], Some(4));
    world.start_controller("c");
    let mut alive = Vec::new();
    for node in ["n0", "n1"] {
        world.add_node(node);
        pod(&mut world, node, &format!("{node}-stays"));
    }
    world.run_for(seconds(20));
    for step in 0..60 {
        let node = ["n0", "n1"][draw(step, 0, 2) as usize];
        match draw(step, 1, 8) {
            0..=2 if alive.len() < 8 => {
                let name = format!("p{step}");
                pod(&mut world, node, &name);
                alive.push(name);
            }
            3 if !alive.is_empty() => {
                let name = alive.remove(draw(step, 2, alive.len() as u64) as usize);
                world.delete_pod(&name, Duration::from_millis(draw(step, 3, 4000)), false);
            }
            4 | 5 if !alive.is_empty() => {
                let name = alive.remove(draw(step, 2, alive.len() as u64) as usize);
                world.end_silently(&name);
            }
            6 => world.set_runtime_lost(node, draw(step, 2, 2) == 0),
            7 => {
                world.kill_agent(node);
                world.start_agent_after(node, Duration::from_millis(draw(step, 2, 4000)));
            }
            _ => {}
        }
        world.run_for(Duration::from_millis(draw(step, 4, 6000)));
    }
    world.set_faults(Faults::default());
    for node in ["n0", "n1"] {
        world.set_runtime_lost(node, false);
    }
    world.run_for(seconds(180));
    alive.extend(["n0-stays".to_owned(), "n1-stays".to_owned()]);
    let mut expected: Vec<String> = alive.iter().map(|name| format!("pod-{name}")).collect();
    expected.sort();
    let held = world.held_by();
    let violations = world.violations();
    if violations.is_empty() && held == expected && world.running_count() == alive.len() {
        return Ok(());
    }
    Err(format!(
        "seed {seed}: {violations:?}; held {held:?}, alive {expected:?}"
    ))
}

#[test]
fn storms_with_runtimes_that_come_and_go_leave_neither_duplicates_nor_leaks() {
    let failures: Vec<String> = (0..80).filter_map(|seed| storm(seed).err()).collect();
    assert!(
        failures.is_empty(),
        "{}:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Hands an agent inputs and keeps its outputs.
struct Bench {
    agent: Agent,
    at: u64,
}

impl Bench {
    fn new() -> Self {
        let agent = Agent::new(AgentConfig::new("n", "m", "b"));
        let mut bench = Self { agent, at: 1000 };
        bench.take(Input::Start);
        bench.take(Input::JournalOpened(Ok(Stored::default())));
        bench
    }

    fn take(&mut self, input: Input) -> Vec<Output> {
        self.at += 10;
        let now = BootTime::new(Duration::from_secs(self.at));
        self.agent.handle(now, 1, input)
    }

    fn look(&mut self, part: HostPart, lost: Option<&str>) -> Vec<Output> {
        let found = lost.map_or(Ok(()), |why| Err(why.to_owned()));
        self.take(Input::Parts(vec![(part, found)]))
    }
}

fn reasons(outputs: &[Output]) -> Vec<&'static str> {
    let reasons = outputs.iter().filter_map(|output| match output {
        Output::Event { reason, .. } => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn each_part_is_said_when_it_changes_and_not_at_each_look() {
    for part in HostPart::ALL {
        let mut bench = Bench::new();
        assert_eq!(reasons(&bench.look(part, None)), [] as [&str; 0]);
        assert_eq!(reasons(&bench.look(part, Some("gone"))), ["PartLost"]);
        let again = bench.look(part, Some("gone, in other words"));
        assert_eq!(reasons(&again), [] as [&str; 0]);
        let state = bench.agent.state();
        assert_eq!(
            state.parts[0].lost.as_deref(),
            Some("gone, in other words"),
            "the last words are shown"
        );
        assert_eq!(reasons(&bench.look(part, None)), ["PartBack"]);
    }
}

#[test]
fn a_journal_that_takes_entries_again_is_written_anew_without_being_asked() {
    let mut bench = Bench::new();
    let failed = bench.take(Input::AppendFailed {
        refused: Vec::new(),
    });
    assert_eq!(reasons(&failed), ["PartLost"]);
    assert!(!bench.agent.state().is_journal_ok);
    let outputs = bench.look(HostPart::Journal, None);
    let compacts = |outputs: &[Output]| outputs.iter().any(|o| matches!(o, Output::Compact(..)));
    assert!(compacts(&outputs), "{outputs:?}");
    assert!(bench.agent.state().is_journal_ok);
    let quiet = bench.look(HostPart::Journal, None);
    assert!(!compacts(&quiet), "and not at every look");
}

#[test]
fn however_often_the_runtime_is_wanted_one_question_is_under_way() {
    let asks = |outputs: &[Output]| {
        let asks = outputs.iter();
        asks.filter(|o| matches!(o, Output::ListSandboxes)).count()
    };
    let mut bench = Bench::new();
    assert_eq!(asks(&bench.look(HostPart::Spool, None)), 1);
    assert_eq!(asks(&bench.look(HostPart::Spool, None)), 0, "it hangs");
    assert_eq!(asks(&bench.look(HostPart::Spool, None)), 0);
    assert_eq!(asks(&bench.look(HostPart::Spool, None)), 0);
    let again = bench.look(HostPart::Spool, None);
    assert_eq!(asks(&again), 1, "but not for ever");
    let failed = bench.take(Input::Sandboxes(Err(LocalError::new("refused"))));
    assert_eq!(reasons(&failed), ["PartLost"]);
    assert_eq!(asks(&bench.look(HostPart::Spool, None)), 1);
}

#[test]
fn only_what_keeps_every_pod_from_an_address_makes_an_agent_unready() {
    let vital: Vec<_> = HostPart::ALL
        .into_iter()
        .filter(|part| part.is_vital())
        .map(HostPart::name)
        .collect();
    assert_eq!(vital, ["journal", "socket", "plugin"]);
}
