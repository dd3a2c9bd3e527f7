//! What the policies cost where there are a thousand nodes: the same update of a block, without a
//! policy, with the deployment's, and with one that looks every machine up, in turn in one run.

use std::time::Duration;

use berth::adapters::clock::boot_time;
use berth::testing::control_plane::{ControlPlane, TokenUser};
use http::Method;
use serde_json::{Value, json};

const ROOT: &str = "/apis/berth.dev/v1alpha1";
const MACHINES: usize = 1000;
const ROUNDS: u32 = 6;
/// In each round, and where each costs half a second of the apiserver.
const UPDATES: u32 = 20;
const DEAR_UPDATES: u32 = 2;

/// An account that may do what an agent may, and that the deployment's policies do not know.
const FREE: &str = r"
kind: ServiceAccount
apiVersion: v1
metadata: {name: free, namespace: berth-system}
---
kind: ClusterRoleBinding
apiVersion: rbac.authorization.k8s.io/v1
metadata: {name: free}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: berth-agent}
subjects:
  - {kind: ServiceAccount, name: free, namespace: berth-system}
";

/// The same rule with the machines' nodes looked up: every BerthNode is a parameter.
const LOOKED_UP: &str = r#"
kind: ValidatingAdmissionPolicy
apiVersion: admissionregistration.k8s.io/v1
metadata: {name: looked-up}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: berth.dev/v1alpha1, kind: BerthNode}
  matchConstraints:
    resourceRules:
      - {apiGroups: [berth.dev], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [addressblocks]}
  matchConditions:
    - {name: free, expression: 'request.userInfo.username == "system:serviceaccount:berth-system:free"'}
  variables:
    - {name: node, expression: 'request.userInfo.extra[?"authentication.kubernetes.io/node-name"][0].orValue("")'}
    - {name: before, expression: 'oldObject.spec.records.split(";")'}
    - {name: after, expression: 'object.spec.records.split(";")'}
    - {name: changed, expression: 'variables.after.filter(r, !(r in variables.before)) + variables.before.filter(r, !(r in variables.after))'}
  validations:
    - expression: 'params.spec.nodeName == variables.node || !variables.changed.exists(r, r.contains(" " + params.metadata.name + " "))'
---
kind: ValidatingAdmissionPolicyBinding
apiVersion: admissionregistration.k8s.io/v1
metadata: {name: looked-up}
spec:
  policyName: looked-up
  validationActions: [Deny]
  paramRef: {selector: {}, parameterNotFoundAction: Allow}
"#;

/// Of one update, on average.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    /// Of the apiserver's process.
    cpu: Duration,
}

struct Bench {
    plane: ControlPlane,
    block: Value,
    turn: u32,
}

