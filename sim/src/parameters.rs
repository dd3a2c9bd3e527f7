//! Parameters of a run: the world's, and the prices of Berth's processes. Files and names only;
//! where a value is used says what it means.

use std::borrow::Cow;
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
    /// The released values, parameter sets over them in order, single overrides over that. Sets are
    /// separated by commas: `measured,older-report`.
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

    /// The released values with built-in profiles and files over them.
    fn base(names: &str) -> Result<Table, ParameterError> {
        let own = Table::parse("berth.toml", include_str!("../parameters/berth.toml"))?;
        let mut table = Table::released();
        table.entries.extend(own.entries);
        for name in names.split(',') {
            table.overlay(Table::parse(name, &set_text(name)?)?)?;
        }
        table.check_fitted(names)?;
        Ok(table)
    }
}

/// The text of a parameter set: a built-in name or a file.
/// Errors: neither.
pub fn set_text(name: &str) -> Result<Cow<'static, str>, ParameterError> {
    Table::profile_text(name).map_or_else(
        |unknown| {
            let file = std::fs::read_to_string(Path::new(name));
            file.map(Cow::Owned).map_err(|_| unknown)
        },
        |text| Ok(Cow::Borrowed(text)),
    )
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
    fn a_cluster_goes_over_any_profile_and_only_changes_its_shape() {
        let older = Table::parse("older", Table::profile_text("older-report").unwrap()).unwrap();
        for name in drydock_models::parameters::RIVALS {
            let table = |names: &str| RunParameters::load(names, &[]).unwrap().table.entries;
            let (alone, laid) = (table(name), table(&format!("{name},older-report")));
            for (key, entry) in laid {
                let expected = older.entries.get(&key).unwrap_or(&alone[&key]);
                assert_eq!(entry, *expected, "{name}: {key}");
            }
        }
    }

    #[test]
    fn a_set_that_is_not_there_is_named_alone() {
        let error = RunParameters::load("measured,oldest-report", &[]).map(drop);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("`oldest-report`") && error.contains("older-report"),
            "{error}"
        );
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
