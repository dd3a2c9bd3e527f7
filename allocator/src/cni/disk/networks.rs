//! Which networks the store `disk` serves on a node: the administrator's list, and what holds
//! where there is none. Decides only; the file and the signs of an agent are read by
//! [`adapters::disk`](crate::adapters).
//!
//! On a node that has an agent a network configuration may be a tenant's, and the plugin runs as
//! root. There a configuration chooses among what the list allows, and adds nothing to it: not a
//! network, not an address, not a directory, not a file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{DATA_DIRECTORY, DiskPlace, DiskSection, path, range_sets};
use crate::core::disk::ranges::{RangeSet, RangeSpec};
use crate::core::exchange::Failure;

/// Files that one entry may allow for `resolvConf`.
const RESOLV_CONFS_MAX: usize = 16;

/// The administrator's list.
#[derive(Clone, Debug, PartialEq)]
pub struct Networks {
    root: PathBuf,
    entries: Map<String, Value>,
}

/// What the list allows one network.
struct Entry {
    ranges: Vec<RangeSpec>,
    resolv_confs: Vec<PathBuf>,
}

/// What a node lets the store serve.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRule {
    /// Where the list is, or would be.
    pub list: PathBuf,
    /// What holds.
    pub serves: Serves,
}

/// See [`NodeRule`].
#[derive(Clone, Debug, PartialEq)]
pub enum Serves {
    /// Neither an agent nor a list: whatever a configuration names.
    Anything,
    /// What the list names.
    Listed(Networks),
    /// An agent, shown by this, and no list.
    Nothing {
        /// What shows it, as a sentence.
        agent: String,
    },
    /// There is a list, and this keeps it from being used. It is not taken for absent.
    Unusable(String),
}

/// What a call may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The one directory under which the network's own lies.
    pub root: PathBuf,
    /// Whether links of root may lead there and to a `resolvConf`: only where nobody but root
    /// writes configurations.
    pub follows_links: bool,
}

impl Networks {
    /// Reads the list. An entry is looked into when its network is asked for, so that one that is
    /// wrong stops no other.
    ///
    /// Errors: what is wrong; never what is written there, for it would get into an answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let document: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("is no JSON object (line {line}, column {column})")
        })?;
        // A key that restricts, of a later program or with a letter wrong, must not be passed over.
        if document
            .keys()
            .any(|key| key != "dataDir" && key != "networks")
        {
            return Err("has other keys than \"dataDir\" and \"networks\"".to_owned());
        }
        let root = match document.get("dataDir") {
            None => PathBuf::from(DATA_DIRECTORY),
            Some(value) => path("dataDir", value)
                .map_err(|_| "has a \"dataDir\" that is no absolute path without \"..\"")?,
        };
        match document.get("networks") {
            Some(Value::Object(entries)) => Ok(Self {
                root,
                entries: entries.clone(),
            }),
            _ => Err("has no object \"networks\"".to_owned()),
        }
    }

    fn entry(&self, network: &str) -> Option<Result<Entry, &'static str>> {
        Some(entry(self.entries.get(network)?))
    }
}

fn entry(value: &Value) -> Result<Entry, &'static str> {
    const RANGES: &str =
        "its \"ranges\" are not of the configuration's form, [[{\"subnet\": ...}]]";
    const FILES: &str = "its \"resolvConf\" is no list of at most 16 absolute paths";
    let map = value.as_object().ok_or("it is no object")?;
    if map.keys().any(|key| key != "ranges" && key != "resolvConf") {
        return Err("it has other keys than \"ranges\" and \"resolvConf\"");
    }
    // Without ranges a configuration could take any address, a pool's among them.
    let ranges = map.get("ranges").ok_or("it has no \"ranges\"")?;
    let ranges = range_sets("ranges", ranges).map_err(|_| RANGES)?;
    let resolv_confs = match map.get("resolvConf") {
        None => Vec::new(),
        Some(Value::Array(files)) if files.len() <= RESOLV_CONFS_MAX => files
            .iter()
            .map(|file| path("resolvConf", file).map_err(|_| FILES))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(FILES),
    };
    Ok(Entry {
        ranges: ranges.into_iter().flatten().collect(),
        resolv_confs,
    })
}

