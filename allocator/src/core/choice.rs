//! Who named a pool for an interface of a Pod: the network's configuration, the Pod's annotations
//! or its Namespace's, in this order. Naming only chooses among the pools that admit the Pod;
//! `selection` decides which do.

use core::fmt;
use std::collections::BTreeMap;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::labels::Labels;
use super::names::{is_id, is_interface, is_object_name};
use super::objects::{ANNOTATION_POOL, ANNOTATION_POOLS, Metadata};

/// Units: bytes. A longer `berth.dev/pools` is not read.
const TEXT_BYTES_MAX: usize = 8192;
/// Units: bytes. How much of an invalid name is shown.
const SHOWN_BYTES_MAX: usize = 64;

/// An interface that wants an address.
#[derive(Clone, Copy, Debug)]
pub struct Interface<'a> {
    /// `name` of its CNI configuration.
    pub network: &'a str,
    /// `CNI_IFNAME`; empty when it is not known yet.
    pub name: &'a str,
    /// Whether its network is the one that Pods get by default.
    pub is_default: bool,
    /// Pools that its configuration names, in order.
    pub configured: &'a [String],
}

/// An annotation that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misnamed {
    /// A value that no pool can have as its name.
    #[error("the annotation {annotation} has {value:?} where the name of a pool belongs")]
    NotAPool {
        /// Which annotation.
        annotation: &'static str,
        /// The value, truncated.
        value: String,
    },
    /// Not the object that it should be.
    #[error("the annotation {ANNOTATION_POOLS} is no JSON object of networks and pools: {0}")]
    NotAMap(String),
    /// A key that names no network.
    #[error(
        "the annotation {ANNOTATION_POOLS} has {0:?} where a network, or network/interface, belongs"
    )]
    NotANetwork(String),
    /// Two annotations name a pool for the default network.
    #[error("both {ANNOTATION_POOL} and {ANNOTATION_POOLS} name a pool for the network {0:?}")]
    Both(String),
}

type Name = Result<String, Misnamed>;

/// What a Pod's annotations name. Read once per version of the Pod; bounded, whatever they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNames {
    default: Option<Name>,
    networks: Result<BTreeMap<String, Name>, Misnamed>,
}

/// What Berth reads of a Namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its labels.
    pub labels: Labels,
    /// The pool that its annotation names.
    pub pool: Option<Name>,
}

/// Who named the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namer {
    /// `pools` in the network's configuration.
    Configuration,
    /// An annotation of the Pod.
    Pod(&'static str),
    /// The annotation of its Namespace.
    Namespace,
}

/// What is chosen from, before any pool's rule is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nobody named a pool: those that select the Pod.
    BySelectors,
    /// These pools, in this order.
    Named(Namer, Vec<String>),
}

/// Why there is no choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// Nobody has seen the Pod yet.
    PodUnknown,
    /// Its Namespace was not read yet.
    NamespaceUnknown,
    /// An annotation is invalid: falling back would be a choice that nobody made.
    Misnamed(Misnamed),
}

fn pool_name(annotation: &'static str, text: &str) -> Name {
    if is_object_name(text) {
        Ok(text.to_owned())
    } else {
        let value = shown(text);
        Err(Misnamed::NotAPool { annotation, value })
    }
}

