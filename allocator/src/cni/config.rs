//! The network configuration on stdin: what Berth reads of it. The main plugin's keys are in the
//! same document and are not looked at; unknown keys inside `ipam` are refused.
//!
//! No path is read from here: a configuration may be a NetworkAttachmentDefinition, which a tenant
//! writes, and the plugin runs as root on the host.

use core::net::IpAddr;
use core::time::Duration;

use serde_json::{Map, Value};

use super::args::{REQUESTED_IPS_MAX, requested_ips};
use super::error::CniError;
use super::version::SpecVersion;
use crate::core::exchange::Attachment;
use crate::core::names;

/// Units: bytes. More on stdin is refused.
pub const STDIN_BYTES_MAX: usize = 1 << 20;

/// Pools that one configuration may name.
const POOLS_MAX: usize = 64;
/// Units: milliseconds. What `ipam.timeoutMilliseconds` may be.
const TIMEOUT_MS_MIN: u64 = 50;
/// Units: milliseconds. The runtime kills the plugin at four minutes.
const TIMEOUT_MS_MAX: u64 = 90_000;
/// The keys of `ipam` with the agent, as errors list them.
const AGENT_KEYS: &str = "type, store, pools, timeoutMilliseconds";
/// The keys of `ipam` that only the store `disk` has. One of them is enough to choose it.
const DISK_ONLY_KEYS: [&str; 8] = [
    "ranges",
    "subnet",
    "rangeStart",
    "rangeEnd",
    "gateway",
    "routes",
    "dataDir",
    "resolvConf",
];

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The node's agent.
    Agent,
    /// A file of this node.
    Disk,
}

/// A document, not yet looked into.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    document: Map<String, Value>,
    /// Its version.
    pub version: Result<SpecVersion, String>,
}

/// What an `ipam` section says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpamSection {
    /// Pools to draw from; empty means by selectors.
    pub pools: Vec<String>,
    /// The time an ADD may take, when not the default.
    pub timeout: Option<Duration>,
}

impl Config {
    /// Reads the bytes of stdin.
    ///
    /// Errors: too long, not JSON, not an object, a `cniVersion` that is not text.
    pub fn decode(stdin: &[u8]) -> Result<Self, CniError> {
        if stdin.len() > STDIN_BYTES_MAX {
            let message = format!("stdin has more than {STDIN_BYTES_MAX} bytes");
            return Err(CniError::new(CniError::DECODE, message));
        }
        let document: Map<String, Value> = serde_json::from_slice(stdin).map_err(|error| {
            let message = format!("stdin is no network configuration: {error}");
            CniError::new(CniError::DECODE, message)
        })?;
        let version = match document.get("cniVersion") {
            None | Some(Value::Null) => Ok(SpecVersion::V0_1_0),
            Some(Value::String(text)) => text.parse().map_err(|_| text.clone()),
            Some(other) => Err(other.to_string()),
        };
        Ok(Self { document, version })
    }

    /// The version, where it is at least `oldest`.
    pub fn version_from(&self, verb: &str, oldest: SpecVersion) -> Result<SpecVersion, CniError> {
        let refuse = |message: String| CniError::new(CniError::INCOMPATIBLE_VERSION, message);
        match &self.version {
            Ok(version) if *version >= oldest => Ok(*version),
            Ok(version) => Err(refuse(format!(
                "cniVersion {version} has no {verb}; it came with {oldest}"
            ))),
            Err(text) => Err(refuse(format!(
                "cniVersion {text:?} is not served; allowed are {}",
                SpecVersion::ALL.map(SpecVersion::as_str).join(", ")
            ))),
        }
    }

    /// The network's name.
    pub fn network(&self) -> Result<String, CniError> {
        match self.document.get("name") {
            Some(Value::String(name)) if names::is_id(name) => Ok(name.clone()),
            None => Err(CniError::configuration("the configuration has no \"name\"")),
            Some(other) => Err(CniError::configuration(format!(
                "\"name\" is {}; allowed are letters, digits, '_', '.', '-', after a letter or digit",
                shown(other)
            ))),
        }
    }

