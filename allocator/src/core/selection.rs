//! Which pools a Pod may draw from, in which order, and why not from the others. One rule for all:
//! the agent uses it to claim and to answer, the operator's tools to explain.

use core::fmt;
use std::collections::BTreeMap;

use super::choice::{Choice, Namer};
use super::labels::{self, Requirement, Unmet};
use super::objects::AddressPoolSpec;

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Labels of the Node that the Pod is bound to.
    pub node_labels: &'a BTreeMap<String, String>,
    /// Namespace of the Pod.
    pub namespace: &'a str,
    /// Labels of that Namespace; `None` while they are unknown.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// Labels of the Pod; `None` while they are unknown.
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
    /// The Node does not satisfy a requirement.
    NodeExpression(Requirement),
    /// The namespace is not in its list.
    Namespace,
    /// The Namespace's labels do not satisfy its selector.
    NamespaceSelector(Unmet),
    /// The pool selects by labels of a Namespace that nobody has read yet.
    NamespaceUnknown,
    /// The network is not in its list.
    Network,
    /// The Pod lacks a label.
    PodSelector {
        /// Key.
        key: String,
        /// Value that the pool wants.
        wanted: String,
    },
    /// The Pod does not satisfy a requirement.
    PodExpression(Requirement),
    /// The pool selects by labels of a Pod that nobody has seen yet.
    PodUnknown,
    /// It has no selector and is not a default pool: only a Pod or a network that names it draws
    /// from it.
    OnlyByName,
    /// Somebody named other pools.
    NotNamed(Namer),
    /// A Namespace named it, but no Namespace may name it.
    NotForNamespaces,
}

impl Refusal {
    /// Whether it means that the answer is still unknown, rather than no.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::NamespaceUnknown | Self::PodUnknown)
    }
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
            Self::NodeExpression(one) => {
                let unmet = Unmet::Requirement(one.clone());
                write!(f, "the Node {unmet} (spec.nodeMatchExpressions)")
            }
            Self::Namespace => f.write_str("the namespace is not in spec.namespaces"),
            Self::NamespaceSelector(unmet) => {
                write!(f, "the Namespace {unmet} (spec.namespaceSelector)")
            }
            Self::NamespaceUnknown => {
                f.write_str("it selects by labels of a Namespace that could not be read yet")
            }
            Self::Network => f.write_str("the network is not in spec.networks"),
            Self::PodSelector { key, wanted } => {
                write!(
                    f,
                    "the Pod lacks the label {key}={wanted} (spec.podSelector)"
                )
            }
            Self::PodExpression(one) => {
                let unmet = Unmet::Requirement(one.clone());
                write!(f, "the Pod {unmet} (spec.podMatchExpressions)")
            }
            Self::PodUnknown => f.write_str("it selects by labels of a Pod that is not known"),
            Self::OnlyByName => f.write_str(
                "it is no default pool and has no selector: only who names it draws from it",
            ),
            Self::NotNamed(namer) => write!(f, "{namer} names another"),
            Self::NotForNamespaces => write!(
                f,
                "{} names it, and it has no spec.namespaceSelector ({{}} lets every Namespace)",
                Namer::Namespace
            ),
        }
    }
}

/// Whether the pool's rules let the Pod draw from it. Nothing bypasses this, whoever named the
/// pool.
///
/// Errors: the first rule that it breaks.
pub fn admits(spec: &AddressPoolSpec, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    if spec.disabled {
        return Err(Refusal::Disabled);
    }
    let (labels, expressions) = (&spec.node_selector, &spec.node_match_expressions);
    match labels::unmet(labels, expressions, candidate.node_labels) {
        None => {}
        Some(Unmet::Label { key, wanted }) => return Err(Refusal::NodeSelector { key, wanted }),
        Some(Unmet::Requirement(one)) => return Err(Refusal::NodeExpression(one)),
    }
    let names = |list: &[String], name: &str| list.is_empty() || list.iter().any(|n| n == name);
    if !names(&spec.namespaces, candidate.namespace) {
        return Err(Refusal::Namespace);
    }
    if !names(&spec.networks, candidate.network) {
        return Err(Refusal::Network);
    }
    let (labels, expressions) = (&spec.pod_selector, &spec.pod_match_expressions);
    if !labels.is_empty() || !expressions.is_empty() {
        let Some(of_pod) = candidate.pod_labels else {
            return Err(Refusal::PodUnknown);
        };
        match labels::unmet(labels, expressions, of_pod) {
            None => {}
            Some(Unmet::Label { key, wanted }) => return Err(Refusal::PodSelector { key, wanted }),
            Some(Unmet::Requirement(one)) => return Err(Refusal::PodExpression(one)),
        }
    }
    // Last, because only this check may need a request. An empty selector admits any Namespace.
    let Some(selector) = spec.namespace_selector.as_ref().filter(|s| !s.is_empty()) else {
        return Ok(());
    };
    let labels = candidate.namespace_labels;
    match selector.unmet(labels.ok_or(Refusal::NamespaceUnknown)?) {
        None => Ok(()),
        Some(unmet) => Err(Refusal::NamespaceSelector(unmet)),
    }
}

