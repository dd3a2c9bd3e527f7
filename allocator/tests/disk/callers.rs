//! A distribution's `macvlan` and `bridge` call the plugin, in network namespaces that the test
//! makes: dual stack, and one container reaches the other.

use serde_json::{Value, json};

use crate::namespaces::{Namespaces, has, ip, reaches};
use crate::rig::{BERTH, PLUGINS, Rig, Run, execute};

fn call(rig: &Rig, namespaces: &Namespaces, verb: &str, container: &str, config: &Value) -> Run {
    let mut command = rig.command("ip", verb, container);
    let main = format!("{PLUGINS}/{}", config["type"].as_str().unwrap());
    let own = std::path::Path::new(BERTH).parent().unwrap();
    command
        .args(["netns", "exec", namespaces.host(), &main])
        .env("CNI_PATH", format!("{PLUGINS}:{}", own.display()))
        .env("CNI_NETNS", format!("/run/netns/{container}"));
    execute(command, &config.to_string())
}

/// ADD for two containers, a ping each way and family, CHECK, DEL; then nothing is left.
fn round(rig: &Rig, namespaces: &Namespaces, config: &Value) {
    let [one, two] = namespaces.containers();
    let results = [one, two].map(|container| call(rig, namespaces, "ADD", container, config));
    let ips: Vec<Vec<String>> = results.iter().map(Run::ips).collect();
    assert!(ips.iter().all(|ips| ips.len() == 2), "{ips:?}");
    assert!(ips[0].iter().all(|ip| !ips[1].contains(ip)), "{ips:?}");
    for (container, own) in [one, two].into_iter().zip(&ips) {
        let shown = ip(&["-n", container, "-o", "addr", "show", "dev", "eth0"]);
        assert!(
            own.iter().all(|ip| shown.contains(&format!(" {ip}/"))),
            "{shown}"
        );
    }
    for (from, to) in [(one, &ips[1]), (two, &ips[0])] {
        for ip in to {
            assert!(reaches(from, ip), "{from} does not reach {ip}");
        }
    }
    for (container, result) in [one, two].into_iter().zip(&results) {
        let mut with_result = config.clone();
        with_result["prevResult"] = result.document();
        let check = call(rig, namespaces, "CHECK", container, &with_result);
        assert_eq!((check.code, check.stdout.as_str()), (Some(0), ""));
        for _ in 0..2 {
            let del = call(rig, namespaces, "DEL", container, &with_result);
            assert_eq!((del.code, del.stdout.as_str()), (Some(0), ""));
        }
        let links = ip(&["-n", container, "-o", "link", "show"]);
        assert!(!links.contains("eth0"), "{links}");
    }
    // What was given back is there for others: both ranges have room for two.
    let again = call(rig, namespaces, "ADD", one, config);
    assert_eq!(again.ips().len(), 2);
    assert_eq!(call(rig, namespaces, "DEL", one, config).code, Some(0));
}

fn config(rig: &Rig, kind: &Value) -> Value {
    let mut config = rig.config(
        "1.0.0",
        &json!([
            [{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10", "rangeEnd": "10.77.0.11"}],
            [{"subnet": "fd77::/64", "rangeStart": "fd77::10", "rangeEnd": "fd77::11"}],
        ]),
    );
    for (key, value) in kind.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

#[test]
fn macvlan_gives_two_containers_addresses_by_which_they_reach_each_other() {
    if !has(&["macvlan", "ip", "ping"]) {
        return;
    }
    let (rig, namespaces) = (Rig::new(), Namespaces::new("mv"));
    let host = namespaces.host();
    ip(&[
        "-n", host, "link", "add", "m0", "type", "veth", "peer", "name", "m1",
    ]);
    for link in ["m0", "m1"] {
        ip(&["-n", host, "link", "set", link, "up"]);
    }
    let kind = json!({"type": "macvlan", "master": "m0", "mode": "bridge"});
    round(&rig, &namespaces, &config(&rig, &kind));
}

#[test]
fn bridge_gives_two_containers_addresses_by_which_they_reach_each_other() {
    if !has(&["bridge", "ip", "ping"]) {
        return;
    }
    let (rig, namespaces) = (Rig::new(), Namespaces::new("br"));
    let kind = json!({"type": "bridge", "bridge": "cni-berth", "isGateway": true});
    round(&rig, &namespaces, &config(&rig, &kind));
}

#[test]
fn a_failed_add_of_the_main_plugin_leaves_no_address() {
    if !has(&["macvlan", "ip"]) {
        return;
    }
    let (rig, namespaces) = (Rig::new(), Namespaces::new("no"));
    let host = namespaces.host();
    ip(&[
        "-n", host, "link", "add", "m0", "type", "veth", "peer", "name", "m1",
    ]);
    ip(&["-n", host, "link", "set", "m0", "up"]);
    let kind = json!({"type": "macvlan", "master": "m0", "mode": "bridge"});
    let [one, two] = namespaces.containers();
    let config = config(&rig, &kind);
    for container in [one, two, "three"] {
        // The third has no namespace, so the main plugin never asks.
        let run = call(&rig, &namespaces, "ADD", container, &config);
        assert_eq!(run.code == Some(0), container != "three", "{run:?}");
    }
    let full = call(&rig, &namespaces, "ADD", two, &config);
    assert_ne!(full.code, Some(0), "eth0 is there already");
    for container in [one, two, "three"] {
        let del = call(&rig, &namespaces, "DEL", container, &config);
        assert_eq!(del.code, Some(0), "{del:?}");
    }
    assert_eq!(call(&rig, &namespaces, "ADD", one, &config).code, Some(0));
}
