//! The attacks on an address manager that are known from its kind, each tried on the real programs:
//! the plugin's binary, and the agent behind its real socket, with an apiserver in memory. What
//! needs a real apiserver or another user of the host is in the files that the table names.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::adapters::daemon::{LogFormat, log_to};
use berth::adapters::listener::SocketInbox;
use berth::adapters::{frame, socket};
use berth::core::exchange::{AddRequest, Attachment, DelRequest, PodReference, Response, Verb};
use berth::core::objects::{ANNOTATION_POOL, FamilySpec};
use berth::core::plugin::PluginInput;
use serde_json::{Value, json};

use crate::cluster::Host;
use crate::plugin::Run;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// The attack, and the tests that show its refusal: file below `tests`, function.
type Row = (&'static str, &'static [(&'static str, &'static str)]);

const ATTACKS: [Row; 10] = [
    (
        "another's address or pool",
        &[(
            "host/attacks.rs",
            "an_address_asked_for_is_given_only_if_it_is_free_and_a_pools",
        )],
    ),
    (
        "past the address manager",
        &[(
            "host/attacks.rs",
            "no_key_or_annotation_leads_past_the_pools",
        )],
    ),
    (
        "ranges and paths in a tenant's network",
        &[
            (
                "host/attacks.rs",
                "no_path_range_or_log_file_of_a_tenants_network_is_used",
            ),
            (
                "disk/agent.rs",
                "what_no_list_names_is_refused_by_every_verb_and_nothing_is_touched_or_told",
            ),
        ],
    ),
    (
        "names that are paths",
        &[
            (
                "host/attacks.rs",
                "no_name_leads_out_of_a_directory_through_plugin_or_socket",
            ),
            (
                "disk/configuration.rs",
                "no_container_interface_or_network_leads_out_of_the_directory",
            ),
        ],
    ),
    (
        "memory and time",
        &[
            (
                "host/attacks.rs",
                "huge_and_deep_input_is_refused_within_its_bounds",
            ),
            (
                "host/attacks.rs",
                "a_huge_pool_with_many_excludes_costs_an_add_nothing",
            ),
        ],
    ),
    (
        "the socket",
        &[
            (
                "host/attacks.rs",
                "socket_and_directory_are_roots_and_no_link_or_file_takes_their_place",
            ),
            (
                "host/callers.rs",
                "another_user_of_the_host_is_refused_by_the_agent",
            ),
        ],
    ),
    (
        "a node that was taken",
        &[
            (
                "host/deploy.rs",
                "roles_allow_what_is_asked_for_and_nothing_else",
            ),
            (
                "host/attacks.rs",
                "installing_leaves_nothing_of_the_cluster_on_the_host",
            ),
        ],
    ),
    (
        "release of what lives",
        &[(
            "host/attacks.rs",
            "no_gc_no_late_del_and_no_empty_runtime_releases_what_lives",
        )],
    ),
    (
        "lines and labels",
        &[
            (
                "host/attacks.rs",
                "no_text_of_a_tenant_becomes_a_label_or_a_second_line",
            ),
            ("host/attacks.rs", "an_event_of_the_log_is_one_line"),
        ],
    ),
    (
        "what the programs are built of",
        &[
            (
                "host/dependencies.rs",
                "every_dependency_is_of_the_registry_with_a_checksum_and_none_is_banned",
            ),
            (
                "host/dependencies.rs",
                "every_licence_of_the_programs_is_one_of_the_list",
            ),
            (
                "host/dependencies.rs",
                "no_program_of_the_workspace_may_have_unsafe_code",
            ),
        ],
    ),
];

#[test]
fn each_attack_has_its_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for (attack, shown_by) in ATTACKS {
        assert!(!shown_by.is_empty(), "{attack}");
        for (file, test) in shown_by {
            let text = std::fs::read_to_string(tests.join(file)).unwrap();
            let named = format!("#[test]\nfn {test}()");
            assert!(text.contains(&named), "{attack}: {file} has no test {test}");
        }
    }
}

