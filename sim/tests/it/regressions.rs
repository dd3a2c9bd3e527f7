//! Plans of failures that were found once: Berth survives each, and where a mutant has the mistake
//! built in, it falls.

use drydock::adapters::BERTH;
use drydock::runner::{RunOptions, run};
use drydock::scenario::Scenario;
use drydock::subject::Subject;
use drydock_traces::plan::Plan;
use drydock_traces::run_record::RunRecord;

fn replay(text: &str, mutant: Option<&str>) -> RunRecord {
    let plan = Plan::from_toml(text).unwrap();
    let subject = Subject {
        allocator: BERTH,
        mutant: mutant.map(str::to_owned),
    };
    let scenario = Scenario::from_plan(&plan, &subject).unwrap();
    run(scenario, RunOptions::default(), |_| ()).unwrap()
}

const LATE_RELEASE: &str =
    include_str!("../../../traces/corpus/regressions/late-release-under-an-answer.toml");
const LINK_LIVES_ON: &str =
    include_str!("../../../traces/corpus/regressions/link-lives-on-after-del.toml");

const LEAVING_RELEASE: &str =
    include_str!("../../../traces/corpus/regressions/leaving-release-under-an-answer.toml");

/// A Pod that was deleted by force is asked for and not found, and gets no answer. One with its
/// grace does, and there only the fence stands between it and the release that is under way.
#[test]
fn a_late_release_under_an_answer_is_fenced() {
    for text in [LATE_RELEASE, LEAVING_RELEASE] {
        assert_eq!(replay(text, None).violations, []);
    }
    let fallen = replay(LEAVING_RELEASE, Some("read-settles-unknown"));
    assert!(!fallen.violations.is_empty());
}

#[test]
fn an_address_is_held_while_its_link_lives_on_after_del() {
    let record = replay(LINK_LIVES_ON, None);
    assert_eq!(record.violations, []);
    let fired: u64 = record.faults.values().map(|count| count.fired).sum();
    assert_eq!(fired, 2, "{:?}", record.faults);
}

/// Faults of what the agent relies on, each the smallest plan that was found of its kind.
const OWN_THINGS: [(&str, &str); 5] = [
    (
        "journal-lost-and-dead-again",
        include_str!("../../../traces/corpus/regressions/journal-lost-and-dead-again.toml"),
    ),
    (
        "journal-damaged-in-the-middle",
        include_str!("../../../traces/corpus/regressions/journal-damaged-in-the-middle.toml"),
    ),
    (
        "journal-old-copy",
        include_str!("../../../traces/corpus/regressions/journal-old-copy.toml"),
    ),
    (
        "journal-read-only-at-start",
        include_str!("../../../traces/corpus/regressions/journal-read-only-at-start.toml"),
    ),
    (
        "path-untold-while-its-link-lives-on",
        include_str!("../../../traces/corpus/regressions/path-untold-while-its-link-lives-on.toml"),
    ),
];

#[test]
fn what_the_agent_relies_on_may_be_lost_damaged_old_or_untold() {
    for (name, text) in OWN_THINGS {
        let record = replay(text, None);
        assert_eq!(record.violations, [], "{name}");
        let own = |(kind, _): &(&String, _)| {
            kind.starts_with("journal-") || kind.as_str() == "path-unknown"
        };
        let struck: u64 = (record.faults.iter().filter(own))
            .map(|(_, count)| count.fired)
            .sum();
        assert_eq!(struck, 1, "{name}: {:?}", record.faults);
    }
}

/// Plans in which others spoil objects, name pools or run Pods of their own, each with the mutant
/// that it shows.
const OTHERS: [(&str, &str); 3] = [
    (
        "all-or-nothing-decode",
        include_str!("../../../traces/corpus/regressions/typo-that-nobody-mends.toml"),
    ),
    (
        "rights-only-on-ordinary-path",
        include_str!(
            "../../../traces/corpus/regressions/tenant-names-a-pool-that-is-not-for-it.toml"
        ),
    ),
    (
        "claims-for-foreign-pods",
        include_str!("../../../traces/corpus/regressions/pods-of-another-cni.toml"),
    ),
];

#[test]
fn what_others_do_is_survived_and_shows_the_mistake_that_it_was_made_for() {
    for (mutant, text) in OTHERS {
        let record = replay(text, None);
        assert_eq!(record.violations, [], "{mutant}");
        assert!(
            record
                .faults
                .values()
                .all(|count| count.fired == count.drawn)
        );
        let fallen = replay(text, Some(mutant));
        assert!(!fallen.violations.is_empty(), "{mutant}");
    }
}

/// Plans in which the agent of that day gave a live address away, or failed a DEL.
const MENDED: [(&str, &str); 6] = [
    (
        "old-copy-and-the-record-of-who-lives",
        include_str!(
            "../../../traces/corpus/regressions/old-copy-and-the-record-of-who-lives.toml"
        ),
    ),
    (
        "old-copy-beside-a-sandbox-that-is-made",
        include_str!(
            "../../../traces/corpus/regressions/old-copy-beside-a-sandbox-that-is-made.toml"
        ),
    ),
    (
        "journal-lost-while-its-pool-cannot-be-read",
        include_str!(
            "../../../traces/corpus/regressions/journal-lost-while-its-pool-cannot-be-read.toml"
        ),
    ),
    (
        "old-copy-behind-a-newer-pool",
        include_str!("../../../traces/corpus/regressions/old-copy-behind-a-newer-pool.toml"),
    ),
    (
        "older-journal-and-ten-minutes",
        include_str!("../../../traces/corpus/regressions/older-journal-and-ten-minutes.toml"),
    ),
    (
        "del-while-the-journal-cannot-be-opened",
        include_str!(
            "../../../traces/corpus/regressions/del-while-the-journal-cannot-be-opened.toml"
        ),
    ),
];

#[test]
fn an_older_journal_frees_no_live_address_and_one_that_stays_shut_fails_no_del() {
    for (name, text) in MENDED {
        let record = replay(text, None);
        assert_eq!(record.violations, [], "{name}");
        let journal = |(kind, _): &(&String, _)| kind.starts_with("journal-");
        let mut struck = record.faults.iter().filter(journal);
        assert!(
            struck.all(|(_, count)| count.fired > 0 && count.fired == count.drawn),
            "{name}: {:?}",
            record.faults
        );
    }
}
