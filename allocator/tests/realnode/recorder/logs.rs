//! What kubelet and containerd log.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::file::milliseconds;
use super::phases::Found;
use super::{Micros, Origin};

/// Only what is read here: all of level 4 would cost a kubelet more than its Pods.
pub(crate) const KUBELET_FLAGS: [&str; 2] =
    ["--v=2", "--vmodule=kubelet=4,volume_manager=3,request=3"];
/// Go's scheduler says each 100 ms how many goroutines wait for a processor.
pub(crate) const KUBELET_DEBUG: &str = "schedtrace=100";

pub(crate) const THROTTLE_COLUMNS: [&str; 4] = ["let-go-ms", "waited-ms", "verb", "path"];

#[derive(Default)]
pub(crate) struct Kubelet {
    pub phases: Vec<Found>,
    /// The requests that its own rate held back.
    pub throttled: Vec<Vec<Value>>,
    /// Which container or sandbox of a Pod the kubelet saw running when.
    pub started: Vec<(String, String, Micros)>,
    /// How many goroutines waited for a processor, each 100 ms.
    goroutines: Vec<i64>,
}

impl Kubelet {
    pub(crate) fn runnable(&self) -> Value {
        let mut sorted = self.goroutines.clone();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len().saturating_sub(1)) * percent / 100);
        json!({
            "period-ms": 100, "samples": sorted.len(),
            "p50": at(50), "p90": at(90), "p99": at(99), "most": sorted.last(),
        })
    }
}

/// What follows `mark` in `line`, up to `end`.
fn between<'a>(line: &'a str, mark: &str, end: char) -> Option<&'a str> {
    let (_, rest) = line.split_once(mark)?;
    rest.split_once(end).map(|(found, _)| found)
}

impl Kubelet {
    /// When it first saw each Pod's container running.
    pub(crate) fn seen_running(&self, sandboxes: &Sandboxes) -> Vec<Found> {
        let mut told = BTreeSet::new();
        let of_containers = self.started.iter().filter(|(_, id, _)| {
            let of = sandboxes.pod(id);
            of.is_some_and(|(_, is_sandbox)| !is_sandbox) && told.insert(id)
        });
        let found = |(pod, _, at): &(String, String, Micros)| Found::new(pod, "pleg-seen", *at);
        of_containers.map(found).collect()
    }
}

pub(crate) fn kubelet(log: &str, origin: Origin) -> Kubelet {
    let mut kubelet = Kubelet::default();
    let mut synced: BTreeMap<&str, u32> = BTreeMap::new();
    for line in log.lines() {
        kubelet.goroutines.extend(runnable(line));
        let Some((at, message)) = entry(line, origin) else {
            continue;
        };
        if message.starts_with("SyncLoop ADD") {
            for pod in message.split("\"default/").skip(1) {
                let pod = pod.split('"').next().unwrap_or_default();
                kubelet.phases.push(Found::new(pod, "kubelet-add", at));
            }
            continue;
        }
        if message.starts_with("Waited before sending request") {
            // Above a second it is said twice.
            let row = throttled(message, at).filter(|row| kubelet.throttled.last() != Some(row));
            kubelet.throttled.extend(row);
            continue;
        }
        let Some(pod) = between(message, "pod=\"default/", '"') else {
            continue;
        };
        let phase = if message.starts_with("SyncPod enter") {
            let count = synced.entry(pod).or_default();
            *count += 1;
            match *count {
                1 => "sync-begin",
                2 => "second-sync-begin",
                _ => continue,
            }
        } else if message.starts_with("SyncPod exit") {
            match synced.get(pod) {
                Some(1) => "sync-end",
                Some(2) => "second-sync-end",
                _ => continue,
            }
        } else if message.starts_with("All volumes are attached") {
            match synced.get(pod) {
                Some(1) => "volumes-mounted",
                _ => continue,
            }
        } else if message.starts_with("SyncLoop (PLEG)") && message.contains("ContainerStarted") {
            if let Some(id) = between(message, "\"Data\":\"", '"') {
                kubelet.started.push((pod.to_owned(), id.to_owned(), at));
            }
            continue;
        } else {
            continue;
        };
        kubelet.phases.push(Found::new(pod, phase, at));
    }
    kubelet
}

