//! The configuration of the store `disk`, which is host-local's: `ranges` (a list of range sets),
//! or one range in the short form, `routes`, `resolvConf`, `dataDir`. What host-local refuses is
//! refused here; beyond that, keys of `ipam` that are not known.
//!
//! Unlike everything else in a network configuration, `dataDir` and `resolvConf` are paths. Where a
//! node has an agent, and so configurations that tenants wrote, [`networks`] says which are served.

pub mod networks;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::config::{Config, shown, timeout, unsupported};
use super::error::CniError;
use super::result::Dns;
use super::version::SpecVersion;
use crate::core::disk::ranges::{RangeSet, RangeSpec};
use crate::core::exchange::{Attachment, CheckRequest, DelRequest, GcRequest};
use crate::core::objects::Route;

/// Where host-local keeps its networks, and Berth too.
pub const DATA_DIRECTORY: &str = "/var/lib/cni/networks";

const KEYS: &str = "type, store, timeoutMilliseconds, ranges, subnet, rangeStart, rangeEnd, \
                    gateway, routes, dataDir, resolvConf";
const RANGE_KEYS: &str = "subnet, rangeStart, rangeEnd, gateway";
/// Ranges of one configuration, all sets together, and routes. Each range is compared with each.
const ITEMS_MAX: usize = 256;

/// A question to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskAsk {
    /// The question.
    pub verb: DiskVerb,
    /// The version to answer in.
    pub version: SpecVersion,
    /// The time that it may take, when the configuration states it.
    pub timeout: Option<Duration>,
    /// Where the configuration has its network; absent when a DEL's can never have served an ADD.
    pub place: Option<DiskPlace>,
}

/// Where a configuration has its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlace {
    /// The network's name, which is that of its directory.
    pub network: String,
    /// `dataDir`, where it is stated.
    pub data_directory: Option<PathBuf>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskVerb {
    /// Addresses for an attachment.
    Add(Box<DiskAdd>),
    /// The attachment is being removed.
    Del(DelRequest),
    /// Is it as answered?
    Check(CheckRequest),
    /// These attachments are the ones that are still valid.
    Gc(GcRequest),
    /// Could an ADD be served, from there?
    Status(Box<DiskSection>),
}

/// An ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskAdd {
    /// For which interface.
    pub attachment: Attachment,
    /// `CNI_NETNS`.
    pub netns: String,
    /// `namespace/name` where the caller told it, else empty.
    pub pod: String,
    /// Addresses that the caller asks for.
    pub ips: Vec<IpAddr>,
    /// From where.
    pub section: DiskSection,
}

/// What the `ipam` section says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskSection {
    /// One address of each.
    pub sets: Vec<RangeSet>,
    /// Routes for the result.
    pub routes: Vec<Route>,
    /// The file that the result's DNS is read from.
    pub resolv_conf: Option<PathBuf>,
    /// The time a call may take, when not the default.
    pub timeout: Option<Duration>,
}

impl Config {
    /// Where this network is.
    pub fn place(&self) -> Result<DiskPlace, CniError> {
        let network = self.network()?;
        let data_directory = match self.section()?.and_then(|ipam| ipam.get("dataDir")) {
            None => None,
            Some(Value::String(path)) if path.is_empty() => None,
            Some(value) => Some(path("dataDir", value)?),
        };
        Ok(DiskPlace {
            network,
            data_directory,
        })
    }

