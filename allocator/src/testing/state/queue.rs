//! What is about to happen, in order of time, and the one stream that chance is drawn from.

use core::time::Duration;

use futures::channel::oneshot;

use super::Inner;
use crate::core::api::{ApiError, ApiReply, ApiRequest};
use crate::core::hash::mix;
use crate::core::time::BootTime;

pub(in crate::testing) type AnswerSender = oneshot::Sender<Result<ApiReply, ApiError>>;

pub(in crate::testing) struct Pending {
    pub(in crate::testing) node: String,
    pub(in crate::testing) request: ApiRequest,
}

pub(in crate::testing) enum Arrival {
    Wake(oneshot::Sender<()>),
    Commit(Pending, Option<AnswerSender>),
    Answer(AnswerSender, Result<ApiReply, ApiError>),
    Watch(u64),
    StartSandbox(String),
    StopSandbox(String),
    EndNamespace(String, String),
    StartAgent(String),
}

impl Inner {
    pub(in crate::testing) fn draw(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(1);
        mix(0x6265_7274_6800_0000, self.rng)
    }

    pub(in crate::testing) fn draw_between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos() as u64;
        low + Duration::from_nanos(self.draw() % (span + 1))
    }

    pub(in crate::testing) fn chance(&mut self, ppm: u64) -> bool {
        self.draw() % 1_000_000 < ppm
    }

    pub(in crate::testing) fn schedule(&mut self, at: BootTime, arrival: Arrival) {
        self.sequence += 1;
        self.queue
            .insert((at.max(self.now), self.sequence), arrival);
    }
}
