//! Typed reading of one map: every access names its key path in errors, and what nobody asked for
//! is either listed as not simulated or refused as unknown.

#![expect(
    clippy::unnecessary_box_returns,
    reason = "the error is large, and every caller returns it"
)]

use super::tree::{Entry, Node, Position, Value};
use super::{Failure, ManifestError};
use crate::workload::{DocumentRef, NotSimulated, StringMap};

/// The document that is being read.
pub(super) struct Context {
    pub document: DocumentRef,
    pub kind: String,
    pub name: String,
    pub not_simulated: Vec<NotSimulated>,
}

impl Context {
    pub(super) fn new(document: DocumentRef) -> Self {
        let (kind, name) = (String::new(), String::new());
        Self {
            document,
            kind,
            name,
            not_simulated: Vec::new(),
        }
    }

    /// Lists a field that takes no part.
    pub(super) fn skip(&mut self, field: String, reason: &str) {
        self.not_simulated.push(NotSimulated {
            document: self.document.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            field,
            reason: reason.to_owned(),
        });
    }

    /// An error in this document.
    pub(super) fn error(&self, path: String, position: Position, message: String) -> Failure {
        let object = match (self.kind.as_str(), self.name.as_str()) {
            (kind, "") => kind.to_owned(),
            (kind, name) => format!("{kind} `{name}`"),
        };
        Box::new(ManifestError {
            file: self.document.file.clone(),
            line: position.line,
            column: position.column,
            document: Some(self.document.document),
            object,
            path,
            message,
        })
    }

    fn wrong_type(&self, path: String, node: &Node, wanted: &str) -> Failure {
        let message = format!("{} is not allowed: {wanted} is", node.value.describe());
        self.error(path, node.position, message)
    }
}

