//! Times what models do per event: draws, servers and the log.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use drydock_engine::{
    EventLog, QuantileTable, SimInstant, Streams,
    server::{FifoServer, ProcessorSharing, TokenBucket},
};

fn streams(criterion: &mut Criterion) {
    let streams = Streams::new(1);
    criterion.bench_function("stream/new", |bencher| {
        let mut entity = 0;
        bencher.iter(|| {
            entity += 1;
            streams.stream("bench", entity, "new").u64()
        });
    });
    criterion.bench_function("stream/below", |bencher| {
        let mut stream = streams.stream("bench", 0, "below");
        bencher.iter(|| stream.below(black_box(1000)));
    });
    criterion.bench_function("stream/quantile", |bencher| {
        let mut stream = streams.stream("bench", 0, "quantile");
        let points = (0..=20)
            .map(|point| (point * 50_000_000, point * point * 1000))
            .collect();
        let table = QuantileTable::new(points).expect("the points rise");
        bencher.iter(|| stream.quantile(&table));
    });
}

/// A job in, a wake-up out: the cost of a visit to a loaded node.
fn sharing(criterion: &mut Criterion) {
    criterion.bench_function("server/processor_sharing", |bencher| {
        let mut node = ProcessorSharing::new(3000);
        let (mut now, mut pending, mut done) = (SimInstant::ZERO, None, Vec::new());
        bencher.iter(|| {
            now += Duration::from_millis(1);
            pending = node
                .submit(now, Duration::from_micros(2900), 0_u32)
                .or(pending);
            while let Some(wake) = pending.filter(|wake| wake.at <= now) {
                done.clear();
                pending = node.wake(now, wake.generation, &mut done);
            }
            black_box(done.len())
        });
    });
}

fn stations(criterion: &mut Criterion) {
    criterion.bench_function("server/fifo", |bencher| {
        let (mut now, mut station) = (SimInstant::ZERO, FifoServer::new(4));
        bencher.iter(|| {
            now += Duration::from_micros(100);
            station.submit(now, Duration::from_micros(390))
        });
    });
    criterion.bench_function("server/token_bucket", |bencher| {
        let (mut now, mut bucket) = (SimInstant::ZERO, TokenBucket::new(5000, 10));
        bencher.iter(|| {
            now += Duration::from_millis(200);
            bucket.reserve(now)
        });
    });
}

#[derive(serde::Serialize)]
struct Sample {
    component: u8,
    entity: u32,
    kind: u16,
    payload: [u64; 3],
}

fn log(criterion: &mut Criterion) {
    criterion.bench_function("log/append", |bencher| {
        let (mut log, mut at) = (EventLog::new(), SimInstant::ZERO);
        bencher.iter(|| {
            at += Duration::from_micros(3);
            let nanos = at.as_nanos();
            log.append(
                at,
                &Sample {
                    component: 3,
                    entity: 77,
                    kind: 400,
                    payload: [nanos; 3],
                },
            );
        });
    });
}

criterion_group!(benches, streams, sharing, stations, log);
criterion_main!(benches);
