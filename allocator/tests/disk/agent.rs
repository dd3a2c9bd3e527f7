//! A node that has an agent: its network configurations may be tenants', and the plugin runs as
//! root. What the administrator's list names is served, and nothing else is touched, read or told.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

use crate::namespaces::has;
use crate::rig::{BERTH, Rig, Run, execute};

impl Rig {
    /// A call on a node whose runtime names an agent, which does not answer, with this list.
    fn with_agent(&self, verb: &str, container: &str, config: &Value) -> Run {
        let mut command = self.command(BERTH, verb, container);
        command
            .env("BERTH_SOCKET", self.path("no.sock"))
            .env("BERTH_SPOOL", self.path("spool"))
            .env("BERTH_DISK_NETWORKS", self.path("list.json"));
        execute(command, &config.to_string())
    }

    fn list(&self, networks: &Value) {
        let list = json!({"dataDir": self.text("data"), "networks": networks});
        fs::write(self.path("list.json"), list.to_string()).unwrap();
    }

    /// Every file below: its kind, length and content, without links being followed.
    fn everything(&self) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.path("")];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                if metadata.is_dir() {
                    open.push(path.clone());
                }
                let content = if metadata.is_file() {
                    fs::read(&path).unwrap()
                } else {
                    Vec::new()
                };
                found.insert(path, (metadata.mode(), metadata.len(), content));
            }
        }
        found
    }
}

fn special(path: &Path, kind: FileType) {
    let device = makedev(1, 5);
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o644), device).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What lies about on a host, some of it made by tenants in volumes of theirs.
fn host() -> Rig {
    let rig = Rig::new();
    for name in ["etc", "tenant", "rootonly"] {
        fs::create_dir(rig.path(name)).unwrap();
    }
    let secret = "search the-hosts-secret.internal\noptions token=abc\nnameserver 192.0.2.66\n";
    fs::write(rig.path("rootonly/secret.conf"), secret).unwrap();
    mode(&rig.path("rootonly/secret.conf"), 0o600);
    fs::write(rig.path("open.conf"), secret).unwrap();
    mode(&rig.path("open.conf"), 0o644);
    symlink(rig.path("rootonly"), rig.path("tenant/link")).unwrap();
    symlink(rig.path("rootonly/secret.conf"), rig.path("tenant/conf")).unwrap();
    symlink(rig.path("open.conf"), rig.path("tenant/open")).unwrap();
    fs::hard_link(rig.path("rootonly/secret.conf"), rig.path("tenant/hard")).unwrap();
    special(&rig.path("tenant/fifo"), FileType::Fifo);
    let huge = fs::File::create(rig.path("tenant/huge")).unwrap();
    huge.set_len(1 << 20).unwrap();
    mode(&rig.path("tenant/huge"), 0o644);
    rig
}

/// The configuration of a tenant, with the ranges of the sample pools where none are given.
fn tenants(rig: &Rig, name: &str, ipam: &Value) -> Value {
    let mut whole = json!({"type": "berth", "dataDir": rig.text("data")});
    if !["subnet", "ranges", "store"]
        .iter()
        .any(|key| ipam.get(*key).is_some())
    {
        whole["subnet"] = json!("10.9.0.0/24");
    }
    for (key, value) in ipam.as_object().unwrap() {
        whole[key] = value.clone();
    }
    json!({"cniVersion": "1.1.0", "name": name, "type": "macvlan", "master": "eth0", "ipam": whole})
}

