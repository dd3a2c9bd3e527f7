//! Tests of the stored files against their generator and their README.

use super::*;
use crate::workload::Controller;

#[test]
fn stored_manifests_are_what_the_generator_writes() {
    let stored: Vec<_> = manifests()
        .iter()
        .map(|file| (file.path, file.text.to_owned()))
        .collect();
    assert!(
        stored == generate::files(),
        "run: cargo run -p drydock-traces --example generate-corpus"
    );
}

#[test]
fn stored_workloads_ask_for_what_their_readme_says() {
    for (file, kind, documents, pods) in [
        (BENCHMARK, "Deployment", 100, 1000),
        (BURST, "Pod", 1000, 1000),
        (REAL_NODE, "Deployment", 10, 100),
    ] {
        let workload = file.workload().unwrap();
        assert_eq!(
            workload.documents().get(kind),
            Some(&documents),
            "{}",
            file.path
        );
        assert_eq!(workload.pod_count(), pods, "{}", file.path);
        assert_eq!(workload.not_simulated, [], "{}", file.path);
    }
}

#[test]
fn the_burst_puts_a_hundred_pods_on_each_node_of_the_benchmark() {
    let workload = BURST.workload().unwrap();
    for node in generate::benchmark_node_names(10) {
        let here = |object: &&crate::workload::WorkloadObject| {
            object.controller == Controller::Pod
                && object.template.node_name.as_deref() == Some(node.as_str())
        };
        assert_eq!(workload.objects.iter().filter(here).count(), 100, "{node}");
    }
}

#[test]
fn stored_pools_have_a_thousand_usable_ordinals() {
    for (stack, file) in POOLS {
        let workload = file.workload().unwrap();
        let [pool] = &workload.pools[..] else {
            panic!("{}", file.path)
        };
        assert_eq!(pool.stack(), Some(stack));
        assert_eq!(pool.usable_ordinal_count(u64::MAX), 1000);
        assert_eq!(super::pool(stack), file);
    }
}

#[test]
fn the_measured_curve_reaches_all_pods() {
    let curve = real_node_curve().unwrap();
    let last = curve.points.last().unwrap();
    assert_eq!(
        (curve.points.len(), last.running, last.at_ms),
        (9, 100, 61_600)
    );
}

#[test]
fn a_curve_that_does_not_ascend_is_refused() {
    let wrong = REAL_NODE_CURVE.replace("running = 26", "running = 14");
    let error = MeasuredCurve::from_toml(&wrong).unwrap_err().to_string();
    assert_eq!(error, "point 3: both fields ascend");
    let wrong = REAL_NODE_CURVE.replace("running = 100", "running = 101");
    assert!(
        MeasuredCurve::from_toml(&wrong)
            .unwrap_err()
            .to_string()
            .contains("pod-count")
    );
}

/// Every file below `traces/corpus/`, but its README. Shape: paths from there, sorted.
fn stored_paths() -> Vec<String> {
    fn walk(folder: &std::path::Path, below: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{below}{name}/"), found);
            } else {
                found.push(format!("{below}{name}"));
            }
        }
    }
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found = Vec::new();
    walk(&corpus, "", &mut found);
    found.retain(|path| path != "README.md");
    found.sort_unstable();
    found
}

#[test]
fn the_readme_of_the_corpus_has_a_line_for_each_file() {
    let readme = include_str!("../../corpus/README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut told: Vec<_> = rows.filter_map(|row| row.split_once("` |")).collect();
    told.sort_unstable();
    let told: Vec<_> = told.into_iter().map(|(path, _)| path).collect();
    assert_eq!(told, stored_paths());
}
