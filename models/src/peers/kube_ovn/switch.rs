//! ovs-vswitchd and ovn-controller of one node, in a process group of one core: a write of
//! `ovs-vsctl` waits for the loop of ovs-vswitchd that applies it; a port has its flows after a
//! loop of ovn-controller that knew both the port from SB and the local interface.
//!
//! Not modelled: installation of flows as a time of its own, the write of the claim as a
//! condition for flows (it is not one), several ports of one name.

use std::collections::{BTreeMap, BTreeSet};

use super::{CoreId, KubeOvn, Signal, Wait};
use crate::context::Context;
use crate::ids::{ContainerId, NodeIndex};

/// What the switch waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum SwitchStep {
    /// A loop of ovs-vswitchd ended.
    Reconfigured,
    /// A loop of ovn-controller ended.
    Computed,
}

/// The switch of a node.
#[derive(Debug, Default)]
pub(super) struct Switch {
    pub(super) epoch: u32,
    /// Ports of the whole cluster that ovn-controller has heard of.
    known: BTreeSet<u32>,
    /// Of them, not yet computed.
    fresh: u32,
    /// Local interfaces by the name of their Pod.
    interfaces: BTreeMap<u32, ContainerId>,
    /// Interfaces whose flows exist.
    ready: BTreeSet<u32>,
    /// Interfaces that the loop under way makes ready.
    computing: Option<BTreeSet<u32>>,
    again: bool,
    /// Writes that the loop of ovs-vswitchd under way applies.
    applying: Option<Vec<Wait>>,
    /// Writes that wait for the next one.
    next: Vec<Wait>,
}

impl Switch {
    /// Whether a Pod's flows exist.
    pub(super) fn is_ready(&self, name: u32) -> bool {
        self.ready.contains(&name)
    }

    /// The machine died: only the epoch stays.
    pub(super) fn reset(&mut self, known: BTreeSet<u32>) {
        *self = Self {
            epoch: self.epoch + 1,
            known,
            ..Self::default()
        };
    }
}

impl KubeOvn {
    fn switch(&mut self, node: NodeIndex) -> &mut Switch {
        &mut self
            .daemons
            .get_mut(&node)
            .expect("a node that is asked for has its daemon")
            .switch
    }

    fn switch_wait(&mut self, node: NodeIndex, step: SwitchStep) -> Wait {
        let epoch = self.switch(node).epoch;
        Wait::Switch { node, epoch, step }
    }

    /// SB has sent what is new and what is gone.
    pub(super) fn switch_learns(
        &mut self,
        node: NodeIndex,
        new: &[u32],
        gone: &[u32],
        context: &mut Context<'_>,
    ) {
        if !context.core.machine(node).up {
            return;
        }
        let switch = self.switch(node);
        switch.known.extend(new);
        switch.fresh += new.len() as u32;
        for name in gone {
            switch.known.remove(name);
            switch.ready.remove(name);
        }
        self.compute(node, context);
    }

    /// An interface with the name of a Pod's port appeared.
    pub(super) fn interface_added(
        &mut self,
        node: NodeIndex,
        name: u32,
        container: ContainerId,
        context: &mut Context<'_>,
    ) {
        let switch = self.switch(node);
        switch.interfaces.insert(name, container);
        switch.ready.remove(&name);
        self.compute(node, context);
    }

    /// `del-port`: nothing happens when a later sandbox of the Pod has the port.
    pub(super) fn interface_removed(
        &mut self,
        node: NodeIndex,
        name: u32,
        container: ContainerId,
        context: &mut Context<'_>,
    ) {
        let switch = self.switch(node);
        if switch.interfaces.get(&name) == Some(&container) {
            switch.interfaces.remove(&name);
            switch.ready.remove(&name);
            self.compute(node, context);
        }
    }

    /// ovn-controller has something to do.
    fn compute(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let switch = self.switch(node);
        if switch.computing.is_some() {
            switch.again = true;
            return;
        }
        let waiting = switch
            .interfaces
            .keys()
            .filter(|name| switch.known.contains(name) && !switch.ready.contains(name));
        switch.computing = Some(waiting.copied().collect());
        switch.again = false;
        let fresh = std::mem::take(&mut switch.fresh);
        let parameters = &self.parameters;
        let demand = parameters.ovn_controller_base + parameters.ovn_controller_port_cpu * fresh;
        let wait = self.switch_wait(node, SwitchStep::Computed);
        self.capped(CoreId::Switch(node), node, demand, wait, context);
    }

    /// A write reached the local database: it is answered once ovs-vswitchd has applied it.
    pub(super) fn reconfigure(&mut self, node: NodeIndex, wait: Wait, context: &mut Context<'_>) {
        let switch = self.switch(node);
        switch.next.push(wait);
        if switch.applying.is_none() {
            self.apply(node, context);
        }
    }

    fn apply(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let switch = self.switch(node);
        if switch.next.is_empty() {
            return;
        }
        switch.applying = Some(std::mem::take(&mut switch.next));
        let demand = self.parameters.vswitchd_cpu;
        let wait = self.switch_wait(node, SwitchStep::Reconfigured);
        self.capped(CoreId::Switch(node), node, demand, wait, context);
    }

    pub(super) fn switch_step(
        &mut self,
        node: NodeIndex,
        step: SwitchStep,
        context: &mut Context<'_>,
    ) {
        match step {
            SwitchStep::Reconfigured => {
                let applied = self.switch(node).applying.take().unwrap_or_default();
                self.apply(node, context);
                for wait in applied {
                    self.resume(wait, Signal::Go, context);
                }
            }
            SwitchStep::Computed => {
                let switch = self.switch(node);
                let computed = switch.computing.take().unwrap_or_default();
                let still = |name: &u32| {
                    switch.interfaces.contains_key(name) && switch.known.contains(name)
                };
                let ready: Vec<u32> = computed.into_iter().filter(still).collect();
                switch.ready.extend(&ready);
                let again = switch.again;
                if !ready.is_empty() {
                    self.claim(context);
                }
                if again {
                    self.compute(node, context);
                }
            }
        }
    }
}
