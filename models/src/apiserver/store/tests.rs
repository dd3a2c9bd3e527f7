//! Claims about the store's rules.

use super::*;
use crate::objects::{Phase, PodSpec, PodStatus};
use crate::request::{ApiError, NewPod, Part, Shape};

const KIND: CustomKind = CustomKind {
    resource: "things",
    shape: Shape::Flat,
};

fn store() -> Store {
    Store::new(Limits {
        history_age: Duration::from_secs(75),
        history_min: 4,
        history_max: 1000,
        body_bytes_max: 100,
    })
}

fn at(seconds: u64) -> SimInstant {
    SimInstant::ZERO + Duration::from_secs(seconds)
}

fn write(store: &mut Store, request: &Request, seconds: u64) -> Response {
    store.write(request, at(seconds), &BTreeMap::new(), &mut Vec::new())
}

fn custom(name: &str, body: &str) -> Rc<Custom> {
    Rc::new(Custom {
        kind: KIND,
        name: Rc::from(name),
        uid: 0,
        resource_version: 0,
        labels: vec![("pool".to_owned(), "a".to_owned())],
        annotations: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        body: Rc::from(body),
        status: None,
        record_count: 1,
    })
}

fn created(store: &mut Store, object: &Rc<Custom>) -> Rc<Custom> {
    match write(store, &Request::Create(object.clone()), 0) {
        Ok(Answer::Custom(stored)) => stored,
        other => panic!("not created: {other:?}"),
    }
}

fn pod(store: &mut Store, name: &str, node: Option<&str>) -> Rc<Pod> {
    let new = NewPod {
        namespace: Rc::from("default"),
        name: Rc::from(name),
        entity: 1,
        labels: Rc::from([]),
        annotations: Rc::from([]),
        owner: None,
        spec: Rc::new(PodSpec {
            host_network: false,
            node_name: node.map(Rc::from),
            node_selector: Vec::new(),
            grace: Duration::from_secs(30),
            pull_always: false,
            run: None,
        }),
    };
    match write(store, &Request::CreatePod(Rc::new(new)), 0) {
        Ok(Answer::Pod(pod)) => pod,
        other => panic!("not created: {other:?}"),
    }
}

fn delete(name: &str, uid: Option<u32>, version: Option<u64>) -> Request {
    Request::Delete {
        kind: KIND,
        name: Rc::from(name),
        uid,
        resource_version: version,
    }
}

fn status(phase: Phase) -> PodStatus {
    PodStatus {
        phase,
        ready: true,
        seen_by_kubelet: true,
        pod_ips: Vec::new(),
    }
}

#[test]
fn a_write_of_an_old_version_conflicts_and_one_of_none_is_refused() {
    let mut store = store();
    let first = created(&mut store, &custom("a", "1"));
    let mut next = Custom::clone(&first);
    next.body = Rc::from("2");
    let replace = |object: Custom| Request::Replace {
        object: Rc::new(object),
        part: Part::Main,
    };
    assert!(write(&mut store, &replace(next.clone()), 1).is_ok());
    assert_eq!(
        write(&mut store, &replace(next.clone()), 1),
        Err(ApiError::Conflict)
    );
    next.resource_version = 0;
    assert_eq!(write(&mut store, &replace(next), 1), Err(ApiError::Invalid));
    assert_eq!(
        write(&mut store, &replace(Custom::clone(&custom("b", "1"))), 1),
        Err(ApiError::NotFound)
    );
}

#[test]
fn a_write_that_changes_nothing_takes_no_revision() {
    let mut store = store();
    let first = created(&mut store, &custom("a", "1"));
    let before = store.revision();
    let same = Request::Replace {
        object: first,
        part: Part::Main,
    };
    assert!(write(&mut store, &same, 1).is_ok());
    assert_eq!(store.revision(), before);
}

#[test]
fn a_name_is_created_once_and_a_new_object_of_it_has_a_new_uid() {
    let mut store = store();
    let first = created(&mut store, &custom("a", "1"));
    let again = Request::Create(custom("a", "2"));
    assert_eq!(write(&mut store, &again, 1), Err(ApiError::AlreadyExists));
    assert!(write(&mut store, &delete("a", None, None), 1).is_ok());
    let second = created(&mut store, &custom("a", "2"));
    assert_ne!(first.uid, second.uid);
    assert_eq!(
        write(&mut store, &delete("a", Some(first.uid), None), 2),
        Err(ApiError::Conflict)
    );
    let old = Some(first.resource_version);
    assert_eq!(
        write(&mut store, &delete("a", None, old), 2),
        Err(ApiError::Conflict)
    );
    assert_eq!(
        write(&mut store, &delete("z", None, None), 2),
        Err(ApiError::NotFound)
    );
}

#[test]
fn an_object_with_finalizers_vanishes_with_the_write_that_empties_them() {
    let mut store = store();
    let mut object = Custom::clone(&custom("a", "1"));
    object.finalizers.push("berth".to_owned());
    let stored = created(&mut store, &Rc::new(object));
    let Ok(Answer::Custom(marked)) = write(&mut store, &delete("a", None, None), 1) else {
        panic!("the deletion is accepted")
    };
    assert!(marked.deleting && store.custom(KIND, "a").is_some());
    assert!(marked.resource_version > stored.resource_version);
    let mut released = Custom::clone(&marked);
    released.finalizers.clear();
    // The flag is the server's: a client cannot take it back.
    released.deleting = false;
    let put = Request::Replace {
        object: Rc::new(released),
        part: Part::Main,
    };
    assert!(write(&mut store, &put, 2).is_ok());
    assert!(store.custom(KIND, "a").is_none());
}

