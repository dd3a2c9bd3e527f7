//! Tests of reading manifests: what is kept, what is listed, how mistakes are named.

#![allow(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::workload::{Controller, ImagePullPolicy, PodManagement, Stack};

fn read_one(text: &str) -> Result<Workload, ManifestErrors> {
    read(&[SourceFile {
        name: "web.yaml",
        text,
    }])
}

/// A Deployment, a StatefulSet, a Job and a Pod, with some fields that take no part.
const MIXED: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 3
  strategy: {type: Recreate}
  selector: {matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [web]}]}
  template:
    metadata:
      labels: {app: web}
      annotations: {k8s.v1.cni.cncf.io/networks: macvlan}
    spec:
      nodeSelector: {disk: fast}
      terminationGracePeriodSeconds: 5
      containers:
      - {name: app, image: \"registry:5000/web\", resources: {requests: {cpu: 1}}}
      - {name: side, image: \"side:1.0\"}
---
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: db, namespace: data}
  spec:
    podManagementPolicy: Parallel
    selector: {matchLabels: {app: db}}
    template:
      metadata: {labels: {app: db}}
      spec: {containers: [{name: db, image: \"db@sha256:00\"}]}
- apiVersion: batch/v1
  kind: Job
  metadata: {name: once, annotations: {drydock.dev/run-seconds: \"90\"}}
  spec:
    parallelism: 4
    completions: 8
    template:
      spec: {restartPolicy: Never, containers: [{name: c, image: \"c:1\"}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: bare}
  spec: {nodeName: worker4, hostNetwork: true, containers: [{name: c, image: \"c:latest\"}]}
";

#[test]
fn all_simulated_kinds_are_read_and_the_rest_is_listed() {
    let workload = read_one(MIXED).unwrap();
    let kinds: Vec<_> = workload
        .objects
        .iter()
        .map(|object| object.controller)
        .collect();
    let pod_management = PodManagement::Parallel;
    assert_eq!(
        kinds,
        [
            Controller::Deployment { replicas: 3 },
            Controller::StatefulSet {
                replicas: 1,
                pod_management
            },
            Controller::Job {
                parallelism: 4,
                completions: Some(8),
                run_seconds: Some(90)
            },
            Controller::Pod,
        ]
    );
    assert_eq!(workload.pod_count(), 9);
    let web = &workload.objects[0].template;
    let policies: Vec<_> = web
        .containers
        .iter()
        .map(|each| each.image_pull_policy)
        .collect();
    assert_eq!(
        policies,
        [ImagePullPolicy::Always, ImagePullPolicy::IfNotPresent]
    );
    assert_eq!(web.termination_grace_period_seconds, 5);
    let bare = &workload.objects[3].template;
    assert_eq!(
        (bare.node_name.as_deref(), bare.host_network),
        (Some("worker4"), true)
    );
    let listed: Vec<_> = workload
        .not_simulated
        .iter()
        .map(ToString::to_string)
        .collect();
    expect![[r#"
        web.yaml:1 (document 1): Deployment `web` spec.template.spec.containers[0].resources: not simulated: the scheduler counts every Pod as without requests
        web.yaml:1 (document 1): Deployment `web` spec.strategy: not simulated: nothing is rolled out or rolled back
        web.yaml:20 (document 3): ConfigMap `settings`: not simulated: it changes nothing about Pods and their addresses here
        web.yaml:37 (document 4): Job `once` spec.template.spec.restartPolicy: not simulated: no container fails"#]]
    .assert_eq(&listed.join("\n"));
}

#[test]
fn a_job_without_run_seconds_is_listed_and_runs_for_ever() {
    let workload = read_one(&MIXED.replace("drydock.dev/run-seconds", "other/key")).unwrap();
    let job = workload.objects[2].controller;
    assert!(matches!(
        job,
        Controller::Job {
            run_seconds: None,
            ..
        }
    ));
    let last = workload.not_simulated.last().unwrap();
    assert_eq!(last.field, "metadata.annotations[drydock.dev/run-seconds]");
}

#[test]
fn a_mistake_is_named_with_its_place_and_what_is_allowed() {
    for (change, message) in [
        (
            ("kind: Deployment", "kind: Deploymnt"),
            "web.yaml:2:7: document 1, kind: unknown kind `Deploymnt` (did you mean Deployment?): simulated are Deployment, ReplicaSet, StatefulSet, Job, Pod, List and AddressPool; other kinds of Kubernetes are listed and skipped",
        ),
        (
            ("apps/v1", "extensions/v1beta1"),
            "web.yaml:1:13: document 1, apiVersion: `extensions/v1beta1` does not serve Deployment: allowed is apps/v1",
        ),
        (
            ("replicas: 3", "replicas: -1"),
            "web.yaml:5:13: document 1, Deployment `web`, spec.replicas: the number -1 is not allowed: a whole number from 0 to 100000 is",
        ),
        (
            ("replicas: 3", "replicas: three"),
            "web.yaml:5:13: document 1, Deployment `web`, spec.replicas: the text `three` is not allowed: a whole number from 0 to 100000 is",
        ),
        (
            ("replicas: 3", "replcias: 3"),
            "web.yaml:5:3: document 1, Deployment `web`, spec.replcias: unknown field `replcias`: did you mean `replicas`?",
        ),
        (
            ("replicas: 3", "replicas: 100001"),
            "web.yaml:5:13: document 1, Deployment `web`, spec.replicas: the number 100001 is not allowed: a whole number from 0 to 100000 is",
        ),
        (
            ("matchLabels: {app: web}", "matchLabels: {app: wob}"),
            "web.yaml:7:13: document 1, Deployment `web`, spec.selector: `selector` does not match template `labels`: app=wob is not among them",
        ),
        (
            ("operator: In", "operator: NotIn"),
            "web.yaml:7:58: document 1, Deployment `web`, spec.selector.matchExpressions[0]: `selector` does not match template `labels`: see `app`",
        ),
        (
            ("name: web,", "name: Web_1,"),
            "web.yaml:3:18: document 1, Deployment `Web_1`, metadata.name: `Web_1` is not a DNS-1123 subdomain: at most 253 lower case letters, digits, `-` and `.`, with a letter or digit at both ends of each part",
        ),
        (
            ("{disk: fast}", "{disk: on}"),
            "web.yaml:13:28: document 1, Deployment `web`, spec.template.spec.nodeSelector[disk]: the boolean true is not allowed: a text (quote it) is",
        ),
        (
            ("Parallel", "parallel"),
            "web.yaml:32:26: document 4, StatefulSet `db`, spec.podManagementPolicy: `parallel` is not allowed: one of OrderedReady, Parallel is",
        ),
        (
            ("restartPolicy: Never, ", ""),
            "web.yaml:44:13: document 4, Job `once`, spec.template.spec.restartPolicy: required in a Job: one of OnFailure, Never is allowed",
        ),
        (
            ("name: app, image", "image"),
            "web.yaml:16:9: document 1, Deployment `web`, spec.template.spec.containers[0].name: required, and missing",
        ),
        (
            ("\"90\"", "\"soon\""),
            "web.yaml:39:20: document 4, Job `once`, metadata.annotations[drydock.dev/run-seconds]: `soon` is not allowed: a whole number from 0 to 31536000 is",
        ),
        (
            ("metadata: {name: settings}", "metadata: {name: settings"),
            "web.yaml:23:5: malformed YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        ),
        (
            ("  replicas: 3", "  replicas: 3\n  replicas: 4"),
            "web.yaml:6:3: the key `replicas` stands twice in one map",
        ),
    ] {
        assert!(MIXED.contains(change.0), "{}", change.0);
        let errors = read_one(&MIXED.replacen(change.0, change.1, 1)).unwrap_err();
        assert_eq!(errors.to_string(), message);
    }
}

#[test]
fn the_first_error_of_each_document_is_shown() {
    let text = MIXED
        .replace("replicas: 3", "replicas: x")
        .replace("Parallel", "Serial");
    assert_eq!(read_one(&text).unwrap_err().0.len(), 2);
}

#[test]
fn the_same_name_twice_is_refused_across_files() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}";
    let sources = ["one.yaml", "two.yaml"].map(|name| SourceFile { name, text: pod });
    let error = read(&sources).unwrap_err().to_string();
    assert_eq!(
        error,
        "two.yaml:1:46: document 1, Pod `a`, metadata.name: already exists: the first one is at \
         one.yaml:1 (document 1)"
    );
}

#[test]
fn skipped_kinds_are_listed_whatever_they_hold() {
    let text = "{apiVersion: a/v1, kind: Gateway, metadata: {name: A_b, odd: 1}}\n---\n\
                {apiVersion: b/v1, kind: Gateway, metadata: {name: A_b}}\n---\n\
                {apiVersion: k/v1, kind: Kustomization, resources: []}\n";
    let workload = read_one(text).unwrap();
    let names: Vec<_> = workload
        .not_simulated
        .iter()
        .map(|each| (each.kind.as_str(), each.name.as_str()))
        .collect();
    assert_eq!(
        names,
        [
            ("Gateway", "A_b"),
            ("Gateway", "A_b"),
            ("Kustomization", "")
        ]
    );
    assert_eq!(workload.not_simulated_groups()[0].document_count, 2);
}

fn pool(families: &str) -> String {
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: AddressPool\nmetadata:\n  name: p\nspec:\n  \
         blockSize: 32\n  default: true\n  families:\n{families}"
    )
}

#[test]
fn a_dual_pool_is_read_with_its_usable_ordinals() {
    let text = pool(
        "  - {ranges: [10.0.0.0/24, 10.0.2.1-10.0.2.9], gateway: 10.0.0.1}\n  \
         - {ranges: [\"fd00::/64\"], exclude: [\"fd00::-fd00::f\"], gateway: \"fd00::1\"}\n  \
         routes: [{dst: 0.0.0.0/0}, {dst: \"::/0\", gw: \"fd00::1\"}]\n",
    );
    let workload = read_one(&text).unwrap();
    let pool = &workload.pools[0];
    assert_eq!(pool.stack(), Some(Stack::Dual));
    assert_eq!(pool.usable_ordinal_count(u64::MAX), 265 - 16);
    assert_eq!(pool.spec["default"], true);
    assert_eq!(pool.routes.len(), 2);
}

#[test]
fn a_pool_without_a_usable_address_names_the_pool_and_the_key() {
    for (families, message) in [
        (
            "  - ranges: []\n",
            "spec.families[0].ranges: the pool `p` has no usable address",
        ),
        (
            "  - {ranges: [10.0.0.1], gateway: 10.0.0.1}\n",
            "spec.families: the pool `p` has no usable",
        ),
        (
            "  - {ranges: [10.0.0.9-10.0.0.1]}\n",
            "spec.families[0].ranges[0]: in the pool `p`: `10.0.0.9-10.0.0.1` runs backwards",
        ),
        (
            "  - {ranges: [10.0.0.0/8, 10.1.0.0/16]}\n",
            "spec.families[0].ranges[1]: 10.1.0.0-10.1.255.255 overlaps",
        ),
        (
            "  - {ranges: [10.0.0.0/33]}\n",
            "`10.0.0.0/33` is not a range: allowed are",
        ),
        (
            "  - {ranges: [10.0.0.0/8, \"fd00::/64\"]}\n",
            "not allowed in one entry with IPv4",
        ),
        (
            "  - {ranges: [10.0.0.0/8]}\n  - {ranges: [11.0.0.0/8]}\n",
            "spec.families[1]: IPv4 stands twice",
        ),
        (
            "  - {ranges: [10.0.0.0/8], gateway: \"fd00::1\"}\n",
            "gateway: `fd00::1` is not allowed: an IPv4",
        ),
        (
            "  - {range: [10.0.0.0/8]}\n",
            "ranges: the pool `p` has no usable address",
        ),
    ] {
        let error = read_one(&pool(families)).unwrap_err().to_string();
        assert!(error.contains(message), "{message}\n{error}");
    }
}

#[test]
fn anchors_and_merge_keys_are_followed_and_bombs_are_refused() {
    let text = "base: &base {name: a, image: a:1}\nall: [*base, {<<: *base, name: b}]\n";
    let documents = tree::parse(&SourceFile { name: "a", text }).unwrap();
    let all = documents[0].node.value.to_json();
    assert_eq!(
        all["all"][1],
        serde_json::json!({"name": "b", "image": "a:1"})
    );
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let previous = level - 1;
        let aliases = vec![format!("*a{previous}"); 10].join(",");
        bomb = format!(
            "{bomb}a{level}: &a{level} [{aliases}]
"
        );
    }
    for text in [
        bomb,
        "[".repeat(10_000),
        "&a [*a]".to_owned(),
        "- ".repeat(10_000),
    ] {
        assert!(read_one(&text).is_err());
    }
}

#[test]
fn plain_scalars_mean_what_they_mean_to_kubectl() {
    let text = "[yes, off, ~, 0x10, 0o17, 017, -5, 1.5, 1e3, 08, +7, nan, .inf, '1', 10.0.0.1, '']";
    let documents = tree::parse(&SourceFile { name: "a", text }).unwrap();
    expect![[r#"[true,false,null,16,15,15,-5,1.5,1000.0,8.0,7,"nan",".inf","1","10.0.0.1",""]"#]]
        .assert_eq(&documents[0].node.value.to_json().to_string());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_input_makes_the_reader_panic(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0..6usize, "[ -~\n]{0,6}"), 1..8),
        with_pool in any::<bool>(),
    ) {
        let mut text = MIXED.to_owned();
        if with_pool {
            text = pool("  - {ranges: [10.0.0.0/24], gateway: 10.0.0.1}\n") + "---\n" + MIXED;
        }
        for (at, length, insert) in cuts {
            // The text is ASCII, so every index is a character boundary.
            let start = at.index(text.len() + 1);
            let end = (start + length).min(text.len());
            text.replace_range(start..end, &insert);
        }
        if let Err(errors) = read_one(&text) {
            prop_assert!(errors.0.iter().all(|error| error.line > 0 && !error.message.is_empty()));
        }
    }

    #[test]
    fn random_text_never_panics(text in "\\PC{0,200}") {
        let read = read_one(&text);
        prop_assert!(read.is_err() || read.is_ok_and(|workload| workload.objects.is_empty()));
    }
}