fn config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan",
        "ipam": {"type": "berth", "timeoutMilliseconds": 20_000},
    })
}

/// A node with an agent and one Pod, which has its address.
struct Site {
    host: Host,
    victim: String,
    /// Without the prefix length, IPv4.
    held: String,
}

impl Site {
    fn new() -> Self {
        let mut host = Host::new();
        host.start_agent();
        let victim = host.api.add_pod("victim");
        let mut site = Self {
            host,
            victim,
            held: String::new(),
        };
        let uid = site.victim.clone();
        let added = site.call("ADD", ("victim", &uid), &config(), "");
        assert_eq!(added.code, 0, "{}", added.stdout);
        let address = added.addresses().remove(0);
        site.held = address.split('/').next().unwrap().to_owned();
        site
    }

    /// A call for a Pod, whose sandbox is called as it is.
    fn call(&self, verb: &str, (pod, uid): (&str, &str), config: &Value, args: &str) -> Run {
        let netns = self.host.path("netns").join(pod);
        std::fs::write(&netns, b"").unwrap();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={pod};K8S_POD_UID={uid}{args}"
        );
        let mut command = Command::new(BERTH);
        command.env("CNI_NETNS", netns);
        let stdin = config.to_string();
        self.host
            .execute(command, verb, pod, &args, stdin.as_bytes())
    }

    fn is_held(&self) -> bool {
        self.host.api.records().contains(&self.victim)
    }

    fn end(mut self) {
        assert!(self.is_held());
        self.host.stop_agent();
    }
}

