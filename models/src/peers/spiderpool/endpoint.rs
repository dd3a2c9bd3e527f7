//! The SpiderEndpoint: which addresses a Pod has. One object per Pod, under its name.

use std::rc::Rc;

use crate::ids::PodUid;
use crate::request::{Custom, CustomKind, Shape};

use super::pools::PoolId;

/// SpiderEndpoint.
pub(super) const ENDPOINTS: CustomKind = CustomKind {
    resource: "spiderendpoints",
    shape: Shape::Flat,
};

/// What an endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) pod: PodUid,
    /// A StatefulSet's: it has no owner reference and outlives its Pod.
    pub(super) fixed: bool,
    /// Pool and position in it, one per family.
    pub(super) addresses: Vec<(PoolId, u32)>,
}

impl Endpoint {
    pub(super) fn decode(object: &Custom) -> Endpoint {
        let read = |part: &str| u32::from_str_radix(part, 16).expect("its own text is hexadecimal");
        let mut parts = object.body.split(';');
        let mut next = || parts.next().expect("its own text has three parts");
        let (pod, fixed, addresses) = (read(next()), read(next()) == 1, next());
        let address = |part: &str| {
            let (pool, position) = part.split_once(':').expect("an address has two parts");
            (PoolId(read(pool)), read(position))
        };
        Endpoint {
            pod: PodUid(pod),
            fixed,
            addresses: addresses.split_terminator(',').map(address).collect(),
        }
    }

    fn body(&self) -> Rc<str> {
        use std::fmt::Write as _;
        let mut text = format!("{:x};{};", self.pod.0, u8::from(self.fixed));
        for (pool, position) in &self.addresses {
            write!(text, "{:x}:{position:x},", pool.0).expect("a string takes any text");
        }
        text.into()
    }

    /// As it is created.
    pub(super) fn object(&self, name: Rc<str>) -> Custom {
        Custom {
            kind: ENDPOINTS,
            name,
            uid: 0,
            resource_version: 0,
            labels: Vec::new(),
            finalizers: vec!["spiderpool.spidernet.io".to_owned()],
            deleting: false,
            annotations: Vec::new(),
            status: None,
            body: self.body(),
            record_count: 1,
        }
    }

    /// The stored object with other contents.
    pub(super) fn replacing(&self, stored: &Custom) -> Custom {
        Custom {
            body: self.body(),
            ..stored.clone()
        }
    }
}

/// Name of a Pod's endpoint in the store.
pub(super) fn endpoint_name(namespace: &str, pod_name: &str) -> Rc<str> {
    format!("{namespace}/{pod_name}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_survives_its_text() {
        for addresses in [vec![], vec![(PoolId(0), 17), (PoolId(300), 999)]] {
            let endpoint = Endpoint {
                pod: PodUid(77),
                fixed: true,
                addresses,
            };
            assert_eq!(Endpoint::decode(&endpoint.object("a/b".into())), endpoint);
        }
    }
}