impl Bench {
    /// CPU time of the apiserver so far, in the kernel's ticks of 10 ms.
    fn cpu(&mut self) -> Duration {
        let pid = self.plane.apiserver().pid().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// One update: a record of the own machine turns into its other state.
    async fn update(&mut self, user: &TokenUser) {
        self.turn += 1;
        let (is, was) = if self.turn.is_multiple_of(2) {
            ("b", "u")
        } else {
            ("u", "b")
        };
        let records = self.block["spec"]["records"].as_str().unwrap();
        let records = records.replace(&format!("0 {was} m0.n0 "), &format!("0 {is} m0.n0 "));
        self.block["spec"]["records"] = json!(records);
        self.block["spec"]["writer"] = json!(format!("n0/{}", self.turn));
        let path = format!("{ROOT}/addressblocks/p-0");
        let (status, answer) = user
            .send(Method::PUT, &path, Some(&self.block))
            .await
            .unwrap();
        assert!(status.is_success(), "{answer}");
        self.block = answer;
    }

    async fn measure(&mut self, user: &TokenUser, updates: u32, sum: &mut Cost) {
        self.update(user).await;
        let (begin, cpu) = (boot_time(), self.cpu());
        for _ in 0..updates {
            self.update(user).await;
        }
        sum.wall += boot_time().since(begin);
        sum.cpu += self.cpu().saturating_sub(cpu);
    }

    /// Each user in turn, over and over: what else the machine does hits all alike.
    async fn compare<const N: usize>(&mut self, users: [&TokenUser; N], updates: u32) -> [Cost; N] {
        let mut sums = [Cost::default(); N];
        for _ in 0..ROUNDS {
            for (user, sum) in users.iter().zip(&mut sums) {
                self.measure(user, updates, sum).await;
            }
        }
        let count = ROUNDS * updates;
        sums.map(|sum| Cost {
            wall: sum.wall / count,
            cpu: sum.cpu / count,
        })
    }
}

/// A full block of the default size: sixteen records of this node, sixteen of others.
fn records() -> String {
    let records: Vec<String> = (0..32)
        .map(|ordinal| {
            let machine = if ordinal < 16 { 0 } else { ordinal };
            format!(
                "{ordinal} b m{machine}.n{machine} 3 6f1ed002-ab59-4af6-b8b5-{ordinal:012} \
                 default/web-7d4b9c6f5-{ordinal:05} \
                 0f3c5d1a8b7e4c2d9a6b5e8f7c1d2a3b4c5d6e7f8091a2b3c4d5e6f708192a{ordinal:02} "
            )
        })
        .collect();
    records.join(";")
}

fn of(what: &str, cost: Cost) {
    println!(
        "{what}: {:.2} ms, of the apiserver's CPU {:.2} ms",
        cost.wall.as_secs_f64() * 1e3,
        cost.cpu.as_secs_f64() * 1e3
    );
}

#[tokio::test]
async fn an_update_of_a_block_costs_no_more_where_there_are_a_thousand_machines() {
    let Some(plane) = crate::cluster().await else {
        return;
    };
    plane.install_roles().await.unwrap();
    plane.apply(FREE).await.unwrap();
    let node = json!({"metadata": {"name": "n0"}});
    let nodes = "/api/v1/nodes";
    plane.must(Method::POST, nodes, Some(&node)).await.unwrap();
    for index in 0..MACHINES {
        let machine = json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "BerthNode",
            "metadata": {
                "name": format!("m{index}.n{index}"),
                "labels": {"berth.dev/name-states-node": "true"},
            },
            "spec": {
                "nodeName": format!("n{index}"), "nodeUid": "u", "bootId": "b", "epoch": 3,
                "state": "Live", "blocks": ["p-0"], "writer": "w",
            },
        });
        let path = format!("{ROOT}/berthnodes");
        plane
            .must(Method::POST, &path, Some(&machine))
            .await
            .unwrap();
    }
    let block = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "AddressBlock",
        "metadata": {
            "name": "p-0", "labels": {"berth.dev/pool": "p"}, "finalizers": ["berth.dev/in-use"],
        },
        "spec": {
            "schema": 1, "pool": "p", "poolUid": "u", "index": 0, "size": 32,
            "first": ["10.0.0.0"], "writer": "w", "records": records(),
        },
    });
    let path = format!("{ROOT}/addressblocks");
    let block = plane.must(Method::POST, &path, Some(&block)).await.unwrap();
    let free = plane.token_on("free", "n0").await.unwrap();
    let agent = plane.token_on("berth-agent", "n0").await.unwrap();
    plane.install_policies().await.unwrap();
    let mut bench = Bench {
        plane,
        block,
        turn: 0,
    };
    bench.in_force(&agent).await;
    let [without, with] = bench.compare([&free, &agent], UPDATES).await;
    bench.plane.apply(LOOKED_UP).await.unwrap();
    bench.in_force(&free).await;
    let [looked_up] = bench.compare([&free], DEAR_UPDATES).await;
    println!("an update of a block of 32 records, {MACHINES} BerthNodes:");
    of("no policy", without);
    of("the deployment's policies", with);
    of("every BerthNode looked up", looked_up);
    let ratio = |cost: Cost| cost.cpu.as_secs_f64() / without.cpu.as_secs_f64();
    println!(
        "CPU beside no policy: {:.2} and {:.2}",
        ratio(with),
        ratio(looked_up)
    );
    let more = |cost: Cost| cost.cpu.saturating_sub(without.cpu);
    assert!(
        more(with) * 4 < more(looked_up),
        "what is not looked up costs no look"
    );
}

impl Bench {
    /// Waits until a record in another's name is refused.
    async fn in_force(&self, user: &TokenUser) {
        let limit = boot_time() + Duration::from_mins(1);
        let mut forged = self.block.clone();
        let records = records().replace("31 b m31.n31 3", "31 b m31.n31 2");
        forged["spec"]["records"] = json!(records);
        let path = format!("{ROOT}/addressblocks/p-0?dryRun=All");
        loop {
            let sent = user.send(Method::PUT, &path, Some(&forged)).await;
            if !sent.unwrap().0.is_success() {
                return;
            }
            assert!(boot_time() < limit, "no policy in force");
        }
    }
}
