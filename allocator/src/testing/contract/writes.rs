//! Create, replace, delete: versions, guards, the two kinds of 409, the status, finalizers.

use crate::core::api::{ApiError, Applied, Consistency, Part, Preconditions};
use crate::core::objects::{AddressPoolStatus, FINALIZER, Kind, Metadata, Object, ObjectKey, Uid};
use crate::ports::ApiServer;

use super::objects::{block, condition, lease, pool, with};
use super::{Bench, fails, get, ok, refused};

fn guard(metadata: &Metadata) -> Preconditions {
    Preconditions {
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
    }
}

pub(super) async fn all<B: Bench>(bench: &mut B) {
    bench.begin("what is created is what is read, with a UID and a version");
    created(bench.api()).await;
    bench.begin("a name that is taken is AlreadyExists, one that is free is NotFound");
    names(bench.api()).await;
    bench.begin("a replace needs the present version");
    replaced(bench.api()).await;
    bench.begin("a replace with another UID is a conflict");
    other_uid(bench.api()).await;
    bench.begin("a replace that changes nothing leaves the version");
    unchanged(bench.api()).await;
    bench.begin("a delete needs the UID and version of its preconditions");
    deleted(bench.api()).await;
    bench.begin("status and spec are written apart");
    status(bench.api()).await;
    bench.begin("a kind without a status has no place for one");
    no_status(bench.api()).await;
    bench.begin("a finalizer keeps a deleted object until it is taken away");
    finalizer(bench.api()).await;
    bench.begin("no finalizer is added to an object that is being deleted");
    late_finalizer(bench.api()).await;
    bench.begin("a lease is an object like the others");
    leases(bench.api()).await;
    bench.begin("an object that is too large for etcd is not stored, which its writer cannot know");
    too_large(bench.api()).await;
    if B::VALIDATES {
        bench.begin("a body that the definitions forbid is refused, and not stored");
        invalid(bench.api()).await;
    }
}

async fn created(api: &impl ApiServer) {
    for object in [
        Object::from(pool("created")),
        block("created", "created").into(),
        lease("created").into(),
    ] {
        let metadata = ok(api.create(object.clone()).await);
        assert_ne!(metadata.uid, Uid::default());
        assert_ne!(metadata.resource_version, "");
        let mut expected = object.metadata().clone();
        expected.uid = metadata.uid.clone();
        expected.generation = metadata.generation;
        expected
            .resource_version
            .clone_from(&metadata.resource_version);
        assert_eq!(metadata, expected);
        let key = object.key();
        assert_eq!(get(api, &key).await, with(object, metadata));
    }
}

async fn names(api: &impl ApiServer) {
    let object = Object::from(block("names", "names"));
    let key = object.key();
    fails(
        api.get(&key, Consistency::Quorum).await,
        &ApiError::NotFound,
    );
    let missing = Preconditions {
        uid: Uid::new("00000000-0000-4000-8000-00000000dead"),
        resource_version: "1".to_owned(),
    };
    fails(api.delete(&key, &missing).await, &ApiError::NotFound);
    let mut never = object.clone();
    "1".clone_into(&mut never.metadata_mut().resource_version);
    fails(api.replace(never, Part::Main).await, &ApiError::NotFound);

    let first = ok(api.create(object.clone()).await);
    fails(api.create(object.clone()).await, &ApiError::AlreadyExists);
    ok(api.delete(&key, &guard(&first)).await);
    fails(
        api.get(&key, Consistency::Quorum).await,
        &ApiError::NotFound,
    );
    fails(
        api.replace(with(object.clone(), first.clone()), Part::Main)
            .await,
        &ApiError::NotFound,
    );
    let second = ok(api.create(object).await);
    assert_ne!(second.uid, first.uid, "a name that is used again");
}

async fn replaced(api: &impl ApiServer) {
    let mut object = block("replaced", "replaced");
    let first = ok(api.create(object.clone().into()).await);
    object.metadata = first.clone();
    object.spec.records = "0 a".into();
    let second = ok(api.replace(object.clone().into(), Part::Main).await);
    assert_ne!(second.resource_version, first.resource_version);
    assert_eq!(second.uid, first.uid);
    let stale = api.replace(object.clone().into(), Part::Main).await;
    fails(stale, &ApiError::Conflict);
    let mut unguarded = object.clone();
    unguarded.metadata.resource_version.clear();
    refused(api.replace(unguarded.into(), Part::Main).await);
    let key = Object::from(object.clone()).key();
    assert_eq!(get(api, &key).await, with(object, second));
}

