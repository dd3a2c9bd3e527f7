//! What the schema of a pool asks for. The truth is [`Pool::parse`] and [`Pool::check`] of the
//! core: a test holds that whatever passes here passes there. What a schema cannot see is in
//! [`UNSEEN`], and left to the controller, which refuses the approval.
//!
//! Every rule stands at the narrowest field that it looks at, because an apiserver asks it only
//! when something below that field changed: a pool from before a rule can be disabled, emptied and
//! deleted without being mended first.
//!
//! [`Pool::parse`]: crate::core::pool::Pool::parse
//! [`Pool::check`]: crate::core::pool::Pool::check

use serde_json::json;

use super::addresses::{first, is_inside, is_ordered, is_range, last, v6};
use super::tables::{
    LABEL, PREFIX_MAX, SUBDOMAIN, Table, address, all, conditions, count, list, must_have, rule,
    rule_at, shaped, table, text, whole,
};
use crate::core::pool::{BLOCK_SIZES, POOL_NAME_MAX};

/// What the code refuses and the schema cannot: the words of the refusal, and why.
pub const UNSEEN: &[(&str, &str)] = &[(
    "ranges of the pool overlap",
    "all of 256 ranges against one another cost more than an apiserver lets a schema cost, and one \
     around another is reckoned in no rule; what the first sixteen have in a prefix is seen",
)];

/// Units: characters. `first-last`.
const RANGE_MAX: u32 = 91;
const RANGES_MAX: u32 = 256;

/// The value of a label.
const LABEL_VALUE: &str = "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$";
/// The name of a CNI network.
const NETWORK: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]*$";

pub(super) fn rows() -> Table {
    let mut rows = table([
        (
            "",
            all([
                json!({"required": ["spec"]}),
                // The name never changes: asked when the object is made, and never again.
                json!({"x-kubernetes-validations": [{
                    "rule": format!(
                        "oldSelf.hasValue() || self.metadata.name.size() <= {POOL_NAME_MAX}"
                    ),
                    "optionalOldSelf": true,
                    "message": format!("metadata.name has at most {POOL_NAME_MAX} characters: it \
                                        labels the pool's blocks"),
                }]}),
            ]),
        ),
        ("spec", block_size_is_fixed()),
        ("spec.schema", whole(0, super::SCHEMA.into())),
        (
            "spec.blockSize",
            whole((*BLOCK_SIZES.start()).into(), (*BLOCK_SIZES.end()).into()),
        ),
        ("spec.domain", shaped(253, &format!("^$|{SUBDOMAIN}"))),
        (
            "spec.coolDownSeconds",
            all([whole(0, 86_400), json!({"default": 0})]),
        ),
        ("spec.default", json!({"default": false})),
        ("spec.disabled", json!({"default": false})),
        ("spec.namespaces", list(1024)),
        ("spec.namespaces[]", shaped(63, LABEL)),
        ("spec.networks", list(64)),
        ("spec.networks[]", shaped(253, NETWORK)),
        ("spec.routes", list(64)),
        ("spec.routes[]", route()),
        (
            "spec.routes[].dst",
            all([
                text(PREFIX_MAX),
                rule("isCIDR(self)", "a prefix, 10.0.0.0/8 for instance"),
            ]),
        ),
        ("spec.routes[].gw", address()),
        ("spec.dns", list(8)),
        ("spec.dns[]", address()),
        ("status.approved", text(64)),
        ("status.capacity", count()),
        ("status.held", count()),
        ("status.free", count()),
        ("status.masked", text(64)),
    ]);
    for labels in [
        "spec.nodeSelector",
        "spec.podSelector",
        "spec.namespaceSelector.matchLabels",
    ] {
        rows.extend(selector(labels));
    }
    for expressions in [
        "spec.nodeMatchExpressions",
        "spec.podMatchExpressions",
        "spec.namespaceSelector.matchExpressions",
    ] {
        rows.extend(requirements(expressions));
    }
    rows.extend(families());
    rows.extend(conditions("status.conditions"));
    rows
}

fn block_size_is_fixed() -> serde_json::Value {
    all([
        json!({"required": ["families"]}),
        rule(
            "has(self.blockSize) == has(oldSelf.blockSize) && \
             (!has(self.blockSize) || self.blockSize == oldSelf.blockSize)",
            "blockSize is immutable",
        ),
    ])
}

/// Labels that something must carry. The keys have no stated length, so an apiserver lets nothing
/// be asked of them that reads them as a whole.
fn selector(path: &str) -> Table {
    let keys = "self.all(key, key.size() > 0 && key.size() <= 317 && !key.contains(' ') && \
                !key.startsWith('/') && !key.endsWith('/'))";
    vec![
        (
            path.to_owned(),
            all([
                json!({"maxProperties": 64}),
                rule(
                    keys,
                    "the key of a label: a name, or a domain, a slash and a name",
                ),
            ]),
        ),
        (format!("{path}{{}}"), shaped(63, LABEL_VALUE)),
    ]
}

