//! The contract of the `ApiServer` port, kept by the store in memory.

use berth::core::api::Part;
use berth::core::objects::{Object, ObjectKey, Pod};
use berth::testing::MemoryApi;
use berth::testing::contract::{self, Bench};
use futures::FutureExt as _;

struct Memory {
    api: MemoryApi,
}

impl Memory {
    fn change(&self, key: &ObjectKey, change: impl FnOnce(&mut Pod)) {
        self.api.with_store(|store| {
            let Object::Pod(mut pod) = store.get(key).unwrap() else {
                panic!("another kind")
            };
            change(&mut pod);
            store.replace(Object::Pod(pod), Part::Main).unwrap();
        });
    }
}

impl Bench for Memory {
    type Api = MemoryApi;
    const VALIDATES: bool = false;
    const TELLS_ADDED: bool = true;
    const SENDS_BOOKMARKS: bool = false;

    fn api(&self) -> &MemoryApi {
        &self.api
    }

    fn begin(&mut self, claim: &'static str) {
        println!("- {claim}");
    }

    async fn create_pod(&mut self, mut pod: Pod) {
        pod.status.phase = "Pending".into();
        let created = self.api.with_store(|store| store.create(pod.into()));
        created.unwrap();
    }

    async fn bind_pod(&mut self, pod: &ObjectKey, node: &str) {
        self.change(pod, |pod| node.clone_into(&mut pod.spec.node_name));
    }

    async fn delete_pod(&mut self, pod: &ObjectKey) {
        self.api.with_store(|store| store.mark_deleted(pod));
    }

    async fn remove_pod(&mut self, pod: &ObjectKey) {
        let removed = self.api.with_store(|store| store.delete(pod, None));
        removed.unwrap();
    }

    async fn compact(&mut self) {
        self.api.with_store(berth::testing::Store::compact);
    }
}

#[test]
fn the_store_in_memory_keeps_the_contract() {
    let mut memory = Memory {
        api: MemoryApi::default(),
    };
    // Everything answers at once: what waits now waits forever.
    assert_eq!(contract::all(&mut memory).now_or_never(), Some(()));
}