async fn other_uid(api: &impl ApiServer) {
    let mut object = block("other-uid", "other-uid");
    object.metadata = ok(api.create(object.clone().into()).await);
    "0 a".clone_into(&mut object.spec.records);
    let mut other = object.clone();
    other.metadata.uid = Uid::new("00000000-0000-4000-9000-0000000000ff");
    fails(
        api.replace(other.clone().into(), Part::Main).await,
        &ApiError::Conflict,
    );
    // No UID is no guard.
    other.metadata.uid = Uid::default();
    let written = ok(api.replace(other.into(), Part::Main).await);
    assert_eq!(written.uid, object.metadata.uid);
}

async fn unchanged(api: &impl ApiServer) {
    let object = block("unchanged", "unchanged");
    let metadata = ok(api.create(object.clone().into()).await);
    let same = with(object, metadata.clone());
    assert_eq!(ok(api.replace(same, Part::Main).await), metadata);
}

async fn deleted(api: &impl ApiServer) {
    let mut object = block("deleted", "deleted");
    let first = ok(api.create(object.clone().into()).await);
    object.metadata = first.clone();
    "0 a".clone_into(&mut object.spec.records);
    let second = ok(api.replace(object.clone().into(), Part::Main).await);
    let key = Object::from(object).key();
    fails(api.delete(&key, &guard(&first)).await, &ApiError::Conflict);
    let other = Preconditions {
        uid: Uid::new("00000000-0000-4000-9000-0000000000ff"),
        resource_version: second.resource_version.clone(),
    };
    fails(api.delete(&key, &other).await, &ApiError::Conflict);
    ok(api.delete(&key, &guard(&second)).await);
    fails(api.delete(&key, &guard(&second)).await, &ApiError::NotFound);
}

async fn status(api: &impl ApiServer) {
    let mut first = pool("status");
    "dropped".clone_into(&mut first.status.approved);
    first.metadata = ok(api.create(first.clone().into()).await);
    let key = Object::from(first.clone()).key();
    let Object::AddressPool(stored) = get(api, &key).await else {
        panic!("another kind")
    };
    assert_eq!(stored.status.approved, "", "a create stores no status");

    // A status write takes nothing else along.
    let mut second = first.clone();
    "approved".clone_into(&mut second.status.approved);
    second.status.capacity = 256;
    second.status.conditions = vec![condition("Approved")];
    second.spec.disabled = false;
    second
        .metadata
        .labels
        .insert("new".to_owned(), "label".to_owned());
    second.metadata.finalizers = vec![FINALIZER.to_owned()];
    let written = ok(api.replace(second.clone().into(), Part::Status).await);
    assert_ne!(written.resource_version, first.metadata.resource_version);
    assert_eq!(written.labels, first.metadata.labels);
    assert_eq!(written.finalizers, first.metadata.finalizers);
    let Object::AddressPool(stored) = get(api, &key).await else {
        panic!("another kind")
    };
    assert_eq!(stored.spec, first.spec);
    assert_eq!(stored.status, second.status);

    // A write of the rest leaves the status.
    let mut third = (*stored).clone();
    third.spec.disabled = false;
    third.status = AddressPoolStatus::default();
    ok(api.replace(third.clone().into(), Part::Main).await);
    let stale = api.replace(third.clone().into(), Part::Status).await;
    fails(stale, &ApiError::Conflict);
    let Object::AddressPool(last) = get(api, &key).await else {
        panic!("another kind")
    };
    assert_eq!((&last.spec, &last.status), (&third.spec, &second.status));
}

async fn no_status(api: &impl ApiServer) {
    let mut object = block("no-status", "no-status");
    object.metadata = ok(api.create(object.clone().into()).await);
    "0 a".clone_into(&mut object.spec.records);
    let answer = api.replace(object.into(), Part::Status).await;
    fails(answer, &ApiError::NotFound);
}

