//! YAML text as a tree in which every key and value knows its line and column. It resolves plain
//! scalars as kubectl does (YAML 1.1), and bounds depth and size; it knows nothing of Kubernetes.

#![expect(
    clippy::unnecessary_box_returns,
    reason = "the error is large, and every caller returns it"
)]

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::{Failure, ManifestError, SourceFile};

/// Nested lists and maps that are followed.
const DEPTH_MAX: usize = 100;
/// Nodes in a file, those that aliases repeat included: stops a file that expands without end.
const NODES_MAX: usize = 2_000_000;

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// 1-based.
    pub line: u32,
    /// 1-based.
    pub column: u32,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        let clamp = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            line: clamp(marker.line()),
            column: clamp(marker.col().saturating_add(1)),
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub position: Position,
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no 64-bit integer, as written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub position: Position,
    pub node: Node,
}

/// A document of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// 1-based.
    pub number: u32,
    pub node: Node,
}

/// A list or map that is not complete yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<(String, Position)>,
    keys: BTreeSet<String>,
}

/// Reads a file.
pub(super) fn parse(source: &SourceFile<'_>) -> Result<Vec<Document>, Failure> {
    let mut builder = Builder::new(source);
    for step in Parser::new_from_str(source.text) {
        match step {
            Ok((event, span)) => builder.event(event, span.start.into())?,
            Err(error) => {
                let message = format!("malformed YAML: {}", error.info());
                return Err(fail(source, (*error.marker()).into(), message));
            }
        }
    }
    Ok(builder.documents)
}

struct Builder<'a> {
    source: &'a SourceFile<'a>,
    documents: Vec<Document>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    node_count: usize,
}

impl<'a> Builder<'a> {
    fn new(source: &'a SourceFile<'a>) -> Self {
        let (documents, open, anchors) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self {
            source,
            documents,
            open,
            anchors,
            node_count: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, position: Position) -> Result<(), Failure> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Scalar(text, style, anchor, tag) => {
                let forced = tag.map(|tag| tag.suffix.clone());
                let value = match forced.as_deref() {
                    Some("str") => Value::Text(text.into_owned()),
                    None | Some("int" | "bool" | "null" | "float") => scalar(&text, style),
                    Some(other) => {
                        let message = format!("the tag `{other}` is not allowed here");
                        return Err(fail(self.source, position, message));
                    }
                };
                self.add(Node { position, value }, anchor, 1)?;
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    let message = "an alias to a value that contains it".to_owned();
                    return Err(fail(self.source, position, message));
                };
                self.add(Node { position, ..node }, 0, size)?;
            }
            Event::SequenceStart(anchor, _) => self.start(position, Value::List(vec![]), anchor)?,
            Event::MappingStart(anchor, _) => self.start(position, Value::Map(vec![]), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.add(open.node, open.anchor, 1)?;
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn start(&mut self, position: Position, value: Value, anchor: usize) -> Result<(), Failure> {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} deep");
            return Err(fail(self.source, position, message));
        }
        let node = Node { position, value };
        self.open.push(Open {
            node,
            anchor,
            key: None,
            keys: BTreeSet::new(),
        });
        Ok(())
    }

    /// Puts a complete node where it belongs; `size` counts the nodes that it adds.
    fn add(&mut self, mut node: Node, anchor: usize, size: usize) -> Result<(), Failure> {
        self.node_count = self.node_count.saturating_add(size);
        if self.node_count > NODES_MAX {
            let message = format!("more than {NODES_MAX} values, aliases included");
            return Err(fail(self.source, node.position, message));
        }
        let awaits_key = self
            .open
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(open.node.value, Value::Map(_)));
        if let (false, Value::Map(entries)) = (awaits_key, &mut node.value) {
            merge(self.source, entries)?;
        }
        if anchor > 0 {
            let size = count(&node);
            self.node_count = self.node_count.saturating_add(size);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let source = self.source;
        let Some(open) = self.open.last_mut() else {
            let number = u32::try_from(self.documents.len() + 1).unwrap_or(u32::MAX);
            self.documents.push(Document { number, node });
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Map(entries), Some((key, position))) => {
                if !open.keys.insert(key.clone()) {
                    let message = format!("the key `{key}` stands twice in one map");
                    return Err(fail(source, position, message));
                }
                entries.push(Entry {
                    key,
                    position,
                    node,
                });
            }
            (Value::Map(_), None) => {
                let key = match node.value {
                    Value::Text(text) | Value::Number(text) => text,
                    Value::Integer(number) => number.to_string(),
                    Value::Bool(value) => value.to_string(),
                    Value::Null | Value::List(_) | Value::Map(_) => {
                        let message = "a key must be a plain text".to_owned();
                        return Err(fail(source, node.position, message));
                    }
                };
                open.key = Some((key, node.position));
            }
            _ => unreachable!("only lists and maps are opened"),
        }
        Ok(())
    }
}

/// Resolves `<<`: keys of the merged maps, where the map does not have them itself.
fn merge(source: &SourceFile<'_>, entries: &mut Vec<Entry>) -> Result<(), Failure> {
    while let Some(index) = entries.iter().position(|entry| entry.key == "<<") {
        let merged = entries.remove(index);
        let maps = match merged.node.value {
            Value::List(items) => items,
            value => vec![Node {
                position: merged.position,
                value,
            }],
        };
        for map in maps {
            let Value::Map(additions) = map.value else {
                let message = "`<<` takes a map or a list of maps".to_owned();
                return Err(fail(source, map.position, message));
            };
            for addition in additions {
                if entries.iter().all(|entry| entry.key != addition.key) {
                    entries.push(addition);
                }
            }
        }
    }
    Ok(())
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum(),
        Value::Map(entries) => entries.iter().map(|entry| count(&entry.node)).sum(),
        _ => 0,
    }
}

/// What a scalar means: a quoted one is text, a plain one is what YAML 1.1 makes of it.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let radix = |radix, digits: &str| {
        let clean = digits.starts_with(|first: char| first.is_ascii_alphanumeric());
        let sign = if sign == "-" { "-" } else { "" };
        i64::from_str_radix(&format!("{sign}{digits}"), radix)
            .ok()
            .filter(|_| clean)
    };
    let integer = if let Some(hex) = digits.strip_prefix("0x") {
        radix(16, hex)
    } else if let Some(octal) = digits.strip_prefix("0o") {
        radix(8, octal)
    } else if let Some(octal) = digits.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        radix(8, octal)
    } else {
        radix(10, digits)
    };
    if let Some(integer) = integer {
        return Value::Integer(integer);
    }
    let numeric = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && digits.contains(|letter: char| letter.is_ascii_digit())
        && text.parse::<f64>().is_ok();
    if numeric {
        Value::Number(text.to_owned())
    } else {
        Value::Text(text.to_owned())
    }
}

fn fail(source: &SourceFile<'_>, position: Position, message: String) -> Failure {
    Box::new(ManifestError {
        file: source.name.to_owned(),
        line: position.line,
        column: position.column,
        document: None,
        object: String::new(),
        path: String::new(),
        message,
    })
}

impl Value {
    /// The type in words, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Integer(number) => format!("the number {number}"),
            Self::Number(text) => format!("the number {text}"),
            Self::Text(text) if text.chars().count() > 60 => "a long text".to_owned(),
            Self::Text(text) => format!("the text `{text}`"),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
        }
    }

    /// The value as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Integer(number) => (*number).into(),
            Self::Number(text) => text
                .parse::<f64>()
                .map_or_else(|_| text.clone().into(), Into::into),
            Self::Text(text) => text.clone().into(),
            Self::List(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.value.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}
