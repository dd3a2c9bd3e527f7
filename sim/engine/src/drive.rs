//! The loop of a run: take an event, log it, handle it, let tasks come to rest. It knows no event.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    log::EventLog,
    progress::Progress,
    queue::{Event, Queue},
    tasks::{Spin, Tasks},
    time::SimInstant,
};

/// What the loop drives.
pub trait World {
    /// What happens in it.
    type Event: Event;

    /// Takes an event, which is in the log already, and schedules what follows from it.
    fn handle(
        &mut self,
        at: SimInstant,
        event: Self::Event,
        queue: &mut Queue<Self::Event>,
        log: &mut EventLog,
    );

    /// Called whenever tasks came to rest: turns what they asked of their ports into events.
    fn after_tasks(&mut self, queue: &mut Queue<Self::Event>, log: &mut EventLog);

    /// Whether the run has reached its end.
    fn finished(&self) -> bool;
}

/// When to stop a run that does not finish by itself.
#[derive(Clone)]
pub struct Limits {
    /// No event after this instant is taken.
    pub until: SimInstant,
    /// Events taken at most, over the whole life of the queue.
    pub events: u64,
    /// Polls that tasks may take at one instant.
    pub polls: u64,
    /// Ends the run from another thread, as an interrupt does.
    pub interrupt: Arc<AtomicBool>,
    /// Where the run tells how far it is.
    pub progress: Arc<Progress>,
}

/// Why a run stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The world says that it is done.
    Finished,
    /// The next event lies after the limit of time.
    Until,
    /// Nothing will ever happen again.
    QueueEmpty,
    /// The limit of events is spent.
    EventBudget,
    /// Tasks kept waking each other at one instant.
    PollBudget(Spin),
    /// Somebody asked for it.
    Interrupted,
}

/// Events between two looks at the interrupt flag, and between two reports of progress.
const EVENTS_PER_REPORT: u64 = 256;

/// Drives a world until it finishes or meets a limit.
pub async fn drive<W: World>(
    world: &mut W,
    queue: &mut Queue<W::Event>,
    log: &mut EventLog,
    tasks: &Tasks,
    limits: &Limits,
) -> StopReason {
    tasks.set_poll_budget(limits.polls);
    tasks.advance(queue.now());
    let reason = drive_inner(world, queue, log, tasks, limits).await;
    limits.progress.report(queue.now(), queue.popped());
    reason
}

async fn drive_inner<W: World>(
    world: &mut W,
    queue: &mut Queue<W::Event>,
    log: &mut EventLog,
    tasks: &Tasks,
    limits: &Limits,
) -> StopReason {
    loop {
        // A port may answer within `after_tasks`, so tasks may be ready again at once. The poll
        // budget is per instant, so such a loop ends as a spin.
        while tasks.ready() {
            if let Err(spin) = tasks.settle().await {
                return StopReason::PollBudget(spin);
            }
            world.after_tasks(queue, log);
        }
        if world.finished() {
            return StopReason::Finished;
        }
        if queue.popped().is_multiple_of(EVENTS_PER_REPORT) {
            limits.progress.report(queue.now(), queue.popped());
            if limits.interrupt.load(Ordering::Relaxed) {
                return StopReason::Interrupted;
            }
        }
        match queue.peek_at() {
            None => return StopReason::QueueEmpty,
            Some(at) if at > limits.until => return StopReason::Until,
            Some(_) if queue.popped() >= limits.events => return StopReason::EventBudget,
            Some(at) if at > queue.now() => tasks.advance(at),
            Some(_) => {}
        }
        let (at, event) = queue
            .pop()
            .expect("the queue was just seen not to be empty");
        log.append(at, &event);
        world.handle(at, event, queue, log);
    }
}

#[cfg(test)]
mod tests;
