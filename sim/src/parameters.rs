//! Parameters of a run: the world's, and the prices of Berth's processes. Files and names only;
//! what a value means is said where it is used.

use std::path::Path;

use drydock_models::parameters::{ParameterError, Parameters, Table};

drydock_models::parameter_group! {
    /// What Berth's processes cost on a node.
    Costs = "berth" {
        /// CPU time of one execution of the plugin.
        plugin_exec: std::time::Duration,
        /// CPU time of the agent for one request.
        agent_request: std::time::Duration,
        /// Deadline of each API call of agent and controller.
        api_timeout: std::time::Duration,
    }
}

/// All parameters of a run, with the table that they came from.
#[derive(Clone, Debug)]
pub struct RunParameters {
    /// Every entry, for `params` and for records.
    pub table: Table,
    /// Name of the set.
    pub profile: String,
    /// The world's.
    pub world: Parameters,
    /// Berth's processes'.
    pub costs: Costs,
}

impl RunParameters {
    /// The released values, a parameter set over them, single overrides over that.
    /// Errors: an unknown set or key (with the nearest), an unreadable value, a malformed file.
    pub fn load(profile: &str, set: &[String]) -> Result<RunParameters, ParameterError> {
        let mut table = Self::base(profile)?;
        for assignment in set {
            table.set(assignment)?;
        }
        let world = Parameters::read(&table)?;
        let costs = Costs::read(&table)?;
        Ok(RunParameters {
            table,
            profile: profile.to_owned(),
            world,
            costs,
        })
    }

    /// A built-in profile, or the released values with a file over them.
    fn base(name: &str) -> Result<Table, ParameterError> {
        let own = Table::parse("berth.toml", include_str!("../parameters/berth.toml"))?;
        match Table::profile(name) {
            Err(unknown @ ParameterError::Profile { .. }) => {
                let text = std::fs::read_to_string(Path::new(name)).map_err(|_| unknown)?;
                let mut table = Table::released();
                table.entries.extend(own.entries);
                table.overlay(Table::parse(name, &text)?)?;
                table.check_fitted(name)?;
                Ok(table)
            }
            Err(error) => Err(error),
            Ok(mut table) => {
                table.entries.extend(own.entries);
                Ok(table)
            }
        }
    }
}
