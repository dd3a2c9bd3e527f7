//! Berth's API requests as calls of the simulated apiserver, and their answers back. One request
//! is one call. The simulated apiserver tries a 429 again for every client, as client-go does; the
//! real Berth is told of it at once.

use std::rc::Rc;
use std::time::Duration;

use berth::core::api::{
    ApiError, Applied, Consistency, ListPage, ListQuery, Part, Selection, WatchEvent, WatchQuery,
};
use berth::core::objects::{Kind, Metadata, Object, ObjectKey};
use drydock_engine::{Completer, Post};
use drydock_models::context::Context;
use drydock_models::ids::{NodeIndex, PodUid, WatchId};
use drydock_models::objects::PodSpec;
use drydock_models::request::{
    Answer, ApiError as WorldError, Change, Consistency as WorldConsistency, CustomKind, NewPod,
    Part as WorldPart, ReplyTo, Request, Response, Selector, WatchOwner, WatchTarget,
};

use super::objects::{
    custom_kind, from_custom, from_pod, guard, metadata_of, stored_name, to_custom, uid_number,
};
use super::ports::{Act, Call};
use super::{BerthIpam, Token};

/// A request under way.
pub(super) struct Waiting {
    /// Whose.
    pub process: usize,
    /// What to do with the answer.
    pub done: Done,
    /// What it is answered with, whatever comes.
    pub refused: Option<WorldError>,
}

/// Who waits for which form of answer.
pub(super) enum Done {
    /// An object.
    Object(Completer<Result<Object, ApiError>>),
    /// A page.
    Page(Completer<Result<ListPage, ApiError>>),
    /// Metadata.
    Metadata(Completer<Result<Metadata, ApiError>>),
    /// Nothing but success.
    Nothing(Completer<Result<(), ApiError>>),
}

/// A watch of a process.
pub(super) struct OpenWatch {
    process: usize,
    watch: WatchId,
    target: WatchTarget,
    post: Post<WatchEvent>,
}

impl BerthIpam {
    /// Sends a process's request to the apiserver.
    pub(super) fn request(&mut self, process: usize, call: Call, context: &mut Context<'_>) {
        let (request, done) = match call {
            Call::Get(key, consistency, done) => (get(&key, consistency), Done::Object(done)),
            Call::List(query, done) => (list(&query), Done::Page(done)),
            Call::Create(object, done) => (
                Request::Create(to_custom(object).into()),
                Done::Metadata(done),
            ),
            Call::Replace(object, part, done) => {
                let object = to_custom(object).into();
                let part = match part {
                    Part::Main => WorldPart::Main,
                    Part::Status => WorldPart::Status,
                };
                (Request::Replace { object, part }, Done::Metadata(done))
            }
            Call::Delete(key, preconditions, done) if key.kind == Kind::Pod => {
                let pod = PodUid::from_text(preconditions.uid.as_str())
                    .expect("Berth deletes only Pods that the world showed it");
                (Request::DeletePod { pod, grace: None }, Done::Nothing(done))
            }
            Call::Act(act, done) => {
                if let Some(request) = acted(act, context) {
                    (request, Done::Nothing(done))
                } else {
                    context.api.compact();
                    return drop(done.complete(Ok(())));
                }
            }
            Call::Delete(key, preconditions, done) => {
                let request = Request::Delete {
                    kind: kind_of(key.kind),
                    name: stored_name(&key.namespace, &key.name),
                    uid: guard(preconditions.uid.as_str(), uid_number(&preconditions.uid)),
                    resource_version: guard(
                        &preconditions.resource_version,
                        preconditions.resource_version.parse().ok(),
                    ),
                };
                (request, Done::Nothing(done))
            }
            Call::Watch(query, post) => return self.open_watch(process, &query, post, context),
            other => unreachable!("{other:?} is no request to the apiserver"),
        };
        let slot = self.slot();
        let refused = self.administrator.refuses(&request);
        let request = if refused.is_some() {
            harmless(request)
        } else {
            request
        };
        let waiting = Waiting {
            process,
            done,
            refused,
        };
        self.waiting.insert(slot, waiting);
        let client = self.processes[process]
            .client
            .expect("a live process has a client");
        let token = Token::Api(slot).pack();
        context.call(client, request, ReplyTo::Ipam { token });
    }

    /// The apiserver answered a request, or gave up on it.
    pub(super) fn answered(&mut self, slot: u32, response: Response) {
        let Some(waiting) = self.waiting.remove(&slot) else {
            return;
        };
        let response = match (waiting.refused, response) {
            // It came as far as the apiserver, which looked at it.
            (Some(refused), Ok(_) | Err(WorldError::NotFound)) => Err(refused),
            (_, response) => response,
        };
        let response = response.map_err(api_error);
        // A completion that nobody awaits any more belongs to a process that was killed.
        match waiting.done {
            Done::Object(done) => drop(done.complete(response.map(object))),
            Done::Page(done) => drop(done.complete(response.map(page))),
            Done::Metadata(done) => drop(done.complete(response.map(metadata))),
            Done::Nothing(done) => drop(done.complete(response.map(|_| ()))),
        }
    }