impl NodeRule {
    /// Whether the network of a call is served, and within what. `section` is what an ADD or
    /// STATUS wants of it.
    ///
    /// Errors: it is not, and what an administrator would have to change.
    pub fn admit(
        &self,
        place: &DiskPlace,
        section: Option<&DiskSection>,
    ) -> Result<Grant, Failure> {
        let (network, list) = (&place.network, self.list.display());
        let refuse = |why: String| {
            let message = format!("network {network:?} is not served from this node's disk: {why}");
            Err(Failure::new(Failure::INVALID_CONFIGURATION, message))
        };
        let how = format!(
            "an administrator adds to its \"networks\" {{{network:?}: {{\"ranges\": \
             [[{{\"subnet\": ...}}]]}}}}, with the ranges that it may use"
        );
        let networks = match &self.serves {
            Serves::Anything => return Ok(unlisted(place)),
            Serves::Listed(networks) => networks,
            Serves::Nothing { agent } => {
                return refuse(format!(
                    "the node has an agent ({agent}), and there is no {list} that names it; {how}"
                ));
            }
            Serves::Unusable(why) => {
                return refuse(format!("{list} {why}; until it is mended it names none"));
            }
        };
        let entry = match networks.entry(network) {
            None => return refuse(format!("{list} does not name it; {how}")),
            Some(Err(why)) => return refuse(format!("its entry in {list} is unusable: {why}")),
            Some(Ok(entry)) => entry,
        };
        // Two directories of one network would give one address twice.
        if let Some(other) = place
            .data_directory
            .as_deref()
            .filter(|d| !same(d, &networks.root))
        {
            return refuse(format!(
                "\"ipam.dataDir\" is {}; {list} has all networks in {}; leave it out",
                other.display(),
                networks.root.display()
            ));
        }
        let Some(section) = section else {
            return Ok(listed(networks));
        };
        for range in section.sets.iter().flat_map(RangeSet::specs) {
            if !entry.ranges.iter().any(|allowed| allowed.covers(range)) {
                return refuse(format!(
                    "{}-{} of {} with gateway {} is in no range that its entry in {list} has, of \
                     the same subnet and gateway; an administrator adds it there",
                    range.first, range.last, range.subnet, range.gateway
                ));
            }
        }
        if let Some(file) = &section.resolv_conf
            && !entry.resolv_confs.contains(file)
        {
            return refuse(format!(
                "\"ipam.resolvConf\" is {}, which its entry in {list} does not allow; an \
                 administrator adds it there to \"resolvConf\"",
                file.display()
            ));
        }
        Ok(listed(networks))
    }
}

fn unlisted(place: &DiskPlace) -> Grant {
    let default = || PathBuf::from(DATA_DIRECTORY);
    Grant {
        root: place.data_directory.clone().unwrap_or_else(default),
        follows_links: true,
    }
}

fn listed(networks: &Networks) -> Grant {
    Grant {
        root: networks.root.clone(),
        follows_links: false,
    }
}

