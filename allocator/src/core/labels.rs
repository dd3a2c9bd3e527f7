//! Label selectors as Kubernetes writes them: what a selector says and whether labels satisfy it.
//! Which objects are looked at, and what follows, is `selection`'s question.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// A Kubernetes `LabelSelector`: all of its parts must hold; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must have these values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: Labels,
    /// Requirements that must all hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on one label (`matchExpressions`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Requirement {
    /// Key of the label.
    pub key: String,
    /// What is required of it.
    pub operator: Operator,
    /// For `In` and `NotIn` at least one value, for the others none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "agent", derive(schemars::JsonSchema))]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is not there, or has none of the values.
    NotIn,
    /// The label is there, whatever its value.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// The first part of a selector that labels do not satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// A label that is missing or has another value.
    Label {
        /// Key.
        key: String,
        /// Value that is wanted.
        wanted: String,
    },
    /// A requirement that does not hold.
    Requirement(Requirement),
}

impl Requirement {
    /// Whether it says something: `In` and `NotIn` need values, the others take none.
    pub fn is_sound(&self) -> bool {
        let needs_values = matches!(self.operator, Operator::In | Operator::NotIn);
        !self.key.is_empty() && needs_values != self.values.is_empty()
    }

    /// Whether the labels satisfy it. One that says nothing is satisfied by none: a typing error
    /// closes a pool and never opens it.
    pub fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        self.is_sound()
            && match self.operator {
                Operator::In => is_listed,
                Operator::NotIn => !is_listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
    }
}

/// The first label of `wanted` that `has` does not have with that value, or else the first
/// requirement that does not hold.
pub fn unmet(wanted: &Labels, requirements: &[Requirement], has: &Labels) -> Option<Unmet> {
    let label = wanted
        .iter()
        .find(|(key, value)| has.get(*key) != Some(value))
        .map(|(key, wanted)| Unmet::Label {
            key: key.clone(),
            wanted: wanted.clone(),
        });
    label.or_else(|| {
        let broken = requirements.iter().find(|one| !one.holds(has));
        broken.cloned().map(Unmet::Requirement)
    })
}

impl LabelSelector {
    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// The first part that the labels do not satisfy.
    pub fn unmet(&self, labels: &Labels) -> Option<Unmet> {
        unmet(&self.match_labels, &self.match_expressions, labels)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.key, self.operator)?;
        if self.values.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.values.join(", "))
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label { key, wanted } => write!(f, "lacks the label {key}={wanted}"),
            Self::Requirement(one) if !one.is_sound() => {
                write!(f, "cannot satisfy {one}, which says nothing")
            }
            Self::Requirement(one) => write!(f, "does not satisfy {one}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_means_what_it_means_to_kubernetes() {
        let labels: Labels = [("zone".to_owned(), "a".to_owned())].into();
        let holds = |key: &str, operator, values: &[&str]| {
            let values = values.iter().map(ToString::to_string).collect();
            let key = key.to_owned();
            Requirement {
                key,
                operator,
                values,
            }
            .holds(&labels)
        };
        for (key, operator, values, expected) in [
            ("zone", Operator::In, &["a", "b"][..], true),
            ("zone", Operator::In, &["b"], false),
            ("none", Operator::In, &["a"], false),
            ("zone", Operator::NotIn, &["a"], false),
            ("zone", Operator::NotIn, &["b"], true),
            ("none", Operator::NotIn, &["a"], true),
            ("zone", Operator::Exists, &[], true),
            ("none", Operator::Exists, &[], false),
            ("zone", Operator::DoesNotExist, &[], false),
            ("none", Operator::DoesNotExist, &[], true),
            // What says nothing opens nothing.
            ("zone", Operator::In, &[], false),
            ("none", Operator::NotIn, &[], false),
            ("zone", Operator::Exists, &["a"], false),
            ("none", Operator::DoesNotExist, &["a"], false),
            ("", Operator::DoesNotExist, &[], false),
        ] {
            let said = format!("{key} {operator:?} {values:?}");
            assert_eq!(holds(key, operator, values), expected, "{said}");
        }
    }

    #[test]
    fn a_selector_is_read_as_kubernetes_writes_it_and_an_unknown_operator_is_an_error() {
        let read = |text: &str| serde_json::from_str::<LabelSelector>(text);
        let selector = read(
            r#"{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"c","operator":"DoesNotExist"}]}"#,
        )
        .unwrap();
        assert_eq!(selector.unmet(&[("a".into(), "b".into())].into()), None);
        assert!(read("{}").unwrap().is_empty());
        assert!(
            read(r#"{"matchExpressions":[{"key":"c","operator":"Gt","values":["1"]}]}"#).is_err()
        );
    }
}
