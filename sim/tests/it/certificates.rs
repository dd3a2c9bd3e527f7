//! The same seed gives the same bytes from one release to the next, or the changelog says why not.
//! What the events of a run mean is for others to test.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use drydock::certificates::{CHANGELOG, LIST, certify, stored};
use drydock::host::cores;
use drydock_traces::corpus::certificates::Certificates;
use drydock_traces::corpus::changelog::untold;

use crate::program::{program, stderr, stdout};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn list() -> Certificates {
    let text = std::fs::read_to_string(root().join(LIST)).unwrap();
    Certificates::from_toml(&text).unwrap()
}

#[test]
fn every_stored_run_has_the_certificate_that_is_committed() {
    let runs = stored(root()).unwrap();
    let names: BTreeSet<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    assert_eq!(names.len(), runs.len(), "no two runs share a name");
    let now = certify(&runs, cores(), &std::sync::Arc::default(), |_| ()).unwrap();
    let changes: Vec<String> = (list().changes(&now).iter())
        .map(ToString::to_string)
        .collect();
    assert!(
        changes.is_empty(),
        "{} of {} certificates changed:\n{}\nif they are meant: cargo sim certify --write --commit \
         SUBJECT --why REASON",
        changes.len(),
        runs.len(),
        changes.join("\n")
    );
}

#[test]
fn the_list_is_as_the_command_writes_it_and_its_changelog_tells_all_of_it() {
    let text = std::fs::read_to_string(root().join(LIST)).unwrap();
    assert_eq!(text, list().to_toml(), "sorted, one line per run");
    let page = std::fs::read_to_string(root().join(CHANGELOG)).unwrap();
    assert_eq!(untold(&page, &list()), [""; 0], "{CHANGELOG}");
}

/// A folder that holds what `certify` reads, as it is committed.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["certificates", "mixed", "regressions"] {
        let part = format!("traces/corpus/{part}");
        std::fs::create_dir_all(folder.path().join(&part)).unwrap();
        for entry in std::fs::read_dir(root().join(&part)).unwrap() {
            let from = entry.unwrap().path();
            let to = folder.path().join(&part).join(from.file_name().unwrap());
            std::fs::copy(from, to).unwrap();
        }
    }
    folder
}

fn certify_in(folder: &Path, arguments: &[&str]) -> Output {
    let arguments = [&["certify"][..], arguments].concat();
    program(&arguments).current_dir(folder).output().unwrap()
}

#[test]
fn a_doctored_certificate_is_named_with_both_values_and_mended_with_a_reason() {
    let folder = copy();
    let (name, other) = ("storm-berth-03", "storm-berth-04");
    let file = folder.path().join(LIST);
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    let hash = list().runs[name].event_log_hash.to_string();
    let wrong = "0123456789abcdef0123456789abcdef";
    let doctored = text.replace(line, &line.replace(&hash, wrong));
    let lost: Vec<&str> = (doctored.lines())
        .filter(|line| !line.starts_with(other))
        .collect();
    std::fs::write(&file, lost.join("\n")).unwrap();

    let checked = certify_in(folder.path(), &["storm-berth-03", "storm-berth-04"]);
    let said = stdout(&checked);
    assert_eq!(checked.status.code(), Some(4), "{said}{}", stderr(&checked));
    let changed = format!("CHANGED {name}: from ");
    let told = said.lines().find(|line| line.starts_with(&changed));
    let told = told.unwrap_or_else(|| panic!("{said}"));
    assert!(told.contains(wrong) && told.ends_with(&hash), "{told}");
    assert!(said.contains(line), "the line to commit: {said}");
    assert!(said.contains(&format!("NEW {other}: ")), "{said}");
    assert!(said.contains("UNTOLD storm-berth-03: "), "{said}");

    let bare = certify_in(folder.path(), &["--write", "storm-berth-03"]);
    assert_eq!(bare.status.code(), Some(1), "a reason is owed");
    assert!(stderr(&bare).contains("--why"), "{}", stderr(&bare));

    let arguments = [
        "--write",
        "--commit",
        "sim: a test",
        "--why",
        "It was doctored.",
    ];
    let arguments = [&arguments[..], &["storm-berth-0"]].concat();
    let written = certify_in(folder.path(), &arguments);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    let page = std::fs::read_to_string(folder.path().join(CHANGELOG)).unwrap();
    let entry = page.split("\n## ").nth(1).unwrap();
    assert!(
        entry.starts_with("sim: a test\n\nIt was doctored.\n"),
        "{entry}"
    );
    assert!(entry.contains(&format!("| `{name}` | ")), "{entry}");
}

#[test]
fn the_command_of_a_stored_run_shows_its_certificate() {
    let list = list();
    for name in ["storm-berth-03", "regression-journal-old-copy"] {
        let run = &list.runs[name];
        let words: Vec<&str> = run.command.split_whitespace().skip(2).collect();
        let output = program(&words).current_dir(root()).output().unwrap();
        let said = stdout(&output);
        let certificate = format!("{} over {} events", run.event_log_hash, run.event_count);
        assert!(said.contains(&certificate), "{name}: {said}");
    }
}
