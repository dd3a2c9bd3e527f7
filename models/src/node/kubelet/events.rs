//! The event recorder: one goroutine, one request at a time, on a limiter of its own; it holds at
//! most 1000 events and drops the rest.
//! Source: client-go `tools/record/event.go:300-317`, kubernetes v1.26.5
//! `cmd/kubelet/app/server.go:593`.

use crate::context::Context;
use crate::event::NodeToken;
use crate::node::desk::KubeletDesk;
use crate::request::{ReplyTo, Request};

use super::Kubelet;

/// Events that the broadcaster's queue holds: a constant of client-go.
const QUEUE_LENGTH: u32 = 1000;

/// The recorder.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) ticket: u32,
    waiting: u32,
    busy: bool,
}

impl Kubelet {
    /// Records an event about a Pod.
    pub(super) fn record_event(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let recorder = &mut self.recorder;
        if recorder.busy {
            recorder.waiting = (recorder.waiting + 1).min(QUEUE_LENGTH);
        } else {
            self.send_event(desk, context);
        }
    }

    /// The apiserver answered, one way or the other.
    pub(super) fn event_recorded(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let recorder = &mut self.recorder;
        assert!(recorder.busy, "an answer has its request");
        recorder.busy = false;
        if recorder.waiting > 0 {
            recorder.waiting -= 1;
            self.send_event(desk, context);
        }
    }

    fn send_event(&mut self, desk: &mut KubeletDesk<'_>, context: &mut Context<'_>) {
        let Some(client) = self.event_client else {
            return;
        };
        let ticket = desk.ticket();
        self.recorder.busy = true;
        self.recorder.ticket = ticket;
        let reply = ReplyTo::Node {
            node: desk.index,
            token: NodeToken::Recorder { ticket },
        };
        context.call(client, Request::CreateEvent, reply);
    }
}
