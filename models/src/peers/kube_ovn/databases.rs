//! What NB and SB hold of the Pods' ports, as values: no process, no time.

use std::collections::BTreeSet;

/// A change of the NB database, by the name of the Pod whose port it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NbOp {
    /// `lsp-add`.
    AddPort(u32),
    /// `pg-ports-update`: the port joins the port group of its subnet and node.
    JoinGroup(u32),
    /// `lsp-del`.
    DeletePort(u32),
}

/// What the databases hold.
#[derive(Debug, Default)]
pub(super) struct Databases {
    /// Logical switch ports in NB.
    pub(super) ports: BTreeSet<u32>,
    /// Of them, those in a port group.
    pub(super) grouped: BTreeSet<u32>,
    /// Ports that SB has.
    pub(super) bound: BTreeSet<u32>,
}

impl Databases {
    /// An insertion of what is there makes no entry in the log.
    pub(super) fn changes_nothing(&self, op: NbOp) -> bool {
        match op {
            NbOp::JoinGroup(name) => self.grouped.contains(&name),
            NbOp::AddPort(name) => self.ports.contains(&name),
            NbOp::DeletePort(name) => !self.ports.contains(&name),
        }
    }

    /// A transaction is committed.
    pub(super) fn apply(&mut self, op: NbOp) {
        assert!(
            !self.changes_nothing(op),
            "an entry of the log changes something"
        );
        match op {
            NbOp::AddPort(name) => {
                self.ports.insert(name);
            }
            NbOp::DeletePort(name) => {
                self.ports.remove(&name);
                self.grouped.remove(&name);
            }
            NbOp::JoinGroup(name) => {
                self.grouped.insert(name);
            }
        }
        assert!(self.changes_nothing(op), "what was written is there");
    }
}
