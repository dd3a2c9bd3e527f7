//! Objects that cannot be read, in a cluster whose definitions let them in (an older release's
//! did): five hundred of them, each field of each kind in turn, come, are repaired and go, while
//! ten agents serve. A seed gives the same objects in each run.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::adapters::crds;
use berth::core::hash::mix;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::figures::{Requests, print};
use crate::node::{Node, await_that};
use crate::rig::{Pod, Rig};

const SEED: u64 = 0x6265_7274_6802;
const COUNT: usize = 500;
/// How many are there at once, damaged; as many more are repaired.
const AT_ONCE: usize = 6;
const NODES: usize = 10;
/// A pool that is approved is looked for after so many objects.
const HEALTHY_EVERY: usize = 20;
const APPROVED_WITHIN: Duration = Duration::from_secs(2);
/// An ADD in time: the runtime would wait for four minutes, a person not.
const ADD_WITHIN: Duration = Duration::from_secs(10);
/// Units: KiB. More than this on top of what it had: it keeps what is gone.
const MEMORY_MORE: u64 = 16 * 1024;
const ROOT: &str = "/apis/berth.dev/v1alpha1";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn draw(index: usize, purpose: u64, bound: usize) -> usize {
    (mix(mix(SEED, index as u64), purpose) % bound as u64) as usize
}

/// One of Berth's kinds, with an object that is in order; `index` makes it one of its own.
struct Model {
    plural: &'static str,
    make: fn(index: usize, aside: &Value) -> Value,
}

/// In the order of their turns.
const MODELS: [Model; 5] = [
    Model {
        plural: "addresspools",
        make: pool,
    },
    Model {
        plural: "addressreservations",
        make: reservation,
    },
    Model {
        plural: "addressblocks",
        make: block,
    },
    Model {
        plural: "berthnodes",
        make: machine,
    },
    Model {
        plural: "domainapprovals",
        make: approval,
    },
];

fn of(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

fn pool(index: usize, _aside: &Value) -> Value {
    let (high, low) = (index / 256, index % 256);
    let net = format!("10.{}.{low}", 50 + high);
    let six = format!("fd00:{index:x}::");
    let spec = json!({
        "schema": 1, "blockSize": 4, "domain": "", "default": false, "disabled": false,
        "coolDownSeconds": 1, "nodeSelector": {"zone": "none"}, "namespaces": ["none"],
        "podSelector": {"app": "none"}, "networks": ["none"],
        "routes": [{"dst": "10.99.0.0/16", "gw": format!("{net}.1")}], "dns": [format!("{net}.2")],
        "families": [
            {"ranges": [format!("{net}.0/28")], "exclude": [format!("{net}.3")],
             "gateway": format!("{net}.1"), "subnet": format!("{net}.0/24")},
            {"ranges": [format!("{six}/124")], "exclude": [format!("{six}3")],
             "gateway": format!("{six}1"), "subnet": format!("{six}/64")},
        ],
    });
    of("AddressPool", &format!("spoilt-{index}"), &spec)
}

fn reservation(index: usize, _aside: &Value) -> Value {
    let spec = json!({
        "schema": 1, "pool": "aside", "address": format!("10.30.0.{}", 240 + index / MODELS.len() % 12),
        "podNamespace": "none", "podName": format!("none-{index}"), "ownerUid": "u",
        "ownerName": "none",
    });
    of("AddressReservation", &format!("spoilt-{index}"), &spec)
}

/// A block of a pool from which nobody draws and in which nothing is kept: nobody else makes it.
fn block(index: usize, aside: &Value) -> Value {
    let number = (index / MODELS.len()) % 60;
    let spec = json!({
        "schema": 1, "pool": "aside", "poolUid": aside["metadata"]["uid"], "index": number,
        "size": 4, "first": [format!("10.30.0.{}", number * 4)], "writer": "an administrator",
        "records": "0 x;1 c 0",
    });
    let mut block = of("AddressBlock", &format!("aside-{number}"), &spec);
    block["metadata"]["labels"] =
        json!({"berth.dev/pool": "aside", "berth.dev/may-have-room": "true"});
    block
}

fn machine(index: usize, _aside: &Value) -> Value {
    let spec = json!({
        "schema": 1, "nodeName": format!("none-{index}"), "nodeUid": "u", "bootId": "b",
        "epoch": 2, "state": "Live", "former": [{"epoch": 1, "state": "Dying"}],
        "blocks": ["aside-0"], "writer": "w",
        "conditions": [{
            "type": "T", "status": "True", "reason": "R", "message": "m",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }],
    });
    of("BerthNode", &format!("spoilt{index}.none-{index}"), &spec)
}

fn approval(index: usize, _aside: &Value) -> Value {
    let spec = json!({
        "schema": 1,
        "pools": [{"name": "none", "uid": "u", "blockSize": 4, "ranges": [["10.40.0.0/28"]]}],
    });
    of("DomainApproval", &format!("spoilt-{index}"), &spec)
}

/// The paths of all fields below the spec, and of the spec itself.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                fields(value, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                fields(value, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// What may stand in the place of anything where no definition minds.
fn nonsense(index: usize) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("300.0.0.1/99"),
        json!("10.0.0.9-10.0.0.1"),
        json!("fd00::/0"),
        json!("x".repeat(5000)),
        json!([]),
        json!([null, 7]),
        json!({}),
        json!({"of a newer release": [{"x": {}}]}),
    ];
    values[draw(index, 1, values.len())].clone()
}

