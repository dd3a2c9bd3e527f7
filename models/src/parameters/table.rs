//! The entries of parameter files by their full name, with unit, source, kind and range: how they
//! are parsed, overridden, read and refused. The catalog lists the files.

use std::collections::BTreeMap;
use std::fmt;

use super::value::ParameterValue;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Stated by a source that is named.
    Cited,
    /// Measured on real programs.
    Measured,
    /// Derived or estimated; the range says how far.
    Inferred,
    /// Chosen so that one published cell comes out; at most one per profile.
    Fitted,
}

/// One entry of a parameter file.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The value, in `unit`.
    pub value: toml::Value,
    /// `1/s`, `s`, `ms`, `us`, `cores`, `CPU-s`, `CPU-ms`, `count`, `bytes`, `bool`, `times`.
    pub unit: String,
    /// Kind of evidence.
    pub kind: Kind,
    /// Who says so.
    pub source: String,
    /// Plausible range, in `unit`; absent for booleans and for what is fixed by the release.
    #[serde(default)]
    pub range: Option<[toml::Value; 2]>,
}

/// All entries by their full name, `group.key`.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Entries.
    pub entries: BTreeMap<String, Entry>,
}

/// Why parameters were refused. Every variant names the key and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The file is not TOML of the expected form.
    #[error("{file}: {reason}")]
    Malformed {
        /// File or built-in name.
        file: String,
        /// What the parser says, with line and column.
        reason: String,
    },
    /// No such parameter.
    #[error("unknown parameter `{key}`{}; `cargo sim params` lists all", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was given.
        key: String,
        /// Nearest known name.
        nearest: Option<String>,
    },
    /// A parameter that the program needs is in no file.
    #[error("parameter `{key}` is in no parameter file")]
    Missing {
        /// Its name.
        key: String,
    },
    /// The value cannot be read in its unit.
    #[error("parameter `{key}`: `{given}` is not {expected}")]
    Value {
        /// Its name.
        key: String,
        /// What was given.
        given: String,
        /// What is allowed.
        expected: String,
    },
    /// Not of the form `key=value`.
    #[error("`--set {given}`: expected KEY=VALUE, for example kubelet.qps=50")]
    Assignment {
        /// What was given.
        given: String,
    },
    /// More than one number was chosen so that a published cell comes out.
    #[error("{name}: {keys} are fitted; a profile fits at most one number")]
    Fitted {
        /// The profile.
        name: String,
        /// The fitted keys.
        keys: String,
    },
    /// No such profile.
    #[error("unknown parameter set `{name}`: not a file, and the built-in ones are {known}")]
    Profile {
        /// What was given.
        name: String,
        /// Known names.
        known: String,
    },
}

impl Entry {
    /// The value the way people type it.
    pub fn text(&self) -> String {
        text_of(&self.value)
    }
}

/// A value as text: the way people type it, which is how it is parsed.
pub fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => format!("{number}"),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(".."),
        other => other.to_string(),
    }
}

