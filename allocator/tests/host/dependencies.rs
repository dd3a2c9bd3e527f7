//! What the plugin is built of.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn the_plugin_has_no_async_runtime_no_http_and_no_kubernetes_client() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "berth",
            "-e",
            "normal",
            "--prefix",
            "none",
        ])
        .args([
            "--no-default-features",
            "--features",
            "plugin",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<&str> = tree.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(
        crates.contains(&"rustix") && crates.contains(&"serde_json"),
        "{tree}"
    );
    for banned in [
        "tokio",
        "mio",
        "async-std",
        "smol",
        "futures-executor",
        "hyper",
        "http",
        "h2",
        "tonic",
        "reqwest",
        "rustls",
        "kube",
        "kube-client",
        "k8s-openapi",
        "clap",
        "schemars",
    ] {
        assert!(!crates.contains(&banned), "{banned} in\n{tree}");
    }
}

fn root_text(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(name)).unwrap()
}

/// The texts in quotes between two marks of a file of lists.
fn quoted<'t>(text: &'t str, from: &str, to: &str) -> Vec<&'t str> {
    let (_, rest) = text.split_once(from).unwrap();
    let (list, _) = rest.split_once(to).unwrap();
    list.split('"').skip(1).step_by(2).collect()
}

/// One package of the lock file: name, version, source, checksum, names of what it needs.
struct Locked<'t> {
    name: &'t str,
    version: &'t str,
    source: Option<&'t str>,
    has_checksum: bool,
    needs: Vec<&'t str>,
}

fn field<'t>(package: &'t str, key: &str) -> Option<&'t str> {
    let line = package.lines().find(|line| line.starts_with(key))?;
    let value = line.strip_prefix(key)?.strip_prefix(" = ")?;
    Some(value.trim_matches('"'))
}

fn locked(text: &str) -> Vec<Locked<'_>> {
    text.split("[[package]]")
        .skip(1)
        .map(|package| Locked {
            name: field(package, "name").unwrap(),
            version: field(package, "version").unwrap(),
            source: field(package, "source"),
            has_checksum: field(package, "checksum").is_some(),
            needs: package
                .split_once("dependencies = [")
                .into_iter()
                .flat_map(|(_, list)| list.split('"').skip(1).step_by(2))
                .filter_map(|need| need.split(' ').next())
                .collect(),
        })
        .collect()
}

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `cargo deny` looks at in the pipeline, as far as it can be told without the network.
#[test]
fn every_dependency_is_of_the_registry_with_a_checksum_and_none_is_banned() {
    let (deny, lock) = (root_text("deny.toml"), root_text("Cargo.lock"));
    assert!(
        deny.contains("unknown-registry = \"deny\"") && deny.contains("unknown-git = \"deny\"")
    );
    let packages = locked(&lock);
    assert!(packages.len() > 100, "{}", packages.len());
    let own = ["berth", "drydock"];
    for package in &packages {
        let ours = own.iter().any(|own| package.name.starts_with(own));
        let sound = package.source == Some(REGISTRY) && package.has_checksum;
        assert!(
            if ours {
                package.source.is_none()
            } else {
                sound
            },
            "{}",
            package.name
        );
    }
    let wrappers = quoted(&deny, "\"fastrand\", wrappers = [", "]");
    let bans = deny.matches("{ crate = ").count();
    assert_eq!(bans, 3, "a ban that this test does not know");
    for package in &packages {
        assert_ne!(package.name, "openssl-sys");
        let old = package.version.starts_with("0.") && !package.version.starts_with("0.8.");
        assert!(package.name != "ahash" || !old, "ahash {}", package.version);
        let draws = package.needs.contains(&"fastrand");
        assert!(
            !draws || wrappers.contains(&package.name),
            "{}",
            package.name
        );
    }
}

#[test]
fn every_licence_of_the_programs_is_one_of_the_list() {
    let allow: BTreeSet<String> = {
        let deny = root_text("deny.toml");
        let list = quoted(&deny, "[licenses]\nallow = [", "]");
        list.into_iter().map(str::to_owned).collect()
    };
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            "berth",
            "-e",
            "normal,build",
        ])
        .args([
            "--prefix",
            "none",
            "--features",
            "agent",
            "--format",
            "{p}|{l}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8(output.stdout).unwrap();
    let mut count = 0;
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|').unwrap();
        let licence = licence.replace(['(', ')'], "").replace('/', " OR ");
        // Of one with AND every part counts, of one with OR the best.
        let is_allowed = licence.split(" OR ").any(|choice| {
            let mut parts = choice.split(" AND ").map(str::trim);
            parts.all(|part| allow.contains(part))
        });
        assert!(is_allowed, "{package}: {licence:?}");
        count += 1;
    }
    assert!(count > 50, "{tree}");
}

#[test]
fn no_program_of_the_workspace_may_have_unsafe_code() {
    let workspace = root_text("Cargo.toml");
    assert!(workspace.contains("[workspace.lints.rust]\nunsafe_code = \"forbid\""));
    for member in quoted(&workspace, "members = [", "]") {
        let manifest = root_text(&format!("{member}/Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member}");
    }
}
