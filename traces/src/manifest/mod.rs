//! Kubernetes YAML in, a checked `Workload` out. It refuses what an apiserver would refuse, lists
//! what the simulation leaves out, and never panics; it does not open files.

mod fields;
mod kinds;
mod names;
mod objects;
mod pod;
mod pools;
mod tree;

use std::collections::BTreeMap;
use std::fmt;

use self::fields::{Context, Fields};
use crate::workload::{DocumentRef, Workload};

/// The most Pods that one object may ask for.
pub const REPLICAS_MAX: u32 = 100_000;

/// A manifest file, already read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFile<'a> {
    /// The name for messages.
    pub name: &'a str,
    /// The YAML.
    pub text: &'a str,
}

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The file.
    pub file: String,
    /// 1-based line.
    pub line: u32,
    /// 1-based column.
    pub column: u32,
    /// 1-based number of the document; none if the YAML itself is broken.
    pub document: Option<u32>,
    /// Kind and name as far as they were read.
    pub object: String,
    /// Key path; empty for the whole document.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            document,
            object,
            path,
            message,
        } = self;
        write!(formatter, "{file}:{line}:{column}: ")?;
        if let Some(document) = document {
            write!(formatter, "document {document}")?;
            for part in [object, path] {
                if !part.is_empty() {
                    write!(formatter, ", {part}")?;
                }
            }
            write!(formatter, ": ")?;
        }
        formatter.write_str(message)
    }
}

/// What is wrong with some manifests: the first error of each document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestErrors(pub Vec<ManifestError>);

/// How many errors a message shows before it only counts the rest.
const ERRORS_SHOWN_MAX: usize = 10;

impl fmt::Display for ManifestErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().take(ERRORS_SHOWN_MAX).enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(formatter, "{newline}{error}")?;
        }
        match self.0.len().saturating_sub(ERRORS_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(formatter, "\nand {more} more"),
        }
    }
}

/// Reads manifests, several documents per file, as one workload.
///
/// Errors: [`ManifestErrors`] with file, line, column, document and key path, and what is allowed.
pub fn read(sources: &[SourceFile<'_>]) -> Result<Workload, ManifestErrors> {
    let mut reader = Reader::default();
    for source in sources {
        reader.workload.sources.push(source.name.to_owned());
        match tree::parse(source) {
            Ok(documents) => {
                for document in &documents {
                    let place = DocumentRef {
                        file: source.name.to_owned(),
                        document: document.number,
                        line: document.node.position.line,
                    };
                    reader.document(&document.node, place, 0);
                }
            }
            Err(error) => reader.errors.push(*error),
        }
    }
    if reader.errors.is_empty() {
        Ok(reader.workload)
    } else {
        Err(ManifestErrors(reader.errors))
    }
}

/// An error on its way out; boxed, because it is large and rare.
type Failure = Box<ManifestError>;

#[derive(Default)]
struct Reader {
    workload: Workload,
    errors: Vec<ManifestError>,
    /// The document that holds each (kind, namespace, name).
    seen: BTreeMap<(String, String, String), DocumentRef>,
}

/// How deep lists inside lists are followed.
const LIST_DEPTH_MAX: u32 = 8;

impl Reader {
    fn document(&mut self, node: &tree::Node, place: DocumentRef, depth: u32) {
        if matches!(node.value, tree::Value::Null) {
            return;
        }
        let mut context = Context::new(place);
        if let Err(error) = self.object(node, &mut context, depth) {
            self.errors.push(*error);
        }
    }

    fn object(
        &mut self,
        node: &tree::Node,
        context: &mut Context,
        depth: u32,
    ) -> Result<(), Failure> {
        let mut fields = Fields::of(context, String::new(), node)?;
        let kind = kinds::read_kind(context, &mut fields)?;
        kind.name.clone_into(&mut context.kind);
        if kind.role == kinds::Role::List {
            if depth >= LIST_DEPTH_MAX {
                return Err(fields.error(context, "a List in too many Lists".to_owned()));
            }
            for (_, item) in fields.list(context, "items")?.unwrap_or_default() {
                let place = DocumentRef {
                    line: item.position.line,
                    ..context.document.clone()
                };
                self.document(item, place, depth + 1);
            }
            return fields.finish(context, &[("metadata", "a List itself is not stored")]);
        }
        if let kinds::Role::Skipped(reason) = kind.role {
            // Kinds of other groups may share the name, and some have no metadata: only the name is
            // read, for the list of what is not simulated.
            if let Some(mut metadata) = fields.map(context, "metadata")?
                && let Some((name, _)) = metadata.text(context, "name")?
            {
                name.clone_into(&mut context.name);
            }
            context.skip(String::new(), reason);
            self.workload
                .not_simulated
                .append(&mut context.not_simulated);
            return Ok(());
        }
        let metadata = objects::read_metadata(context, &mut fields, kind)?;
        let key = (
            kind.name.to_owned(),
            metadata.namespace.clone(),
            metadata.name.clone(),
        );
        if let Some(first) = self.seen.get(&key) {
            let message = format!("already exists: the first one is at {first}");
            return Err(fields.error_at(context, "metadata.name", metadata.position, message));
        }
        self.seen.insert(key, context.document.clone());
        match kind.role {
            kinds::Role::Pool => {
                let pool = pools::read(context, fields, metadata.name)?;
                self.workload.pools.push(pool);
            }
            kinds::Role::Workload | kinds::Role::List | kinds::Role::Skipped(_) => {
                let object = objects::read(context, fields, kind, metadata)?;
                self.workload.objects.push(object);
            }
        }
        self.workload
            .not_simulated
            .append(&mut context.not_simulated);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
