//! What a person meets at the prompt: mistakes are named with their place and with what is
//! allowed, what is not simulated is said, and an interrupt keeps what was done.

use std::path::Path;
use std::process::Stdio;

use drydock_traces::run_record::{EndReason, RunRecord};

use crate::program::{output, program, stderr, stdout};

const POD: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: x}]}\n";
const POOL: &str =
    "apiVersion: berth.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: p}\nspec:\n  families:\n";
const TEMPLATE: &str = "selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: \
                        {app: a}}\n    spec: {containers: [{name: c, image: x}]}\n";

/// A command line that is refused: exit code 1, every one of `says` on standard error, nothing on
/// standard output, no panic.
fn refused(arguments: &[&str], says: &[&str]) {
    let output = output(arguments);
    let (error, shown) = (stderr(&output), arguments.join(" "));
    assert_eq!(output.status.code(), Some(1), "{shown}: {error}");
    assert_eq!(stdout(&output), "", "{shown}");
    assert!(!error.contains("panicked"), "{shown}: {error}");
    for word in says {
        assert!(
            error.contains(word),
            "{shown}: `{word}` is not said:\n{error}"
        );
    }
}

fn manifest(folder: &Path, text: &str) -> String {
    let path = folder.join("given.yaml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_wrong_manifest_is_refused_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let masked =
        format!("{POOL}  - ranges: [\"10.0.0.1-10.0.0.1\"]\n    exclude: [\"10.0.0.1/32\"]\n{POD}");
    let backwards = format!("{POOL}  - ranges: [\"10.0.0.9-10.0.0.1\"]\n{POD}");
    let unreadable = format!("{POOL}  - ranges: [\"10.0.0.x\"]\n{POD}");
    let cases: [(&str, &[&str]); 5] = [
        ("kind: [\n", &["given.yaml:2:1", "malformed YAML"]),
        (
            "apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: a}\n",
            &[
                "given.yaml:2:7",
                "Deploymnet",
                "did you mean Deployment?",
                "StatefulSet",
            ],
        ),
        (&masked, &["given.yaml:5:", "`p`", "no usable address"]),
        (
            &backwards,
            &["given.yaml:6:", "10.0.0.9-10.0.0.1", "runs backwards"],
        ),
        (&unreadable, &["given.yaml:6:", "10.0.0.x"]),
    ];
    for (text, says) in cases {
        refused(&["run", &manifest(folder.path(), text)], says);
    }
}

#[test]
fn a_pool_in_a_file_excludes_addresses_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{POOL}  - ranges: [\"10.0.0.1-10.0.0.9\"]\n{POD}");
    let file = manifest(folder.path(), &text);
    refused(
        &["run", &file, "--addresses=5"],
        &["given.yaml:1", "--addresses"],
    );
    refused(
        &["run", &file, "--stack=ipv4"],
        &["given.yaml:1", "--stack"],
    );
    assert_eq!(
        output(&["run", &file]).status.code(),
        Some(0),
        "the same file without them"
    );
}

#[test]
fn a_wrong_argument_is_refused_with_what_is_allowed() {
    let cases: [(&[&str], &[&str]); 12] = [
        (
            &["run", "--set=kubelet.qsp=3"],
            &["kubelet.qsp", "did you mean `kubelet.qps`?"],
        ),
        (&["run", "--set=kubelet.qps"], &["kubelet.qps", "KEY=VALUE"]),
        (
            &["run", "--set=kubelet.qps=fast"],
            &["kubelet.qps", "fast", "a rate > 0 in 1/s"],
        ),
        (
            &["run", "--set=kubelet.qps=-1"],
            &["kubelet.qps", "a rate > 0"],
        ),
        (
            &["run", "--seed=pony"],
            &["pony", "a decimal number", "0x", "40-digit commit"],
        ),
        (
            &["run", "no-such-file.yaml"],
            &["no-such-file.yaml", "No such file"],
        ),
        (
            &["run", "--parameters=mesured"],
            &["mesured", "measured, event-model-check, real-node"],
        ),
        (
            &["run", "--workload=bench"],
            &["bench", "benchmark, burst and real-node"],
        ),
        (
            &["run", "--addresses=none"],
            &["none", "equal", "ample", "1000000"],
        ),
        (&["run", "--nodes=0"], &["--nodes", "1..=1000"]),
        (
            &["hunt", "--mutant=zz", "--seeds=1"],
            &["zz", "free-at-del", "node-name-identity"],
        ),
        (&["hunt", "--seeds=5..5"], &["5..5", "B is excluded"]),
    ];
    for (arguments, says) in cases {
        refused(arguments, says);
    }
}