async fn finalizer(api: &impl ApiServer) {
    let mut object = block("finalizer", "finalizer");
    object.metadata.finalizers = vec![FINALIZER.to_owned()];
    let first = ok(api.create(object.clone().into()).await);
    let key = ObjectKey::cluster(Kind::AddressBlock, "finalizer");
    ok(api.delete(&key, &guard(&first)).await);
    let marked = get(api, &key).await.metadata().clone();
    assert!(marked.deletion_timestamp.is_some());
    assert_ne!(marked.resource_version, first.resource_version);
    fails(api.delete(&key, &guard(&first)).await, &ApiError::Conflict);
    // Once more changes nothing.
    ok(api.delete(&key, &guard(&marked)).await);
    assert_eq!(get(api, &key).await.metadata(), &marked);
    // The mark cannot be taken back.
    object.metadata = marked.clone();
    object.metadata.deletion_timestamp = None;
    "0 a".clone_into(&mut object.spec.records);
    let written = ok(api.replace(object.clone().into(), Part::Main).await);
    assert_eq!(written.deletion_timestamp, marked.deletion_timestamp);
    // Without its finalizer it goes.
    object.metadata = written;
    object.metadata.finalizers.clear();
    ok(api.replace(object.into(), Part::Main).await);
    fails(
        api.get(&key, Consistency::Quorum).await,
        &ApiError::NotFound,
    );
}

async fn late_finalizer(api: &impl ApiServer) {
    let mut object = block("late-finalizer", "late-finalizer");
    object.metadata.finalizers = vec![FINALIZER.to_owned()];
    let first = ok(api.create(object.clone().into()).await);
    let key = ObjectKey::cluster(Kind::AddressBlock, "late-finalizer");
    ok(api.delete(&key, &guard(&first)).await);
    object.metadata = get(api, &key).await.metadata().clone();
    object.metadata.finalizers.push("berth.dev/late".to_owned());
    refused(api.replace(object.clone().into(), Part::Main).await);
    object.metadata.finalizers.clear();
    ok(api.replace(object.into(), Part::Main).await);
}

async fn leases(api: &impl ApiServer) {
    let mut object = lease("leases");
    object.metadata = ok(api.create(object.clone().into()).await);
    let key = Object::from(object.clone()).key();
    fails(
        api.create(lease("leases").into()).await,
        &ApiError::AlreadyExists,
    );
    let stale = object.clone();
    "2024-01-01T00:00:02.000000Z".clone_into(&mut object.spec.renew_time);
    object.metadata = ok(api.replace(object.clone().into(), Part::Main).await);
    assert_eq!(get(api, &key).await, object.clone().into());
    fails(
        api.replace(stale.into(), Part::Main).await,
        &ApiError::Conflict,
    );
    ok(api.delete(&key, &guard(&object.metadata)).await);
    // Kubernetes creates a lease that is replaced, unless the replacement names a version.
    let gone = api.replace(object.into(), Part::Main).await;
    assert!(
        matches!(gone, Err(ApiError::NotFound | ApiError::Conflict)),
        "a lease that is gone: {gone:?}"
    );
}

async fn invalid(api: &impl ApiServer) {
    let mut object = pool("invalid");
    object.spec.block_size = Some(0);
    let key = Object::from(object.clone()).key();
    refused(api.create(object.into()).await);
    fails(
        api.get(&key, Consistency::Quorum).await,
        &ApiError::NotFound,
    );
    let upper_case = block("Invalid", "invalid");
    refused(api.create(upper_case.into()).await);
}

async fn too_large(api: &impl ApiServer) {
    let mut object = block("too-large", "too-large");
    object.spec.records = "0 abcdef;".repeat(250_000);
    let key = Object::from(object.clone()).key();
    // Above 1.5 MiB and below what the apiserver itself refuses (3 MiB), etcd's error is a 500.
    let unknown = ApiError::Unavailable(Applied::Unknown);
    fails(api.create(object.into()).await, &unknown);
    fails(
        api.get(&key, Consistency::Quorum).await,
        &ApiError::NotFound,
    );
}