    /// The `ipam` section.
    pub fn disk(&self) -> Result<DiskSection, CniError> {
        let none = Map::new();
        let ipam = self.section()?.unwrap_or(&none);
        let mut section = DiskSection::default();
        let mut specs = Vec::new();
        if let Some(sets) = self.pointer("/runtimeConfig/ipRanges") {
            specs.extend(range_sets("runtimeConfig.ipRanges", sets)?);
        }
        if ipam.contains_key("subnet") {
            specs.push(vec![range("ipam", ipam)?]);
        }
        for (key, value) in ipam {
            match key.as_str() {
                "type" | "store" | "subnet" | "dataDir" => {}
                "rangeStart" | "rangeEnd" | "gateway" if ipam.contains_key("subnet") => {}
                "rangeStart" | "rangeEnd" | "gateway" => {
                    let message = format!("\"ipam.{key}\" needs \"ipam.subnet\" beside it");
                    return Err(CniError::configuration(message));
                }
                "ranges" => specs.extend(range_sets("ipam.ranges", value)?),
                "routes" => section.routes = routes(value)?,
                "resolvConf" if value.as_str() == Some("") => {}
                "resolvConf" => section.resolv_conf = Some(path("resolvConf", value)?),
                "timeoutMilliseconds" => section.timeout = Some(timeout(value)?),
                _ => return Err(unsupported(&format!("ipam.{key}"), value, KEYS)),
            }
        }
        let range_count: usize = specs.iter().map(Vec::len).sum();
        if range_count > ITEMS_MAX {
            let message =
                format!("\"ipam.ranges\" has {range_count} ranges; allowed are {ITEMS_MAX}");
            return Err(CniError::configuration(message));
        }
        section.sets = checked_sets(&specs)?;
        let too_many = |v6| section.sets.iter().filter(|set| set.is_v6() == v6).count() > 1;
        let version = self.version.clone().unwrap_or(SpecVersion::NEWEST);
        if version < SpecVersion::V0_3_0 && (too_many(false) || too_many(true)) {
            let message = format!(
                "cniVersion {version} states one address of a family; \"ipam.ranges\" has more \
                 sets of one"
            );
            return Err(CniError::configuration(message));
        }
        Ok(section)
    }
}

fn checked_sets(specs: &[Vec<RangeSpec>]) -> Result<Vec<RangeSet>, CniError> {
    let mut sets: Vec<RangeSet> = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let refuse = |what: String| {
            CniError::configuration(format!("range set {index} of \"ipam.ranges\" {what}"))
        };
        let set = RangeSet::new(spec).map_err(|error| refuse(format!("is unusable: {error}")))?;
        for (at, range) in spec.iter().enumerate() {
            if range.first.is_ipv6() != spec[0].first.is_ipv6() {
                return Err(refuse("has ranges of both families".into()));
            }
            let overlaps = |other: &RangeSpec| {
                range.first.is_ipv6() == other.first.is_ipv6()
                    && range.first <= other.last
                    && other.first <= range.last
            };
            if spec[..at].iter().any(overlaps) {
                return Err(refuse("has ranges that overlap".into()));
            }
        }
        if let Some(other) = sets.iter().find(|other| other.overlaps(&set)) {
            return Err(refuse(format!("({set}) overlaps another ({other})")));
        }
        sets.push(set);
    }
    if sets.is_empty() {
        let message = "\"ipam.ranges\" is missing or empty; the store disk needs at least one \
                       range with a \"subnet\"";
        return Err(CniError::configuration(message));
    }
    Ok(sets)
}

fn range_sets(key: &str, value: &Value) -> Result<Vec<Vec<RangeSpec>>, CniError> {
    let refuse = |value: &Value| {
        let form = "it must be a list of lists of {subnet, rangeStart, rangeEnd, gateway}";
        CniError::configuration(format!("\"{key}\" is {}; {form}", shown(value)))
    };
    let list = |value: &Value| match value {
        Value::Array(items) if items.len() <= ITEMS_MAX => Ok(items.clone()),
        other => Err(refuse(other)),
    };
    list(value)?
        .iter()
        .map(|set| {
            let items = list(set)?;
            if items.is_empty() {
                return Err(refuse(set));
            }
            items
                .iter()
                .map(|item| range(key, item.as_object().ok_or_else(|| refuse(item))?))
                .collect()
        })
        .collect()
}

