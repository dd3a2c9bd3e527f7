//! Specs as people and programs write them: valid ones, and valid ones with up to three edits, most
//! of them nearly right. Nothing here knows what is to be refused.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// An edit of one field.
#[derive(Clone, Debug)]
enum Edit {
    Set(Value),
    Remove,
    /// A character put, in place of another or between two.
    Type(usize, char, bool),
    Drop(usize),
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Sort {
    Address,
    Prefix,
    Range,
    Name,
    Number,
    Flag,
    List,
}

const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.254",
    "10.0.1.7",
    "0.0.0.0",
    "255.255.255.255",
    "10.0.0.01",
    "10.0.0.300",
    "10.0.0",
    "10.0.0.",
    "10.0.0.1.2",
    "",
    " 10.0.0.1",
    "10.0.0.1 ",
    "fd00::1",
    "fd00::",
    "::",
    "FD00::A",
    "fd00:0:0:0:0:0:0:1",
    "1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7::",
    "1:2:3:4:5:6:7::8",
    "::2:3:4:5:6:7:8",
    "fd00::1%eth0",
    "::ffff:10.0.0.1",
    "fd00::10.0.0.1",
    "fd00::12345",
    "fd00:::1",
    "localhost",
    "10.0.0.1/24",
    "0x0a.0.0.1",
    "::0001",
];
const NETS: &[&str] = &[
    "10.0.0.0/24",
    "10.0.0.7/24",
    "0.0.0.0/0",
    "10.0.0.0/33",
    "10.0.0.0/",
    "/24",
    "10.0.0.0/-1",
    "10.0.0.0/024",
    "10.0.0.0 /24",
    "10.0.0/24",
    "fd00::/64",
    "fd00::5/120",
    "::/0",
    "fd00::/129",
    "::ffff:10.0.0.0/120",
    "10.0.0.0/24/24",
    "fd00::/7f",
    "10.0.0.0/+8",
    "fd00::1.2.3.4/64",
];
const RANGES: &[&str] = &[
    "10.0.0.9-10.0.0.1",
    "10.0.0.9-10.0.0.10",
    "10.0.0.1-10.0.0.1",
    "10.0.0.1-",
    "-10.0.0.1",
    "10.0.0.1--10.0.0.9",
    "10.0.0.1-10.0.0.5-10.0.0.9",
    "10.0.0.1 - 10.0.0.9",
    "9.255.0.0-10.0.0.0",
    "10.0.0.1-fd00::1",
    "fd00::1-10.0.0.1",
    "fd00::9-fd00::1",
    "fd00::9-fd00::a",
    "fd00::a-fd00::9",
    "fd00::ff-fd00::100",
    "fd00:1::-fd00::",
    "::-::1",
    "fd00::1-fd00::1",
    "fd00::f-FD00::10",
    "fd00::1.2.3.4-fd00::1.2.3.5",
    "1:2:3:4:5:6:7::-1:2:3:4:5:6:7:8",
    "fd00::0001-fd00::2",
    "10.0.0.0/25-10.0.0.200",
    "10.0.0.0-9",
    "a-b",
    "::ffff:10.0.0.1-::ffff:10.0.0.9",
    "10.0.0.1-10.0.0.9/24",
    "fd00::1:0-fd00::ffff",
    "ff::-fe::",
    "fd00::-fd00:0:1::",
];
const NAMES: &[&str] = &[
    "default",
    "kube-system",
    "a.b.c",
    "Upper",
    "under_score",
    "-dash",
    "dash-",
    "",
    "with space",
    "example.com/zone",
    "example.com/",
    "/zone",
    "a/b/c",
    "topology.kubernetes.io/zone",
    "é",
    "Live",
    "Dying",
    "Dead",
    "live",
    "True",
    "0",
    "web-1",
];

fn text(of: &'static [&'static str]) -> impl Strategy<Value = Value> {
    select(of).prop_map(Value::from)
}

fn v4() -> impl Strategy<Value = String> {
    (0_u8..4, 0_u8..3, any::<u8>()).prop_map(|(b, c, d)| format!("10.{b}.{c}.{d}"))
}

fn v6() -> impl Strategy<Value = String> {
    (any::<u16>(), any::<u16>(), 0_u8..4).prop_map(|(low, high, shape)| match shape {
        0 => format!("fd00::{low:x}"),
        1 => format!("fd00::{high:x}:{low:04X}"),
        2 => format!("fd00:{high:x}::{low:x}"),
        _ => format!("fd00:0:{high:x}:0:0:0:0:{low:x}"),
    })
}

fn random_range() -> impl Strategy<Value = Value> {
    prop_oneof![
        (v4(), v4()).prop_map(|(first, last)| format!("{first}-{last}")),
        (v6(), v6()).prop_map(|(first, last)| format!("{first}-{last}")),
        (v4(), 0_u8..35).prop_map(|(net, length)| format!("{net}/{length}")),
        (v6(), 0_u8..131).prop_map(|(net, length)| format!("{net}/{length}")),
    ]
    .prop_map(Value::from)
}

