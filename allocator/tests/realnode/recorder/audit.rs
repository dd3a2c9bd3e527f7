//! The apiserver's audit log: who asked for what, when it came and when it was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::file::{milliseconds, spread};
use super::phases::{Found, Pods};
use super::{Micros, Origin};
use crate::enclosure::Place;
use crate::node::{NODE, text};

pub(crate) fn log(place: &Place) -> PathBuf {
    place.directory.join("audit.log")
}

/// What the apiserver is started with.
pub(crate) fn flags(place: &Place) -> [String; 2] {
    let policy = place.directory.join("audit-policy.json");
    // The bodies of two requests tell which Pod a token is for, and what a status says.
    let content = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted", "Panic"],
        "rules": [
            {"level": "Request", "resources": [
                {"group": "", "resources": ["serviceaccounts/token", "pods/status"]},
            ]},
            {"level": "None", "verbs": ["watch"]},
            {"level": "Metadata"},
        ],
    });
    fs::write(&policy, content.to_string()).unwrap();
    [
        format!("--audit-policy-file={}", text(&policy)),
        format!("--audit-log-path={}", text(&log(place))),
    ]
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    received: Micros,
    answered: Micros,
    user: String,
    verb: String,
    /// With its subresource.
    resource: String,
    pod: Option<String>,
    is_running: bool,
}

fn request(line: &str, origin: Origin) -> Option<Request> {
    let event: Value = serde_json::from_str(line).ok()?;
    let time = |name: &str| origin.of_timestamp(event[name].as_str()?);
    let object = &event["objectRef"];
    let mut resource = object["resource"].as_str()?.to_owned();
    if let Some(subresource) = object["subresource"].as_str() {
        resource = format!("{resource}/{subresource}");
    }
    let body = &event["requestObject"];
    let pod = match resource.as_str() {
        "serviceaccounts/token" => body["spec"]["boundObjectRef"]["name"].as_str(),
        _ if resource.starts_with("pods") => object["name"].as_str(),
        _ => None,
    };
    Some(Request {
        received: time("requestReceivedTimestamp")?,
        answered: time("stageTimestamp")?,
        user: event["user"]["username"].as_str()?.to_owned(),
        verb: event["verb"].as_str()?.to_owned(),
        pod: pod.map(str::to_owned),
        is_running: body["status"]["phase"] == json!("Running"),
        resource,
    })
}

pub(crate) fn requests(log: &str, origin: Origin) -> Vec<Request> {
    let mut requests: Vec<_> = log
        .lines()
        .filter_map(|line| request(line, origin))
        .collect();
    requests.sort_by_key(|request| (request.received, request.answered));
    requests
}

fn is_kubelets(request: &Request) -> bool {
    request.user.strip_prefix("system:node:") == Some(NODE)
}

/// The phases of each Pod that the apiserver saw.
pub(crate) fn phases(requests: &[Request]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for request in requests {
        let Some(pod) = &request.pod else { continue };
        let names = match (request.verb.as_str(), request.resource.as_str()) {
            ("create", "pods/binding") => ["binding-received", "bound"],
            ("create", "serviceaccounts/token") => ["token-received", "token-answered"],
            ("patch", "pods/status") if is_kubelets(request) && request.is_running => {
                ["running-received", "running-answered"]
            }
            // The first says that its containers are created, the next that its sandbox is.
            ("patch", "pods/status") if is_kubelets(request) && told.insert(pod) => {
                ["creating-received", "creating-answered"]
            }
            ("patch", "pods/status") if is_kubelets(request) => {
                ["sandbox-told-received", "sandbox-told-answered"]
            }
            _ => continue,
        };
        found.push(Found::new(pod, names[0], request.received));
        found.push(Found::new(pod, names[1], request.answered));
    }
    found
}

pub(crate) const COUNT_COLUMNS: [&str; 7] = [
    "user", "verb", "resource", "count", "ms-p50", "ms-p90", "ms-max",
];

/// One row for each user, verb and resource.
pub(crate) fn counts(requests: &[Request]) -> Vec<Vec<Value>> {
    let mut groups: BTreeMap<[&str; 3], Vec<Micros>> = BTreeMap::new();
    for request in requests.iter().filter(|request| request.received >= 0) {
        let key = [&request.user, &request.verb, &request.resource].map(String::as_str);
        let took = request.answered - request.received;
        groups.entry(key).or_default().push(took);
    }
    let row = |([user, verb, resource], took): ([&str; 3], Vec<Micros>)| {
        let [p50, p90, max] = spread(&took);
        let count = json!(took.len());
        vec![
            json!(user),
            json!(verb),
            json!(resource),
            count,
            p50,
            p90,
            max,
        ]
    };
    groups.into_iter().map(row).collect()
}

pub(crate) const CALL_COLUMNS: [&str; 4] = ["received-ms", "took-ms", "what", "pod"];

/// Each request of the kubelet's main client, which its rate holds back: no events, no leases. Pods
/// are told by their row among all Pods.
pub(crate) fn of_kubelet(requests: &[Request], pods: &Pods) -> Vec<Vec<Value>> {
    let names = pods.names();
    let number = |pod: &String| names.iter().position(|name| *name == pod);
    let is_limited = |request: &&Request| {
        is_kubelets(request)
            && request.received >= 0
            && !["events", "leases", "nodes", "nodes/status"].contains(&request.resource.as_str())
    };
    let row = |request: &Request| {
        let outcome = if request.is_running { " Running" } else { "" };
        let what = format!("{} {}{outcome}", request.verb, request.resource);
        let took = request.answered - request.received;
        vec![
            milliseconds(request.received),
            milliseconds(took),
            json!(what),
            json!(request.pod.as_ref().and_then(number)),
        ]
    };
    requests.iter().filter(is_limited).map(row).collect()
}

#[test]
fn an_audited_token_is_its_pods() {
    let line = json!({
        "stage": "ResponseComplete", "verb": "create", "user": {"username": "system:node:real-node"},
        "objectRef": {
            "resource": "serviceaccounts", "subresource": "token", "name": "default",
        },
        "requestObject": {"spec": {"boundObjectRef": {"kind": "Pod", "name": "real-000-a"}}},
        "requestReceivedTimestamp": "2026-12-01T00:00:01.000000Z",
        "stageTimestamp": "2026-12-01T00:00:01.004000Z",
    });
    let requests = requests(&line.to_string(), Origin { wall: 0 });
    assert_eq!(
        phases(&requests),
        [
            Found::new("real-000-a", "token-received", 1_000_000),
            Found::new("real-000-a", "token-answered", 1_004_000),
        ]
    );
}
