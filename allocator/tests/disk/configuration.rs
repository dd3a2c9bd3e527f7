//! What a wrong call prints, exits with and leaves: one document, 1, and nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::rig::{BERTH, Rig, execute};

fn good(rig: &Rig) -> Value {
    rig.config("1.1.0", &json!([[{"subnet": "10.7.0.0/24"}]]))
}

#[test]
fn a_bad_configuration_names_its_key_and_what_is_allowed_and_takes_nothing() {
    let cases: [(&str, Value, u64, &[&str]); 16] = [
        (
            "/cniVersion",
            json!("2.0.0"),
            1,
            &["cniVersion", "0.1.0", "1.1.0"],
        ),
        ("/cniVersion", json!(7), 1, &["cniVersion", "1.1.0"]),
        ("/name", json!(""), 7, &["\"name\"", "letters"]),
        ("/name", json!("../x"), 7, &["\"name\"", "letters"]),
        ("/ipam", json!([]), 7, &["\"ipam\"", "object"]),
        (
            "/ipam/store",
            json!("etcd"),
            7,
            &["ipam.store", "agent", "disk"],
        ),
        (
            "/ipam/store",
            json!({"type": "x"}),
            7,
            &["ipam.store", "agent", "disk"],
        ),
        (
            "/ipam/store",
            json!({"kind": "disk"}),
            2,
            &["ipam.store.kind", "type"],
        ),
        ("/ipam/ranges", json!([]), 7, &["ipam.ranges", "subnet"]),
        (
            "/ipam/ranges",
            json!([[{"subnet": "x"}]]),
            7,
            &["ipam.ranges.subnet", "prefix"],
        ),
        (
            "/ipam/ranges/0/0/exclude",
            json!([]),
            2,
            &["ipam.ranges.exclude", "rangeStart"],
        ),
        ("/ipam/pools", json!(["a"]), 2, &["ipam.pools", "dataDir"]),
        (
            "/ipam/dataDir",
            json!("data"),
            7,
            &["ipam.dataDir", "absolute"],
        ),
        (
            "/ipam/timeoutMilliseconds",
            json!(0),
            7,
            &["timeoutMilliseconds", "90000"],
        ),
        (
            "/args",
            json!({"cni": {"ips": "10.7.0.2"}}),
            7,
            &["args.cni.ips", "list"],
        ),
        (
            "/runtimeConfig",
            json!({"ips": ["x"]}),
            7,
            &["runtimeConfig.ips", "addresses"],
        ),
    ];
    let rig = Rig::new();
    for (at, value, code, parts) in cases {
        let mut config = good(&rig);
        let (parent, key) = at.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        let run = rig.berth("ADD", "c1", &config);
        assert_eq!(
            (run.code, run.error_code()),
            (Some(1), Some(code)),
            "{at} {run:?}"
        );
        let message = run.document()["msg"].as_str().unwrap().to_owned();
        for part in parts {
            assert!(message.contains(part), "{at}: {part} in {message}");
        }
        assert!(!rig.path("data").exists(), "{at} left something");
    }
    assert_eq!(rig.berth("ADD", "c1", &good(&rig)).code, Some(0));
}

fn tree(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn no_container_interface_or_network_leads_out_of_the_directory() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.path("data")).unwrap();
    let before = tree(&rig.path(""));
    let hostile = [
        "..",
        ".",
        "../x",
        "../../x",
        "/etc/x",
        "a/../../x",
        "a/b",
        "./x",
        "x\n",
        "%2e%2e",
        "",
        "..%2fx",
        "x\\..\\y",
    ];
    for text in hostile {
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let mut with_name = good(&rig);
            with_name["name"] = json!(text);
            with_name["prevResult"] = json!({"ips": []});
            with_name["cni.dev/valid-attachments"] = json!([]);
            let mut with_interface = rig.command(BERTH, verb, "c1");
            with_interface.env("CNI_IFNAME", text);
            let mut bad_network = with_name.clone();
            bad_network["name"] = json!("net");
            let network = bad_network.to_string();
            let runs = [
                rig.berth(verb, text, &with_name),
                rig.berth(verb, "c1", &with_name),
                execute(with_interface, &network),
            ];
            for run in &runs[..2] {
                let harmless = verb == "DEL" && run.stdout.is_empty();
                assert!(harmless || run.code == Some(1), "{verb} {text:?}: {run:?}");
            }
            if text.contains('/') || text.is_empty() || text == ".." || text == "." {
                let needs_one = matches!(verb, "ADD" | "DEL" | "CHECK");
                assert!(!needs_one || runs[2].code == Some(1), "{verb} {text:?}");
            }
        }
    }
    let allowed = rig.path("data/net");
    let new: Vec<PathBuf> = tree(&rig.path(""))
        .difference(&before)
        .filter(|path| !path.starts_with(&allowed))
        .cloned()
        .collect();
    assert!(new.is_empty(), "{new:?}");
}

#[test]
fn check_gc_and_status_work_without_an_agent() {
    let rig = Rig::new();
    let mut config = good(&rig);
    assert_eq!(rig.berth("STATUS", "c1", &config).code, Some(0));
    let added = rig.berth("ADD", "c1", &config);
    config["prevResult"] = added.document();
    let check = rig.berth("CHECK", "c1", &config);
    assert_eq!((check.code, check.stdout.as_str()), (Some(0), ""));
    assert_eq!(rig.berth("CHECK", "c2", &config).error_code(), Some(103));
    assert_eq!(
        rig.berth("GC", "", &config).error_code(),
        Some(7),
        "no list"
    );
    config["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(rig.berth("GC", "", &config).code, Some(0));
    assert_eq!(rig.berth("CHECK", "c1", &config).code, Some(0), "it lives");
    std::fs::remove_file(rig.path("ns/alive")).unwrap();
    assert_eq!(rig.berth("GC", "", &config).code, Some(0));
    assert_eq!(rig.berth("CHECK", "c1", &config).error_code(), Some(103));
}
