//! The result of ADD in the form of each version. Berth states no interfaces: those are the main
//! plugin's.

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::CniError;
use super::version::SpecVersion;
use crate::core::exchange::{AllocatedAddress, Allocation, Failure};
use crate::core::objects::Route;

/// What a result says of name resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What an ADD is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The addresses and what belongs to them; its own `dns` is not looked at.
    pub allocation: Allocation,
    /// Name resolution.
    pub dns: Dns,
}

impl From<Allocation> for Answer {
    fn from(allocation: Allocation) -> Self {
        let dns = Dns {
            nameservers: allocation.dns.iter().map(ToString::to_string).collect(),
            ..Dns::default()
        };
        Self { allocation, dns }
    }
}

/// The document for stdout.
///
/// Errors: an allocation without an address, which no version can state.
pub fn document(version: SpecVersion, answer: &Answer) -> Result<String, CniError> {
    let allocation = &answer.allocation;
    if allocation.addresses.is_empty() {
        let message = "the agent answered an ADD without an address";
        return Err(CniError::new(Failure::IO, message));
    }
    let value = if version <= SpecVersion::V0_2_0 {
        by_family(version, answer)
    } else {
        by_list(version, answer)
    };
    Ok(value.to_string())
}

/// Up to 0.2.0: one address per family, with the family's routes.
fn by_family(version: SpecVersion, answer: &Answer) -> Value {
    let allocation = &answer.allocation;
    let mut result = Map::new();
    result.insert("cniVersion".into(), version.as_str().into());
    for (key, v4) in [("ip4", true), ("ip6", false)] {
        let of_family = |net: &IpNet| matches!(net, IpNet::V4(_)) == v4;
        let Some(first) = allocation.addresses.iter().find(|a| of_family(&a.address)) else {
            continue;
        };
        let mut family = Map::new();
        family.insert("ip".into(), first.address.to_string().into());
        insert_gateway(&mut family, first);
        let routes = routes(allocation.routes.iter().filter(|r| of_family(&r.dst)));
        if !routes.is_empty() {
            family.insert("routes".into(), routes.into());
        }
        result.insert(key.into(), family.into());
    }
    result.insert("dns".into(), json!(answer.dns));
    result.into()
}

/// From 0.3.0: a list, until 0.4.0 with the family of each.
fn by_list(version: SpecVersion, answer: &Answer) -> Value {
    let allocation = &answer.allocation;
    let before_1_0 = version < SpecVersion::V1_0_0;
    let ips: Vec<Value> = allocation
        .addresses
        .iter()
        .map(|allocated| {
            let mut ip = Map::new();
            if before_1_0 {
                let family = match allocated.address {
                    IpNet::V4(_) => "4",
                    IpNet::V6(_) => "6",
                };
                ip.insert("version".into(), family.into());
            }
            ip.insert("address".into(), allocated.address.to_string().into());
            insert_gateway(&mut ip, allocated);
            ip.into()
        })
        .collect();
    let mut result = Map::new();
    result.insert("cniVersion".into(), version.as_str().into());
    result.insert("ips".into(), ips.into());
    let routes = routes(allocation.routes.iter());
    if !routes.is_empty() {
        result.insert("routes".into(), routes.into());
    }
    if before_1_0 || answer.dns != Dns::default() {
        result.insert("dns".into(), json!(answer.dns));
    }
    result.into()
}

fn insert_gateway(map: &mut Map<String, Value>, allocated: &AllocatedAddress) {
    if let Some(gateway) = allocated.gateway {
        map.insert("gateway".into(), gateway.to_string().into());
    }
}

fn routes<'r>(routes: impl Iterator<Item = &'r Route>) -> Vec<Value> {
    routes
        .map(|route| match route.gw {
            Some(gw) => json!({"dst": route.dst.to_string(), "gw": gw.to_string()}),
            None => json!({"dst": route.dst.to_string()}),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dual() -> Allocation {
        let address = |address: &str, gateway: Option<&str>| AllocatedAddress {
            address: address.parse().unwrap(),
            gateway: gateway.map(|g| g.parse().unwrap()),
        };
        Allocation {
            pool: "p".into(),
            addresses: vec![
                address("10.0.0.7/24", Some("10.0.0.1")),
                address("fd00::7/64", None),
            ],
            routes: vec![
                Route {
                    dst: "0.0.0.0/0".parse().unwrap(),
                    gw: None,
                    other: crate::core::objects::Fields::new(),
                },
                Route {
                    dst: "fd01::/64".parse().unwrap(),
                    gw: Some("fd00::1".parse().unwrap()),
                    other: crate::core::objects::Fields::new(),
                },
            ],
            dns: vec!["10.0.0.2".parse().unwrap()],
        }
    }

    fn printed(version: SpecVersion, allocation: &Allocation) -> Value {
        serde_json::from_str(&document(version, &allocation.clone().into()).unwrap()).unwrap()
    }

    #[test]
    fn until_0_2_0_there_is_one_address_per_family_with_its_routes() {
        for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
            assert_eq!(
                printed(version, &dual()),
                json!({
                    "cniVersion": version.as_str(),
                    "ip4": {
                        "ip": "10.0.0.7/24", "gateway": "10.0.0.1",
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                    "ip6": {"ip": "fd00::7/64", "routes": [{"dst": "fd01::/64", "gw": "fd00::1"}]},
                    "dns": {"nameservers": ["10.0.0.2"]},
                })
            );
        }
    }

    #[test]
    fn from_0_3_0_to_0_4_0_addresses_state_their_family_and_dns_is_always_there() {
        let mut plain = dual();
        plain.dns.clear();
        for version in [
            SpecVersion::V0_3_0,
            SpecVersion::V0_3_1,
            SpecVersion::V0_4_0,
        ] {
            assert_eq!(
                printed(version, &plain),
                json!({
                    "cniVersion": version.as_str(),
                    "ips": [
                        {"version": "4", "address": "10.0.0.7/24", "gateway": "10.0.0.1"},
                        {"version": "6", "address": "fd00::7/64"},
                    ],
                    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "fd01::/64", "gw": "fd00::1"}],
                    "dns": {},
                })
            );
        }
    }

    #[test]
    fn from_1_0_0_addresses_state_no_family_and_empty_dns_is_left_out() {
        let mut plain = dual();
        plain.routes.clear();
        for version in [SpecVersion::V1_0_0, SpecVersion::V1_1_0] {
            let ips = json!([
                {"address": "10.0.0.7/24", "gateway": "10.0.0.1"},
                {"address": "fd00::7/64"},
            ]);
            plain.dns = dual().dns;
            assert_eq!(
                printed(version, &plain),
                json!({
                    "cniVersion": version.as_str(), "ips": ips,
                    "dns": {"nameservers": ["10.0.0.2"]},
                })
            );
            plain.dns.clear();
            assert_eq!(
                printed(version, &plain),
                json!({"cniVersion": version.as_str(), "ips": ips})
            );
        }
    }

    #[test]
    fn an_allocation_without_an_address_is_an_error_in_every_version() {
        for version in SpecVersion::ALL {
            let error = document(version, &Allocation::default().into()).unwrap_err();
            assert_eq!(error.code, Failure::IO);
        }
    }
}