/// When and what. Go's scheduler writes to the same file, so its line may be before it, unfinished.
fn entry(line: &str, origin: Origin) -> Option<(Micros, &str)> {
    let (head, message) = line.split_once("] \"")?;
    let is_date = |text: &str| {
        let digits = text
            .get(1..5)
            .is_some_and(|date| date.bytes().all(|b| b.is_ascii_digit()));
        digits && text.starts_with(['I', 'W', 'E', 'F']) && text.get(5..6) == Some(" ")
    };
    let mut starts = head.char_indices().map(|(at, _)| &head[at..]);
    let head = starts.find(|text| is_date(text))?;
    Some((origin.of_time_of_day(&head[6..])?, message))
}

fn throttled(message: &str, at: Micros) -> Option<Vec<Value>> {
    let waited = duration(between(message, "delay=\"", '"')?)?;
    let verb = between(message, "verb=\"", '"')?;
    let address = between(message, "URL=\"", '"')?;
    let path = address.splitn(4, '/').last()?.split('?').next()?;
    Some(vec![
        milliseconds(at),
        milliseconds(waited),
        json!(verb),
        json!(path),
    ])
}

/// As Go prints it, below an hour: `1m2.5s`, `56.7ms`.
fn duration(text: &str) -> Option<Micros> {
    let number = |text: &str, weight: f64| Some((text.parse::<f64>().ok()? * weight) as Micros);
    if let Some(text) = text.strip_suffix("ms") {
        return number(text, 1e3);
    }
    let text = text.strip_suffix('s')?;
    match text.split_once('m') {
        Some((minutes, text)) => Some(number(minutes, 6e7)? + number(text, 1e6)?),
        None => number(text, 1e6),
    }
}

/// Goroutines that wait, in the queue of all and in those of each processor.
fn runnable(line: &str) -> Option<i64> {
    if !line.starts_with("SCHED ") {
        return None;
    }
    let (all, rest) = line.split_once(" runqueue=")?.1.split_once(' ')?;
    let local = between(rest, "[", ']')?;
    let local = local
        .split_whitespace()
        .filter_map(|word| word.parse::<i64>().ok());
    Some(all.parse::<i64>().ok()? + local.sum::<i64>())
}

/// Which Pod a sandbox or a container is of.
#[derive(Debug, Default)]
pub(crate) struct Sandboxes {
    /// Pod, and whether it is the sandbox.
    pods: BTreeMap<String, (String, bool)>,
}

impl Sandboxes {
    pub(crate) fn pod(&self, id: &str) -> Option<(&str, bool)> {
        let (pod, is_sandbox) = self.pods.get(id)?;
        Some((pod, *is_sandbox))
    }
}

/// What containerd's CRI plugin says of each Pod.
pub(crate) fn containerd(log: &str, origin: Origin) -> (Sandboxes, Vec<Found>) {
    let mut sandboxes = Sandboxes::default();
    let mut found = Vec::new();
    for line in log.lines() {
        let Some(at) = between(line, "time=\"", '"').and_then(|time| origin.of_timestamp(time))
        else {
            continue;
        };
        let Some((_, message)) = line.split_once(" msg=\"") else {
            continue;
        };
        let message = message.replace("\\\"", "\"");
        if let Some(rest) = message.strip_prefix("RunPodSandbox for ") {
            let Some(pod) = between(rest, "Name:", ',') else {
                continue;
            };
            match between(rest, "returns sandbox id \"", '"') {
                Some(id) => {
                    sandboxes.pods.insert(id.to_owned(), (pod.to_owned(), true));
                    found.push(Found::new(pod, "sandbox-end", at));
                }
                None => found.push(Found::new(pod, "sandbox-begin", at)),
            }
        } else if let Some(rest) = message.strip_prefix("CreateContainer within sandbox \"") {
            let Some((pod, _)) = rest.split('"').next().and_then(|id| sandboxes.pod(id)) else {
                continue;
            };
            let pod = pod.to_owned();
            match between(rest, "returns container id \"", '"') {
                Some(id) => {
                    found.push(Found::new(&pod, "create-end", at));
                    sandboxes.pods.insert(id.to_owned(), (pod, false));
                }
                None => found.push(Found::new(&pod, "create-begin", at)),
            }
        } else if let Some(rest) = message.strip_prefix("StartContainer for \"") {
            let Some((pod, _)) = rest.split('"').next().and_then(|id| sandboxes.pod(id)) else {
                continue;
            };
            let is_end = rest.contains("returns successfully");
            let name = if is_end { "start-end" } else { "start-begin" };
            found.push(Found::new(pod, name, at));
        }
    }
    (sandboxes, found)
}

