//! The catalog: every parameter file that is built in, one line a file, and the sets of values that
//! can be made of them. What the values mean is not known here.

use std::collections::BTreeMap;

use super::table::{ParameterError, Table};

/// A file below `parameters/`, with its name.
macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../parameters/", $name)))
    };
}

/// A profile or cluster below `parameters/`, by its folder, with its name.
macro_rules! set {
    ($folder:literal, $name:literal) => {
        (
            $name,
            include_str!(concat!("../../parameters/", $folder, "/", $name, ".toml")),
        )
    };
}

/// The released values.
const FILES: &[(&str, &str)] = &[
    file!("api.toml"),
    file!("cluster.toml"),
    file!("controllers.toml"),
    file!("cost.toml"),
    file!("node.toml"),
    file!("kubelet.toml"),
    file!("containerd.toml"),
    file!("cni.toml"),
    file!("macvlan.toml"),
    file!("multus.toml"),
    file!("check.toml"),
    file!("peers/spiderpool.toml"),
    file!("peers/whereabouts.toml"),
    file!("peers/kube_ovn.toml"),
    file!("peers/calico.toml"),
    file!("peers/cilium.toml"),
];

/// The built-in profiles, laid over the released values: name and text. `measured`, the default,
/// lays nothing over them. A cluster says no more than its shape, so it goes over any other.
const PROFILES: &[(&str, &str)] = &[
    ("measured", ""),
    set!("profiles", "event-model-check"),
    set!("profiles", "real-node"),
    set!("profiles", "serial-pull"),
    set!("profiles", "node-cpu"),
    set!("profiles", "slow-api"),
    set!("profiles", "master-cpu"),
    set!("profiles", "slow-disk"),
    set!("clusters", "older-report"),
];

/// The rival explanations of the reference benchmark's floor: `measured`, which fits nothing, and
/// profiles with one fitted number each.
pub const RIVALS: [&str; 6] = [
    "measured",
    "serial-pull",
    "node-cpu",
    "slow-api",
    "master-cpu",
    "slow-disk",
];

impl Table {
    /// The built-in values, before any profile or override.
    pub fn released() -> Table {
        let mut all = Table {
            entries: BTreeMap::new(),
        };
        for (name, text) in FILES {
            let file = Table::parse(name, text).expect("a built-in parameter file is well formed");
            for (key, entry) in file.entries {
                let previous = all.entries.insert(key.clone(), entry);
                assert!(
                    previous.is_none(),
                    "{key} stands in two built-in parameter files"
                );
            }
        }
        all
    }

    /// The values of a built-in profile.
    /// Errors: no such profile.
    pub fn profile(name: &str) -> Result<Table, ParameterError> {
        let mut table = Table::released();
        table.overlay(Table::parse(name, Table::profile_text(name)?)?)?;
        table.check_fitted(name)?;
        Ok(table)
    }

    /// The text of a built-in profile, as it is committed.
    /// Errors: no such profile.
    pub fn profile_text(name: &str) -> Result<&'static str, ParameterError> {
        let found = PROFILES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, text)| *text)
            .ok_or_else(|| ParameterError::Profile {
                name: name.to_owned(),
                known: Table::profile_names().collect::<Vec<_>>().join(", "),
            })
    }

    /// Names of the built-in profiles; the first is the default.
    pub fn profile_names() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|(name, _)| *name)
    }
}