/// Declares one group of parameters: a struct whose fields are `group.field` in the files.
#[macro_export]
macro_rules! parameter_group {
    ($(#[$doc:meta])* $name:ident = $prefix:literal { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(unreachable_pub, reason = "who sees a group is said by the module that states it")]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }
        impl $name {
            /// Reads the group from the entries.
            /// Errors: a missing entry, a wrong unit, an unreadable value.
            #[allow(unreachable_pub, reason = "as the group itself")]
            pub fn read(table: &$crate::parameters::Table)
                -> Result<Self, $crate::parameters::ParameterError> {
                Ok($name { $($field: table.read(concat!($prefix, ".", stringify!($field)))?,)* })
            }
        }
    };
}

impl Table {
    /// Parses one file; `name` appears in errors.
    /// Errors: malformed TOML, an entry without unit, source or kind.
    pub fn parse(name: &str, text: &str) -> Result<Table, ParameterError> {
        let malformed = |reason: String| ParameterError::Malformed {
            file: name.to_owned(),
            reason,
        };
        let groups: BTreeMap<String, BTreeMap<String, Entry>> =
            toml::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let mut entries = BTreeMap::new();
        for (group, keys) in groups {
            for (key, entry) in keys {
                if entry.source.trim().is_empty() {
                    return Err(malformed(format!("{group}.{key}: `source` is empty")));
                }
                entries.insert(format!("{group}.{key}"), entry);
            }
        }
        Ok(Table { entries })
    }

    /// Names of the values that were chosen so that one published cell comes out.
    pub fn fitted(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.kind == Kind::Fitted)
            .map(|(key, _)| &**key)
    }

    /// Refuses a profile with more than one fitted number.
    /// Errors: the profile and the keys.
    pub fn check_fitted(&self, name: &str) -> Result<(), ParameterError> {
        let keys: Vec<&str> = self.fitted().collect();
        if keys.len() <= 1 {
            return Ok(());
        }
        Err(ParameterError::Fitted {
            name: name.to_owned(),
            keys: keys.join(" and "),
        })
    }

    /// Lays another table over this one.
    /// Errors: a key that this table does not have.
    pub fn overlay(&mut self, other: Table) -> Result<(), ParameterError> {
        for (key, entry) in other.entries {
            if !self.entries.contains_key(&key) {
                return Err(self.unknown(&key));
            }
            self.entries.insert(key, entry);
        }
        Ok(())
    }

    /// Overrides one value, `key=value` in the unit of the entry.
    /// Errors: not an assignment, an unknown key (with the nearest one), an unreadable value.
    pub fn set(&mut self, assignment: &str) -> Result<(), ParameterError> {
        let (key, value) =
            assignment
                .split_once('=')
                .ok_or_else(|| ParameterError::Assignment {
                    given: assignment.to_owned(),
                })?;
        let (key, value) = (key.trim(), value.trim());
        let Some(entry) = self.entries.get_mut(key) else {
            return Err(self.unknown(key));
        };
        entry.value = toml::Value::String(value.to_owned());
        Ok(())
    }

    /// One parameter as its type.
    /// Errors: missing, unit of another type, unreadable value.
    pub fn read<T: ParameterValue>(&self, key: &str) -> Result<T, ParameterError> {
        let entry = self
            .entries
            .get(key)
            .ok_or_else(|| ParameterError::Missing {
                key: key.to_owned(),
            })?;
        let wrong = |given: &str, expected: String| ParameterError::Value {
            key: key.to_owned(),
            given: given.to_owned(),
            expected,
        };
        if !T::UNITS.contains(&entry.unit.as_str()) {
            let expected = format!("one of the units {}", T::UNITS.join(", "));
            return Err(wrong(&entry.unit, expected));
        }
        let text = text_of(&entry.value);
        T::read(&text, &entry.unit).map_err(|expected| wrong(&text, expected))
    }

    fn unknown(&self, key: &str) -> ParameterError {
        let nearest = self
            .entries
            .keys()
            .map(|known| (strsim::damerau_levenshtein(known, key), known))
            .min()
            .filter(|(distance, _)| *distance <= key.len().max(4) / 2)
            .map(|(_, known)| known.clone());
        ParameterError::Unknown {
            key: key.to_owned(),
            nearest,
        }
    }
}

impl fmt::Display for Table {
    /// One line an entry: name, value, unit, kind, range, source.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, entry) in &self.entries {
            let kind = format!("{:?}", entry.kind).to_lowercase();
            let range = entry
                .range
                .as_ref()
                .map(|[low, high]| format!("[{} .. {}]", text_of(low), text_of(high)))
                .unwrap_or_default();
            let value = format!("{} {}", text_of(&entry.value), entry.unit);
            writeln!(
                f,
                "{key:<38} {value:<18} {kind:<9} {range:<16} {}",
                entry.source
            )?;
        }
        Ok(())
    }
}
