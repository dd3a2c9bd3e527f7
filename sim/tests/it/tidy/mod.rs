//! The layout and the imports: what may depend on what, and what may be named where. It reads the
//! sources and `cargo metadata`, and runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

mod house;
mod modules;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// All Rust sources of a folder, as (path from the root, text), sorted.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = root();
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).unwrap().display().to_string();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn crates_depend_only_along_the_allowed_edges() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("berth", &[][..]),
        ("drydock-traces", &[]),
        ("drydock-engine", &["drydock-traces"]),
        ("drydock-models", &["drydock-engine", "drydock-traces"]),
        ("drydock-reports", &["drydock-traces"]),
        (
            "drydock",
            &[
                "berth",
                "drydock-engine",
                "drydock-models",
                "drydock-reports",
                "drydock-traces",
            ],
        ),
    ]);
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        allowed.keys().copied().collect(),
        "the packages of the workspace"
    );
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if names.contains(on) {
                assert!(
                    allowed[name].contains(&on),
                    "{name} must not depend on {on}"
                );
            }
            if on == "madsim" {
                assert_eq!(name, "drydock-engine", "{name} must not name madsim");
            }
        }
    }
}

#[test]
fn the_top_level_holds_only_what_belongs_there() {
    let allowed = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "allocator",
        "deny.toml",
        "models",
        "reports",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "sim",
        "target",
        "traces",
    ];
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || allowed.contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn every_file_says_in_its_first_line_what_it_is() {
    for folder in ["allocator", "models", "reports", "sim", "traces"] {
        for (name, text) in sources(folder) {
            assert!(
                text.starts_with("//! "),
                "{name}: the first line must be `//! …`"
            );
        }
    }
}

/// Files over the limit, with their size: the list may only shrink.
const OFFENDERS: [(&str, usize); 0] = [];

#[test]
fn no_file_outgrows_its_idea() {
    for folder in ["allocator", "models", "reports", "sim", "traces"] {
        for (name, text) in sources(folder) {
            if name.contains("tests") {
                continue;
            }
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = code.lines().count();
            let offender = OFFENDERS.iter().find(|(of, _)| *of == name);
            let most = offender.map_or(800, |(_, most)| *most);
            assert!(
                lines <= most,
                "{name}: {lines} lines without tests, at most {most}"
            );
        }
    }
}

#[test]
fn the_core_of_the_allocator_names_no_operating_system() {
    let banned = [
        "tokio",
        "rand::",
        "std::fs",
        "std::env",
        "std::process",
        "std::net",
        "std::thread",
        "std::time",
        "Instant",
        "SystemTime",
        "HashMap",
        "HashSet",
        "async ",
        ".await",
        "println!",
        "tracing::",
    ];
    for (name, text) in sources("allocator/src/core") {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for word in banned {
                let is_there = code.match_indices(word).any(|(at, _)| {
                    let next = code[at + word.len()..].chars().next();
                    !word.ends_with(char::is_alphabetic)
                        || next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
                });
                assert!(!is_there, "{name}:{}: `{word}`: {line}", number + 1);
            }
        }
    }
}

#[test]
fn models_and_allocator_meet_only_in_the_adapters() {
    for (name, text) in sources("models") {
        assert!(!text.contains("berth::"), "{name} names the allocator");
    }
    for (name, text) in sources("allocator") {
        assert!(!text.contains("drydock_"), "{name} names the testbed");
    }
    for (name, text) in sources("sim/src") {
        let meets = text.contains("berth::") && text.contains("drydock_models::");
        assert!(
            !meets || name.starts_with("sim/src/adapters/"),
            "{name} joins both sides"
        );
    }
}

#[test]
fn what_clippy_cannot_see_is_not_there() {
    for folder in [
        "allocator/src/core",
        "allocator/src/shell",
        "models/src",
        "sim/src",
        "sim/engine/src",
    ] {
        for (name, text) in sources(folder) {
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap();
                let at = format!("{name}:{}: {line}", number + 1);
                assert!(
                    !code.contains("{:p}"),
                    "an address in a text differs per process: {at}"
                );
                assert!(
                    !code.contains("swap_remove("),
                    "swap_remove loses the order: {at}"
                );
                if code.contains("select!") && !code.contains("biased") {
                    let rest: String = text
                        .lines()
                        .skip(number)
                        .take(2)
                        .collect::<Vec<_>>()
                        .join(" ");
                    assert!(
                        rest.contains("biased"),
                        "select! draws from its own stream: {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn module_names_are_nouns_with_a_meaning() {
    let refused = ["utils", "helpers", "common", "types", "misc", "core_utils"];
    for folder in ["allocator", "models", "reports", "sim", "traces"] {
        for (name, _) in sources(folder) {
            let stem = Path::new(&name)
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            assert!(!refused.contains(&stem.as_str()), "{name}");
        }
    }
}

#[test]
fn a_module_with_children_is_a_folder() {
    let files = sources("models");
    for (name, _) in &files {
        let folder = format!("{}/", name.trim_end_matches(".rs"));
        assert!(
            !files.iter().any(|(other, _)| other.starts_with(&folder)),
            "{name} stands beside its folder: it is {folder}mod.rs"
        );
    }
}
