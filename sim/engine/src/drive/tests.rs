//! Tests of the loop.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde::Serialize;

use super::{Limits, StopReason, World, drive};
use crate::{
    completion::{Completer, Mailbox, Post, completion, mailbox},
    log::{Digest, EventLog},
    progress::Progress,
    queue::{Event, Lane, Queue, TieBreak},
    runtime::run,
    stream::{Stream, Streams},
    time::SimInstant,
};

#[derive(Serialize)]
enum Happening {
    Tick(u64),
    Answer { request: u64, host: u64 },
}

impl Event for Happening {
    fn lane(&self) -> Lane {
        match self {
            Self::Tick(_) => Lane::new("clock", 0),
            Self::Answer { request, .. } => Lane::new("port", *request),
        }
    }
}

/// Ticks forever and answers the requests of tasks after a drawn delay.
struct Small {
    ticks: u64,
    last_tick: u64,
    latency: Stream,
    requests: Mailbox<(u64, Completer<u64>)>,
    open: Vec<Option<Completer<u64>>>,
}

impl World for Small {
    type Event = Happening;

    fn handle(
        &mut self,
        _: SimInstant,
        event: Happening,
        queue: &mut Queue<Happening>,
        _: &mut EventLog,
    ) {
        match event {
            Happening::Tick(tick) => {
                self.ticks = tick;
                queue.after(Duration::from_millis(100), Happening::Tick(tick + 1));
            }
            Happening::Answer { request, .. } => {
                let completer = self.open[request as usize].take().unwrap();
                completer.complete(request).unwrap();
            }
        }
    }

    fn after_tasks(&mut self, queue: &mut Queue<Happening>, _: &mut EventLog) {
        while let Some((host, completer)) = self.requests.try_recv() {
            let request = self.open.len() as u64;
            self.open.push(Some(completer));
            let delay = self
                .latency
                .duration(Duration::from_micros(1)..=Duration::from_millis(3));
            queue.after(delay, Happening::Answer { request, host });
        }
    }

    fn finished(&self) -> bool {
        self.ticks >= self.last_tick
    }
}

async fn client(host: u64, port: Post<(u64, Completer<u64>)>) {
    for _ in 0..20 {
        let (completer, answer) = completion();
        if port.send((host, completer)).is_err() || answer.await.is_err() {
            return;
        }
    }
}

fn limits() -> Limits {
    Limits {
        until: SimInstant::from_nanos(3_600_000_000_000),
        events: 1_000_000,
        polls: 10_000,
        interrupt: Arc::default(),
        progress: Arc::new(Progress::default()),
    }
}

/// Runs the small world; the madsim seed may not matter.
fn small(madsim_seed: u64, last_tick: u64, limits: &Limits) -> (StopReason, Digest, u64) {
    ordered(madsim_seed, last_tick, limits, TieBreak::Fifo)
}

fn ordered(
    madsim_seed: u64,
    last_tick: u64,
    limits: &Limits,
    order: TieBreak,
) -> (StopReason, Digest, u64) {
    run(madsim_seed, async |runtime| {
        let tasks = runtime.tasks(order);
        let (port, requests) = mailbox();
        for number in 0..4 {
            let host = tasks.add_host(&format!("host-{number}"));
            for _ in 0..5 {
                host.spawn(client(number, port.clone()));
            }
        }
        let latency = Streams::new(7).stream("port", 0, "latency");
        let mut world = Small {
            ticks: 0,
            last_tick,
            latency,
            requests,
            open: Vec::new(),
        };
        let mut queue = Queue::new(order);
        queue.soon(Happening::Tick(0));
        let mut log = EventLog::new();
        let stop = drive(&mut world, &mut queue, &mut log, &tasks, limits).await;
        (stop, log.digest(), log.count())
    })
}

#[test]
fn a_fixed_scenario_has_the_same_digest_on_every_build_and_madsim_seed() {
    let (stop, digest, count) = small(0, 50, &limits());
    assert_eq!(stop, StopReason::Finished);
    expect_test::expect!["451 events, b8954dfd987b2fe79f0bf9fb509c676d"]
        .assert_eq(&format!("{count} events, {digest}"));
    for madsim_seed in 1..5 {
        assert_eq!(
            small(madsim_seed, 50, &limits()),
            (stop.clone(), digest, count)
        );
    }
}

#[test]
fn a_hunt_permutes_by_its_own_seed_alone() {
    let hunt = |madsim_seed, seed| ordered(madsim_seed, 50, &limits(), TieBreak::Keyed { seed }).1;
    assert_eq!(hunt(1, 1), hunt(2, 1));
    assert_ne!(hunt(1, 1), hunt(1, 2));
}

#[test]
fn a_run_stops_at_its_limit_of_time() {
    let limits = Limits {
        until: SimInstant::from_nanos(1_000_000_000),
        ..limits()
    };
    assert_eq!(small(1, u64::MAX, &limits).0, StopReason::Until);
    let at = limits.progress.snapshot().at;
    assert_eq!(at, SimInstant::from_nanos(1_000_000_000));
}

#[test]
fn a_run_stops_at_its_limit_of_events() {
    let limits = Limits {
        events: 77,
        ..limits()
    };
    assert_eq!(small(1, u64::MAX, &limits).0, StopReason::EventBudget);
    assert_eq!(limits.progress.snapshot().events, 77);
}

#[test]
fn an_interrupt_stops_a_run() {
    let limits = Limits {
        interrupt: Arc::new(AtomicBool::new(true)),
        ..limits()
    };
    assert_eq!(small(1, u64::MAX, &limits).0, StopReason::Interrupted);
}

/// A port that answers on the spot, so that its task never rests.
struct Hasty(Mailbox<Completer<u64>>);

impl World for Hasty {
    type Event = Happening;

    fn handle(&mut self, _: SimInstant, _: Happening, _: &mut Queue<Happening>, _: &mut EventLog) {}

    fn after_tasks(&mut self, _: &mut Queue<Happening>, _: &mut EventLog) {
        while let Some(completer) = self.0.try_recv() {
            completer.complete(0).unwrap();
        }
    }

    fn finished(&self) -> bool {
        false
    }
}

#[test]
fn tasks_that_never_rest_end_the_run_with_their_name() {
    let stop = run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let (port, requests) = mailbox();
        tasks.add_host("restless").spawn(async move {
            loop {
                let (completer, answer) = completion();
                assert!(port.send(completer).is_ok());
                answer.await.unwrap();
            }
        });
        let (mut queue, mut log) = (Queue::new(TieBreak::Fifo), EventLog::new());
        drive(
            &mut Hasty(requests),
            &mut queue,
            &mut log,
            &tasks,
            &limits(),
        )
        .await
    });
    let StopReason::PollBudget(spin) = stop else {
        panic!("{stop:?}")
    };
    assert_eq!(spin.host, "restless");
}

#[test]
fn an_empty_queue_stops_a_run() {
    let stop = run(1, async |runtime| {
        let (_, requests) = mailbox();
        let (mut queue, mut log) = (Queue::new(TieBreak::Fifo), EventLog::new());
        let tasks = runtime.tasks(TieBreak::Fifo);
        drive(
            &mut Hasty(requests),
            &mut queue,
            &mut log,
            &tasks,
            &limits(),
        )
        .await
    });
    assert_eq!(stop, StopReason::QueueEmpty);
}
