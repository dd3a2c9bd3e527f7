//! Felix on one node: what it spends on every Pod and block update of the cluster, and on the
//! endpoints of its own node. Nothing waits for it in v3.26.3.
//! Source: libcalico-go/lib/backend/syncersv1/felixsyncer/felixsyncerv1.go:103; prices inferred.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::context::Context;
use crate::event::CpuToken;
use crate::ids::{NodeIndex, PodUid};
use crate::request::Change;

use super::parameters::CalicoParameters;

/// Small updates are paid in pieces of this size, to keep events few.
const PIECE: Duration = Duration::from_millis(5);

/// One Felix.
#[derive(Default)]
pub(super) struct Felix {
    owed: Duration,
    endpoints: BTreeSet<PodUid>,
}

impl Felix {
    /// An update reaches it.
    pub(super) fn update(
        &mut self,
        node: NodeIndex,
        host: &Rc<str>,
        change: &Change,
        parameters: &CalicoParameters,
        context: &mut Context<'_>,
    ) {
        self.owed += parameters.felix_cpu_update;
        match change {
            Change::Pod(pod) if pod.node_name.as_ref() == Some(host) => {
                let has_address = pod
                    .annotations
                    .iter()
                    .any(|(key, value)| &**key == super::plugin::POD_IP && !value.is_empty());
                if has_address && self.endpoints.insert(pod.uid) {
                    self.owed += parameters.felix_cpu_endpoint;
                }
            }
            Change::PodGone(pod) if self.endpoints.remove(&pod.uid) => {
                self.owed += parameters.felix_cpu_endpoint;
            }
            _ => {}
        }
        if self.owed >= PIECE {
            let owed = std::mem::take(&mut self.owed);
            context.cpu(node, owed, CpuToken::Nobody);
        }
    }
}