/// The attacks, by what they are after.
fn attacks(rig: &Rig) -> Vec<(&'static str, Value)> {
    let one = |first: &str, gateway: &str| {
        json!({"ranges": [[{"subnet": "10.21.0.0/24", "rangeStart": first, "rangeEnd": first,
            "gateway": gateway}]]})
    };
    let directory = |path: String| json!({"dataDir": path});
    let file = |path: String| json!({"resolvConf": path});
    let mut attacks: Vec<(&str, Value)> = [
        ("reserved", one("10.21.0.50", "10.21.0.1")),
        ("gateway", one("10.21.0.1", "10.21.0.254")),
        ("network address", one("10.21.0.0", "10.21.0.254")),
        ("whole pool", json!({"subnet": "10.21.0.0/24"})),
        (
            "whole-family",
            json!({"subnet": "fd21::/64", "store": "disk"}),
        ),
        ("cron.d", directory(rig.text("etc"))),
        ("through-a-link", directory(rig.text("tenant/link"))),
        ("root", directory("/".into())),
        ("process", directory("/proc/self/cwd".into())),
        ("descriptor", directory("/proc/self/fd/0".into())),
        ("fifo-as-directory", directory(rig.text("tenant/fifo"))),
        ("upwards", directory(rig.text("data/../etc"))),
        ("secret", file(rig.text("rootonly/secret.conf"))),
        ("by-link", file(rig.text("tenant/conf"))),
        ("hard-link", file(rig.text("tenant/hard"))),
        ("shadow", file("/etc/shadow".into())),
        ("own-input", file("/proc/self/fd/0".into())),
        ("environment", file("/proc/self/environ".into())),
        ("fifo", file(rig.text("tenant/fifo"))),
        ("huge", file(rig.text("tenant/huge"))),
        (
            "store-by-text",
            json!({"store": "disk", "subnet": "10.21.0.0/24"}),
        ),
        (
            "store-by-object",
            json!({"store": {"type": "disk"}, "subnet": "10.21.0.0/24"}),
        ),
    ]
    .into_iter()
    .map(|(name, ipam)| (name, tenants(rig, &name.replace(' ', "-"), &ipam)))
    .collect();
    let more = [
        ("name", json!("..")),
        ("name", json!("a/../../etc")),
        (
            "runtimeConfig",
            json!({"ipRanges": [[{"subnet": "10.21.0.0/24"}]]}),
        ),
        ("runtimeConfig", json!({"ips": ["10.9.0.50"]})),
        ("args", json!({"cni": {"ips": ["10.9.0.50"]}})),
    ];
    for (key, value) in more {
        let mut config = tenants(rig, "key", &json!({}));
        config[key] = value;
        attacks.push((key, config));
    }
    attacks
}

#[test]
fn what_no_list_names_is_refused_by_every_verb_and_nothing_is_touched_or_told() {
    if !has(&[]) {
        return;
    }
    let rig = host();
    let lists = [
        None,
        Some(json!({})),
        Some(json!({"other": {"ranges": [[{"subnet": "10.0.0.0/8"}]]}})),
    ];
    for list in &lists {
        if let Some(networks) = list {
            rig.list(networks);
        }
        let before = rig.everything();
        for (name, config) in attacks(&rig) {
            let network = config["name"].as_str().unwrap().to_owned();
            for verb in ["ADD", "STATUS", "CHECK", "GC", "DEL"] {
                let mut config = config.clone();
                config["prevResult"] = json!({"ips": []});
                config["cni.dev/valid-attachments"] = json!([]);
                let run = rig.with_agent(verb, "evil", &config);
                for told in ["the-hosts-secret", "token=", "192.0.2.66"] {
                    assert!(!run.stdout.contains(told), "{name}: {run:?}");
                }
                if verb == "DEL" {
                    assert_eq!((run.code, run.stdout.as_str()), (Some(0), ""), "{name}");
                    continue;
                }
                let code = run.error_code();
                let plain = !network.contains('.') || network == "cron.d";
                let status = verb == "STATUS" && code == Some(50);
                assert!(status || code == Some(7), "{verb} {name}: {run:?}");
                let message = run.document()["msg"].as_str().unwrap().to_owned();
                if plain && name != "upwards" {
                    for part in [&network, "list.json", "\"ranges\""] {
                        assert!(message.contains(part), "{part}: {message}");
                    }
                }
            }
        }
        assert_eq!(rig.everything(), before, "{list:?}");
    }
}

/// The network that the administrator allows.
fn allowed(rig: &Rig) -> Value {
    let files = [
        "open.conf",
        "rootonly/secret.conf",
        "tenant/conf",
        "tenant/open",
        "tenant/hard",
        "tenant/fifo",
        "tenant/huge",
        "tenant/link/secret.conf",
        "etc",
    ];
    json!({"net": {"ranges": range(), "resolvConf": files.map(|name| rig.text(name))}})
}

