//! Every constant of the world: typed structs filled from TOML, where each value carries unit,
//! source, kind and plausible range. Names are `group.key`; `--set group.key=value` overrides.
//!
//! A file holds tables like
//! ```toml
//! [kubelet.qps]
//! value = 5
//! unit = "1/s"
//! kind = "cited"            # cited | measured | inferred | fitted
//! source = "kubernetes v1.26 pkg/kubelet/apis/config/v1beta1/defaults.go:202"
//! range = [5, 50]
//! ```
//! Values are integers, decimals, booleans, or a pair for a span. They are read exactly, as
//! decimals, never through binary floating point.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::apiserver::{ApiParameters, CostParameters, EtcdParameters, NetParameters};
use crate::client_go::ClientParameters;
use crate::controllers::{KcmParameters, SchedParameters};
use crate::driver::DriverParameters;
use crate::node_parameters::{self, NodeSideParameters};
use crate::peers::calico::parameters::CalicoParameters;
use crate::peers::cilium::parameters::CiliumParameters;
use crate::peers::kube_ovn::KubeOvnParameters;
use crate::peers::whereabouts::WhereaboutsParameters;

/// The built-in parameter files of the control plane, one line a file; those of a node stand in
/// [`node_parameters::FILES`].
const BUILT_IN: &[(&str, &str)] = &[
    ("api.toml", include_str!("../../parameters/api.toml")),
    (
        "controllers.toml",
        include_str!("../../parameters/controllers.toml"),
    ),
    ("cost.toml", include_str!("../../parameters/cost.toml")),
    crate::peers::spiderpool::FILE,
    (
        "peers/whereabouts.toml",
        include_str!("../../parameters/peers/whereabouts.toml"),
    ),
    (
        "peers/kube_ovn.toml",
        include_str!("../../parameters/peers/kube_ovn.toml"),
    ),
    (
        "peers/calico.toml",
        include_str!("../../parameters/peers/calico.toml"),
    ),
    (
        "peers/cilium.toml",
        include_str!("../../parameters/peers/cilium.toml"),
    ),
];

/// The built-in profiles, laid over the built-in values: name and text. One line a profile;
/// `measured`, the default, lays nothing over them.
const PROFILES: &[(&str, &str)] = &[
    ("measured", ""),
    (
        "event-model-check",
        include_str!("../../parameters/profiles/event-model-check.toml"),
    ),
    (
        "real-node",
        include_str!("../../parameters/profiles/real-node.toml"),
    ),
    (
        "serial-pull",
        include_str!("../../parameters/profiles/serial-pull.toml"),
    ),
    (
        "node-cpu",
        include_str!("../../parameters/profiles/node-cpu.toml"),
    ),
    (
        "slow-api",
        include_str!("../../parameters/profiles/slow-api.toml"),
    ),
    (
        "master-cpu",
        include_str!("../../parameters/profiles/master-cpu.toml"),
    ),
    (
        "slow-disk",
        include_str!("../../parameters/profiles/slow-disk.toml"),
    ),
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

/// Declares [`Parameters`]: all groups, one line a group.
macro_rules! parameters {
    ($($(#[$doc:meta])* $field:ident: $ty:ty,)*) => {
        /// All constants of the world.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Parameters { $($(#[$doc])* pub $field: $ty,)* }
        impl Parameters {
            fn read_groups(table: &Table) -> Result<Parameters, ParameterError> {
                Ok(Parameters { $($field: <$ty>::read(table)?,)* })
            }
        }
    };
}

parameters! {
    /// `api.*`
    api: ApiParameters,
    /// `calico.*`
    calico: CalicoParameters,
    /// `cilium.*`
    cilium: CiliumParameters,
    /// `client.*`
    client: ClientParameters,
    /// `cost.*`
    cost: CostParameters,
    /// `driver.*`
    driver: DriverParameters,
    /// `etcd.*`
    etcd: EtcdParameters,
    /// `kcm.*`
    kcm: KcmParameters,
    /// `kube_ovn.*`
    kube_ovn: KubeOvnParameters,
    /// `net.*`
    net: NetParameters,
    /// The groups of a node: `kubelet.*`, `containerd.*` and so on.
    node_side: NodeSideParameters,
    /// `sched.*`
    sched: SchedParameters,
    /// `spiderpool.*`
    spiderpool: crate::peers::spiderpool::SpiderpoolParameters,
    /// `whereabouts.*`
    whereabouts: WhereaboutsParameters,
}

impl Parameters {
    /// Reads every group and checks the relations between values.
    /// Errors: a missing or unreadable entry, values that contradict each other.
    pub fn read(table: &Table) -> Result<Parameters, ParameterError> {
        let all = Parameters::read_groups(table)?;
        all.check()?;
        Ok(all)
    }

    /// The constants of a built-in profile.
    /// Errors: no such profile.
    pub fn profile(name: &str) -> Result<Parameters, ParameterError> {
        Parameters::read(&Table::profile(name)?)
    }

    /// What one sync of a Raft log on a master takes, etcd's or another's.
    pub(crate) fn log_sync(&self) -> Span {
        let disk = self.node_side.node.fdatasync;
        if self.etcd.on_node_disk {
            Span {
                min: disk,
                max: disk,
            }
        } else {
            self.etcd.fsync
        }
    }

    fn check(&self) -> Result<(), ParameterError> {
        let refuse = |key: &str, given: String, expected: &str| {
            Err(ParameterError::Value {
                key: key.to_owned(),
                given,
                expected: expected.to_owned(),
            })
        };
        let node = &self.node_side.node;
        for (key, base) in [
            ("node.base_control_plane", node.base_control_plane),
            ("node.base_worker", node.base_worker),
        ] {
            if base.0 >= node.cores.0 {
                return refuse(key, format!("{} millicores", base.0), "below node.cores");
            }
        }
        let kubelet = &self.node_side.kubelet;
        if kubelet.system_pods >= kubelet.max_pods {
            let given = kubelet.system_pods.to_string();
            return refuse("kubelet.system_pods", given, "below kubelet.max_pods");
        }
        if self.sched.backoff_initial > self.sched.backoff_max {
            let given = format!("{:?}", self.sched.backoff_initial);
            return refuse("sched.backoff_initial", given, "at most sched.backoff_max");
        }
        if self.kcm.retry_base > self.kcm.retry_max {
            let given = format!("{:?}", self.kcm.retry_base);
            return refuse("kcm.retry_base", given, "at most kcm.retry_max");
        }
        if self.api.history_min > self.api.history_max {
            let given = self.api.history_min.to_string();
            return refuse("api.history_min", given, "at most api.history_max");
        }
        for (key, count) in [
            ("kcm.workers", self.kcm.workers),
            ("kcm.burst", self.kcm.burst),
            ("kcm.slow_start_initial", self.kcm.slow_start_initial),
            ("sched.burst", self.sched.burst),
            ("api.list_seat_objects", self.api.list_seat_objects),
            ("sched.node_memory", self.sched.node_memory),
        ] {
            if count == 0 {
                return refuse(key, "0".to_owned(), "above 0");
            }
        }
        Ok(())
    }
}

/// A rate, exact to a thousandth per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Units: events per 1000 seconds.
    pub milli_per_s: u64,
}

/// A closed range of durations, from which a stream draws evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Shortest.
    pub min: Duration,
    /// Longest.
    pub max: Duration,
}

/// CPU capacity, exact to a thousandth of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millicores(pub u64);

/// A factor, exact to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// Units: thousandths.
    pub milli: u64,
}

