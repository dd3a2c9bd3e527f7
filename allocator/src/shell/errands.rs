//! What a shell has out: requests, watches and one sleep, all polled in the one future of its
//! program. Both shells have it; what is told back, and what becomes of it, is each one's own.

use core::pin::pin;
use std::collections::BTreeMap;

use futures::future::{AbortHandle, Abortable, BoxFuture, Either, select};
use futures::stream::FuturesUnordered;

use super::{next_of, ready_events};
use crate::core::api::{ApiError, WatchEvent, WatchId, WatchQuery};
use crate::core::time::BootTime;
use crate::ports::{ApiServer, Clock};

enum Done<T, W> {
    Nothing,
    Told(T),
    Watch(WatchId, Vec<WatchEvent>, Option<W>),
}

/// What ended, or came.
pub(super) enum Next<T> {
    /// Nothing that anybody waits for.
    Nothing,
    /// The time that was asked for is there.
    Wake,
    Told(T),
    Watch(WatchId, Vec<WatchEvent>),
}

pub(super) struct Errands<'p, T, A: ApiServer> {
    api: &'p A,
    running: FuturesUnordered<BoxFuture<'p, Done<T, A::Watch>>>,
    watches: BTreeMap<WatchId, AbortHandle>,
    sleep: Option<(BootTime, BoxFuture<'p, ()>)>,
}

impl<'p, T: Send + 'p, A: ApiServer> Errands<'p, T, A> {
    pub(super) fn new(api: &'p A) -> Self {
        Self {
            api,
            running: FuturesUnordered::new(),
            watches: BTreeMap::new(),
            sleep: None,
        }
    }

    /// Waits for one completion.
    pub(super) async fn next(&mut self) -> Next<T> {
        let done = match &mut self.sleep {
            // The timer comes first: `select` polls in this order.
            Some((_, sleep)) => match select(sleep, pin!(next_of(&mut self.running))).await {
                Either::Left(((), _)) => {
                    self.sleep = None;
                    return Next::Wake;
                }
                Either::Right((done, _)) => done,
            },
            None => next_of(&mut self.running).await,
        };
        match done {
            Done::Nothing => Next::Nothing,
            Done::Told(told) => Next::Told(told),
            Done::Watch(id, _, _) if !self.watches.contains_key(&id) => Next::Nothing,
            Done::Watch(id, events, watch) => {
                match watch {
                    Some(mut watch) => self.await_events(id, async move {
                        let (events, open) = ready_events(&mut watch).await;
                        Done::Watch(id, events, open.then_some(watch))
                    }),
                    None => drop(self.watches.remove(&id)),
                }
                Next::Watch(id, events)
            }
        }
    }

    /// Begins a call whose end is told.
    pub(super) fn run(&mut self, call: impl Future<Output = T> + Send + 'p) {
        let call = async move { Done::Told(call.await) };
        self.running.push(Box::pin(call));
    }

    /// Begins a call whose end is of no interest.
    pub(super) fn begin(&mut self, call: impl Future<Output = ()> + Send + 'p) {
        let call = async move {
            call.await;
            Done::Nothing
        };
        self.running.push(Box::pin(call));
    }

    fn await_events(
        &mut self,
        id: WatchId,
        events: impl Future<Output = Done<T, A::Watch>> + Send + 'p,
    ) {
        let (handle, registration) = AbortHandle::new_pair();
        self.watches.insert(id, handle);
        let events = Abortable::new(events, registration);
        let events = async move { events.await.unwrap_or(Done::Nothing) };
        self.running.push(Box::pin(events));
    }

    pub(super) fn open_watch(&mut self, id: WatchId, query: WatchQuery) {
        let api = self.api;
        self.await_events(id, async move {
            match api.watch(&query).await {
                Ok(mut watch) => {
                    let (events, open) = ready_events(&mut watch).await;
                    Done::Watch(id, events, open.then_some(watch))
                }
                Err(ApiError::Gone) => Done::Watch(id, vec![WatchEvent::Expired], None),
                Err(_) => Done::Watch(id, vec![WatchEvent::Closed], None),
            }
        });
    }

    pub(super) fn close_watch(&mut self, id: WatchId) {
        if let Some(handle) = self.watches.remove(&id) {
            handle.abort();
        }
    }

    /// A sleep that ends earlier than wanted is kept: an early wake is answered by the next time.
    pub(super) fn wake_at<C: Clock>(&mut self, clock: &'p C, at: BootTime) {
        if self.sleep.as_ref().is_none_or(|(until, _)| at < *until) {
            let sleep = async move { clock.sleep_until(at).await };
            self.sleep = Some((at, Box::pin(sleep)));
        }
    }
}