#[test]
fn every_command_explains_itself() {
    let commands = [
        "run",
        "verify",
        "hunt",
        "replay",
        "params",
        "bench",
        "compare",
        "fit",
        "ablate",
        "sensitivity",
        "gap",
        "certify",
        "readme",
    ];
    let all = output(&["--help"]);
    assert_eq!(all.status.code(), Some(0));
    for command in commands {
        assert!(
            stdout(&all).contains(&format!("\n  {command} ")),
            "{command} is not listed"
        );
        let help = output(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0), "{command}");
        assert!(
            stdout(&help).contains(&format!("Usage: cargo sim {command}")),
            "{command}"
        );
        assert_eq!(stderr(&help), "", "{command}");
    }
}

#[test]
fn every_parameter_has_a_unit_a_kind_and_a_source() {
    let listed = output(&["params"]);
    assert_eq!(listed.status.code(), Some(0));
    let text = stdout(&listed);
    assert!(text.lines().count() > 100, "{text}");
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let kinds = ["cited", "measured", "inferred", "fitted"];
        let kind = words.iter().position(|word| kinds.contains(word));
        // Name, value and unit stand before the kind, the source behind it.
        assert!(
            kind.is_some_and(|kind| kind >= 3 && kind + 1 < words.len()),
            "{line}"
        );
    }
}

#[test]
fn every_simulated_kind_runs_and_a_service_is_listed_as_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let job = "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: job}\nspec:\n  completions: \
               2\n  parallelism: 2\n  template:\n    metadata: {annotations: \
               {drydock.dev/run-seconds: \"600\"}}\n    spec: {restartPolicy: Never, containers: [{name: c, image: \
               x}]}\n";
    let text = format!(
        "{POD}{job}---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: set}}\nspec:\n  \
         replicas: 2\n  {TEMPLATE}---\napiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: \
         rs}}\nspec:\n  replicas: 3\n  {TEMPLATE}---\napiVersion: v1\nkind: Service\nmetadata: \
         {{name: web}}\nspec: {{ports: [{{port: 80}}]}}\n"
    );
    let file = manifest(folder.path(), &text);
    let ran = output(&["run", &file, "--json", "-"]);
    assert_eq!(ran.status.code(), Some(0), "{}", stderr(&ran));
    let record = RunRecord::from_json(&stdout(&ran)).unwrap();
    assert_eq!(
        (record.outcome.pods_running, record.outcome.pods_total),
        (8, 8)
    );
    let kinds: Vec<&str> = record
        .scenario
        .workload
        .documents
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(kinds, ["Job", "Pod", "ReplicaSet", "StatefulSet"]);
    assert!(
        record
            .scenario
            .not_simulated
            .iter()
            .any(|entry| entry.kind == "Service")
    );
    assert!(
        stderr(&ran).contains("not simulated: Service"),
        "{}",
        stderr(&ran)
    );
}

/// The run is long because Pods wait forever: it would take minutes to reach its limit. The
/// program is asked to stop once its trace shows that it runs.
#[test]
fn an_interrupt_ends_the_run_with_130_and_keeps_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, trace) = (path("run.json"), path("run.jsonl"));
    let slow = [
        "--nodes=100",
        "--workload=benchmark",
        "--set=api.fixed_latency=true",
    ];
    let stage = "--set=check.ipam_serial=2.5";
    let mut child = program(&["run", "--allocator=instant", "--until=864000", stage])
        .args(slow)
        .args([
            "--set=kubelet.run_timeout=864000",
            "--json",
            &json,
            "--trace",
            &trace,
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let runs = (0..200_000_000_u64).any(|_| {
        std::thread::yield_now();
        std::fs::metadata(&trace).is_ok_and(|file| file.len() > 0)
    });
    assert!(runs, "the run never wrote an event");
    let sent = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let record = RunRecord::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(record.outcome.reason, EndReason::Interrupted);
    assert!(record.outcome.pods_running < record.outcome.pods_total);
}
