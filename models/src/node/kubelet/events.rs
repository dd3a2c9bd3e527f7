//! The event recorder: one goroutine, one request at a time, on a limiter of its own; it holds at
//! most 1000 events and drops the rest.
//! Source: client-go `tools/record/event.go:300-317`, kubernetes v1.26.5 `cmd/kubelet/app/server.go:593`.

use crate::context::Context;
use crate::event::NodeToken;
use crate::node::Node;
use crate::request::{ReplyTo, Request};

/// Events that the broadcaster's queue holds: a constant of client-go.
const QUEUE_LENGTH: u32 = 1000;

/// The recorder.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) ticket: u32,
    waiting: u32,
    busy: bool,
}

impl Node {
    /// Records an event about a Pod.
    pub(crate) fn record_event(&mut self, context: &mut Context<'_>) {
        let recorder = &mut self.kubelet.recorder;
        if recorder.busy {
            recorder.waiting = (recorder.waiting + 1).min(QUEUE_LENGTH);
        } else {
            self.send_event(context);
        }
    }

    /// The apiserver answered, one way or the other.
    pub(crate) fn event_recorded(&mut self, context: &mut Context<'_>) {
        let recorder = &mut self.kubelet.recorder;
        recorder.busy = false;
        if recorder.waiting > 0 {
            recorder.waiting -= 1;
            self.send_event(context);
        }
    }

    fn send_event(&mut self, context: &mut Context<'_>) {
        let Some(client) = self.kubelet.event_client else {
            return;
        };
        let ticket = self.ticket();
        self.kubelet.recorder.busy = true;
        self.kubelet.recorder.ticket = ticket;
        let reply = ReplyTo::Node {
            node: self.index,
            token: NodeToken::Recorder { ticket },
        };
        context.call(client, Request::CreateEvent, reply);
    }
}
