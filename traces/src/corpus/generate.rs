//! Writes the stored manifests. It is run by hand (`cargo run -p drydock-traces --example
//! generate-corpus`) when they change, never during a run.

use std::fmt::Write;

use crate::workload::Stack;

/// An image that does nothing, with a fixed tag so that it is not pulled again.
const IMAGE: &str = "registry.k8s.io/pause:3.9";

/// Nodes of the published benchmark. Source: Spiderpool v0.8.0
/// docs/concepts/ipam-performance.md, section ENV.
pub fn benchmark_node_names(node_count: u32) -> Vec<String> {
    (1..=node_count)
        .map(|number| {
            if number <= 3 {
                format!("master{number}")
            } else {
                format!("worker{number}")
            }
        })
        .collect()
}

/// Every stored manifest with its path below `traces/corpus/`.
pub fn files() -> Vec<(&'static str, String)> {
    vec![
        ("benchmark/deployments.yaml", deployments("bench", 100, 10)),
        ("burst/pods.yaml", burst(1000, &benchmark_node_names(10))),
        ("real-node/deployments.yaml", deployments("real", 10, 10)),
        ("pools/ipv4.yaml", pool(Stack::Ipv4)),
        ("pools/ipv6.yaml", pool(Stack::Ipv6)),
        ("pools/dual.yaml", pool(Stack::Dual)),
    ]
}

fn deployments(prefix: &str, count: u32, replicas: u32) -> String {
    let mut text = String::new();
    for number in 0..count {
        let name = format!("{prefix}-{number:03}");
        let separator = if number == 0 { "" } else { "---\n" };
        write!(
            text,
            "{separator}apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      containers:
      - name: pause
        image: {IMAGE}
        imagePullPolicy: IfNotPresent
"
        )
        .expect("a string takes every text");
    }
    text
}

fn burst(count: u32, nodes: &[String]) -> String {
    let mut text = String::new();
    for (number, node) in (0..count).zip(nodes.iter().cycle()) {
        let separator = if number == 0 { "" } else { "---\n" };
        write!(
            text,
            "{separator}apiVersion: v1
kind: Pod
metadata:
  name: burst-{number:04}
spec:
  nodeName: {node}
  containers:
  - name: pause
    image: {IMAGE}
    imagePullPolicy: IfNotPresent
"
        )
        .expect("a string takes every text");
    }
    text
}

/// A pool with 1000 usable ordinals: 1001 addresses of which the first is the gateway.
fn pool(stack: Stack) -> String {
    let mut text = format!(
        "apiVersion: berth.dev/v1alpha1
kind: AddressPool
metadata:
  name: {stack}
spec:
  default: true
  families:
"
    );
    if stack != Stack::Ipv6 {
        text += "  - ranges:
    - 10.6.0.1-10.6.3.233
    gateway: 10.6.0.1
    subnet: 10.6.0.0/16
";
    }
    if stack != Stack::Ipv4 {
        text += "  - ranges:
    - fd00:6::1-fd00:6::3e9
    gateway: fd00:6::1
    subnet: fd00:6::/64
";
    }
    text
}