/// The object of this turn, damaged, and which field that is.
fn spoilt(index: usize, aside: &Value) -> (&'static Model, Value, String) {
    let model = &MODELS[index % MODELS.len()];
    let mut object = (model.make)(index, aside);
    let mut paths = Vec::new();
    fields(&object["spec"], "/spec", &mut paths);
    let path = paths.swap_remove((index / MODELS.len()) % paths.len());
    let value = if path == "/spec/schema" {
        json!(2 + draw(index, 2, 100))
    } else {
        nonsense(index)
    };
    *object.pointer_mut(&path).unwrap() = value;
    (model, object, path)
}

/// The cluster and what was seen of it.
struct Scene<'r> {
    rig: &'r Rig,
    aside: Value,
}

impl Scene<'_> {
    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let sent = self.rig.plane.send(method, path, body);
        self.rig.runtime.block_on(sent).unwrap()
    }

    /// Definitions as an older release might have left them: they check nothing.
    fn let_everything_in(&self) {
        for definition in crds::definitions() {
            let mut versions = definition["spec"]["versions"].clone();
            versions[0]["schema"] = json!({"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }});
            let name = definition["metadata"]["name"].as_str().unwrap();
            let patch = json!({"spec": {"versions": versions}});
            let path = format!("{DEFINITIONS}/{name}");
            self.rig.must(Method::PATCH, &path, Some(&patch));
        }
        for model in &MODELS {
            let path = format!("{ROOT}/{}?dryRun=All", model.plural);
            let mut object = (model.make)(0, &self.aside);
            object["spec"] = json!({"schema": "x"});
            await_that(Duration::from_secs(60), model.plural, || {
                let (status, answer) = self.send(Method::POST, &path, Some(&object));
                if status.is_success() {
                    return Ok(());
                }
                Err(answer.to_string())
            });
        }
    }

    fn create(&self, index: usize) {
        let (model, object, field) = spoilt(index, &self.aside);
        let path = format!("{ROOT}/{}", model.plural);
        let (status, answer) = self.send(Method::POST, &path, Some(&object));
        assert!(status.is_success(), "{index} {field}: {answer}");
    }

    fn path(&self, index: usize) -> String {
        let model = &MODELS[index % MODELS.len()];
        let object = (model.make)(index, &self.aside);
        let name = object["metadata"]["name"].as_str().unwrap();
        format!("{ROOT}/{}/{name}", model.plural)
    }

    /// As its administrator means it.
    fn mend(&self, index: usize) {
        let model = &MODELS[index % MODELS.len()];
        let path = self.path(index);
        await_that(Duration::from_secs(30), "an object is mended", || {
            let (status, mut object) = self.send(Method::GET, &path, None);
            assert!(status.is_success(), "{path}: {object}");
            object["spec"] = (model.make)(index, &self.aside)["spec"].clone();
            let (status, answer) = self.send(Method::PUT, &path, Some(&object));
            if status.is_success() {
                return Ok(());
            }
            Err(answer.to_string())
        });
    }

    fn delete(&self, index: usize) {
        let path = self.path(index);
        let (status, answer) = self.send(Method::DELETE, &path, None);
        assert!(status.is_success(), "{path}: {answer}");
    }

    /// How long a pool without a fault waits for its approval.
    fn approval(&self, index: usize) -> Duration {
        let name = format!("healthy-{index}");
        let (high, low) = (index / 256, index % 256);
        let spec = json!({
            "families": [{"ranges": [format!("10.{}.{low}.0/28", 60 + high)]}],
            "namespaces": ["none"],
        });
        let path = format!("{ROOT}/addresspools");
        self.rig
            .must(Method::POST, &path, Some(&of("AddressPool", &name, &spec)));
        let begin = boot_time();
        let path = format!("{path}/{name}");
        await_that(
            Duration::from_secs(60),
            "a healthy pool is approved",
            || {
                let pool = self.rig.must(Method::GET, &path, None);
                match pool["status"]["approved"].as_str() {
                    Some(text) if !text.is_empty() => Ok(()),
                    _ => Err(format!("{pool}\n{}", self.rig.controller_log())),
                }
            },
        );
        let took = boot_time().since(begin);
        self.rig.must(Method::DELETE, &path, None);
        took
    }

    /// All objects in turn: the times of approval, and how many this agent set aside at most.
    fn administrate(&self, witness: &Node) -> (Vec<Duration>, u64) {
        let mut approvals = Vec::new();
        let mut most = 0;
        for step in 0..COUNT + 2 * AT_ONCE {
            if step < COUNT {
                self.create(step);
            }
            if let Some(index) = step.checked_sub(AT_ONCE).filter(|index| *index < COUNT) {
                self.mend(index);
            }
            if let Some(index) = step.checked_sub(2 * AT_ONCE) {
                self.delete(index);
            }
            if step % HEALTHY_EVERY == 0 {
                approvals.push(self.approval(step));
                most = most.max(set_aside(witness));
            }
        }
        (approvals, most)
    }
}

/// Pods of this node come and go until it is enough, two at a time: how long each ADD took.
fn serve(
    rig: &Rig,
    node: &Node,
    live: &Mutex<BTreeSet<String>>,
    enough: &AtomicBool,
) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut former = None;
    let end = |(pod, address): (Pod, String)| {
        live.lock().unwrap().remove(&address);
        node.tear_down(&pod.name, &pod);
        rig.remove(&pod);
    };
    while !enough.load(Ordering::Relaxed) {
        let pod = rig.pod(node, &format!("{}-r{}", node.name, times.len()));
        node.begin(&pod);
        let run = node.plugin("ADD", &pod.name, &pod, Duration::from_secs(60));
        let log = || node.log_text();
        assert_eq!(run.code, 0, "{} {}\n{}", pod.name, run.stdout, log());
        times.push(run.took);
        let address = run.address();
        let is_new = live.lock().unwrap().insert(address.clone());
        assert!(is_new, "{address} twice");
        if let Some(former) = former.replace((pod, address)) {
            end(former);
        }
    }
    if let Some(last) = former {
        end(last);
    }
    times
}

