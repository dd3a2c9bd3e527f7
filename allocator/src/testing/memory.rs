//! The store as an `ApiServer` that answers at once. It has no bookmarks, no faults and no time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::poll_fn;
use futures::task::AtomicWaker;

use super::store::Store;
use crate::core::api::{
    ApiError, Consistency, ListPage, ListQuery, Part, Preconditions, WatchEvent, WatchQuery,
};
use crate::core::objects::{Metadata, Object, ObjectKey};
use crate::ports::{ApiServer, Watch};

#[derive(Debug, Default)]
struct Shared {
    store: Mutex<Store>,
    watchers: Mutex<Vec<Arc<AtomicWaker>>>,
}

/// The apiserver; clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryApi(Arc<Shared>);

impl MemoryApi {
    /// Looks at the store or changes it behind the port; watchers see it.
    pub fn with_store<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let result = change(&mut self.lock());
        let watchers = self.0.watchers.lock();
        for waker in &*watchers.unwrap_or_else(PoisonError::into_inner) {
            waker.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiServer for MemoryApi {
    type Watch = MemoryWatch;

    async fn get(&self, key: &ObjectKey, _consistency: Consistency) -> Result<Object, ApiError> {
        self.lock().get(key)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage, ApiError> {
        self.lock().list(query)
    }

    async fn watch(&self, query: &WatchQuery) -> Result<MemoryWatch, ApiError> {
        let waker = Arc::new(AtomicWaker::new());
        let watchers = self.0.watchers.lock();
        watchers
            .unwrap_or_else(PoisonError::into_inner)
            .push(waker.clone());
        Ok(MemoryWatch {
            api: self.clone(),
            query: query.clone(),
            seen: query.resource_version.parse().unwrap_or_default(),
            waker,
        })
    }

    async fn create(&self, object: Object) -> Result<Metadata, ApiError> {
        self.with_store(|store| store.create(object))
    }

    async fn replace(&self, object: Object, part: Part) -> Result<Metadata, ApiError> {
        self.with_store(|store| store.replace(object, part))
    }

    async fn delete(&self, key: &ObjectKey, guard: &Preconditions) -> Result<(), ApiError> {
        self.with_store(|store| store.delete(key, Some(guard)))
    }
}

/// An open watch of the store.
#[derive(Debug)]
pub struct MemoryWatch {
    api: MemoryApi,
    query: WatchQuery,
    seen: u64,
    waker: Arc<AtomicWaker>,
}

impl Watch for MemoryWatch {
    fn next(&mut self) -> impl Future<Output = WatchEvent> + Send {
        poll_fn(|context| {
            self.waker.register(context.waker());
            let events = self.api.lock().events_after(&self.query, self.seen);
            match events.into_iter().next() {
                Some((version, event)) => {
                    self.seen = version;
                    core::task::Poll::Ready(event)
                }
                None => core::task::Poll::Pending,
            }
        })
    }
}
