//! The links between machines and the apiservers: whole or cut, now and while something was under
//! way. Looked at when a call departs, arrives and is answered, and when a watch delivers.

use drydock_engine::time::SimInstant;

use crate::ids::NodeIndex;

/// The link of one machine to the apiservers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link {
    pub(super) cut: bool,
    /// Counts cuts.
    pub(super) cuts: u32,
    pub(super) healed_at: Option<SimInstant>,
}

/// The links of all machines; one that was never cut may be missing.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    pub(super) fn of(&mut self, node: NodeIndex) -> &mut Link {
        if self.0.len() <= node.index() {
            self.0.resize(node.index() + 1, Link::default());
        }
        &mut self.0[node.index()]
    }

    pub(super) fn is_cut(&self, node: NodeIndex) -> bool {
        self.0.get(node.index()).is_some_and(|link| link.cut)
    }

    /// Whether something under way since an instant was lost on a machine's link.
    pub(super) fn was_cut(&self, node: NodeIndex, since: SimInstant) -> bool {
        self.0
            .get(node.index())
            .is_some_and(|link| link.cut || link.healed_at.is_some_and(|healed| healed > since))
    }
}
