//! The deployment files: roles against what the programs ask for, in both directions; the CRDs and
//! the base against their sources; the samples against the parsers that will read them.

use core::time::Duration;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use berth::adapters::apiserver::{api_version, plural};
use berth::adapters::crds;
use berth::cni::config::Config;
use berth::core::agent::AgentConfig;
use berth::core::api::Part;
use berth::core::block::SCHEMA;
use berth::core::objects::{
    self, ANNOTATION_BURY, ANNOTATION_RELEASE, AddressPool, AddressReservation, FINALIZER,
    FamilySpec, Kind, LABEL_POOL, LABEL_ROOM, LABEL_STATES_NODE, Object, ObjectKey,
};
use berth::core::set_aside::{decode, unknown_fields};
use berth::testing::{Asked, Faults, PodPlan, World};
use serde_json::Value;

fn deploy(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

fn text(name: &str) -> String {
    let path = deploy(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// API group, resource with subresource, verb.
type Right = (String, String, String);

/// The rights of a role and a cluster role of this name.
fn allowed(name: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for role in documents(&text("kustomize/berth.yaml")) {
        let kind = role["kind"].as_str().unwrap();
        if !matches!(kind, "Role" | "ClusterRole") || role["metadata"]["name"] != name {
            continue;
        }
        for rule in role["rules"].as_array().unwrap() {
            let list = |key: &str| -> Vec<String> {
                let words = rule[key].as_array().unwrap();
                words
                    .iter()
                    .map(|word| word.as_str().unwrap().to_owned())
                    .collect()
            };
            for group in list("apiGroups") {
                for resource in list("resources") {
                    for verb in list("verbs") {
                        rights.insert((group.clone(), resource.clone(), verb));
                    }
                }
            }
        }
    }
    assert!(!rights.is_empty(), "no role {name}");
    rights
}

fn right(asked: &Asked) -> Right {
    let group = api_version(asked.kind);
    let group = group.split_once('/').map_or("", |(group, _)| group);
    let mut resource = plural(asked.kind).to_owned();
    if asked.part == Part::Status {
        resource.push_str("/status");
    }
    (group.to_owned(), resource, asked.verb.to_owned())
}

fn pod(world: &mut World, node: &str, name: &str) {
    world.create_pod(PodPlan {
        node,
        name,
        sandbox_after: Duration::from_millis(300),
    });
}

fn seconds(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds));
}

fn pool(name: &str, range: &str) -> AddressPool {
    let mut pool = AddressPool::default();
    pool.metadata.name = name.into();
    pool.spec.is_default = true;
    pool.spec.families = vec![FamilySpec {
        ranges: vec![range.into()],
        ..FamilySpec::default()
    }];
    pool
}

/// A cluster's life: pools made, masked and deleted, a reservation, Pods that come and go, a full
/// pool, a reboot, a burial, a machine that was buried alive.
fn life() -> World {
    let mut world = World::new(11, Faults::default());
    world.configure(|config: &mut AgentConfig| config.removes_displaced_pods = true);
    for (name, range) in [("a", "10.0.0.0/29"), ("gone", "10.9.0.0/29")] {
        world.with_store(|store| store.create(pool(name, range).into()).unwrap());
    }
    world.start_controller("c1");
    world.add_node("n0");
    world.add_node("n1");
    seconds(&mut world, 5);
    for name in ["p0", "p1", "p2"] {
        pod(&mut world, "n0", name);
    }
    pod(&mut world, "n1", "q0");
    seconds(&mut world, 5);
    for (name, pool, address) in [("kept", "a", "10.0.0.7"), ("early", "gone", "10.9.0.5")] {
        let mut kept = AddressReservation::default();
        kept.metadata.name = name.into();
        kept.spec.pool = pool.into();
        kept.spec.address = address.parse().ok();
        kept.spec.pod_namespace = "default".into();
        kept.spec.pod_name = name.into();
        world.with_store(|store| store.create(kept.into()).unwrap());
    }
    seconds(&mut world, 10);
    world.with_store(|store| {
        let key = ObjectKey::cluster(Kind::AddressPool, "a");
        let Object::AddressPool(mut masked) = store.get(&key).unwrap() else {
            panic!("a pool")
        };
        masked.spec.families[0].exclude = vec!["10.0.0.6".into()];
        store
            .replace(Object::AddressPool(masked), Part::Main)
            .unwrap();
        store.mark_deleted(&ObjectKey::cluster(Kind::AddressReservation, "early"));
        store.mark_deleted(&ObjectKey::cluster(Kind::AddressPool, "gone"));
    });
    seconds(&mut world, 30);
    for index in 0..8 {
        pod(&mut world, "n1", &format!("full{index}"));
    }
    seconds(&mut world, 60);
    world.delete_pod("p0", Duration::from_secs(1), false);
    world.reboot("n0");
    world.start_agent("n0");
    seconds(&mut world, 60);
    world.kill_agent("n1");
    world.with_store(|store| {
        let key = ObjectKey::cluster(Kind::BerthNode, "machine-n1");
        let Object::BerthNode(mut machine) = store.get(&key).unwrap() else {
            panic!("a BerthNode")
        };
        let annotations = &mut machine.metadata.annotations;
        annotations.insert(ANNOTATION_BURY.into(), "off".into());
        store
            .replace(Object::BerthNode(machine), Part::Main)
            .unwrap();
    });
    seconds(&mut world, 900);
    for index in 0..8 {
        pod(&mut world, "n0", &format!("next{index}"));
    }
    seconds(&mut world, 60);
    world.start_agent("n1");
    seconds(&mut world, 120);
    world
}

/// Rights that a life in memory does not use, and who does.
const ELSEWHERE: &[(&str, &str, &str, &str)] = &[
    (
        "berth-agent",
        "events",
        "create",
        "the Events that it posts",
    ),
    (
        "berth-controller",
        "events",
        "create",
        "the Events that it posts",
    ),
    (
        "berth-agent",
        "pods",
        "get",
        "an ADD whose arguments lack the UID",
    ),
    (
        "berth-agent",
        "namespaces",
        "get",
        "a pool with a namespaceSelector",
    ),
];

#[test]
fn roles_allow_what_is_asked_for_and_nothing_else() {
    let world = life();
    for (role, programs) in [
        ("berth-agent", &["n0", "n1"][..]),
        ("berth-controller", &["c1"]),
    ] {
        let allowed = allowed(role);
        for (group, resource, verb) in &allowed {
            let words = [group, resource, verb];
            assert!(words.iter().all(|word| *word != "*"), "{role}: {words:?}");
        }
        let asked: BTreeSet<Right> = programs
            .iter()
            .flat_map(|program| world.asked(program))
            .map(|asked| right(&asked))
            .collect();
        let missing: Vec<&Right> = asked.difference(&allowed).collect();
        assert!(missing.is_empty(), "{role} does not allow {missing:?}");
        let elsewhere = |(_, resource, verb): &&Right| {
            ELSEWHERE
                .iter()
                .any(|(of, what, how, _)| *of == role && what == resource && how == verb)
        };
        let unused: Vec<&Right> = allowed
            .difference(&asked)
            .filter(|right| !elsewhere(right))
            .collect();
        assert!(
            unused.is_empty(),
            "{role} allows what nobody asks for: {unused:?}"
        );
    }
}

#[test]
fn the_base_has_the_crds_that_the_program_prints() {
    assert!(
        text("kustomize/crds.yaml") == crds::yaml(),
        "berthd crds > allocator/deploy/kustomize/crds.yaml"
    );
    assert!(
        text("helm/berth/crds/crds.yaml") == crds::yaml(),
        "berthd crds > allocator/deploy/helm/berth/crds/crds.yaml"
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "what a test may need of this machine is told by its environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What helm prints of the chart, with these options; `None` without helm.
fn rendered(options: &[&str]) -> Option<String> {
    let chart = deploy("helm/berth");
    let mut helm = Command::new(variable("HELM").unwrap_or_else(|| "helm".into()));
    helm.args(["template", "berth", "--namespace", "berth-system"]);
    helm.args(["--kube-version", "1.31.0"]).args(options);
    let Ok(rendered) = helm.arg(&chart).output() else {
        let required = variable("REQUIRE_HELM").is_some_and(|value| value == "1");
        assert!(!required, "REQUIRE_HELM=1, and there is no helm");
        eprintln!("skipped: no helm in PATH or HELM");
        return None;
    };
    let said = String::from_utf8_lossy(&rendered.stderr);
    assert!(rendered.status.success(), "{said}");
    Some(String::from_utf8(rendered.stdout).unwrap())
}

#[test]
fn the_image_is_made_of_static_binaries_and_nothing_else() {
    let file = text("image/Containerfile");
    let steps: Vec<&str> = file.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(steps[0], "FROM scratch");
    let copied = steps.iter().filter(|step| step.starts_with("COPY "));
    let programs: Vec<&str> = copied
        .map(|step| step.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(programs, ["berth", "berthd"]);
    // In an image without a linker nothing else would run.
    assert!(file.contains("RUSTFLAGS='-C target-feature=+crt-static'"));
    let entry = r#"ENTRYPOINT ["/usr/local/bin/berthd"]"#;
    assert_eq!(steps.last(), Some(&entry));
}

#[test]
fn the_notes_of_the_chart_say_whether_the_policies_are_on() {
    let condition = |name: &str| {
        let template = text(&format!("helm/berth/templates/{name}"));
        let mut lines = template.lines().map(str::trim);
        let line = lines.find(|line| line.contains("(eq $mode \"auto\")"));
        line.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    assert_eq!(condition("NOTES.txt"), condition("admission.yaml"));
    let notes = text("helm/berth/templates/NOTES.txt");
    let (on, off) = notes.split_once("{{- else }}\n").unwrap();
    assert!(on.contains("is bound to its own node by admission policies"));
    assert!(off.starts_with("WARNING: no admission policy binds"));
    assert!(off.contains("may write the records of all nodes and delete any Pod"));
}

#[test]
fn the_base_is_what_the_chart_renders() {
    let policies: &[&str] = &[
        "--show-only=templates/admission.yaml",
        "--set=admission.enabled=true",
    ];
    for (file, options) in [("berth.yaml", &[][..]), ("admission.yaml", policies)] {
        let Some(rendered) = rendered(options) else {
            return;
        };
        assert!(
            rendered == text(&format!("kustomize/{file}")),
            "helm template berth --namespace berth-system --kube-version 1.31.0 {} \
             allocator/deploy/helm/berth > allocator/deploy/kustomize/{file}",
            options.join(" ")
        );
    }
}

/// The policies use so little of the template language that no helm is needed to compare.
#[test]
fn the_base_has_the_policies_of_the_chart() {
    let template = text("helm/berth/templates/admission.yaml");
    let lines: Vec<&str> = template
        .lines()
        .filter(|line| !line.starts_with("{{-"))
        .collect();
    let rendered = lines
        .join("\n")
        .replace("{{ .Release.Namespace }}", "berth-system");
    assert!(!rendered.contains("{{"), "{rendered}");
    assert_eq!(
        documents(&rendered),
        documents(&text("kustomize/admission.yaml"))
    );
}

/// (API group, resource, verb) of what the policies look at.
fn guarded() -> BTreeSet<Right> {
    let mut guarded = BTreeSet::new();
    for policy in documents(&text("kustomize/admission.yaml")) {
        if policy["kind"] != "ValidatingAdmissionPolicy" {
            continue;
        }
        let rules = &policy["spec"]["matchConstraints"]["resourceRules"];
        let [rule] = rules.as_array().unwrap().as_slice() else {
            panic!("one rule each");
        };
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        for operation in rule["operations"].as_array().unwrap() {
            let verb = word(operation).to_lowercase();
            guarded.insert((
                word(&rule["apiGroups"][0]),
                word(&rule["resources"][0]),
                verb,
            ));
        }
    }
    guarded
}

#[test]
fn every_write_that_an_agent_may_ask_for_is_bound_to_its_node() {
    let writes: BTreeSet<Right> = allowed("berth-agent")
        .into_iter()
        .filter(|(_, _, verb)| !matches!(verb.as_str(), "get" | "list" | "watch"))
        .collect();
    assert_eq!(writes, guarded(), "the agent's role and the policies");
}

#[test]
fn every_policy_is_in_force_for_the_account_of_the_agents_and_fails_closed() {
    let all = documents(&text("kustomize/admission.yaml"));
    let account = documents(&text("kustomize/berth.yaml"))
        .into_iter()
        .find(|it| it["kind"] == "ClusterRoleBinding" && it["metadata"]["name"] == "berth-agent")
        .map(|binding| binding["subjects"][0].clone())
        .unwrap();
    let (namespace, name) = (&account["namespace"], &account["name"]);
    let user = format!(
        "system:serviceaccount:{}:{}",
        namespace.as_str().unwrap(),
        name.as_str().unwrap()
    );
    let mut count = 0;
    for policy in &all {
        if policy["kind"] != "ValidatingAdmissionPolicy" {
            continue;
        }
        count += 1;
        let name = &policy["metadata"]["name"];
        assert_eq!(policy["spec"]["failurePolicy"], "Fail", "{name}");
        let condition = policy["spec"]["matchConditions"][0]["expression"].as_str();
        let expected = format!("request.userInfo.username == \"{user}\"");
        assert_eq!(condition, Some(&*expected), "{name}");
        let bindings: Vec<&Value> = all
            .iter()
            .filter(|it| it["kind"] == "ValidatingAdmissionPolicyBinding")
            .filter(|it| it["spec"]["policyName"] == *name)
            .collect();
        let [binding] = bindings.as_slice() else {
            panic!("{name}: {} bindings", bindings.len());
        };
        assert_eq!(
            binding["spec"]["validationActions"],
            serde_json::json!(["Deny"])
        );
        // What is not looked up does not cost more with more nodes.
        let looks_up = policy["spec"]["paramKind"] != Value::Null;
        let selector = &binding["spec"]["paramRef"]["selector"]["matchExpressions"][0];
        assert_eq!(looks_up, *selector != Value::Null, "{name}");
        if looks_up {
            assert_eq!(selector["key"], LABEL_STATES_NODE, "{name}");
            assert_eq!(selector["operator"], "DoesNotExist", "{name}");
        }
    }
    assert_eq!(count, 5);
}

#[test]
fn the_policies_speak_of_what_the_programs_write() {
    let policies = text("kustomize/admission.yaml");
    for word in [
        ANNOTATION_BURY,
        ANNOTATION_RELEASE,
        FINALIZER,
        LABEL_POOL,
        LABEL_ROOM,
        LABEL_STATES_NODE,
    ] {
        assert!(policies.contains(&format!("\"{word}\"")), "{word}");
    }
    let blocks = format!("object.spec.schema <= {SCHEMA} ");
    let machines = format!("object.spec.?schema.orValue(0) <= {}\n", objects::SCHEMA);
    for schema in [blocks, machines] {
        assert!(policies.contains(&schema), "{schema}");
    }
}

#[test]
fn the_agent_mounts_directories_of_the_host_so_that_what_is_made_anew_in_them_is_seen() {
    let base = documents(&text("kustomize/berth.yaml"));
    let agent = base
        .iter()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap();
    let pod = &agent["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let argument = |name: &str| {
        let mut arguments = container["args"].as_array().unwrap().iter();
        let found = arguments.find_map(|a| a.as_str().unwrap().strip_prefix(name));
        PathBuf::from(found.unwrap_or_else(|| panic!("no {name}")))
    };
    let mut mounted = std::collections::BTreeMap::new();
    for volume in pod["volumes"].as_array().unwrap() {
        let name = volume["name"].as_str().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
        // The one file is read once, at start.
        if name == "machine-id" {
            continue;
        }
        assert_eq!(volume["hostPath"]["type"], "DirectoryOrCreate", "{name}");
        assert_eq!(mount["mountPropagation"], "HostToContainer", "{name}");
        let inside = PathBuf::from(mount["mountPath"].as_str().unwrap());
        let outside = PathBuf::from(volume["hostPath"]["path"].as_str().unwrap());
        mounted.insert(inside, outside);
    }
    let socket = argument("--runtime-socket=");
    let outside = mounted[socket.parent().unwrap()].join(socket.file_name().unwrap());
    assert_eq!(outside, PathBuf::from("/run/containerd/containerd.sock"));
    for option in [
        "--state-directory=",
        "--netns-directory=",
        "--plugin-directory=",
    ] {
        assert!(mounted.contains_key(&argument(option)), "{option}");
    }
    assert!(mounted.contains_key(argument("--socket=").parent().unwrap()));
}

#[test]
fn every_sample_is_read_by_who_will_read_it() {
    let mut networks = 0;
    for entry in std::fs::read_dir(deploy("samples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        for document in documents(&text(&format!("samples/{name}"))) {
            match document["kind"].as_str().unwrap() {
                kind @ ("AddressPool" | "AddressReservation") => {
                    let kind = match kind {
                        "AddressPool" => Kind::AddressPool,
                        _ => Kind::AddressReservation,
                    };
                    let object = decode(kind, &document).unwrap();
                    assert_eq!(object.set_aside(), None, "{name}");
                    assert_eq!(unknown_fields(&object), [""; 0], "{name}");
                    if let Object::AddressPool(pool) = object {
                        berth::core::pool::Pool::parse(&pool, None).unwrap();
                    }
                }
                "NetworkAttachmentDefinition" => {
                    let config: Value =
                        serde_json::from_str(document["spec"]["config"].as_str().unwrap()).unwrap();
                    // What libcni hands to the plugin: the plugin's part with version and name.
                    let mut part = config["plugins"][0].clone();
                    part["cniVersion"] = config["cniVersion"].clone();
                    part["name"] = config["name"].clone();
                    let bytes = part.to_string().into_bytes();
                    Config::decode(&bytes)
                        .and_then(|config| config.ipam().map(drop))
                        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
                    networks += 1;
                }
                "Pod" => {}
                other => panic!("{name}: {other}"),
            }
        }
    }
    assert_eq!(networks, 4, "macvlan, ipvlan, bridge, vlan");
}
