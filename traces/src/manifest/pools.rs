//! AddressPool documents: ranges, masks and routes. What else an AddressPool says is handed on as
//! it stands, because only the allocator knows it.

use std::net::IpAddr;

use super::Failure;
use super::fields::{Context, Fields};
use crate::workload::{AddressPool, AddressRange, FamilyPool, Route};

/// The largest block that the allocator's CRD can state.
const BLOCK_SIZE_MAX: u32 = 65_535;

/// Fields of an AddressPool that only the allocator reads, from [`AddressPool::spec`].
const HANDED_ON: [&str; 9] = [
    "domain",
    "default",
    "disabled",
    "coolDownSeconds",
    "nodeSelector",
    "namespaces",
    "podSelector",
    "networks",
    "dns",
];

/// Reads an AddressPool.
pub(super) fn read(
    context: &mut Context,
    mut fields: Fields<'_>,
    name: String,
) -> Result<AddressPool, Failure> {
    let raw = fields
        .get("spec")
        .map_or(serde_json::Value::Null, |node| node.value.to_json());
    let mut spec = fields.required_map(context, "spec")?;
    let (mut ipv4, mut ipv6) = (None, None);
    for (path, node) in spec.required_list(context, "families")? {
        let family_fields = Fields::of(context, path.clone(), node)?;
        let family = family(context, family_fields)?;
        let is_ipv4 = family.is_ipv4();
        let slot = if is_ipv4 { &mut ipv4 } else { &mut ipv6 };
        if slot.replace(family).is_some() {
            let message = format!(
                "{} stands twice: a pool has at most one entry per family, with a list of ranges",
                family_name(is_ipv4)
            );
            return Err(context.error(path, node.position, message));
        }
    }
    let block_size = spec.number(context, "blockSize", BLOCK_SIZE_MAX)?;
    if block_size == Some(0) {
        let message = format!("0 is not allowed: a whole number from 1 to {BLOCK_SIZE_MAX} is");
        return Err(spec.error_at(context, "blockSize", spec.position, message));
    }
    let routes = routes(context, &mut spec)?;
    for key in HANDED_ON {
        spec.get(key);
    }
    let document = context.document.clone();
    let pool = AddressPool {
        document,
        name,
        ipv4,
        ipv6,
        routes,
        block_size,
        spec: raw,
    };
    if pool.usable_ordinal_count(1) == 0 {
        let message = format!(
            "the pool `{}` has no usable address: exclude and gateway cover all of its ranges",
            pool.name
        );
        return Err(spec.error_at(context, "families", spec.position, message));
    }
    spec.finish(context, &[])?;
    fields.finish(context, &[("status", "ignored: the controllers write it")])?;
    Ok(pool)
}

fn family(context: &mut Context, mut fields: Fields<'_>) -> Result<FamilyPool, Failure> {
    let ranges = ranges(context, &mut fields, "ranges", None)?;
    let Some(first) = ranges.first() else {
        let message = format!(
            "the pool `{}` has no usable address: give at least one CIDR, address or first-last",
            context.name
        );
        return Err(fields.error_at(context, "ranges", fields.position, message));
    };
    let is_ipv4 = first.is_ipv4();
    for (index, range) in ranges.iter().enumerate() {
        if let Some(other) = ranges[..index].iter().find(|other| other.overlaps(range)) {
            let message = format!("{range} overlaps {other} in the pool `{}`", context.name);
            let key = format!("ranges[{index}]");
            return Err(fields.error_at(context, &key, fields.position, message));
        }
    }
    let exclude = self::ranges(context, &mut fields, "exclude", Some(is_ipv4))?;
    let gateway = address(context, &mut fields, "gateway", is_ipv4)?;
    let subnet = match fields.text(context, "subnet")? {
        None => None,
        Some((text, position)) => {
            let network = text.parse::<ipnet::IpNet>().ok();
            let network = network.filter(|network| network.addr().is_ipv4() == is_ipv4);
            let Some(network) = network else {
                let message = format!(
                    "`{text}` is not allowed: an {} CIDR is",
                    family_name(is_ipv4)
                );
                return Err(fields.error_at(context, "subnet", position, message));
            };
            Some(network)
        }
    };
    fields.finish(context, &[])?;
    Ok(FamilyPool {
        ranges,
        exclude,
        gateway,
        subnet,
    })
}

fn routes(context: &mut Context, spec: &mut Fields<'_>) -> Result<Vec<Route>, Failure> {
    let mut routes = Vec::new();
    for (path, node) in spec.list(context, "routes")?.unwrap_or_default() {
        let mut route = Fields::of(context, path, node)?;
        let (text, position) = route.required_text(context, "dst")?;
        let Ok(dst) = text.parse::<ipnet::IpNet>() else {
            let message = format!("`{text}` is not allowed: a CIDR is");
            return Err(route.error_at(context, "dst", position, message));
        };
        let gw = address(context, &mut route, "gw", dst.addr().is_ipv4())?;
        route.finish(context, &[])?;
        routes.push(Route { dst, gw });
    }
    Ok(routes)
}

fn family_name(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

/// Reads a list of ranges of one family: the given one, or else that of its first range.
fn ranges(
    context: &Context,
    fields: &mut Fields<'_>,
    key: &'static str,
    mut ipv4: Option<bool>,
) -> Result<Vec<AddressRange>, Failure> {
    let mut ranges = Vec::new();
    for (path, text, position) in fields.texts(context, key)? {
        let range: AddressRange = text.parse().map_err(|error| {
            let message = format!("in the pool `{}`: {error}", context.name);
            context.error(path.clone(), position, message)
        })?;
        let wanted = *ipv4.get_or_insert(range.is_ipv4());
        if range.is_ipv4() != wanted {
            let message = format!(
                "in the pool `{}`: `{text}` is not allowed in one entry with {} ranges",
                context.name,
                family_name(wanted)
            );
            return Err(context.error(path, position, message));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn address(
    context: &Context,
    fields: &mut Fields<'_>,
    key: &'static str,
    ipv4: bool,
) -> Result<Option<IpAddr>, Failure> {
    let Some((text, position)) = fields.text(context, key)? else {
        return Ok(None);
    };
    let address = text
        .parse::<IpAddr>()
        .ok()
        .filter(|address| address.is_ipv4() == ipv4);
    if address.is_none() {
        let message = format!(
            "`{text}` is not allowed: an {} address is",
            family_name(ipv4)
        );
        return Err(fields.error_at(context, key, position, message));
    }
    Ok(address)
}