fn name() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => text(NAMES),
        1 => (60_usize..66).prop_map(|length| "n".repeat(length).into()),
        1 => (250_usize..256).prop_map(|length| "n".repeat(length).into()),
    ]
}

fn number() -> impl Strategy<Value = Value> {
    let whole = select(vec![
        0_u64,
        1,
        2,
        3,
        32,
        63,
        64,
        65,
        1024,
        65_535,
        65_536,
        86_400,
        86_401,
        4_294_967_295,
        4_294_967_296,
        1 << 53,
        (1 << 53) + 1,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ]);
    prop_oneof![
        6 => whole.prop_map(Value::from),
        2 => select(vec![-1.0, 1.5, 32.0, 1e15, 9.3e18, 1e19, 1e21, 1e30]).prop_map(Value::from),
        1 => Just(json!(-1)),
        1 => Just(json!("32")),
    ]
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        name(),
        text(ADDRESSES),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
        Just(json!({"a": "b"})),
        Just(json!([["10.0.0.1"]])),
    ]
}

fn of(sort: Sort) -> BoxedStrategy<Value> {
    match sort {
        Sort::Address => prop_oneof![
            3 => text(ADDRESSES), 1 => v4().prop_map(Value::from), 1 => v6().prop_map(Value::from)
        ]
        .boxed(),
        Sort::Prefix => text(NETS).boxed(),
        Sort::Range => {
            prop_oneof![3 => text(RANGES), 1 => text(NETS), 1 => text(ADDRESSES), 3 => random_range()]
                .boxed()
        }
        Sort::Name => name().boxed(),
        Sort::Number => number().boxed(),
        Sort::Flag => prop_oneof![any::<bool>().prop_map(Value::from), name()].boxed(),
        Sort::List => prop_oneof![
            Just(json!([])), Just(json!({})), random_range().prop_map(|range| json!([range])),
            Just(json!([{}])), Just(json!([{"dst": "10.0.0.0/8", "gw": "fd00::1"}])),
        ]
        .boxed(),
    }
}

fn edit(sort: Sort) -> impl Strategy<Value = Edit> {
    let typed = (
        0_usize..24,
        select("0129af.:-/ xÉ".chars().collect::<Vec<_>>()),
        any::<bool>(),
    );
    prop_oneof![
        6 => of(sort).prop_map(Edit::Set),
        1 => anything().prop_map(Edit::Set),
        1 => Just(Edit::Remove),
        2 => typed.prop_map(|(at, typed, between)| Edit::Type(at, typed, between)),
        1 => (0_usize..24).prop_map(Edit::Drop),
    ]
}

fn apply(spec: &mut Value, path: &str, edit: &Edit) {
    let (above, field) = path.rsplit_once('/').unwrap();
    let Some(node) = spec.pointer_mut(above) else {
        return;
    };
    if let Edit::Set(value) = edit {
        match node {
            Value::Object(map) => drop(map.insert(field.to_owned(), value.clone())),
            Value::Array(items) if field == "-" => items.push(value.clone()),
            Value::Array(items) => {
                if let Some(item) = items.get_mut(field.parse::<usize>().unwrap_or(usize::MAX)) {
                    *item = value.clone();
                }
            }
            _ => {}
        }
        return;
    }
    if let (Edit::Remove, Value::Object(map)) = (edit, &mut *node) {
        map.remove(field);
        return;
    }
    let Some(Value::String(text)) = spec.pointer_mut(path) else {
        return;
    };
    let mut chars: Vec<char> = text.chars().collect();
    match edit {
        Edit::Type(at, typed, true) => chars.insert(at % (chars.len() + 1), *typed),
        Edit::Type(at, typed, false) if !chars.is_empty() => {
            let at = at % chars.len();
            chars[at] = *typed;
        }
        Edit::Drop(at) if !chars.is_empty() => drop(chars.remove(at % chars.len())),
        _ => {}
    }
    *text = chars.into_iter().collect();
}

/// A base with up to three edits of these fields.
fn edited(
    base: impl Strategy<Value = Value>,
    fields: &'static [(&'static str, Sort)],
) -> impl Strategy<Value = Value> {
    let one = select(fields).prop_flat_map(|(path, sort)| (Just(path), edit(sort)));
    (base, proptest::collection::vec(one, 0..=3)).prop_map(|(mut spec, edits)| {
        for (path, edit) in &edits {
            apply(&mut spec, path, edit);
        }
        spec
    })
}

