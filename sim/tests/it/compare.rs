//! Comparison, attribution, ablation, sensitivity, fitting and re-creation, as a person calls them.
//! Small: the free answer and Berth, one seed; the published cells are the peers' business.

use drydock_reports::compare::Expectation;
use drydock_reports::gap::{Band, Gap};
use drydock_traces::run_record::{RunRecord, Stage, Which};
use serde_json::Value;

use crate::program::{output, record, stderr, stdout};

#[test]
fn the_segments_of_every_pod_add_up_to_its_time_to_running() {
    for arguments in [
        ["--allocator=berth", "--addresses=equal"],
        ["--allocator=instant", "--set=kubelet.pull_always=true"],
    ] {
        let record = record(&arguments);
        let running: u64 = record.pods.iter().filter_map(|pod| pod.running_ns).sum();
        let attribution = &record.attribution;
        assert_eq!(attribution.total_ns.values().sum::<u64>(), running);
        assert_eq!(attribution.pod_count, 1000);
        // The record's own check covers median and last, segment by segment.
        record.check().unwrap();
        let ways: Vec<Which> = attribution.paths.iter().map(|path| path.which).collect();
        assert_eq!(ways, [Which::Median, Which::Last]);
        let pulls = attribution.total_ns.contains_key(&Stage::ImagePull);
        assert_eq!(pulls, arguments[0] == "--allocator=instant");
    }
}

