//! One call as its client sees it: when it left, how long it is waited for, what the client is
//! told, and whether client-go then tries again.

use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::core::Core;
use crate::event::{ApiEvent, Event};
use crate::ids::{CallId, ClientId, NodeIndex};
use crate::parameters::ApiParameters;
use crate::request::{ApiError, ClientClass, ClientSpec, ReplyTo, Response};

use super::client::Departure;

/// A call as its client sees it.
#[derive(Debug)]
pub(crate) struct ClientSide {
    pub(crate) id: ClientId,
    pub(crate) node: NodeIndex,
    pub(crate) class: ClientClass,
    pub(crate) reply: ReplyTo,
    /// How often it was tried again.
    attempt: u32,
    /// When it left its client's limiter, or will.
    pub(crate) departed: SimInstant,
    pub(crate) way_back: Duration,
    /// When the client gives up.
    pub(crate) deadline: SimInstant,
    /// Under which instant it stands in the set of deadlines.
    pub(super) indexed: Option<SimInstant>,
    /// What the client will be told.
    pub(crate) verdict: Option<Response>,
    /// The client finds out by itself: no link is needed.
    pub(crate) local: bool,
    /// The connection broke, so a GET is sent again.
    pub(crate) reset: bool,
    /// It was told, or has left.
    pub(crate) done: bool,
    /// When the server learns that the client gave up.
    pub(crate) canceled: Option<SimInstant>,
}

impl ClientSide {
    pub(crate) fn new(id: ClientId, spec: &ClientSpec, reply: ReplyTo, core: &Core<'_>) -> Self {
        Self {
            id,
            node: spec.node,
            class: spec.class,
            reply,
            attempt: 0,
            departed: core.now,
            way_back: core.parameters.net.one_way,
            deadline: SimInstant::MAX,
            indexed: None,
            verdict: None,
            local: false,
            reset: false,
            done: false,
            canceled: None,
        }
    }

    /// It leaves its client, for the first time or again.
    pub(crate) fn depart(&mut self, departure: &Departure, write: bool, api: &ApiParameters) {
        let limit = if write {
            api.handler_timeout + departure.way + departure.back
        } else {
            api.request_timeout
        };
        self.departed = departure.at;
        self.way_back = departure.back;
        self.deadline = departure.at + limit.min(departure.timeout);
        self.verdict = None;
        self.local = false;
        self.reset = false;
    }

    pub(crate) fn is_canceled(&self, now: SimInstant) -> bool {
        self.canceled.is_some_and(|at| at <= now)
    }

    /// What the client will be told, and when.
    pub(crate) fn tell(
        &mut self,
        call: CallId,
        response: Response,
        at: SimInstant,
        core: &mut Core<'_>,
    ) {
        self.verdict = Some(response);
        core.queue.at(at, Event::Api(ApiEvent::Answer { call }));
    }

    /// Whether client-go sends the call again by itself, and after how long: a call that was turned
    /// away, and a read whose connection broke, `retries_max` times at most. `answer` in
    /// `apiserver/call/way.rs` asks, and sends it again.
    pub(crate) fn try_again(
        &mut self,
        verb: &str,
        response: &Response,
        retries_max: u64,
    ) -> Option<Duration> {
        let wait = match response {
            Err(ApiError::TooManyRequests { retry_after_s }) => {
                Duration::from_secs(u64::from(*retry_after_s))
            }
            Err(ApiError::Unavailable { .. }) if self.reset && matches!(verb, "GET" | "LIST") => {
                Duration::ZERO
            }
            _ => return None,
        };
        if u64::from(self.attempt) >= retries_max {
            return None;
        }
        self.attempt += 1;
        Some(wait)
    }
}

/// What a client is told when nobody answers.
pub(crate) fn silence(write: bool) -> Response {
    Err(ApiError::Unavailable { unknown: write })
}