impl Factor {
    /// The duration times the factor.
    pub fn of(self, duration: Duration) -> Duration {
        let nanos = duration.as_nanos() * u128::from(self.milli) / 1000;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

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

/// An exact decimal: `mantissa / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decimal {
    mantissa: u128,
    scale: u32,
}

impl Decimal {
    fn parse(text: &str) -> Option<Decimal> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.len() > 12 || whole.len() > 18 {
            return None;
        }
        let digits = format!("{whole}{fraction}");
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Decimal {
            mantissa: digits.parse().ok()?,
            scale: fraction.len() as u32,
        })
    }

    /// The value times `factor`, if that is a whole number that fits.
    fn times(self, factor: u128) -> Option<u64> {
        let scaled = self.mantissa.checked_mul(factor)?;
        let divisor = 10u128.pow(self.scale);
        if scaled.is_multiple_of(divisor) {
            u64::try_from(scaled / divisor).ok()
        } else {
            None
        }
    }
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

/// A type that a parameter can have.
pub trait ParameterValue: Sized {
    /// Units that the type reads.
    const UNITS: &'static [&'static str];
    /// Reads `text`, given in `unit`; the error says what is allowed.
    fn read(text: &str, unit: &str) -> Result<Self, String>;
}

/// Nanoseconds per unit of time.
fn nanos_per(unit: &str) -> Option<u128> {
    match unit {
        "s" | "CPU-s" => Some(1_000_000_000),
        "ms" | "CPU-ms" => Some(1_000_000),
        "us" | "CPU-us" => Some(1_000),
        _ => None,
    }
}

impl ParameterValue for Duration {
    const UNITS: &'static [&'static str] = &["s", "ms", "us", "CPU-s", "CPU-ms", "CPU-us"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        let nanos = nanos_per(unit).ok_or("a time")?;
        Decimal::parse(text)
            .and_then(|d| d.times(nanos))
            .map(Duration::from_nanos)
            .ok_or_else(|| format!("a time >= 0 in {unit}, exact to 1 ns"))
    }
}

impl ParameterValue for Span {
    const UNITS: &'static [&'static str] = &["s", "ms", "us"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        let expected = || format!("MIN..MAX in {unit}, with MIN <= MAX");
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let min = Duration::read(min.trim(), unit).map_err(|_| expected())?;
        let max = Duration::read(max.trim(), unit).map_err(|_| expected())?;
        if min <= max {
            Ok(Span { min, max })
        } else {
            Err(expected())
        }
    }
}

