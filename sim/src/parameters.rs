//! Parameters of a run: the world's, and the prices of Berth's processes. Files and names only;
//! where a value is used says what it means.

use std::path::Path;

use drydock_models::parameters::{ParameterError, Parameters, Table};
use drydock_models::peers;

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
    /// Every entry, for `params`, for records, and for the peers, which read their own.
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
        Self::read(table, profile)
    }

    /// Reads all of a table: the world's, Berth's, and, as a check, those of every peer.
    /// Errors: a missing or unreadable entry, values that contradict each other.
    fn read(table: Table, profile: &str) -> Result<RunParameters, ParameterError> {
        let world = Parameters::read(&table)?;
        peers::check_constants(&table)?;
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

#[cfg(test)]
mod tests {
    use super::{ParameterError, RunParameters, Table};

    #[test]
    fn every_profile_is_complete_and_consistent() {
        for name in Table::profile_names() {
            if let Err(error) = RunParameters::load(name, &[]) {
                panic!("{name}: {error}");
            }
        }
    }

    #[test]
    fn every_entry_is_read_by_the_program() {
        let whole = RunParameters::base("measured").expect("a built-in profile");
        for key in whole.entries.keys() {
            let mut table = whole.clone();
            table.entries.remove(key);
            let expected = ParameterError::Missing { key: key.clone() };
            let read = RunParameters::read(table, "measured").map(drop);
            assert_eq!(read, Err(expected), "nobody reads {key}");
        }
    }
}