/// One range with host-local's defaults: all of the subnet but its first address and the broadcast
/// address of IPv4; the gateway is the subnet's second address.
fn range(key: &str, map: &Map<String, Value>) -> Result<RangeSpec, CniError> {
    let refuse = |field: &str, value: &Value, allowed: &str| {
        let message = format!("\"{key}.{field}\" is {}; {allowed}", shown(value));
        CniError::configuration(message)
    };
    if key != "ipam" {
        let known = |field: &str| RANGE_KEYS.split(", ").any(|k| k == field);
        if let Some((field, value)) = map.iter().find(|(field, _)| !known(field)) {
            return Err(unsupported(&format!("{key}.{field}"), value, RANGE_KEYS));
        }
    }
    let given = map.get("subnet").unwrap_or(&Value::Null);
    let Some(subnet) = given.as_str().and_then(|text| text.parse::<IpNet>().ok()) else {
        let allowed = "it must be a prefix, as 10.1.0.0/16";
        return Err(refuse("subnet", given, allowed));
    };
    if subnet.addr() != subnet.network() {
        let allowed = format!("it has host bits set; the network is {}", subnet.trunc());
        return Err(refuse("subnet", given, &allowed));
    }
    if subnet.prefix_len() > subnet.max_prefix_len() - 2 {
        let allowed = "it is too small: allowed are prefixes up to /30 and /126";
        return Err(refuse("subnet", given, allowed));
    }
    let address = |field: &str| match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str().map(str::parse::<IpAddr>) {
            Some(Ok(ip)) if ip.is_ipv6() == subnet.addr().is_ipv6() => Ok(Some(ip)),
            _ if value.as_str() == Some("") => Ok(None),
            _ => {
                let allowed = "it must be an address of the subnet's family";
                Err(refuse(field, value, allowed))
            }
        },
    };
    let inside = |field: &str, ip: IpAddr, from: IpAddr| {
        let value = Value::from(ip.to_string());
        let allowed = format!(
            "allowed are addresses from {from} to {}",
            subnet.broadcast()
        );
        if subnet.contains(&ip) && ip >= from {
            Ok(ip)
        } else {
            Err(refuse(field, &value, &allowed))
        }
    };
    let second = step(subnet.network(), 1);
    let first = match address("rangeStart")? {
        Some(ip) => inside("rangeStart", ip, subnet.network())?,
        None => second,
    };
    let last = match (address("rangeEnd")?, subnet) {
        (Some(ip), _) => inside("rangeEnd", ip, first)?,
        (None, IpNet::V4(v4)) => IpAddr::V4((u32::from(v4.broadcast()) - 1).into()),
        (None, IpNet::V6(v6)) => IpAddr::V6(v6.broadcast()),
    };
    if last < first {
        let value = Value::from(first.to_string());
        return Err(refuse("rangeStart", &value, "the range ends before it"));
    }
    Ok(RangeSpec {
        subnet,
        first,
        last,
        gateway: address("gateway")?.unwrap_or(second),
    })
}

fn step(ip: IpAddr, by: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).saturating_add(by.into())).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).saturating_add(by.into())).into(),
    }
}

fn routes(value: &Value) -> Result<Vec<Route>, CniError> {
    let refuse = |value: &Value| {
        let form = "it must be a list of {dst, gw}, dst a prefix and gw an address";
        CniError::configuration(format!("\"ipam.routes\" is {}; {form}", shown(value)))
    };
    let items = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) if items.len() <= ITEMS_MAX => items,
        other => return Err(refuse(other)),
    };
    let route = |item: &Value| {
        let map = item.as_object().ok_or_else(|| refuse(item))?;
        if let Some((key, value)) = map.iter().find(|(key, _)| *key != "dst" && *key != "gw") {
            return Err(unsupported(&format!("ipam.routes.{key}"), value, "dst, gw"));
        }
        serde_json::from_value::<Route>(item.clone()).map_err(|_| refuse(item))
    };
    items.iter().map(route).collect()
}

/// An absolute path without detours.
fn path(key: &str, value: &Value) -> Result<PathBuf, CniError> {
    let plain = |text: &str| {
        text.starts_with('/')
            && text.len() < 1024
            && !text.contains(char::is_control)
            && !text.split('/').any(|part| part == "." || part == "..")
    };
    match value.as_str() {
        Some(text) if plain(text) => Ok(PathBuf::from(text)),
        _ => Err(CniError::configuration(format!(
            "\"ipam.{key}\" is {}; it must be an absolute path without \".\" and \"..\"",
            shown(value)
        ))),
    }
}

/// What a `resolv.conf` says, in host-local's reading.
pub fn resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => dns.nameservers.extend(words.next()),
            Some("domain") => dns.domain = words.next().unwrap_or(dns.domain),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests;