fn range() -> Value {
    json!([[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.10", "rangeEnd": "10.9.0.20"}]])
}

#[test]
fn a_listed_network_is_served_within_what_the_list_allows() {
    if !has(&[]) {
        return;
    }
    let rig = host();
    rig.list(&allowed(&rig));
    let open = rig.text("open.conf");
    let good = tenants(&rig, "net", &json!({"ranges": range(), "resolvConf": open}));
    let added = rig.with_agent("ADD", "c1", &good);
    assert_eq!(added.ips(), ["10.9.0.10"]);
    let dns = &added.document()["dns"];
    assert_eq!(
        dns["nameservers"],
        json!(["192.0.2.66"]),
        "this one is allowed"
    );
    assert_eq!(rig.with_agent("STATUS", "", &good).code, Some(0));
    let before = rig.everything();
    let one = |first: &str, last: &str, gateway: &str| {
        json!({"ranges": [[{"subnet": "10.9.0.0/24", "rangeStart": first, "rangeEnd": last,
            "gateway": gateway}]]})
    };
    let file = |path: &str| json!({"ranges": range(), "resolvConf": path});
    for (what, ipam) in [
        ("before the range", one("10.9.0.9", "10.9.0.20", "10.9.0.1")),
        (
            "behind the range",
            one("10.9.0.10", "10.9.0.21", "10.9.0.1"),
        ),
        (
            "another gateway",
            one("10.9.0.10", "10.9.0.20", "10.9.0.254"),
        ),
        ("another subnet", json!({"subnet": "10.9.0.0/16"})),
        (
            "a second range",
            json!({"ranges": range(), "subnet": "10.21.0.0/24"}),
        ),
        (
            "another directory",
            json!({"ranges": range(), "dataDir": rig.text("etc")}),
        ),
        (
            "below the directory",
            json!({"ranges": range(), "dataDir": rig.text("data/net")}),
        ),
        ("a file that is not allowed", file("/etc/resolv.conf")),
        ("a file of root", file(&rig.text("rootonly/secret.conf"))),
        ("a link to it", file(&rig.text("tenant/conf"))),
        ("a link to another", file(&rig.text("tenant/open"))),
        ("a hard link", file(&rig.text("tenant/hard"))),
        ("a FIFO", file(&rig.text("tenant/fifo"))),
        ("a huge file", file(&rig.text("tenant/huge"))),
        (
            "a path through a link",
            file(&rig.text("tenant/link/secret.conf")),
        ),
        ("a directory", file(&rig.text("etc"))),
    ] {
        let run = rig.with_agent("ADD", "c2", &tenants(&rig, "net", &ipam));
        assert_eq!(run.code, Some(1), "{what}: {run:?}");
        assert!(!run.stdout.contains("the-hosts-secret"), "{what}: {run:?}");
        assert_eq!(rig.everything(), before, "{what}");
    }
    assert_eq!(rig.with_agent("DEL", "c1", &good).code, Some(0));
    assert_eq!(rig.with_agent("ADD", "c2", &good).ips(), ["10.9.0.11"]);
}

#[test]
fn a_network_that_is_no_longer_listed_is_left_as_it_is_until_it_is_listed_again() {
    if !has(&[]) {
        return;
    }
    let rig = host();
    let mut config = tenants(&rig, "net", &json!({"ranges": range()}));
    config["cni.dev/valid-attachments"] = json!([]);
    rig.list(&allowed(&rig));
    let added = rig.with_agent("ADD", "c1", &config);
    assert_eq!(added.ips(), ["10.9.0.10"]);
    config["prevResult"] = added.document();
    let damaged = "{\"networks\": {\"net\": {\"ranges\": ";
    for list in [
        json!({"networks": {}}).to_string(),
        damaged.into(),
        String::new(),
    ] {
        fs::write(rig.path("list.json"), list).unwrap();
        let before = rig.everything();
        for (verb, code) in [("CHECK", 7), ("GC", 7), ("STATUS", 50), ("ADD", 7)] {
            let run = rig.with_agent(verb, "c1", &config);
            assert_eq!(run.error_code(), Some(code), "{verb}: {run:?}");
        }
        let del = rig.with_agent("DEL", "c1", &config);
        assert_eq!((del.code, del.stdout.as_str()), (Some(0), ""));
        assert_eq!(rig.everything(), before);
    }
    rig.list(&allowed(&rig));
    assert_eq!(rig.with_agent("CHECK", "c1", &config).code, Some(0), "held");
    assert_eq!(rig.with_agent("DEL", "c1", &config).code, Some(0));
    assert_eq!(
        rig.with_agent("CHECK", "c1", &config).error_code(),
        Some(103)
    );
}

#[test]
fn a_list_that_a_tenant_could_have_written_names_nothing() {
    if !has(&[]) {
        return;
    }
    let rig = host();
    let config = tenants(&rig, "net", &json!({"ranges": range()}));
    let list = rig.path("list.json");
    let refused = |what: &str| {
        let run = rig.with_agent("ADD", "c1", &config);
        assert_eq!(run.error_code(), Some(7), "{what}: {run:?}");
        assert!(run.stdout.contains("list.json"), "{what}: {run:?}");
        assert!(!rig.path("data").exists(), "{what}");
    };
    rig.list(&allowed(&rig));
    mode(&list, 0o666);
    refused("everybody writes it");
    mode(&list, 0o644);
    std::os::unix::fs::chown(&list, Some(1000), None).unwrap();
    refused("a user's");
    std::os::unix::fs::chown(&list, Some(0), None).unwrap();
    fs::rename(&list, rig.path("elsewhere")).unwrap();
    symlink(rig.path("elsewhere"), &list).unwrap();
    refused("a link");
    fs::remove_file(&list).unwrap();
    special(&list, FileType::Fifo);
    refused("a FIFO");
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    refused("a directory");
    fs::remove_dir(&list).unwrap();
    fs::rename(rig.path("elsewhere"), &list).unwrap();
    assert_eq!(rig.with_agent("ADD", "c1", &config).code, Some(0));
}

#[test]
fn a_host_without_an_agent_reads_no_fifo_device_or_closed_file_and_no_path_of_others() {
    if !has(&[]) {
        return;
    }
    let rig = host();
    let file = |path: &str| json!({"ranges": range(), "resolvConf": path});
    let before = rig.everything();
    for path in [
        rig.text("tenant/fifo"),
        rig.text("tenant/huge"),
        rig.text("tenant/conf"),
        rig.text("tenant/hard"),
        rig.text("etc"),
        "/dev/zero".into(),
        "/proc/self/fd/0".into(),
        "/proc/self/environ".into(),
    ] {
        let run = rig.berth("ADD", "c1", &tenants(&rig, "net", &file(&path)));
        assert_eq!(run.error_code(), Some(5), "{path}: {run:?}");
        assert!(!run.stdout.contains("the-hosts-secret"), "{path}: {run:?}");
        assert_eq!(rig.everything(), before, "{path}: the lock was taken first");
    }
    // On many hosts /etc/resolv.conf is a link.
    let linked = file(&rig.text("tenant/open"));
    assert_eq!(
        rig.berth("ADD", "c1", &tenants(&rig, "net", &linked)).code,
        Some(0)
    );

    let at = |path: String| tenants(&rig, "net", &json!({"ranges": range(), "dataDir": path}));
    assert_eq!(
        rig.berth("ADD", "c1", &at(rig.text("tenant/link"))).code,
        Some(0)
    );
    assert!(
        rig.path("rootonly/net").exists(),
        "root's own link leads on"
    );
    fs::create_dir(rig.path("theirs")).unwrap();
    fs::create_dir(rig.path("theirs/root")).unwrap();
    std::os::unix::fs::chown(rig.path("theirs"), Some(1000), None).unwrap();
    symlink(rig.path("etc"), rig.path("users-link")).unwrap();
    std::os::unix::fs::lchown(rig.path("users-link"), Some(1000), None).unwrap();
    fs::create_dir(rig.path("shared")).unwrap();
    mode(&rig.path("shared"), 0o777);
    for name in [
        "theirs/root",
        "users-link",
        "shared",
        "shared/below",
        "tenant/fifo/x",
    ] {
        let run = rig.berth("ADD", "c1", &at(rig.text(name)));
        assert_eq!(run.error_code(), Some(5), "{name}: {run:?}");
    }
    assert!(!rig.path("etc/net").exists() && !rig.path("theirs/root/net").exists());
}

#[test]
fn each_sign_that_root_left_makes_a_host_one_with_an_agent_and_no_sign_makes_none() {
    if !has(&["unshare", "mount"]) {
        return;
    }
    let rig = Rig::new();
    let config = rig.config("1.1.0", &json!([[{"subnet": "10.7.0.0/24"}]]));
    fs::write(rig.path("config"), config.to_string()).unwrap();
    let bin = rig.path("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy(BERTH, bin.join("berth")).unwrap();
    let answer = |sign: &str| {
        let script = format!(
            "set -eu; mount -t tmpfs none /run; mount -t tmpfs none /var/lib; mkdir -p /etc/berth\n\
             mount -t tmpfs -o mode=0755 none /etc/berth\n{sign}\n\"$B\" < \"$C\" || true"
        );
        let mut command = rig.command("unshare", "ADD", "c1");
        command
            .args(["-m", "sh", "-c", &script])
            .env("B", bin.join("berth"))
            .env("C", rig.path("config"));
        let run = execute(command, "");
        assert_eq!(run.code, Some(0), "{run:?}");
        run.document()
    };
    let existed = Path::new("/etc/berth").exists();
    for (sign, shown) in [
        ("mkdir /run/berth", "/run/berth is there"),
        (
            "mkdir /var/lib/berth; : > /var/lib/berth/journal",
            "/var/lib/berth/journal is there",
        ),
        (
            ": > /var/lib/berth",
            "/var/lib/berth/journal cannot be looked at",
        ),
        ("ln -s /nowhere /run/berth", "/run/berth is there"),
        (
            ": > $(dirname \"$B\")/.berth.berth-agent",
            ".berth.berth-agent is there",
        ),
        (
            "rm $(dirname \"$B\")/.berth.berth-agent; mkdir /run/berth",
            "/run/berth is there",
        ),
        ("export BERTH_SOCKET=/x", "BERTH_SOCKET"),
        ("export BERTH_SPOOL=/x", "BERTH_SPOOL"),
        (": > /etc/berth/disk-networks.json", "no JSON object"),
        (
            "echo '{\"networks\": {}}' > /etc/berth/disk-networks.json",
            "does not name it",
        ),
    ] {
        let refused = answer(sign);
        assert_eq!(refused["code"], 7, "{sign}: {refused}");
        let message = refused["msg"].as_str().unwrap();
        for part in [shown, "\"net\"", "/etc/berth/disk-networks.json"] {
            assert!(message.contains(part), "{sign}: {part}: {message}");
        }
        assert!(!rig.path("data").exists(), "{sign}");
    }
    // A spool that a DEL without an agent made is none of them.
    for none in [
        "",
        "mkdir -p /var/lib/berth/spool /run/berthy /var/lib/berth/net",
    ] {
        let served = answer(none);
        assert_eq!(
            served["ips"][0]["address"], "10.7.0.2/24",
            "{none}: {served}"
        );
    }
    if !existed {
        let _ = fs::remove_dir("/etc/berth");
    }
}

#[test]
fn installing_leaves_the_sign_of_an_agent_and_uninstalling_takes_it_away() {
    let berthd = Path::new(BERTH).with_file_name("berthd");
    if !has(&[]) || !berthd.exists() {
        eprintln!("skipped: {} was not built", berthd.display());
        return;
    }
    let rig = Rig::new();
    let config = rig.config("1.1.0", &json!([[{"subnet": "10.7.0.0/24"}]]));
    let bin = rig.path("bin");
    fs::create_dir(&bin).unwrap();
    let berthd = |arguments: &[&str]| {
        let mut command = Command::new(&berthd);
        command.args(arguments).arg("--plugin").arg(BERTH);
        let done = command
            .arg("--plugin-directory")
            .arg(&bin)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    let code = || {
        let command = rig.command(bin.join("berth"), "ADD", "c1");
        execute(command, &config.to_string()).error_code()
    };
    berthd(&["install", "--without-agent"]);
    assert_eq!(code(), None, "served");
    berthd(&["install"]);
    assert_eq!(code(), Some(7));
    berthd(&["install", "--without-agent"]);
    assert_eq!(code(), None);
    berthd(&["install"]);
    berthd(&["uninstall"]);
    assert_eq!(fs::read_dir(&bin).unwrap().count(), 0);
}

#[test]
fn the_list_that_the_readme_shows_is_one() {
    if !has(&[]) {
        return;
    }
    let readme = include_str!("../../README.md");
    let (_, example) = readme.split_once("```json\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let rig = Rig::new();
    let mut list: Value = serde_json::from_str(example).unwrap();
    list["dataDir"] = json!(rig.text("data"));
    let (network, entry) = list["networks"].as_object().unwrap().iter().next().unwrap();
    let config = json!({"cniVersion": "1.1.0", "name": network,
        "ipam": {"type": "berth", "ranges": entry["ranges"]}});
    fs::write(rig.path("list.json"), list.to_string()).unwrap();
    assert_eq!(rig.with_agent("ADD", "c1", &config).code, Some(0));
}