/// Whether two paths without `..` are spelled alike, but for repeated slashes.
fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::config::Config;
    use serde_json::json;

    fn rule(list: &Value) -> NodeRule {
        NodeRule {
            list: PathBuf::from("/list"),
            serves: match Networks::decode(list.to_string().as_bytes()) {
                Ok(networks) => Serves::Listed(networks),
                Err(why) => Serves::Unusable(why),
            },
        }
    }

    fn list() -> Value {
        json!({"networks": {"net": {
            "ranges": [
                [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.99"}],
                [{"subnet": "fd01::/64"}],
            ],
            "resolvConf": ["/run/a.conf"],
        }}})
    }

    fn admit(rule: &NodeRule, name: &str, ipam: &Value) -> Result<Grant, Failure> {
        let document = json!({"cniVersion": "1.0.0", "name": name, "ipam": ipam});
        let config = Config::decode(document.to_string().as_bytes()).unwrap();
        rule.admit(&config.place().unwrap(), Some(&config.disk().unwrap()))
    }

    fn inside() -> Value {
        json!({"ranges": [
            [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20", "rangeEnd": "10.1.0.20"}],
            [{"subnet": "fd01::/64"}],
        ]})
    }

    fn with(key: &str, value: &Value) -> Value {
        let mut ipam = inside();
        ipam[key] = value.clone();
        ipam
    }

    #[test]
    fn a_listed_network_is_served_within_its_ranges_in_the_one_directory() {
        let rule = rule(&list());
        let grant = Grant {
            root: PathBuf::from(DATA_DIRECTORY),
            follows_links: false,
        };
        for ipam in [
            inside(),
            with("dataDir", &json!("/var/lib//cni/networks/")),
            with("resolvConf", &json!("/run/a.conf")),
        ] {
            assert_eq!(admit(&rule, "net", &ipam), Ok(grant.clone()), "{ipam}");
        }
        let place = DiskPlace {
            network: "net".into(),
            data_directory: None,
        };
        assert_eq!(rule.admit(&place, None), Ok(grant));
    }

    #[test]
    fn what_the_list_does_not_allow_is_refused_with_network_file_and_remedy() {
        let v4 = |range: Value| json!({"ranges": [[range]]});
        let cases = [
            ("other", inside(), "\"networks\" {\"other\": {\"ranges\""),
            ("Net", inside(), "does not name it"),
            (
                "net",
                with("dataDir", &json!("/var/lib/cni")),
                "ipam.dataDir",
            ),
            (
                "net",
                with("dataDir", &json!("/var/lib/cni/networks/x")),
                "ipam.dataDir",
            ),
            (
                "net",
                with("resolvConf", &json!("/etc/shadow")),
                "ipam.resolvConf",
            ),
            ("net", with("resolvConf", &json!("/run/a.conf/")), ""),
            (
                "net",
                v4(json!({"subnet": "10.21.0.0/24"})),
                "10.21.0.1-10.21.0.254",
            ),
            // More than the entry: before it, behind it, under another subnet or gateway.
            (
                "net",
                v4(json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.20"})),
                "10.1.0.1-",
            ),
            (
                "net",
                v4(json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.20"})),
                "10.1.0.20-10.1.0.254",
            ),
            (
                "net",
                v4(json!({"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.20",
                          "rangeEnd": "10.1.0.21"})),
                "10.1.0.0/16",
            ),
            (
                "net",
                v4(json!({"subnet": "fd01::/64", "rangeStart": "fd01::1", "gateway": "fd01::9"})),
                "gateway fd01::9",
            ),
        ];
        let rule = rule(&list());
        for (network, ipam, part) in cases {
            if part.is_empty() {
                assert!(admit(&rule, network, &ipam).is_ok(), "{ipam}");
                continue;
            }
            let failure = admit(&rule, network, &ipam).unwrap_err();
            assert_eq!(failure.code, Failure::INVALID_CONFIGURATION);
            for part in [part, network, "/list"] {
                assert!(
                    failure.message.contains(part),
                    "{part}: {}",
                    failure.message
                );
            }
        }
        let document = json!({"cniVersion": "1.0.0", "name": "net", "ipam": inside(),
            "runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}});
        let config = Config::decode(document.to_string().as_bytes()).unwrap();
        let refused = rule.admit(&config.place().unwrap(), Some(&config.disk().unwrap()));
        assert!(refused.unwrap_err().message.contains("10.9.0.1-10.9.0.254"));
    }

    #[test]
    fn a_list_that_cannot_be_used_names_nothing_and_one_bad_entry_stops_no_other() {
        let mut other = list();
        other["networks"]["bad"] = json!({"range": []});
        assert!(admit(&rule(&other), "net", &inside()).is_ok());
        for bad in [
            json!([]),
            json!({}),
            json!({"ranges": []}),
            json!({"ranges": [[{"subnet": "10.1.0.1/24"}]]}),
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}]], "resolvConf": "/run/a.conf"}),
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}]], "resolvConf": ["a"]}),
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}]], "dataDir": "/x"}),
        ] {
            other["networks"]["net"] = bad.clone();
            let failure = admit(&rule(&other), "net", &inside()).unwrap_err();
            assert!(
                failure.message.contains("entry in /list"),
                "{bad}: {failure:?}"
            );
        }
        for whole in [
            json!([]),
            json!({}),
            json!({"networks": []}),
            json!({"networks": {}, "Networks": {}}),
            json!({"networks": {}, "dataDir": "../x"}),
            json!({"networks": {}, "dataDir": 7}),
        ] {
            let failure = admit(&rule(&whole), "net", &inside()).unwrap_err();
            assert!(failure.message.contains("/list"), "{whole}: {failure:?}");
        }
        let secret = br#"{"networks": {"net": SECRET"#;
        let why = Networks::decode(secret).unwrap_err();
        assert!(!why.contains("SECRET") && why.contains("line 1"), "{why}");
    }

    #[test]
    fn without_a_list_the_agent_decides() {
        let rule = |serves| NodeRule {
            list: PathBuf::from("/list"),
            serves,
        };
        let ipam = with("dataDir", &json!("/mnt/x"));
        let granted = admit(&rule(Serves::Anything), "any", &ipam);
        let root = PathBuf::from("/mnt/x");
        let expected = Grant {
            root,
            follows_links: true,
        };
        assert_eq!(granted, Ok(expected));
        let agent = "/run/berth is there".to_owned();
        let failure = admit(&rule(Serves::Nothing { agent }), "any", &ipam).unwrap_err();
        for part in ["\"any\"", "/run/berth is there", "/list", "\"ranges\""] {
            assert!(
                failure.message.contains(part),
                "{part}: {}",
                failure.message
            );
        }
        // The remedy is not cut off.
        assert!(failure.message.len() < 800);
    }
}
