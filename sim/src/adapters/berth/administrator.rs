//! People around Berth: administrators who damage objects and repair them, a newer release that
//! writes what this one does not know, and tenants with their own Pods. They write to the store
//! directly. The fault plan decides when; what follows is up to Berth.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use berth::core::objects::{
    ANNOTATION_POOL, ANNOTATION_POOLS, AddressPool, AddressPoolSpec, FamilySpec, Kind, Metadata,
};
use drydock_engine::{Stream, Streams};
use drydock_models::context::Context;
use drydock_models::ids::{NodeIndex, PodUid};
use drydock_models::ipam::Trouble;
use drydock_models::objects::PodSpec;
use drydock_models::request::{
    Answer, ApiError, Custom, CustomKind, NewPod, Part, Request, WatchTarget,
};
use serde_json::{Value, json};

use super::objects::{NEVER_COMES, OTHER_NETWORK, SETS_UP, custom_kind, to_custom};
use super::setup::NETWORK;

/// The namespace of every Pod of a storm.
const NAMESPACE: &str = "default";
/// `terminationGracePeriodSeconds` of a tenant's Pod.
const GRACE: Duration = Duration::from_secs(5);
/// How many Pods of another CNI may come at a time.
const FOREIGN_MAX: u64 = 3;

/// First octets of the pools that admit no Pod of a storm.
pub const FENCED: [u8; 2] = [10, 66];

/// Berth's kinds that somebody may damage.
const KINDS: [Kind; 5] = [
    Kind::AddressPool,
    Kind::AddressReservation,
    Kind::AddressBlock,
    Kind::BerthNode,
    Kind::DomainApproval,
];

/// What is under way, by position in the fault plan.
#[derive(Debug, Default)]
pub(super) struct Administrator {
    undo: BTreeMap<u32, Vec<Undo>>,
    refusals: BTreeMap<u32, Refusal>,
}

/// How a trouble ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Undo {
    /// A field of an object gets its earlier value back.
    Restore {
        kind: CustomKind,
        name: Rc<str>,
        field: &'static str,
        before: Option<Value>,
    },
    /// An object is deleted.
    Remove { kind: CustomKind, name: Rc<str> },
    /// A Pod is deleted.
    RemovePod(PodUid),
}

/// What the apiserver refuses of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    kind: CustomKind,
    how: Refused,
}

/// Which requests are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// By a bound or a webhook: 422.
    Writes,
    /// The kind is being established again: 404.
    Lists,
    /// Watches end at once: 410.
    Watches,
}

