//! spiderpool-controller, one replica: its lease, and the one status write of each pool after its
//! creation. What it reclaims is in [`super::gc`].
//!
//! Not modeled: its move to another machine when its own does not come back; webhooks (no status
//! write calls one), SpiderSubnets and automatic pools, which the benchmark's report does not
//! mention.
//! Source: spiderpool v0.8.0 `cmd/spiderpool-controller/cmd/config.go:79-82`,
//! `pkg/ippoolmanager/ippool_informer.go:311-337`; client-go v0.28.1
//! `tools/leaderelection/leaderelection.go`.

use std::rc::Rc;
use std::time::Duration;

use drydock_engine::time::SimInstant;

use crate::objects::ResourceVersion;
use crate::process::Port;
use crate::request::{Answer, Consistency, Custom, CustomKind, Part, Request, Shape};

use super::gc::Reclaim;
use super::informer::follow;
use super::memory::Informer;
use super::pools::PoolId;
use super::process::{Bucket, Life};

const LEASES: CustomKind = CustomKind {
    resource: "leases",
    shape: Shape::Flat,
};
const LEASE_NAME: &str = "kube-system/spiderpool-controller-leases";
/// Pause before a failed write of a pool's status is tried again (`config.go:102`).
const STATUS_RETRY: Duration = Duration::from_secs(5);

/// The lease as a controller that stands for election sees it.
struct Candidate {
    identity: Rc<str>,
    /// The version seen last, and since when.
    seen: Option<(ResourceVersion, SimInstant)>,
}

/// The controller: before its caches are filled it does not stand for election, so no scan starts.
pub(super) async fn run(port: Port, life: Rc<Life>, reclaim: Rc<Reclaim>) {
    for informer in Informer::ALL {
        port.spawn(follow(&life, informer));
    }
    for informer in Informer::ALL {
        life.followed(informer).synced(&port).await;
    }
    life.serve();
    let parameters = &life.env.parameters;
    let mut candidate = Candidate {
        identity: format!("controller-{}", life.number).into(),
        seen: None,
    };
    let mut renewed = SimInstant::ZERO;
    loop {
        if candidate.hold_lease(&port, &life).await {
            renewed = port.now();
            if !reclaim.leads() {
                reclaim.start(&port);
                write_statuses(&port, &life);
            }
        }
        let silent = port.now().saturating_since(renewed);
        if reclaim.leads() && silent > parameters.lease_renew {
            reclaim.stop(&port);
        }
        port.sleep(parameters.lease_retry).await;
    }
}

impl Candidate {
    /// Takes or renews the lease, unless another has it; whether that worked.
    async fn hold_lease(&mut self, port: &Port, life: &Life) -> bool {
        let read = Request::Get {
            kind: LEASES,
            name: LEASE_NAME.into(),
            consistency: Consistency::Quorum,
        };
        let request = match life.ask(port, Bucket::Lease, read).await {
            Err(error) if error.is_not_found() => {
                Request::Create(Rc::new(self.lease(port.now(), 0, 0)))
            }
            Ok(Answer::Custom(held)) => {
                let over = self.silence(&held, port.now()) > life.env.parameters.lease;
                if held.body != self.identity && !over {
                    return false;
                }
                let mine = self.lease(port.now(), held.uid, held.resource_version);
                Request::Replace {
                    object: Rc::new(mine),
                    part: Part::Main,
                }
            }
            _ => return false,
        };
        life.ask(port, Bucket::Lease, request).await.is_ok()
    }

    /// How long a lease has not been renewed, as far as was seen here.
    fn silence(&mut self, held: &Custom, now: SimInstant) -> Duration {
        let version = held.resource_version;
        let seen = self.seen.filter(|(known, _)| *known == version);
        let (_, since) = *self.seen.insert(seen.unwrap_or((version, now)));
        debug_assert!(since <= now, "what was seen was seen before");
        now.saturating_since(since)
    }

    fn lease(&self, now: SimInstant, uid: u32, resource_version: ResourceVersion) -> Custom {
        Custom {
            kind: LEASES,
            name: LEASE_NAME.into(),
            uid,
            resource_version,
            labels: vec![("renewed".to_owned(), now.as_nanos().to_string())],
            finalizers: Vec::new(),
            deleting: false,
            annotations: Vec::new(),
            status: None,
            body: self.identity.clone(),
            record_count: 1,
        }
    }
}

fn write_statuses(port: &Port, life: &Rc<Life>) {
    for pool in life.env.catalog.ids() {
        let own = life.clone();
        port.spawn(life.script(None, move |port| write_status(port, own, pool)));
    }
}

/// Writes `totalIPCount` of a pool that has none.
async fn write_status(port: Port, life: Rc<Life>, pool: PoolId) {
    loop {
        let known = life.known.borrow().pools.get(&pool).cloned();
        if let Some(known) = known {
            if !known.labels.is_empty() {
                break;
            }
            let mut object = Custom::clone(&known);
            let total = life.env.catalog.spec(pool).addresses.len();
            let label = ("totalIPCount".to_owned(), total.to_string());
            object.labels.push(label);
            let request = Request::Replace {
                object: Rc::new(object),
                part: Part::Main,
            };
            if life.ask(&port, Bucket::PoolWrite, request).await.is_ok() {
                break;
            }
        }
        port.sleep(STATUS_RETRY).await;
    }
    life.env.counted(pool);
}