impl ParameterValue for Rate {
    const UNITS: &'static [&'static str] = &["1/s"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        Decimal::parse(text)
            .and_then(|d| d.times(1000))
            .filter(|milli| *milli > 0)
            .map(|milli_per_s| Rate { milli_per_s })
            .ok_or_else(|| "a rate > 0 in 1/s, exact to 0.001".to_owned())
    }
}

impl ParameterValue for Millicores {
    const UNITS: &'static [&'static str] = &["cores"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        Decimal::parse(text)
            .and_then(|d| d.times(1000))
            .map(Millicores)
            .ok_or_else(|| "a number of cores >= 0, exact to 0.001".to_owned())
    }
}

impl ParameterValue for Factor {
    const UNITS: &'static [&'static str] = &["times"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        Decimal::parse(text)
            .and_then(|d| d.times(1000))
            .map(|milli| Factor { milli })
            .ok_or_else(|| "a factor >= 0, exact to 0.001".to_owned())
    }
}

/// What one request costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Median latency at an idle server, disk included.
    pub latency: Duration,
    /// CPU time of the apiserver.
    pub apiserver: Duration,
    /// CPU time of the etcd member that it asks.
    pub etcd: Duration,
}

/// Prices by the number of records in the object.
/// Shape: at least one point, records strictly increasing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices(Vec<(u32, Price)>);

impl Prices {
    /// The price at a number of records: linear between the points, the first point below them,
    /// and the slope of the last two above them.
    pub fn at(&self, record_count: u32) -> Price {
        let points = &self.0;
        let upper = points.partition_point(|(records, _)| *records < record_count);
        if points.len() == 1 || upper == 0 {
            return points[0].1;
        }
        let upper = upper.min(points.len() - 1);
        let ((low, from), (high, to)) = (points[upper - 1], points[upper]);
        let (part, whole) = (i128::from(record_count - low), i128::from(high - low));
        let line = |from: Duration, to: Duration| {
            let (from, to) = (from.as_nanos() as i128, to.as_nanos() as i128);
            let nanos = (from + (to - from) * part / whole).max(0);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        Price {
            latency: line(from.latency, to.latency),
            apiserver: line(from.apiserver, to.apiserver),
            etcd: line(from.etcd, to.etcd),
        }
    }
}

impl ParameterValue for Prices {
    const UNITS: &'static [&'static str] = &["ms", "us"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        let expected =
            || format!("LATENCY/APISERVER/ETCD in {unit}, or RECORDS:LATENCY/APISERVER/ETCD …");
        let price = |text: &str| {
            let mut parts = text.split('/').map(|part| Duration::read(part, unit).ok());
            let mut next = || parts.next().flatten();
            let (latency, apiserver, etcd) = (next()?, next()?, next()?);
            parts.next().is_none().then_some(Price {
                latency,
                apiserver,
                etcd,
            })
        };
        let mut points: Vec<(u32, Price)> = Vec::new();
        for point in text.split_whitespace() {
            let (records, rest) = point.split_once(':').unwrap_or(("1", point));
            let records = records.parse().map_err(|_| expected())?;
            if points.last().is_some_and(|(last, _)| *last >= records) {
                return Err(expected());
            }
            points.push((records, price(rest).ok_or_else(expected)?));
        }
        if points.is_empty() {
            Err(expected())
        } else {
            Ok(Prices(points))
        }
    }
}

impl ParameterValue for u64 {
    const UNITS: &'static [&'static str] = &["count", "bytes"];
    fn read(text: &str, unit: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("a whole number >= 0 ({unit})"))
    }
}

impl ParameterValue for bool {
    const UNITS: &'static [&'static str] = &["bool"];
    fn read(text: &str, _unit: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "true or false".to_owned())
    }
}

/// Declares one group of parameters: a struct whose fields are `group.field` in the files.
#[macro_export]
macro_rules! parameter_group {
    ($(#[$doc:meta])* $name:ident = $prefix:literal { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }
        impl $name {
            /// Names of all parameters of the group.
            pub const KEYS: &'static [&'static str] = &[$(concat!($prefix, ".", stringify!($field)),)*];
            /// Reads the group from the entries.
            /// Errors: a missing entry, a wrong unit, an unreadable value.
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

    /// The built-in values, before any profile or override.
    pub fn released() -> Table {
        let mut all = Table {
            entries: BTreeMap::new(),
        };
        for (name, text) in BUILT_IN.iter().chain(node_parameters::FILES) {
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
        let Some((name, text)) = PROFILES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = Table::profile_names().collect();
            return Err(ParameterError::Profile {
                name: name.to_owned(),
                known: known.join(", "),
            });
        };
        let mut table = Table::released();
        table.overlay(Table::parse(name, text)?)?;
        table.check_fitted(name)?;
        Ok(table)
    }

    /// The text of a built-in profile, as it is committed.
    pub fn profile_text(name: &str) -> Option<&'static str> {
        PROFILES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, text)| *text)
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

    /// Names of the built-in profiles; the first is the default.
    pub fn profile_names() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|(name, _)| *name)
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

#[cfg(test)]
mod tests;
