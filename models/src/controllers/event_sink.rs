//! The event recorder of a controller: one goroutine, one POST at a time, on the controller's own
//! limiter. What it cannot send yet waits; the real channel of 1000 drops beyond that.
//!
//! Source: kubernetes v1.26.5 client-go/tools/record/event.go:300-317,
//! pkg/controller/replicaset/replica_set.go:195.

use crate::context::Context;
use crate::event::{ControlToken, Recorder};
use crate::ids::ClientId;
use crate::objects::OwnerKind;
use crate::request::{ReplyTo, Request};

/// Events that wait; the real broadcaster drops what exceeds its channel.
const CHANNEL: u32 = 1000;

/// One event recorder.
#[derive(Debug)]
pub(super) struct EventSink {
    recorder: Recorder,
    client: Option<ClientId>,
    waiting: u32,
    busy: bool,
}

impl EventSink {
    /// The recorder of the controller of a kind.
    pub(super) fn new(kind: OwnerKind) -> Self {
        Self::of(Recorder::Owner(kind))
    }

    /// A recorder.
    pub(super) fn of(recorder: Recorder) -> Self {
        Self {
            recorder,
            client: None,
            waiting: 0,
            busy: false,
        }
    }

    /// The process starts.
    pub(super) fn start(&mut self, client: ClientId) {
        self.client = Some(client);
        self.waiting = 0;
        self.busy = false;
    }

    /// The process is dead.
    pub(super) fn stop(&mut self) {
        self.client = None;
    }

    /// Records an event.
    pub(super) fn emit(&mut self, context: &mut Context<'_>) {
        self.waiting = (self.waiting + 1).min(CHANNEL);
        self.send(context);
    }

    /// The POST under way ended.
    pub(super) fn sent(&mut self, context: &mut Context<'_>) {
        self.busy = false;
        self.send(context);
    }

    fn send(&mut self, context: &mut Context<'_>) {
        let Some(client) = self.client else { return };
        if self.busy || self.waiting == 0 {
            return;
        }
        self.waiting -= 1;
        self.busy = true;
        let token = ControlToken::Event(self.recorder);
        context.call(client, Request::CreateEvent, ReplyTo::Controllers { token });
    }
}
