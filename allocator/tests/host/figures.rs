//! The figures that the README states are those of the code. That the code keeps to them is shown
//! by other tests.

use std::process::Command;

use berth::adapters::apiserver::Deadlines;
use berth::adapters::daemon::DRAIN;
use berth::core::agent::Policy;
use berth::core::controller::ControllerConfig;

#[test]
fn the_figures_of_the_readme_are_those_of_the_code() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.unwrap();
    let readme = readme.split_whitespace().collect::<Vec<_>>().join(" ");
    let policy = Policy::STANDARD;
    let controller = ControllerConfig::new("c");
    let del = policy.release_after_del.as_secs();
    let settle = policy.search_settle.as_millis();
    // Each node has one of eight moments.
    let longest_settle = settle * 8;
    let stated = [
        format!(
            "within {} s of sending the last quorum read",
            policy.epoch_valid.as_secs()
        ),
        format!(
            "The epoch is read every {} s while Pods wait or hold reservations and every {} s",
            policy.epoch_refresh.as_secs(),
            policy.epoch_refresh_idle.as_secs()
        ),
        format!(
            "free {del} s after the last DEL ({} s for a young ADD)",
            del + policy.release_extra.as_secs()
        ),
        format!("{settle} to {longest_settle} ms more"),
        format!("Tombstones: {}", policy.tombstone_count_max),
        format!("Finished attachments: {}", policy.ended_count_max),
        format!("Waiting ADDs: {}", policy.waiting_adds_max),
        format!(
            "The quarantine is {} minutes",
            controller.quarantine.as_secs() / 60
        ),
        format!(
            "{} s to {} s, and no other object",
            controller.retry.first.as_secs_f64(),
            controller.retry.longest.as_secs()
        ),
        format!("a list {} s", Deadlines::STANDARD.list.as_secs()),
        format!("for at most {} s, and ends", DRAIN.as_secs()),
    ];
    for figure in stated {
        assert!(readme.contains(&figure), "{figure}");
    }
    assert!(readme.contains("after ten minutes without an ADD"));
    assert_eq!(policy.reservation_unasked.as_secs(), 10 * 60);
    assert!(readme.contains("Once a minute it counts the pools"));
    assert_eq!(controller.report_interval.as_secs(), 60);
}

#[test]
fn parts_are_looked_at_every_ten_seconds_unless_told_otherwise() {
    let help = Command::new(env!("CARGO_BIN_EXE_berthd"))
        .args(["agent", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let of = help
        .split("--look-pause-ms")
        .nth(1)
        .unwrap_or_else(|| panic!("{help}"));
    let default = of.split("[default: ").nth(1).unwrap();
    assert!(default.starts_with("10000]"), "{of}");
}
