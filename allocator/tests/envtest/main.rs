//! The kube adapter and Berth's kinds against a real kube-apiserver and etcd, which `build` in this
//! folder makes. Loopback and temporary directories, nothing else.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod admission;
mod agreement;
mod contract;
mod definitions;
mod explained;
mod older;
mod outages;

use berth::testing::control_plane::{Assets, ControlPlane, Options};

/// An apiserver with Berth's kinds; `None` when the programs are not there (see [`Assets::find`]).
async fn cluster() -> Option<ControlPlane> {
    let assets = Assets::find(&["etcd", "kube-apiserver"])?;
    let plane = ControlPlane::start(&assets, &Options::apiserver_only())
        .await
        .unwrap();
    plane.install_crds().await.unwrap();
    Some(plane)
}