/// How many objects the agent says that it cannot read.
fn set_aside(node: &Node) -> u64 {
    let page = node.page("/metrics").1;
    let counts = page
        .lines()
        .filter(|line| line.starts_with("berth_objects_set_aside{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
    counts.sum()
}

/// Units: KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.unwrap_or_else(|| panic!("{pid} has ended"));
    text.trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn five_hundred_objects_that_cannot_be_read_stop_no_agent_and_no_controller() {
    let Some(rig) = Rig::start("10.20.0.0/24", 4) else {
        return;
    };
    let aside = of(
        "AddressPool",
        "aside",
        &json!({"families": [{"ranges": ["10.30.0.0/24"]}], "blockSize": 4, "namespaces": ["none"]}),
    );
    let aside = rig.must(Method::POST, &format!("{ROOT}/addresspools"), Some(&aside));
    let scene = Scene { rig: &rig, aside };
    let mut nodes: Vec<_> = (0..NODES).map(|i| rig.node(&format!("n{i}"))).collect();
    nodes.iter_mut().for_each(Node::start);
    nodes.iter().for_each(Node::await_ready);
    scene.let_everything_in();
    let pids = || -> Vec<u32> {
        let agents = nodes.iter().map(Node::pid);
        agents.chain([rig.controller_pid()]).collect()
    };
    let before: Vec<(u32, u64)> = pids().into_iter().map(|pid| (pid, resident(pid))).collect();
    let requests = Requests::of(&nodes);
    let (enough, live) = (AtomicBool::new(false), Mutex::default());
    let begin = boot_time();
    let ((approvals, most), times) = std::thread::scope(|scope| {
        let serving: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| serve(&rig, node, &live, &enough)))
            .collect();
        let approvals = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            scene.administrate(&nodes[0])
        }));
        enough.store(true, Ordering::Relaxed);
        let times: Vec<Duration> = serving
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect();
        match approvals {
            Ok(approvals) => (approvals, times),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let took = boot_time().since(begin);
    let slowest = approvals.iter().max().unwrap();
    println!(
        "{COUNT} objects in {} s, at most {most} set aside; {} approvals, longest {} ms",
        took.as_secs(),
        approvals.len(),
        slowest.as_millis()
    );
    let longest = *times.iter().max().unwrap();
    print("beside them", times, Requests::of(&nodes) - requests);
    for (pid, was) in before {
        let is = resident(pid);
        println!("process {pid}: {was} KiB before, {is} KiB after");
        assert!(is < was + MEMORY_MORE, "{pid} keeps what is gone");
    }
    rig.await_holders(&[], Duration::from_secs(120));
    assert!(most > 0, "the agents did read them all: nothing was shown");
    for node in &nodes {
        await_that(
            Duration::from_secs(10),
            "what is gone is forgotten",
            || match set_aside(node) {
                0 => Ok(()),
                left => Err(format!("{} has {left} left", node.name)),
            },
        );
    }
    assert!(*slowest <= APPROVED_WITHIN, "{approvals:?}");
    assert!(longest <= ADD_WITHIN, "{longest:?}");
    for node in &nodes {
        let starts = node.log_text().matches("the agent starts").count();
        assert_eq!(starts, 1, "{}", node.name);
    }
}

#[test]
fn each_field_of_each_kind_is_spoilt_and_each_run_spoils_the_same() {
    let aside = json!({"metadata": {"uid": "u"}});
    for (turn, model) in MODELS.iter().enumerate() {
        let mut all = Vec::new();
        fields(&(model.make)(turn, &aside)["spec"], "/spec", &mut all);
        let spoilt: BTreeSet<String> = (0..COUNT)
            .filter(|index| index % MODELS.len() == turn)
            .map(|index| spoilt(index, &aside).2)
            .collect();
        let all: BTreeSet<String> = all.into_iter().collect();
        assert_eq!(spoilt, all, "{}", model.plural);
    }
    assert_eq!(spoilt(7, &aside).1, spoilt(7, &aside).1);
}