/// A field and what is put there.
type Damage = (&'static str, Value);

/// What can be wrong with an object of a kind: an address, a type, a newer schema.
fn damages(kind: Kind) -> Vec<Damage> {
    let schema = ("schema", json!(99));
    match kind {
        Kind::AddressPool => vec![
            schema,
            ("dns", json!(["10.0.0.300"])),
            ("blockSize", json!("sixteen")),
            ("nodeSelector", json!([1])),
            ("families", json!([{"ranges": ["10.64.0.0-10.64.0.999"]}])),
            ("families", json!("10.64.0.0/24")),
        ],
        Kind::AddressReservation => vec![
            schema,
            ("address", json!("10.64.0.l0")),
            ("podName", json!(["db-0"])),
            ("pool", json!(7)),
        ],
        Kind::AddressBlock => vec![
            schema,
            ("records", json!(7)),
            ("records", json!("?!")),
            ("size", json!("many")),
            ("first", json!(["10.64.0.x"])),
            ("poolUid", json!({})),
        ],
        Kind::BerthNode => vec![
            schema,
            ("epoch", json!("first")),
            ("bootId", json!(1)),
            ("blocks", json!("all")),
            ("state", json!("Sleeping")),
        ],
        Kind::DomainApproval => vec![schema, ("pools", json!("all")), ("pools", json!([{}, 1]))],
        kind => unreachable!("nobody spoils a {kind:?}"),
    }
}

/// The newer release's field, which means nothing to this one.
const NEW_FIELD: &str = "fromTheNextRelease";

impl Administrator {
    /// Begins a trouble; `draw` decides what the plan leaves open.
    pub(super) fn begin(
        &mut self,
        trouble: Trouble,
        node: NodeIndex,
        fault: u32,
        draw: u64,
        context: &mut Context<'_>,
    ) {
        let mut draws = Streams::new(draw).stream("trouble", 0, "objects");
        let undo = match trouble {
            Trouble::ObjectPoisoned => self.poison(fault, &mut draws, context),
            Trouble::ObjectMistyped => {
                mistype(fault, &mut draws, context);
                Vec::new()
            }
            Trouble::ObjectNewer => self.renew(&mut draws, context),
            Trouble::CrdChanged => {
                let refusal = Refusal {
                    kind: plural(*draws.pick(&KINDS)),
                    how: *draws.pick(&[Refused::Writes, Refused::Lists, Refused::Watches]),
                };
                self.refusals.insert(fault, refusal);
                Vec::new()
            }
            Trouble::TenantAnnotates => annotate(node, fault, &mut draws, context),
            Trouble::ForeignPods => foreign(node, fault, &mut draws, context),
            other => unreachable!("{other:?} is a machine's own"),
        };
        self.undo.insert(fault, undo);
    }

    /// It is over.
    pub(super) fn end(&mut self, fault: u32, context: &mut Context<'_>) {
        self.refusals.remove(&fault);
        for undo in self.undo.remove(&fault).unwrap_or_default() {
            match undo {
                Undo::Restore {
                    kind,
                    name,
                    field,
                    before,
                } => drop(set(kind, &name, field, before, context)),
                Undo::Remove { kind, name } => {
                    let request = Request::Delete {
                        kind,
                        name,
                        uid: None,
                        resource_version: None,
                    };
                    let _ = context.api.install(&request, &mut context.core);
                }
                Undo::RemovePod(pod) => {
                    let name = context.api.pod(pod).and_then(|pod| pod.node_name.clone());
                    let machines = context.core.machines.iter();
                    let stands = machines
                        .filter(|machine| machine.up)
                        .any(|machine| name.as_deref() == Some(&*machine.node_name));
                    // On a machine that is off, only force ends the Pod.
                    let grace = (!stands).then_some(Duration::ZERO);
                    let request = Request::DeletePod { pod, grace };
                    let _ = context.api.install(&request, &mut context.core);
                }
            }
        }
    }

    /// Whether the kind's watches end at once.
    pub(super) fn refuses_watch(&self, target: &WatchTarget) -> bool {
        let WatchTarget::Customs { kind, .. } = target else {
            return false;
        };
        let mut refusals = self.refusals.values();
        refusals.any(|refusal| refusal.kind == *kind && refusal.how == Refused::Watches)
    }

    /// The error that answers a request instead of carrying it out.
    pub(super) fn refuses(&self, request: &Request) -> Option<ApiError> {
        let (kind, how, answer) = match request {
            Request::Create(object) | Request::Replace { object, .. } => {
                (object.kind, Refused::Writes, ApiError::Invalid)
            }
            Request::List { kind, .. } => (*kind, Refused::Lists, ApiError::NotFound),
            _ => return None,
        };
        let mut refusals = self.refusals.values();
        let hit = refusals.any(|refusal| (refusal.kind, refusal.how) == (kind, how));
        hit.then_some(answer)
    }

    fn is_spoilt(&self, kind: CustomKind, name: &str) -> bool {
        self.undo.values().flatten().any(|undo| {
            matches!(undo, Undo::Restore { kind: of, name: at, .. }
                if *of == kind && **at == *name)
        })
    }

    /// Undamaged stored objects of a kind.
    fn sound(&self, kind: CustomKind, context: &Context<'_>) -> Vec<Rc<Custom>> {
        let mut sound = context.api.customs(kind);
        sound.retain(|object| !object.deleting && !self.is_spoilt(kind, &object.name));
        sound
    }

    /// One field of an existing object is damaged, or a new object comes that was never valid.
    fn poison(&mut self, fault: u32, draws: &mut Stream, context: &mut Context<'_>) -> Vec<Undo> {
        let drawn = *draws.pick(&KINDS);
        let kind = plural(drawn);
        let found = self.sound(kind, context);
        let (field, value) = draws.pick(&damages(drawn)).clone();
        if found.is_empty() || draws.chance(1, 4) {
            let made = made(drawn, fault, field, &value, true);
            let name = made.name.clone();
            let created = context
                .api
                .install(&Request::Create(made.into()), &mut context.core);
            return created
                .map(|_| vec![Undo::Remove { kind, name }])
                .unwrap_or_default();
        }
        let name = draws.pick(&found).name.clone();
        let done = set(kind, &name, field, Some(value), context);
        let restore = |before| Undo::Restore {
            kind,
            name,
            field,
            before,
        };
        done.map(|before| vec![restore(before)]).unwrap_or_default()
    }

    /// A newer release has written all objects of a kind, or one in its own schema.
    fn renew(&mut self, draws: &mut Stream, context: &mut Context<'_>) -> Vec<Undo> {
        let mut kinds = KINDS.to_vec();
        draws.shuffle(&mut kinds);
        let found = kinds.into_iter().map(|kind| {
            let kind = plural(kind);
            (kind, self.sound(kind, context))
        });
        let Some((kind, mut found)) = found.into_iter().find(|(_, found)| !found.is_empty()) else {
            return Vec::new();
        };
        let (field, value) = if draws.chance(1, 2) {
            draws.shuffle(&mut found);
            found.truncate(1);
            ("schema", json!(7))
        } else {
            (NEW_FIELD, json!({"mode": "strict", "weight": 3}))
        };
        let mut undo = Vec::new();
        for object in found {
            let name = object.name.clone();
            if let Ok(before) = set(kind, &name, field, Some(value.clone()), context) {
                undo.push(Undo::Restore {
                    kind,
                    name,
                    field,
                    before,
                });
            }
        }
        undo
    }
}

fn plural(kind: Kind) -> CustomKind {
    custom_kind(kind).expect("nobody spoils a Pod")
}

/// Sets a field of an object's spec, or removes it. Returns what it was.
/// Errors: there is no such object.
fn set(
    kind: CustomKind,
    name: &str,
    field: &str,
    value: Option<Value>,
    context: &mut Context<'_>,
) -> Result<Option<Value>, ApiError> {
    let stored = context.api.custom(kind, name).ok_or(ApiError::NotFound)?;
    let mut object = Custom::clone(stored);
    let mut body: Value = serde_json::from_str(&object.body).map_err(|_| ApiError::Invalid)?;
    let spec = body["spec"].as_object_mut().ok_or(ApiError::Invalid)?;
    let before = match value {
        Some(value) => spec.insert(field.to_owned(), value),
        None => spec.remove(field),
    };
    object.body = body.to_string().into();
    let request = Request::Replace {
        object: object.into(),
        part: Part::Main,
    };
    context.api.install(&request, &mut context.core)?;
    Ok(before)
}

/// An object that was never valid. One `of_ours` names the pool in use; others hold nothing that
/// anybody needs.
fn made(kind: Kind, fault: u32, field: &str, value: &Value, of_ours: bool) -> Custom {
    let pool = if of_ours { "pool" } else { "elsewhere" };
    let mut spec = match kind {
        Kind::AddressPool => json!({"families": [{"ranges": ["10.65.0.0-10.65.0.9"]}]}),
        Kind::AddressReservation => json!({
            "pool": pool, "address": "10.64.0.0", "podNamespace": NAMESPACE, "podName": "db-0"
        }),
        _ => json!({}),
    };
    spec[field] = value.clone();
    let name = match kind {
        Kind::AddressBlock => format!("elsewhere-{}", 900 + fault),
        _ => format!("typo-{fault}"),
    };
    let body = json!({"metadata": {"name": name}, "spec": spec});
    let status = (kind == Kind::AddressPool).then(|| "{}".into());
    Custom {
        kind: plural(kind),
        name: name.into(),
        uid: 0,
        resource_version: 0,
        labels: Vec::new(),
        annotations: Vec::new(),
        finalizers: Vec::new(),
        deleting: false,
        body: body.to_string().into(),
        status,
        record_count: 0,
    }
}

fn mistype(fault: u32, draws: &mut Stream, context: &mut Context<'_>) {
    let kind = *draws.pick(&KINDS);
    let (field, value) = draws.pick(&damages(kind)).clone();
    // Without its pool nobody can say which address it keeps; the other kind covers that.
    if (kind, field) == (Kind::AddressReservation, "pool") {
        return mistype(fault, draws, context);
    }
    let made = made(kind, fault, field, &value, false);
    let request = Request::Create(made.into());
    let _ = context.api.install(&request, &mut context.core);
}

/// A pool that admits no Pod of a storm.
fn fenced(fault: u32, draws: &mut Stream) -> AddressPool {
    let first = format!("{}.{}.{}", FENCED[0], FENCED[1], fault % 256);
    let mut spec = AddressPoolSpec {
        families: vec![FamilySpec {
            ranges: vec![format!("{first}.0-{first}.15")],
            ..FamilySpec::default()
        }],
        ..AddressPoolSpec::default()
    };
    match draws.below(4) {
        0 => spec.namespaces = vec!["payments".to_owned()],
        1 => spec.disabled = true,
        2 => spec.networks = vec!["storage".to_owned()],
        _ => spec.pod_selector = [("team".to_owned(), "payments".to_owned())].into(),
    }
    AddressPool {
        metadata: Metadata {
            name: format!("fenced-{fault}"),
            ..Metadata::default()
        },
        spec,
        ..AddressPool::default()
    }
}

fn annotate(
    node: NodeIndex,
    fault: u32,
    draws: &mut Stream,
    context: &mut Context<'_>,
) -> Vec<Undo> {
    let pool = fenced(fault, draws);
    let name = pool.metadata.name.clone();
    let object = to_custom(pool.into());
    let _ = context
        .api
        .install(&Request::Create(object.into()), &mut context.core);
    let (key, value) = match draws.below(8) {
        0..=2 => (ANNOTATION_POOL, name),
        3..=4 => (ANNOTATION_POOLS, json!({NETWORK: name}).to_string()),
        5 => (ANNOTATION_POOLS, format!("{{\"{NETWORK}\": [")),
        6 => (ANNOTATION_POOL, "no/such pool".to_owned()),
        _ => (ANNOTATION_POOLS, json!({NETWORK: 7}).to_string()),
    };
    let pod = create(
        &format!("tenant-{fault}"),
        node,
        false,
        (key, &value),
        context,
    );
    pod.map(Undo::RemovePod).into_iter().collect()
}

fn foreign(
    node: NodeIndex,
    fault: u32,
    draws: &mut Stream,
    context: &mut Context<'_>,
) -> Vec<Undo> {
    let mut undo = Vec::new();
    for number in 0..draws.between(1..=FOREIGN_MAX) {
        let how = *draws.pick(&[SETS_UP, NEVER_COMES]);
        let name = format!("foreign-{fault}-{number}");
        let pod = create(&name, node, true, (OTHER_NETWORK, how), context);
        undo.extend(pod.map(Undo::RemovePod));
    }
    undo
}

/// Creates a Pod that is bound to a machine's node from the start.
fn create(
    name: &str,
    node: NodeIndex,
    host_network: bool,
    (key, value): (&str, &str),
    context: &mut Context<'_>,
) -> Option<PodUid> {
    let node_name = context.core.machines[node.index()].node_name.clone();
    let pod = NewPod {
        namespace: NAMESPACE.into(),
        name: name.into(),
        entity: NewPod::entity(NAMESPACE, name, 0),
        labels: Rc::new([]),
        annotations: Rc::new([(key.into(), value.into())]),
        owner: None,
        spec: Rc::new(PodSpec {
            host_network,
            node_name: Some(node_name),
            node_selector: Vec::new(),
            grace: GRACE,
            pull_always: false,
            run: None,
        }),
    };
    match context
        .api
        .install(&Request::CreatePod(pod.into()), &mut context.core)
    {
        Ok(Answer::Pod(pod)) => Some(pod.uid),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use berth::core::objects::Object;
    use berth::core::pool::Pool;

    use super::*;
    use crate::adapters::berth::objects::from_custom;

    /// Whether Berth can use an object: a pool's texts and a block's records are read later.
    fn is_sound(custom: &Custom) -> bool {
        match from_custom(custom) {
            Object::SetAside(_) => false,
            Object::AddressPool(pool) => Pool::parse(&pool, None).is_ok(),
            Object::AddressBlock(block) => {
                let mut records = berth::core::holder::decode_records(&block.spec.records);
                block.spec.schema <= berth::core::block::SCHEMA && records.all(|read| read.is_ok())
            }
            _ => true,
        }
    }

    #[test]
    fn every_damage_is_one() {
        for kind in KINDS {
            for (field, value) in damages(kind) {
                let spoilt = made(kind, 3, field, &value, true);
                assert!(!is_sound(&spoilt), "{kind:?} {field} {value}");
            }
        }
    }

    #[test]
    fn a_field_of_a_newer_release_is_no_damage() {
        for kind in KINDS {
            let newer = made(kind, 3, NEW_FIELD, &json!({"mode": "strict"}), true);
            assert!(is_sound(&newer), "{kind:?}");
        }
    }

    #[test]
    fn a_fenced_pool_is_a_pool() {
        for draw in 0..20 {
            let mut draws = Streams::new(draw).stream("trouble", 0, "objects");
            assert!(Pool::parse(&fenced(7, &mut draws), None).is_ok());
        }
    }
}