fn shown(text: &str) -> String {
    let mut end = text.len().min(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// The members of a JSON object in their order, repeated keys included.
struct Members(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn networks(text: &str) -> Result<BTreeMap<String, Name>, Misnamed> {
    if text.len() > TEXT_BYTES_MAX {
        let said = format!("it is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Misnamed::NotAMap(said));
    }
    let Members(members) =
        serde_json::from_str(text).map_err(|error| Misnamed::NotAMap(shown(&error.to_string())))?;
    let mut names = BTreeMap::new();
    for (key, value) in members {
        let is_network = match key.split_once('/') {
            Some((network, interface)) => is_id(network) && is_interface(interface),
            None => is_id(&key),
        };
        if !is_network {
            return Err(Misnamed::NotANetwork(shown(&key)));
        }
        let name = match &value {
            Value::String(text) => pool_name(ANNOTATION_POOLS, text),
            // A number may look like a name, but without quotes its meaning is unclear.
            other => Err(Misnamed::NotAPool {
                annotation: ANNOTATION_POOLS,
                value: shown(&other.to_string()),
            }),
        };
        if names.insert(key.clone(), name).is_some() {
            let said = format!("{:?} is there twice", shown(&key));
            return Err(Misnamed::NotAMap(said));
        }
    }
    Ok(names)
}

impl PodNames {
    /// Reads a Pod's annotations.
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let default = annotations.get(ANNOTATION_POOL);
        let map = annotations.get(ANNOTATION_POOLS);
        Self {
            default: default.map(|text| pool_name(ANNOTATION_POOL, text)),
            networks: map.map_or_else(|| Ok(BTreeMap::new()), |text| networks(text)),
        }
    }

    /// The pool named for the interface, and by which annotation. The interface's own entry comes
    /// before its network's.
    ///
    /// Errors: an annotation that may be about this interface cannot be followed.
    fn for_interface(
        &self,
        interface: &Interface<'_>,
    ) -> Result<Option<(&'static str, &str)>, &Misnamed> {
        let networks = self.networks.as_ref()?;
        let own = format!("{}/{}", interface.network, interface.name);
        let entry = networks.get(&own);
        let entry = entry.or_else(|| networks.get(interface.network));
        match (entry, &self.default) {
            (Some(name), _) => Ok(Some((ANNOTATION_POOLS, name.as_ref()?))),
            (None, Some(name)) if interface.is_default => {
                Ok(Some((ANNOTATION_POOL, name.as_ref()?)))
            }
            (None, _) => Ok(None),
        }
    }

    fn names_twice(&self, interface: &Interface<'_>) -> bool {
        let names = |key: &str| self.networks.as_ref().is_ok_and(|n| n.contains_key(key));
        interface.is_default && self.default.is_some() && names(interface.network)
    }
}

impl NamespaceFacts {
    /// Reads a Namespace's metadata.
    pub fn read(metadata: &Metadata) -> Self {
        let named = metadata.annotations.get(ANNOTATION_POOL);
        Self {
            labels: metadata.labels.clone(),
            pool: named.map(|text| pool_name(ANNOTATION_POOL, text)),
        }
    }
}

/// What an interface's address is chosen from: the configuration's list first, then the Pod's
/// annotation, then the Namespace's (only for the default network), and selectors if nobody named a
/// pool. `heeds_namespaces`: some pool selects on Namespaces; otherwise nobody reads them, and
/// their annotations have no effect.
///
/// Errors: what must be known, or repaired, first. What is unknown is never treated as absent.
pub fn choose(
    interface: &Interface<'_>,
    pod: Option<&PodNames>,
    namespace: Option<&NamespaceFacts>,
    heeds_namespaces: bool,
) -> Result<Choice, Undecided> {
    if !interface.configured.is_empty() {
        let pools = interface.configured.to_vec();
        return Ok(Choice::Named(Namer::Configuration, pools));
    }
    let pod = pod.ok_or(Undecided::PodUnknown)?;
    let misnamed = |error: &Misnamed| Undecided::Misnamed(error.clone());
    if pod.names_twice(interface) {
        let network = shown(interface.network);
        return Err(Undecided::Misnamed(Misnamed::Both(network)));
    }
    if let Some((annotation, pool)) = pod.for_interface(interface).map_err(misnamed)? {
        let pools = vec![pool.to_owned()];
        return Ok(Choice::Named(Namer::Pod(annotation), pools));
    }
    if !interface.is_default || !heeds_namespaces {
        return Ok(Choice::BySelectors);
    }
    let namespace = namespace.ok_or(Undecided::NamespaceUnknown)?;
    match &namespace.pool {
        None => Ok(Choice::BySelectors),
        Some(name) => {
            let pool = name.as_ref().map_err(misnamed)?.clone();
            Ok(Choice::Named(Namer::Namespace, vec![pool]))
        }
    }
}

impl fmt::Display for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration => f.write_str("the network's configuration"),
            Self::Pod(annotation) => write!(f, "the Pod's annotation {annotation}"),
            Self::Namespace => write!(f, "the Namespace's annotation {ANNOTATION_POOL}"),
        }
    }
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PodUnknown => f.write_str("the Pod is not known yet"),
            Self::NamespaceUnknown => f.write_str("the Namespace could not be read yet"),
            Self::Misnamed(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Interface<'_> = Interface {
        network: "pods",
        name: "eth0",
        is_default: true,
        configured: &[],
    };

    fn second<'a>(network: &'a str, name: &'a str) -> Interface<'a> {
        Interface {
            network,
            name,
            is_default: false,
            configured: &[],
        }
    }

    fn names(pool: Option<&str>, pools: Option<&str>) -> PodNames {
        let entry = |key: &str, text: Option<&str>| Some((key.to_owned(), text?.to_owned()));
        let both = [entry(ANNOTATION_POOL, pool), entry(ANNOTATION_POOLS, pools)];
        PodNames::read(&both.into_iter().flatten().collect())
    }

    fn chosen(interface: Interface<'_>, names: &PodNames) -> Result<Option<String>, Undecided> {
        choose(&interface, Some(names), None, false).map(|choice| match choice {
            Choice::BySelectors => None,
            Choice::Named(_, mut pools) => pools.pop(),
        })
    }

    #[test]
    fn an_annotation_names_the_pool_of_its_own_network_alone() {
        let one = names(Some("a"), Some(r#"{"storage": "s", "storage/net2": "s2"}"#));
        assert_eq!(chosen(DEFAULT, &one), Ok(Some("a".into())));
        assert_eq!(
            chosen(second("storage", "net1"), &one),
            Ok(Some("s".into()))
        );
        assert_eq!(
            chosen(second("storage", "net2"), &one),
            Ok(Some("s2".into()))
        );
        assert_eq!(chosen(second("other", "net3"), &one), Ok(None));
        let by_name = names(None, Some(r#"{"pods": "p"}"#));
        assert_eq!(chosen(DEFAULT, &by_name), Ok(Some("p".into())));
    }

    #[test]
    fn a_malformed_annotation_is_never_taken_for_none() {
        let refused = |pool, pools, interface| {
            let result = chosen(interface, &names(pool, pools));
            matches!(result, Err(Undecided::Misnamed(_)))
        };
        let net = second("net", "net1");
        for text in ["", "A", "a b", "../a", "a,b"] {
            assert!(refused(Some(text), None, DEFAULT), "{text:?}");
            assert!(!refused(Some(text), None, net), "{text:?}: not its network");
        }
        let long = format!("{{\"net\": \"{}\"}}", "a".repeat(TEXT_BYTES_MAX));
        for text in [
            "",
            "net=a",
            "[]",
            "{\"net\": \"a\"",
            r#"{"net": "a", "net": "b"}"#,
            r#"{"n t": "a"}"#,
            r#"{"net/": "a"}"#,
            &long,
        ] {
            assert!(refused(None, Some(text), net), "{text:?}");
            assert!(refused(Some("a"), Some(text), DEFAULT), "{text:?}");
        }
        for text in [r#"{"net": 7}"#, r#"{"net": null}"#, r#"{"net": "B"}"#] {
            assert!(refused(None, Some(text), net), "{text:?}");
            assert!(!refused(None, Some(text), second("x", "net2")), "{text:?}");
        }
        assert!(
            refused(Some("a"), Some(r#"{"pods": "a"}"#), DEFAULT),
            "both"
        );
    }

    #[test]
    fn the_configuration_comes_before_the_pod_and_the_pod_before_its_namespace() {
        let configured = ["c".to_owned()];
        let with_list = Interface {
            configured: &configured,
            ..DEFAULT
        };
        let pod = names(Some("p"), None);
        let none = names(None, None);
        let mut metadata = Metadata::default();
        metadata
            .annotations
            .insert(ANNOTATION_POOL.into(), "n".into());
        let facts = NamespaceFacts::read(&metadata);
        let by = |interface: Interface<'_>, pod: &PodNames, heeds| match choose(
            &interface,
            Some(pod),
            Some(&facts),
            heeds,
        )
        .unwrap()
        {
            Choice::BySelectors => "selectors".to_owned(),
            Choice::Named(_, pools) => pools.concat(),
        };
        assert_eq!(by(with_list, &pod, true), "c");
        assert_eq!(by(DEFAULT, &pod, true), "p");
        assert_eq!(by(DEFAULT, &none, true), "n");
        assert_eq!(by(DEFAULT, &none, false), "selectors");
        assert_eq!(by(second("net", "net1"), &none, true), "selectors");
        let unknown = choose(&DEFAULT, Some(&none), None, true);
        assert_eq!(unknown, Err(Undecided::NamespaceUnknown));
        let unseen = choose(&DEFAULT, None, None, false);
        assert_eq!(unseen, Err(Undecided::PodUnknown));
    }
}
