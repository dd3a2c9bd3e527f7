//! Worlds for tests: some components on a kernel ([`Bench`]), a whole cluster ([`TestCluster`]), a
//! control plane whose Pods run by themselves ([`ControlPlane`]); and what a test puts into them.

mod bench;
mod cluster;
mod control_plane;

use drydock_traces::workload::{
    Container, Controller, DocumentRef, ImagePullPolicy, PodTemplate, WorkloadObject,
};

use crate::parameters::Table;

pub(crate) use self::bench::Bench;
pub(crate) use self::cluster::TestCluster;
pub(crate) use self::control_plane::{ControlPlane, ControlPlaneSpec, client_on};

/// The constants of a profile, with settings `key=value` on top.
pub(crate) fn table(profile: &str, settings: &[&str]) -> Table {
    let mut table = Table::profile(profile).expect("a built-in profile");
    for setting in settings {
        table.set(setting).expect("an assignment of the test");
    }
    table
}

/// One object of a workload.
pub(crate) fn object(name: &str, controller: Controller) -> WorkloadObject {
    WorkloadObject {
        document: DocumentRef {
            file: "test.yaml".to_owned(),
            document: 1,
            line: 1,
        },
        namespace: "default".to_owned(),
        name: name.to_owned(),
        labels: std::collections::BTreeMap::default(),
        annotations: std::collections::BTreeMap::default(),
        controller,
        template: PodTemplate {
            labels: std::collections::BTreeMap::default(),
            annotations: std::collections::BTreeMap::default(),
            node_name: None,
            node_selector: std::collections::BTreeMap::default(),
            host_network: false,
            termination_grace_period_seconds: 30,
            containers: vec![Container {
                name: "main".to_owned(),
                image: "registry.example/app:1".to_owned(),
                image_pull_policy: ImagePullPolicy::IfNotPresent,
            }],
        },
    }
}

/// `count` Deployments of `replicas` replicas.
pub(crate) fn deployments(count: u32, replicas: u32) -> Vec<WorkloadObject> {
    (0..count)
        .map(|n| object(&format!("d{n:03}"), Controller::Deployment { replicas }))
        .collect()
}