fn code(run: &Run) -> u64 {
    assert_eq!(run.code, 1, "{}", run.stdout);
    run.document()["code"].as_u64().unwrap()
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
fn an_address_asked_for_is_given_only_if_it_is_free_and_a_pools() {
    let site = Site::new();
    let uid = site.host.api.add_pod("thief");
    let thief = ("thief", uid.as_str());
    let held = site.held.clone();
    for (ip, expected) in [
        (held.as_str(), &[101, 102][..]),
        ("10.9.0.1", &[101, 102]),
        ("10.8.0.9", &[102]),
        ("fd08::9", &[102]),
        ("127.0.0.1", &[102]),
    ] {
        let in_args = site.call("ADD", thief, &config(), &format!(";IP={ip}"));
        let mut by_runtime = config();
        by_runtime["runtimeConfig"] = json!({"ips": [ip]});
        let mut by_cni = config();
        by_cni["args"] = json!({"cni": {"ips": [ip]}});
        let runs = [
            in_args,
            site.call("ADD", thief, &by_runtime, ""),
            site.call("ADD", thief, &by_cni, ""),
        ];
        for run in runs {
            assert!(expected.contains(&code(&run)), "{ip}: {}", run.stdout);
        }
    }
    let own = site.call("ADD", thief, &config(), "");
    assert_eq!(own.code, 0, "{}", own.stdout);
    assert!(
        !own.addresses()
            .iter()
            .any(|ip| ip.starts_with(&format!("{held}/")))
    );
    site.end();
}

#[test]
fn no_key_or_annotation_leads_past_the_pools() {
    let site = Site::new();
    let uid = site.host.api.add_pod("sly");
    for (annotation, value) in [
        (
            "cni.projectcalico.org/ipAddrsNoIpam",
            format!("[\"{}\"]", site.held),
        ),
        (
            "cni.projectcalico.org/ipAddrs",
            format!("[\"{}\"]", site.held),
        ),
        ("ovn.kubernetes.io/ip_address", site.held.clone()),
        (
            "ipam.spidernet.io/ippool",
            "{\"ipv4\": [\"any\"]}".to_owned(),
        ),
        ("berth.dev/ips", site.held.clone()),
    ] {
        site.host.api.annotate_pod("sly", annotation, &value);
    }
    let sly = ("sly", uid.as_str());
    for (key, value) in [
        (
            "addresses",
            json!([{"address": format!("{}/24", site.held)}]),
        ),
        ("ips", json!([site.held])),
        ("static", json!(true)),
        ("noIpam", json!(true)),
        ("delegate", json!({"type": "static"})),
    ] {
        let mut config = config();
        config["ipam"][key] = value;
        assert_eq!(code(&site.call("ADD", sly, &config, "")), 2, "{key}");
    }
    // A previous result is nothing to start from.
    let mut config = config();
    config["prevResult"] = json!({"ips": [{"address": format!("{}/24", site.held)}]});
    let own = site.call("ADD", sly, &config, "");
    assert_eq!(own.code, 0, "{}", own.stdout);
    let own = own.addresses();
    assert!(own[0].starts_with("10.9.0.") && !own[0].starts_with(&format!("{}/", site.held)));
    site.end();
}

#[test]
fn no_path_range_or_log_file_of_a_tenants_network_is_used() {
    let site = Site::new();
    let uid = site.host.api.add_pod("tenant");
    let tenant = ("tenant", uid.as_str());
    let out = site.host.path("out");
    let path = out.display().to_string();
    let before = tree(&site.host.path(""));
    for (key, value, expected) in [
        ("range", json!("10.9.0.0/24"), 2),
        ("range_start", json!("10.9.0.9"), 2),
        ("configuration_path", json!(path), 2),
        ("config_path", json!(path), 2),
        ("log_file", json!(path), 2),
        ("logFile", json!(path), 2),
        ("kubeconfig", json!(path), 2),
        ("kubernetes", json!({"kubeconfig": path}), 2),
        ("socket", json!(path), 2),
        ("spool", json!(path), 2),
        ("subnet", json!("10.9.0.0/24"), 7),
        ("ranges", json!([[{"subnet": "10.9.0.0/24"}]]), 7),
        ("dataDir", json!(path), 7),
        ("resolvConf", json!("/etc/shadow"), 7),
    ] {
        for up in [true, false] {
            let mut config = config();
            config["ipam"][key] = value.clone();
            let run = site.call("ADD", tenant, &config, "");
            assert_eq!(code(&run), expected, "{key}, agent {up}: {}", run.stdout);
            assert!(!out.exists(), "{key}");
        }
    }
    let mut new = tree(&site.host.path(""));
    new.remove(&site.host.path("netns/tenant"));
    assert_eq!(new, before);
    assert!(!site.host.api.records().contains(&uid));
    site.end();
}

#[test]
fn no_name_leads_out_of_a_directory_through_plugin_or_socket() {
    let site = Site::new();
    let before = tree(&site.host.path(""));
    let path = site.host.path("run/agent.sock");
    let soon = || boot_time() + Duration::from_secs(20);
    for name in [
        "..",
        "../../etc/x",
        "/etc/x",
        "a/b",
        "a\0b",
        "a\nb",
        "",
        ".",
    ] {
        let attachment = |container: &str, interface: &str| Attachment {
            container: container.to_owned(),
            interface: interface.to_owned(),
        };
        let add = |attachment, namespace: &str, pod: &str, pools: &[&str]| {
            Verb::Add(AddRequest {
                attachment,
                netns: "/run/netns/x".into(),
                pod: PodReference {
                    namespace: namespace.to_owned(),
                    name: pod.to_owned(),
                    uid: None,
                },
                network: "net".into(),
                pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
                ips: Vec::new(),
            })
        };
        let del = |attachment| {
            Verb::Del(DelRequest {
                attachment,
                netns: String::new(),
            })
        };
        // A program of root's that is not the plugin may say anything.
        let hostile = [
            del(attachment(name, "eth0")),
            del(attachment("c", &format!("{name}/"))),
            add(attachment(name, "eth0"), "ns", "p", &[]),
            add(attachment("c", "eth0"), name, "p", &[]),
            add(attachment("c", "eth0"), "ns", name, &[]),
            add(attachment("c", "eth0"), "ns", "p", &[name]),
        ];
        for verb in hostile {
            let answer = socket::ask(&path, &verb, soon());
            let PluginInput::Answered(Response::Failed(failure)) = answer else {
                panic!("{verb:?}: {answer:?}")
            };
            assert_eq!(failure.code, 4, "{verb:?}");
        }
        if name.contains('\0') {
            continue;
        }
        for verb in ["ADD", "DEL", "CHECK"] {
            let mut command = Command::new(BERTH);
            command.env("CNI_NETNS", "/run/netns/x");
            let stdin = config().to_string();
            let args = "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p";
            let run = site
                .host
                .execute(command, verb, name, args, stdin.as_bytes());
            assert_eq!(code(&run), 4, "{verb} {name:?}");
        }
    }
    assert_eq!(tree(&site.host.path("")), before);
    site.end();
}

#[test]
fn huge_and_deep_input_is_refused_within_its_bounds() {
    let site = Site::new();
    let uid = site.host.api.add_pod("big");
    let args = format!("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=big;K8S_POD_UID={uid}");
    let mut config = config();
    let sized = |key: &str, value: Value| {
        let mut config = config.clone();
        config["ipam"][key] = value;
        config.to_string().into_bytes()
    };
    let ranges: Vec<Value> = (0..20_000)
        .map(|i| json!([{"subnet": format!("10.{}.{}.{}/30", i >> 14, i >> 6 & 255, i % 64 * 4)}]))
        .collect();
    let mut inputs = vec![
        (6, vec![b' '; 3 << 20]),
        (6, [b"{\"name\":".as_slice(), &vec![b'['; 900_000]].concat()),
        (6, "{\"a\":".repeat(150_000).into_bytes()),
        (7, sized("pools", json!(vec!["pool"; 65]))),
        (7, sized("ranges", json!(ranges))),
        (7, sized("ranges", json!(vec![json!([]); 100_000]))),
        (7, sized("timeoutMilliseconds", json!(u64::MAX))),
    ];
    let ips: Vec<String> = (0..30_000).map(|i| format!("fd09::{i:x}")).collect();
    config["runtimeConfig"] = json!({"ips": ips});
    inputs.push((7, config.to_string().into_bytes()));
    for (expected, stdin) in inputs {
        let mut command = Command::new("prlimit");
        // Units: bytes and seconds. Ten times what is needed: more would be the attack's success.
        command.args(["--as=268435456", "--cpu=10", BERTH]);
        command.env("CNI_NETNS", site.host.path("netns/victim"));
        let run = site.host.execute(command, "ADD", "big", &args, &stdin);
        let shown = String::from_utf8_lossy(&stdin[..stdin.len().min(60)]).into_owned();
        assert_eq!(code(&run), expected, "{shown}: {}", run.stdout);
        assert!(run.stdout.len() < 2048, "{}", run.stdout.len());
    }
    // A frame that claims four gigabytes, and a peer that says nothing more.
    let mut stream = UnixStream::connect(site.host.path("run/agent.sock")).unwrap();
    stream.write_all(&[0xff; frame::HEAD_BYTES]).unwrap();
    let status = site.call("STATUS", ("victim", &site.victim), &self::config(), "");
    assert_eq!(status.code, 0, "{}", status.stdout);
    site.end();
}

#[test]
fn a_huge_pool_with_many_excludes_costs_an_add_nothing() {
    let site = Site::new();
    // 2^24 pairs of which nearly all are excluded, address by address and by halves of the rest.
    let v4: Vec<String> = (0..64)
        .map(|i| format!("10.0.{}.{}", i / 8, i % 8 * 2))
        .chain((1..128).map(|i| format!("10.{i}.0.0/16")))
        .collect();
    let v6: Vec<String> = (1..200_u32)
        .map(|i| format!("fd0a::{i:x}:0:0-fd0a::{i:x}:ffff:ffff"))
        .collect();
    let family = |range: &str, exclude: Vec<String>| FamilySpec {
        ranges: vec![range.to_owned()],
        exclude,
        ..FamilySpec::default()
    };
    site.host.api.add_pool(
        "huge",
        vec![family("10.0.0.0/8", v4), family("fd0a::/64", v6)],
    );
    let uid = site.host.api.add_pod("big");
    let mut config = config();
    config["ipam"]["pools"] = json!(["huge"]);
    config["ipam"]["timeoutMilliseconds"] = json!(10_000);
    let added = site.call("ADD", ("big", &uid), &config, "");
    assert_eq!(added.code, 0, "{}", added.stdout);
    assert!(added.addresses()[0].starts_with("10."), "{}", added.stdout);
    site.end();
}

#[test]
fn socket_and_directory_are_roots_and_no_link_or_file_takes_their_place() {
    let site = Site::new();
    let path = site.host.path("run/agent.sock");
    let own = rustix::process::geteuid().as_raw();
    for (path, mode) in [(path.clone(), 0o600), (site.host.path("run"), 0o700)] {
        let metadata = std::fs::symlink_metadata(path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (mode, own));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _within = runtime.enter();
    assert!(SocketInbox::listen(&path, own).is_err(), "a second agent");
    assert!(
        std::fs::symlink_metadata(&path)
            .unwrap()
            .file_type()
            .is_socket()
    );

    // Somebody made a link where the directory will be: neither followed nor closed to others.
    std::fs::create_dir(site.host.path("theirs")).unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(site.host.path("theirs"), open).unwrap();
    std::os::unix::fs::symlink(site.host.path("theirs"), site.host.path("linked")).unwrap();
    let through = SocketInbox::listen(&site.host.path("linked/agent.sock"), own);
    assert!(through.is_err());
    assert_eq!(
        std::fs::read_dir(site.host.path("theirs")).unwrap().count(),
        0
    );
    let mode = std::fs::metadata(site.host.path("theirs")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o755);

    // What lies at the socket's own name is replaced, and what a link there names is not.
    let victim = site.host.path("precious");
    std::fs::write(&victim, b"precious").unwrap();
    for (name, is_link) in [("stale", false), ("link", true)] {
        let at = site.host.path(name).join("agent.sock");
        std::fs::create_dir(site.host.path(name)).unwrap();
        if is_link {
            std::os::unix::fs::symlink(&victim, &at).unwrap();
        } else {
            drop(std::os::unix::net::UnixListener::bind(&at).unwrap());
        }
        let inbox = SocketInbox::listen(&at, own).unwrap();
        assert!(
            std::fs::symlink_metadata(&at)
                .unwrap()
                .file_type()
                .is_socket()
        );
        drop(inbox);
    }
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    site.end();
}

#[test]
fn installing_leaves_nothing_of_the_cluster_on_the_host() {
    let host = Host::new();
    let bin = host.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_berthd"));
    command.args(["install", "--plugin", BERTH, "--plugin-directory"]);
    let done = command.arg(&bin).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let files: Vec<PathBuf> = tree(&bin).into_iter().collect();
    let names = [".berth.berth-agent", ".berth.berth-receipt", "berth"];
    assert_eq!(files, names.map(|name| bin.join(name)));
    for file in &files[..2] {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.len() < 1024 && !text.contains("token"), "{text}");
    }
    // And the container that does it sees no more of the host.
    let base = include_str!("../../deploy/kustomize/berth.yaml");
    let (_, init) = base.split_once("initContainers:").unwrap();
    let (init, _) = init.split_once("      containers:").unwrap();
    assert_eq!(init.matches("mountPath:").count(), 1, "{init}");
    assert!(init.contains("mountPath: /host/cni-bin"), "{init}");
}

#[test]
fn no_gc_no_late_del_and_no_empty_runtime_releases_what_lives() {
    let site = Site::new();
    let victim = ("victim", site.victim.as_str());
    let mut empty = config();
    empty["cni.dev/valid-attachments"] = json!([]);
    let mut others = config();
    others["cni.dev/valid-attachments"] = json!([{"containerID": "other", "ifname": "eth0"}]);
    assert_eq!(code(&site.call("GC", victim, &config(), "")), 7, "no list");
    for list in [&empty, &others] {
        // The runtime of this rig lists no sandbox either; the namespace is there.
        let _answer = site.call("GC", victim, list, "");
        assert!(site.is_held());
    }
    // A DEL of another container, or of another interface, is none of this one.
    for container in ["other", "victim2"] {
        let mut command = Command::new(BERTH);
        command.env("CNI_NETNS", site.host.path("netns/victim"));
        let stdin = config().to_string();
        let run = site
            .host
            .execute(command, "DEL", container, "", stdin.as_bytes());
        assert_eq!(run.code, 0, "{}", run.stdout);
    }
    let mut with_result = config();
    with_result["prevResult"] = json!({"ips": [{"address": format!("{}/24", site.held)}]});
    // Both families are in the previous result of a runtime.
    let again = site.call("ADD", victim, &config(), "");
    assert!(again.addresses()[0].starts_with(&format!("{}/", site.held)));
    with_result["prevResult"] = again.document();
    assert_eq!(
        site.call("CHECK", victim, &with_result, "").code,
        0,
        "held as before"
    );
    site.end();
}

#[test]
fn no_text_of_a_tenant_becomes_a_label_or_a_second_line() {
    let mut host = Host::new();
    let (metrics, posted) = host.start_watched_agent();
    let uid = host.api.add_pod("loud");
    let hostile = "x\"} 1\nberth_fake_total{pod=\"x\"} 7\n# EOF\n\u{1b}[2J";
    host.api.annotate_pod("loud", ANNOTATION_POOL, hostile);
    host.api.annotate_pod("loud", "note", hostile);
    let site = Site {
        host,
        victim: uid.clone(),
        held: String::new(),
    };
    let mut config = config();
    config["ipam"]["timeoutMilliseconds"] = json!(1500);
    let texts = [
        format!(";FAKE={hostile}"),
        format!(";K8S_POD_NAME={hostile}"),
        format!(";K8S_POD_UID={hostile}"),
        format!(";IP={hostile}"),
        String::new(),
    ];
    for args in &texts {
        let run = site.call("ADD", ("loud", &uid), &config, args);
        // Whatever it is answered, that is one document on one line.
        assert_eq!(run.stdout.trim_end().lines().count(), 1, "{:?}", run.stdout);
        assert!(!run.stdout.contains('\u{1b}'), "{:?}", run.stdout);
        assert!(run.document().is_object());
    }
    config["name"] = json!(hostile);
    assert_eq!(code(&site.call("ADD", ("loud", &uid), &config, "")), 7);
    let page = metrics.render(boot_time());
    assert!(page.contains("berth_answers_total{verb=\"ADD\""), "{page}");
    for part in ["fake", "loud", "\u{1b}", uid.as_str()] {
        assert!(!page.contains(part), "{part:?} in\n{page}");
    }
    let bad = |c: char| c.is_control();
    for event in posted.0.lock().unwrap().iter() {
        assert!(!event["note"].as_str().unwrap().contains(bad), "{event}");
    }
    let mut host = site.host;
    host.stop_agent();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_event_of_the_log_is_one_line() {
    let hostile = "x\n2026-01-01T00:00:00Z  INFO berthd: all is well\r\u{1b}[2J\u{2028}";
    for format in [LogFormat::Text, LogFormat::Json] {
        let log = Log::default();
        let writer = log.clone();
        let dispatch = log_to(format, "info".parse().unwrap(), move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(reason = hostile, shown = %hostile, asked = ?hostile, "pool {hostile}");
        });
        let bytes = log.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(
            !text.trim_end().contains(|c: char| c.is_control()),
            "{text:?}"
        );
        assert_eq!(
            text.matches("all is well").count(),
            4,
            "nothing is lost: {text:?}"
        );
    }
}
