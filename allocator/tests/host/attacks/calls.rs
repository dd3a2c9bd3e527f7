//! Calls and configurations that want what is another's: addresses, paths, names, releases.

use std::process::Command;
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::adapters::socket;
use berth::core::exchange::{AddRequest, Attachment, DelRequest, PodReference, Response, Verb};
use berth::core::labels::LabelSelector;
use berth::core::objects::{ANNOTATION_POOL, ANNOTATION_POOLS, AddressPoolSpec, FamilySpec};
use berth::core::plugin::PluginInput;
use serde_json::json;

use super::{BERTH, Site, code, config, tree};

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
fn a_pool_for_others_is_opened_by_no_annotation_list_or_address() {
    type Rule = fn(&mut AddressPoolSpec, LabelSelector);
    let site = Site::new();
    let team = LabelSelector {
        match_labels: [("team".to_owned(), "bank".to_owned())].into(),
        ..LabelSelector::default()
    };
    let rules: [(&str, Rule); 4] = [
        ("by-namespace", |spec, _| {
            spec.namespaces = vec!["bank".into()];
        }),
        ("by-namespaces-label", |spec, team| {
            spec.namespace_selector = Some(team);
        }),
        ("by-pods-label", |spec, team| {
            spec.pod_selector = team.match_labels;
        }),
        ("by-network", |spec, _| spec.networks = vec!["bank".into()]),
    ];
    for (index, (name, rule)) in rules.into_iter().enumerate() {
        let mut spec = AddressPoolSpec {
            block_size: Some(64),
            families: ["10.7", "fd07:"]
                .map(|net| {
                    if net.contains(':') {
                        format!("{net}{index}::/64")
                    } else {
                        format!("{net}.{index}.0/24")
                    }
                })
                .map(|range| FamilySpec {
                    ranges: vec![range],
                    ..FamilySpec::default()
                })
                .into(),
            ..AddressPoolSpec::default()
        };
        rule(&mut spec, team.clone());
        site.host.api.add_pool_of(name, spec);
        for annotation in [ANNOTATION_POOL, ANNOTATION_POOLS] {
            let pod = format!("{name}-{}", annotation.len());
            let uid = site.host.api.add_pod(&pod);
            let value = match annotation {
                ANNOTATION_POOLS => format!("net={name}"),
                _ => name.to_owned(),
            };
            site.host.api.annotate_pod(&pod, annotation, &value);
            let run = site.call("ADD", (&pod, &uid), &config(), "");
            assert_eq!(code(&run), 104, "{annotation}: {}", run.stdout);
            assert!(!site.host.api.records().contains(&uid), "nothing is held");
        }
        let pod = format!("{name}-asks");
        let uid = site.host.api.add_pod(&pod);
        let mut listed = config();
        listed["ipam"]["pools"] = json!([name]);
        let run = site.call("ADD", (&pod, &uid), &listed, "");
        assert_eq!(code(&run), 104, "a list: {}", run.stdout);
        let run = site.call(
            "ADD",
            (&pod, &uid),
            &config(),
            &format!(";IP=10.7.{index}.9"),
        );
        assert_eq!(code(&run), 102, "an address: {}", run.stdout);
        // Named by nobody, it is not what the Pod gets.
        let run = site.call("ADD", (&pod, &uid), &config(), "");
        assert!(run.addresses()[0].starts_with("10.9.0."), "{}", run.stdout);
    }
    site.end();
}

#[test]
fn an_address_kept_for_another_pod_is_refused_however_long_ago_it_was_kept() {
    let mut site = Site::new();
    site.host.api.reserve("kept-late", "10.9.0.77", "owner");
    site.host.stop_agent();
    site.host.api.reserve("kept-unseen", "10.9.0.78", "owner");
    site.host.start_agent();
    let thief = site.host.api.add_pod("thief");
    let owner = site.host.api.add_pod("owner");
    for (name, ip) in [("kept-late", "10.9.0.77"), ("kept-unseen", "10.9.0.78")] {
        let run = site.call("ADD", ("thief", &thief), &config(), &format!(";IP={ip}"));
        assert_eq!(code(&run), 101, "{}", run.stdout);
        assert!(run.stdout.contains(name), "says by what: {}", run.stdout);
    }
    let own = site.call("ADD", ("owner", &owner), &config(), ";IP=10.9.0.78");
    assert_eq!(own.code, 0, "{}", own.stdout);
    assert!(own.addresses()[0].starts_with("10.9.0.78/"));
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
        let mut config = config();
        config["ipam"][key] = value.clone();
        let run = site.call("ADD", tenant, &config, "");
        assert_eq!(code(&run), expected, "{key}: {}", run.stdout);
        assert!(!out.exists(), "{key}");
    }
    let mut new = tree(&site.host.path(""));
    new.remove(&site.host.path("netns/tenant"));
    assert_eq!(new, before);
    assert!(!site.host.api.records().contains(&uid));
    // An agent that is down is an agent: its absence opens nothing.
    let mut site = site;
    site.host.stop_agent();
    for range in ["10.9.0.0/24", "10.8.0.0/24"] {
        let mut config = config();
        config["ipam"] =
            json!({"type": "berth", "store": "disk", "subnet": range, "dataDir": path});
        for verb in ["ADD", "STATUS", "DEL"] {
            let run = site.call(verb, tenant, &config, "");
            let refused = if verb == "STATUS" { 50 } else { 7 };
            assert!(
                verb == "DEL" && run.code == 0 || code(&run) == refused,
                "{}",
                run.stdout
            );
            assert!(!out.exists());
        }
    }
    assert!(site.is_held());
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
