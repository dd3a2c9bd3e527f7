//! How tasks and the world talk: a one-shot completion and an unbounded mailbox. Both sides live in
//! one thread; wake-ups go through the waker of the task, so through the engine's order.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// The other side is gone: its task was killed or will never answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("abandoned by the other side")]
pub struct Abandoned;

struct Slot<T> {
    value: Option<T>,
    waker: Option<Waker>,
    completer_gone: bool,
    completion_gone: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answering side of a [`completion`].
pub struct Completer<T>(Arc<Mutex<Slot<T>>>);

/// The waiting side of a [`completion`]: a future of the answer.
#[must_use = "a completion does nothing unless it is awaited"]
pub struct Completion<T>(Arc<Mutex<Slot<T>>>);

/// A value that is awaited once.
pub fn completion<T>() -> (Completer<T>, Completion<T>) {
    let slot = Slot {
        value: None,
        waker: None,
        completer_gone: false,
        completion_gone: false,
    };
    let slot = Arc::new(Mutex::new(slot));
    (Completer(slot.clone()), Completion(slot))
}

impl<T> fmt::Debug for Completer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Completer").finish_non_exhaustive()
    }
}

impl<T> Completer<T> {
    /// Answers.
    ///
    /// # Errors
    ///
    /// Returns the value if nobody waits for it anymore.
    pub fn complete(self, value: T) -> Result<(), T> {
        let waker = {
            let mut slot = lock(&self.0);
            if slot.completion_gone {
                return Err(value);
            }
            slot.value = Some(value);
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether nobody waits for it anymore.
    pub fn is_abandoned(&self) -> bool {
        lock(&self.0).completion_gone
    }
}

impl<T> Drop for Completer<T> {
    fn drop(&mut self) {
        let waker = {
            let mut slot = lock(&self.0);
            slot.completer_gone = true;
            slot.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Completion").finish_non_exhaustive()
    }
}

impl<T> Future for Completion<T> {
    type Output = Result<T, Abandoned>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.0);
        if let Some(value) = slot.value.take() {
            return Poll::Ready(Ok(value));
        }
        if slot.completer_gone {
            return Poll::Ready(Err(Abandoned));
        }
        slot.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Completion<T> {
    fn drop(&mut self) {
        let unread = {
            let mut slot = lock(&self.0);
            slot.completion_gone = true;
            slot.waker = None;
            slot.value.take()
        };
        // Outside the lock: the value's own destructor may wake somebody.
        drop(unread);
    }
}

struct Letters<T> {
    waiting: VecDeque<T>,
    waker: Option<Waker>,
    senders: usize,
    mailbox_gone: bool,
}

/// The sending side of a [`mailbox`]; clones send into the same one.
pub struct Post<T>(Arc<Mutex<Letters<T>>>);

/// The receiving side of a [`mailbox`].
pub struct Mailbox<T>(Arc<Mutex<Letters<T>>>);

/// An unbounded queue of values between tasks and the world.
pub fn mailbox<T>() -> (Post<T>, Mailbox<T>) {
    let letters = Letters {
        waiting: VecDeque::new(),
        waker: None,
        senders: 1,
        mailbox_gone: false,
    };
    let letters = Arc::new(Mutex::new(letters));
    (Post(letters.clone()), Mailbox(letters))
}

impl<T> fmt::Debug for Post<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Post").finish_non_exhaustive()
    }
}

impl<T> Post<T> {
    /// Sends.
    ///
    /// # Errors
    ///
    /// Returns the value if the mailbox is gone.
    pub fn send(&self, value: T) -> Result<(), T> {
        let waker = {
            let mut letters = lock(&self.0);
            if letters.mailbox_gone {
                return Err(value);
            }
            letters.waiting.push_back(value);
            letters.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        lock(&self.0).senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Post<T> {
    fn drop(&mut self) {
        let waker = {
            let mut letters = lock(&self.0);
            letters.senders -= 1;
            if letters.senders == 0 {
                letters.waker.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

impl<T> Mailbox<T> {
    /// The next value, or `None` once all senders are gone and nothing waits.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| {
            let mut letters = lock(&self.0);
            if let Some(value) = letters.waiting.pop_front() {
                return Poll::Ready(Some(value));
            }
            if letters.senders == 0 {
                return Poll::Ready(None);
            }
            letters.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next value, if there is one already. This is how the world, which is no task, receives.
    pub fn try_recv(&mut self) -> Option<T> {
        lock(&self.0).waiting.pop_front()
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let unread = {
            let mut letters = lock(&self.0);
            letters.mailbox_gone = true;
            letters.waker = None;
            std::mem::take(&mut letters.waiting)
        };
        drop(unread);
    }
}
