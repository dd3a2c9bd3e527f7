//! What ends with the part of a process that it belongs to: a call with its context, a client, the
//! time that a part has. They only say so as they are dropped; the owner of the processes does it.

use std::future::Future;
use std::rc::Rc;
use std::task::Poll;

use drydock_engine::time::SimInstant;

use crate::ids::{CallId, ClientId};
use crate::request::{Request, Response};

use super::{ALARM, DEADLINE, Effect, Port, Released, Reply, Shared, Wait};

impl Port {
    /// Makes an API call whose context is the caller's: dropped before its answer, it is canceled,
    /// also by the death of the process. A process has one such call at a time.
    pub(crate) async fn send(&self, client: ClientId, request: Request) -> Sent {
        match self.wait(Wait::Send(client, request)).await {
            Reply::Sent(call, departs) => Sent {
                call,
                departs,
                answered: false,
                port: self.clone(),
            },
            other => unreachable!("a call that is made is not answered by {other:?}"),
        }
    }

    /// Whether etcd has the write that it waits for, so that nothing stops it anymore. Known while
    /// the process runs for another reason than its answer, and while it dies.
    pub(crate) fn is_committing(&self) -> bool {
        self.state.borrow().committing
    }

    /// Does a part of the work, at most until an instant: what is not done by then is dropped where
    /// it stands. `None` when that came first.
    pub(crate) async fn within<T>(
        &self,
        limit: SimInstant,
        part: impl Future<Output = T>,
    ) -> Option<T> {
        let alarm = Alarm::set(self, limit);
        let mut part = std::pin::pin!(part);
        std::future::poll_fn(|task| {
            if alarm.rang() {
                return Poll::Ready(None);
            }
            part.as_mut().poll(task).map(Some)
        })
        .await
    }

    /// A client that ends with the guard.
    pub(crate) fn own(&self, client: ClientId) -> OwnClient {
        OwnClient {
            client,
            shared: self.shared.clone(),
        }
    }
}

/// A call under way; see [`Port::send`].
pub(crate) struct Sent {
    call: CallId,
    departs: SimInstant,
    answered: bool,
    port: Port,
}

impl Sent {
    /// When it leaves the limiter of its client.
    pub(crate) fn departs(&self) -> SimInstant {
        self.departs
    }

    /// Waits for the answer.
    pub(crate) async fn answer(mut self) -> Response {
        match self.port.wait(Wait::Answer).await {
            Reply::Api(response) => {
                self.answered = true;
                response
            }
            other => unreachable!("what was sent is not answered by {other:?}"),
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if !self.answered {
            let canceled = Released::Call(self.port.id, self.call);
            self.port.shared.release(canceled);
        }
    }
}

/// See [`Port::own`].
pub(crate) struct OwnClient {
    client: ClientId,
    shared: Rc<Shared>,
}

impl Drop for OwnClient {
    fn drop(&mut self) {
        self.shared.release(Released::Client(self.client));
    }
}

/// A timer that interrupts what its process waits for.
struct Alarm<'a> {
    number: u32,
    port: &'a Port,
}

impl<'a> Alarm<'a> {
    fn set(port: &'a Port, at: SimInstant) -> Self {
        let number = {
            let mut state = port.state.borrow_mut();
            let number = ALARM | state.alarms_set;
            assert!(number < DEADLINE, "a process sets fewer than 2^31 alarms");
            state.alarms_set += 1;
            state.alarms.push((number, false));
            number
        };
        port.effect(Effect::Alarm(at, number));
        Self { number, port }
    }

    fn rang(&self) -> bool {
        let state = self.port.state.borrow();
        state.alarms.contains(&(self.number, true))
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let mut state = self.port.state.borrow_mut();
        let count = state.alarms.len();
        state.alarms.retain(|(number, _)| *number != self.number);
        assert!(state.alarms.len() + 1 == count, "an alarm is set once");
    }
}
