//! The way to the fake apiserver and back: latency, lost requests and replies, watches, and what
//! was asked. What a request does to the objects is [`Store`](crate::testing::Store)'s.

use core::time::Duration;

use futures::channel::mpsc;

use super::Inner;
use super::queue::{AnswerSender, Arrival, Pending};
use crate::core::api::{ApiError, ApiReply, ApiRequest, Applied, Part, WatchEvent, WatchQuery};
use crate::core::objects::Kind;

/// How hostile the world is. Rates in parts per million of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Writes whose reply is lost; they are carried out, perhaps after the caller gave up.
    pub lost_reply_ppm: u64,
    /// Writes that are lost on the way, with unknown outcome.
    pub lost_request_ppm: u64,
    /// Requests refused with 429.
    pub throttled_ppm: u64,
}

/// Requests to the fake apiserver since the last reset. Start-up reads are in it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    /// Single reads.
    pub gets: u64,
    /// Lists.
    pub lists: u64,
    /// Creates, replaces and deletes, rejected ones included.
    pub writes: u64,
}

impl Costs {
    /// All of them.
    pub fn requests(&self) -> u64 {
        self.gets + self.lists + self.writes
    }
}

/// One right that a program used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// As in a role: `get`, `list`, `watch`, `create`, `update`, `delete`.
    pub verb: &'static str,
    /// Which kind.
    pub kind: Kind,
    /// The object or its status.
    pub part: Part,
}

pub(in crate::testing) struct OpenWatch {
    pub(in crate::testing) query: WatchQuery,
    pub(in crate::testing) version: u64,
    pub(in crate::testing) sender: mpsc::UnboundedSender<WatchEvent>,
    pub(in crate::testing) scheduled: bool,
}

const WATCH_LATENCY: Duration = Duration::from_millis(8);

const GIVE_UP: Duration = Duration::from_secs(1);

impl Inner {
    pub(in crate::testing) fn note_asked(
        &mut self,
        who: &str,
        verb: &'static str,
        kind: Kind,
        part: Part,
    ) {
        let asked = Asked { verb, kind, part };
        self.asked.insert((who.to_owned(), asked));
    }

    pub(in crate::testing) fn send_request(
        &mut self,
        node: &str,
        request: ApiRequest,
        answer: AnswerSender,
    ) {
        let (verb, kind, part) = match &request {
            ApiRequest::Get(key, _) => ("get", key.kind, Part::Main),
            ApiRequest::List(query) => ("list", query.selection.kind, Part::Main),
            ApiRequest::Create(object) => ("create", object.kind(), Part::Main),
            ApiRequest::Replace(object, part) => ("update", object.kind(), *part),
            ApiRequest::Delete(key, _) => ("delete", key.kind, Part::Main),
        };
        self.note_asked(node, verb, kind, part);
        let is_write = match &request {
            ApiRequest::Get(..) => {
                self.costs.gets += 1;
                false
            }
            ApiRequest::List(_) => {
                self.costs.lists += 1;
                false
            }
            _ => {
                self.costs.writes += 1;
                true
            }
        };
        let latency = self.draw_between(Duration::from_millis(2), Duration::from_millis(8));
        let arrives = self.now + latency;
        let pending = Pending {
            node: node.to_owned(),
            request,
        };
        let gives_up = self.now + GIVE_UP;
        let unknown = Err(ApiError::Unavailable(Applied::Unknown));
        if self.chance(self.faults.throttled_ppm) {
            let refused = Err(ApiError::TooManyRequests { retry_after: None });
            self.schedule(arrives, Arrival::Answer(answer, refused));
        } else if is_write && self.chance(self.faults.lost_request_ppm) {
            self.schedule(gives_up, Arrival::Answer(answer, unknown));
        } else if is_write && self.chance(self.faults.lost_reply_ppm) {
            let late = self.draw_between(Duration::ZERO, GIVE_UP * 3);
            self.schedule(arrives + late, Arrival::Commit(pending, None));
            self.schedule(gives_up, Arrival::Answer(answer, unknown));
        } else {
            self.schedule(arrives, Arrival::Commit(pending, Some(answer)));
        }
    }

    pub(in crate::testing) fn open_watch(
        &mut self,
        query: WatchQuery,
        version: u64,
        sender: mpsc::UnboundedSender<WatchEvent>,
    ) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.watches.insert(
            id,
            OpenWatch {
                query,
                version,
                sender,
                scheduled: true,
            },
        );
        let at = self.now + WATCH_LATENCY;
        self.schedule(at, Arrival::Watch(id));
        id
    }

    pub(in crate::testing) fn close_watch(&mut self, id: u64) {
        self.watches.remove(&id);
    }

    /// A request reaches the store; its answer goes back, if anybody is to have it.
    pub(in crate::testing) fn commit(&mut self, pending: &Pending, answer: Option<AnswerSender>) {
        let before = self.store.version();
        let result = carry_out(self, pending);
        if self.store.version() != before {
            self.notify_watches();
        }
        tracing::trace!(node = pending.node, request = ?pending.request, "carried out");
        if let Some(answer) = answer {
            let latency = self.draw_between(Duration::from_millis(2), Duration::from_millis(8));
            let at = self.now + latency;
            self.schedule(at, Arrival::Answer(answer, result));
        }
    }

    /// After each change: have every open watch look, a moment later.
    pub(in crate::testing) fn notify_watches(&mut self) {
        let at = self.now + WATCH_LATENCY;
        let idle: Vec<_> = self
            .watches
            .iter_mut()
            .filter(|(_, watch)| !watch.scheduled)
            .map(|(id, watch)| {
                watch.scheduled = true;
                *id
            })
            .collect();
        for id in idle {
            self.schedule(at, Arrival::Watch(id));
        }
    }

    pub(in crate::testing) fn deliver_watch(&mut self, id: u64) {
        let Some(watch) = self.watches.get_mut(&id) else {
            return;
        };
        watch.scheduled = false;
        let events = self.store.events_after(&watch.query, watch.version);
        watch.version = self.store.version();
        for (_, event) in events {
            if watch.sender.unbounded_send(event).is_err() {
                self.watches.remove(&id);
                return;
            }
        }
    }
}

/// Carries a request out at the store.
fn carry_out(inner: &mut Inner, pending: &Pending) -> Result<ApiReply, ApiError> {
    let store = &mut inner.store;
    match pending.request.clone() {
        ApiRequest::Get(key, _) => store.get(&key).map(ApiReply::Object),
        ApiRequest::List(query) => store.list(&query).map(ApiReply::Page),
        ApiRequest::Create(object) => store.create(object).map(ApiReply::Written),
        ApiRequest::Replace(object, part) => store.replace(object, part).map(ApiReply::Written),
        ApiRequest::Delete(key, preconditions) => store
            .delete(&key, Some(&preconditions))
            .map(|()| ApiReply::Deleted),
    }
}
