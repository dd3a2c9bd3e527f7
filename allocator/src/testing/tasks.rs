//! The futures of agents and controllers, polled on the caller's thread when something woke them.

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::Arc;
use std::task::Wake;

use futures::future::BoxFuture;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A program that runs until its future ends or is dropped.
pub(super) struct Running {
    future: BoxFuture<'static, ()>,
    flag: Arc<Flag>,
}

impl Running {
    /// It is polled at the next occasion.
    pub(super) fn new(future: BoxFuture<'static, ()>) -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { future, flag }
    }

    /// Polls it if something woke it: whether it ended by that. `None`: it sleeps.
    pub(super) fn poll(&mut self) -> Option<Poll<()>> {
        if !self.flag.0.swap(false, Ordering::Relaxed) {
            return None;
        }
        let waker = Waker::from(self.flag.clone());
        let mut context = Context::from_waker(&waker);
        Some(self.future.as_mut().poll(&mut context))
    }
}