    /// Who answers: as `ipam.store` says, else the disk where `ipam` has one of its keys.
    pub fn store(&self) -> Result<Store, CniError> {
        let Some(ipam) = self.section()? else {
            return Ok(Store::Agent);
        };
        let refuse = |value: &Value| {
            CniError::configuration(format!(
                "\"ipam.store\" is {}; allowed are {{\"type\": \"agent\"}} and \
                 {{\"type\": \"disk\"}}",
                shown(value)
            ))
        };
        let named = match ipam.get("store") {
            None | Some(Value::Null) => {
                let disk = DISK_ONLY_KEYS.iter().any(|key| ipam.contains_key(*key));
                return Ok(if disk { Store::Disk } else { Store::Agent });
            }
            Some(value @ Value::Object(store)) => match store.keys().find(|key| *key != "type") {
                Some(key) => {
                    let field = format!("ipam.store.{key}");
                    return Err(unsupported(&field, &store[key], "type"));
                }
                None => store.get("type").ok_or_else(|| refuse(value))?,
            },
            Some(value) => value,
        };
        match named.as_str() {
            Some("agent") => Ok(Store::Agent),
            Some("disk") => Ok(Store::Disk),
            _ => Err(refuse(named)),
        }
    }

    /// The `ipam` section as the agent's callers write it.
    pub fn ipam(&self) -> Result<IpamSection, CniError> {
        let mut section = IpamSection::default();
        for (key, value) in self.section()?.into_iter().flatten() {
            match key.as_str() {
                "type" | "store" => {}
                "pools" => section.pools = pools(value)?,
                "timeoutMilliseconds" => section.timeout = Some(timeout(value)?),
                _ => return Err(unsupported(&format!("ipam.{key}"), value, AGENT_KEYS)),
            }
        }
        Ok(section)
    }

    /// The `ipam` section, if there is one.
    pub(super) fn section(&self) -> Result<Option<&Map<String, Value>>, CniError> {
        match self.document.get("ipam") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(ipam)) => Ok(Some(ipam)),
            Some(other) => {
                let message = format!("\"ipam\" is {}; it must be an object", shown(other));
                Err(CniError::configuration(message))
            }
        }
    }

    /// The addresses asked for in the document: `runtimeConfig.ips`, else `args.cni.ips`. `None`
    /// when it has neither, and `CNI_ARGS` counts.
    pub fn requested_ips(&self) -> Result<Option<Vec<IpAddr>>, CniError> {
        for path in ["/runtimeConfig/ips", "/args/cni/ips"] {
            let Some(value) = self.pointer(path) else {
                continue;
            };
            let refuse = || {
                CniError::configuration(format!(
                    "\"{}\" is {}; it must be a list of at most {REQUESTED_IPS_MAX} addresses",
                    path[1..].replace('/', "."),
                    shown(value)
                ))
            };
            let Value::Array(items) = value else {
                return Err(refuse());
            };
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            let ips = requested_ips(texts.ok_or_else(refuse)?.into_iter()).map_err(|_| refuse())?;
            if !ips.is_empty() || path == "/args/cni/ips" {
                return Ok(Some(ips));
            }
        }
        Ok(None)
    }

    /// The addresses in `prevResult`.
    pub fn previous_addresses(&self) -> Result<Vec<IpAddr>, CniError> {
        let refuse = |what: &str| CniError::configuration(format!("\"prevResult\" {what}"));
        let previous = self
            .document
            .get("prevResult")
            .and_then(Value::as_object)
            .ok_or_else(|| refuse("is missing; CHECK needs it"))?;
        let Some(Value::Array(ips)) = previous.get("ips") else {
            return Err(refuse("has no list \"ips\""));
        };
        ips.iter()
            .map(|ip| {
                let text = ip.get("address").and_then(Value::as_str)?;
                requested_ips(core::iter::once(text)).ok()?.pop()
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| refuse("has an entry of \"ips\" without an address"))
    }

    /// The attachments that GC leaves; absent when the caller sent no list. libcni sends the list
    /// under an older, wrong name as well.
    pub fn valid_attachments(&self) -> Result<Option<Vec<Attachment>>, CniError> {
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let Some((key, value)) = keys
            .into_iter()
            .find_map(|key| Some((key, self.document.get(key).filter(|v| !v.is_null())?)))
        else {
            return Ok(None);
        };
        let attachment = |entry: &Value| {
            let text = |field| entry.get(field).and_then(Value::as_str);
            let (container, interface) = (text("containerID")?, text("ifname")?);
            (names::is_id(container) && names::is_interface(interface)).then(|| Attachment {
                container: container.to_owned(),
                interface: interface.to_owned(),
            })
        };
        value
            .as_array()
            .and_then(|entries| entries.iter().map(attachment).collect())
            .map(Some)
            .ok_or_else(|| {
                CniError::configuration(format!("\"{key}\" is no list of {{containerID, ifname}}"))
            })
    }

    /// Like `Value::pointer`; null is absent.
    pub(super) fn pointer(&self, path: &str) -> Option<&Value> {
        let (first, rest) = path[1..].split_once('/')?;
        self.document
            .get(first)?
            .pointer(&format!("/{rest}"))
            .filter(|value| !value.is_null())
    }
}

