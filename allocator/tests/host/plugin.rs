//! What a runtime sees of the plugin.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use berth::adapters::clock::boot_time;
use serde_json::{Value, json};

use crate::cluster::Host;

/// One execution of the plugin by a runtime.
pub(crate) struct Run {
    pub code: i32,
    pub stdout: String,
}

impl Run {
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{:?}", self.stdout))
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        let document = self.document();
        let ips = document["ips"]
            .as_array()
            .unwrap_or_else(|| panic!("{document}"));
        ips.iter()
            .map(|ip| ip["address"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan",
        "ipam": {"type": "berth", "timeoutMilliseconds": 20_000},
    })
}

impl Host {
    fn plugin(&self, verb: &str, container: &str, pod: (&str, &str), stdin: &[u8]) -> Run {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={};K8S_POD_UID={}",
            pod.0, pod.1
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command.env("CNI_NETNS", self.path("netns").join(container));
        self.execute(command, verb, container, &args, stdin)
    }

    /// Executes something that is, or that calls, the plugin.
    pub(crate) fn execute(
        &self,
        mut command: Command,
        verb: &str,
        container: &str,
        args: &str,
        stdin: &[u8],
    ) -> Run {
        if !command.get_envs().any(|(key, _)| key == "CNI_IFNAME") {
            command.env("CNI_IFNAME", "eth0");
        }
        let mut child = command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_ARGS", args)
            .env("BERTH_SOCKET", self.path("run/agent.sock"))
            .env("BERTH_SPOOL", self.path("spool"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A plugin may exit without reading.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
        }
    }

    pub(crate) fn verb(&self, verb: &str, container: &str, pod: (&str, &str)) -> Run {
        self.plugin(verb, container, pod, config().to_string().as_bytes())
    }

    /// The namespace of a sandbox begins.
    pub(crate) fn begin(&self, container: &str) {
        std::fs::write(self.path("netns").join(container), b"").unwrap();
    }

    /// The namespace of a sandbox ends.
    pub(crate) fn end(&self, container: &str) {
        std::fs::remove_file(self.path("netns").join(container)).unwrap();
    }

    /// Waits, at most a minute, until no record is held for the Pod.
    pub(crate) fn await_release(&self, uid: &str) {
        let bound = boot_time() + Duration::from_mins(1);
        while self.api.records().contains(uid) {
            assert!(boot_time() < bound, "held: {}", self.api.records());
            std::thread::yield_now();
        }
    }
}

#[test]
fn add_check_del_go_round_and_the_address_is_free_again() {
    let mut host = Host::new();
    let uid = host.api.add_pod("p");
    let pod = ("p", uid.as_str());
    host.start_agent();
    host.begin("c1");
    let added = host.verb("ADD", "c1", pod);
    assert_eq!(added.code, 0, "{}", added.stdout);
    let addresses = added.addresses();
    assert!(addresses[0].starts_with("10.9.0.") && addresses[0].ends_with("/24"));
    assert!(host.api.records().contains(&uid));

    let again = host.verb("ADD", "c1", pod);
    assert_eq!(
        again.document(),
        added.document(),
        "the same ADD gets the same answer"
    );

    let mut with_result = config();
    with_result["prevResult"] = added.document();
    let check = |document: &Value| host.plugin("CHECK", "c1", pod, document.to_string().as_bytes());
    let good = check(&with_result);
    assert_eq!((good.code, good.stdout.as_str()), (0, ""));
    with_result["prevResult"]["ips"][0]["address"] = json!("10.9.0.250/24");
    let differs = check(&with_result);
    assert_eq!(
        (differs.code, &differs.document()["code"]),
        (1, &json!(103))
    );

    let status = host.verb("STATUS", "c1", pod);
    assert_eq!((status.code, status.stdout.as_str()), (0, ""));
    for _ in 0..2 {
        let del = host.verb("DEL", "c1", pod);
        assert_eq!((del.code, del.stdout.as_str()), (0, ""));
    }
    host.end("c1");
    // The Pod is still bound here, so its reservation stays; with the Pod's end it is free.
    assert!(host.api.records().contains(&uid));
    host.api.remove_pod("p");
    host.await_release(&uid);
    host.stop_agent();
}

#[test]
fn each_interface_of_a_pod_gets_its_own_address() {
    let mut host = Host::new();
    let uid = host.api.add_pod("p");
    host.start_agent();
    host.begin("c1");
    let first = host.verb("ADD", "c1", ("p", &uid));
    let second = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
        command
            .env("CNI_NETNS", host.path("netns/c1"))
            .env("CNI_IFNAME", "net1");
        let mut config = config();
        config["name"] = json!("storage");
        let args = format!("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID={uid}");
        let run = host.execute(command, verb, "c1", &args, config.to_string().as_bytes());
        assert_eq!(run.code, 0, "{}", run.stdout);
        run
    };
    let (first, added) = (first.addresses(), second("ADD").addresses());
    assert_eq!((first.len(), added.len()), (2, 2));
    assert!(first.iter().all(|address| !added.contains(address)));
    // The end of one interface is not the end of the other.
    second("DEL");
    let again = host.verb("ADD", "c1", ("p", &uid));
    assert_eq!(again.addresses(), first);
    host.stop_agent();
}

