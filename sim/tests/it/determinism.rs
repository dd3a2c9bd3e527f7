//! One seed is one run: the same events in every process, environment, folder and build. It says
//! nothing about what the events are.

use drydock::adapters::BERTH;
use drydock::sweep::one;
use drydock_traces::run_record::RunRecord;
use drydock_traces::seed::Seed;

use crate::program::{output, program, record, stderr, stdout};

/// The hash in a record that `run --json -` printed.
fn hash_of(text: &str) -> String {
    RunRecord::from_json(text)
        .unwrap()
        .certificate
        .event_log_hash
        .to_string()
}

/// Runs in a process that sees nothing of this one's environment but what is given.
fn hash_elsewhere(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = program(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    hash_of(&stdout(&output))
}

#[test]
fn one_seed_gives_one_hash_and_another_seed_another() {
    for allocator in ["berth", "instant"] {
        let arguments = ["--allocator", allocator, "--seed"];
        let hash = |seed| {
            record(&[&arguments[..], &[seed]].concat())
                .certificate
                .event_log_hash
        };
        assert_eq!(hash("7"), hash("7"), "{allocator}: the same seed");
        assert_ne!(hash("7"), hash("8"), "{allocator}: another seed");
    }
}

#[test]
fn a_storm_gives_one_hash() {
    let storm = |seed| {
        one(&BERTH.into(), Seed(seed), &std::sync::Arc::default())
            .unwrap()
            .certificate
    };
    assert_eq!(storm(11).event_log_hash, storm(11).event_log_hash);
    assert_eq!(storm(11).checkpoints, storm(11).checkpoints);
    assert_ne!(storm(11).event_log_hash, storm(12).event_log_hash);
}

#[test]
fn environment_time_zone_and_folder_do_not_reach_a_run() {
    let padding = "x".repeat(50_000);
    for allocator in ["berth", "instant"] {
        let arguments = ["run", "--json", "-", "--seed=9", "--allocator", allocator];
        let bare = hash_elsewhere(&arguments, &[]);
        let other = [
            ("TZ", "Pacific/Chatham"),
            ("LC_ALL", "tr_TR.UTF-8"),
            ("HOME", "/nonexistent"),
            ("DRYDOCK_PAD", &padding),
        ];
        assert_eq!(bare, hash_elsewhere(&arguments, &other), "{allocator}");
        let here = record(&["--seed=9", "--allocator", allocator]);
        assert_eq!(
            bare,
            here.certificate.event_log_hash.to_string(),
            "{allocator}: this process"
        );
    }
}

#[test]
fn what_is_written_does_not_change_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, trace, svg) = (path("run.json"), path("run.jsonl"), path("run.svg"));
    let plain = output(&["run", "--quiet", "--workload=real-node"]);
    let all = output(&[
        "run",
        "--quiet",
        "--workload=real-node",
        "--json",
        &json,
        "--trace",
        &trace,
        "--svg",
        &svg,
    ]);
    assert_eq!(
        stdout(&plain),
        stdout(&all),
        "the result line ends with the hash"
    );
    let hash = hash_of(&std::fs::read_to_string(&json).unwrap());
    assert!(
        stdout(&plain).trim_end().ends_with(&hash),
        "{}",
        stdout(&plain)
    );
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<svg"));
    let events = std::fs::read_to_string(&trace).unwrap().lines().count() as u64;
    let written = RunRecord::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(
        events, written.certificate.event_count,
        "the trace holds every event"
    );
}

#[test]
fn verify_finds_two_processes_equal_and_says_how_many_events_it_compared() {
    let arguments = ["--workload=real-node", "--seed=5"];
    let verified = output(&[&["verify"][..], &arguments].concat());
    let events = record(&arguments).certificate.event_count;
    assert_eq!(verified.status.code(), Some(0), "{}", stderr(&verified));
    assert!(
        stdout(&verified).contains(&format!("{events} events")),
        "{}",
        stdout(&verified)
    );
}

#[test]
fn verify_names_the_first_event_of_a_doctored_trace() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.jsonl");
    let name = trace.display().to_string();
    let arguments = ["--workload=real-node", "--seed=5"];
    let traced = output(&[&["run", "--quiet", "--trace", &name][..], &arguments].concat());
    assert!(traced.status.success(), "{}", stderr(&traced));
    let verify = || output(&[&["verify", "--against", &name][..], &arguments].concat());
    assert_eq!(
        verify().status.code(),
        Some(0),
        "the trace as it was written"
    );

    let text = std::fs::read_to_string(&trace).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let doctored = lines[1233].replacen("\"at_ns\":", "\"at_ns\":1", 1);
    assert_ne!(lines[1233], doctored);
    lines[1233] = &doctored;
    std::fs::write(&trace, lines.join("\n")).unwrap();
    let differs = verify();
    assert_eq!(differs.status.code(), Some(3), "{}", stderr(&differs));
    assert!(
        stdout(&differs).contains("event 1234 differs"),
        "{}",
        stdout(&differs)
    );
    assert!(stdout(&differs).contains(&doctored), "{}", stdout(&differs));
}

/// Builds the program once more without any optimisation, which takes minutes: it does so only
/// with `DRYDOCK_SLOW=1` in the environment and returns at once, having said so, without it.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the environment decides whether to build, no more"
)]
fn an_unoptimised_build_gives_the_same_run_slow() {
    if std::env::var("DRYDOCK_SLOW").as_deref() != Ok("1") {
        println!("not run: set DRYDOCK_SLOW=1 to build and compare with opt-level 0");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let run = std::process::Command::new(env!("CARGO"))
        .args([
            "run",
            "--quiet",
            "--profile",
            "unoptimised",
            "-p",
            "drydock",
        ])
        .args([
            "--config",
            "target.'cfg(all())'.rustflags=['--cfg','madsim']",
            "--target-dir",
        ])
        .arg(folder.path())
        .args(["--", "run", "--json", "-", "--seed=9"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    let here = record(&["--seed=9"]).certificate.event_log_hash.to_string();
    assert_eq!(hash_of(&stdout(&run)), here);
}