fn pools(value: &Value) -> Result<Vec<String>, CniError> {
    let refuse = || {
        CniError::configuration(format!(
            "\"ipam.pools\" is {}; it must be a list of at most {POOLS_MAX} names of AddressPools",
            shown(value)
        ))
    };
    let names: Vec<String> = value
        .as_array()
        .filter(|items| items.len() <= POOLS_MAX)
        .and_then(|items| {
            items
                .iter()
                .map(|i| i.as_str().map(str::to_owned))
                .collect()
        })
        .ok_or_else(refuse)?;
    if names.iter().all(|name| names::is_object_name(name)) {
        Ok(names)
    } else {
        Err(refuse())
    }
}

pub(super) fn timeout(value: &Value) -> Result<Duration, CniError> {
    value
        .as_u64()
        .filter(|ms| (TIMEOUT_MS_MIN..=TIMEOUT_MS_MAX).contains(ms))
        .map(Duration::from_millis)
        .ok_or_else(|| {
            CniError::configuration(format!(
                "\"ipam.timeoutMilliseconds\" is {}; allowed are {TIMEOUT_MS_MIN} to \
                 {TIMEOUT_MS_MAX}",
                shown(value)
            ))
        })
}

/// A key that is not served here.
pub(super) fn unsupported(field: &str, value: &Value, allowed: &str) -> CniError {
    let value = shown(value);
    let message = format!("unsupported field \"{field}\" = {value}; allowed are {allowed}");
    CniError::new(CniError::UNSUPPORTED_FIELD, message)
}