#[test]
fn a_start_is_explained_by_name_and_a_wrong_name_is_refused() {
    let run = output(&["run", "--allocator=instant", "--json", "-"]);
    let record = RunRecord::from_json(&stdout(&run)).unwrap();
    let pod = &record.pods[500];
    let explained = output(&[
        "run",
        "--allocator=instant",
        "--quiet",
        "--explain",
        &pod.name,
    ]);
    let text = stdout(&explained);
    for part in [
        &*pod.name,
        "scheduling",
        "status: API",
        "until Running",
        "node/master1/cpu",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let wrong = output(&["run", "--allocator=instant", "--explain", "nobody"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("allowed: median, last, or a name"));
}

#[test]
fn all_pods_are_deleted_once_they_run_and_their_replacements_run() {
    let run = output(&["run", "--addresses=equal", "--recreate", "--json", "-"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    let again = RunRecord::from_json(&stdout(&run)).unwrap();
    let half = again.recreation.as_ref().unwrap();
    assert_eq!(half.running_curve_ns.len(), 1000);
    assert!(half.all_running_s.unwrap().ns > 1_000_000_000);
    let plain = record(&["--addresses=equal"]);
    assert_eq!(plain.recreation, None);
    // What comes after the last Running changes nothing of what came before.
    assert_eq!(again.running_curve_ns, plain.running_curve_ns);
    assert_eq!(again.pods, plain.pods);
    assert_eq!(again.api.per_pod, plain.api.per_pod);
}

#[test]
fn a_comparison_writes_every_form_and_names_drift() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (json, html, expectation) = (path("a.json"), path("a.html"), path("e.json"));
    let base = [
        "compare",
        "--seeds=1",
        "--profile=measured",
        "--allocator=instant",
        "--allocator=berth",
        "--jobs=2",
    ];
    let written = [
        "--json",
        &json,
        "--html",
        &html,
        "--svg",
        &path("svg"),
        "--markdown",
        &path("a.md"),
        "--write-expectation",
        &expectation,
    ];
    let ran = output(&[&base[..], &written[..]].concat());
    assert_eq!(ran.status.code(), Some(0), "{}", stderr(&ran));
    assert!(stdout(&ran).contains("8 of 8 runs"), "{}", stdout(&ran));
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let numbers: Value = serde_json::from_str(&read(&json)).unwrap();
    assert_eq!(numbers["profiles"][0]["cells"].as_array().unwrap().len(), 8);
    assert!(read(&html).contains("<svg") && read(&path("a.md")).contains("| berth |"));
    assert!(std::path::Path::new(&path("svg/measured-berth.svg")).exists());
    let expect = ["--expect", &expectation];
    let same = output(&[&base[..], &expect[..]].concat());
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    let mut changed = Expectation::from_json(&read(&expectation)).unwrap();
    let cells = changed.profiles.get_mut("measured").unwrap();
    cells.get_mut("berth equal dual").unwrap().pods_running = 999;
    std::fs::write(&expectation, changed.to_json()).unwrap();
    let drifted = output(&[&base[..], &expect[..]].concat());
    assert_eq!(drifted.status.code(), Some(4));
    let says = stderr(&drifted);
    assert!(
        says.contains("DRIFT measured, berth equal dual") && says.contains("999"),
        "{says}"
    );
}

#[test]
fn a_fitted_number_gives_the_time_that_it_was_fitted_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml").display().to_string();
    let arguments = [
        "fit",
        "--profile=serial-pull",
        "--allocator=instant",
        "--target=120",
        "--seeds=1",
        "--out",
        &file,
    ];
    let fitted = output(&arguments);
    assert_eq!(fitted.status.code(), Some(0), "{}", stderr(&fitted));
    assert!(
        stdout(&fitted).contains("kubelet.image_pull = "),
        "{}",
        stdout(&fitted)
    );
    let parameters = format!("--parameters={file}");
    let again = record(&["--allocator=instant", "--addresses=ample", &parameters]);
    let took = again.outcome.all_running_s.unwrap().ns;
    assert!(took.abs_diff(120_000_000_000) < 1_000_000_000, "{took} ns");
    let nothing = output(&["fit", "--profile=measured"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(
        stderr(&nothing).contains("fits no number"),
        "{}",
        stderr(&nothing)
    );
}

#[test]
fn mechanisms_and_constants_are_ranked_by_what_they_change() {
    let ablated = output(&["ablate", "--allocator=instant", "--seeds=1", "--json", "-"]);
    assert_eq!(ablated.status.code(), Some(0), "{}", stderr(&ablated));
    let effects: Value = serde_json::from_str(&stdout(&ablated)).unwrap();
    let sizes: Vec<i64> = effects["effects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|effect| effect["low"]["by"].as_i64().unwrap().abs())
        .collect();
    assert!(
        sizes.len() > 10 && sizes.is_sorted_by(|one, other| one >= other),
        "{sizes:?}"
    );
    assert!(sizes[0] > 5_000_000_000, "some mechanism counts: {sizes:?}");
    let varied = output(&[
        "sensitivity",
        "--allocator=instant",
        "--seeds=1",
        "node.fdatasync",
    ]);
    let text = stdout(&varied);
    let line = text
        .lines()
        .find(|line| line.starts_with("node.fdatasync"))
        .unwrap();
    assert!(
        line.contains("2 ms, 0.5 to 60") && line.trim_end().ends_with(" s"),
        "{text}"
    );
    let wrong = output(&["ablate", "--allocator=instant", "--cell=ample"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(stderr(&wrong).contains("ample-dual"), "{}", stderr(&wrong));
}

#[test]
fn a_gap_is_closed_by_the_constant_that_makes_it_and_by_no_other() {
    // Cilium's published 215 s: dearer Pod starts reach it, whatever the profile.
    let searched = output(&[
        "gap",
        "--allocator=cilium",
        "--parameters=measured",
        "--seeds=1",
        "--json",
        "-",
        "node.",
    ]);
    assert_eq!(searched.status.code(), Some(0), "{}", stderr(&searched));
    let gap = Gap::from_json(&stdout(&searched)).unwrap();
    assert!(!gap.is_closed(), "{}", gap.plain());
    let lever = gap.levers.iter().find(|one| one.key == "node.cpu_per_pod");
    let [first, last] = lever.unwrap().closes.as_ref().unwrap();
    let band = Band::of(gap.published().unwrap()).unwrap();
    assert!(band.holds(first.time_ns) && band.holds(last.time_ns));
    assert!(!gap.levers.iter().any(|one| one.key == "node.boot"));
    // What was found is what a run with that override gives.
    let again = record(&[
        "--allocator=cilium",
        "--addresses=ample",
        "--stack=dual",
        &format!("--set=node.cpu_per_pod={}", first.value),
    ]);
    assert_eq!(again.outcome.all_running_s.map(|s| s.ns), first.time_ns);
    let counted = output(&["gap", "--allocator=calico", "--cell=900-dual"]);
    assert_eq!(counted.status.code(), Some(1));
    let nothing = output(&["gap", "--allocator=berth"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(
        stderr(&nothing).contains("nothing was published"),
        "{}",
        stderr(&nothing)
    );
}
