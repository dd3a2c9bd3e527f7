//! The attacks on an address manager that are known from its kind, each tried on the real programs:
//! the plugin's binary, and the agent behind its real socket, with an apiserver in memory. What
//! needs a real apiserver or another user of the host is in the files that the table names.

mod bounds;
mod calls;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Host;
use crate::plugin::Run;

const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// The attack, and the tests that show its refusal: file below `tests`, function.
type Row = (&'static str, &'static [(&'static str, &'static str)]);

const ATTACKS: [Row; 10] = [
    (
        "another's address or pool",
        &[
            (
                "host/attacks/calls.rs",
                "an_address_asked_for_is_given_only_if_it_is_free_and_a_pools",
            ),
            (
                "host/attacks/calls.rs",
                "a_pool_for_others_is_opened_by_no_annotation_list_or_address",
            ),
            (
                "host/attacks/calls.rs",
                "an_address_kept_for_another_pod_is_refused_however_long_ago_it_was_kept",
            ),
        ],
    ),
    (
        "past the address manager",
        &[(
            "host/attacks/calls.rs",
            "no_key_or_annotation_leads_past_the_pools",
        )],
    ),
    (
        "ranges and paths in a tenant's network",
        &[
            (
                "host/attacks/calls.rs",
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
                "host/attacks/calls.rs",
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
                "host/attacks/bounds.rs",
                "huge_and_deep_input_is_refused_within_its_bounds",
            ),
            (
                "host/attacks/bounds.rs",
                "a_huge_pool_with_many_excludes_costs_an_add_nothing",
            ),
        ],
    ),
    (
        "the socket",
        &[
            (
                "host/attacks/bounds.rs",
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
                "envtest/admission/mod.rs",
                "the_token_of_an_agent_serves_its_own_node_and_no_other",
            ),
            (
                "envtest/admission/mod.rs",
                "a_token_that_names_no_node_writes_nothing",
            ),
            (
                "host/attacks/bounds.rs",
                "installing_leaves_nothing_of_the_cluster_on_the_host",
            ),
        ],
    ),
    (
        "release of what lives",
        &[(
            "host/attacks/calls.rs",
            "no_gc_no_late_del_and_no_empty_runtime_releases_what_lives",
        )],
    ),
    (
        "lines and labels",
        &[
            (
                "host/attacks/bounds.rs",
                "no_text_of_a_tenant_becomes_a_label_or_a_second_line",
            ),
            ("host/attacks/bounds.rs", "an_event_of_the_log_is_one_line"),
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
            let named = format!("fn {test}()");
            let is_test = text
                .split_once(&named)
                .and_then(|(before, _)| before.rsplit_once("#["))
                .is_some_and(|(_, attribute)| {
                    let words = attribute.split(']').next().unwrap_or("");
                    words.contains("test") && attribute.lines().count() <= 2
                });
            assert!(is_test, "{attack}: {file} has no test {test}");
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
        address
            .split('/')
            .next()
            .unwrap()
            .clone_into(&mut site.held);
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