#[test]
fn an_add_whose_path_is_gone_is_refused_and_gives_up_nothing() {
    let mut host = Host::new();
    let uid = host.api.add_pod("p");
    let pod = ("p", uid.as_str());
    host.start_agent();
    host.begin("c1");
    assert_eq!(host.verb("ADD", "c1", pod).code, 0);
    host.begin("c2");
    host.end("c2");
    let late = host.verb("ADD", "c2", pod);
    assert_eq!((late.code, &late.document()["code"]), (1, &json!(4)));
    assert!(late.stdout.contains("namespace is gone"), "{}", late.stdout);
    assert_eq!(host.verb("ADD", "c1", pod).code, 0);
    assert!(host.api.records().contains(&uid));
    host.stop_agent();
}

#[test]
fn version_needs_no_agent_and_no_sound_input() {
    let host = Host::new();
    let version = host.plugin("VERSION", "../x", ("", ""), b"garbage");
    assert_eq!(version.code, 0);
    assert_eq!(
        version.document()["supportedVersions"]
            .as_array()
            .unwrap()
            .len(),
        7
    );
}

#[test]
fn garbage_on_stdin_is_one_decoding_error_for_every_verb() {
    let host = Host::new();
    let long = vec![b'x'; 2 << 20];
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        for stdin in [b"".as_slice(), b"garbage", b"[1]", &long] {
            let run = host.plugin(verb, "c1", ("p", "u"), stdin);
            assert_eq!(
                (run.code, &run.document()["code"]),
                (1, &json!(6)),
                "{verb}"
            );
        }
    }
}

#[test]
fn without_an_agent_an_add_gives_up_by_its_deadline_and_status_says_so() {
    let host = Host::new();
    let mut short = config();
    short["ipam"]["timeoutMilliseconds"] = json!(400);
    let begin = boot_time();
    let add = host.plugin("ADD", "c1", ("p", "u"), short.to_string().as_bytes());
    assert_eq!((add.code, &add.document()["code"]), (1, &json!(11)));
    assert!(boot_time().since(begin) < Duration::from_secs(10));
    let status = host.verb("STATUS", "c1", ("p", "u"));
    assert_eq!((status.code, &status.document()["code"]), (1, &json!(50)));
}

#[test]
fn a_del_without_an_agent_succeeds_and_is_applied_by_the_next_one() {
    let mut host = Host::new();
    let uid = host.api.add_pod("p");
    let pod = ("p", uid.as_str());
    host.start_agent();
    host.begin("c1");
    assert_eq!(host.verb("ADD", "c1", pod).code, 0);
    host.stop_agent();

    let del = host.verb("DEL", "c1", pod);
    assert_eq!((del.code, del.stdout.as_str()), (0, ""));
    host.end("c1");
    host.api.remove_pod("p");
    assert_eq!(std::fs::read_dir(host.path("spool")).unwrap().count(), 1);
    assert!(host.api.records().contains(&uid));

    host.start_agent();
    host.await_release(&uid);
    assert_eq!(std::fs::read_dir(host.path("spool")).unwrap().count(), 0);
    host.stop_agent();
}

#[test]
fn sixty_four_plugins_at_once_get_sixty_four_addresses() {
    let mut host = Host::new();
    let pods: Vec<(String, String)> = (0..64)
        .map(|i| format!("p{i}"))
        .map(|name| (name.clone(), host.api.add_pod(&name)))
        .collect();
    host.start_agent();
    let host = &host;
    let mut addresses: Vec<String> = std::thread::scope(|scope| {
        let plugins: Vec<_> = pods
            .iter()
            .map(|(name, uid)| {
                scope.spawn(move || {
                    host.begin(name);
                    let run = host.verb("ADD", name, (name, uid));
                    assert_eq!(run.code, 0, "{}", run.stdout);
                    run.addresses().remove(0)
                })
            })
            .collect();
        plugins
            .into_iter()
            .map(|plugin| plugin.join().unwrap())
            .collect()
    });
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 64);
}