/// A value as an error quotes it.
pub(super) fn shown(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 80 {
        text.truncate(text.floor_char_boundary(80));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: &Value) -> Config {
        Config::decode(value.to_string().as_bytes()).unwrap()
    }

    fn code<T: core::fmt::Debug>(result: Result<T, CniError>, part: &str) -> u32 {
        let error = result.unwrap_err();
        assert!(error.message.contains(part), "{part}: {}", error.message);
        error.code
    }

    #[test]
    fn what_is_no_object_of_a_bounded_size_is_a_decoding_error() {
        let long = vec![b' '; STDIN_BYTES_MAX + 1];
        let deep = "[".repeat(100_000);
        for stdin in [
            b"".as_slice(),
            b"{",
            b"[]",
            b"null",
            b"\xff",
            &long,
            deep.as_bytes(),
        ] {
            assert_eq!(Config::decode(stdin).unwrap_err().code, CniError::DECODE);
        }
    }

    #[test]
    fn unknown_keys_are_refused_inside_ipam_only() {
        let other = json!({"name": "n", "master": "eth0", "ipam": {"type": "berth"}});
        assert_eq!(config(&other).ipam(), Ok(IpamSection::default()));
        let ranges = json!({"ipam": {"type": "berth", "ranges": [[]]}});
        assert_eq!(code(config(&ranges).ipam(), "ipam.ranges"), 2);
    }

    #[test]
    fn the_store_is_named_or_follows_from_its_keys() {
        let of = |ipam: Value| config(&json!({"ipam": ipam})).store();
        assert_eq!(of(json!({"type": "berth"})), Ok(Store::Agent));
        assert_eq!(of(Value::Null), Ok(Store::Agent));
        for disk in [
            json!({"store": {"type": "disk"}}),
            json!({"store": "disk"}),
            json!({"ranges": []}),
            json!({"subnet": "10.0.0.0/24"}),
        ] {
            assert_eq!(of(disk), Ok(Store::Disk));
        }
        assert_eq!(of(json!({"store": {"type": "agent"}})), Ok(Store::Agent));
        for bad in [json!("etcd"), json!({"type": 1}), json!({}), json!(7)] {
            assert_eq!(code(of(json!({"store": bad})), "ipam.store"), 7);
        }
        let extra = of(json!({"store": {"type": "disk", "path": "/x"}}));
        assert_eq!(code(extra, "ipam.store.path"), 2);
    }

    #[test]
    fn a_bad_value_is_refused_with_its_key_and_what_is_allowed() {
        for (ipam, part) in [
            (json!("x"), "must be an object"),
            (json!({"pools": "a"}), "ipam.pools"),
            (json!({"pools": [1]}), "ipam.pools"),
            (json!({"pools": ["../x"]}), "ipam.pools"),
            (json!({"pools": vec!["a"; POOLS_MAX + 1]}), "at most 64"),
            (json!({"timeoutMilliseconds": 0}), "50 to 90000"),
            (json!({"timeoutMilliseconds": "1s"}), "50 to 90000"),
        ] {
            assert_eq!(code(config(&json!({"ipam": ipam})).ipam(), part), 7);
        }
        assert_eq!(code(config(&json!({})).network(), "name"), 7);
        assert_eq!(code(config(&json!({"name": "../n"})).network(), "name"), 7);
    }

    #[test]
    fn requested_addresses_come_from_the_first_source_that_has_them() {
        let of = |value: Value| {
            config(&value)
                .requested_ips()
                .map(|ips| ips.map(|i| i.len()))
        };
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(
            of(json!({"args": {"cni": {"ips": ["10.0.0.1/24"]}}})),
            Ok(Some(1))
        );
        assert_eq!(
            of(json!({
                "args": {"cni": {"ips": ["10.0.0.1"]}},
                "runtimeConfig": {"ips": ["10.0.0.2", "fd00::2/64"]},
            })),
            Ok(Some(2))
        );
        // Present and empty: `args` still hides CNI_ARGS, an empty capability hides nothing.
        assert_eq!(of(json!({"args": {"cni": {"ips": []}}})), Ok(Some(0)));
        assert_eq!(of(json!({"runtimeConfig": {"ips": []}})), Ok(None));
        for bad in [json!("10.0.0.1"), json!([7]), json!(["ten"])] {
            let result = config(&json!({"runtimeConfig": {"ips": bad}})).requested_ips();
            assert_eq!(code(result, "runtimeConfig.ips"), 7);
        }
    }

    #[test]
    fn gc_knows_an_empty_list_from_none_and_reads_both_spellings() {
        let of = |value: Value| {
            config(&value)
                .valid_attachments()
                .map(|v| v.map(|v| v.len()))
        };
        let one = json!([{"containerID": "c", "ifname": "eth0"}]);
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(of(json!({"cni.dev/valid-attachments": null})), Ok(None));
        assert_eq!(of(json!({"cni.dev/valid-attachments": []})), Ok(Some(0)));
        assert_eq!(of(json!({"cni.dev/attachments": one.clone()})), Ok(Some(1)));
        assert_eq!(
            of(json!({"cni.dev/valid-attachments": [], "cni.dev/attachments": one})),
            Ok(Some(0))
        );
        for bad in [
            json!({}),
            json!([{"containerID": "../c", "ifname": "e"}]),
            json!([1]),
        ] {
            let result = config(&json!({"cni.dev/valid-attachments": bad})).valid_attachments();
            assert_eq!(code(result, "cni.dev/valid-attachments"), 7);
        }
    }

    #[test]
    fn check_needs_the_previous_result() {
        let of = |value: Value| config(&value).previous_addresses();
        assert_eq!(code(of(json!({})), "CHECK needs it"), 7);
        assert_eq!(
            code(
                of(json!({"prevResult": {"ips": [{}]}})),
                "without an address"
            ),
            7
        );
        let good = json!({"prevResult": {"ips": [{"address": "10.0.0.9/24"}]}});
        assert_eq!(of(good), Ok(vec!["10.0.0.9".parse().unwrap()]));
    }
}