/// Whether a pool is for a Pod that names none.
///
/// Errors: the first rule that it breaks.
pub fn selects(spec: &AddressPoolSpec, candidate: &Candidate<'_>) -> Result<(), Refusal> {
    let particular = !spec.namespaces.is_empty()
        || spec
            .namespace_selector
            .as_ref()
            .is_some_and(|s| !s.is_empty())
        || !spec.pod_selector.is_empty()
        || !spec.pod_match_expressions.is_empty()
        || !spec.networks.is_empty()
        || !spec.node_selector.is_empty()
        || !spec.node_match_expressions.is_empty();
    admits(spec, candidate)?;
    if spec.is_default || particular {
        Ok(())
    } else {
        Err(Refusal::OnlyByName)
    }
}

/// Whether a pool is for an interface: the only door, whoever chose the pool.
///
/// Errors: why not.
pub fn opens(
    name: &str,
    spec: &AddressPoolSpec,
    choice: &Choice,
    candidate: &Candidate<'_>,
) -> Result<(), Refusal> {
    match choice {
        Choice::BySelectors => selects(spec, candidate),
        Choice::Named(namer, pools) if !pools.iter().any(|pool| pool == name) => {
            Err(Refusal::NotNamed(*namer))
        }
        Choice::Named(Namer::Namespace, _) if spec.namespace_selector.is_none() => {
            Err(Refusal::NotForNamespaces)
        }
        Choice::Named(..) => admits(spec, candidate),
    }
}

/// Whether an address that a reservation keeps in a pool for this Pod is for this interface. A
/// reservation names the pool like others do, and cannot bypass the pool's rules either.
///
/// Errors: the pool's rule that keeps the Pod from its reservation. It gets no other address
/// instead, because that one was reserved on purpose.
pub fn keeps(
    name: &str,
    spec: &AddressPoolSpec,
    choice: &Choice,
    candidate: &Candidate<'_>,
) -> Result<bool, Refusal> {
    if matches!(choice, Choice::Named(_, pools) if !pools.iter().any(|pool| pool == name)) {
        return Ok(false);
    }
    match admits(spec, candidate) {
        Ok(()) => Ok(true),
        // It is for another interface of the Pod.
        Err(Refusal::Network) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

/// The order among pools that select the same Pod: the more particular rule before the default,
/// then by name.
pub fn order<'a>(name: &'a str, spec: &AddressPoolSpec) -> (bool, &'a str) {
    (spec.is_default, name)
}

/// The order among pools that are for an interface: that of the list which names them, or else
/// [`order`].
pub fn rank<'a>(name: &'a str, spec: &AddressPoolSpec, choice: &Choice) -> (usize, bool, &'a str) {
    match choice {
        Choice::BySelectors => (0, spec.is_default, name),
        Choice::Named(_, pools) => {
            let place = pools.iter().position(|pool| pool == name);
            (place.unwrap_or(pools.len()), false, name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::labels::LabelSelector;

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
            namespace_labels: None,
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
    fn a_namespace_is_not_admitted_before_its_labels_are_known() {
        let empty = labels(&[]);
        let team = labels(&[("team", "a")]);
        let mut candidate = Candidate {
            node_labels: &empty,
            namespace: "shop",
            namespace_labels: None,
            pod_labels: None,
            network: "net",
        };
        let mut spec = AddressPoolSpec {
            namespace_selector: Some(LabelSelector {
                match_labels: team.clone(),
                ..LabelSelector::default()
            }),
            ..AddressPoolSpec::default()
        };
        assert_eq!(selects(&spec, &candidate), Err(Refusal::NamespaceUnknown));
        candidate.namespace_labels = Some(&empty);
        assert!(matches!(
            selects(&spec, &candidate),
            Err(Refusal::NamespaceSelector(Unmet::Label { .. }))
        ));
        candidate.namespace_labels = Some(&team);
        assert_eq!(selects(&spec, &candidate), Ok(()));
        // An empty selector admits every Namespace, and selects none by itself.
        spec.namespace_selector = Some(LabelSelector::default());
        candidate.namespace_labels = None;
        assert_eq!(admits(&spec, &candidate), Ok(()));
        assert_eq!(selects(&spec, &candidate), Err(Refusal::OnlyByName));
    }

    #[test]
    fn a_pool_that_a_namespace_names_must_let_namespaces_name_it() {
        let empty = labels(&[]);
        let candidate = Candidate {
            node_labels: &empty,
            namespace: "shop",
            namespace_labels: Some(&empty),
            pod_labels: Some(&empty),
            network: "net",
        };
        let mut spec = AddressPoolSpec::default();
        let choice = Choice::Named(Namer::Namespace, vec!["p".into()]);
        let asked = |spec: &AddressPoolSpec| opens("p", spec, &choice, &candidate);
        assert_eq!(asked(&spec), Err(Refusal::NotForNamespaces));
        spec.namespace_selector = Some(LabelSelector::default());
        assert_eq!(asked(&spec), Ok(()));
        spec.disabled = true;
        assert_eq!(asked(&spec), Err(Refusal::Disabled));
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