    /// Ends the watches that the apiserver refuses from now on.
    pub(super) fn cut_watches(&mut self, context: &mut Context<'_>) {
        let administrator = &self.administrator;
        self.watches.retain(|_, open| {
            let cut = administrator.refuses_watch(&open.target);
            if cut {
                context.close_watch(open.watch);
                let _ = open.post.send(WatchEvent::Expired);
            }
            !cut
        });
    }

    fn open_watch(
        &mut self,
        process: usize,
        query: &WatchQuery,
        post: Post<WatchEvent>,
        context: &mut Context<'_>,
    ) {
        let slot = self.slot();
        let target = target(&query.selection);
        if self.administrator.refuses_watch(&target) {
            let _ = post.send(WatchEvent::Expired);
            return;
        }
        let client = self.processes[process]
            .client
            .expect("a live process has a client");
        let owner = WatchOwner::Ipam {
            token: Token::Watch(slot).pack(),
        };
        let from = query.resource_version.parse().unwrap_or_default();
        let watch = context.watch(client, target.clone(), from, owner);
        self.watches.insert(
            slot,
            OpenWatch {
                process,
                watch,
                target,
                post,
            },
        );
    }

    /// A watch delivered.
    pub(super) fn delivered(
        &mut self,
        slot: u32,
        watch: WatchId,
        change: &Change,
        context: &mut Context<'_>,
    ) {
        let Some(open) = self.watches.get(&slot) else {
            return;
        };
        let event = match change {
            Change::Pod(pod) => WatchEvent::Modified(from_pod(pod)),
            Change::PodGone(pod) => WatchEvent::Deleted(from_pod(pod)),
            Change::Custom(custom) => WatchEvent::Modified(from_custom(custom)),
            Change::CustomGone(custom) => WatchEvent::Deleted(from_custom(custom)),
            Change::Bookmark(revision) => WatchEvent::Bookmark(revision.to_string()),
            Change::Closed(WorldError::Gone) => WatchEvent::Expired,
            Change::Closed(_) => WatchEvent::Closed,
        };
        let closed = matches!(change, Change::Closed(_));
        if open.post.send(event).is_err() {
            context.close_watch(watch);
            self.watches.remove(&slot);
        } else if closed {
            self.watches.remove(&slot);
        }
    }

    /// A process died: its watches are closed.
    pub(super) fn close_watches(&mut self, process: usize, context: &mut Context<'_>) {
        self.watches.retain(|_, open| {
            if open.process == process {
                context.close_watch(open.watch);
            }
            open.process != process
        });
    }

    /// The operator states that a machine is off: the annotation that the command line sets.
    pub(super) fn bury(&mut self, node: NodeIndex, context: &mut Context<'_>) {
        let machine_id = context.core.machines[node.index()].machine_id.clone();
        let kind = kind_of(Kind::BerthNode);
        let stored = context
            .api
            .custom(kind, &machine_id)
            .map(|stored| from_custom(stored));
        let mut berth_node = match stored {
            Some(Object::BerthNode(berth_node)) => berth_node,
            // An annotation is set whatever else is wrong with the object.
            Some(_) => {
                let again = context.now() + super::BURY_AGAIN;
                return context.ipam_timer(node, again, Token::Bury(node).pack());
            }
            None => return,
        };
        let annotations = &mut berth_node.metadata.annotations;
        annotations.insert(
            berth::core::objects::ANNOTATION_BURY.to_owned(),
            "true".to_owned(),
        );
        let object = to_custom(Object::BerthNode(berth_node)).into();
        let admin = self.admin.expect("the administrator came first");
        let reply = ReplyTo::Ipam {
            token: Token::Bury(node).pack(),
        };
        context.call(
            admin,
            Request::Replace {
                object,
                part: WorldPart::Main,
            },
            reply,
        );
    }
}

/// What takes as long as a request that the apiserver refuses, and changes nothing.
fn harmless(request: Request) -> Request {
    match request {
        Request::Create(object) | Request::Replace { object, .. } => Request::Get {
            kind: object.kind,
            name: object.name.clone(),
            consistency: WorldConsistency::Quorum,
        },
        other => other,
    }
}

/// `terminationGracePeriodSeconds` where nobody sets it.
const GRACE: Duration = Duration::from_secs(30);

