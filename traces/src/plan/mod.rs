//! A fault plan: a small world and what goes wrong in it, as data. A seed draws one, or a person
//! writes one. The same plan always gives the same run; nothing here injects a fault.

mod fault;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::fault::{CniVerb, DurationRule, Edge, Fault, FaultKind, FaultShape, Target, Trigger};
use crate::seed::Seed;
use crate::workload::Stack;

/// The schema of plans that this crate writes and reads.
pub const SCHEMA: &str = "drydock.dev/plan/v1";

/// The largest time that a plan may name: ten days. Units: ns.
pub const TIME_NS_MAX: u64 = 864_000_000_000_000;

/// A world and its faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`], always.
    pub schema: String,
    /// The seed of every draw that the run itself makes.
    pub seed: Seed,
    /// Name of the allocator or mutant.
    pub allocator: String,
    /// Parameters that differ from their profile, as `--set` takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// The world.
    pub world: World,
    /// What goes wrong. Shape: numbered from 1 in messages.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
}

/// A small cluster and its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct World {
    /// Nodes, 1 to 100.
    pub nodes: u32,
    /// Pods at a time, 0 to 5000.
    pub pods: u32,
    /// Ordinals in the pool, 1 to 1000000.
    pub addresses: u32,
    /// Address families.
    pub stack: Stack,
    /// Pods that are deleted and come again; none means that Pods stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
}

/// Pods that are deleted, and that their controller makes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Churn {
    /// How many times, 1 to 10000.
    pub rounds: u32,
    /// Pods deleted in each, 1 to the Pods of the world.
    pub pods_per_round: u32,
    /// Time between rounds.
    pub every_ns: u64,
}

/// Why a text is not a plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not TOML, or a key is missing, unknown or of another type.
    #[error("not a plan: {0}")]
    Syntax(String),
    /// Another schema.
    #[error("schema is `{found}`, this program reads `{SCHEMA}`")]
    Schema {
        /// What the file says.
        found: String,
    },
    /// A value is outside its range or does not fit another.
    #[error("{key}: {found} is not allowed: {allowed}")]
    Value {
        /// Key path.
        key: String,
        /// What the file says.
        found: String,
        /// What is allowed there.
        allowed: String,
    },
}

impl Plan {
    /// Reads a plan and checks every value.
    ///
    /// Errors: [`PlanError`] names the line or the key, and what is allowed.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Version {
            schema: String,
        }
        let syntax = |error: toml::de::Error| PlanError::Syntax(error.to_string());
        let version: Version = toml::from_str(text).map_err(syntax)?;
        if version.schema != SCHEMA {
            return Err(PlanError::Schema {
                found: version.schema,
            });
        }
        let plan: Self = toml::from_str(text).map_err(syntax)?;
        plan.check()?;
        Ok(plan)
    }

    /// The plan as TOML that [`Plan::from_toml`] reads back to an equal plan.
    ///
    /// Errors: [`PlanError::Value`] when the plan would not be accepted back.
    pub fn to_toml(&self) -> Result<String, PlanError> {
        self.check()?;
        Ok(toml::to_string(self).expect("checked numbers fit TOML, and no key is unusual"))
    }

    /// Checks every value.
    ///
    /// Errors: [`PlanError::Value`] names the first key that is wrong, and what is allowed.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.schema != SCHEMA {
            return Err(PlanError::Schema {
                found: self.schema.clone(),
            });
        }
        let world = &self.world;
        in_range("world.nodes", world.nodes.into(), 1, 100)?;
        in_range("world.pods", world.pods.into(), 0, 5000)?;
        in_range("world.addresses", world.addresses.into(), 1, 1_000_000)?;
        if let Some(churn) = &world.churn {
            in_range("world.churn.rounds", churn.rounds.into(), 1, 10_000)?;
            let per_round = churn.pods_per_round.into();
            in_range(
                "world.churn.pods-per-round",
                per_round,
                1,
                world.pods.into(),
            )?;
            in_range("world.churn.every-ns", churn.every_ns, 1, TIME_NS_MAX)?;
        }
        for (index, fault) in self.faults.iter().enumerate() {
            fault.check(&format!("fault {}", index + 1), world)?;
        }
        Ok(())
    }
}

/// Checks that a number lies between two others, both included.
pub(crate) fn in_range(key: &str, found: u64, min: u64, max: u64) -> Result<(), PlanError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(PlanError::Value {
        key: key.to_owned(),
        found: found.to_string(),
        allowed: format!("a number from {min} to {max}"),
    })
}

/// Parameters that differ from their profile, as a separate file: `[set]` with one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideFile {
    /// Values by parameter name, written as `--set` takes them.
    pub set: BTreeMap<String, String>,
}

impl OverrideFile {
    /// Reads an override file. The owner of the parameters decides whether a name exists.
    ///
    /// Errors: [`PlanError::Syntax`] names line and key.
    pub fn from_toml(text: &str) -> Result<Self, PlanError> {
        toml::from_str(text).map_err(|error| PlanError::Syntax(error.to_string()))
    }

    /// The file as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a table of strings is TOML")
    }
}

#[cfg(test)]
mod tests;
