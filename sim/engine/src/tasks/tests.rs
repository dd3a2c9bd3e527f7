//! Tests of the bridge between tasks and the queue.

use std::{
    sync::{Arc, Mutex},
    task::Poll,
};

use super::Tasks;
use crate::{
    completion::{completion, mailbox},
    queue::TieBreak,
    runtime::run,
    time::SimInstant,
};

/// What tasks did, in order.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Writes to the diary when it is dropped.
struct Epitaph(Diary, String);

impl Drop for Epitaph {
    fn drop(&mut self) {
        self.0.note(format!("drop {}", self.1));
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The order in which 20 tasks on 5 hosts run three polls each.
fn order_of_polls(madsim_seed: u64, order: TieBreak) -> Vec<String> {
    run(madsim_seed, async |runtime| {
        let tasks = runtime.tasks(order);
        let diary = Diary::default();
        let hosts: Vec<_> = (0..5)
            .map(|host| tasks.add_host(&format!("host-{host}")))
            .collect();
        for number in 0..20 {
            let (diary, host) = (diary.clone(), number % 5);
            hosts[host].spawn(async move {
                for turn in 0..3 {
                    diary.note(format!("{host}/{number}/{turn}"));
                    yield_once().await;
                }
            });
        }
        tasks.settle().await.unwrap();
        assert_eq!(tasks.live(), 0);
        diary.take()
    })
}

#[test]
fn the_order_of_polls_does_not_depend_on_madsim() {
    let expected = order_of_polls(0, TieBreak::Fifo);
    assert_eq!(expected.len(), 60);
    for seed in 1..10 {
        assert_eq!(order_of_polls(seed, TieBreak::Fifo), expected);
    }
    let first: Vec<_> = (0..20)
        .map(|number| format!("{}/{number}/0", number % 5))
        .collect();
    assert_eq!(expected[..20], first);
}

#[test]
fn keyed_order_permutes_hosts_and_keeps_each_host_in_order() {
    let keyed = |seed| order_of_polls(3, TieBreak::Keyed { seed });
    assert_eq!(keyed(1), keyed(1));
    assert_ne!(keyed(1), keyed(2));
    for seed in 0..10 {
        let order = keyed(seed);
        for host in 0..5 {
            let own = |line: &&String| line.starts_with(&format!("{host}/"));
            let fifo = order_of_polls(3, TieBreak::Fifo);
            assert!(order.iter().filter(own).eq(fifo.iter().filter(own)));
        }
    }
}

#[test]
fn a_task_is_polled_once_per_settling_however_often_it_is_woken() {
    run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let host = tasks.add_host("host");
        let (post, mut letters) = mailbox();
        host.spawn(async move { while letters.recv().await.is_some() {} });
        tasks.settle().await.unwrap();
        assert_eq!((tasks.polls(), tasks.ready()), (1, false));
        for letter in 0..10 {
            post.send(letter).unwrap();
        }
        assert!(tasks.ready());
        tasks.settle().await.unwrap();
        assert_eq!((tasks.polls(), tasks.ready()), (2, false));
    });
}

#[test]
fn a_killed_host_is_dropped_in_order_of_spawning_and_never_polled_again() {
    for seed in 0..10 {
        run(seed, async |runtime| {
            let tasks = runtime.tasks(TieBreak::Fifo);
            let diary = Diary::default();
            let (victim, other) = (tasks.add_host("victim"), tasks.add_host("other"));
            let mut completers = Vec::new();
            for number in 0..8 {
                let (completer, done) = completion::<()>();
                completers.push(completer);
                let (diary, epitaph) = (diary.clone(), Epitaph(diary.clone(), number.to_string()));
                victim.spawn(async move {
                    let _epitaph = epitaph;
                    let _ = done.await;
                    diary.note("polled");
                });
            }
            tasks.settle().await.unwrap();
            let note = diary.clone();
            other.spawn(async move { note.note("other") });
            // Woken, not polled yet, and then killed: the wake-up must not be honored.
            for completer in completers {
                completer.complete(()).unwrap();
            }
            victim.kill();
            assert!(
                !victim.spawn(async {}),
                "a killed incarnation starts nothing"
            );
            tasks.settle().await.unwrap();
            let mut expected: Vec<_> = (0..8).map(|number| format!("drop {number}")).collect();
            expected.push("other".to_owned());
            assert_eq!(diary.take(), expected);
            assert_eq!((tasks.live(), tasks.ready()), (0, false));
        });
    }
}