pub(super) fn pools() -> impl Strategy<Value = Value> {
    let bases = vec![
        json!({"families": [{"ranges": ["10.0.0.0/24"]}]}),
        json!({"families": [{"ranges": ["fd00::/64"], "gateway": "fd00::1"}]}),
        json!({
            "families": [
                {"ranges": ["10.0.0.8-10.0.0.99", "10.0.0.128/25"], "exclude": ["10.0.0.20"],
                 "gateway": "10.0.0.1", "subnet": "10.0.0.0/24"},
                {"ranges": ["fd00::8-fd00::ff", "fd00::1:0/112"], "exclude": ["fd00::9-fd00::a"],
                 "gateway": "fd00::1", "subnet": "fd00::/64"},
            ],
            "blockSize": 32, "domain": "d", "default": true, "disabled": false,
            "coolDownSeconds": 60, "nodeSelector": {"zone": "a"}, "namespaces": ["shop"],
            "podSelector": {"app": "x"}, "networks": ["net"],
            "routes": [{"dst": "192.168.0.0/16", "gw": "10.0.0.2"}, {"dst": "::/0"}],
            "dns": ["10.0.0.3"],
        }),
    ];
    edited(
        select(bases),
        &[
            ("/families/0/ranges/0", Sort::Range),
            ("/families/0/ranges/-", Sort::Range),
            ("/families/0/ranges/1", Sort::Range),
            ("/families/1/ranges/0", Sort::Range),
            ("/families/0/exclude", Sort::List),
            ("/families/0/exclude/0", Sort::Range),
            ("/families/1/exclude/0", Sort::Range),
            ("/families/0/gateway", Sort::Address),
            ("/families/1/gateway", Sort::Address),
            ("/families/0/subnet", Sort::Prefix),
            ("/families/1/subnet", Sort::Prefix),
            ("/families/0", Sort::List),
            ("/families", Sort::List),
            ("/blockSize", Sort::Number),
            ("/schema", Sort::Number),
            ("/domain", Sort::Name),
            ("/default", Sort::Flag),
            ("/disabled", Sort::Flag),
            ("/coolDownSeconds", Sort::Number),
            ("/nodeSelector/zone", Sort::Name),
            ("/podSelector/a b", Sort::Name),
            ("/podSelector", Sort::List),
            ("/namespaces/0", Sort::Name),
            ("/namespaces", Sort::List),
            ("/networks/0", Sort::Name),
            ("/routes", Sort::List),
            ("/routes/0/dst", Sort::Prefix),
            ("/routes/0/gw", Sort::Address),
            ("/routes/1/gw", Sort::Address),
            ("/dns/0", Sort::Address),
            ("/dns/-", Sort::Address),
        ],
    )
}

pub(super) fn reservations() -> impl Strategy<Value = Value> {
    let base = json!({
        "pool": "p", "address": "10.0.0.9", "podNamespace": "shop", "podName": "web-1",
        "ownerUid": "u", "ownerName": "web",
    });
    edited(
        Just(base),
        &[
            ("/pool", Sort::Name),
            ("/address", Sort::Address),
            ("/podNamespace", Sort::Name),
            ("/podName", Sort::Name),
            ("/ownerUid", Sort::Name),
            ("/ownerName", Sort::Name),
            ("/schema", Sort::Number),
        ],
    )
}

pub(super) fn nodes() -> impl Strategy<Value = Value> {
    let base = json!({
        "nodeName": "n0", "nodeUid": "u", "bootId": "b", "epoch": 3, "state": "Live",
        "former": [{"epoch": 1, "state": "Dead"}, {"epoch": 2, "state": "Dying"}],
        "blocks": ["p-0"], "writer": "w",
        "conditions": [{"type": "BurialHeld", "status": "True", "reason": "HourlyLimit",
                        "message": "", "observedGeneration": 1,
                        "lastTransitionTime": "2026-01-02T03:04:05Z"}],
    });
    edited(
        Just(base),
        &[
            ("/nodeName", Sort::Name),
            ("/bootId", Sort::Name),
            ("/epoch", Sort::Number),
            ("/state", Sort::Name),
            ("/former", Sort::List),
            ("/former/0/epoch", Sort::Number),
            ("/former/0/state", Sort::Name),
            ("/former/1", Sort::List),
            ("/blocks", Sort::List),
            ("/blocks/0", Sort::Name),
            ("/schema", Sort::Number),
            ("/writer", Sort::Name),
            ("/conditions", Sort::List),
            ("/conditions/0/type", Sort::Name),
            ("/conditions/0/status", Sort::Name),
            ("/conditions/0/reason", Sort::Name),
            ("/conditions/0/observedGeneration", Sort::Number),
            ("/conditions/0/lastTransitionTime", Sort::Name),
        ],
    )
}

pub(super) fn blocks() -> impl Strategy<Value = Value> {
    let base = json!({
        "schema": 1, "pool": "p", "poolUid": "u", "index": 0, "size": 16,
        "first": ["10.0.0.0", "fd00::"], "writer": "w",
        "records": "0 x;1 u m 1 uid shop/web-1  ;2 c 1f",
    });
    edited(
        Just(base),
        &[
            ("/schema", Sort::Number),
            ("/pool", Sort::Name),
            ("/poolUid", Sort::Name),
            ("/index", Sort::Number),
            ("/size", Sort::Number),
            ("/first", Sort::List),
            ("/first/0", Sort::Address),
            ("/first/-", Sort::Address),
            ("/writer", Sort::Name),
            ("/records", Sort::Name),
        ],
    )
}