#[test]
fn an_object_above_the_size_limit_is_refused_for_good() {
    let mut store = store();
    let big = Request::Create(custom("a", &"x".repeat(101)));
    assert_eq!(
        write(&mut store, &big, 0),
        Err(ApiError::Unavailable { unknown: true })
    );
}

#[test]
fn a_bound_pod_dies_gracefully_and_an_unbound_or_terminal_one_at_once() {
    let mut store = store();
    let bound = pod(&mut store, "bound", Some("n")).uid;
    let unbound = pod(&mut store, "unbound", None).uid;
    let ended = pod(&mut store, "ended", Some("n")).uid;
    let patch = Request::PatchPodStatus {
        pod: ended,
        status: status(Phase::Failed),
    };
    assert!(write(&mut store, &patch, 1).is_ok());
    for pod in [bound, unbound, ended] {
        assert!(write(&mut store, &Request::DeletePod { pod, grace: None }, 2).is_ok());
    }
    assert_eq!(store.pod_count(), 1);
    let dying = store.pod(bound).expect("it is still there");
    assert_eq!(dying.deletion, Some((at(2), Duration::from_secs(30))));
    let force = Request::DeletePod {
        pod: bound,
        grace: Some(Duration::ZERO),
    };
    assert!(write(&mut store, &force, 3).is_ok());
    assert_eq!(write(&mut store, &force, 4), Err(ApiError::NotFound));
}

#[test]
fn writes_on_a_name_that_has_a_new_owner_are_told_apart_from_a_free_name() {
    let mut store = store();
    let old = pod(&mut store, "web-0", Some("n")).uid;
    let force = |pod| Request::DeletePod {
        pod,
        grace: Some(Duration::ZERO),
    };
    assert!(write(&mut store, &force(old), 1).is_ok());
    let patch = Request::PatchPodStatus {
        pod: old,
        status: status(Phase::Running),
    };
    assert_eq!(write(&mut store, &patch, 2), Err(ApiError::NotFound));
    let new = pod(&mut store, "web-0", Some("n")).uid;
    assert_ne!(old, new);
    assert_eq!(write(&mut store, &patch, 3), Err(ApiError::Invalid));
    assert_eq!(write(&mut store, &force(old), 3), Err(ApiError::Conflict));
}

#[test]
fn multus_conflicts_with_a_kubelet_that_wrote_in_between() {
    let mut store = store();
    let read = pod(&mut store, "a", Some("n"));
    let patch = Request::PatchPodStatus {
        pod: read.uid,
        status: status(Phase::Pending),
    };
    assert!(write(&mut store, &patch, 1).is_ok());
    let put = |version| Request::PutNetworkStatus {
        pod: read.uid,
        resource_version: version,
    };
    assert_eq!(
        write(&mut store, &put(read.resource_version), 2),
        Err(ApiError::Conflict)
    );
    let fresh = store.pod(read.uid).unwrap().resource_version;
    assert!(write(&mut store, &put(fresh), 2).is_ok());
    // The kubelet's PATCH carries no version: it never conflicts with the PUT.
    let patch = Request::PatchPodStatus {
        pod: read.uid,
        status: status(Phase::Running),
    };
    assert!(write(&mut store, &patch, 3).is_ok());
    assert!(store.pod(read.uid).unwrap().network_status);
}

#[test]
fn a_pod_is_bound_once() {
    let mut store = store();
    let uid = pod(&mut store, "a", None).uid;
    let bind = Request::BindPod {
        pod: uid,
        node_name: Rc::from("n"),
    };
    assert!(write(&mut store, &bind, 1).is_ok());
    assert_eq!(write(&mut store, &bind, 2), Err(ApiError::Conflict));
}

#[test]
fn older_states_are_read_back_including_removed_and_recreated_objects() {
    let mut store = store();
    let first = created(&mut store, &custom("a", "1"));
    let mut second = Custom::clone(&first);
    second.body = Rc::from("2");
    let put = Request::Replace {
        object: Rc::new(second),
        part: Part::Main,
    };
    assert!(write(&mut store, &put, 1).is_ok());
    let with_second = store.revision();
    assert!(write(&mut store, &delete("a", None, None), 2).is_ok());
    let without = store.revision();
    created(&mut store, &custom("a", "3"));
    let body = |at| {
        store
            .custom_at(KIND, &Rc::from("a"), at)
            .map(|object| object.body.to_string())
    };
    assert_eq!(body(first.resource_version), Some("1".to_owned()));
    assert_eq!(body(with_second), Some("2".to_owned()));
    assert_eq!(body(without), None);
    assert_eq!(body(store.revision()), Some("3".to_owned()));
    assert_eq!(store.customs_at(KIND, &[], with_second).len(), 1);
    assert_eq!(store.customs_at(KIND, &[], without).len(), 0);
}

#[test]
fn selectors_match_presence_value_and_absence() {
    let object = custom("a", "1");
    let has = Selector::Has("pool".to_owned());
    let is = |value: &str| Selector::Is("pool".to_owned(), value.to_owned());
    let not = |key: &str| Selector::Not(key.to_owned());
    assert!(matches(&[has, is("a"), not("owner")], &object));
    assert!(!matches(&[is("b")], &object));
    assert!(!matches(&[not("pool")], &object));
}

#[test]
fn the_history_keeps_the_window_and_no_more() {
    let mut store = store();
    for second in 0..20 {
        let name = format!("o{second}");
        assert!(
            write(
                &mut store,
                &Request::Create(custom(&name, "1")),
                second * 10
            )
            .is_ok()
        );
    }
    // 190 s: 75 s of history are the writes at 120 s and later.
    assert_eq!(store.revision() - store.first() + 1, 8);
    assert!(store.entry(store.first() - 1).is_none());
}
