//! Times the event queue: one pop and one push per iteration, at three numbers of waiting events.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use drydock_engine::{Event, Lane, Queue, Streams, TieBreak};

#[derive(serde::Serialize)]
struct Payload([u64; 4]);

impl Event for Payload {
    fn lane(&self) -> Lane {
        Lane::new("bench", self.0[0])
    }
}

fn hold(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue/hold");
    for tie_break in [TieBreak::Fifo, TieBreak::Keyed { seed: 1 }] {
        for waiting in [100_u64, 10_000, 1_000_000] {
            let name = match tie_break {
                TieBreak::Fifo => "fifo",
                TieBreak::Keyed { .. } => "keyed",
            };
            group.bench_function(BenchmarkId::new(name, waiting), |bencher| {
                let mut stream = Streams::new(1).stream("bench", 0, "delay");
                let mut delay = || stream.duration(Duration::ZERO..=Duration::from_millis(50));
                let mut queue = Queue::new(tie_break);
                for event in 0..waiting {
                    queue.after(delay(), Payload([event; 4]));
                }
                bencher.iter(|| {
                    let (at, event) = queue.pop().expect("the queue is refilled");
                    queue.after(delay(), event);
                    black_box(at)
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, hold);
criterion_main!(benches);