/// The request of a guest's act; `None` for a compaction, which is none.
fn acted(act: Act, context: &Context<'_>) -> Option<Request> {
    let uid_of = |key: &ObjectKey| {
        let mut pods = context.api.pods();
        pods.find(|pod| *pod.namespace == *key.namespace && *pod.name == *key.name)
            .expect("a guest names a Pod that it created")
            .uid
    };
    let request = match act {
        Act::CreatePod(pod) => {
            let texts = |pairs: std::collections::BTreeMap<String, String>| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| (key.into(), value.into()));
                pairs.collect::<Vec<_>>().into()
            };
            let node_name: Option<Rc<str>> =
                (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.as_str().into());
            // What names no node waits for the guest to bind it: no node satisfies the scheduler.
            let nowhere = || ("guest".into(), "binds".into());
            let node_selector = node_name.is_none().then(nowhere);
            Request::CreatePod(Rc::new(NewPod {
                namespace: pod.metadata.namespace.into(),
                name: pod.metadata.name.into(),
                entity: 0,
                labels: texts(pod.metadata.labels),
                annotations: texts(pod.metadata.annotations),
                owner: None,
                spec: Rc::new(PodSpec {
                    host_network: pod.spec.host_network,
                    node_name,
                    node_selector: node_selector.into_iter().collect(),
                    grace: GRACE,
                    pull_always: false,
                    run: None,
                }),
            }))
        }
        Act::BindPod(key, node) => Request::BindPod {
            pod: uid_of(&key),
            node_name: node.into(),
        },
        Act::DeletePod(key) => Request::DeletePod {
            pod: uid_of(&key),
            grace: None,
        },
        Act::RemovePod(key) => Request::DeletePod {
            pod: uid_of(&key),
            grace: Some(Duration::ZERO),
        },
        Act::Compact => return None,
    };
    Some(request)
}

fn kind_of(kind: Kind) -> CustomKind {
    custom_kind(kind).expect("Pods are never written")
}

fn consistency(consistency: Consistency) -> WorldConsistency {
    match consistency {
        Consistency::Quorum => WorldConsistency::Quorum,
        Consistency::Cache => WorldConsistency::Cache,
    }
}

fn get(key: &ObjectKey, how: Consistency) -> Request {
    match custom_kind(key.kind) {
        None => Request::GetPod {
            namespace: key.namespace.as_str().into(),
            name: key.name.as_str().into(),
            consistency: consistency(how),
        },
        Some(kind) => Request::Get {
            kind,
            name: stored_name(&key.namespace, &key.name),
            consistency: consistency(how),
        },
    }
}

fn selectors(selection: &Selection) -> Vec<Selector> {
    let labels = selection.labels.iter();
    labels
        .map(|(key, value)| Selector::Is(key.clone(), value.clone()))
        .collect()
}

fn list(query: &ListQuery) -> Request {
    match custom_kind(query.selection.kind) {
        None => Request::ListPods {
            node_name: query.selection.node_name.as_deref().map(Into::into),
            consistency: consistency(query.consistency),
        },
        Some(kind) => Request::List {
            kind,
            selectors: selectors(&query.selection),
            consistency: consistency(query.consistency),
            limit: query.limit,
            after: (!query.continue_token.is_empty()).then(|| query.continue_token.as_str().into()),
        },
    }
}

fn target(selection: &Selection) -> WatchTarget {
    match custom_kind(selection.kind) {
        None => WatchTarget::Pods {
            node_name: selection.node_name.as_deref().map(Into::into),
        },
        Some(kind) => WatchTarget::Customs {
            kind,
            selectors: selectors(selection),
            name: None,
        },
    }
}

fn api_error(error: WorldError) -> ApiError {
    match error {
        WorldError::NotFound => ApiError::NotFound,
        WorldError::Conflict => ApiError::Conflict,
        WorldError::AlreadyExists => ApiError::AlreadyExists,
        WorldError::Gone => ApiError::Gone,
        WorldError::Invalid => ApiError::Invalid {
            message: "refused by validation".to_owned(),
        },
        WorldError::TooManyRequests { retry_after_s } => ApiError::TooManyRequests {
            retry_after: Some(Duration::from_secs(retry_after_s.into())),
        },
        WorldError::Unavailable { unknown: true } => ApiError::Unavailable(Applied::Unknown),
        WorldError::Unavailable { unknown: false } => ApiError::Unavailable(Applied::Not),
    }
}

fn object(answer: Answer) -> Object {
    match answer {
        Answer::Pod(pod) => from_pod(&pod),
        Answer::Custom(custom) => from_custom(&custom),
        other => unreachable!("a GET is not answered with {other:?}"),
    }
}

fn metadata(answer: Answer) -> Metadata {
    match answer {
        Answer::Custom(custom) => metadata_of(&custom),
        other => unreachable!("a write is not answered with {other:?}"),
    }
}

fn page(answer: Answer) -> ListPage {
    match answer {
        Answer::Pods(pods, revision) => {
            let mut items: Vec<Object> = pods.iter().map(|pod| from_pod(pod)).collect();
            items.sort_by_key(Object::key);
            ListPage {
                items,
                resource_version: revision.to_string(),
                continue_token: String::new(),
            }
        }
        Answer::Customs(customs, revision, next) => ListPage {
            items: customs.iter().map(|custom| from_custom(custom)).collect(),
            resource_version: revision.to_string(),
            continue_token: next.map(|name| name.to_string()).unwrap_or_default(),
        },
        other => unreachable!("a LIST is not answered with {other:?}"),
    }
}