#[test]
fn a_waker_that_outlives_its_task_wakes_nobody() {
    run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let host = tasks.add_host("host");
        let kept = Arc::new(Mutex::new(None));
        let keep = kept.clone();
        host.spawn(std::future::poll_fn(move |context| {
            *keep.lock().unwrap() = Some(context.waker().clone());
            Poll::Pending
        }));
        tasks.settle().await.unwrap();
        host.kill();
        tasks.settle().await.unwrap();
        // The slot is reused by another task, which the old waker must not reach.
        let again = host.restart();
        again.spawn(std::future::pending());
        tasks.settle().await.unwrap();
        let polls = tasks.polls();
        kept.lock().unwrap().take().unwrap().wake();
        assert!(!tasks.ready());
        tasks.settle().await.unwrap();
        assert_eq!(tasks.polls(), polls);
    });
}

#[test]
fn a_restarted_host_runs_new_tasks_at_once() {
    run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let diary = Diary::default();
        let host = tasks.add_host("host");
        let epitaph = Epitaph(diary.clone(), "old".to_owned());
        host.spawn(async move {
            let _epitaph = epitaph;
            std::future::pending::<()>().await;
        });
        tasks.settle().await.unwrap();
        host.kill();
        let again = host.restart();
        let note = diary.clone();
        assert!(again.spawn(async move { note.note("new") }));
        tasks.settle().await.unwrap();
        assert_eq!(diary.take(), ["drop old", "new"]);
        assert!(host.is_killed() && !again.is_killed());
    });
}

#[test]
fn tasks_spawn_tasks_on_their_own_host() {
    run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let diary = Diary::default();
        let host = tasks.add_host("host");
        let (inside, note) = (host.clone(), diary.clone());
        host.spawn(async move {
            let child = note.clone();
            inside.spawn(async move { child.note("child") });
            note.note("parent");
        });
        tasks.settle().await.unwrap();
        assert_eq!(diary.take(), ["parent", "child"]);
    });
}

#[test]
fn a_spin_ends_with_the_name_of_its_host() {
    run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        tasks.set_poll_budget(100);
        tasks.add_host("spinner").spawn(async {
            loop {
                yield_once().await;
            }
        });
        let spin = tasks.settle().await.unwrap_err();
        assert_eq!((spin.host.as_str(), spin.polls), ("spinner", 100));
        tasks.advance(SimInstant::from_nanos(1));
        assert!(tasks.settle().await.is_err());
    });
}

#[test]
fn the_end_of_a_run_drops_every_task() {
    let diary = Diary::default();
    let seen = diary.clone();
    run(1, async |runtime| {
        let tasks: Tasks = runtime.tasks(TieBreak::Fifo);
        let host = tasks.add_host("host");
        for number in 0..3 {
            let epitaph = Epitaph(diary.clone(), number.to_string());
            host.spawn(async move {
                let _epitaph = epitaph;
                std::future::pending::<()>().await;
            });
        }
        tasks.settle().await.unwrap();
        // Never polled at all.
        let epitaph = Epitaph(diary.clone(), "3".to_owned());
        host.spawn(async move { drop(epitaph) });
    });
    assert_eq!(seen.take(), ["drop 0", "drop 1", "drop 2", "drop 3"]);
    assert_eq!(
        Arc::strong_count(&seen.0),
        1 + 1,
        "only this test still holds the diary"
    );
}

#[test]
fn an_abandoned_completion_tells_both_sides() {
    run(1, async |runtime| {
        let tasks = runtime.tasks(TieBreak::Fifo);
        let host = tasks.add_host("host");
        let (completer, done) = completion::<u32>();
        drop(done);
        assert!(completer.is_abandoned());
        assert_eq!(completer.complete(1), Err(1));
        let (completer, done) = completion::<u32>();
        let diary = Diary::default();
        let note = diary.clone();
        host.spawn(async move { note.note(format!("{:?}", done.await)) });
        tasks.settle().await.unwrap();
        drop(completer);
        tasks.settle().await.unwrap();
        assert_eq!(diary.take(), ["Err(Abandoned)"]);
    });
}
