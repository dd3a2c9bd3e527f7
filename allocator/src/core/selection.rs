//! Which pools a Pod may draw from, in which order, and why not from the others. The agent asks when
//! it claims, the operator's tools when they explain: one rule for both.

use core::fmt;
use std::collections::BTreeMap;

use super::objects::AddressPoolSpec;

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Labels of the Node that the Pod is bound to.
    pub node_labels: &'a BTreeMap<String, String>,
    /// Namespace of the Pod.
    pub namespace: &'a str,
    /// Labels of the Pod; `None` while they are not known.
    pub pod_labels: Option<&'a BTreeMap<String, String>>,
    /// `name` of the CNI configuration.
    pub network: &'a str,
}

/// Why a pool is not for a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operator disabled it.
    Disabled,
    /// The Node lacks a label.
    NodeSelector {
        /// Key.
        key: String,
        /// Value that the pool wants.
        wanted: String,
    },
    /// The namespace is not in its list.
    Namespace,
    /// The network is not in its list.
    Network,
    /// The Pod lacks a label.
    PodSelector {
        /// Key.
        key: String,
        /// Value that the pool wants.
        wanted: String,
    },
    /// The pool selects by labels of a Pod that nobody has seen yet.
    PodUnknown,
    /// It has no selector and is no default pool: only a Pod or a network that names it draws from
    /// it.
    OnlyByName,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("it is disabled (spec.disabled)"),
            Self::NodeSelector { key, wanted } => {
                write!(
                    f,
                    "the Node lacks the label {key}={wanted} (spec.nodeSelector)"
                )
            }
            Self::Namespace => f.write_str("the namespace is not in spec.namespaces"),
            Self::Network => f.write_str("the network is not in spec.networks"),
            Self::PodSelector { key, wanted } => {
                write!(
                    f,
                    "the Pod lacks the label {key}={wanted} (spec.podSelector)"
                )
            }
            Self::PodUnknown => f.write_str("it selects by labels of a Pod that is not known"),
            Self::OnlyByName => f.write_str(
                "it is no default pool and has no selector: only who names it draws from it",
            ),
        }
    }
}

fn lacks<'a>(
    wanted: &'a BTreeMap<String, String>,
    has: &BTreeMap<String, String>,
) -> Option<(&'a String, &'a String)> {
    wanted
        .iter()
        .find(|(key, value)| has.get(*key) != Some(value))
}

/// Whether a pool that somebody named is for the Pod.
///
/// Errors: the first rule that it breaks.
pub fn admits(spec: &AddressPoolSpec, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    if spec.disabled {
        return Err(Refusal::Disabled);
    }
    if let Some((key, wanted)) = lacks(&spec.node_selector, candidate.node_labels) {
        let (key, wanted) = (key.clone(), wanted.clone());
        return Err(Refusal::NodeSelector { key, wanted });
    }
    let names = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
    if !names(&spec.namespaces, candidate.namespace) {
        return Err(Refusal::Namespace);
    }
    if !names(&spec.networks, candidate.network) {
        return Err(Refusal::Network);
    }
    if spec.pod_selector.is_empty() {
        return Ok(());
    }
    let Some(labels) = candidate.pod_labels else {
        return Err(Refusal::PodUnknown);
    };
    match lacks(&spec.pod_selector, labels) {
        None => Ok(()),
        Some((key, wanted)) => Err(Refusal::PodSelector {
            key: key.clone(),
            wanted: wanted.clone(),
        }),
    }
}

/// Whether a pool is for a Pod that names none.
///
/// Errors: the first rule that it breaks.
pub fn selects(spec: &AddressPoolSpec, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    admits(spec, candidate)?;
    let particular = !spec.namespaces.is_empty()
        || !spec.pod_selector.is_empty()
        || !spec.networks.is_empty()
        || !spec.node_selector.is_empty();
    if spec.is_default || particular {
        Ok(())
    } else {
        Err(Refusal::OnlyByName)
    }
}

/// The order among pools that select the same Pod: the more particular rule before the default,
/// then by name.
pub fn order<'a>(name: &'a str, spec: &AddressPoolSpec) -> (bool, &'a str) {
    (spec.is_default, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn each_rule_that_refuses_says_which_it_was() {
        let (node, pod) = (labels(&[("zone", "a")]), labels(&[("app", "web")]));
        let candidate = Candidate {
            node_labels: &node,
            namespace: "shop",
            pod_labels: Some(&pod),
            network: "net",
        };
        let check = |change: &dyn Fn(&mut AddressPoolSpec)| {
            let mut spec = AddressPoolSpec::default();
            change(&mut spec);
            selects(&spec, &candidate)
        };
        assert_eq!(check(&|_| {}), Err(Refusal::OnlyByName));
        assert_eq!(check(&|spec| spec.is_default = true), Ok(()));
        assert_eq!(
            check(&|spec| (spec.is_default, spec.disabled) = (true, true)),
            Err(Refusal::Disabled)
        );
        assert_eq!(check(&|spec| spec.namespaces = vec!["shop".into()]), Ok(()));
        assert_eq!(
            check(&|spec| spec.namespaces = vec!["bank".into()]),
            Err(Refusal::Namespace)
        );
        assert_eq!(
            check(&|spec| spec.networks = vec!["other".into()]),
            Err(Refusal::Network)
        );
        assert_eq!(
            check(&|spec| spec.node_selector = labels(&[("zone", "b")])),
            Err(Refusal::NodeSelector {
                key: "zone".into(),
                wanted: "b".into()
            })
        );
        assert_eq!(
            check(&|spec| spec.pod_selector = labels(&[("app", "web"), ("tier", "front")])),
            Err(Refusal::PodSelector {
                key: "tier".into(),
                wanted: "front".into()
            })
        );
    }

    #[test]
    fn the_particular_pool_comes_before_the_default() {
        let default = AddressPoolSpec {
            is_default: true,
            ..AddressPoolSpec::default()
        };
        let plain = AddressPoolSpec::default();
        assert!(order("z", &plain) < order("a", &default));
        assert!(order("a", &plain) < order("b", &plain));
    }
}
