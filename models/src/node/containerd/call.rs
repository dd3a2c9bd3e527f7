//! A CRI call inside containerd: what it does, where it stands, what it knows.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::event::NodeToken;
use crate::ids::{ContainerId, NetnsId};
use crate::node::cri::CriError;
use crate::objects::Pod;

/// What a CRI call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CriKind {
    /// RunPodSandbox.
    Run,
    /// CreateContainer.
    Create,
    /// StartContainer.
    Start,
    /// StopContainer.
    StopContainer,
    /// StopPodSandbox.
    Stop,
    /// RemovePodSandbox.
    Remove,
}

/// Where a CRI call stands; each step ends with one wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CriStep {
    /// Spec, snapshot, directories.
    Prepare,
    /// Records before the network.
    Record,
    /// The namespace is being made.
    Netns,
    /// The namespace's path is being recorded.
    RecordNetns,
    /// CNI ADD runs.
    Add,
    /// Its result is being recorded.
    RecordResult,
    /// Shim and runc.
    Task,
    /// The DEL after a failure runs.
    Cleanup,
    /// The records of the failed sandbox are being deleted.
    Forget,
    /// CreateContainer or StartContainer: CPU.
    Container,
    /// CreateContainer: records.
    RecordContainer,
    /// StopContainer: SIGTERM was sent, the grace period runs.
    Grace,
    /// StopContainer or StopPodSandbox: the task is being stopped.
    StopTask,
    /// CNI DEL runs.
    Del,
    /// RemovePodSandbox: CPU.
    Remove,
    /// RemovePodSandbox: records.
    RemoveRecord,
}

/// A CRI call in flight.
#[derive(Debug)]
pub(super) struct CriCall {
    pub(super) kind: CriKind,
    pub(super) step: CriStep,
    pub(super) ticket: u32,
    /// Who gets the result; nobody once the client gave up.
    pub(super) caller: Option<NodeToken>,
    /// The client's context is done: the next step fails.
    pub(super) canceled: bool,
    /// When the client gives up.
    pub(super) deadline: SimInstant,
    pub(super) container: ContainerId,
    pub(super) pod: Rc<Pod>,
    pub(super) attempt: u32,
    pub(super) netns: Option<NetnsId>,
    pub(super) addresses: Vec<IpAddr>,
    /// The CNI process that it waits for.
    pub(super) process: Option<u32>,
    /// Grace period of StopContainer.
    pub(super) grace: Duration,
    /// Why it failed, while it cleans up.
    pub(super) failure: Option<CriError>,
}