/// A map that is being read.
pub(super) struct Fields<'a> {
    path: String,
    pub position: Position,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The map in a node.
    pub(super) fn of(context: &Context, path: String, node: &'a Node) -> Result<Self, Failure> {
        match &node.value {
            Value::Map(entries) => Ok(Self {
                path,
                position: node.position,
                entries,
                asked: Vec::new(),
            }),
            _ => Err(context.wrong_type(path, node, "a map")),
        }
    }

    /// The key path of a key of this map.
    pub(super) fn path(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// An error about the map itself.
    pub(super) fn error(&self, context: &Context, message: String) -> Failure {
        context.error(self.path.clone(), self.position, message)
    }

    /// An error about a key of the map.
    pub(super) fn error_at(
        &self,
        context: &Context,
        key: &str,
        position: Position,
        message: String,
    ) -> Failure {
        context.error(self.path(key), position, message)
    }

    /// The value of a key; `null` counts as absent, as it does for the apiserver.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    fn missing(&self, context: &Context, key: &str) -> Failure {
        let message = "required, and missing".to_owned();
        self.error_at(context, key, self.position, message)
    }

    /// The text of a key, with its position.
    pub(super) fn text(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Option<(&'a str, Position)>, Failure> {
        self.get(key)
            .map(|node| match &node.value {
                Value::Text(text) => Ok((text.as_str(), node.position)),
                _ => Err(context.wrong_type(self.path(key), node, "a text")),
            })
            .transpose()
    }

    /// The text of a key that must be there.
    pub(super) fn required_text(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<(&'a str, Position), Failure> {
        self.text(context, key)?
            .ok_or_else(|| self.missing(context, key))
    }

    /// The number of a key, which must lie between 0 and `max`.
    pub(super) fn number(
        &mut self,
        context: &Context,
        key: &'static str,
        max: u32,
    ) -> Result<Option<u32>, Failure> {
        let Some(node) = self.get(key) else {
            return Ok(None);
        };
        let wanted = format!("a whole number from 0 to {max}");
        let number = match node.value {
            Value::Integer(number) => u32::try_from(number).ok().filter(|number| *number <= max),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(context.wrong_type(self.path(key), node, &wanted)),
        }
    }

    /// The boolean of a key.
    pub(super) fn boolean(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Option<bool>, Failure> {
        self.get(key)
            .map(|node| match node.value {
                Value::Bool(value) => Ok(value),
                _ => Err(context.wrong_type(self.path(key), node, "true or false")),
            })
            .transpose()
    }

    /// The value of a key that has a few names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        context: &Context,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, Failure> {
        let Some((text, position)) = self.text(context, key)? else {
            return Ok(None);
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*value));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("`{text}` is not allowed: one of {} is", names.join(", "));
        Err(self.error_at(context, key, position, message))
    }

    /// The map of a key.
    pub(super) fn map(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Option<Fields<'a>>, Failure> {
        self.get(key)
            .map(|node| Fields::of(context, self.path(key), node))
            .transpose()
    }

    /// The map of a key that must be there.
    pub(super) fn required_map(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Fields<'a>, Failure> {
        self.map(context, key)?
            .ok_or_else(|| self.missing(context, key))
    }

    /// The items of a key with their key paths.
    pub(super) fn list(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Option<Vec<(String, &'a Node)>>, Failure> {
        let Some(node) = self.get(key) else {
            return Ok(None);
        };
        let Value::List(items) = &node.value else {
            return Err(context.wrong_type(self.path(key), node, "a list"));
        };
        let path = self.path(key);
        let numbered = items.iter().enumerate();
        Ok(Some(
            numbered
                .map(|(index, item)| (format!("{path}[{index}]"), item))
                .collect(),
        ))
    }

    /// The items of a key that must be there and not be empty.
    pub(super) fn required_list(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Vec<(String, &'a Node)>, Failure> {
        let items = self.list(context, key)?.unwrap_or_default();
        if items.is_empty() {
            Err(self.missing(context, key))
        } else {
            Ok(items)
        }
    }

    /// The text items of a key with their positions.
    pub(super) fn texts(
        &mut self,
        context: &Context,
        key: &'static str,
    ) -> Result<Vec<(String, &'a str, Position)>, Failure> {
        let items = self.list(context, key)?.unwrap_or_default();
        let text = |(path, node): (String, &'a Node)| match &node.value {
            Value::Text(text) => Ok((path, text.as_str(), node.position)),
            _ => Err(context.wrong_type(path, node, "a text")),
        };
        items.into_iter().map(text).collect()
    }

    /// The text-to-text map of a key, each entry checked by `check`.
    pub(super) fn string_map(
        &mut self,
        context: &Context,
        key: &'static str,
        check: fn(&str, &str) -> Result<(), String>,
    ) -> Result<StringMap, Failure> {
        let mut map = StringMap::new();
        let Some(fields) = self.map(context, key)? else {
            return Ok(map);
        };
        for entry in fields.entries {
            let path = format!("{}[{}]", fields.path, entry.key);
            let value = match &entry.node.value {
                Value::Text(text) => text.clone(),
                Value::Null => String::new(),
                _ => return Err(context.wrong_type(path, &entry.node, "a text (quote it)")),
            };
            if let Err(message) = check(&entry.key, &value) {
                return Err(context.error(path, entry.position, message));
            }
            map.insert(entry.key.clone(), value);
        }
        Ok(map)
    }

    /// Ends the reading: keys in `known` are listed with their reason, all others are errors.
    pub(super) fn finish(
        self,
        context: &mut Context,
        known: &[(&'static str, &str)],
    ) -> Result<(), Failure> {
        for entry in self.entries {
            let key = entry.key.as_str();
            if entry.node.value == Value::Null || self.asked.contains(&key) {
                continue;
            }
            if let Some((_, reason)) = known.iter().find(|(name, _)| *name == key) {
                context.skip(self.path(key), reason);
                continue;
            }
            let names = self
                .asked
                .iter()
                .copied()
                .chain(known.iter().map(|(name, _)| *name));
            let message = match nearest(key, names) {
                Some(near) => format!("unknown field `{key}`: did you mean `{near}`?"),
                None => format!("unknown field `{key}`"),
            };
            return Err(self.error_at(context, key, entry.position, message));
        }
        Ok(())
    }
}

/// The name that a misspelt one was probably meant to be.
pub(super) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = wrong.to_lowercase();
    let near = |name: &'n str| {
        (
            strsim::damerau_levenshtein(&lower, &name.to_lowercase()),
            name,
        )
    };
    let (distance, name) = names.map(near).min()?;
    (distance <= 1 + wrong.chars().count() / 3).then_some(name)
}
