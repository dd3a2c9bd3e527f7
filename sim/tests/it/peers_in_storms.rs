//! Storms of faults over the modeled peers: what each survives, and where a fault of its released
//! version shows, with the switch that takes it away where the model has one.

use drydock::adapters::subject;
use drydock::runner::{RunOptions, run};
use drydock::scenario::Scenario;
use drydock::seed_range::SeedRange;
use drydock::subject::Subject;
use drydock::sweep::{findings, one, sweep};
use drydock_traces::plan::Plan;
use drydock_traces::run_record::{ExitClass, Invariant, RunRecord};
use drydock_traces::seed::Seed;

use crate::program::{output, stderr, stdout};

/// Storms without a violation. Behind macvlan a link that lives on after DEL is enough for one,
/// so their ranges are short.
const CLEAN: [(&str, SeedRange); 5] = [
    ("calico", SeedRange { first: 0, end: 40 }),
    ("cilium", SeedRange { first: 0, end: 100 }),
    ("kube-ovn", SeedRange { first: 19, end: 34 }),
    ("spiderpool", SeedRange { first: 8, end: 14 }),
    ("whereabouts", SeedRange { first: 17, end: 35 }),
];

fn peer(allocator: &str) -> Subject {
    subject(allocator).unwrap()
}

fn storm(allocator: &str, seed: u64) -> RunRecord {
    one(&peer(allocator), Seed(seed), &std::sync::Arc::default()).unwrap()
}

/// A stored plan, with an option set.
fn replay(text: &str, set: Option<(&str, &str)>) -> RunRecord {
    let mut plan = Plan::from_toml(text).unwrap();
    let set = set.map(|(key, value)| (key.to_owned(), value.to_owned()));
    plan.set.extend(set);
    let scenario = Scenario::from_plan(&plan, &peer(&plan.allocator)).unwrap();
    run(scenario, RunOptions::default(), |_| ()).unwrap()
}

fn broken(record: &RunRecord) -> Vec<Invariant> {
    let broken = record.violations.iter();
    broken.map(|violation| violation.invariant).collect()
}

#[test]
fn each_peer_survives_a_range_of_storms_that_strike_it() {
    for (name, seeds) in CLEAN {
        let swept = sweep(&peer(name), seeds, 2, &std::sync::Arc::default(), |_| ());
        assert!(swept.broken.is_none(), "{name}: {:?}", swept.broken);
        let failed = swept
            .failure
            .map(|(seed, record)| (seed, record.violations));
        assert!(failed.is_none(), "{name}: {failed:?}");
        assert_eq!(swept.tally.seeds, seeds.count(), "{name}");
        let fired: u64 = swept.tally.faults.values().map(|count| count.fired).sum();
        assert!(fired > seeds.count(), "{name}: {:?}", swept.tally.faults);
        let kills = swept.tally.faults["agent-kill"];
        assert!(kills.fired > 0, "{name}: an agent is killed as a peer's");
    }
}

const PING: &str =
    include_str!("../../../traces/corpus/regressions/kube-ovn-ping-timeout-is-success.toml");
const TRACED: &str =
    include_str!("../../../traces/corpus/regressions/spiderpool-traces-a-pod-that-lives.toml");
const LINK: &str =
    include_str!("../../../traces/corpus/regressions/whereabouts-link-lives-on-after-del.toml");
const LOST: &str =
    include_str!("../../../traces/corpus/regressions/calico-lost-answer-leaks-an-address.toml");

#[test]
fn kube_ovn_takes_a_gateway_that_never_answers_for_ready_and_two_pods_share_an_address() {
    let record = storm("kube-ovn", 61);
    assert_eq!(record.outcome.exit_class, ExitClass::Violation);
    assert_eq!(broken(&record), [Invariant::U]);
    assert_eq!(broken(&replay(PING, None)), [Invariant::U]);
    let repaired = replay(PING, Some(("kube_ovn.ping_error", "true")));
    assert_eq!(repaired.violations, []);
}

#[test]
fn spiderpool_frees_the_address_of_a_pod_that_is_late_to_end() {
    assert_eq!(broken(&storm("spiderpool", 80)), [Invariant::U]);
    assert_eq!(broken(&replay(TRACED, None)), [Invariant::U]);
    let patient = replay(TRACED, Some(("spiderpool.trace_delay", "600")));
    assert_eq!(patient.violations, []);
}

#[test]
fn whereabouts_gives_an_address_back_before_macvlan_deletes_the_link() {
    assert_eq!(broken(&storm("whereabouts", 148)), [Invariant::U]);
    assert_eq!(broken(&replay(LINK, None)), [Invariant::U]);
    // The same faults over Berth, which looks at the namespace before it gives anything back.
    let berth = LINK.replace("\"whereabouts\"", "\"berth\"");
    assert_eq!(replay(&berth, None).violations, []);
}

/// CA-1329 and CI-9913 of the corpus: no violation, but an address that nobody can use.
#[test]
fn leaks_of_released_versions_are_findings_and_not_violations() {
    let leak = "addresses leaked after healing";
    let lost = replay(LOST, None);
    assert_eq!(lost.violations, []);
    assert_eq!(findings(&lost), [(leak, 1)]);
    let killed = storm("cilium", 15);
    assert_eq!(killed.violations, []);
    let names: Vec<&str> = findings(&killed).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, [leak]);
}

/// The line of a text that begins so, without its beginning.
fn after<'a>(text: &'a str, beginning: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(beginning))
        .unwrap_or_else(|| panic!("no line begins with `{beginning}`:\n{text}"))
        .trim()
}

#[test]
fn a_hunt_over_a_peer_says_what_fell_first_and_the_printed_line_and_the_plan_show_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml").display().to_string();
    let hunt = ["hunt", "--allocator=kube-ovn", "--seeds=13..17", "--plan"];
    let found = output(&[&hunt[..], &[&plan]].concat());
    let text = stdout(&found);
    assert_eq!(found.status.code(), Some(2), "{}{text}", stderr(&found));
    assert_eq!(after(&text, "U fell first at seed"), "0xf");
    let certificate = after(&text, "certificate");
    let line = after(&text, "reproduce: cargo sim ");
    let again = output(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(again.status.code(), Some(2), "{line}: {}", stderr(&again));
    assert_eq!(after(&stdout(&again), "certificate"), certificate, "{line}");
    let replayed = output(&["replay", &plan]);
    assert_eq!(replayed.status.code(), Some(2), "{}", stderr(&replayed));
    assert_eq!(after(&stdout(&replayed), "certificate"), certificate);
}

#[test]
fn a_hunt_tells_its_findings_with_the_line_that_shows_the_first() {
    let found = output(&["hunt", "--allocator=calico", "--seeds=0..8", "--jobs=2"]);
    let text = stdout(&found);
    assert_eq!(found.status.code(), Some(0), "{}{text}", stderr(&found));
    assert!(text.contains("judged by U, B and A"), "{text}");
    let finding = after(&text, "  finding: addresses leaked after healing:");
    let line = finding.split_once("cargo sim ").unwrap().1;
    let again = output(&line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(again.status.code(), Some(0), "{line}");
    assert!(
        stdout(&again).contains("finding: addresses leaked"),
        "{line}"
    );
}
