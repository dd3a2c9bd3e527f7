//! How fast the engine is on this machine, against bare madsim in the same process. The figures
//! depend on the machine; only their ratio is meant to be compared.
//!
//! Every figure counts the same work: 10,000 actors that each wait 100 times. Reproduce with
//! `cargo sim bench`.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    completion::{Completer, Mailbox, Post, completion, mailbox},
    drive::{Limits, StopReason, World, drive},
    log::{Digest, EventLog},
    progress::Progress,
    queue::{Event, Lane, Queue, TieBreak},
    runtime::{Runtime, run},
    time::SimInstant,
};

/// Actors of the benchmark.
pub const ACTORS: u32 = 10_000;
/// Waits of each actor.
pub const WAITS: u32 = 100;

/// A count of waits and the wall time that they took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Waits that ended.
    pub waits: u64,
    /// Wall time, with the start of the thread and of the runtime.
    pub elapsed: Duration,
}

impl Rate {
    /// Waits per second of wall time.
    pub fn per_second(&self) -> u64 {
        let nanos = self.elapsed.as_nanos().max(1);
        (u128::from(self.waits) * 1_000_000_000 / nanos) as u64
    }

    /// This rate as a percentage of another.
    pub fn percent_of(&self, other: &Self) -> u64 {
        self.per_second() * 100 / other.per_second().max(1)
    }
}

/// The result of [`throughput`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Timer events through the queue, with the log and its hash on.
    pub engine: Rate,
    /// The same waits, each by a task whose port completes through the queue.
    pub bridged: Rate,
    /// The same waits as bare madsim tasks that sleep.
    pub madsim: Rate,
    /// The digest of the engine's part: equal on every machine.
    pub digest: Digest,
}

/// Measures once. Take the median of several.
pub fn throughput() -> Throughput {
    let (engine, (stop, digest)) = timed(async |_| engine_timers().await);
    assert_eq!(
        stop,
        StopReason::QueueEmpty,
        "the benchmark runs out of timers"
    );
    let (bridged, stop) = timed(bridged_timers);
    assert_eq!(
        stop,
        StopReason::QueueEmpty,
        "the benchmark runs out of timers"
    );
    let (madsim, ()) = timed(async |_| madsim_timers().await);
    Throughput {
        engine,
        bridged,
        madsim,
        digest,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures the simulator from outside of it"
)]
fn timed<F, R>(body: impl FnOnce(Runtime) -> F + Send) -> (Rate, R)
where
    F: Future<Output = R>,
    R: Send,
{
    let begin = Instant::now();
    let result = run(1, body);
    let waits = u64::from(ACTORS) * u64::from(WAITS);
    (
        Rate {
            waits,
            elapsed: begin.elapsed(),
        },
        result,
    )
}

/// Waits of 1 to 64 ms that differ by actor and by turn.
fn wait(actor: u32, turn: u32) -> Duration {
    Duration::from_micros(u64::from(1000 + (actor * 7919 + turn * 104_729) % 63_000))
}

#[derive(Clone, Copy, Serialize)]
struct Timer {
    actor: u32,
    turn: u32,
}

impl Event for Timer {
    fn lane(&self) -> Lane {
        Lane::new("bench", u64::from(self.actor))
    }
}

struct Timers;

impl World for Timers {
    type Event = Timer;

    fn handle(&mut self, _: SimInstant, event: Timer, queue: &mut Queue<Timer>, _: &mut EventLog) {
        let turn = event.turn + 1;
        if turn < WAITS {
            queue.after(wait(event.actor, turn), Timer { turn, ..event });
        }
    }

    fn after_tasks(&mut self, _: &mut Queue<Timer>, _: &mut EventLog) {}

    fn finished(&self) -> bool {
        false
    }
}

fn no_limits() -> Limits {
    Limits {
        until: SimInstant::MAX,
        events: u64::MAX,
        polls: u64::MAX,
        interrupt: Arc::default(),
        progress: Arc::new(Progress::default()),
    }
}

async fn engine_timers() -> (StopReason, Digest) {
    let mut queue = Queue::new(TieBreak::Fifo);
    for actor in 0..ACTORS {
        queue.after(wait(actor, 0), Timer { actor, turn: 0 });
    }
    let mut log = EventLog::new();
    let tasks = crate::tasks::Tasks::new(TieBreak::Fifo);
    let stop = drive(&mut Timers, &mut queue, &mut log, &tasks, &no_limits()).await;
    (stop, log.digest())
}

/// A task asks this port to be woken.
type Request = (Timer, Completer<()>);

struct Ports {
    requests: Mailbox<Request>,
    waiting: Vec<Option<Completer<()>>>,
}

impl World for Ports {
    type Event = Timer;

    fn handle(&mut self, _: SimInstant, event: Timer, _: &mut Queue<Timer>, _: &mut EventLog) {
        let completer = self.waiting[event.actor as usize].take();
        let completer = completer.expect("a timer belongs to a task that waits");
        completer.complete(()).expect("the task still waits");
    }

    fn after_tasks(&mut self, queue: &mut Queue<Timer>, _: &mut EventLog) {
        while let Some((timer, completer)) = self.requests.try_recv() {
            self.waiting[timer.actor as usize] = Some(completer);
            queue.after(wait(timer.actor, timer.turn), timer);
        }
    }

    fn finished(&self) -> bool {
        false
    }
}

async fn wait_in_turn(actor: u32, port: Post<Request>) {
    for turn in 0..WAITS {
        let (completer, done) = completion();
        if port.send((Timer { actor, turn }, completer)).is_err() || done.await.is_err() {
            return;
        }
    }
}

async fn bridged_timers(runtime: Runtime) -> StopReason {
    let tasks = runtime.tasks(TieBreak::Fifo);
    let (port, requests) = mailbox();
    let host = tasks.add_host("bench");
    for actor in 0..ACTORS {
        host.spawn(wait_in_turn(actor, port.clone()));
    }
    let waiting = (0..ACTORS).map(|_| None).collect();
    let mut world = Ports { requests, waiting };
    let mut queue = Queue::new(TieBreak::Fifo);
    drive(
        &mut world,
        &mut queue,
        &mut EventLog::new(),
        &tasks,
        &no_limits(),
    )
    .await
}

async fn madsim_timers() {
    let actors: Vec<_> = (0..ACTORS)
        .map(|actor| {
            madsim::task::spawn(async move {
                for turn in 0..WAITS {
                    madsim::time::sleep(wait(actor, turn)).await;
                }
            })
        })
        .collect();
    for actor in actors {
        actor.await.expect("an actor only sleeps");
    }
}

#[cfg(test)]
mod tests {
    use super::{ACTORS, WAITS, throughput};

    #[test]
    fn the_benchmark_does_the_same_work_on_every_build() {
        let measured = throughput();
        let waits = u64::from(ACTORS) * u64::from(WAITS);
        assert_eq!(
            [
                measured.engine.waits,
                measured.bridged.waits,
                measured.madsim.waits
            ],
            [waits; 3]
        );
        assert!(measured.engine.per_second() > 0);
        expect_test::expect!["f2a94ca13295fc343e968df935dcc45a"]
            .assert_eq(&measured.digest.to_string());
    }
}
