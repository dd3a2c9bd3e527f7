//! The future that madsim sees: it polls the task within it only while it holds the baton.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use super::{Shared, state::Turn};

pub(super) type BoxedTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a task's own waker holds: a wake-up goes to the engine's ready list, never to madsim's.
struct WakeCell {
    shared: Arc<Shared>,
    index: u32,
    generation: u64,
}

impl Wake for WakeCell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.shared.lock().wake(self.index, self.generation) {
            self.shared.raise();
        }
    }
}

pub(super) struct Gate {
    cell: Arc<WakeCell>,
    waker: Waker,
    task: Option<BoxedTask>,
}

impl Gate {
    pub(super) fn new(shared: Arc<Shared>, index: u32, generation: u64, task: BoxedTask) -> Self {
        let cell = Arc::new(WakeCell {
            shared,
            index,
            generation,
        });
        Self {
            waker: Waker::from(cell.clone()),
            cell,
            task: Some(task),
        }
    }
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let gate = &mut *self;
        let shared = &gate.cell.shared;
        let turn = shared
            .lock()
            .take_turn(gate.cell.index, gate.cell.generation, context.waker());
        let done = match turn {
            // Polled by madsim without the baton: its first poll, which only leaves the waker.
            None => return Poll::Pending,
            Some(Turn::Poll) => {
                let task = gate
                    .task
                    .as_mut()
                    .expect("a task is polled only until it is done");
                task.as_mut()
                    .poll(&mut Context::from_waker(&gate.waker))
                    .is_ready()
            }
            Some(Turn::Drop) => true,
        };
        if done {
            // Dropped before the baton moves on: what its destructors wake queues up in order.
            gate.task = None;
            shared.lock().retire(gate.cell.index);
        }
        shared.pass_baton();
        if done { Poll::Ready(()) } else { Poll::Pending }
    }
}