/// Requirements on labels, as `matchExpressions` of Kubernetes has them.
fn requirements(path: &str) -> Table {
    let at = |field: &str| format!("{path}[]{field}");
    vec![
        (path.to_owned(), list(16)),
        (
            at(""),
            all([
                must_have("key"),
                must_have("operator"),
                rule_at(
                    ".values",
                    "!has(self.operator) || (self.operator in ['In', 'NotIn']) == \
                     (has(self.values) && self.values.size() > 0)",
                    "In and NotIn need values, Exists and DoesNotExist take none",
                ),
            ]),
        ),
        (at(".key"), all([text(317), json!({"minLength": 1})])),
        (at(".values"), list(64)),
        (at(".values[]"), shaped(63, LABEL_VALUE)),
    ]
}

fn route() -> serde_json::Value {
    all([
        must_have("dst"),
        rule_at(
            ".gw",
            &format!(
                "!has(self.dst) || !has(self.gw) || {} == {}",
                v6("self.dst"),
                v6("self.gw")
            ),
            "of the family of its destination",
        ),
    ])
}

fn families() -> Table {
    let range = || {
        all([
            json!({"maxLength": RANGE_MAX, "pattern": "^[0-9A-Fa-f.:/-]+$"}),
            rule(
                &is_range("self"),
                "a prefix (10.0.0.0/24), a range (10.0.0.1-10.0.0.9) or one address (10.0.0.1)",
            ),
            rule(&is_ordered("self"), "a range begins with its lower address"),
        ])
    };
    // No comma is in a range: an old list must be what the new one begins with, and none of the
    // supported versions slices a list.
    let grown = |index: usize| {
        let ranges = format!("[{index}].ranges");
        format!(
            "(oldSelf{ranges}.size() == 0 || (self{ranges}.join(',') + \",\").startsWith(\
             oldSelf{ranges}.join(',') + \",\"))"
        )
    };
    let family_of = |index: usize| v6(&format!("self[{index}].ranges[0]"));
    let families = all([
        json!({"minItems": 1, "maxItems": 2}),
        rule(
            "self.size() == oldSelf.size()",
            "the set of families is immutable",
        ),
        rule(
            &format!(
                "self.size() != oldSelf.size() || ({} && (self.size() < 2 || {}))",
                grown(0),
                grown(1)
            ),
            "ranges are only added, at the end",
        ),
        rule(
            &format!("self.size() < 2 || {} != {}", family_of(0), family_of(1)),
            "one IPv4 family, one IPv6 family, or one of each",
        ),
    ]);
    table([
        ("spec.families", families),
        ("spec.families[]", family()),
        (
            "spec.families[].ranges",
            all([json!({"minItems": 1}), list(RANGES_MAX), distinct()]),
        ),
        ("spec.families[].ranges[]", range()),
        ("spec.families[].exclude", list(RANGES_MAX)),
        ("spec.families[].exclude[]", range()),
        ("spec.families[].gateway", address()),
        (
            "spec.families[].subnet",
            all([
                text(PREFIX_MAX),
                rule("isCIDR(self)", "a prefix, 10.0.0.0/24 for instance"),
            ]),
        ),
    ])
}

/// No range twice, and among the first sixteen none that begins or ends inside another's prefix.
fn distinct() -> serde_json::Value {
    let few = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]";
    let b = "self[j]";
    let inside = |t: &str| format!("(isIP({t}) && net.containsIP({t}))");
    let begin = format!("{b}.substring(0, {b}.indexOf('/'))");
    let touches = format!(
        "({b}.contains('-') ? {} || {} : {b}.contains('/') ? {} : {})",
        inside(&first(b)),
        inside(&last(b)),
        inside(&begin),
        inside(b)
    );
    all([
        rule(
            "self.all(a, self.exists_one(b, a == b))",
            "ranges of the pool overlap: one is stated twice",
        ),
        rule(
            &format!(
                "{few}.all(i, i >= self.size() || !isCIDR(self[i]) || [cidr(self[i])].all(net, \
                 {few}.all(j, j == i || j >= self.size() || !{touches})))"
            ),
            "ranges of the pool overlap: one is partly inside another's prefix",
        ),
    ])
}

fn family() -> serde_json::Value {
    let kind = v6("self.ranges[0]");
    let same = |field: &str| {
        format!(
            "!has(self.{field}) || {} == {kind}",
            v6(&format!("self.{field}"))
        )
    };
    let subnet = "!has(self.subnet) || !isCIDR(self.subnet)";
    all([
        json!({"required": ["ranges"]}),
        rule_at(
            ".ranges",
            &format!("self.ranges.all(r, {} == {kind})", v6("r")),
            "all of one family: IPv4 or IPv6",
        ),
        rule_at(
            ".exclude",
            &format!(
                "!has(self.exclude) || self.exclude.all(r, {} == {kind})",
                v6("r")
            ),
            "of the family of the ranges",
        ),
        rule_at(".gateway", &same("gateway"), "of the family of the ranges"),
        rule_at(".subnet", &same("subnet"), "of the family of the ranges"),
        rule_at(
            ".subnet",
            &format!(
                "{subnet} || self.ranges.all(r, {})",
                is_inside("self.subnet", "r")
            ),
            "every range is inside the subnet",
        ),
        rule_at(
            ".gateway",
            &format!(
                "{subnet} || !has(self.gateway) || !isIP(self.gateway) || \
                 cidr(self.subnet).containsIP(self.gateway)"
            ),
            "inside the subnet",
        ),
    ])
}