#[test]
fn a_pods_way_through_containerd_is_read() {
    let log = r#"
time="1970-01-01T00:00:01.5Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:real-0,Uid:u,Namespace:default,Attempt:0,}"
time="1970-01-01T00:00:02Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:real-0,Uid:u,Namespace:default,Attempt:0,} returns sandbox id \"s1\""
time="1970-01-01T00:00:03Z" level=info msg="CreateContainer within sandbox \"s1\" for container &ContainerMetadata{Name:pause,Attempt:0,}"
time="1970-01-01T00:00:04Z" level=info msg="CreateContainer within sandbox \"s1\" for &ContainerMetadata{Name:pause,Attempt:0,} returns container id \"c1\""
time="1970-01-01T00:00:05Z" level=info msg="StartContainer for \"c1\" returns successfully"
"#;
    let (sandboxes, found) = containerd(log, Origin { wall: 0 });
    assert_eq!(sandboxes.pod("s1"), Some(("real-0", true)));
    assert_eq!(sandboxes.pod("c1"), Some(("real-0", false)));
    let seen = [("s1", 1), ("c1", 2), ("c1", 3)];
    let kubelet = Kubelet {
        started: seen
            .map(|(id, at)| ("real-0".to_owned(), id.to_owned(), at))
            .to_vec(),
        ..Kubelet::default()
    };
    let pleg_seen = Found::new("real-0", "pleg-seen", 2);
    assert_eq!(kubelet.seen_running(&sandboxes), [pleg_seen]);
    let second = |name, seconds| Found::new("real-0", name, seconds);
    let expected = [
        second("sandbox-begin", 1_500_000),
        second("sandbox-end", 2_000_000),
        second("create-begin", 3_000_000),
        second("create-end", 4_000_000),
        second("start-end", 5_000_000),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_pods_way_through_the_kubelet_is_read() {
    let log = r#"
I0101 00:00:01.000001   77 kubelet.go:1] "SyncLoop ADD" source="api" pods=["default/a","default/b"]
I0101 00:00:02.000000   77 kubelet.go:1] "SyncPod enter" pod="default/a" podUID="u"
SCHED 1002ms: gomaxprocs=2 idleprocs=0 threads=9 spinningthreads=0 idlethreads=3 runqueue=7 [ 2 1 ]
SCHED 1102ms: gomaxprocs=2 idleprocs=0 thI0101 00:00:03.000000   77 kubelet.go:1] "SyncPod exit" pod="default/a" podUID="u" isTerminal=false
I0101 00:00:04.000000   77 request.go:1] "Waited before sending request" delay="1.5s" reason="r" verb="GET" URL="https://127.0.0.1:1/api/v1/namespaces/default/pods/a"
"#;
    let kubelet = kubelet(log, Origin { wall: 0 });
    let expected = [
        Found::new("a", "kubelet-add", 1_000_001),
        Found::new("b", "kubelet-add", 1_000_001),
        Found::new("a", "sync-begin", 2_000_000),
        // Although a line of the scheduler is in front of it.
        Found::new("a", "sync-end", 3_000_000),
    ];
    assert_eq!(kubelet.phases, expected);
    assert_eq!(kubelet.goroutines, [10]);
    let path = json!("api/v1/namespaces/default/pods/a");
    assert_eq!(
        kubelet.throttled,
        [[json!(4000.0), json!(1500.0), json!("GET"), path]]
    );
    assert_eq!(duration("1m2.5s"), Some(62_500_000));
    assert_eq!(duration("56.7ms"), Some(56_700));
}
